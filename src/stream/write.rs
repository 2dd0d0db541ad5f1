//! What changes a `StreamDict`.

use std::borrow::Borrow;

use super::context::{self, Context};
use super::record::Writer;
use super::state::{Appended, State};
use super::transaction::Transaction;
use super::turns::Turns;
use super::view::encoded_value;
use super::{Held, Position, StreamDict, StreamError};
use crate::stored::Stored;
use crate::sync::Access;

/// What came of an attempt, perhaps that to begin a generation; `None`: once more.
type Begun<R> = Result<Option<R>, StreamError>;

/// What came of a transaction.
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
    /// Repeats `attempt` until something comes of it. It is at the end of the log each time, under the lock of
    /// this process; in between, it waits for its turn without.
    fn in_turns<R, E: From<StreamError>>(
        &self,
        mut attempt: impl FnMut(&Context<'_>, &mut State<V>, &Turns) -> Result<Begun<R>, E>,
    ) -> Result<R, E> {
        let cx = self.shared.context();
        if cx.control.access() == Access::ReadOnly {
            return Err(StreamError::ReadOnly.into());
        }
        let mut turns = Turns::default();
        loop {
            let held = Held::new(self.shared.segment.number())?;
            let mut guard = self.shared.write()?;
            let state = guard.as_mut().expect("of this process");
            let begun = attempt(&cx, state, &turns)?;
            let sealed = state.sealed();
            drop((guard, held));
            if let Ok(Some(done)) = begun {
                return Ok(done);
            }
            turns.end(&self.shared, sealed, begun.err())?;
        }
    }

    fn attempt<R, E: From<StreamError>>(
        &self,
        at: Option<Position>,
        mut f: impl FnMut(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<Attempt<R>, E> {
        let mut changes = Writer::default();
        self.in_turns(|cx, state, turns| {
            if at.is_some_and(|position| !state.is_at(position)) {
                return Ok(Ok(Some(Attempt::Passed)));
            }
            changes.clear();
            let token = context::token()?;
            let done = state.change(self.map(), &mut changes, &mut f)?;
            if context::token()? != token {
                state.take_back();
                return Err(StreamError::Forked.into());
            }
            let appended = match changes.bytes().is_empty() {
                // What changes nothing has happened when everything was read.
                true => Ok(Appended::Done),
                false => state.append(cx, changes.bytes()),
            };
            if let Ok(Appended::Done) = appended {
                state.keep();
                return Ok(Ok(Some(Attempt::Done(done))));
            }
            let dump_bytes = state.replica.dump_bytes();
            state.take_back();
            Ok(match appended? {
                Appended::NoRoom if turns.is_ours(state) => {
                    let begun = state.begin(cx, changes.bytes(), dump_bytes);
                    begun.map(|begun| begun.then_some(Attempt::Done(done)))
                }
                _ => Ok(None),
            })
        })
    }

    /// Runs `f`, and makes its changes happen at once: all of them, or none if it returns an error or panics.
    ///
    /// (A closure that ends in `Ok(())` has to say of what: `Ok::<_, StreamError>(())`.)
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

    /// The same, and returns the previous value: `None` if there was none (or a map).
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn insert(&self, key: &K::Item, value: &V::Item) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        self.transaction(|tx| {
            let previous = tx.value(key)?.cloned();
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

    /// Removes `key`, and returns its value: `None` if there was none (or a map, which is gone then as well).
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn remove(&self, key: &K::Item) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        self.transaction(|tx| {
            let previous = tx.value(key)?.cloned();
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
        let mut before = None;
        self.in_turns(|cx, state, turns| {
            let generation = state.generation.facts().id;
            if *before.get_or_insert(generation) != generation {
                return Ok(Ok(Some(())));
            }
            let begun = match turns.is_ours(state) {
                true => state.begin(cx, &[], state.replica.dump_bytes()),
                false => Ok(false),
            };
            Ok(begun.map(|_| None))
        })
    }
}
