//! Arithmetic by key.

use super::{AtomicDict, value_of, word_of};
use crate::error::InsertError;
use crate::raw::value::{add_up_to, sub_down_to};

/// Integer operations by key. All wrap around as those of [`std::sync::atomic::AtomicU64`] do,
/// return the previous value, and fail as [`store`](Self::store) does.
impl AtomicDict<u64> {
    /// Adds `n`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "add")]
    #[doc(alias = "incr")]
    #[inline]
    pub fn fetch_add(&self, key: u64, n: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|value| value.fetch_add(n))
    }

    /// Subtracts `n`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "sub")]
    #[inline]
    pub fn fetch_sub(&self, key: u64, n: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|value| value.fetch_sub(n))
    }

    /// Clears the bits that are not in `bits`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "band")]
    #[inline]
    pub fn fetch_and(&self, key: u64, bits: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|value| value.fetch_and(bits))
    }

    /// Sets `bits`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "bor")]
    #[inline]
    pub fn fetch_or(&self, key: u64, bits: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|value| value.fetch_or(bits))
    }

    /// Flips `bits`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "bxor")]
    #[inline]
    pub fn fetch_xor(&self, key: u64, bits: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|value| value.fetch_xor(bits))
    }

    /// Lowers the value to `value` if it is above, and returns the previous one.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn fetch_min(&self, key: u64, value: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|slot| slot.fetch_min(value))
    }

    /// Raises the value to `value` if it is below, and returns the previous one.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn fetch_max(&self, key: u64, value: u64) -> Result<u64, InsertError> {
        self.claim(key).map(|slot| slot.fetch_max(value))
    }

    /// Adds `n` if the sum is at most `ceiling`: then `Ok(Ok(previous))`, else `Ok(Err(found))` and
    /// nothing is changed. Does not wrap around.
    ///
    /// For rate limits and permits: of any number of processes that add 1 up to 100, exactly 100
    /// succeed.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    ///
    /// ```
    /// # use forkmap::AtomicDict;
    /// let calls = AtomicDict::anonymous(10)?;
    /// let client = 5;
    /// assert_eq!(calls.fetch_add_bounded(client, 3, 4)?, Ok(0));
    /// assert_eq!(calls.fetch_add_bounded(client, 2, 4)?, Err(3));    // 3 + 2 is above 4
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn fetch_add_bounded(
        &self,
        key: u64,
        n: u64,
        ceiling: u64,
    ) -> Result<Result<u64, u64>, InsertError> {
        self.fetch_update(key, |value| add_up_to(value, n, ceiling))
    }

    /// Subtracts `n` if the rest is at least `floor`: then `Ok(Ok(previous))`, else `Ok(Err(found))`
    /// and nothing is changed. Does not wrap around.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    #[inline]
    pub fn fetch_sub_bounded(
        &self,
        key: u64,
        n: u64,
        floor: u64,
    ) -> Result<Result<u64, u64>, InsertError> {
        self.fetch_update(key, |value| sub_down_to(value, n, floor))
    }
}

/// Integer operations by key on a signed view. All but the bounded ones wrap around; all return the
/// previous value, and fail as [`store`](Self::store) does.
impl AtomicDict<i64> {
    /// Adds `n`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "add")]
    #[doc(alias = "incr")]
    #[inline]
    pub fn fetch_add(&self, key: u64, n: i64) -> Result<i64, InsertError> {
        self.claim(key)
            .map(|value| value_of(value.fetch_add(word_of(n))))
    }

    /// Subtracts `n`, and returns the previous value.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[doc(alias = "sub")]
    #[inline]
    pub fn fetch_sub(&self, key: u64, n: i64) -> Result<i64, InsertError> {
        self.claim(key)
            .map(|value| value_of(value.fetch_sub(word_of(n))))
    }

    /// Lowers the value to `value` if it is above, and returns the previous one. Lock-free.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn fetch_min(&self, key: u64, value: i64) -> Result<i64, InsertError> {
        Ok(self.entry(key)?.fetch_min(value))
    }

    /// Raises the value to `value` if it is below, and returns the previous one. Lock-free.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn fetch_max(&self, key: u64, value: i64) -> Result<i64, InsertError> {
        Ok(self.entry(key)?.fetch_max(value))
    }

    /// Adds `n` if the sum is at most `ceiling`: then `Ok(Ok(previous))`, else `Ok(Err(found))` and
    /// nothing is changed.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    #[inline]
    pub fn fetch_add_bounded(
        &self,
        key: u64,
        n: i64,
        ceiling: i64,
    ) -> Result<Result<i64, i64>, InsertError> {
        self.fetch_update(key, |value| {
            value.checked_add(n).filter(|&sum| sum <= ceiling)
        })
    }

    /// Subtracts `n` if the rest is at least `floor`: then `Ok(Ok(previous))`, else `Ok(Err(found))`
    /// and nothing is changed.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    #[inline]
    pub fn fetch_sub_bounded(
        &self,
        key: u64,
        n: i64,
        floor: i64,
    ) -> Result<Result<i64, i64>, InsertError> {
        self.fetch_update(key, |value| {
            value.checked_sub(n).filter(|&rest| rest >= floor)
        })
    }
}
