//! Waiting until a key changes.

use std::time::Duration;

use super::{SharedHashMap, copy, unreadable};
use crate::error::ReadError;
use crate::raw::bell;
use crate::stored::Stored;
use crate::sync::Access;

/// Why waiting ended without a change to tell of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The key was still as it was.
    #[error(
        "the key did not change in time; wait longer, or find out whether who was to change it lives"
    )]
    TimedOut,
    /// The key cannot be encoded, or its value not be decoded.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    /// Waits while the value of `key` is `seen` (`None`: while the key is not there), and returns the
    /// other one. Compared by the stored bytes.
    ///
    /// Every operation that changes a key wakes those who wait for it; nobody needs to notify. No wake-up
    /// is lost; of several changes in a row the last one may be all that is seen, and a change back to
    /// `seen` none at all. If whoever made the change is killed before it has woken anybody, the waiter
    /// looks by itself after 50 ms; a handle opened with `read_only(true)` looks every 5 ms.
    ///
    /// Blocking. For no limit, say [`Duration::MAX`].
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// # use std::time::Duration;
    /// let map = SharedHashMap::<str, u64>::anonymous(10)?;
    /// let inserter = map.clone();
    /// let thread = std::thread::spawn(move || inserter.insert("job", &7).unwrap());
    /// assert_eq!(map.wait_for_change("job", None, Duration::from_secs(5))?, Some(7));
    /// # thread.join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for_change(
        &self,
        key: &K::Item,
        seen: Option<&V::Item>,
        timeout: Duration,
    ) -> Result<Option<V::Owned>, WaitError> {
        let unencodable = |source| ReadError::Encode { source };
        let seen = seen.map(V::encode).transpose().map_err(unencodable)?;
        let seen = seen.as_ref().map(AsRef::as_ref);
        let key = K::encode(key).map_err(unencodable)?;
        let Some(target) = self.target(key.as_ref()) else {
            if seen.is_some() {
                return Ok(None);
            }
            // It cannot come; but the caller asked for patience, not for an answer at once.
            std::thread::sleep(timeout);
            return Err(WaitError::TimedOut);
        };
        let table = self.table();
        let mut look = || {
            let mut image = V::Image::default();
            let found = table.find(&target, |value| {
                let is_seen = seen.is_some_and(|seen| value.equal(seen));
                if !is_seen {
                    copy::<V>(value, &mut image);
                }
                is_seen
            });
            match found {
                None => seen.is_some().then_some(None),
                Some((_, true)) => None,
                Some((_, false)) => Some(Some(image)),
            }
        };
        let deadline = bell::after(timeout);
        let waited = bell::spin(&mut look).or_else(|| match table.access() {
            Access::ReadWrite => table.bell(&target).wait(look, deadline),
            Access::ReadOnly => table.bell(&target).poll(look, deadline),
        });
        let changed = waited.ok_or(WaitError::TimedOut)?;
        Ok(changed.map(V::decode).transpose().map_err(unreadable)?)
    }
}
