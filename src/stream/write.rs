//! What changes a `StreamDict`.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use super::record::{self, Change, LONGEST_KEY, LONGEST_VALUE};
use super::replica::{Held as HeldValue, Replica, Undo};
use super::state::Appended;
use super::turns::Turns;
use super::view::{encoded_key, encoded_value, key_of, value_of};
use super::{Held, Position, StreamDict, StreamError, state};
use crate::stored::Stored;
use crate::sync::Access;

/// Changes that are to happen at once, with what was there before them: see
/// [`StreamDict::transaction`].
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
        let held = HeldValue::readable(stored).map_err(|source| StreamError::Decode {
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

/// What came of an attempt to change something.
enum Attempt<R> {
    Done(R),
    /// Something was appended since the position that was asked for.
    Passed,
}

/// Changing. Each of these happens at one instant, for all processes the same, or not at all.
///
/// Lock-free: an attempt is repeated only if another process has changed something meanwhile. The changes
/// of the threads that share a handle take turns.
impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    fn attempt<R, E: From<StreamError>>(
        &self,
        at: Option<Position>,
        mut f: impl FnMut(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<Attempt<R>, E> {
        let cx = self.shared.context();
        if cx.control.access() == Access::ReadOnly {
            return Err(StreamError::ReadOnly.into());
        }
        let mut turns = Turns::default();
        loop {
            let held = Held::new(self.shared.segment.number())?;
            let token = state::token()?;
            let mut guard = self.shared.write()?;
            let state = guard.as_mut().expect("of this process");
            if at.is_some_and(|position| !state.is_at(position)) {
                return Ok(Attempt::Passed);
            }
            let mut changes = Vec::new();
            let done = state.change(&mut changes, &mut f)?;
            if state::token()? != token {
                state.take_back();
                return Err(StreamError::Forked.into());
            }
            let appended = match changes.is_empty() {
                // What changes nothing has happened when everything was read.
                true => Ok(Appended::Done),
                false => state.append(&cx, &changes),
            };
            let dump_bytes = state.replica.dump_bytes();
            if appended
                .as_ref()
                .is_ok_and(|&appended| appended == Appended::Done)
            {
                state.keep();
                return Ok(Attempt::Done(done));
            }
            state.take_back();
            let begun = match appended? {
                Appended::NoRoom if turns.is_ours(state) => state.begin(&cx, &changes, dump_bytes),
                _ => Ok(false),
            };
            if let Ok(true) = begun {
                return Ok(Attempt::Done(done));
            }
            // Without the lock: nobody in this process waits for another one.
            let sealed = state.sealed();
            drop((guard, held));
            turns.end(&self.shared, sealed, begun.err())?;
        }
    }

    /// Runs `f`, and makes its changes happen at once: all of them, or none if it returns an error or panics.
    ///
    /// What `f` sees is the dictionary as it is at the instant when its changes happen: if another process
    /// changes anything before, `f` is called again. So it should do nothing that it cannot do twice. Threads
    /// that share the handle wait meanwhile; it must not use this dictionary but by what it is given.
    ///
    /// # Errors
    /// What `f` returns; [`StreamError`].
    pub fn transaction<R, E: From<StreamError>>(
        &self,
        f: impl FnMut(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        match self.attempt(None, f)? {
            Attempt::Done(done) => Ok(done),
            Attempt::Passed => unreachable!("no position was asked for"),
        }
    }

    /// As [`transaction`](Self::transaction), if nothing has changed since `position`; else `None`.
    ///
    /// # Errors
    /// As [`transaction`](Self::transaction).
    pub fn append_if<R, E: From<StreamError>>(
        &self,
        position: Position,
        f: impl FnMut(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        match self.attempt(Some(position), f)? {
            Attempt::Done(done) => Ok(Some(done)),
            Attempt::Passed => Ok(None),
        }
    }

    /// Gives `key` a value, whether it is there or not.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn set(&self, key: &K::Item, value: &V::Item) -> Result<(), StreamError> {
        self.transaction(|tx| tx.set(key, value))
    }

    /// The same, and returns the previous value.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn insert(&self, key: &K::Item, value: &V::Item) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        self.transaction(|tx| {
            let previous = tx.get(key)?.cloned();
            tx.set(key, value)?;
            Ok(previous)
        })
    }

    /// Inserts `key` with the value that `f` makes, if it is not there; and returns the value that is.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn get_or_insert_with<T: Borrow<V::Item>>(
        &self,
        key: &K::Item,
        f: impl FnOnce() -> T,
    ) -> Result<V::Owned, StreamError>
    where
        V::Owned: Clone,
    {
        let (mut f, mut made) = (Some(f), None);
        self.transaction(|tx| {
            if let Some(found) = tx.get(key)? {
                return Ok(found.clone());
            }
            if let Some(f) = f.take() {
                made = Some(f());
            }
            let value = made.as_ref().expect("it was made");
            tx.set(key, value.borrow())?;
            Ok(tx.get(key)?.expect("it was set").clone())
        })
    }

    /// Removes `key`, and returns its value.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn remove(&self, key: &K::Item) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        self.transaction(|tx| {
            let previous = tx.get(key)?.cloned();
            tx.remove(key)?;
            Ok(previous)
        })
    }

    /// Gives `key` the value that `f` makes of the one that it has (`None`: it is not there), or removes it if
    /// `f` makes none; and returns the previous one.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn fetch_update<T: Borrow<V::Item>>(
        &self,
        key: &K::Item,
        mut f: impl FnMut(Option<&V::Owned>) -> Option<T>,
    ) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        self.transaction(|tx| {
            let previous = tx.get(key)?.cloned();
            match f(previous.as_ref()) {
                Some(value) => tx.set(key, value.borrow())?,
                None => drop(tx.remove(key)?),
            }
            Ok(previous)
        })
    }

    /// Gives `key` the value `new` (`None`: removes it) if the one that it has is `expected` (`None`: it is not
    /// there), as their stored bytes tell; else returns what it has.
    ///
    /// # Errors
    /// [`StreamError`].
    #[expect(clippy::type_complexity, reason = "as that of std's atomics")]
    pub fn compare_exchange(
        &self,
        key: &K::Item,
        expected: Option<&V::Item>,
        new: Option<&V::Item>,
    ) -> Result<Result<Option<V::Owned>, Option<V::Owned>>, StreamError>
    where
        V::Owned: Clone,
    {
        let expected = expected.map(encoded_value::<V>).transpose()?;
        let expected = expected.as_ref().map(AsRef::as_ref);
        self.transaction(|tx| {
            let found = tx.get(key)?.cloned();
            let stored = found
                .as_ref()
                .map(|found| encoded_value::<V>(found.borrow()));
            if stored.transpose()?.as_ref().map(AsRef::as_ref) != expected {
                return Ok(Err(found));
            }
            match new {
                Some(new) => tx.set(key, new)?,
                None => drop(tx.remove(key)?),
            }
            Ok(Ok(found))
        })
    }

    /// Gives many keys their values, at once.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn extend<'i>(
        &self,
        entries: impl IntoIterator<Item = (&'i K::Item, &'i V::Item), IntoIter: Clone>,
    ) -> Result<(), StreamError>
    where
        K::Item: 'i,
        V::Item: 'i,
    {
        let entries = entries.into_iter();
        self.transaction(|tx| {
            let mut entries = entries.clone();
            entries.try_for_each(|(key, value)| tx.set(key, value))
        })
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn clear(&self) -> Result<(), StreamError> {
        self.transaction(|tx| {
            tx.clear();
            Ok(())
        })
    }

    /// Begins a new generation, whose dump has everything.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn dump(&self) -> Result<(), StreamError> {
        let cx = self.shared.context();
        if cx.control.access() == Access::ReadOnly {
            return Err(StreamError::ReadOnly);
        }
        let (mut turns, mut before) = (Turns::default(), None);
        loop {
            let held = Held::new(self.shared.segment.number())?;
            let mut guard = self.shared.write()?;
            let state = guard.as_mut().expect("of this process");
            let generation = state.generation.facts().id;
            if *before.get_or_insert(generation) != generation {
                return Ok(());
            }
            let begun = match turns.is_ours(state) {
                true => state.begin(&cx, &[], state.replica.dump_bytes()),
                false => Ok(false),
            };
            let sealed = state.sealed();
            drop((guard, held));
            turns.end(&self.shared, sealed, begun.err())?;
        }
    }
}
