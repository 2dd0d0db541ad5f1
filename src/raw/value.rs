//! One word as a value that processes share.

use super::bell::Bell;
use crate::sync::{Ordering::SeqCst, Word};

/// A word with the operations of an atomic integer, all of them sequentially consistent.
///
/// SeqCst throughout, for one reason: the words of a dictionary are used together (a flag and what
/// it guards, two parties that each raise a hand and look at the other's), and only a single total
/// order makes that come out right without the caller having to think of fences. On x86-64 the
/// read-modify-writes cost the same under every ordering, and so do loads.
///
/// Every operation that changes the word rings its bell. (Locks do their own waking, by way of
/// [`word`](Self::word).)
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    word: &'a Word,
    bell: Bell<'a>,
}

impl<'a> Value<'a> {
    /// The word must be mapped for writing.
    #[inline]
    pub fn new(word: &'a Word, bell: Bell<'a>) -> Self {
        Self { word, bell }
    }

    /// The bell that rings when it changes.
    #[inline]
    pub fn bell(self) -> Bell<'a> {
        self.bell
    }

    /// The word itself, for protocols that do their own waking.
    #[inline]
    pub fn word(self) -> &'a Word {
        self.word
    }

    /// Rings, and passes on what the change returned.
    #[inline(always)]
    fn rung<T>(self, result: T) -> T {
        self.bell.ring();
        result
    }

    // SYNC(value): SeqCst on every operation below: a load that reads a value synchronizes with the
    // operation that wrote it, and all of them stand in one total order.

    #[inline]
    pub fn load(self) -> u64 {
        self.word.load(SeqCst) // SYNC(value)
    }

    #[inline]
    pub fn store(self, value: u64) {
        self.word.store(value, SeqCst); // SYNC(value)
        self.bell.ring();
    }

    #[inline]
    pub fn swap(self, value: u64) -> u64 {
        self.rung(self.word.swap(value, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn compare_exchange(self, current: u64, new: u64) -> Result<u64, u64> {
        let done = self.word.compare_exchange(current, new, SeqCst, SeqCst); // SYNC(value)
        done.map(|previous| self.rung(previous))
    }

    #[inline]
    pub fn fetch_add(self, n: u64) -> u64 {
        self.rung(self.word.fetch_add(n, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_sub(self, n: u64) -> u64 {
        self.rung(self.word.fetch_sub(n, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_and(self, bits: u64) -> u64 {
        self.rung(self.word.fetch_and(bits, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_or(self, bits: u64) -> u64 {
        self.rung(self.word.fetch_or(bits, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_xor(self, bits: u64) -> u64 {
        self.rung(self.word.fetch_xor(bits, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_min(self, value: u64) -> u64 {
        self.rung(self.word.fetch_min(value, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_max(self, value: u64) -> u64 {
        self.rung(self.word.fetch_max(value, SeqCst)) // SYNC(value)
    }

    #[inline]
    pub fn fetch_update(self, f: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        let done = self.word.fetch_update(SeqCst, SeqCst, f); // SYNC(value)
        done.map(|previous| self.rung(previous))
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
