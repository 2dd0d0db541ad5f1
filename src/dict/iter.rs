//! Iterators over the claimed slots.

use std::fmt;
use std::iter::FusedIterator;
use std::marker::PhantomData;

use bytemuck::Pod;

use super::value_of;
use crate::raw::counters::Counters;

/// Iterator over keys and values, made by [`AtomicDict::iter`](crate::AtomicDict::iter).
#[derive(Clone)]
pub struct Iter<'a, V> {
    counters: Counters<'a>,
    /// The next slot to look at.
    next: usize,
    value: PhantomData<fn() -> V>,
}

impl<'a, V> Iter<'a, V> {
    pub(super) fn new(counters: Counters<'a>) -> Self {
        Self {
            counters,
            next: 0,
            value: PhantomData,
        }
    }
}

impl<V> fmt::Debug for Iter<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<V: Pod> Iterator for Iter<'_, V> {
    type Item = (u64, V);

    fn next(&mut self) -> Option<(u64, V)> {
        let Some(claimed) = self.counters.next(self.next) else {
            self.next = self.counters.slots() + 1;
            return None;
        };
        self.next = claimed.slot + 1;
        Some((claimed.key, value_of(claimed.value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.counters.slots() + 1 - self.next))
    }
}

impl<V: Pod> FusedIterator for Iter<'_, V> {}

/// Iterator over keys, made by [`AtomicDict::keys`](crate::AtomicDict::keys).
#[derive(Debug, Clone)]
pub struct Keys<'a, V>(Iter<'a, V>);

impl<'a, V> Keys<'a, V> {
    pub(super) fn new(iter: Iter<'a, V>) -> Self {
        Self(iter)
    }
}

impl<V: Pod> Iterator for Keys<'_, V> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0.next().map(|(key, _)| key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<V: Pod> FusedIterator for Keys<'_, V> {}
