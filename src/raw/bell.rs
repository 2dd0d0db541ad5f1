//! Bells: how those who wait for a value to change learn that it may have.
//!
//! ```text
//! words:  waiting 0 | ... | waiting 63 | rings 0 | ... | rings 63
//! ```
//!
//! A key belongs to one of 64 bells by its hash. Who waits raises the flag of the bell and sleeps on
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

use std::time::{Duration, Instant};

use crate::sync::{
    Access,
    Ordering::{Relaxed, SeqCst},
    Word, futex, store_then_load,
};

/// Number of bells.
pub const BELLS: usize = 64;

/// Number of words that the bells take.
pub const WORDS: usize = 2 * BELLS;

/// How long a waiter sleeps at most before it looks again.
pub const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// How often a waiter looks before it sleeps.
const LOOKS: u32 = if cfg!(any(loom, miri)) { 0 } else { 100 };

/// The bells of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Bells<'a> {
    // Apart from each other: the flags are what every operation reads, and eight of them share a
    // cache line.
    waiting: &'a [Word; BELLS],
    rings: &'a [Word; BELLS],
    access: Access,
}

impl<'a> Bells<'a> {
    /// A view of exactly [`WORDS`] words.
    pub fn new(words: &'a [Word], access: Access) -> Self {
        let half = |words: &'a [Word]| words.try_into().expect("as many words as WORDS says");
        Self {
            waiting: half(&words[..BELLS]),
            rings: half(&words[BELLS..]),
            access,
        }
    }

    /// The bell of the key that has this hash.
    #[inline(always)]
    pub fn of(&self, hash: u64) -> Bell<'a> {
        // The low bits: slots are chosen by the high ones, so neighbours have different bells.
        let bell = hash as usize % BELLS;
        Bell {
            waiting: &self.waiting[bell],
            rings: &self.rings[bell],
            access: self.access,
            #[cfg(loom)]
            mute: false,
        }
    }
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Bell<'a> {
    waiting: &'a Word,
    rings: &'a Word,
    access: Access,
    #[cfg(loom)]
    mute: bool,
}

impl<'a> Bell<'a> {
    /// A bell that is never rung, for models of what goes on without any: the fence that loom needs in
    /// [`ring`](Self::ring) would put an order there that the code does not have.
    #[cfg(loom)]
    pub fn mute(word: &'a Word) -> Self {
        Self {
            waiting: word,
            rings: word,
            access: Access::ReadWrite,
            mute: true,
        }
    }

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
    /// hopes not to sleep calls [`spin`] before.)
    ///
    /// On read-only pages, where the flag cannot be raised, it looks every 5 ms.
    pub fn wait<T>(
        self,
        mut look: impl FnMut() -> Option<T>,
        deadline: Option<Instant>,
    ) -> Option<T> {
        let mut pause = Duration::from_micros(50);
        loop {
            let rings = match self.access {
                Access::ReadWrite => {
                    // SYNC(bell): SeqCst, pairs with the addition in `wake`.
                    let rings = self.rings.load(SeqCst);
                    // After the count: were it raised before, a ring in between would lower it, and
                    // the new count would be taken for the old one.
                    // SYNC(bell): SeqCst, see `ring`.
                    self.waiting.store(1, SeqCst);
                    store_then_load();
                    rings
                }
                // Relaxed: read-only pages. Nobody need ring for this one; it wakes up by itself.
                Access::ReadOnly => self.rings.load(Relaxed),
            };
            if let Some(seen) = look() {
                return Some(seen);
            }
            let left = left(deadline);
            if left.is_zero() {
                return None;
            }
            let longest = match self.access {
                Access::ReadWrite => LONGEST_SLEEP,
                Access::ReadOnly => pause,
            };
            futex::wait(self.rings, rings, left.min(longest));
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
