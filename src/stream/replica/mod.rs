//! The replica: what a process has of the dictionary, decoded.
//!
//! Its maps stand side by side, each under its id, so that one is found however deep it is.

mod held;
mod map;
mod scope;

use std::collections::{HashMap, VecDeque};
use std::fmt;

pub(super) use self::held::{Held, decode};
pub(super) use self::map::{Content, Map};
use self::map::{Entries, Place};
pub(super) use self::scope::{Keys, Scope};
use super::record::{Change, MapId, Reader, Writer};
use crate::error::CodecError;
use crate::raw::stream::log::Damaged;
use crate::stored::Stored;

/// How many levels below the root there may be a map.
pub(super) const DEEPEST: usize = 128;

pub(super) struct Replica<V: Stored + ?Sized> {
    root: Map<V>,
    nested: HashMap<MapId, Map<V>>,
    /// How many bytes a dump of all has.
    dump_bytes: usize,
    scope: Scope,
}

/// What was taken out of a map, with everything below.
pub(super) struct Taken<V: Stored + ?Sized> {
    content: Content<V>,
    below: Vec<(MapId, Map<V>)>,
}

/// What takes one change of a map back, after all that came later.
pub(super) enum Undo<V: Stored + ?Sized> {
    /// The key was not there.
    Remove(Box<[u8]>),
    /// It held this.
    Replace(Box<[u8]>, Taken<V>),
    /// It held this, and stood before another key, or at the end.
    Insert {
        key: Box<[u8]>,
        taken: Taken<V>,
        before: Option<Box<[u8]>>,
    },
    /// There was all this.
    Restore(Entries<V>, Vec<(MapId, Map<V>)>),
}

impl<V: Stored + ?Sized> Default for Replica<V> {
    fn default() -> Self {
        Self::within(Scope::default())
    }
}

impl<V: Stored + ?Sized> Replica<V> {
    /// An empty one of the keys in `scope`.
    pub(super) fn within(scope: Scope) -> Self {
        Self {
            root: Map::new(Place::default()),
            nested: HashMap::new(),
            dump_bytes: 0,
            scope,
        }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// That map, if it is there.
    #[inline]
    pub(super) fn map(&self, map: MapId) -> Option<&Map<V>> {
        match map {
            MapId::ROOT => Some(&self.root),
            nested => self.nested.get(&nested),
        }
    }

    fn map_mut(&mut self, map: MapId) -> Option<&mut Map<V>> {
        match map {
            MapId::ROOT => Some(&mut self.root),
            nested => self.nested.get_mut(&nested),
        }
    }

    /// The keys that lead to `map` from `top`, if it is that or below it.
    pub(super) fn path(&self, top: MapId, mut map: MapId) -> Option<Vec<Box<[u8]>>> {
        let mut path = Vec::new();
        while map != top {
            let Place { parent, key, .. } = &self.nested.get(&map)?.place;
            path.push(key.clone());
            map = *parent;
        }
        path.reverse();
        Some(path)
    }

    /// Whether a map can be nested in that one.
    pub(super) fn can_nest_in(&self, map: MapId) -> bool {
        self.map(map).is_some_and(|map| map.place.depth < DEEPEST)
    }

    /// Number of keys, in all maps.
    pub(super) fn len(&self) -> usize {
        self.root.len() + self.nested.values().map(Map::len).sum::<usize>()
    }

    pub(super) fn dump_bytes(&self) -> usize {
        self.dump_bytes
    }

    /// Applies all changes of a reader, or none if they are not whole. Each is shown to `see` before it is made.
    /// After an error, what is there is nothing to be used.
    pub(super) fn apply(
        &mut self,
        changes: &mut Reader<'_>,
        mut see: impl FnMut(&Self, MapId, Change<'_>),
    ) -> Result<(), Damaged> {
        changes.clone().try_for_each(|change| change.map(drop))?;
        for change in changes {
            let (map, change) = change?;
            let Some(change) = self.within_scope(map, change)? else {
                continue;
            };
            see(self, map, change);
            match change {
                Change::Put { key, value } => {
                    drop(self.put(map, key, Content::Value(Held::new(value))));
                }
                Change::Remove { key } => drop(self.remove(map, key)),
                Change::Clear => drop(self.clear(map)),
                Change::Nest { key, map: nested } => drop(self.nest(map, key, nested)),
            }
        }
        Ok(())
    }

    /// What a change of `map` is for those keys that are within the scope.
    fn within_scope<'c>(
        &self,
        map: MapId,
        change: Change<'c>,
    ) -> Result<Option<Change<'c>>, Damaged> {
        let Some(there) = self.map(map) else {
            return match self.scope.is_all() {
                true => Err(Damaged),
                false => Ok(None),
            };
        };
        if let Change::Nest { map: nested, .. } = change {
            if self.map(nested).is_some() || !self.can_nest_in(map) {
                return Err(Damaged);
            }
        }
        let depth = there.place.depth;
        let (Change::Put { key, .. } | Change::Remove { key } | Change::Nest { key, .. }) = change
        else {
            return Ok(Some(change));
        };
        match (self.scope.next(depth), change) {
            (None, _) => Ok(Some(change).filter(|_| self.scope.has(depth, key))),
            (Some(next), Change::Nest { map, .. }) if map == next => Ok(Some(change)),
            // Of a map on the way there is only the key that leads on.
            (Some(_), _) => Ok(there.get(key).map(|_| Change::Remove { key })),
        }
    }

    /// Changes a map that is there.
    fn change<R>(&mut self, map: MapId, f: impl FnOnce(&mut Map<V>) -> R) -> R {
        let map = self.map_mut(map).expect("it is there");
        let before = map.bytes();
        let done = f(map);
        let after = map.bytes();
        self.dump_bytes = self.dump_bytes - before + after;
        done
    }

    /// Gives a key of a map that is there a content: what it held, if it was there.
    pub(super) fn put(&mut self, map: MapId, key: &[u8], content: Content<V>) -> Option<Taken<V>> {
        let old = self.change(map, |map| map.put(key, content))?;
        Some(self.taken(old))
    }

    /// Gives a key of a map that is there an empty map, under an id that no other has: what it held, if it was there.
    pub(super) fn nest(&mut self, map: MapId, key: &[u8], nested: MapId) -> Option<Taken<V>> {
        let taken = self.put(map, key, Content::Map(nested));
        let depth = self.map(map).expect("it is there").place.depth + 1;
        let place = Place {
            parent: map,
            key: key.into(),
            depth,
        };
        self.nested.insert(nested, Map::new(place));
        taken
    }

    /// Removes a key of a map that is there: what it held, if it was there.
    pub(super) fn remove(&mut self, map: MapId, key: &[u8]) -> Option<Taken<V>> {
        let old = self.change(map, |map| map.remove(key))?;
        Some(self.taken(old))
    }

    /// The same, with what takes it back.
    pub(super) fn remove_with_undo(&mut self, map: MapId, key: &[u8]) -> Option<Undo<V>> {
        let before = self.map_mut(map).expect("it is there").next_key(key);
        let taken = self.remove(map, key)?;
        let key = key.into();
        Some(Undo::Insert { key, taken, before })
    }

    /// Removes all keys of a map that is there: what takes it back.
    pub(super) fn clear(&mut self, map: MapId) -> Undo<V> {
        let entries = self.change(map, Map::clear);
        let maps = entries.values().filter_map(Content::map).collect();
        Undo::Restore(entries, self.take_out(maps))
    }

    fn taken(&mut self, content: Content<V>) -> Taken<V> {
        let below = self.take_out(content.map().into_iter().collect());
        Taken { content, below }
    }

    /// Takes out maps that no key holds any more, and everything below.
    fn take_out(&mut self, mut maps: Vec<MapId>) -> Vec<(MapId, Map<V>)> {
        let mut out = Vec::new();
        while let Some(id) = maps.pop() {
            let map = self.nested.remove(&id).expect("a key held it");
            self.dump_bytes -= map.bytes();
            maps.extend(map.maps());
            out.push((id, map));
        }
        out
    }

    fn put_back(&mut self, below: Vec<(MapId, Map<V>)>) {
        for (id, map) in below {
            self.dump_bytes += map.bytes();
            self.nested.insert(id, map);
        }
    }

    /// Takes a change of `map` back.
    pub(super) fn undo(&mut self, map: MapId, undo: Undo<V>) {
        let below = match undo {
            Undo::Remove(key) => return drop(self.remove(map, &key)),
            Undo::Replace(key, Taken { content, below }) => {
                drop(self.put(map, &key, content));
                below
            }
            Undo::Insert { key, taken, before } => {
                let Taken { content, below } = taken;
                self.change(map, |map| {
                    map.insert_before(before.as_deref(), key, content)
                });
                below
            }
            Undo::Restore(entries, below) => {
                drop(self.clear(map));
                self.change(map, |map| drop(map.restore(entries)));
                below
            }
        };
        self.put_back(below);
    }

    /// Gives memory back that a larger one has needed.
    pub(super) fn shrink(&mut self) {
        self.root.shrink();
        self.nested.values_mut().for_each(Map::shrink);
        if self.nested.capacity() / 4 > self.nested.len() {
            self.nested.shrink_to_fit();
        }
    }

    /// Hands the dump out in pieces: one map after the other, each after the one that it is in.
    pub(super) fn dump(&self, mut piece: impl FnMut(&[u8])) -> Result<(), CodecError> {
        let (mut writer, mut maps) = (Writer::default(), VecDeque::from([MapId::ROOT]));
        while let Some(id) = maps.pop_front() {
            let map = self.map(id).expect("a key holds it");
            writer.go_to(id);
            for (key, content) in map.iter() {
                match content {
                    Content::Value(held) => {
                        held.stored(|value| writer.write(id, Change::Put { key, value }))?;
                    }
                    &Content::Map(map) => writer.write(id, Change::Nest { key, map }),
                }
                piece(writer.bytes());
                writer.drain();
            }
            maps.extend(map.maps());
        }
        // (The last map may be empty.)
        piece(writer.bytes());
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
