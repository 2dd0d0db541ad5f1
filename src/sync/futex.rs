//! Sleeping until a word changes, across processes: the futex of Linux, and stand-ins for it.
//!
//! A futex compares 32 bits, so what is watched is the low half of a word; a protocol that sleeps on a
//! word must change that half whenever a sleeper is to wake. Every return from [`wait`] means only:
//! look again.

#![allow(unsafe_code)]

use std::time::Duration;

use super::Word;

/// Sleeps while the low half of `word` is that of `seen`, until it is woken, a signal comes or
/// `longest` is over. Does not sleep at all if the half differs.
pub fn wait(word: &Word, seen: u64, longest: Duration) {
    imp::wait(word, seen as u32, longest);
}

/// Wakes one of those who sleep on `word`.
pub fn wake_one(word: &Word) {
    imp::wake(word, 1);
}

/// Wakes all who sleep on `word`.
pub fn wake_all(word: &Word) {
    imp::wake(word, i32::MAX as u32);
}

#[cfg(all(target_os = "linux", not(any(loom, miri))))]
mod imp {
    // The kernel's idea of a futex, never used as an atomic here.
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use rustix::thread::futex::{self, Flags, Timespec};

    use super::Word;

    /// Not `PRIVATE`: that one is found by address, and would wake nobody in another process.
    const SHARED: Flags = Flags::empty();

    fn low_half(word: &Word) -> &AtomicU32 {
        const { assert!(cfg!(target_endian = "little")) };
        let half = std::ptr::from_ref(word).cast::<AtomicU32>();
        // SAFETY: the first four bytes of a live, aligned word. The reference goes to a system call
        // and nowhere else: no Rust code accesses the half, so there is no access of mixed size.
        unsafe { &*half }
    }

    pub(super) fn wait(word: &Word, seen: u32, longest: Duration) {
        // Relative, so it is measured by CLOCK_MONOTONIC. `None`: longer than can be said.
        let longest = Timespec::try_from(longest).ok();
        let _ = futex::wait(low_half(word), SHARED, seen, longest.as_ref());
    }

    pub(super) fn wake(word: &Word, count: u32) {
        // Fails only for an address that is none.
        let _ = futex::wake(low_half(word), SHARED, count);
    }
}

/// Elsewhere: look now and then.
#[cfg(not(any(target_os = "linux", loom, miri)))]
mod imp {
    use std::time::{Duration, Instant};

    use super::super::Ordering::Relaxed;
    use super::Word;

    pub(super) fn wait(word: &Word, seen: u32, longest: Duration) {
        let start = Instant::now();
        let mut pause = Duration::from_micros(50);
        // Relaxed: a hint; the caller looks again with the ordering that it needs.
        while word.load(Relaxed) as u32 == seen {
            let left = longest.saturating_sub(start.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(pause.min(left));
            pause = (2 * pause).min(Duration::from_millis(5));
        }
    }

    pub(super) fn wake(_word: &Word, _count: u32) {}
}

/// In the models and under Miri: sleepers that nothing but a wake-up ends, so that a lost one is a
/// deadlock, which both report. Whoever does not come to [`wake`] does not touch the mutex, so it
/// orders nothing that the futex would not.
#[cfg(any(loom, miri))]
mod imp {
    use std::sync::Arc;
    use std::time::Duration;

    #[cfg(loom)]
    use loom::{
        lazy_static,
        sync::{Condvar, Mutex},
    };
    #[cfg(not(loom))]
    use std::sync::{Condvar, Mutex};

    use super::super::Ordering::Relaxed;
    use super::Word;

    /// Who sleeps: on which word, and the bed of its own. First come, first woken.
    type Sleepers = Mutex<Vec<(usize, Arc<Condvar>)>>;

    #[cfg(loom)]
    lazy_static! {
        static ref SLEEPERS: Sleepers = Mutex::new(Vec::new());
    }
    #[cfg(not(loom))]
    static SLEEPERS: Sleepers = Mutex::new(Vec::new());

    fn place(word: &Word) -> usize {
        std::ptr::from_ref(word).addr()
    }

    pub(super) fn wait(word: &Word, seen: u32, _longest: Duration) {
        let mut sleepers = SLEEPERS.lock().unwrap();
        // Relaxed: the mutex orders it against `wake`, as the kernel's own lock does.
        if word.load(Relaxed) as u32 == seen {
            let bed = Arc::new(Condvar::new());
            sleepers.push((place(word), Arc::clone(&bed)));
            let mut sleepers = bed.wait(sleepers).unwrap();
            // Still there after a wake-up that nobody made, as condition variables have them.
            sleepers.retain(|(_, other)| !Arc::ptr_eq(other, &bed));
        }
    }

    pub(super) fn wake(word: &Word, count: u32) {
        let mut sleepers = SLEEPERS.lock().unwrap();
        for _ in 0..count {
            let first = sleepers.iter().position(|(p, _)| *p == place(word));
            let Some(first) = first else { break };
            sleepers.remove(first).1.notify_one();
        }
    }
}
