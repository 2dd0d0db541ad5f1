//! Views: what a process has of the dictionary, lent.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use super::replica::{self, Held as HeldValue};
use super::state::State;
use super::{Held, Position, ReadGuard, StreamError, of};
use crate::stored::Stored;

/// A view of a [`StreamDict`](super::StreamDict) as it was at one moment. See
/// [`StreamDict::view`](super::StreamDict::view).
pub struct View<'a, K: ?Sized, V: Stored + ?Sized> {
    // Dropped first.
    state: ReadGuard<'a, V>,
    _held: Held,
    keys: PhantomData<fn() -> *const K>,
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> View<'a, K, V> {
    pub(super) fn new(state: ReadGuard<'a, V>, held: Held) -> Self {
        Self {
            state,
            _held: held,
            keys: PhantomData,
        }
    }

    pub(super) fn state(&self) -> &State<V> {
        of(&self.state)
    }

    /// The value of `key`, or `None` if it is not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`].
    #[inline]
    pub fn get(&self, key: &K::Item) -> Result<Option<&V::Owned>, StreamError> {
        let found = self.state().replica.get(encoded_key::<K>(key)?.as_ref());
        found.map(|held| value_of::<V>(held)).transpose()
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, StreamError> {
        let key = encoded_key::<K>(key)?;
        Ok(self.state().replica.get(key.as_ref()).is_some())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.state().replica.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far the stream had come.
    pub fn position(&self) -> Position {
        self.state().position()
    }

    /// Whether nothing had changed since `position`.
    pub fn is_at(&self, position: Position) -> bool {
        self.state().is_at(position)
    }

    /// Keys and values, in the order in which the keys were inserted. Each may be one that this program cannot
    /// decode.
    ///
    /// ```
    /// # use forkmap::StreamDict;
    /// # let dict = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// # dict.set("a", &1)?;
    /// for entry in &dict.view()? {
    ///     let (key, value) = entry?;
    ///     assert_eq!((key.as_str(), value), ("a", &1));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> ViewIter<'_, K, V> {
        ViewIter {
            entries: self.state().replica.iter(),
            keys: PhantomData,
        }
    }

    /// The keys, in the order in which they were inserted.
    pub fn keys(&self) -> impl Iterator<Item = Result<K::Owned, StreamError>> {
        let entries = self.state().replica.iter();
        entries.map(|(key, _)| key_of::<K>(key))
    }

    /// The values, in the order in which their keys were inserted.
    pub fn values(&self) -> impl Iterator<Item = Result<&V::Owned, StreamError>> {
        let entries = self.state().replica.iter();
        entries.map(|(_, held)| value_of::<V>(held))
    }
}

impl<K, V, S> PartialEq<HashMap<K::Owned, V::Owned, S>> for View<'_, K, V>
where
    K: Stored<Owned: Eq + Hash> + ?Sized,
    V: Stored<Owned: PartialEq> + ?Sized,
    S: BuildHasher,
{
    fn eq(&self, other: &HashMap<K::Owned, V::Owned, S>) -> bool {
        let has = |(key, value): (&K::Owned, &V::Owned)| {
            self.get(key.borrow())
                .is_ok_and(|found| found == Some(value))
        };
        self.len() == other.len() && other.iter().all(has)
    }
}

impl<K: ?Sized, V: Stored + ?Sized> fmt::Debug for View<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("state", of(&self.state))
            .finish_non_exhaustive()
    }
}

/// What a [`View`] gives one after the other.
pub struct ViewIter<'a, K: ?Sized, V: Stored + ?Sized> {
    entries: hashlink::linked_hash_map::Iter<'a, Box<[u8]>, HeldValue<V>>,
    keys: PhantomData<fn() -> *const K>,
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> Iterator for ViewIter<'a, K, V> {
    type Item = Result<(K::Owned, &'a V::Owned), StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, held) = self.entries.next()?;
        Some(key_of::<K>(key).and_then(|key| Ok((key, value_of::<V>(held)?))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> ExactSizeIterator for ViewIter<'_, K, V> {}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> IntoIterator for &'a View<'_, K, V> {
    type Item = Result<(K::Owned, &'a V::Owned), StreamError>;
    type IntoIter = ViewIter<'a, K, V>;

    fn into_iter(self) -> ViewIter<'a, K, V> {
        self.iter()
    }
}

impl<K: ?Sized, V: Stored + ?Sized> fmt::Debug for ViewIter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewIter").finish_non_exhaustive()
    }
}

/// The stored form of `key`.
#[inline]
pub(super) fn encoded_key<K: Stored + ?Sized>(
    key: &K::Item,
) -> Result<K::Encoded<'_>, StreamError> {
    K::encode(key).map_err(|source| StreamError::Encode {
        what: "key",
        source,
    })
}

/// The stored form of `value`.
#[inline]
pub(super) fn encoded_value<V: Stored + ?Sized>(
    value: &V::Item,
) -> Result<V::Encoded<'_>, StreamError> {
    V::encode(value).map_err(|source| StreamError::Encode {
        what: "value",
        source,
    })
}

pub(super) fn key_of<K: Stored + ?Sized>(bytes: &[u8]) -> Result<K::Owned, StreamError> {
    replica::decode::<K>(bytes).map_err(|source| StreamError::Decode {
        what: "key",
        source,
    })
}

#[inline]
pub(super) fn value_of<V: Stored + ?Sized>(held: &HeldValue<V>) -> Result<&V::Owned, StreamError> {
    held.value().map_err(|source| StreamError::Decode {
        what: "value",
        source,
    })
}
