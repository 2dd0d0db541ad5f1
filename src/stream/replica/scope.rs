//! Which keys a replica has: all, or those that a watch tells of.

use crate::stream::record::MapId;

/// Which keys of one map, and everything below them. All keys of the dictionary by default.
#[derive(Debug, Clone, Default)]
pub(in crate::stream) struct Scope {
    /// The keys that lead from the root to the map.
    pub(in crate::stream) path: Vec<Box<[u8]>>,
    pub(in crate::stream) map: MapId,
    pub(in crate::stream) keys: Keys,
}

#[derive(Debug, Clone, Default)]
pub(in crate::stream) enum Keys {
    #[default]
    All,
    /// One, by its stored bytes.
    One(Box<[u8]>),
    /// Those whose stored bytes begin like that.
    Prefix(Box<[u8]>),
}

impl Scope {
    /// Whether that is everything.
    pub(super) fn is_all(&self) -> bool {
        self.path.is_empty() && matches!(self.keys, Keys::All)
    }

    /// Whether `key` is within it, in a map so many levels below the root.
    pub(super) fn has(&self, depth: usize, key: &[u8]) -> bool {
        match self.path.get(depth) {
            Some(there) => **there == *key,
            None if depth > self.path.len() => true,
            None => match &self.keys {
                Keys::All => true,
                Keys::One(one) => **one == *key,
                Keys::Prefix(prefix) => key.starts_with(prefix),
            },
        }
    }
}
