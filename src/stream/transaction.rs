//! Transactions: what a replica is changed by, and how that is taken back.

use std::fmt;
use std::marker::PhantomData;

use super::error::StreamError;
use super::record::{self, Change, LONGEST_KEY, LONGEST_VALUE};
use super::replica::{Held, Replica, Undo};
use super::view::{encoded_key, encoded_value, key_of, value_of};
use crate::stored::Stored;

/// Changes that are to happen at once, with what was there before them: see
/// [`StreamDict::transaction`](super::StreamDict::transaction).
pub struct Transaction<'a, K: ?Sized, V: Stored + ?Sized> {
    /// With the changes so far.
    replica: &'a mut Replica<V>,
    changes: &'a mut Vec<u8>,
    undo: &'a mut Vec<Undo<V>>,
    keys: PhantomData<fn() -> *const K>,
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> Transaction<'a, K, V> {
    pub(super) fn new(
        replica: &'a mut Replica<V>,
        changes: &'a mut Vec<u8>,
        undo: &'a mut Vec<Undo<V>>,
    ) -> Self {
        Self {
            replica,
            changes,
            undo,
            keys: PhantomData,
        }
    }

    /// Forgets how to take the changes back, and what they were.
    pub(super) fn forget(&mut self) {
        self.changes.clear();
        self.undo.clear();
    }

    pub(super) fn find(&self, key: &[u8]) -> Result<Option<&V::Owned>, StreamError> {
        self.replica.get(key).map(value_of::<V>).transpose()
    }

    /// The value of `key` with the changes so far.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`].
    pub fn get(&self, key: &K::Item) -> Result<Option<&V::Owned>, StreamError> {
        self.find(encoded_key::<K>(key)?.as_ref())
    }

    /// Whether `key` is there with the changes so far.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, StreamError> {
        Ok(self.replica.get(encoded_key::<K>(key)?.as_ref()).is_some())
    }

    /// Number of keys with the changes so far.
    pub fn len(&self) -> usize {
        self.replica.len()
    }

    /// Whether there is no key with the changes so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and values with the changes so far, in the order in which the keys were inserted.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K::Owned, &V::Owned), StreamError>> {
        let entries = self.replica.iter();
        entries.map(|(key, held)| Ok((key_of::<K>(key)?, value_of::<V>(held)?)))
    }

    /// Gives `key` a value, whether it is there or not.
    ///
    /// # Errors
    /// [`StreamError::Encode`]; [`StreamError::Decode`] if what was encoded cannot be decoded;
    /// [`StreamError::TooLong`].
    pub fn set(&mut self, key: &K::Item, value: &V::Item) -> Result<(), StreamError> {
        self.put(encoded_key::<K>(key)?.as_ref(), value)
    }

    pub(super) fn put(&mut self, key: &[u8], value: &V::Item) -> Result<(), StreamError> {
        too_long("key", key.len(), LONGEST_KEY)?;
        let stored = encoded_value::<V>(value)?;
        let stored = stored.as_ref();
        too_long("value", stored.len(), LONGEST_VALUE)?;
        // Now, because behind the commit it is too late for an error.
        let held = Held::readable(stored).map_err(|source| StreamError::Decode {
            what: "value",
            source,
        })?;
        record::write(self.changes, Change::Put { key, value: stored });
        let undo = match self.replica.put(key, held) {
            None => Undo::Remove(key.into()),
            Some(old) => Undo::Replace(key.into(), old),
        };
        self.undo.push(undo);
        Ok(())
    }

    /// Removes `key`, and tells whether it was there.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn remove(&mut self, key: &K::Item) -> Result<bool, StreamError> {
        let key = encoded_key::<K>(key)?;
        let key = key.as_ref();
        let before = self.replica.next_key(key);
        let Some(held) = self.replica.remove(key) else {
            return Ok(false);
        };
        record::write(self.changes, Change::Remove { key });
        let key = key.into();
        self.undo.push(Undo::Insert { key, held, before });
        Ok(true)
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        // What came before does not matter any more.
        self.changes.clear();
        record::write(self.changes, Change::Clear);
        self.undo.push(Undo::Restore(self.replica.clear()));
    }
}

impl<K: ?Sized, V: Stored + ?Sized> fmt::Debug for Transaction<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("len", &self.replica.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn too_long(what: &'static str, bytes: usize, limit: usize) -> Result<(), StreamError> {
    match bytes > limit {
        true => Err(StreamError::TooLong { what, bytes, limit }),
        false => Ok(()),
    }
}
