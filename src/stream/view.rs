//! Views: what a process has of the dictionary, lent.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use super::record::MapId;
use super::replica::{self, Content, Map, Replica};
use super::state::State;
use super::{Held, Position, ReadGuard, StreamError, of};
use crate::stored::Stored;

/// A view of a [`StreamDict`](super::StreamDict) as it was at one moment. See
/// [`StreamDict::view`](super::StreamDict::view).
pub struct View<'a, K: ?Sized, V: Stored + ?Sized> {
    source: Source<'a, V>,
    /// Which is there.
    map: MapId,
    keys: PhantomData<fn() -> *const K>,
}

/// What a view looks at.
enum Source<'a, V: Stored + ?Sized> {
    // (The guard is dropped first.)
    Locked(
        ReadGuard<'a, V>,
        #[expect(dead_code, reason = "for its drop")] Held,
    ),
    /// Of another view.
    Lent(&'a State<V>),
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> View<'a, K, V> {
    pub(super) fn new(
        state: ReadGuard<'a, V>,
        held: Held,
        map: MapId,
    ) -> Result<Self, StreamError> {
        of(&state).replica.map(map).ok_or(StreamError::Gone)?;
        Ok(Self {
            source: Source::Locked(state, held),
            map,
            keys: PhantomData,
        })
    }

    #[inline]
    pub(super) fn state(&self) -> &State<V> {
        match &self.source {
            Source::Locked(state, _) => of(state),
            Source::Lent(state) => state,
        }
    }

    pub(super) fn map(&self) -> MapId {
        self.map
    }

    #[inline]
    fn own(&self) -> &Map<V> {
        self.state().replica.map(self.map).expect("it is there")
    }

    /// The value of `key`, or `None` if it is not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::Decode`], [`StreamError::IsMap`].
    #[inline]
    pub fn get(&self, key: &K::Item) -> Result<Option<&V::Owned>, StreamError> {
        let found = self.own().get(encoded_key::<K>(key)?.as_ref());
        found.map(|content| value_of::<V>(content)).transpose()
    }

    /// The map that `key` holds, at the same moment; `None` if the key is not there.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::IsValue`].
    pub fn get_nested(&self, key: &K::Item) -> Result<Option<View<'_, K, V>>, StreamError> {
        let found = self.own().get(encoded_key::<K>(key)?.as_ref());
        let map = found.map(map_of::<V>).transpose()?;
        Ok(map.map(|map| self.of(map)))
    }

    /// One of a map that is there.
    fn of(&self, map: MapId) -> View<'_, K, V> {
        View {
            source: Source::Lent(self.state()),
            map,
            keys: PhantomData,
        }
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`StreamError::Encode`].
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, StreamError> {
        let key = encoded_key::<K>(key)?;
        Ok(self.own().get(key.as_ref()).is_some())
    }

    /// Number of keys: those of maps in it do not count.
    pub fn len(&self) -> usize {
        self.own().len()
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

    /// Keys and values, in the order in which the keys were inserted. Each may be one that this program cannot decode;
    /// and a key that holds a map is [`StreamError::IsMap`]: [`nodes`](Self::nodes) has both.
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
        ViewIter::new(self.own())
    }

    /// Keys and what they hold, values or maps, in the order in which the keys were inserted.
    pub fn nodes(
        &self,
    ) -> impl Iterator<Item = Result<(K::Owned, ViewNode<'_, K, V>), StreamError>> {
        self.own().iter().map(|(key, content)| {
            let node = match content {
                Content::Value(held) => ViewNode::Value(decoded::<V>(held)?),
                Content::Map(map) => ViewNode::Map(self.of(*map)),
            };
            Ok((key_of::<K>(key)?, node))
        })
    }

    /// All keys, whatever they hold, in the order in which they were inserted.
    pub fn keys(&self) -> impl Iterator<Item = Result<K::Owned, StreamError>> {
        self.own().iter().map(|(key, _)| key_of::<K>(key))
    }

    /// The values, in the order in which their keys were inserted. A key that holds a map is [`StreamError::IsMap`].
    pub fn values(&self) -> impl Iterator<Item = Result<&V::Owned, StreamError>> {
        self.own().iter().map(|(_, content)| value_of::<V>(content))
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

impl<K, V> fmt::Debug for View<'_, K, V>
where
    K: Stored<Owned: fmt::Debug> + ?Sized,
    V: Stored<Owned: fmt::Debug> + ?Sized,
{
    /// As a map, with the maps in it; what cannot be decoded says so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown::<K, V>(&self.state().replica, self.map, PhantomData).fmt(f)
    }
}

/// A map that is there, to be shown.
pub(super) struct Shown<'a, K: ?Sized, V: Stored + ?Sized>(
    pub(super) &'a Replica<V>,
    pub(super) MapId,
    pub(super) PhantomData<fn() -> *const K>,
);

impl<K, V> fmt::Debug for Shown<'_, K, V>
where
    K: Stored<Owned: fmt::Debug> + ?Sized,
    V: Stored<Owned: fmt::Debug> + ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(replica, map, _) = self;
        let mut shown = f.debug_map();
        for (key, content) in replica.map(*map).into_iter().flat_map(Map::iter) {
            match key_of::<K>(key) {
                Ok(key) => shown.key(&key),
                Err(error) => shown.key(&format_args!("<{error}>")),
            };
            match content {
                // (No deeper than maps are nested.)
                Content::Map(nested) => shown.value(&Shown::<K, V>(replica, *nested, PhantomData)),
                Content::Value(held) => match decoded::<V>(held) {
                    Ok(value) => shown.value(value),
                    Err(error) => shown.value(&format_args!("<{error}>")),
                },
            };
        }
        shown.finish()
    }
}

/// What a key of a [`View`] holds.
pub enum ViewNode<'a, K: ?Sized, V: Stored + ?Sized> {
    /// A value.
    Value(&'a V::Owned),
    /// A map, at the same moment.
    Map(View<'a, K, V>),
}

impl<K, V> fmt::Debug for ViewNode<'_, K, V>
where
    K: Stored<Owned: fmt::Debug> + ?Sized,
    V: Stored<Owned: fmt::Debug> + ?Sized,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Map(map) => map.fmt(f),
        }
    }
}

/// What a [`View`] gives one after the other: keys with their values.
pub struct ViewIter<'a, K: ?Sized, V: Stored + ?Sized> {
    entries: hashlink::linked_hash_map::Iter<'a, Box<[u8]>, Content<V>>,
    keys: PhantomData<fn() -> *const K>,
}

impl<'a, K: ?Sized, V: Stored + ?Sized> ViewIter<'a, K, V> {
    pub(super) fn new(map: &'a Map<V>) -> Self {
        Self {
            entries: map.iter(),
            keys: PhantomData,
        }
    }
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> Iterator for ViewIter<'a, K, V> {
    type Item = Result<(K::Owned, &'a V::Owned), StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, content) = self.entries.next()?;
        let entry = || Ok((key_of::<K>(key)?, value_of::<V>(content)?));
        Some(entry())
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
fn decoded<V: Stored + ?Sized>(held: &replica::Held<V>) -> Result<&V::Owned, StreamError> {
    held.value().map_err(|source| StreamError::Decode {
        what: "value",
        source,
    })
}

/// The value, if it is one.
#[inline]
pub(super) fn value_of<V: Stored + ?Sized>(content: &Content<V>) -> Result<&V::Owned, StreamError> {
    match content {
        Content::Value(held) => decoded::<V>(held),
        Content::Map(_) => Err(StreamError::IsMap),
    }
}

/// The map, if it is one.
pub(super) fn map_of<V: Stored + ?Sized>(content: &Content<V>) -> Result<MapId, StreamError> {
    content.map().ok_or(StreamError::IsValue)
}
