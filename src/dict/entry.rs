//! A key resolved once.

use std::fmt;
use std::marker::PhantomData;

use bytemuck::Pod;

use super::{value_of, word_of};
use crate::raw::value::{Value, add_up_to, sub_down_to};
use crate::segment::{Pinned, Segment, View};
use crate::sync::Word;

/// The value of one key of an [`AtomicDict`](crate::AtomicDict), as good as a `&AtomicU64` that
/// several processes share.
///
/// It keeps the segment attached, so it may outlive the dictionary that it comes from. A slot belongs
/// to its key for the life of the segment, so an entry never goes stale, and no operation on it can
/// fail. Every operation is sequentially consistent, and one that changes the value wakes those who wait
/// for it. `load`, `store`, `swap`, `fetch_add`,
/// `fetch_sub` and `compare_exchange` are one instruction and so wait-free (x86-64, and AArch64 with
/// LSE); the others are lock-free loops, as the table at [`AtomicDict`](crate::AtomicDict) says.
///
/// ```
/// use forkmap::AtomicDict;
///
/// let dict = AtomicDict::anonymous(100)?;
/// let requests = dict.entry(1)?;
/// drop(dict);
/// requests.fetch_add(1);
/// assert_eq!(requests.load(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Entry<V = u64> {
    // Not a `Value`: its bell is found by way of the segment, and an entry stays as small as can be.
    word: Pinned<WordView>,
    value: PhantomData<fn() -> V>,
}

pub(super) enum WordView {}

impl View for WordView {
    type Of<'a> = &'a Word;
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self {
            word: self.word.clone(),
            value: PhantomData,
        }
    }
}

impl<V: Pod + fmt::Debug> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.load()).finish()
    }
}

/// Operations on values of any type.
impl<V: Pod> Entry<V> {
    /// The word must be mapped for writing.
    pub(super) fn new(word: Pinned<WordView>) -> Self {
        Self {
            word,
            value: PhantomData,
        }
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> Value<'_> {
        let word = *self.word.get();
        Value::new(word, self.segment().bells().of(word))
    }

    #[inline(always)]
    pub(crate) fn segment(&self) -> &Segment {
        self.word.segment()
    }

    /// The value.
    #[inline]
    pub fn load(&self) -> V {
        value_of(self.value().load())
    }

    /// Sets the value.
    #[inline]
    pub fn store(&self, value: V) {
        self.value().store(word_of(value));
    }

    /// Sets the value and returns the previous one.
    #[inline]
    pub fn swap(&self, value: V) -> V {
        value_of(self.value().swap(word_of(value)))
    }

    /// Sets the value to `new` if it is `current`, compared by their bits.
    ///
    /// # Errors
    /// The value found, if it is another one; nothing is changed then.
    #[doc(alias = "cas")]
    #[inline]
    pub fn compare_exchange(&self, current: V, new: V) -> Result<V, V> {
        let done = self
            .value()
            .compare_exchange(word_of(current), word_of(new));
        done.map(value_of).map_err(value_of)
    }

    /// Replaces the value by `f` of it, and returns the previous one. Calls `f` again whenever
    /// another operation changed the value meanwhile. If `f` panics, nothing is changed. Lock-free.
    ///
    /// # Errors
    /// The value found, if `f` gives `None` for it; nothing is changed then.
    #[inline]
    pub fn fetch_update(&self, mut f: impl FnMut(V) -> Option<V>) -> Result<V, V> {
        let done = self
            .value()
            .fetch_update(|word| f(value_of(word)).map(word_of));
        done.map(value_of).map_err(value_of)
    }
}

/// Integer operations. All wrap around and return the previous value.
impl Entry<u64> {
    /// Adds `n`, and returns the previous value.
    #[doc(alias = "add")]
    #[doc(alias = "incr")]
    #[inline]
    pub fn fetch_add(&self, n: u64) -> u64 {
        self.value().fetch_add(n)
    }

    /// Subtracts `n`, and returns the previous value.
    #[doc(alias = "sub")]
    #[inline]
    pub fn fetch_sub(&self, n: u64) -> u64 {
        self.value().fetch_sub(n)
    }

    /// Clears the bits that are not in `bits`, and returns the previous value.
    #[doc(alias = "band")]
    #[inline]
    pub fn fetch_and(&self, bits: u64) -> u64 {
        self.value().fetch_and(bits)
    }

    /// Sets `bits`, and returns the previous value.
    #[doc(alias = "bor")]
    #[inline]
    pub fn fetch_or(&self, bits: u64) -> u64 {
        self.value().fetch_or(bits)
    }

    /// Flips `bits`, and returns the previous value.
    #[doc(alias = "bxor")]
    #[inline]
    pub fn fetch_xor(&self, bits: u64) -> u64 {
        self.value().fetch_xor(bits)
    }

    /// Lowers the value to `value` if it is above, and returns the previous one.
    #[inline]
    pub fn fetch_min(&self, value: u64) -> u64 {
        self.value().fetch_min(value)
    }

    /// Raises the value to `value` if it is below, and returns the previous one.
    #[inline]
    pub fn fetch_max(&self, value: u64) -> u64 {
        self.value().fetch_max(value)
    }

    /// Adds `n` if the sum is at most `ceiling`, and returns the previous value. Lock-free.
    ///
    /// # Errors
    /// The value found, if the sum would be above `ceiling`; nothing is changed then.
    #[inline]
    pub fn fetch_add_bounded(&self, n: u64, ceiling: u64) -> Result<u64, u64> {
        self.fetch_update(|value| add_up_to(value, n, ceiling))
    }

    /// Subtracts `n` if the rest is at least `floor`, and returns the previous value. Lock-free.
    ///
    /// # Errors
    /// The value found, if the rest would be below `floor`; nothing is changed then.
    #[inline]
    pub fn fetch_sub_bounded(&self, n: u64, floor: u64) -> Result<u64, u64> {
        self.fetch_update(|value| sub_down_to(value, n, floor))
    }
}

/// Integer operations on a signed view. All but the bounded ones wrap around; all return the previous
/// value.
impl Entry<i64> {
    /// Adds `n`, and returns the previous value.
    #[doc(alias = "add")]
    #[doc(alias = "incr")]
    #[inline]
    pub fn fetch_add(&self, n: i64) -> i64 {
        value_of(self.value().fetch_add(word_of(n)))
    }

    /// Subtracts `n`, and returns the previous value.
    #[doc(alias = "sub")]
    #[inline]
    pub fn fetch_sub(&self, n: i64) -> i64 {
        value_of(self.value().fetch_sub(word_of(n)))
    }

    /// Lowers the value to `value` if it is above, and returns the previous one. Lock-free.
    #[inline]
    pub fn fetch_min(&self, value: i64) -> i64 {
        self.fetch_update(|found| (value < found).then_some(value))
            .unwrap_or_else(|found| found)
    }

    /// Raises the value to `value` if it is below, and returns the previous one. Lock-free.
    #[inline]
    pub fn fetch_max(&self, value: i64) -> i64 {
        self.fetch_update(|found| (value > found).then_some(value))
            .unwrap_or_else(|found| found)
    }

    /// Adds `n` if the sum is at most `ceiling`, and returns the previous value. Lock-free.
    ///
    /// # Errors
    /// The value found, if that would be out of bounds; nothing is changed then.
    #[inline]
    pub fn fetch_add_bounded(&self, n: i64, ceiling: i64) -> Result<i64, i64> {
        self.fetch_update(|value| value.checked_add(n).filter(|&sum| sum <= ceiling))
    }

    /// Subtracts `n` if the rest is at least `floor`, and returns the previous value. Lock-free.
    ///
    /// # Errors
    /// The value found, if that would be out of bounds; nothing is changed then.
    #[inline]
    pub fn fetch_sub_bounded(&self, n: i64, floor: i64) -> Result<i64, i64> {
        self.fetch_update(|value| value.checked_sub(n).filter(|&rest| rest >= floor))
    }
}
