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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::participants::{INCARNATION_BITS, MOST};

    #[test]
    fn a_word_is_taken_apart_as_it_was_put_together() {
        for slot in [0, 1, MOST as usize - 1] {
            for incarnation in [1, 2, (1 << INCARNATION_BITS) - 1] {
                for thread in [1, 2, (1 << THREAD_BITS) - 1] {
                    let id = ParticipantId { slot, incarnation };
                    let owner = Owner::new(id, thread);
                    assert_eq!((owner.id(), owner.thread()), (id, thread));
                    for flags in 0..=FLAGS {
                        assert_eq!(Owner::of(owner.word() | flags), Some(owner));
                    }
                    assert_eq!(owner.word() & FLAGS, 0);
                }
            }
        }
    }

    #[test]
    fn flags_alone_name_nobody() {
        for flags in 0..=FLAGS {
            assert_eq!(Owner::of(flags), None);
        }
    }

    #[test]
    fn a_word_of_all_ones_names_no_slot_of_any_table() {
        let slot = Owner::of(u64::MAX).unwrap().id().slot;
        assert!(slot as u64 >= MOST);
    }
}
