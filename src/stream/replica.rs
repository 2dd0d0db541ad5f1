//! The replica: what a process has of the dictionary, decoded.

use std::borrow::Borrow;
use std::fmt;

use hashlink::LinkedHashMap;
use hashlink::linked_hash_map::RawEntryMut;

use super::record::{self, Change};
use crate::error::CodecError;
use crate::raw::stream::log::Damaged;
use crate::stored::Stored;

/// A value, or what could not be made one.
pub(super) enum Held<V: Stored + ?Sized> {
    Value {
        value: V::Owned,
        /// How many bytes its stored form has.
        bytes: usize,
    },
    /// Somebody else wrote it in another form than this program does.
    Foreign { value: V::Owned, stored: Box<[u8]> },
    /// Somebody else wrote what this program cannot decode.
    Unreadable(Box<[u8]>),
}

impl<V: Stored + ?Sized> Held<V> {
    /// What arrives from somebody else.
    fn new(stored: &[u8]) -> Self {
        Self::readable(stored).unwrap_or_else(|_| Self::Unreadable(stored.into()))
    }

    /// What can be decoded.
    pub(super) fn readable(stored: &[u8]) -> Result<Self, CodecError> {
        let value = decode::<V>(stored)?;
        // What goes into the dump is what was written: found out now, because in the middle of a switch it
        // would be too late.
        let encoded = V::encode(value.borrow());
        let is_own = encoded.is_ok_and(|bytes| bytes.as_ref() == stored);
        Ok(match is_own {
            true => Self::Value {
                value,
                bytes: stored.len(),
            },
            false => Self::Foreign {
                value,
                stored: stored.into(),
            },
        })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Value { bytes, .. } => *bytes,
            Self::Foreign { stored, .. } | Self::Unreadable(stored) => stored.len(),
        }
    }

    /// The value, or why it is none.
    pub(super) fn value(&self) -> Result<&V::Owned, CodecError> {
        match self {
            Self::Value { value, .. } | Self::Foreign { value, .. } => Ok(value),
            Self::Unreadable(bytes) => match decode::<V>(bytes) {
                Err(error) => Err(error),
                // It makes up its mind.
                Ok(_) => Err("it could not be decoded when it arrived".into()),
            },
        }
    }
}

/// What the stored bytes stand for.
pub(super) fn decode<T: Stored + ?Sized>(bytes: &[u8]) -> Result<T::Owned, CodecError> {
    if T::LENGTH.is_some_and(|len| len != bytes.len()) {
        return Err("it has another length than all values of its type".into());
    }
    let mut image = T::Image::default();
    let room = T::room(&mut image, bytes.len());
    let len = room.len().min(bytes.len());
    room[..len].copy_from_slice(&bytes[..len]);
    T::decode(image)
}

/// Which keys a replica has.
#[derive(Debug, Clone, Default)]
pub(super) enum Scope {
    #[default]
    All,
    /// One, by its stored bytes.
    Key(Box<[u8]>),
    /// Those whose stored bytes begin like that.
    Prefix(Box<[u8]>),
}

impl Scope {
    fn has(&self, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Key(one) => key == &**one,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }

    fn touches(&self, change: Change<'_>) -> bool {
        match change {
            Change::Put { key, .. } | Change::Remove { key } => self.has(key),
            Change::Clear => true,
        }
    }
}

type Entries<V> = LinkedHashMap<Box<[u8]>, Held<V>>;

/// The entries, by the stored bytes of their keys, in the order in which they were inserted.
pub(super) struct Replica<V: Stored + ?Sized> {
    entries: Entries<V>,
    /// How many bytes a dump of them has.
    dump_bytes: usize,
    scope: Scope,
}

/// What takes one change back, after all that came later.
pub(super) enum Undo<V: Stored + ?Sized> {
    /// The key was not there.
    Remove(Box<[u8]>),
    /// It had this value.
    Replace(Box<[u8]>, Held<V>),
    /// It had this value, and stood before another key, or at the end.
    Insert {
        key: Box<[u8]>,
        held: Held<V>,
        before: Option<Box<[u8]>>,
    },
    /// There was all this.
    Restore(Replica<V>),
}

impl<V: Stored + ?Sized> Default for Replica<V> {
    fn default() -> Self {
        Self {
            entries: LinkedHashMap::new(),
            dump_bytes: 0,
            scope: Scope::default(),
        }
    }
}

impl<V: Stored + ?Sized> Replica<V> {
    /// An empty one of the keys in `scope`.
    pub(super) fn within(scope: Scope) -> Self {
        Self {
            scope,
            ..Self::default()
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&Held<V>> {
        self.entries.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn dump_bytes(&self) -> usize {
        self.dump_bytes
    }

    pub(super) fn iter(&self) -> hashlink::linked_hash_map::Iter<'_, Box<[u8]>, Held<V>> {
        self.entries.iter()
    }

    /// Applies all changes in `bytes`, or none if they are damaged. Each is shown to `see` before it is made.
    pub(super) fn apply(
        &mut self,
        bytes: &[u8],
        mut see: impl FnMut(&Self, Change<'_>),
    ) -> Result<(), Damaged> {
        record::read(bytes).try_for_each(|change| change.map(drop))?;
        for change in record::read(bytes).flatten() {
            if !self.scope.touches(change) {
                continue;
            }
            see(self, change);
            match change {
                Change::Put { key, value } => drop(self.put(key, Held::new(value))),
                Change::Remove { key } => drop(self.remove(key)),
                Change::Clear => drop(self.clear()),
            }
        }
        Ok(())
    }

    /// Gives a key a value: the previous one, if it had one.
    pub(super) fn put(&mut self, key: &[u8], held: Held<V>) -> Option<Held<V>> {
        self.dump_bytes += record::put_bytes(key.len(), held.bytes());
        match self.entries.get_mut(key) {
            Some(there) => {
                let old = std::mem::replace(there, held);
                self.dump_bytes -= record::put_bytes(key.len(), old.bytes());
                Some(old)
            }
            None => self.entries.insert(key.into(), held),
        }
    }

    /// Removes a key: its value, if it had one.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Held<V>> {
        let old = self.entries.remove(key)?;
        self.dump_bytes -= record::put_bytes(key.len(), old.bytes());
        Some(old)
    }

    /// Removes all keys: what was there.
    pub(super) fn clear(&mut self) -> Self {
        let empty = Self::within(self.scope.clone());
        std::mem::replace(self, empty)
    }

    /// The key behind that one.
    pub(super) fn next_key(&mut self, key: &[u8]) -> Option<Box<[u8]>> {
        let RawEntryMut::Occupied(entry) = self.entries.raw_entry_mut().from_key(key) else {
            return None;
        };
        let mut cursor = entry.cursor_mut();
        cursor.peek_next().map(|(next, _)| next.clone())
    }

    /// Takes a change back.
    pub(super) fn undo(&mut self, undo: Undo<V>) {
        match undo {
            Undo::Remove(key) => drop(self.remove(&key)),
            Undo::Replace(key, held) => drop(self.put(&key, held)),
            Undo::Insert { key, held, before } => {
                self.dump_bytes += record::put_bytes(key.len(), held.bytes());
                let before = before.map(|before| self.entries.raw_entry_mut().from_key(&before));
                match before {
                    Some(RawEntryMut::Occupied(before)) => {
                        before.cursor_mut().insert_before(key, held);
                    }
                    _ => drop(self.entries.insert(key, held)),
                }
            }
            Undo::Restore(replica) => *self = replica,
        }
    }

    /// Gives memory back that a larger one has needed.
    pub(super) fn shrink(&mut self) {
        if self.entries.capacity() / 4 > self.entries.len() {
            self.entries.shrink_to_fit();
        }
    }

    /// Hands the dump out in pieces.
    pub(super) fn dump(&self, mut piece: impl FnMut(&[u8])) -> Result<(), CodecError> {
        let mut bytes = Vec::new();
        for (key, held) in &self.entries {
            bytes.clear();
            let mut put = |value: &[u8]| record::write(&mut bytes, Change::Put { key, value });
            match held {
                Held::Value { value, .. } => put(V::encode(value.borrow())?.as_ref()),
                Held::Foreign { stored, .. } | Held::Unreadable(stored) => put(stored),
            }
            piece(&bytes);
        }
        Ok(())
    }
}

impl<V: Stored + ?Sized> fmt::Debug for Replica<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("len", &self.len())
            .field("dump_bytes", &self.dump_bytes)
            .finish_non_exhaustive()
    }
}
