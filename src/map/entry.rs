//! Entries of a [`SharedHashMap`]: optimistic changes of values of any size.

use std::fmt;

use super::SharedHashMap;
use crate::error::WriteError;
use crate::raw::map::At;
use crate::stored::Stored;

/// Why an entry could not be changed. The map is as others have left it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Another operation has changed, inserted or removed the key since the entry was made.
    #[error(
        "the key was changed by another operation meanwhile; make the entry anew and try again"
    )]
    Changed,
    /// As with every other change.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A key and what was there when [`SharedHashMap::entry`] looked. What is done through it is done only if
/// that is still so.
///
/// ```
/// use forkmap::SharedHashMap;
/// use forkmap::entry::{Entry, EntryError};
///
/// let map = SharedHashMap::<str, str>::anonymous(10)?;
/// map.insert("state", "idle")?;
/// if let Entry::Occupied(mut entry) = map.entry("state")? {
///     assert_eq!(entry.get(), "idle");
///     map.insert("state", "stopped")?;                       // somebody else
///     assert!(matches!(entry.replace("busy"), Err(EntryError::Changed)));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub enum Entry<'a, K: Stored + ?Sized, V: Stored + ?Sized> {
    /// The key was there.
    Occupied(OccupiedEntry<'a, K, V>),
    /// It was not.
    Vacant(VacantEntry<'a, K, V>),
}

/// A key that was there, its value, and where it stood.
pub struct OccupiedEntry<'a, K: Stored + ?Sized, V: Stored + ?Sized> {
    map: &'a SharedHashMap<K, V>,
    key: Vec<u8>,
    at: At,
    value: V::Owned,
}

/// A key that was not there.
pub struct VacantEntry<'a, K: Stored + ?Sized, V: Stored + ?Sized> {
    map: &'a SharedHashMap<K, V>,
    key: Vec<u8>,
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> fmt::Debug for OccupiedEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry").finish_non_exhaustive()
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> fmt::Debug for VacantEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VacantEntry").finish_non_exhaustive()
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    /// Looks for `key`, and remembers where it stands and what its value is.
    ///
    /// # Errors
    /// [`WriteError`]. (Also where nothing would be changed: an entry is for who means to.)
    pub fn entry(&self, key: &K::Item) -> Result<Entry<'_, K, V>, WriteError> {
        let key = super::write::encoded::<K>(key, "key")?.as_ref().to_vec();
        let found = self.writing(&key)?.read()?;
        let map = self;
        Ok(match found {
            Some((at, value)) => Entry::Occupied(OccupiedEntry {
                map,
                key,
                at,
                value,
            }),
            None => Entry::Vacant(VacantEntry { map, key }),
        })
    }
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> OccupiedEntry<'a, K, V> {
    /// The value that was there.
    pub fn get(&self) -> &V::Item {
        std::borrow::Borrow::borrow(&self.value)
    }

    /// Takes the value that was there out of the entry. Nothing is changed in the map.
    pub fn into_value(self) -> V::Owned {
        self.value
    }

    /// Sets the value to `new`, if it has not been changed since. The entry then has the new one. Also a
    /// value that was changed and changed back counts as changed.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn replace(&mut self, new: &V::Item) -> Result<(), EntryError> {
        let map = self.map;
        let stored = map.stored(new)?;
        let bytes = stored.as_ref();
        // As it comes out, so that the entry can tell it.
        let value = super::iter::decode_key::<V>(bytes);
        let value = value.map_err(|source| WriteError::Decode { source })?;
        let at = map.writing(&self.key)?.replace(self.at, bytes)?;
        self.at = at.ok_or(EntryError::Changed)?;
        self.value = value;
        Ok(())
    }

    /// Removes the key, if its value has not been changed since; returns that.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn remove(self) -> Result<V::Owned, EntryError> {
        let removed = self.map.writing(&self.key)?.remove(self.at)?;
        removed.then_some(self.value).ok_or(EntryError::Changed)
    }
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> VacantEntry<'a, K, V> {
    /// Inserts the key, if it is still not there.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn insert(self, value: &V::Item) -> Result<(), EntryError> {
        let (map, stored) = (self.map, self.map.stored(value)?);
        let inserted = map.writing(&self.key)?.insert(stored.as_ref())?;
        inserted.then_some(()).ok_or(EntryError::Changed)
    }
}
