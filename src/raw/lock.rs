//! A lock in one word: free, or the owner and whether somebody sleeps.
//!
//! ```text
//! 0  <->  owner  <->  owner | CONTENDED        owner | POISONED: free, and that owner died with it
//! ```
//!
//! Taking it is one compare-exchange, so an owner that dies at any instruction either has it by name
//! or has it not. Who waits asks from time to time whether the owner lives, and takes the lock from a
//! dead one, again by one compare-exchange: of many who notice, one gets it, and that one is told.
//!
//! Sleepers sleep on the low half of the word, which holds the flags and the thread. Two owners may
//! have that half in common; then both words are contended, and whoever gives the lock back wakes.
//! One sleeper is woken at a time. It takes the lock as contended, because there may be others. When
//! the woken one is killed, or who should wake, the next sleeper looks by itself after
//! [`LONGEST_SLEEP`].

use std::time::Instant;

use super::bell::{LONGEST_SLEEP, left};
use super::owner::{CONTENDED, Owner, POISONED};
use crate::sync::{Ordering::SeqCst, Word, futex};

/// How often who waits looks before it sleeps.
const SPINS: u32 = if cfg!(any(loom, miri)) { 0 } else { 100 };

/// What is known of who stands in a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Alive,
    Dead,
    /// The very thread that asks.
    Myself,
}

/// Why a lock was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken<E> {
    /// It was still held when the time was over.
    Held(Owner),
    /// The very thread that asks holds it.
    ByMyself,
    /// The holder could not be looked up.
    Unknown(E),
}

/// A lock laid over a borrowed word.
#[derive(Debug, Clone, Copy)]
pub struct LockWord<'a>(&'a Word);

impl<'a> LockWord<'a> {
    /// The word must be mapped for writing.
    pub fn new(word: &'a Word) -> Self {
        Self(word)
    }

    // SYNC(lock): SeqCst on every access below, where AcqRel would order what the lock guards. But
    // lock words are values of a dictionary, and all of those stand in one total order.

    /// Takes the lock for `me` if it is free or its holder is dead; `judge` tells what has become of
    /// the holder. On success, who died with it, if anybody did.
    pub fn try_lock<E>(
        self,
        me: Owner,
        judge: impl FnMut(Owner) -> Result<Holder, E>,
    ) -> Result<Option<Owner>, NotTaken<E>> {
        self.attempt(me.word(), judge)
    }

    /// As [`try_lock`](Self::try_lock), but waits until `deadline`, or as long as it takes.
    pub fn lock<E>(
        self,
        me: Owner,
        deadline: Option<Instant>,
        mut judge: impl FnMut(Owner) -> Result<Holder, E>,
    ) -> Result<Option<Owner>, NotTaken<E>> {
        if self.exchange(0, me.word()) || self.spin(me) {
            return Ok(None);
        }
        // Once this thread has slept, it leaves the lock contended: others may sleep still.
        let mut contended = 0;
        loop {
            let owner = match self.attempt(me.word() | contended, &mut judge) {
                Err(NotTaken::Held(owner)) => owner,
                taken => return taken,
            };
            let left = left(deadline);
            if left.is_zero() && contended == 0 {
                return Err(NotTaken::Held(owner));
            }
            let quiet = owner.word();
            let word = self.0.load(SeqCst); // SYNC(lock)
            if word & !CONTENDED != quiet || word == quiet && !self.exchange(word, word | CONTENDED)
            {
                continue;
            }
            if left.is_zero() {
                // It may have been woken in vain: now the next unlock wakes another one.
                return Err(NotTaken::Held(owner));
            }
            futex::wait(self.0, quiet | CONTENDED, left.min(LONGEST_SLEEP));
            contended = CONTENDED;
        }
    }

    /// Waits a little for somebody who is about to give it back.
    fn spin(self, me: Owner) -> bool {
        let mut spins = SPINS;
        while spins > 0 {
            let word = self.0.load(SeqCst); // SYNC(lock)
            if word == 0 && self.exchange(0, me.word()) {
                return true;
            }
            if word & (CONTENDED | POISONED) != 0 {
                return false;
            }
            std::hint::spin_loop();
            spins -= 1;
        }
        false
    }

    fn attempt<E>(
        self,
        mine: u64,
        mut judge: impl FnMut(Owner) -> Result<Holder, E>,
    ) -> Result<Option<Owner>, NotTaken<E>> {
        loop {
            let word = self.0.load(SeqCst); // SYNC(lock)
            let owner = Owner::of(word);
            if let Some(owner) = owner.filter(|_| word & POISONED == 0) {
                match judge(owner).map_err(NotTaken::Unknown)? {
                    Holder::Alive => return Err(NotTaken::Held(owner)),
                    Holder::Myself => return Err(NotTaken::ByMyself),
                    Holder::Dead => {}
                }
            }
            if self.exchange(word, mine | word & CONTENDED) {
                return Ok(owner);
            }
        }
    }

    /// Gives the lock back, free or poisoned by somebody, and tells whether `me` had it.
    pub fn unlock(self, me: Owner, poisoned_by: Option<Owner>) -> bool {
        let next = poisoned_by.map_or(0, |owner| owner.word() | POISONED);
        // Twice at the most, if `me` has it: others change nothing but the flag.
        loop {
            if self.exchange(me.word(), next) {
                return true;
            }
            if self.exchange(me.word() | CONTENDED, next) {
                futex::wake_one(self.0);
                return true;
            }
            let word = self.0.load(SeqCst); // SYNC(lock)
            if word & !CONTENDED != me.word() {
                return false;
            }
        }
    }

    /// Takes the lock from whoever holds it, and leaves it poisoned by them.
    pub fn break_open(self) -> Option<Owner> {
        loop {
            let word = self.0.load(SeqCst); // SYNC(lock)
            let owner = Owner::of(word).filter(|_| word & POISONED == 0)?;
            if self.exchange(word, owner.word() | POISONED) {
                futex::wake_one(self.0);
                return Some(owner);
            }
        }
    }

    /// Who holds it, dead or alive.
    pub fn owner(self) -> Option<Owner> {
        let word = self.0.load(SeqCst); // SYNC(lock)
        Owner::of(word).filter(|_| word & POISONED == 0)
    }

    fn exchange(self, current: u64, new: u64) -> bool {
        // SYNC(lock)
        self.0
            .compare_exchange(current, new, SeqCst, SeqCst)
            .is_ok()
    }
}
