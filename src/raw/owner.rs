//! The word that says who owns something: a lock, a permit, a seat, the turn to initialize.
//!
//! ```text
//! bits:  63 .. 24 participant (slot, incarnation) | 23 .. 2 thread | 1 poisoned | 0 contended
//! ```
//!
//! 0 is nobody. A thread number is never 0, so the word of an owner is never 0 either.

use super::participants::ParticipantId;

/// Somebody sleeps until the owner is done.
pub const CONTENDED: u64 = 1;

/// Nobody owns it, and the last who did died in between; the other bits say who that was.
pub const POISONED: u64 = 2;

const FLAGS: u64 = CONTENDED | POISONED;
const THREAD_SHIFT: u32 = 2;
const THREAD_BITS: u32 = 22;
const ID_SHIFT: u32 = THREAD_SHIFT + THREAD_BITS;

/// A thread of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// `thread` is a number that no other thread of the same process has, below 2^22 as all thread
    /// ids of Linux are.
    pub fn new(id: ParticipantId, thread: u32) -> Self {
        debug_assert!(0 < thread && thread < 1 << THREAD_BITS);
        Self(id.bits() << ID_SHIFT | u64::from(thread) << THREAD_SHIFT)
    }

    /// The owner that a word names, whatever its flags; `None` if it names nobody.
    pub fn of(word: u64) -> Option<Self> {
        (word & !FLAGS != 0).then_some(Self(word & !FLAGS))
    }

    /// As a word without flags.
    pub fn word(self) -> u64 {
        self.0
    }

    pub fn id(self) -> ParticipantId {
        ParticipantId::from_bits(self.0 >> ID_SHIFT)
    }

    pub fn thread(self) -> u32 {
        (self.0 >> THREAD_SHIFT) as u32 & ((1 << THREAD_BITS) - 1)
    }
}
