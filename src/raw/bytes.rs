//! Bytes that stand in words: copied in and out word by word, while others may be changing them.

use std::collections::TryReserveError;

use crate::sync::{Ordering::Relaxed, Word};

// Each of the loops below goes over a slice whose length is that of the other side: where that is a type of
// fixed size, the compiler knows it, and no loop is left.

/// Bytes in a segment, to be copied out.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    words: &'a [Word],
    len: usize,
}

impl<'a> Bytes<'a> {
    /// The first `len` bytes of `words`, which must have as many.
    #[inline(always)]
    pub fn new(words: &'a [Word], len: usize) -> Self {
        Self { words, len }
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(self) -> usize {
        self.len
    }

    /// Copies the first of them into `out`, which is no longer than they are.
    #[inline(always)]
    pub fn copy_to(self, out: &mut [u8]) {
        let Some(words) = self.words.get(..out.len().div_ceil(8)) else {
            return;
        };
        let mut chunks = out.chunks_exact_mut(8);
        for (chunk, word) in chunks.by_ref().zip(words) {
            chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        let rest = chunks.into_remainder();
        if let (false, Some(word)) = (rest.is_empty(), words.last()) {
            rest.copy_from_slice(&word.load(Relaxed).to_le_bytes()[..rest.len()]);
        }
    }

    /// Appends them to `out`.
    pub fn append_to(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.len, 0);
        self.copy_to(&mut out[start..]);
    }

    /// The same, if there is memory for so many.
    pub fn try_append_to(self, out: &mut Vec<u8>) -> Result<(), TryReserveError> {
        out.try_reserve(self.len)?;
        self.append_to(out);
        Ok(())
    }

    /// Hands them out one after the other in pieces of some length.
    pub fn pieces(self) -> impl Iterator<Item = Self> {
        const WORDS: usize = 1 << 13;
        let pieces = self.words.chunks(WORDS).enumerate();
        pieces.map_while(move |(at, words)| {
            let left = self
                .len
                .checked_sub(at * WORDS * 8)
                .filter(|&left| left > 0)?;
            Some(Self::new(words, left.min(words.len() * 8)))
        })
    }

    /// Whether they are `bytes`.
    #[inline(always)]
    pub fn equal(self, bytes: &[u8]) -> bool {
        let words = self.words.get(..bytes.len().div_ceil(8));
        let Some(words) = words.filter(|_| self.len == bytes.len()) else {
            return false;
        };
        let mut chunks = bytes.chunks_exact(8);
        let mut pairs = chunks.by_ref().zip(words);
        if !pairs.all(|(chunk, word)| word.load(Relaxed) == word_of(chunk)) {
            return false;
        }
        let rest = chunks.remainder();
        let last = words.last().filter(|_| !rest.is_empty());
        last.is_none_or(|word| word.load(Relaxed) == word_of(rest))
    }
}

/// At most eight bytes as a word, zeros behind them.
#[inline(always)]
fn word_of(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Puts bytes into words, zeros behind them; nothing at all if there are too few words. Relaxed: whatever
/// publishes the words releases them.
#[inline(always)]
pub fn store(words: &[Word], bytes: &[u8]) {
    if let Some(words) = words.get(..bytes.len().div_ceil(8)) {
        let mut chunks = bytes.chunks_exact(8);
        for (chunk, word) in chunks.by_ref().zip(words) {
            word.store(word_of(chunk), Relaxed);
        }
        let rest = chunks.remainder();
        if let (false, Some(word)) = (rest.is_empty(), words.last()) {
            word.store(word_of(rest), Relaxed);
        }
    }
}
