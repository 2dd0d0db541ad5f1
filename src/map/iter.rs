//! Iterators over a [`SharedHashMap`].

use std::fmt;
use std::iter::FusedIterator;

use super::{SharedHashMap, copy, unreadable};
use crate::error::{CodecError, ReadError};
use crate::raw::map::{At, Table};
use crate::stored::Stored;

/// What stands in a bucket, not decoded yet.
pub(super) struct RawEntry<V: Stored + ?Sized> {
    pub(super) at: At,
    pub(super) key: Vec<u8>,
    pub(super) value: V::Image,
}

/// Goes through the buckets.
pub(super) struct Raw<'a, K: ?Sized, V: ?Sized> {
    map: &'a SharedHashMap<K, V>,
    /// The next bucket to look at.
    next: usize,
}

impl<'a, K: ?Sized, V: Stored + ?Sized> Raw<'a, K, V> {
    pub(super) fn new(map: &'a SharedHashMap<K, V>) -> Self {
        Self { map, next: 0 }
    }

    pub(super) fn next(&mut self) -> Option<RawEntry<V>> {
        let entry = self.map.table().visit(self.next, |cell| {
            let (mut key, mut value) = (Vec::new(), V::Image::default());
            cell.key().append_to(&mut key);
            copy::<V>(cell.value(), &mut value);
            Some((key, value))
        });
        let Some((at, (key, value))) = entry else {
            self.next = usize::MAX;
            return None;
        };
        self.next = at.next();
        Some(RawEntry { at, key, value })
    }
}

/// How many keys there are, counted up to `most`.
pub(super) fn count(table: &Table<'_>, most: usize) -> usize {
    let mut next = 0;
    let mut count = 0;
    while count < most {
        let Some((at, ())) = table.visit(next, |_| Some(())) else {
            break;
        };
        count += 1;
        next = at.next();
    }
    count
}

pub(super) fn decode_key<K: Stored + ?Sized>(bytes: &[u8]) -> Result<K::Owned, CodecError> {
    let mut image = K::Image::default();
    let room = K::room(&mut image, bytes.len());
    let len = room.len().min(bytes.len());
    room[..len].copy_from_slice(&bytes[..len]);
    K::decode(image)
}

/// Iterator over keys and values, made by [`SharedHashMap::iter`].
pub struct Iter<'a, K: ?Sized, V: ?Sized>(Raw<'a, K, V>);

/// Iterator over keys, made by [`SharedHashMap::keys`].
pub struct Keys<'a, K: ?Sized, V: ?Sized>(Raw<'a, K, V>);

/// Iterator over values, made by [`SharedHashMap::values`].
pub struct Values<'a, K: ?Sized, V: ?Sized>(Raw<'a, K, V>);

macro_rules! iterator {
    ($($name:ident)+) => {
        $(
            impl<K: ?Sized, V: ?Sized> fmt::Debug for $name<'_, K, V> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.debug_struct(stringify!($name))
                        .field("next", &self.0.next)
                        .finish_non_exhaustive()
                }
            }

            impl<K: Stored + ?Sized, V: Stored + ?Sized> FusedIterator for $name<'_, K, V> {}
        )+
    };
}
iterator!(Iter Keys Values);

impl<K: Stored + ?Sized, V: Stored + ?Sized> Iterator for Iter<'_, K, V> {
    type Item = Result<(K::Owned, V::Owned), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.0.next()?;
        let key = decode_key::<K>(&raw.key);
        let pair = key.and_then(|key| Ok((key, V::decode(raw.value)?)));
        Some(pair.map_err(unreadable))
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Iterator for Keys<'_, K, V> {
    type Item = Result<K::Owned, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.0.next()?;
        Some(decode_key::<K>(&raw.key).map_err(unreadable))
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Iterator for Values<'_, K, V> {
    type Item = Result<V::Owned, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let raw = self.0.next()?;
        Some(V::decode(raw.value).map_err(unreadable))
    }
}

/// Visiting all keys.
///
/// Weakly consistent: a key that is there from before the iterator is made until it has ended is seen
/// exactly once, also when its value changes meanwhile; one that comes or goes meanwhile at most once for
/// each time that it comes. Each value is whole, and was there when its key was reached. In no particular
/// order. Ends after as many steps as there are buckets.
impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    /// The keys and their values.
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// let map = SharedHashMap::<u64, f64>::anonymous(10)?;
    /// map.insert(&1, &0.5)?;
    /// for entry in map.iter() {
    ///     let (key, value) = entry?;
    ///     assert_eq!((key, value), (1, 0.5));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(Raw::new(self))
    }

    /// The keys.
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(Raw::new(self))
    }

    /// The values.
    pub fn values(&self) -> Values<'_, K, V> {
        Values(Raw::new(self))
    }
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> IntoIterator for &'a SharedHashMap<K, V> {
    type Item = Result<(K::Owned, V::Owned), ReadError>;
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}
