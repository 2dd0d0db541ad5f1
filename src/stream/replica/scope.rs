//! Which keys a replica has: all, or those that a watch tells of.

use crate::stream::record::MapId;

/// Which keys of one map, and everything below them. All keys of the dictionary by default.
#[derive(Debug, Clone, Default)]
pub(in crate::stream) struct Scope {
    /// The maps that lead to it from the root, which is not one of them, with itself.
    pub(in crate::stream) path: Vec<MapId>,
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
    /// The map.
    pub(in crate::stream) fn map(&self) -> MapId {
        self.path.last().copied().unwrap_or_default()
    }

    /// Whether that is everything.
    pub(super) fn is_all(&self) -> bool {
        self.path.is_empty() && matches!(self.keys, Keys::All)
    }

    /// Of the maps on the way, that one level below.
    pub(super) fn next(&self, depth: usize) -> Option<MapId> {
        self.path.get(depth).copied()
    }

    /// Whether `key` is within it, in the map or so many levels below the root in one that is below it.
    pub(super) fn has(&self, depth: usize, key: &[u8]) -> bool {
        if depth > self.path.len() {
            return true;
        }
        match &self.keys {
            Keys::All => true,
            Keys::One(one) => **one == *key,
            Keys::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}
