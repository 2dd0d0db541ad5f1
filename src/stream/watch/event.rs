//! What a watch tells.

use std::collections::HashMap;
use std::sync::Arc;

use crate::stored::Stored;
use crate::stream::record::{Change, MapId};
use crate::stream::replica::{Content, Map, Replica, decode};
use crate::stream::view::key_of;
use crate::stream::{Position, StreamError};

/// What became of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueChange<V> {
    /// It was not there before, and has this value.
    Inserted(V),
    /// It held something else, or was given the same value again; and has this value.
    Updated(V),
    /// It holds a map now, which is empty: what is put into it comes next.
    Nested,
    /// It is gone. If it held a map, all that was in there went before.
    Removed,
}

/// A key of the map that is watched, or of one below it, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange<K, V> {
    /// The keys that lead from the map that is watched to the one that `key` is in: none, if it is in that itself.
    /// (Changes of one map share them.)
    pub path: Arc<[K]>,
    /// The key.
    pub key: K,
    /// What became of what it holds.
    pub value: ValueChange<V>,
}

/// What a [`Watch`](super::Watch) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent<K, V> {
    /// One change.
    Changed {
        /// What became of which key.
        change: KeyChange<K, V>,
        /// The position behind it. All changes of one transaction have the same.
        position: Position,
    },
    /// Changes are gone that nobody has looked at in time: what follows is [`Resync`](Self::Resync).
    Lagged,
    /// In what the dictionary differs from what was told before.
    Resync {
        /// The differences, to be made one after the other. There may be none.
        changes: Vec<KeyChange<K, V>>,
        /// Whether that is everything there is: then forget what you have before. So it is for a watch that was to
        /// begin at a position that was gone, and for no other.
        is_whole: bool,
        /// The position up to which they go.
        position: Position,
    },
}

type RawPath = Arc<[Box<[u8]>]>;

/// One that is not decoded yet.
pub(super) type RawChange = KeyChange<Box<[u8]>, Box<[u8]>>;

/// Collects changes of what is watched.
struct Changes<'r> {
    /// Where paths lead from.
    top: MapId,
    replica: &'r Replica<[u8]>,
    /// Those that were asked for: none leads to what is beside the map that is watched.
    paths: HashMap<MapId, Option<RawPath>>,
    found: Vec<RawChange>,
}

impl<'r> Changes<'r> {
    /// Those in and below a map, none yet.
    fn new(top: MapId, replica: &'r Replica<[u8]>) -> Self {
        Self {
            top,
            replica,
            paths: HashMap::new(),
            found: Vec::new(),
        }
    }

    fn push(&mut self, map: MapId, key: &[u8], value: ValueChange<Box<[u8]>>) {
        let path = self.paths.entry(map);
        let path = path.or_insert_with(|| self.replica.path(self.top, map).map(Arc::from));
        // (What is beside the map is not told of.)
        if let Some(path) = path {
            let (path, key) = (Arc::clone(path), key.into());
            self.found.push(KeyChange { path, key, value });
        }
    }

    /// What goes with `content`: what is in it, if it is a map.
    fn push_below(&mut self, content: &Content<[u8]>) {
        if let Some(map) = content.map() {
            self.push_all(map);
        }
    }

    /// All keys of a map go.
    fn push_all(&mut self, map: MapId) {
        for (key, content) in self.replica.map(map).into_iter().flat_map(Map::iter) {
            self.push_below(content);
            self.push(map, key, ValueChange::Removed);
        }
    }
}

/// What a change that is about to be made means for what is watched.
pub(super) fn changes_by(before: &Replica<[u8]>, map: MapId, change: Change<'_>) -> Vec<RawChange> {
    let mut changes = Changes::new(before.scope().map(), before);
    let held = |key| before.map(map).and_then(|map| map.get(key));
    match change {
        Change::Put { key, value } => {
            let old = held(key);
            old.into_iter().for_each(|old| changes.push_below(old));
            let value = value.into();
            let change = match old {
                None => ValueChange::Inserted(value),
                Some(_) => ValueChange::Updated(value),
            };
            changes.push(map, key, change);
        }
        Change::Nest { key, .. } => {
            let old = held(key);
            old.into_iter().for_each(|old| changes.push_below(old));
            changes.push(map, key, ValueChange::Nested);
        }
        Change::Remove { key } => {
            if let Some(old) = held(key) {
                changes.push_below(old);
                changes.push(map, key, ValueChange::Removed);
            }
        }
        Change::Clear => changes.push_all(map),
    }
    changes.found
}

/// In what `after` differs, as to what is watched.
pub(super) fn differences(before: &Replica<[u8]>, after: &Replica<[u8]>) -> Vec<RawChange> {
    let top = after.scope().map();
    let mut gone = Changes::new(top, before);
    removals(&mut gone, after, top);
    let mut changes = Changes::new(top, after);
    additions(&mut changes, before, top);
    gone.found.append(&mut changes.found);
    gone.found
}

/// The keys of a map, and below, that are not there any more.
fn removals(changes: &mut Changes<'_>, after: &Replica<[u8]>, map: MapId) {
    for (key, content) in changes.replica.map(map).into_iter().flat_map(Map::iter) {
        if let Some(nested) = content.map() {
            removals(changes, after, nested);
        }
        if after.map(map).is_none_or(|map| map.get(key).is_none()) {
            changes.push(map, key, ValueChange::Removed);
        }
    }
}

/// The keys of a map, and below, that hold something else than before.
fn additions(changes: &mut Changes<'_>, before: &Replica<[u8]>, map: MapId) {
    for (key, content) in changes.replica.map(map).into_iter().flat_map(Map::iter) {
        let old = before.map(map).and_then(|map| map.get(key));
        match content {
            Content::Map(nested) => {
                if old.and_then(Content::map) != Some(*nested) {
                    changes.push(map, key, ValueChange::Nested);
                }
                additions(changes, before, *nested);
            }
            Content::Value(_) => {
                // (Bytes can always be decoded.)
                let Some(value) = stored(content) else {
                    continue;
                };
                match old {
                    None => changes.push(map, key, ValueChange::Inserted(value.into())),
                    Some(old) if stored(old) == Some(value) => {}
                    Some(_) => changes.push(map, key, ValueChange::Updated(value.into())),
                }
            }
        }
    }
}

fn stored(content: &Content<[u8]>) -> Option<&[u8]> {
    match content {
        Content::Value(held) => held.value().ok().map(|value| &value[..]),
        Content::Map(_) => None,
    }
}

/// Decodes paths, those of one map once.
pub(super) struct Paths<K: Stored + ?Sized> {
    raw: Option<RawPath>,
    decoded: Arc<[K::Owned]>,
}

impl<K: Stored + ?Sized> Paths<K> {
    pub(super) fn new() -> Self {
        let (raw, decoded) = (None, Arc::new([]));
        Self { raw, decoded }
    }

    fn decoded(&mut self, raw: &RawPath) -> Result<Arc<[K::Owned]>, StreamError> {
        let is_known = self
            .raw
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, raw));
        if !is_known {
            let decoded: Result<_, _> = raw.iter().map(|key| key_of::<K>(key)).collect();
            self.decoded = decoded?;
            self.raw = Some(Arc::clone(raw));
        }
        Ok(Arc::clone(&self.decoded))
    }
}

/// A change, decoded.
pub(super) fn decoded<K: Stored + ?Sized, V: Stored + ?Sized>(
    raw: &RawChange,
    paths: &mut Paths<K>,
) -> Result<KeyChange<K::Owned, V::Owned>, StreamError> {
    let value_of = |value: &[u8]| {
        decode::<V>(value).map_err(|source| StreamError::Decode {
            what: "value",
            source,
        })
    };
    Ok(KeyChange {
        path: paths.decoded(&raw.path)?,
        key: key_of::<K>(&raw.key)?,
        value: match &raw.value {
            ValueChange::Inserted(value) => ValueChange::Inserted(value_of(value)?),
            ValueChange::Updated(value) => ValueChange::Updated(value_of(value)?),
            ValueChange::Nested => ValueChange::Nested,
            ValueChange::Removed => ValueChange::Removed,
        },
    })
}
