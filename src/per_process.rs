//! What each process has for itself of something that forked children inherit.

#![allow(unsafe_code)]

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The values of this process and of those that it was forked from, the latest first. Each lives as long
/// as the list.
///
/// A list and not a `OnceLock` or a mutex: a lock that another thread held at a fork would stay locked in
/// the child for ever.
pub(crate) struct PerProcess<T>(AtomicPtr<Element<T>>);

struct Element<T> {
    /// The process that it belongs to.
    token: u64,
    value: T,
    previous: *mut Element<T>,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn latest(&self) -> Option<&Element<T>> {
        // Acquire: pairs with the Release in `push`, so that the element is seen whole.
        let latest = self.0.load(Ordering::Acquire);
        // SAFETY: null, or an element that `push` made from a box and that lives as long as `self`.
        unsafe { latest.as_ref() }
    }

    fn elements(&self) -> impl Iterator<Item = &Element<T>> {
        std::iter::successors(self.latest(), |element| {
            // SAFETY: null, or an element as in `latest`.
            unsafe { element.previous.as_ref() }
        })
    }

    /// The latest value, if it belongs to the process with that token.
    #[inline]
    pub(crate) fn get(&self, token: u64) -> Option<&T> {
        let latest = self.latest().filter(|latest| latest.token == token);
        latest.map(|latest| &latest.value)
    }

    /// All values of the process with that token, the latest first.
    #[cfg_attr(
        any(not(target_os = "linux"), feature = "portable"),
        allow(dead_code, reason = "there are no memberships")
    )]
    pub(crate) fn all(&self, token: u64) -> impl Iterator<Item = &T> {
        let own = self
            .elements()
            .filter(move |element| element.token == token);
        own.map(|element| &element.value)
    }

    /// The latest value of a process that this one was forked from.
    pub(crate) fn inherited(&self, token: u64) -> Option<&T> {
        let mut foreign = self
            .elements()
            .filter(move |element| element.token != token);
        foreign.next().map(|element| &element.value)
    }

    /// Adds a value of the process with that token; but if it is to be the only one and another thread has
    /// been faster, it is given back.
    pub(crate) fn push(&self, token: u64, value: T, only: bool) -> Result<(), T> {
        let mut new = Box::new(Element {
            token,
            value,
            previous: ptr::null_mut(),
        });
        loop {
            // Before the look: if another comes in between, the exchange fails.
            let previous = self.0.load(Ordering::Relaxed);
            if only && self.get(token).is_some() {
                return Err(new.value);
            }
            new.previous = previous;
            let raw = Box::into_raw(new);
            // Release: see `latest`. Relaxed on failure: it is loaded again.
            let (success, failure) = (Ordering::Release, Ordering::Relaxed);
            let pushed = self.0.compare_exchange(previous, raw, success, failure);
            if pushed.is_ok() {
                return Ok(());
            }
            // SAFETY: it comes from `into_raw` above, and nobody else has seen it.
            new = unsafe { Box::from_raw(raw) };
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let mut next = *self.0.get_mut();
        while !next.is_null() {
            // SAFETY: an element that `push` made from a box. This is the only place that frees one,
            // each once, and `&mut self` says that nobody else looks.
            let element = unsafe { Box::from_raw(next) };
            next = element.previous;
        }
    }
}

impl<T> Default for PerProcess<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PerProcess<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerProcess").finish_non_exhaustive()
    }
}

// SAFETY: elements are boxes that this list owns, lent by shared reference only, and given back or dropped
// by value: so it is as safe to share or send as a vector of them.
unsafe impl<T: Send> Send for PerProcess<T> {}
// SAFETY: as above; `push` moves a `T` in by a shared reference, so it must be `Send` as well.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    struct Counted(u64);

    impl Counted {
        fn new(n: u64) -> Self {
            ALIVE.fetch_add(1, Relaxed);
            Self(n)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Relaxed);
        }
    }

    #[test]
    fn each_process_has_its_own_and_sees_what_it_inherits() {
        let list = PerProcess::new();
        assert!(list.get(1).is_none() && list.inherited(1).is_none());
        assert!(list.push(1, Counted::new(10), true).is_ok());
        assert!(list.push(1, Counted::new(11), true).is_err());
        assert!(list.push(1, Counted::new(12), false).is_ok());
        assert_eq!(list.get(1).map(|value| value.0), Some(12));
        let all: Vec<_> = list.all(1).map(|value| value.0).collect();
        assert_eq!(all, [12, 10]);
        // In a child.
        assert!(list.get(2).is_none());
        assert_eq!(list.inherited(2).map(|value| value.0), Some(12));
        assert!(list.push(2, Counted::new(20), true).is_ok());
        assert_eq!(list.get(2).map(|value| value.0), Some(20));
        assert_eq!(list.all(1).count(), 2);
        assert_eq!(ALIVE.load(Relaxed), 3);
        drop(list);
        assert_eq!(ALIVE.load(Relaxed), 0);
    }

    #[test]
    fn of_threads_that_push_the_only_one_one_does() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            let list = PerProcess::new();
            let pushed = thread::scope(|scope| {
                let push = |n| list.push(7, n, true).is_ok();
                let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || push(n))).collect();
                let ends = threads.into_iter().map(|thread| thread.join().unwrap());
                ends.filter(|&pushed| pushed).count()
            });
            assert_eq!((pushed, list.all(7).count()), (1, 1));
        }
    }
}
