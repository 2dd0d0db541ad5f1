//! The replica: what a process has of the dictionary, decoded.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;

use hashlink::LinkedHashMap;

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
    fn new(stored: &[u8]) -> Self {
        let Ok(value) = decode::<V>(stored) else {
            return Self::Unreadable(stored.into());
        };
        // What goes into the dump is what was written: found out now, because in the middle of a switch it
        // would be too late.
        let encoded = V::encode(value.borrow());
        let is_own = encoded.is_ok_and(|bytes| bytes.as_ref() == stored);
        match is_own {
            true => Self::Value {
                value,
                bytes: stored.len(),
            },
            false => Self::Foreign {
                value,
                stored: stored.into(),
            },
        }
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

/// The entries, by the stored bytes of their keys, in the order in which they were inserted.
pub(super) struct Replica<V: Stored + ?Sized> {
    entries: LinkedHashMap<Box<[u8]>, Held<V>>,
    /// How many bytes a dump of them has.
    dump_bytes: usize,
}

impl<V: Stored + ?Sized> Default for Replica<V> {
    fn default() -> Self {
        Self {
            entries: LinkedHashMap::new(),
            dump_bytes: 0,
        }
    }
}

impl<V: Stored + ?Sized> Replica<V> {
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

    /// The same with these changes.
    pub(super) fn dump_bytes_after(&self, changes: &[u8]) -> usize {
        let (mut bytes, mut cleared) = (self.dump_bytes, false);
        let mut touched = HashMap::new();
        for change in record::read(changes).flatten() {
            let (key, now) = match change {
                Change::Put { key, value } => (key, record::put_bytes(key.len(), value.len())),
                Change::Remove { key } => (key, 0),
                Change::Clear => {
                    touched.clear();
                    (bytes, cleared) = (0, true);
                    continue;
                }
            };
            let before = touched.insert(key, now).unwrap_or_else(|| {
                let held = self.get(key).filter(|_| !cleared);
                held.map_or(0, |held| record::put_bytes(key.len(), held.bytes()))
            });
            bytes = bytes + now - before;
        }
        bytes
    }

    pub(super) fn iter(&self) -> hashlink::linked_hash_map::Iter<'_, Box<[u8]>, Held<V>> {
        self.entries.iter()
    }

    /// Applies all changes in `bytes`, or none if they are damaged.
    pub(super) fn apply(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        record::read(bytes).try_for_each(|change| change.map(drop))?;
        for change in record::read(bytes).flatten() {
            match change {
                Change::Put { key, value } => self.put(key, value),
                Change::Remove { key } => self.remove(key),
                Change::Clear => *self = Self::default(),
            }
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let held = Held::new(value);
        self.dump_bytes += record::put_bytes(key.len(), value.len());
        match self.entries.get_mut(key) {
            Some(old) => {
                self.dump_bytes -= record::put_bytes(key.len(), old.bytes());
                *old = held;
            }
            None => {
                self.entries.insert(key.into(), held);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(old) = self.entries.remove(key) {
            self.dump_bytes -= record::put_bytes(key.len(), old.bytes());
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
