//! The words of the models: loom's or shuttle's, in threads that can be killed before any write.
//!
//! A process that dies before a read has done no more and no less than one that dies before its next
//! write, so these are all the points there are.

#[cfg(not(shuttle))]
use loom::{sync::atomic, thread_local};
#[cfg(shuttle)]
use shuttle::{sync::atomic, thread_local};

pub use atomic::{Ordering, fence};

/// A 64-bit word that any number of threads of a model read and change at once.
#[derive(Debug)]
pub struct Word(atomic::AtomicU64);

impl Word {
    pub fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    pub fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    pub fn store(&self, value: u64, order: Ordering) {
        death::before_write();
        self.0.store(value, order);
    }

    pub fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        death::before_write();
        self.0.compare_exchange(current, new, success, failure)
    }

    /// As std does it: a compare-exchange loop.
    pub fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut current = self.load(failure);
        while let Some(new) = f(current) {
            match self.compare_exchange(current, new, success, failure) {
                Ok(previous) => return Ok(previous),
                Err(now) => current = now,
            }
        }
        Err(current)
    }
}

macro_rules! changes {
    ($($name:ident)+) => {
        impl Word {
            $(pub fn $name(&self, value: u64, order: Ordering) -> u64 {
                death::before_write();
                self.0.$name(value, order)
            })+
        }
    };
}
changes!(swap fetch_add fetch_sub fetch_and fetch_or fetch_xor fetch_min fetch_max);

/// Killing threads of a model.
pub mod death {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    super::thread_local! {
        static WRITES_LEFT: Cell<usize> = Cell::new(usize::MAX);
    }

    struct Killed;

    pub(super) fn before_write() {
        WRITES_LEFT.with(|left| match left.get() {
            usize::MAX => {}
            // Not a panic: nobody is to be told.
            0 => resume_unwind(Box::new(Killed)),
            n => left.set(n - 1),
        });
    }

    /// Runs `f`, and kills this thread before its write number `write`, counted from 0: then `None`.
    /// What `f` has on its stack is dropped, so nothing there may write when it is dropped.
    pub fn kill_before<T>(write: usize, f: impl FnOnce() -> T) -> Option<T> {
        WRITES_LEFT.with(|left| left.set(write));
        let outcome = catch_unwind(AssertUnwindSafe(f));
        WRITES_LEFT.with(|left| left.set(usize::MAX));
        match outcome {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Killed>() => None,
            Err(cause) => resume_unwind(cause),
        }
    }
}
