//! What changes a map.

use std::borrow::Borrow;

use super::writer::{self, Writer};
use super::{SharedHashMap, copy, fits};
use crate::error::WriteError;
use crate::raw::bytes::Bytes;
use crate::raw::map::{At, Full, Table, Target};
use crate::stored::Stored;
use crate::sync::Access;

/// How often an insert that finds the map full looks again: the last cell may be in the hands of another
/// insert, which is about to use it or to give it back.
const ATTEMPTS: u32 = 8;

/// A key that is about to be changed.
pub(super) struct Writing<'a, 'k, K: ?Sized, V: ?Sized> {
    pub(super) map: &'a SharedHashMap<K, V>,
    pub(super) table: &'a Table<'a>,
    pub(super) target: Target<'k>,
}

fn undecodable(source: crate::CodecError) -> WriteError {
    WriteError::Decode { source }
}

/// The stored form of a key or a value.
#[inline(always)]
pub(super) fn encoded<'i, T: Stored + ?Sized>(
    item: &'i T::Item,
    what: &'static str,
) -> Result<T::Encoded<'i>, WriteError> {
    T::encode(item).map_err(|source| WriteError::Encode { what, source })
}

impl<'a, K: Stored + ?Sized, V: Stored + ?Sized> Writing<'a, '_, K, V> {
    /// The value, and where it stands.
    #[inline(always)]
    pub(super) fn read(&self) -> Result<Option<(At, V::Owned)>, WriteError> {
        let mut image = V::Image::default();
        let copy = |value: Bytes<'_>| copy::<V>(value, &mut image);
        match self.table.find_live(&self.target, copy) {
            Some((at, ())) => Ok(Some((at, V::decode(image).map_err(undecodable)?))),
            None => Ok(None),
        }
    }

    /// Where the key stands with its new value, if it stood at `at` until then.
    // Who writes is asked as late as this: what the caller has been asked before, a closure or a
    // `Serialize`, may have forked.
    #[inline(always)]
    pub(super) fn replace(&self, at: At, bytes: &[u8]) -> Result<Option<At>, WriteError> {
        let writer = self.map.writer()?;
        Ok(self.table.replace(writer.number(), &self.target, at, bytes))
    }

    /// Whether it was inserted: not if it is there.
    #[inline(always)]
    pub(super) fn insert(&self, bytes: &[u8]) -> Result<bool, WriteError> {
        let writer = self.map.writer()?;
        match self.table.insert(writer.number(), &self.target, bytes) {
            Ok(inserted) => Ok(inserted),
            Err(Full) => self.insert_into_full(writer.number(), bytes),
        }
    }

    #[cold]
    fn insert_into_full(&self, writer: usize, bytes: &[u8]) -> Result<bool, WriteError> {
        // If it cannot be told who is dead, the map is as full as it seems.
        let _ = self.map.recover();
        for attempt in 0..ATTEMPTS {
            if let Ok(inserted) = self.table.insert(writer, &self.target, bytes) {
                return Ok(inserted);
            }
            // Another one may have inserted this very key, and so filled the map.
            if self.table.find(&self.target, |_| ()).is_some() {
                return Ok(false);
            }
            (0..20 << attempt).for_each(|_| std::hint::spin_loop());
        }
        Err(WriteError::Full {
            capacity: self.table.capacity(),
        })
    }

    /// Whether the key was removed, if it stood at `at` until then.
    pub(super) fn remove(&self, at: At) -> Result<bool, WriteError> {
        let writer = self.map.writer()?;
        Ok(self.table.remove(writer.number(), &self.target, at))
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    fn writable(&self) -> Result<(), WriteError> {
        match self.table().access() {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(WriteError::ReadOnly),
        }
    }

    /// The calling thread as a writer of a map that may be written.
    #[inline(always)]
    pub(super) fn writer(&self) -> Result<Writer, WriteError> {
        let table = self.table();
        let recover = |slot| table.recover(slot);
        Ok(writer::of_this_thread(
            self.table.segment(),
            self.number,
            recover,
        )?)
    }

    /// What to do to a key, from its stored form.
    #[inline(always)]
    pub(super) fn writing<'k>(&self, key: &'k [u8]) -> Result<Writing<'_, 'k, K, V>, WriteError> {
        self.writable()?;
        let table = self.table();
        match self.target(key) {
            Some(target) => Ok(Writing {
                map: self,
                table,
                target,
            }),
            None => Err(WriteError::KeyTooLong {
                bytes: key.len(),
                limit: table.shape().key_bytes,
            }),
        }
    }

    /// The stored form of a value that fits.
    #[inline(always)]
    pub(super) fn stored<'v>(&self, value: &'v V::Item) -> Result<V::Encoded<'v>, WriteError> {
        let limit = self.table().shape().value_bytes;
        let stored = encoded::<V>(value, "value")?;
        let bytes = stored.as_ref();
        match fits::<V>(bytes, limit) {
            true => Ok(stored),
            false => Err(WriteError::ValueTooLong {
                bytes: bytes.len(),
                limit,
            }),
        }
    }

    /// Sets the value of `key`, and returns the previous one, if there was one.
    ///
    /// [`set`](Self::set) does the same without copying the previous value, which for large values is
    /// most of the work.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    #[doc(alias = "put")]
    #[doc(alias = "upsert")]
    #[inline]
    pub fn insert(&self, key: &K::Item, value: &V::Item) -> Result<Option<V::Owned>, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        let stored = self.stored(value)?;
        let bytes = stored.as_ref();
        loop {
            if let Some((at, previous)) = writing.read()? {
                if writing.replace(at, bytes)?.is_some() {
                    return Ok(Some(previous));
                }
            } else if writing.insert(bytes)? {
                return Ok(None);
            }
        }
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    #[inline]
    pub fn set(&self, key: &K::Item, value: &V::Item) -> Result<(), WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        let stored = self.stored(value)?;
        let bytes = stored.as_ref();
        loop {
            let found = writing.table.find_live(&writing.target, |_| ());
            let done = match found {
                Some((at, ())) => writing.replace(at, bytes)?.is_some(),
                None => writing.insert(bytes)?,
            };
            if done {
                return Ok(());
            }
        }
    }

    /// Inserts `key` if it is not there, and tells whether it did.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// let seen = SharedHashMap::<str, ()>::anonymous(10)?;       // a set
    /// assert!(seen.try_insert("a", &())?);
    /// assert!(!seen.try_insert("a", &())?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "insert_if_absent")]
    #[inline]
    pub fn try_insert(&self, key: &K::Item, value: &V::Item) -> Result<bool, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        let stored = self.stored(value)?;
        let bytes = stored.as_ref();
        // Looked for first: it takes a cell to try.
        match writing.table.find(&writing.target, |_| ()) {
            Some(_) => Ok(false),
            None => writing.insert(bytes),
        }
    }

    /// The value of `key`; if it is not there, what `value` returns is inserted and returned.
    ///
    /// `value` is called at most once. If another process inserts the key meanwhile, its value is what is
    /// returned, and ours is dropped. If `value` panics, nothing is changed.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    pub fn get_or_insert_with(
        &self,
        key: &K::Item,
        value: impl FnOnce() -> V::Owned,
    ) -> Result<V::Owned, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        if let Some((_, found)) = writing.read()? {
            return Ok(found);
        }
        let new = value();
        loop {
            if writing.insert(self.stored(new.borrow())?.as_ref())? {
                return Ok(new);
            }
            if let Some((_, found)) = writing.read()? {
                return Ok(found);
            }
        }
    }

    /// Sets the value of `key` to `new` if it is `current`: then `Ok(Ok(()))`, else `Ok(Err(found))` with
    /// the value that is there instead, or `None` without one, and nothing is changed. Values of any size
    /// are compared, by their stored bytes.
    ///
    /// # Errors
    /// The outer ones are [`WriteError`]s; the map is as it was before.
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// let states = SharedHashMap::<u64, str>::anonymous(10)?;
    /// states.insert(&1, "ready")?;
    /// assert_eq!(states.compare_exchange(&1, "ready", "taken")?, Ok(()));
    /// assert_eq!(states.compare_exchange(&1, "ready", "taken")?, Err(Some("taken".into())));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "cas")]
    pub fn compare_exchange(
        &self,
        key: &K::Item,
        current: &V::Item,
        new: &V::Item,
    ) -> Result<Result<(), Option<V::Owned>>, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        let (current, new) = (encoded::<V>(current, "value")?, self.stored(new)?);
        let (current, new) = (current.as_ref(), new.as_ref());
        loop {
            let mut image = V::Image::default();
            let found = writing.table.find_live(&writing.target, |value| {
                let is_current = value.equal(current);
                if !is_current {
                    copy::<V>(value, &mut image);
                }
                is_current
            });
            match found {
                None => return Ok(Err(None)),
                Some((_, false)) => return Ok(Err(Some(V::decode(image).map_err(undecodable)?))),
                Some((at, true)) => {
                    if writing.replace(at, new)?.is_some() {
                        return Ok(Ok(()));
                    }
                }
            }
        }
    }

    /// Sets the value of `key` to what `f` makes of the present one, `None` if it is not there; returns the
    /// new value.
    ///
    /// `f` is called again whenever another operation changed the value meanwhile. If it panics, nothing is
    /// changed. Lock-free.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// let notes = SharedHashMap::<str, str>::anonymous(10)?;
    /// for word in ["to", "be", "or"] {
    ///     notes.update("all", |old| match old {
    ///         None => word.to_owned(),
    ///         Some(old) => old + " " + word,
    ///     })?;
    /// }
    /// assert_eq!(notes.get("all")?.as_deref(), Some("to be or"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn update(
        &self,
        key: &K::Item,
        mut f: impl FnMut(Option<V::Owned>) -> V::Owned,
    ) -> Result<V::Owned, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        loop {
            let (at, old) = writing.read()?.unzip();
            let new = f(old);
            let stored = self.stored(new.borrow())?;
            let bytes = stored.as_ref();
            let done = match at {
                Some(at) => writing.replace(at, bytes)?.is_some(),
                None => writing.insert(bytes)?,
            };
            drop(stored);
            if done {
                return Ok(new);
            }
        }
    }

    /// Replaces the value of `key` by `f` of it, unless that is `None`: then `Ok(Ok(previous))`, else
    /// `Ok(Err(found))` and nothing is changed; `Ok(Err(None))` if it is not there.
    ///
    /// `f` is called again whenever another operation changed the value meanwhile. If it panics, nothing is
    /// changed. Lock-free.
    ///
    /// # Errors
    /// The outer ones are [`WriteError`]s; the map is as it was before.
    pub fn fetch_update(
        &self,
        key: &K::Item,
        mut f: impl FnMut(&V::Item) -> Option<V::Owned>,
    ) -> Result<Result<V::Owned, Option<V::Owned>>, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = self.writing(key.as_ref())?;
        while let Some((at, old)) = writing.read()? {
            let Some(new) = f(old.borrow()) else {
                return Ok(Err(Some(old)));
            };
            let replaced = writing.replace(at, self.stored(new.borrow())?.as_ref())?;
            if replaced.is_some() {
                return Ok(Ok(old));
            }
        }
        Ok(Err(None))
    }

    /// Removes `key`, and returns its value, if it was there. Its room is free at once.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    #[inline]
    pub fn remove(&self, key: &K::Item) -> Result<Option<V::Owned>, WriteError> {
        self.remove_if(key, |_| true)
    }

    /// Removes `key` if `condition` holds for its value, and returns that.
    ///
    /// `condition` is called again whenever another operation changed the value meanwhile.
    ///
    /// # Errors
    /// [`WriteError`]; the map is as it was before.
    #[inline]
    pub fn remove_if(
        &self,
        key: &K::Item,
        mut condition: impl FnMut(&V::Item) -> bool,
    ) -> Result<Option<V::Owned>, WriteError> {
        let key = encoded::<K>(key, "key")?;
        let writing = match self.writing(key.as_ref()) {
            // It is not there, and that is what a removal is for.
            Err(WriteError::KeyTooLong { .. }) => return Ok(None),
            writing => writing?,
        };
        while let Some((at, value)) = writing.read()? {
            if !condition(value.borrow()) {
                return Ok(None);
            }
            if writing.remove(at)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Removes the keys for which `keep` is `false`, one after the other.
    ///
    /// A key that is there all the time is asked about, and again if its value changes before it is
    /// removed; one that comes meanwhile may be left out. Keys and values that cannot be decoded stop it.
    ///
    /// # Errors
    /// [`WriteError`]; what was removed before that stays removed.
    pub fn retain(
        &self,
        mut keep: impl FnMut(&K::Item, &V::Item) -> bool,
    ) -> Result<(), WriteError> {
        self.writable()?;
        let mut entries = super::iter::Raw::new(self);
        while let Some(raw) = entries.next() {
            let writing = self.writing(&raw.key)?;
            let key = super::iter::decode_key::<K>(&raw.key).map_err(undecodable)?;
            // As it was seen, or as it is by now.
            let mut found = Some((raw.at, V::decode(raw.value).map_err(undecodable)?));
            while let Some((at, value)) = found {
                if keep(key.borrow(), value.borrow()) || writing.remove(at)? {
                    break;
                }
                found = writing.read()?;
            }
        }
        Ok(())
    }

    /// Removes all keys, one after the other; one that comes meanwhile may stay. (There is no instant
    /// when the map is empty, unless nobody else changes it.)
    ///
    /// # Errors
    /// [`WriteError`]; what was removed before that stays removed.
    pub fn clear(&self) -> Result<(), WriteError> {
        self.writable()?;
        let mut keys = super::iter::Raw::new(self);
        while let Some(raw) = keys.next() {
            let writing = self.writing(&raw.key)?;
            let mut found = Some(raw.at);
            while let Some(at) = found {
                if writing.remove(at)? {
                    break;
                }
                let now = writing.table.find_live(&writing.target, |_| ());
                found = now.map(|(at, ())| at);
            }
        }
        Ok(())
    }
}
