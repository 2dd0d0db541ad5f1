//! One map of a replica: that of the whole dictionary, or one that a key of another holds.

use hashlink::LinkedHashMap;
use hashlink::linked_hash_map::{Iter, RawEntryMut};

use super::held::Held;
use crate::stored::Stored;
use crate::stream::record::{MapId, map_bytes, put_bytes};

/// What a key holds.
pub(in crate::stream) enum Content<V: Stored + ?Sized> {
    Value(Held<V>),
    Map(MapId),
}

impl<V: Stored + ?Sized> Content<V> {
    pub(in crate::stream) fn map(&self) -> Option<MapId> {
        match self {
            Self::Value(_) => None,
            Self::Map(map) => Some(*map),
        }
    }

    /// Bytes in a dump, with a key of so many; without what is in the map, if it is one.
    fn bytes(&self, key: usize) -> usize {
        match self {
            Self::Value(held) => put_bytes(key, held.bytes()),
            Self::Map(_) => map_bytes(key),
        }
    }
}

/// By the stored bytes of the keys, in the order in which they were inserted.
pub(super) type Entries<V> = LinkedHashMap<Box<[u8]>, Content<V>>;

/// Where a map is.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// The map that it is in, but for the root.
    pub(super) parent: MapId,
    /// And of what key.
    pub(super) key: Box<[u8]>,
    /// How many levels below the root.
    pub(super) depth: usize,
}

pub(in crate::stream) struct Map<V: Stored + ?Sized> {
    entries: Entries<V>,
    /// How many bytes a dump of them has.
    bytes: usize,
    pub(super) place: Place,
}

impl<V: Stored + ?Sized> Map<V> {
    /// An empty one.
    pub(super) fn new(place: Place) -> Self {
        Self {
            entries: LinkedHashMap::new(),
            bytes: 0,
            place,
        }
    }

    #[inline]
    pub(in crate::stream) fn get(&self, key: &[u8]) -> Option<&Content<V>> {
        self.entries.get(key)
    }

    pub(in crate::stream) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::stream) fn iter(&self) -> Iter<'_, Box<[u8]>, Content<V>> {
        self.entries.iter()
    }

    /// The maps that its keys hold.
    pub(super) fn maps(&self) -> impl Iterator<Item = MapId> {
        self.entries.values().filter_map(Content::map)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn put(&mut self, key: &[u8], content: Content<V>) -> Option<Content<V>> {
        self.bytes += content.bytes(key.len());
        match self.entries.get_mut(key) {
            Some(there) => {
                let old = std::mem::replace(there, content);
                self.bytes -= old.bytes(key.len());
                Some(old)
            }
            None => self.entries.insert(key.into(), content),
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Content<V>> {
        let old = self.entries.remove(key)?;
        self.bytes -= old.bytes(key.len());
        Some(old)
    }

    /// Takes out all entries.
    pub(super) fn clear(&mut self) -> Entries<V> {
        self.restore(LinkedHashMap::new())
    }

    /// Has these entries instead of what it has.
    pub(super) fn restore(&mut self, entries: Entries<V>) -> Entries<V> {
        let content = entries.iter();
        self.bytes = content.map(|(key, content)| content.bytes(key.len())).sum();
        std::mem::replace(&mut self.entries, entries)
    }

    /// The key behind that one.
    pub(super) fn next_key(&mut self, key: &[u8]) -> Option<Box<[u8]>> {
        let RawEntryMut::Occupied(entry) = self.entries.raw_entry_mut().from_key(key) else {
            return None;
        };
        let mut cursor = entry.cursor_mut();
        cursor.peek_next().map(|(next, _)| next.clone())
    }

    /// Puts a key before another one, or at the end.
    pub(super) fn insert_before(
        &mut self,
        before: Option<&[u8]>,
        key: Box<[u8]>,
        content: Content<V>,
    ) {
        self.bytes += content.bytes(key.len());
        let before = before.map(|before| self.entries.raw_entry_mut().from_key(before));
        match before {
            Some(RawEntryMut::Occupied(before)) => {
                before.cursor_mut().insert_before(key, content);
            }
            _ => drop(self.entries.insert(key, content)),
        }
    }

    /// Gives memory back that more entries have needed.
    pub(super) fn shrink(&mut self) {
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to_fit();
        }
    }
}
