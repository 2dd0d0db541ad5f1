//! One word as a value that processes share.

use crate::sync::{Ordering::SeqCst, Word};

/// A word with the operations of an atomic integer, all of them sequentially consistent.
///
/// SeqCst throughout, for one reason: the words of a dictionary are used together (a flag and what
/// it guards, two parties that each raise a hand and look at the other's), and only a single total
/// order makes that come out right without the caller having to think of fences. On x86-64 the
/// read-modify-writes cost the same under every ordering, and so do loads.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a>(&'a Word);

impl<'a> Value<'a> {
    /// The word must be mapped for writing.
    #[inline]
    pub fn new(word: &'a Word) -> Self {
        Self(word)
    }

    // SYNC(value): SeqCst on every operation below: a load that reads a value synchronizes with the
    // operation that wrote it, and all of them stand in one total order.

    #[inline]
    pub fn load(self) -> u64 {
        self.0.load(SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn store(self, value: u64) {
        self.0.store(value, SeqCst); // SYNC(value)
    }

    #[inline]
    pub fn swap(self, value: u64) -> u64 {
        self.0.swap(value, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn compare_exchange(self, current: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(current, new, SeqCst, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_add(self, n: u64) -> u64 {
        self.0.fetch_add(n, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_sub(self, n: u64) -> u64 {
        self.0.fetch_sub(n, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_and(self, bits: u64) -> u64 {
        self.0.fetch_and(bits, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_or(self, bits: u64) -> u64 {
        self.0.fetch_or(bits, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_xor(self, bits: u64) -> u64 {
        self.0.fetch_xor(bits, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_min(self, value: u64) -> u64 {
        self.0.fetch_min(value, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_max(self, value: u64) -> u64 {
        self.0.fetch_max(value, SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn fetch_update(self, f: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.0.fetch_update(SeqCst, SeqCst, f) // SYNC(value)
    }
}

/// The step of a bounded addition: `value + n`, unless that is above `ceiling`.
#[inline]
pub fn add_up_to(value: u64, n: u64, ceiling: u64) -> Option<u64> {
    value.checked_add(n).filter(|&sum| sum <= ceiling)
}

/// The step of a bounded subtraction: `value - n`, unless that is below `floor`.
#[inline]
pub fn sub_down_to(value: u64, n: u64, floor: u64) -> Option<u64> {
    value.checked_sub(n).filter(|&rest| rest >= floor)
}
