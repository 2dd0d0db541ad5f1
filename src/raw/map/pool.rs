//! The pool: cells that belong to nobody, found by a hint of two levels.
//!
//! Whether a cell is free stands in the cell: its owner. The hint is a bit a cell, and above it a bit
//! for each 64 of them that are all taken; it is there to find the lowest free cell fast, so that what
//! lives lies close together however large the capacity is. It may be wrong, in two ways:
//!
//! * *clear for a cell that is taken*, as for those that the writers have in hand in a new map. Who tries
//!   that cell sees its owner, and goes on.
//! * *set for a cell that is free.* That would be a leak. Only somebody who is taking or giving back that
//!   very cell leaves this behind, by dying in between: it stands in its journal, and recovery clears the
//!   bit. A bit of the upper level has no journal; so before the pool is said to be empty, all of the
//!   lower one is looked through.

use super::Table;
use super::journal::Journal;
use super::word::{Owner, Publication};
use crate::sync::{
    Ordering::{Release, SeqCst},
    Word, load,
};

/// No cell is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl<'a, const LINE: usize> Table<'a, LINE> {
    #[inline(always)]
    pub(super) fn owner(&self, cell: usize) -> Option<Owner> {
        // SYNC(pool): SeqCst on pages that we may write, see `take_cell`.
        let word = load(self.cell(cell)?.owner(), self.access);
        Some(Owner(word ^ self.first_owner(cell)))
    }

    /// The word that says so in the segment.
    #[inline(always)]
    pub(super) fn owner_word(&self, cell: usize, owner: Owner) -> u64 {
        owner.0 ^ self.first_owner(cell)
    }

    /// Makes `to` the owner if it is `from`.
    pub(super) fn exchange_owner(&self, cell: usize, from: Owner, to: Owner) -> bool {
        let Some(word) = self.cell(cell).map(|found| found.owner()) else {
            return false;
        };
        let (from, to) = (self.owner_word(cell, from), self.owner_word(cell, to));
        // SYNC(pool): SeqCst, pairs with itself: who takes a cell comes after who let go of it, and after
        // all that was done with its content.
        word.compare_exchange(from, to, SeqCst, SeqCst).is_ok()
    }

    /// Takes the lowest free cell: it stands in the journal as `fresh`, and is the writer's.
    pub(super) fn take_cell(
        &self,
        writer: usize,
        journal: Journal<'a>,
    ) -> Result<Publication, Full> {
        for (number, summary) in self.full.iter().enumerate() {
            let mut open = !summary.load(SeqCst);
            while open != 0 {
                let word = number * 64 + open.trailing_zeros() as usize;
                open &= open - 1;
                if word >= self.hint.len() {
                    break;
                }
                if let Some(taken) = self.take_from(word, writer, journal) {
                    return Ok(taken);
                }
                self.close(word);
            }
        }
        let mut words = 0..self.hint.len();
        let taken = words.find_map(|word| self.take_from(word, writer, journal));
        if taken.is_none() {
            journal.set_fresh(None);
        }
        taken.ok_or(Full)
    }

    /// Takes a cell that word number `word` of the hint says is free.
    fn take_from(&self, word: usize, writer: usize, journal: Journal<'a>) -> Option<Publication> {
        let hint = &self.hint[word];
        let mut free = !hint.load(SeqCst);
        while free != 0 {
            let bit = free.trailing_zeros();
            free &= free - 1;
            let cell = word * 64 + bit as usize;
            if cell >= self.cell_count {
                break;
            }
            let Some(owner) = self.owner(cell).filter(|owner| owner.is_pool()) else {
                // The bit stays clear: it may be free before we have set it, and would stay hidden.
                continue;
            };
            let seq = owner.seq() & self.split.seq_mask();
            let fresh = self.split.publication(cell, seq);
            // Before the bit: whoever leaves it set by dying is known. And only a cell that was free a
            // moment ago: so if it is ours when we die, then by the exchange below, and it was never in
            // the index since.
            journal.set_fresh(Some(fresh));
            // Not a bit that somebody else has just set: it has the cell, or looks at it.
            if hint.fetch_or(1 << bit, SeqCst) & 1 << bit != 0 {
                continue;
            }
            if self.exchange_owner(cell, owner, Owner::writer(writer, owner.seq())) {
                return Some(fresh);
            }
            // Somebody else has had it since. If it is free again, its bit was cleared before we set it;
            // if not, that will be done after this.
            if self.owner(cell).is_some_and(Owner::is_pool) {
                self.clear_hint(cell);
            }
        }
        None
    }

    /// Notes that all cells of a word of the hint are taken, if that is so.
    fn close(&self, word: usize) {
        let (summary, bit) = (&self.full[word / 64], 1 << (word % 64));
        let is_full = |word: &Word| !word.load(SeqCst) == 0;
        if is_full(&self.hint[word]) {
            summary.fetch_or(bit, SeqCst);
            // SYNC(pool): SeqCst, pairs with `clear_hint`: of one that says "all are taken" and one that
            // clears a bit, at least one sees the other.
            crate::sync::store_then_load();
            if !is_full(&self.hint[word]) {
                summary.fetch_and(!bit, SeqCst);
            }
        }
    }

    /// Whether the hint says that `cell` is taken.
    pub(super) fn is_hidden(&self, cell: usize) -> bool {
        load(&self.hint[cell / 64], self.access) & 1 << (cell % 64) != 0
    }

    /// Says that `cell` may be free.
    pub(super) fn clear_hint(&self, cell: usize) {
        let word = cell / 64;
        self.hint[word].fetch_and(!(1 << (cell % 64)), SeqCst);
        // SYNC(pool): SeqCst, see `close`.
        crate::sync::store_then_load();
        let (summary, bit) = (&self.full[word / 64], 1 << (word % 64));
        if summary.load(SeqCst) & bit != 0 {
            summary.fetch_and(!bit, SeqCst);
        }
    }

    /// Puts a cell back that the caller has in hand.
    pub(super) fn give_back(&self, publication: Publication) {
        let cell = self.split.cell(publication);
        if let (Some(word), Some(owner)) = (self.cell(cell), self.owner(cell)) {
            let free = self.owner_word(cell, Owner::pool(owner.seq()));
            // SYNC(pool): Release, pairs with the exchange that takes it. No exchange: nobody else may
            // change the owner of a cell that somebody has in hand.
            word.owner().store(free, Release);
            self.clear_hint(cell);
        }
    }

    /// Puts a cell back that was taken out of the index, unless somebody else has done so.
    pub(super) fn retire(&self, publication: Publication) {
        let cell = self.split.cell(publication);
        let is_it = |owner: &Owner| owner.is_filled() && owner.seq() == self.split.seq(publication);
        if let Some(owner) = self.owner(cell).filter(is_it) {
            self.exchange_owner(cell, owner, Owner::pool(owner.seq()));
        }
        if self.owner(cell).is_some_and(Owner::is_pool) {
            self.clear_hint(cell);
        }
    }
}
