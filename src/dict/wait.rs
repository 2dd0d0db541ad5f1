//! Waiting until a value is another one.

use std::time::{Duration, Instant};

use bytemuck::Pod;

use super::{AtomicDict, Entry, word_of};
use crate::raw::bell;
use crate::sync::Access;

/// Waiting for a value to change, in whatever process it is changed.
///
/// Every operation that changes a value wakes those who wait for it; nobody needs to notify. A waiter
/// looks a hundred times, then sleeps (a futex on Linux; elsewhere it looks every 5 ms). No wake-up is
/// lost: a change that is complete before the sleep begins is seen, one after that ends it. Not every
/// value that was there in between is seen: who is woken looks at what is there by then. If whoever
/// made the change (or gave the key its slot) is killed or stopped before it has woken anybody, the
/// waiter looks by itself after 50 ms.
///
/// Who waits for a value that changes all the time is woken each time, and costs those who change it a
/// system call each time: better wait for another one that is changed when it matters.
///
/// Waiting blocks, and for ever if nobody makes the change, as a process that has died will not: give
/// a timeout where that can be. A key that has no slot has the value 0 and can be waited for; waiting
/// gives it none. A handle opened with `read_only(true)` waits too, and looks every 5 ms.
impl<V: Pod> AtomicDict<V> {
    /// Waits while the value of `key` is `value`, and returns the other one. Compared by their bits.
    ///
    /// ```
    /// # use forkmap::AtomicDict;
    /// let dict = AtomicDict::anonymous(10)?;
    /// let jobs = dict.clone();
    /// let worker = std::thread::spawn(move || jobs.wait_while(1, 0));
    /// dict.store(1, 7)?;
    /// assert_eq!(worker.join().unwrap(), 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_while(&self, key: u64, value: V) -> V {
        let word = word_of(value);
        self.wait_until(key, |value| word_of(value) != word)
    }

    /// As [`wait_while`](Self::wait_while), but `None` if the value is still the same after `timeout`.
    pub fn wait_while_timeout(&self, key: u64, value: V, timeout: Duration) -> Option<V> {
        let word = word_of(value);
        self.wait_until_timeout(key, |value| word_of(value) != word, timeout)
    }

    /// Waits until `predicate` holds for the value of `key`, and returns that value.
    ///
    /// `predicate` is called again and again, with what the value is each time. If it panics, nothing
    /// is changed.
    pub fn wait_until(&self, key: u64, predicate: impl FnMut(V) -> bool) -> V {
        self.wait(key, predicate, None).expect("no deadline")
    }

    /// As [`wait_until`](Self::wait_until), but `None` if `predicate` does not hold after `timeout`.
    pub fn wait_until_timeout(
        &self,
        key: u64,
        predicate: impl FnMut(V) -> bool,
        timeout: Duration,
    ) -> Option<V> {
        self.wait(key, predicate, bell::after(timeout))
    }

    fn wait(
        &self,
        key: u64,
        mut predicate: impl FnMut(V) -> bool,
        deadline: Option<Instant>,
    ) -> Option<V> {
        let (counters, bells) = (self.counters(), self.counters().bells());
        let mut look = || Some(self.load(key)).filter(|&value| predicate(value));
        if let Some(seen) = bell::spin(&mut look) {
            return Some(seen);
        }
        if counters.access() == Access::ReadOnly {
            return bells.new_key().poll(look, deadline);
        }
        let slot = || counters.find(key);
        // Without a slot it has no bell of its own yet.
        let slot = match slot() {
            Some(slot) => slot,
            None => {
                let seen_or_slot = || look().map(Ok).or_else(|| slot().map(Err));
                match bells.new_key().wait(seen_or_slot, deadline)? {
                    Ok(seen) => return Some(seen),
                    Err(slot) => slot,
                }
            }
        };
        counters.value(slot).bell().wait(look, deadline)
    }
}

/// Waiting for the value to change, as the operations of the same names by key do.
impl<V: Pod> Entry<V> {
    /// Waits while the value is `value`, and returns the other one. Compared by their bits.
    pub fn wait_while(&self, value: V) -> V {
        let word = word_of(value);
        self.wait_until(|value| word_of(value) != word)
    }

    /// As [`wait_while`](Self::wait_while), but `None` if the value is still the same after `timeout`.
    pub fn wait_while_timeout(&self, value: V, timeout: Duration) -> Option<V> {
        let word = word_of(value);
        self.wait_until_timeout(|value| word_of(value) != word, timeout)
    }

    /// Waits until `predicate` holds for the value, and returns that value.
    pub fn wait_until(&self, predicate: impl FnMut(V) -> bool) -> V {
        self.wait(predicate, None).expect("no deadline")
    }

    /// As [`wait_until`](Self::wait_until), but `None` if `predicate` does not hold after `timeout`.
    pub fn wait_until_timeout(
        &self,
        predicate: impl FnMut(V) -> bool,
        timeout: Duration,
    ) -> Option<V> {
        self.wait(predicate, bell::after(timeout))
    }

    fn wait(&self, mut predicate: impl FnMut(V) -> bool, deadline: Option<Instant>) -> Option<V> {
        let mut look = || Some(self.load()).filter(|&value| predicate(value));
        bell::spin(&mut look).or_else(|| self.value().bell().wait(look, deadline))
    }
}
