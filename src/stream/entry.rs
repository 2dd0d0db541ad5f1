//! Entries: what is to be done with one key, in the manner of std.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use super::record::LONGEST_KEY;
use super::transaction::too_long;
use super::view::encoded_key;
use super::{StreamDict, StreamError};
use crate::stored::Stored;

type Modify<'d, V> = Box<dyn FnMut(&mut <V as Stored>::Owned) + 'd>;

/// What is to be done with one key. See [`StreamDict::entry`].
#[must_use = "nothing happens before or_insert, or_insert_with or or_nothing is called"]
pub struct StreamEntry<'d, K: ?Sized, V: Stored + ?Sized> {
    dict: &'d StreamDict<K, V>,
    key: Vec<u8>,
    modify: Vec<Modify<'d, V>>,
    keys: PhantomData<fn() -> *const K>,
}

impl<K: Stored + ?Sized, V: Stored<Owned: Clone> + ?Sized> StreamDict<K, V> {
    /// The entry of `key`, to be changed or inserted: all that is said of it happens at once, when the last
    /// method of the chain is called.
    ///
    /// # Errors
    /// [`StreamError::Encode`], [`StreamError::TooLong`].
    ///
    /// ```
    /// # use forkmap::StreamDict;
    /// # let dict = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// for word in ["a", "b", "a"] {
    ///     dict.entry(word)?.and_modify(|count| *count += 1).or_insert(&1)?;
    /// }
    /// assert_eq!(dict.get("a")?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entry(&self, key: &K::Item) -> Result<StreamEntry<'_, K, V>, StreamError> {
        let key = encoded_key::<K>(key)?.as_ref().to_vec();
        too_long("key", key.len(), LONGEST_KEY)?;
        Ok(StreamEntry {
            dict: self,
            key,
            modify: Vec::new(),
            keys: PhantomData,
        })
    }
}

impl<'d, K: Stored + ?Sized, V: Stored<Owned: Clone> + ?Sized> StreamEntry<'d, K, V> {
    /// Changes the value if the key is there. `f` may be called more than once, if another process changes
    /// something meanwhile.
    pub fn and_modify(mut self, f: impl FnMut(&mut V::Owned) + 'd) -> Self {
        self.modify.push(Box::new(f));
        self
    }

    /// Inserts the key with this value if it is not there; and returns the value that is.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn or_insert(self, value: &V::Item) -> Result<V::Owned, StreamError> {
        self.finish(|| Some(value))
            .map(|value| value.expect("it is there or was inserted"))
    }

    /// The same with the value that `f` makes, which is called once at most.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn or_insert_with<T: Borrow<V::Item>>(
        self,
        f: impl FnOnce() -> T,
    ) -> Result<V::Owned, StreamError> {
        let (mut f, mut made) = (Some(f), None);
        self.finish_with(|key, tx| {
            if let Some(f) = f.take() {
                made = Some(f());
            }
            tx.put(key, made.as_ref().expect("it was made").borrow())
        })
        .map(|value| value.expect("it is there or was inserted"))
    }

    /// Leaves it at that: returns the value if the key is there.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn or_nothing(self) -> Result<Option<V::Owned>, StreamError> {
        self.finish(|| None)
    }

    fn finish<'v>(
        self,
        value: impl Fn() -> Option<&'v V::Item>,
    ) -> Result<Option<V::Owned>, StreamError>
    where
        V::Item: 'v,
    {
        self.finish_with(|key, tx| value().map_or(Ok(()), |value| tx.put(key, value)))
    }

    fn finish_with(
        mut self,
        mut absent: impl FnMut(&[u8], &mut super::Transaction<'_, K, V>) -> Result<(), StreamError>,
    ) -> Result<Option<V::Owned>, StreamError> {
        self.dict.transaction(|tx| {
            match tx.find(&self.key)?.cloned() {
                Some(_) if self.modify.is_empty() => {}
                Some(mut value) => {
                    self.modify.iter_mut().for_each(|modify| modify(&mut value));
                    tx.put(&self.key, value.borrow())?;
                }
                None => absent(&self.key, tx)?,
            }
            Ok(tx.find(&self.key)?.cloned())
        })
    }
}

impl<K: ?Sized, V: Stored + ?Sized> fmt::Debug for StreamEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamEntry").finish_non_exhaustive()
    }
}
