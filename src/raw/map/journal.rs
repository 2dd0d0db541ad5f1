//! Journals: what each writer is about to do, and the cells that it has in hand.
//!
//! ```text
//! op | old | spare | fresh | 0 0 0 0
//! ```
//!
//! A process that is killed stops between two instructions, so whoever reads its journal afterwards
//! reads what a prefix of its program has stored. All that this takes is that the compiler keeps the
//! order of the stores: they are Release. Nobody reads the journal of the living to decide anything but
//! whether one of them has a dead writer's cell in hand ([`recover`](super::recover)).

use super::word::{Bucket, Op, Publication};
use crate::sync::{Access, Ordering::Release, Word, load};

/// Number of words of a journal: a cache line, which no two writers share.
pub const WORDS: usize = 8;

const PRESENT: u64 = 1 << 63;

/// The journal of one writer.
#[derive(Debug, Clone, Copy)]
pub struct Journal<'a> {
    words: &'a [Word; WORDS],
    access: Access,
    /// Its spare cell in a new map, which stands there as 0.
    first_spare: Publication,
}

impl<'a> Journal<'a> {
    pub fn new(words: &'a [Word; WORDS], first_spare: Publication, access: Access) -> Self {
        Self {
            words,
            access,
            first_spare,
        }
    }

    #[inline(always)]
    fn set(&self, word: usize, value: u64) {
        // SYNC(journal): Release, pairs with the loads of `get`: who reads it sees what the writer did
        // before it.
        self.words[word].store(value, Release);
    }

    #[inline(always)]
    fn get(&self, word: usize) -> u64 {
        // SYNC(journal): SeqCst on pages that we may write; Acquire would do, but these loads stand between
        // SeqCst ones of other words whose order decides.
        load(&self.words[word], self.access)
    }

    /// What it is about to do.
    pub fn op(&self) -> Op {
        Op::from_word(self.get(0))
    }

    #[inline(always)]
    pub fn begin(&self, op: Op) {
        self.set(0, op.word());
    }

    #[inline(always)]
    pub fn end(&self) {
        self.set(0, Op::None.word());
    }

    /// The word that it means to take out of a bucket: one that stood there. (Or the last one that it meant
    /// to, if it is about something else.)
    pub fn old(&self) -> Bucket {
        Bucket(self.get(1))
    }

    #[inline(always)]
    pub fn set_old(&self, old: Bucket) {
        self.set(1, old.0);
    }

    /// The cell that it has always in hand, and the content that it gave it last.
    #[inline(always)]
    pub fn spare(&self) -> Publication {
        match self.get(2) {
            0 => self.first_spare,
            spare => Publication::from_word(spare),
        }
    }

    #[inline(always)]
    pub fn set_spare(&self, spare: Publication) {
        self.set(2, PRESENT | spare.0);
    }

    /// The cell that it is taking out of the pool for a new key.
    pub fn fresh(&self) -> Option<Publication> {
        let fresh = self.get(3);
        (fresh & PRESENT != 0).then_some(Publication::from_word(fresh))
    }

    #[inline(always)]
    pub fn set_fresh(&self, fresh: Option<Publication>) {
        self.set(3, fresh.map_or(0, |fresh| PRESENT | fresh.0));
    }
}
