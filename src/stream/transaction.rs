//! Transactions: what a replica is changed by, and how that is taken back.

use std::fmt;
use std::marker::PhantomData;

use super::context::random;
use super::error::StreamError;
use super::record::{Change, LONGEST_KEY, LONGEST_VALUE, MapId, Mark, Writer};
use super::replica::{Content, DEEPEST, Held, Map, Replica, Undo};
use super::view::{Shown, ViewIter, encoded_key, encoded_value, key_of, map_of, value_of};
use crate::stored::Stored;

/// Changes that are to happen at once, with what was there before them: see
/// [`StreamDict::transaction`](super::StreamDict::transaction).
pub struct Transaction<'a, K: ?Sized, V: Stored + ?Sized> {
    /// With the changes so far.
    replica: &'a mut Replica<V>,
    changes: &'a mut Writer,
    undo: &'a mut Vec<(MapId, Undo<V>)>,
    /// The map that it changes, which is there.
    map: MapId,
    keys: PhantomData<fn() -> *const K>,
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> Transaction<'a, K, V> {
    /// One on a map that is there, or none.
    pub(super) fn new(
        replica: &'a mut Replica<V>,
        changes: &'a mut Writer,
        undo: &'a mut Vec<(MapId, Undo<V>)>,
        map: MapId,
    ) -> Result<Self, StreamError> {
        replica.map(map).ok_or(StreamError::Gone)?;
        Ok(Self {
            replica,
            changes,
            undo,
            map,
            keys: PhantomData,
        })
    }

    /// The same, of another map that is there.
    pub(super) fn of(&mut self, map: MapId) -> Transaction<'_, K, V> {
        Transaction {
            replica: self.replica,
            changes: self.changes,
            undo: self.undo,
            map,
            keys: PhantomData,
        }
    }

    /// Where it has come to.
    pub(super) fn mark(&self) -> (usize, Mark) {
        (self.undo.len(), self.changes.mark())
    }

    /// Takes back what was changed since.
    pub(super) fn back_to(&mut self, (undo, mark): (usize, Mark)) {
        for (map, undo) in self.undo.drain(undo..).rev() {
            self.replica.undo(map, undo);
        }
        self.changes.back_to(mark);
    }

    /// Forgets how to take the changes back, and what they were.
    pub(super) fn forget(&mut self) {
        self.changes.clear();
        self.undo.clear();
    }

    pub(super) fn replica(&self) -> &Replica<V> {
        self.replica
    }

    pub(super) fn map(&self) -> MapId {
        self.map
    }

    fn own(&self) -> &Map<V> {
        self.replica.map(self.map).expect("it is there")
    }

    pub(super) fn find(&self, key: &[u8]) -> Result<Option<&V::Owned>, StreamError> {
        self.own().get(key).map(value_of::<V>).transpose()
    }

    /// The value of `key` with the changes so far.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`], [`StreamError::IsMap`].
    pub fn get(&self, key: &K::Item) -> Result<Option<&V::Owned>, StreamError> {
        self.find(encoded_key::<K>(key)?.as_ref())
    }

    /// The value of `key`, if it is there and holds one.
    pub(super) fn value(&self, key: &K::Item) -> Result<Option<&V::Owned>, StreamError> {
        match self.get(key) {
            Err(StreamError::IsMap) => Ok(None),
            found => found,
        }
    }

    /// Whether `key` is there with the changes so far.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, StreamError> {
        Ok(self.own().get(encoded_key::<K>(key)?.as_ref()).is_some())
    }

    /// Number of keys with the changes so far.
    pub fn len(&self) -> usize {
        self.own().len()
    }

    /// Whether there is no key with the changes so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and values with the changes so far, in the order in which the keys were inserted. A key that holds a map is
    /// [`StreamError::IsMap`].
    pub fn iter(&self) -> impl Iterator<Item = Result<(K::Owned, &V::Owned), StreamError>> {
        ViewIter::<K, V>::new(self.own())
    }

    /// All keys with the changes so far, in the order in which they were inserted.
    pub fn keys(&self) -> impl Iterator<Item = Result<K::Owned, StreamError>> {
        self.own().iter().map(|(key, _)| key_of::<K>(key))
    }

    /// The map that `key` holds, with the changes so far, to be changed in the same transaction: an empty one if the
    /// key is not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`]; [`StreamError::TooLong`]; [`StreamError::IsValue`]; [`StreamError::TooDeep`].
    pub fn nested(&mut self, key: &K::Item) -> Result<Transaction<'_, K, V>, StreamError> {
        let key = encoded_key::<K>(key)?;
        let found = self.own().get(key.as_ref()).map(map_of).transpose()?;
        let map = match found {
            Some(map) => map,
            None => self.nest(key.as_ref())?,
        };
        Ok(self.of(map))
    }

    /// The map that `key` holds, with the changes so far, to be changed in the same transaction; `None` if the key is
    /// not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`]; [`StreamError::IsValue`].
    pub fn get_nested(
        &mut self,
        key: &K::Item,
    ) -> Result<Option<Transaction<'_, K, V>>, StreamError> {
        let key = encoded_key::<K>(key)?;
        let found = self.own().get(key.as_ref()).map(map_of).transpose()?;
        Ok(found.map(|map| self.of(map)))
    }

    /// Gives `key` a value, whether it is there or not. If it held a map, that goes with everything in it.
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
        let change = Change::Put { key, value: stored };
        self.changes.write(self.map, change);
        let undo = match self.replica.put(self.map, key, Content::Value(held)) {
            None => Undo::Remove(key.into()),
            Some(old) => Undo::Replace(key.into(), old),
        };
        self.undo.push((self.map, undo));
        Ok(())
    }

    /// Gives `key` an empty map, whatever it held.
    pub(super) fn nest(&mut self, key: &[u8]) -> Result<MapId, StreamError> {
        too_long("key", key.len(), LONGEST_KEY)?;
        if !self.replica.can_nest_in(self.map) {
            return Err(StreamError::TooDeep { limit: DEEPEST });
        }
        let map = loop {
            let map = MapId(random()?);
            if self.replica.map(map).is_none() {
                break map;
            }
        };
        self.changes.write(self.map, Change::Nest { key, map });
        let undo = match self.replica.nest(self.map, key, map) {
            None => Undo::Remove(key.into()),
            Some(old) => Undo::Replace(key.into(), old),
        };
        self.undo.push((self.map, undo));
        Ok(map)
    }

    /// Removes `key` with what it holds, a value or a whole map, and tells whether it was there.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn remove(&mut self, key: &K::Item) -> Result<bool, StreamError> {
        let key = encoded_key::<K>(key)?;
        let key = key.as_ref();
        let Some(undo) = self.replica.remove_with_undo(self.map, key) else {
            return Ok(false);
        };
        self.changes.write(self.map, Change::Remove { key });
        self.undo.push((self.map, undo));
        Ok(true)
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        if self.map == MapId::ROOT {
            // What came before does not matter any more.
            self.changes.clear();
        }
        self.changes.write(self.map, Change::Clear);
        self.undo.push((self.map, self.replica.clear(self.map)));
    }
}

impl<K, V> fmt::Debug for Transaction<'_, K, V>
where
    K: Stored<Owned: fmt::Debug> + ?Sized,
    V: Stored<Owned: fmt::Debug> + ?Sized,
{
    /// What is there with the changes so far, as a map, with the maps in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown::<K, V>(self.replica, self.map, PhantomData).fmt(f)
    }
}

pub(super) fn too_long(what: &'static str, bytes: usize, limit: usize) -> Result<(), StreamError> {
    match bytes > limit {
        true => Err(StreamError::TooLong { what, bytes, limit }),
        false => Ok(()),
    }
}
