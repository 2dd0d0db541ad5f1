//! Iterators over the claimed slots.

use std::iter::FusedIterator;
use std::marker::PhantomData;

use bytemuck::Pod;

use super::value_of;
use crate::raw::counters::Counters;
use crate::raw::value::Value;
use crate::sync::Access;

/// Iterator over keys and values, made by [`AtomicDict::iter`](crate::AtomicDict::iter).
#[derive(Debug, Clone)]
pub struct Iter<'a, V> {
    counters: Counters<'a>,
    access: Access,
    /// The next slot to look at.
    next: usize,
    value: PhantomData<fn() -> V>,
}

impl<'a, V> Iter<'a, V> {
    pub(super) fn new(counters: Counters<'a>, access: Access) -> Self {
        Self {
            counters,
            access,
            next: 0,
            value: PhantomData,
        }
    }
}

impl<V: Pod> Iterator for Iter<'_, V> {
    type Item = (u64, V);

    fn next(&mut self) -> Option<(u64, V)> {
        let Some((slot, key)) = self.counters.next_claimed(self.next) else {
            self.next = self.counters.slots() + 1;
            return None;
        };
        self.next = slot + 1;
        let word = Value::new(self.counters.value(slot)).load_with(self.access);
        Some((key, value_of(word)))
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
