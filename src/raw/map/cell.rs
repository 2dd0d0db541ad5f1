//! Cells: where keys and values stand, word by word, while others may be changing them.
//!
//! ```text
//! owner | key words | value words
//! key:    one word, if keys have eight bytes;  else  hash:48 | len:16 | bytes
//! value:  bytes;  with their number in a word before, if values vary in length
//! ```

use crate::raw::bytes::{Bytes, store};
use crate::raw::hash::{hash_bytes, mix};
use crate::sync::{
    Ordering::{Relaxed, Release},
    Word, fence,
};

/// Longest key of varying length in bytes: what the word before it can count.
pub const LONGEST_KEY: usize = 0xFFFF;

/// A key as it stands in a cell.
#[derive(Debug, Clone, Copy)]
pub enum Key<'k> {
    /// One of eight bytes.
    Word(u64),
    /// Any other, at most [`LONGEST_KEY`] bytes.
    Bytes {
        /// The upper 48 bits of its hash, and its length.
        first: u64,
        bytes: &'k [u8],
    },
}

impl<'k> Key<'k> {
    /// The key of these bytes in a map whose keys have eight of them, or not.
    #[inline(always)]
    pub fn new(bytes: &'k [u8], seed: u64, one_word: bool) -> Self {
        match bytes.try_into() {
            Ok(word) if one_word => Self::Word(u64::from_le_bytes(word)),
            _ => Self::Bytes {
                first: hash_bytes(bytes, seed) & !(LONGEST_KEY as u64) | bytes.len() as u64,
                bytes,
            },
        }
    }

    /// The hash that places it.
    #[inline(always)]
    pub fn hash(self, seed: u64) -> u64 {
        match self {
            Self::Word(word) => mix(word, seed),
            Self::Bytes { first, .. } => first & !(LONGEST_KEY as u64),
        }
    }
}

/// How cells are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellShape {
    /// Whether keys are one word; else a word comes before their bytes.
    pub one_word_keys: bool,
    /// Most bytes of a key.
    pub key_bytes: usize,
    /// Whether values vary in length; then a word comes before their bytes.
    pub varying_values: bool,
    /// Bytes of a value, or most of them.
    pub value_bytes: usize,
}

impl CellShape {
    #[inline(always)]
    fn key_words(&self) -> usize {
        match self.one_word_keys {
            true => 1,
            false => 1 + self.key_bytes.div_ceil(8),
        }
    }

    /// Words of a cell.
    #[inline(always)]
    pub fn words(&self) -> usize {
        1 + self.key_words() + usize::from(self.varying_values) + self.value_bytes.div_ceil(8)
    }
}

/// One cell.
#[derive(Debug, Clone, Copy)]
pub struct Cell<'a> {
    words: &'a [Word],
    shape: CellShape,
}

impl<'a> Cell<'a> {
    /// A view of exactly the words of a cell of this shape.
    #[inline(always)]
    pub fn new(words: &'a [Word], shape: CellShape) -> Self {
        Self { words, shape }
    }

    /// The word that says whose it is.
    #[inline(always)]
    pub fn owner(self) -> &'a Word {
        &self.words[0]
    }

    /// Puts a key and a value into it, which become content number `owner.seq()`. Only by who has it
    /// in hand, and with room for both.
    #[inline(always)]
    pub fn fill(self, header: u64, key: Key<'_>, value: &[u8]) {
        // SYNC(refill): Release keeps it behind the journal's stores; and the fence pairs with the one
        // of a reader in `Table::inspect`: who has read a word of the new content sees that the cell
        // has it, and that the bucket has let go of the old.
        self.owner().store(header, Release);
        fence(Release);
        let words = match key {
            Key::Word(word) => {
                self.words[1].store(word, Relaxed);
                &self.words[2..]
            }
            Key::Bytes { first, bytes } => {
                self.words[1].store(first, Relaxed);
                store(&self.words[2..], bytes);
                &self.words[1 + self.shape.key_words()..]
            }
        };
        // Relaxed, all of them: the exchange that publishes the cell releases them.
        if self.shape.varying_values {
            words[0].store(value.len() as u64, Relaxed);
            store(&words[1..], value);
        } else {
            store(words, value);
        }
    }

    /// Whether it holds `key`. Like all that is read of a cell, to be trusted only once the bucket was
    /// read again.
    #[inline(always)]
    pub fn has_key(self, key: Key<'_>) -> bool {
        let found = self.words[1].load(Relaxed);
        match key {
            Key::Word(word) => found == word,
            Key::Bytes { first, bytes } => {
                found == first && Bytes::new(&self.words[2..], bytes.len()).equal(bytes)
            }
        }
    }

    /// The hash that places its key.
    pub fn hash(self, seed: u64) -> u64 {
        let first = self.words[1].load(Relaxed);
        match self.shape.one_word_keys {
            true => mix(first, seed),
            false => first & !(LONGEST_KEY as u64),
        }
    }

    /// The bytes of its key.
    #[inline(always)]
    pub fn key(self) -> Bytes<'a> {
        match self.shape.one_word_keys {
            true => Bytes::new(&self.words[1..2], 8),
            false => {
                let len = self.words[1].load(Relaxed) as usize & LONGEST_KEY;
                Bytes::new(&self.words[2..], len.min(self.shape.key_bytes))
            }
        }
    }

    /// The bytes of its value.
    #[inline(always)]
    pub fn value(self) -> Bytes<'a> {
        let words = &self.words[1 + self.shape.key_words()..];
        let most = self.shape.value_bytes;
        match self.shape.varying_values {
            true => {
                let len = words[0].load(Relaxed);
                Bytes::new(
                    &words[1..],
                    usize::try_from(len).map_or(most, |len| len.min(most)),
                )
            }
            false => Bytes::new(words, most),
        }
    }
}
