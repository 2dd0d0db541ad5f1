//! The edge `bell`: no wake-up is lost. Sleepers here have no timeouts, so a lost one is a deadlock.
#![cfg(loom)]

use std::sync::Arc;
use std::time::Instant;

use forkmap::model::bell::{self, Bells};
use forkmap::model::counters::{self, Counters};
use forkmap::model::value::Value;
use forkmap::model::{Access, Word};
use forkmap_loom_tests::{Rung, explore, join, spawn};

type Change = fn(Value<'_>);

/// Every operation that changes a value of 2.
const CHANGES: [(&str, Change); 11] = [
    ("store", |value| value.store(1)),
    ("swap", |value| _ = value.swap(1)),
    ("compare_exchange", |value| _ = value.compare_exchange(2, 1)),
    ("fetch_add", |value| _ = value.fetch_add(1)),
    ("fetch_sub", |value| _ = value.fetch_sub(1)),
    ("fetch_and", |value| _ = value.fetch_and(1)),
    ("fetch_or", |value| _ = value.fetch_or(1)),
    ("fetch_xor", |value| _ = value.fetch_xor(1)),
    ("fetch_min", |value| _ = value.fetch_min(1)),
    ("fetch_max", |value| _ = value.fetch_max(3)),
    ("fetch_update", |value| _ = value.fetch_update(|_| Some(1))),
];

#[test]
fn whatever_changes_a_value_wakes_who_waits_for_it() {
    for (name, change) in CHANGES {
        explore(&format!("wait against {name}"), None, 20, move || {
            let shared = Rung::new(1, false);
            let waiter = spawn(&shared, |shared| _ = shared.wait(0, |value| value != 2));
            let changer = spawn(&shared, move |shared| change(shared.value(0)));
            join([waiter, changer]);
        });
    }
}

/// The flag of a waiter that was killed: one ring for nobody, and no harm to the next waiter.
#[test]
fn a_flag_that_was_left_up_does_not_cost_a_wake_up() {
    explore("wait, the flag being up already", Some(4), 1_000, || {
        let shared = Rung::new(2, true);
        let waiter = spawn(&shared, |shared| _ = shared.wait(1, |value| value != 2));
        let changer = spawn(&shared, |shared| {
            shared.value(0).store(1);
            shared.value(1).store(1);
        });
        join([waiter, changer]);
    });
}

#[test]
fn one_change_wakes_all_who_wait_for_it() {
    explore("two waiters, one changer", Some(3), 1_000, || {
        let shared = Rung::new(1, false);
        let waiters = [0, 1].map(|_| spawn(&shared, |shared| _ = shared.wait(0, |v| v != 2)));
        let changer = spawn(&shared, |shared| shared.value(0).store(1));
        join(waiters);
        join([changer]);
    });
}

/// The first change may be all that the waiter has seen when it goes to sleep.
#[test]
fn the_last_of_two_changes_wakes_too() {
    explore("one waiter, two changers", Some(3), 1_000, || {
        let shared = Rung::new(1, false);
        let waiter = spawn(&shared, |shared| _ = shared.wait(0, |value| value == 4));
        let changers = [0, 1].map(|_| spawn(&shared, |shared| _ = shared.value(0).fetch_add(1)));
        join([waiter]);
        join(changers);
    });
}

/// Keys share bells: who is woken by the change of another value goes back to sleep, and is woken
/// by its own.
#[test]
fn two_who_wait_for_different_values_at_one_bell_both_wake() {
    explore("two waiters, two values", Some(3), 1_000, || {
        let shared = Rung::new(2, false);
        let waiters = [0, 1].map(|n| spawn(&shared, move |s| _ = s.wait(n, |v| v != 2)));
        let changer = spawn(&shared, |shared| {
            shared.value(0).store(1);
            shared.value(1).store(1);
        });
        join(waiters);
        join([changer]);
    });
}

/// One changer has seen the flag that an earlier waiter left, and rings when it gets to it. A waiter
/// that comes meanwhile must not lose its flag to that ring without noticing.
#[test]
fn a_ring_under_way_does_not_cost_a_later_waiter_its_own() {
    explore("wait during another ring", Some(3), 1_000, || {
        let shared = Rung::new(2, true);
        let waiter = spawn(&shared, |shared| _ = shared.wait(1, |value| value != 2));
        let changers = [0, 1].map(|n| spawn(&shared, move |shared| shared.value(n).store(1)));
        join([waiter]);
        join(changers);
    });
}

/// One that has no time left takes its look and goes, and leaves a flag that is of use to others.
#[test]
fn a_waiter_that_gives_up_does_not_harm_another() {
    explore("one waits, one gives up", Some(3), 500, || {
        let shared = Rung::new(1, false);
        let waiter = spawn(&shared, |shared| _ = shared.wait(0, |value| value != 2));
        let hasty = spawn(&shared, |shared| {
            let value = shared.value(0);
            let look = || Some(value.load()).filter(|&value| value != 2);
            value.bell().wait(look, Some(Instant::now()));
        });
        let changer = spawn(&shared, |shared| shared.value(0).store(1));
        join([waiter, hasty, changer]);
    });
}

/// A table whose bells are rung.
#[derive(Debug)]
struct Dict {
    bells: Vec<Word>,
    words: Vec<Word>,
}

impl Dict {
    fn new(slots: u64) -> Arc<Self> {
        let words = |count| (0..count).map(|_| Word::new(0)).collect();
        Arc::new(Self {
            bells: words(bell::WORDS as u64),
            words: words(counters::words(slots).expect("tables are tiny here")),
        })
    }

    fn table(&self) -> Counters<'_> {
        Counters::new(&self.words, Bells::new(&self.bells), 7, Access::ReadWrite)
    }

    /// Sleeps until the value of `key` is not 0, as `AtomicDict` does.
    fn wait(&self, key: u64) -> u64 {
        let table = self.table();
        let look = || table.get(key).filter(|&value| value != 0);
        let seen_or_slot = || look().map(Ok).or_else(|| table.find(key).map(Err));
        let met = table.bells().new_key().wait(seen_or_slot, None);
        match met.expect("no deadline") {
            Ok(seen) => seen,
            Err(slot) => {
                let bell = table.value(slot).bell();
                bell.wait(look, None).expect("no deadline")
            }
        }
    }
}

/// A key that has no slot has no bell of its own: first its claim wakes, then its change.
#[test]
fn who_waits_for_a_key_without_a_slot_wakes() {
    explore("wait for a new key", Some(4), 100, || {
        let dict = Dict::new(1);
        let waiter = spawn(&dict, |dict| assert_eq!(dict.wait(1), 5));
        let claimer = spawn(&dict, |dict| {
            let slot = dict.table().claim(1).expect("room");
            dict.table().value(slot).store(5);
        });
        join([waiter, claimer]);
    });
}

/// One claims it, and another one changes it.
#[test]
fn who_waits_for_a_key_that_another_claims_wakes() {
    explore("wait for a new key, two claimers", Some(3), 1_000, || {
        let dict = Dict::new(1);
        let waiter = spawn(&dict, |dict| assert_ne!(dict.wait(1), 0));
        let claimers = [0, 1].map(|n| {
            spawn(&dict, move |dict| {
                let slot = dict.table().claim(1).expect("room");
                dict.table().value(slot).fetch_add(n);
            })
        });
        join([waiter]);
        join(claimers);
    });
}
