//! Bells: how those who wait for a value to change learn that it may have.
//!
//! ```text
//! words:  waiting 0 | ... | waiting 63 | rings 0 | ... | rings 63 | waiting for a new key | rings
//! ```
//!
//! A value has one of 64 bells; one more is rung when a key gets a slot, for those who wait for a key
//! that has none. Who waits raises the flag of the bell and sleeps on
//! its count of rings; who has changed a value lowers the flag, if it is up, counts a ring and wakes
//! all who sleep there. Waking means: look again.
//!
//! *No wake-up is lost.* The waiter reads the count, raises the flag, looks at the value, and sleeps
//! only if the count has not moved. The other side changes the value and then looks at the flag. All
//! of these are SeqCst, so either the waiter's look sees the change, or the changer sees the flag; and
//! then it counts a ring after the waiter has read the count, so the waiter does not fall asleep or is
//! woken. A flag that was lowered for an earlier waiter is raised anew by each waiter before it looks.
//! (A *count* of waiters would stay wrong when one is killed.)
//!
//! *Dying is harmless.* A killed waiter leaves a raised flag: one ring for nobody. A changer that is
//! killed or stopped between its change and the wake-up leaves sleepers asleep, perhaps with the flag
//! down: so nobody sleeps for longer than [`LONGEST_SLEEP`] without looking.

use std::ptr;
use std::time::{Duration, Instant};

use crate::sync::{
    Ordering::{Relaxed, SeqCst},
    Word, futex, store_then_load,
};

/// Number of bells that values have. (In the models one: each word costs them time.)
pub const BELLS: usize = if cfg!(loom) { 1 } else { 64 };

/// Number of words that the bells take: those of the values, and a cache line for the one of new keys.
pub const WORDS: usize = 2 * BELLS + 8;

/// How long a waiter sleeps at most before it looks again.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// How often a waiter looks before it sleeps.
const LOOKS: u32 = if cfg!(any(loom, miri)) { 0 } else { 100 };

/// The bells of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Bells<'a> {
    // The flags apart from the counts: they are what every operation reads, and so eight of them
    // share a cache line.
    words: &'a [Word; WORDS],
    #[cfg(loom)]
    mute: bool,
}

impl<'a> Bells<'a> {
    /// A view of exactly [`WORDS`] words.
    #[inline(always)]
    pub fn new(words: &'a [Word]) -> Self {
        Self {
            words: words.try_into().expect("as many words as WORDS says"),
            #[cfg(loom)]
            mute: false,
        }
    }

    /// The same bells, which are never rung, for models of what goes on without any: the fence that
    /// loom needs in [`Bell::ring`] would put an order there that the code does not have.
    #[cfg(loom)]
    pub fn mute(self) -> Self {
        Self { mute: true, ..self }
    }

    /// The bell of a value. Neighbours have different ones.
    #[inline(always)]
    #[cfg_attr(loom, allow(clippy::modulo_one, reason = "there is only one then"))]
    pub fn of(&self, value: &Word) -> Bell<'a> {
        // By where it stands, 16 bytes a slot: a segment is mapped to the start of a page, so these
        // bits of the address are those of the offset, in whatever process. It spares an entry from
        // knowing more than the address of its value.
        let bell = ptr::from_ref(value).addr() / 16 % BELLS;
        self.bell(bell, BELLS + bell)
    }

    /// Bell number `n`, counted round and round.
    #[inline(always)]
    #[cfg_attr(loom, allow(clippy::modulo_one, reason = "there is only one then"))]
    pub fn nth(&self, n: usize) -> Bell<'a> {
        self.bell(n % BELLS, BELLS + n % BELLS)
    }

    /// The bell that is rung when a key gets a slot.
    #[inline(always)]
    pub fn new_key(&self) -> Bell<'a> {
        self.bell(2 * BELLS, 2 * BELLS + 1)
    }

    #[inline(always)]
    fn bell(&self, waiting: usize, rings: usize) -> Bell<'a> {
        Bell {
            waiting: &self.words[waiting],
            rings: &self.words[rings],
            #[cfg(loom)]
            mute: self.mute,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Bell<'a> {
    waiting: &'a Word,
    rings: &'a Word,
    #[cfg(loom)]
    mute: bool,
}

impl Bell<'_> {
    /// To be called after each change of a value. One load when nobody waits. The words must be mapped
    /// for writing.
    #[inline(always)]
    pub fn ring(self) {
        #[cfg(loom)]
        if self.mute {
            return;
        }
        store_then_load();
        // SYNC(bell): SeqCst, pairs with the store in `wait`: after the change of the value in the
        // one order of all SeqCst accesses, as the waiter's look comes after its store.
        if self.waiting.load(SeqCst) != 0 {
            self.wake();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(self) {
        // Lowered first: a waiter that raises it after this looks at the value after this.
        // SYNC(bell): SeqCst, see `ring`.
        self.waiting.store(0, SeqCst);
        // SYNC(bell): SeqCst, pairs with the load in `wait`: who has read the new count looks after
        // the change.
        self.rings.fetch_add(1, SeqCst);
        futex::wake_all(self.rings);
    }

    /// Looks until there is something to see or `deadline` has come, and sleeps in between. (Who
    /// hopes not to sleep calls [`spin`] before.) The words must be mapped for writing.
    pub fn wait<T>(
        self,
        mut look: impl FnMut() -> Option<T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        loop {
            // SYNC(bell): SeqCst, pairs with the addition in `wake`.
            let rings = self.rings.load(SeqCst);
            // After the count: were it raised before, a ring in between would lower it, and the new
            // count would be taken for the old one.
            // SYNC(bell): SeqCst, see `ring`.
            self.waiting.store(1, SeqCst);
            store_then_load();
            if let Some(seen) = look() {
                return Some(seen);
            }
            let left = left(deadline);
            if left.is_zero() {
                return None;
            }
            futex::wait(self.rings, rings, left.min(LONGEST_SLEEP));
        }
    }

    /// As [`wait`](Self::wait), on read-only pages, where the flag cannot be raised: looks every 5 ms,
    /// or when the bell rings for somebody else.
    pub fn poll<T>(
        self,
        mut look: impl FnMut() -> Option<T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        let mut pause = Duration::from_micros(50);
        loop {
            // Relaxed: nothing hangs on it, the next look comes by itself.
            let rings = self.rings.load(Relaxed);
            if let Some(seen) = look() {
                return Some(seen);
            }
            let left = left(deadline);
            if left.is_zero() {
                return None;
            }
            futex::wait(self.rings, rings, left.min(pause));
            pause = (2 * pause).min(Duration::from_millis(5));
        }
    }
}

/// Looks a while without sleeping.
pub fn spin<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..LOOKS).find_map(|_| {
        let seen = look();
        if seen.is_none() {
            std::hint::spin_loop();
        }
        seen
    })
}

/// Time until `deadline`, zero if it has come.
pub fn left(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| {
        deadline.saturating_duration_since(Instant::now())
    })
}

/// The instant after so much time, if the clock can count it.
pub fn after(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::value::Value;
    use std::sync::Barrier;
    use std::thread;

    /// The edge `bell` that loom cannot judge (it takes SeqCst accesses for AcqRel): either the waiter
    /// sees the change, or the changer sees the waiter and rings.
    #[test]
    fn a_change_and_a_waiter_cannot_both_miss() {
        let rounds = if cfg!(miri) { 8 } else { 20_000 };
        for _ in 0..rounds {
            let [waiting, rings, word] = [0; 3].map(Word::new);
            let bell = Bell {
                waiting: &waiting,
                rings: &rings,
            };
            let value = Value::new(&word, bell);
            let start = Barrier::new(2);
            let seen = thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let look = || Some(value.load()).filter(|&value| value != 0);
                    start.wait();
                    // It has no time to sleep: one look.
                    bell.wait(look, Some(Instant::now()))
                });
                start.wait();
                value.store(1);
                waiter.join().unwrap()
            });
            let rung = rings.load(SeqCst);
            assert!(seen.is_some() || rung == 1, "both missed");
        }
    }

    /// Under Miri sleepers have no timeouts, so a lost wake-up is a deadlock.
    #[test]
    fn two_who_wait_for_each_other_in_turn_get_on() {
        let rounds = if cfg!(miri) { 3 } else { 1_000 };
        let [waiting, rings, word] = [0; 3].map(Word::new);
        let bell = Bell {
            waiting: &waiting,
            rings: &rings,
        };
        let value = Value::new(&word, bell);
        let play = |first: u64| {
            for n in (first..2 * rounds).step_by(2) {
                let look = || (value.load() == n).then_some(());
                bell.wait(look, None).unwrap();
                value.fetch_add(1);
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| play(0));
            play(1);
        });
        assert_eq!(value.load(), 2 * rounds);
    }

    #[test]
    fn who_has_no_time_looks_once() {
        let [waiting, rings] = [0; 2].map(Word::new);
        let bell = Bell {
            waiting: &waiting,
            rings: &rings,
        };
        for deadline in [Instant::now(), after(Duration::ZERO).unwrap()] {
            let mut looks = 0;
            let look = || -> Option<()> {
                looks += 1;
                None
            };
            assert_eq!(bell.wait(look, Some(deadline)), None);
            assert_eq!(looks, 1);
        }
        assert_eq!(after(Duration::MAX), None);
        assert_eq!(left(None), Duration::MAX);
    }
}
