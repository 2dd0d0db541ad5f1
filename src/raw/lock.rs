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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::bell::after;
    use crate::raw::hash::mix;
    use crate::raw::participants::ParticipantId;
    use std::convert::Infallible;
    use std::thread;
    use std::time::Duration;

    fn owner(n: usize) -> Owner {
        let id = ParticipantId {
            slot: n,
            incarnation: 1,
        };
        Owner::new(id, 1)
    }

    fn all_alive(_: Owner) -> Result<Holder, Infallible> {
        Ok(Holder::Alive)
    }

    fn all_dead(_: Owner) -> Result<Holder, Infallible> {
        Ok(Holder::Dead)
    }

    #[expect(
        clippy::disallowed_types,
        unsafe_code,
        reason = "plain memory, so that Miri reports a race; not shared by processes"
    )]
    mod plain {
        use std::cell::UnsafeCell;

        /// A number that a lock guards.
        #[derive(Default)]
        pub(super) struct Plain(UnsafeCell<u64>);

        // SAFETY: it is changed by who has the lock only, which is what the test is about.
        unsafe impl Sync for Plain {}

        impl Plain {
            /// To be called with the lock. What it was before.
            pub(super) fn add_one(&self) -> u64 {
                // SAFETY: the lock keeps the other threads out.
                let number = unsafe { &mut *self.0.get() };
                *number += 1;
                *number - 1
            }
        }
    }

    /// Under Miri sleepers have no timeouts, so a lost wake-up is a deadlock.
    #[test]
    fn what_a_lock_guards_is_changed_by_one_at_a_time() {
        let (threads, rounds) = if cfg!(miri) { (3, 2) } else { (4, 2_000) };
        let word = Word::new(0);
        let plain = plain::Plain::default();
        thread::scope(|scope| {
            for n in 0..threads {
                let (lock, plain) = (LockWord::new(&word), &plain);
                scope.spawn(move || {
                    for _ in 0..rounds {
                        assert_eq!(lock.lock(owner(n), None, all_alive), Ok(None));
                        plain.add_one();
                        assert!(lock.unlock(owner(n), None));
                    }
                });
            }
        });
        assert_eq!(plain.add_one(), threads as u64 * rounds);
        assert_eq!(LockWord::new(&word).owner(), None);
    }

    /// All find the same dead owner at once.
    #[test]
    fn the_death_of_an_owner_is_told_to_one() {
        let rounds = if cfg!(miri) { 2 } else { 1_000 };
        for _ in 0..rounds {
            let word = Word::new(owner(0).word() | CONTENDED);
            let plain = plain::Plain::default();
            let judge = |found| match found == owner(0) {
                true => Ok::<_, Infallible>(Holder::Dead),
                false => Ok(Holder::Alive),
            };
            let told: Vec<_> = thread::scope(|scope| {
                let threads = [1, 2, 3].map(|n| {
                    let (lock, plain) = (LockWord::new(&word), &plain);
                    scope.spawn(move || {
                        let told = lock.lock(owner(n), None, judge).unwrap();
                        plain.add_one();
                        assert!(lock.unlock(owner(n), None));
                        told
                    })
                });
                threads.map(|thread| thread.join().unwrap()).to_vec()
            });
            assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&owner(0)]);
            assert_eq!(word.load(SeqCst), 0);
        }
    }

    #[test]
    fn who_has_no_time_does_not_wait() {
        let word = Word::new(owner(0).word());
        let lock = LockWord::new(&word);
        let now = after(Duration::ZERO);
        let held = Err(NotTaken::Held(owner(0)));
        assert_eq!(lock.try_lock(owner(1), all_alive), held);
        assert_eq!(lock.lock(owner(1), now, all_alive), held);
        // Nor does it make anybody wake it.
        assert_eq!(word.load(SeqCst), owner(0).word());
        assert!(lock.unlock(owner(0), None));
        assert_eq!(lock.lock(owner(1), now, all_alive), Ok(None));
    }

    #[test]
    #[cfg_attr(miri, ignore = "sleepers have no timeouts there")]
    fn one_that_gives_up_leaves_the_lock_contended() {
        let sleeps = |lock: LockWord<'_>| {
            // Less than the longest sleep, so that it gives up at its second look.
            let soon = after(LONGEST_SLEEP * 4 / 5);
            lock.lock(owner(1), soon, all_alive)
        };
        loop {
            let word = Word::new(owner(0).word());
            let given_up = thread::scope(|scope| {
                let sleeper = scope.spawn(|| sleeps(LockWord::new(&word)));
                while word.load(SeqCst) & CONTENDED == 0 && !sleeper.is_finished() {
                    thread::yield_now();
                }
                // By now it sleeps, in all likelihood.
                thread::sleep(LONGEST_SLEEP / 5);
                // Given back and taken by another one, and the wake-up lost on the sleeper.
                word.store(owner(2).word(), SeqCst);
                sleeper.join().unwrap()
            });
            // On a slow day its time was over before it could sleep: once more.
            if given_up == Err(NotTaken::Held(owner(2))) {
                assert_eq!(word.load(SeqCst), owner(2).word() | CONTENDED);
                break;
            }
        }
    }

    #[test]
    fn only_the_owner_gives_it_back_and_only_once() {
        for flag in [0, CONTENDED] {
            let word = Word::new(owner(0).word() | flag);
            let lock = LockWord::new(&word);
            assert!(!lock.unlock(owner(1), None));
            assert_eq!(lock.owner(), Some(owner(0)));
            assert!(lock.unlock(owner(0), None));
            assert!(!lock.unlock(owner(0), None));
            assert_eq!(word.load(SeqCst), 0);
        }
    }

    #[test]
    fn poison_stays_until_the_lock_is_given_back_clean() {
        let word = Word::new(0);
        let lock = LockWord::new(&word);
        assert_eq!(lock.break_open(), None);
        assert_eq!(lock.try_lock(owner(0), all_alive), Ok(None));
        assert_eq!(lock.break_open(), Some(owner(0)));
        assert_eq!((lock.owner(), lock.break_open()), (None, None));
        assert!(!lock.unlock(owner(0), None), "it was taken away");
        for poison in [Some(owner(0)), None] {
            assert_eq!(lock.try_lock(owner(1), all_alive), Ok(Some(owner(0))));
            assert_eq!(lock.owner(), Some(owner(1)));
            assert!(lock.unlock(owner(1), poison));
        }
        assert_eq!(lock.try_lock(owner(1), all_alive), Ok(None));
    }

    #[test]
    fn what_the_judge_says_is_passed_on() {
        let word = Word::new(owner(0).word());
        let lock = LockWord::new(&word);
        let myself = |_| Ok::<_, Infallible>(Holder::Myself);
        assert_eq!(lock.lock(owner(0), None, myself), Err(NotTaken::ByMyself));
        let unknown = |_| Err("no such thing");
        assert_eq!(
            lock.lock(owner(1), None, unknown),
            Err(NotTaken::Unknown("no such thing"))
        );
        assert_eq!(word.load(SeqCst), owner(0).word());
    }

    /// Whatever stands in the word: it is somebody who is dead, or nobody.
    #[test]
    fn a_word_of_garbage_is_a_lock_that_can_be_taken() {
        let garbage = (0..4).chain(u64::MAX - 4..=u64::MAX);
        let random = if cfg!(miri) { 3 } else { 50 };
        let garbage = garbage.chain((0..random).map(|n| mix(n, 99)));
        for garbage in garbage {
            let word = Word::new(garbage);
            let lock = LockWord::new(&word);
            let told = lock.lock(owner(1), None, all_dead).unwrap();
            assert_eq!(told, Owner::of(garbage));
            assert_eq!(lock.owner(), Some(owner(1)));
            assert!(lock.unlock(owner(1), None));
            assert_eq!(word.load(SeqCst), 0);

            word.store(garbage, SeqCst);
            assert!(!lock.unlock(owner(1), None));
            let robbed = Owner::of(garbage).filter(|_| garbage & POISONED == 0);
            assert_eq!(lock.break_open(), robbed);
            assert_eq!(lock.owner(), None);
        }
    }
}
