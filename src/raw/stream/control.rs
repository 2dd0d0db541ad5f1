//! The control of a `StreamDict`: which generation is current, and what each participant is building.
//!
//! ```text
//! words:  current | unlinked | 0 0 0 0 0 0 | rows
//! row:    candidate | generation | records | building
//! ```

use crate::sync::{
    Access,
    Ordering::{Relaxed, SeqCst},
    Word, load,
};

/// Number of words in front of the rows.
pub const HEAD_WORDS: usize = 8;
const CURRENT: usize = 0;
const UNLINKED: usize = 1;

/// Number of words of a row.
pub const ROW_WORDS: usize = 4;

/// The control.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a> {
    words: &'a [Word],
    access: Access,
}

/// What one participant tells.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    words: &'a [Word],
    access: Access,
}

impl<'a> Control<'a> {
    /// Number of words for so many participants.
    pub fn words(participants: usize) -> usize {
        HEAD_WORDS + participants * ROW_WORDS
    }

    /// A view of exactly those words.
    pub fn new(words: &'a [Word], access: Access) -> Self {
        Self { words, access }
    }

    pub fn access(&self) -> Access {
        self.access
    }

    /// The id of the newest generation that everybody may know of.
    pub fn current(&self) -> u64 {
        // SYNC(elect): SeqCst on pages that we may write, pairs with the exchange in `advance`: the name
        // of what it leads to is there, or it leads elsewhere by now.
        load(&self.words[CURRENT], self.access)
    }

    /// Says which generation is the first one, before anybody else can see the control.
    pub fn begin(&self, id: u64) {
        self.words[CURRENT].store(id, SeqCst);
    }

    /// Leads from a generation to the one that follows it, unless that was done.
    pub fn advance(&self, from: u64, to: u64) {
        // SYNC(elect): SeqCst, see `current`.
        let _ = self.words[CURRENT].compare_exchange(from, to, SeqCst, SeqCst);
    }

    /// Whether the name was taken away.
    pub fn is_unlinked(&self) -> bool {
        // SYNC(unlink): SeqCst on pages that we may write, pairs with `unlink`: of one who names a
        // generation and then looks here, and one who says so here and then removes all names, at least
        // one sees the other.
        load(&self.words[UNLINKED], self.access) != 0
    }

    /// Says that the name was taken away.
    pub fn unlink(&self) {
        // SYNC(unlink): SeqCst, see `is_unlinked`.
        self.words[UNLINKED].store(1, SeqCst);
    }

    /// The row of the participant in that slot.
    pub fn row(&self, slot: usize) -> Row<'a> {
        Row {
            words: &self.words[HEAD_WORDS + slot * ROW_WORDS..][..ROW_WORDS],
            access: self.access,
        }
    }
}

impl Row<'_> {
    /// The generation that it is building, or was when it died; 0 if there is none.
    pub fn candidate(&self) -> u64 {
        // SYNC(candidate): SeqCst; Acquire would do: who sees it after the participant's death sees all
        // that it did before.
        load(&self.words[0], self.access)
    }

    pub fn set_candidate(&self, id: u64) {
        // SYNC(candidate): SeqCst. Release would do: before the name is made, and after it is gone or has
        // become another's to remove.
        self.words[0].store(id, SeqCst);
    }

    /// How far it has read: the number of a generation, and how many of its records.
    pub fn position(&self) -> (u64, u64) {
        // Relaxed, and two words: for people, who can live with one that is older than the other.
        (self.words[1].load(Relaxed), self.words[2].load(Relaxed))
    }

    pub fn set_position(&self, generation: u64, records: u64) {
        // Relaxed: see `position`.
        self.words[1].store(generation, Relaxed);
        self.words[2].store(records, Relaxed);
    }

    /// Whether the participant is about to begin a generation, and may have the room for it in hand.
    pub fn is_building(&self) -> bool {
        // Relaxed: a hint, for who considers whether to wait.
        self.words[3].load(Relaxed) != 0
    }

    pub fn set_building(&self, is_building: bool) {
        // Relaxed: see `is_building`.
        self.words[3].store(u64::from(is_building), Relaxed);
    }
}
