//! What both benchmarks run: the same visits to a dictionary by key, to handles of its keys, and to
//! a plain vector of atomics.

#![allow(
    clippy::disallowed_types,
    reason = "a plain vector of atomics is what the dictionary is compared with"
)]

use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use forkmap::{AtomicDict, Entry};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Visits of a pass over few keys. So many, because a branch predictor learns a short pass by
/// heart: it would know beforehand how many slots each look-up visits.
const PASS: usize = 1 << 16;

/// Whether this shall only show that it works. `cargo bench` asks for more than that.
pub(crate) fn smoke() -> bool {
    let given = |flag| std::env::args().any(|arg| arg == flag);
    given("--test") || given("--quick") || !given("--bench")
}

/// The order in which a pass visits the keys.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Drawn at random.
    Random,
    /// From the first to the last.
    InTurn,
}

/// Which keys, how many of them, and in which order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    keys: usize,
    order: Order,
}

/// One key that everybody wants; a table that fits into the caches next to a core; one that does
/// not.
pub(crate) fn cases() -> [Case; 4] {
    let many = if smoke() { 20_000 } else { 1_000_000 };
    [
        (1, Order::Random),
        (1000, Order::Random),
        (many, Order::Random),
        (many, Order::InTurn),
    ]
    .map(|(keys, order)| Case { keys, order })
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys {
            1 => write!(f, "1 key")?,
            n if n % 1_000_000 == 0 => write!(f, "{}M keys", n / 1_000_000)?,
            n => write!(f, "{}k keys", n / 1000)?,
        }
        match self.order {
            Order::Random => Ok(()),
            Order::InTurn => write!(f, " in turn"),
        }
    }
}

/// A full dictionary and its rivals. All memory has been written to, so that no page is met for the
/// first time while the clock runs.
#[derive(Debug)]
pub(crate) struct Workload {
    dict: AtomicDict,
    entries: Vec<Entry>,
    raw: Vec<AtomicU64>,
    /// Like `raw`, but each value among as many bytes as a key takes in the dictionary. It tells
    /// what the memory costs from what the look-up costs.
    apart: Vec<AtomicU64>,
    /// What a pass visits, as indices into `raw` and `entries`.
    indices: Vec<usize>,
    /// The same, as indices into `apart`.
    places: Vec<usize>,
    /// The same, as keys of the dictionary.
    keys: Vec<u64>,
    /// As many keys that the dictionary does not have.
    strangers: Vec<u64>,
}

/// One visit to each of the keys of a pass.
pub(crate) type Pass = fn(&Workload);

/// For each operation those who can do it, `raw` first.
pub(crate) const OPERATIONS: [(&str, &[(&str, Pass)]); 2] = [
    (
        "fetch_add",
        &[
            ("raw", |w| {
                pass(&w.indices, |i| w.raw[i].fetch_add(1, SeqCst))
            }),
            ("raw, 32 bytes apart", |w| {
                pass(&w.places, |i| w.apart[i].fetch_add(1, SeqCst))
            }),
            ("by handle", |w| {
                pass(&w.indices, |i| w.entries[i].fetch_add(1))
            }),
            ("by key", |w| {
                pass(&w.keys, |key| {
                    w.dict.fetch_add(key, 1).expect("it has a slot")
                })
            }),
        ],
    ),
    (
        "load",
        &[
            ("raw", |w| pass(&w.indices, |i| w.raw[i].load(SeqCst))),
            ("raw, 32 bytes apart", |w| {
                pass(&w.places, |i| w.apart[i].load(SeqCst))
            }),
            ("by handle", |w| pass(&w.indices, |i| w.entries[i].load())),
            ("by key", |w| pass(&w.keys, |key| w.dict.load(key))),
            ("get, not there", |w| {
                pass(&w.strangers, |key| w.dict.get(key).unwrap_or(1))
            }),
        ],
    ),
];

fn pass<T: Copy>(order: &[T], mut visit: impl FnMut(T) -> u64) {
    // Every result is used, as a program would; else an addition could become a cheaper
    // instruction.
    let sum = order
        .iter()
        .fold(0u64, |sum, &at| sum.wrapping_add(visit(at)));
    black_box(sum);
}

impl Workload {
    pub(crate) fn new(case: Case) -> Self {
        let Case { keys: n, order } = case;
        let mut rng = StdRng::seed_from_u64(n as u64);
        let words = |n| (0..n).map(|_| AtomicU64::new(1)).collect();

        // A seed of its own would make the look-ups of each run other ones.
        let dict = AtomicDict::options()
            .capacity(n as u64)
            .hash_seed(0x5EED)
            .anonymous();
        let dict = dict.expect("room for the dictionary");
        // The strangers are odd.
        let keys: Vec<u64> = (0..n).map(|_| rng.random::<u64>() & !1).collect();
        let entries = keys
            .iter()
            .map(|&key| dict.entry(key).expect("room for the key"));
        let entries: Vec<Entry> = entries.collect();
        entries.iter().for_each(|entry| entry.store(1));
        assert_eq!(dict.len(), n, "no key was drawn twice");

        let visits = n.max(PASS);
        let indices: Vec<usize> = match order {
            Order::Random => (0..visits).map(|_| rng.random_range(0..n)).collect(),
            Order::InTurn => (0..n).cycle().take(visits).collect(),
        };
        let mut places: Vec<usize> = (0..n).map(|i| 4 * i).collect();
        places.shuffle(&mut rng);
        Self {
            dict,
            entries,
            raw: words(n),
            apart: words(4 * n),
            places: indices.iter().map(|&i| places[i]).collect(),
            keys: indices.iter().map(|&i| keys[i]).collect(),
            strangers: (0..visits).map(|_| rng.random::<u64>() | 1).collect(),
            indices,
        }
    }

    /// Number of visits of a pass.
    pub(crate) fn visits(&self) -> usize {
        self.indices.len()
    }
}
