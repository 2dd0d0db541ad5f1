//! What the models of `forkmap` share. Empty unless it is built with `--cfg loom`: see `ci/loom.sh`.
#![cfg(loom)]

pub mod deaths;
pub mod map;
pub mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use forkmap::model::bell::{self, Bells};
use forkmap::model::counters::{Claimed, Counters, words};
use forkmap::model::value::Value;
use forkmap::model::{Access, Word, hash};
use loom::thread::{self, JoinHandle};

/// Both ways of mapping a segment, for the models that look.
pub const BOTH: [Access; 2] = [Access::ReadWrite, Access::ReadOnly];

const SEED: u64 = 0x5EED;

/// Runs `model` under every schedule with at most `bound` preemptions (`None`: every schedule at
/// all) and prints how many there were.
///
/// Fewer than `at_least` is a failure: a model whose threads never meet passes happily after one.
pub fn explore(
    name: &str,
    bound: Option<usize>,
    at_least: usize,
    model: impl Fn() + Send + Sync + 'static,
) {
    report(name, bound, at_least, || run(bound, model));
}

/// Runs `model` under every schedule with at most `bound` preemptions: how many there were.
fn run(bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> usize {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    // Some models do a lot before their threads start.
    builder.max_branches = 20_000;
    // Builder::new() takes these from the environment; nothing out there may cut a model short.
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.checkpoint_file = None;

    let schedules = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&schedules);
    builder.check(move || {
        counter.fetch_add(1, Relaxed);
        model();
    });
    schedules.load(Relaxed)
}

/// Prints how many schedules `explore` has run, which must be `at_least` so many.
fn report(name: &str, bound: Option<usize>, at_least: usize, explore: impl FnOnce() -> usize) {
    let start = Instant::now();
    let schedules = explore();
    assert!(
        schedules >= at_least,
        "model {name}: {schedules} schedules, expected {at_least} at least"
    );
    let bound = bound.map_or("none".to_owned(), |bound| bound.to_string());
    println!(
        "model {name}: {schedules} schedules (preemption bound {bound}), {:.2} s",
        start.elapsed().as_secs_f64()
    );
}

/// Key number `n` of those whose probe path starts at slot `home` in a table of `slots` slots.
pub fn key(slots: usize, home: usize, n: usize) -> u64 {
    (0..)
        .filter(|&key| hash::place(hash::mix(key, SEED), slots) == home)
        .nth(n)
        .expect("every home has keys")
}

/// The key whose hash is 0, the mark of a free slot.
pub fn zero_key() -> u64 {
    hash::unmix(0, SEED)
}

/// The words of a table, as several processes have them mapped.
#[derive(Debug)]
pub struct Table {
    words: Vec<Word>,
    /// For bells that are never rung.
    mute: Vec<Word>,
}

impl Table {
    /// An empty table.
    pub fn new(slots: usize) -> Arc<Self> {
        let words = words(slots as u64).expect("tables are tiny here");
        let words = (0..words).map(|_| Word::new(0)).collect();
        let mute = (0..bell::WORDS).map(|_| Word::new(0)).collect();
        Arc::new(Self { words, mute })
    }

    /// What a process sees that has mapped the table for reading and writing.
    pub fn view(&self) -> Counters<'_> {
        self.view_with(Access::ReadWrite)
    }

    /// What a process sees that has mapped the table for `access`.
    pub fn view_with(&self, access: Access) -> Counters<'_> {
        Counters::new(&self.words, Bells::new(&self.mute).mute(), SEED, access)
    }

    /// The value of `slot`.
    pub fn value(&self, slot: usize) -> Value<'_> {
        self.view().value(slot)
    }

    /// Claims `key`, which must find room: its value.
    pub fn claim(&self, key: u64) -> Value<'_> {
        self.value(self.view().claim(key).expect("room"))
    }

    /// At rest, exactly `keys` are claimed, each once, and each is found where it stands.
    pub fn check(&self, keys: &[u64]) {
        let table = self.view();
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(Claimed { slot, key, .. }) = table.next(from) {
            assert_eq!(table.find(key), Some(slot), "key {key} is found elsewhere");
            found.push(key);
            from = slot + 1;
        }
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, keys);
        assert_eq!(table.len(), keys.len());
    }
}

/// Values that share one bell, which is rung when they change.
#[derive(Debug)]
pub struct Rung {
    bells: Vec<Word>,
    values: Vec<Word>,
}

impl Rung {
    /// So many values of 2. With `raised`, the flag is up, as a waiter leaves it that was killed.
    pub fn new(values: usize, raised: bool) -> Arc<Self> {
        // The first word is the flag of the bell that `value` takes.
        let bells = (0..bell::WORDS).map(|n| Word::new(u64::from(n == 0 && raised)));
        let bells = bells.collect();
        let values = (0..values).map(|_| Word::new(2)).collect();
        Arc::new(Self { bells, values })
    }

    /// Value number `n`.
    pub fn value(&self, n: usize) -> Value<'_> {
        let bells = Bells::new(&self.bells);
        Value::new(&self.values[n], bells.of(&self.values[n]))
    }

    /// Sleeps until value number `n` passes `until`.
    pub fn wait(&self, n: usize, until: impl Fn(u64) -> bool) -> u64 {
        let value = self.value(n);
        let look = || Some(value.load()).filter(|&value| until(value));
        value.bell().wait(look, None).expect("no deadline")
    }
}

/// Runs `f` over `shared` in a thread of its own: another process, to the algorithm.
pub fn spawn<S: 'static, T: 'static>(
    shared: &Arc<S>,
    f: impl FnOnce(&S) -> T + 'static,
) -> JoinHandle<T> {
    let shared = Arc::clone(shared);
    thread::spawn(move || f(&shared))
}

/// Waits for `threads`: what each returned.
pub fn join<T, const N: usize>(threads: [JoinHandle<T>; N]) -> [T; N] {
    threads.map(|thread| thread.join().expect("a panic would have ended the model"))
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "expected 2 at least")]
    fn a_model_without_a_race_is_refused() {
        super::explore("no race", None, 2, || ());
    }
}
