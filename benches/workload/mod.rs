//! What both benchmarks run: the same visits to a dictionary by key, to handles of its keys, and to
//! a plain vector of atomics.

#![allow(
    clippy::disallowed_types,
    reason = "a plain vector of atomics is what the dictionary is compared with"
)]

use std::fmt;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use forkmap::{AtomicDict, Entry, Lock};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Visits that are drawn at least. A branch predictor learns some thousands of visits by heart, if
/// they come again, and then knows beforehand how many slots each look-up takes. Of so many it knows
/// nothing.
const DRAWN: usize = 1 << 16;

/// Visits that come again and again at least, so that going through them costs nothing.
const ROUND: usize = 1000;

/// Whether this shall only show that it works. `cargo bench` asks for more than that.
pub(crate) fn smoke() -> bool {
    let given = |flag| std::env::args().any(|arg| arg == flag);
    given("--test") || given("--quick") || !given("--bench")
}

/// How many keys, and in which order a pass visits them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    keys: usize,
    order: Order,
}

#[derive(Debug, Clone, Copy)]
enum Order {
    /// The key of each visit is drawn at random.
    Drawn,
    /// All keys in a shuffled order, and the same again and again, as a loop over some objects would
    /// visit them.
    Rounds,
}

/// One key that everybody wants; keys whose slots are about as large as the first cache; keys whose
/// slots are larger than all caches.
pub(crate) fn cases() -> [Case; 4] {
    let many = if smoke() { 20_000 } else { 1_000_000 };
    [
        (1, Order::Rounds),
        (1000, Order::Drawn),
        (1000, Order::Rounds),
        (many, Order::Drawn),
    ]
    .map(|(keys, order)| Case { keys, order })
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.keys;
        match self.order {
            _ if n == 1 => write!(f, "1 key"),
            Order::Rounds => write!(f, "{}k keys in rounds", n / 1000),
            Order::Drawn if n < 1_000_000 => write!(f, "{}k keys", n / 1000),
            Order::Drawn => write!(f, "{}M keys", n / 1_000_000),
        }
    }
}

/// A full dictionary and its rivals. All memory has been written to, so that no page is met for the
/// first time while the clock runs.
#[derive(Debug)]
pub(crate) struct Workload {
    dict: AtomicDict,
    /// A handle for each key.
    table: Vec<Entry>,
    raw: Vec<AtomicU64>,
    /// Like `raw`, but each value among as many bytes as a key takes in the dictionary. Tells what
    /// the memory costs from what the look-up costs.
    apart: Vec<AtomicU64>,
    /// The visits of a pass, as indices into `raw` and `table`.
    indices: Vec<usize>,
    /// The same, as indices into `apart`.
    places: Vec<usize>,
    /// The same, as handles.
    handles: Vec<Entry>,
    /// The same, as keys.
    keys: Vec<u64>,
    /// As many keys that the dictionary does not have.
    strangers: Vec<u64>,
    /// Guards nothing.
    mutex: Mutex<()>,
    /// The same between processes, on a key of its own.
    lock: Lock,
}

/// Makes all visits of a pass.
pub(crate) type Pass = fn(&Workload);

/// For each operation the contenders, `raw` first.
pub(crate) const OPERATIONS: [(&str, &[(&str, Pass)]); 2] = [
    (
        "fetch_add",
        &[
            ("raw", |w| {
                pass(&w.indices, |&i| w.raw[i].fetch_add(1, SeqCst))
            }),
            ("raw, 32 bytes apart", |w| {
                pass(&w.places, |&i| w.apart[i].fetch_add(1, SeqCst))
            }),
            ("handle", |w| pass(&w.handles, |entry| entry.fetch_add(1))),
            ("handle from a table", |w| {
                pass(&w.indices, |&i| w.table[i].fetch_add(1))
            }),
            ("key", |w| {
                pass(&w.keys, |&key| {
                    w.dict.fetch_add(key, 1).expect("it has a slot")
                })
            }),
        ],
    ),
    (
        "load",
        &[
            ("raw", |w| pass(&w.indices, |&i| w.raw[i].load(SeqCst))),
            ("raw, 32 bytes apart", |w| {
                pass(&w.places, |&i| w.apart[i].load(SeqCst))
            }),
            ("handle", |w| pass(&w.handles, |entry| entry.load())),
            ("handle from a table", |w| {
                pass(&w.indices, |&i| w.table[i].load())
            }),
            ("key", |w| pass(&w.keys, |&key| w.dict.load(key))),
            ("key that is not there", |w| {
                pass(&w.strangers, |&key| w.dict.get(key).unwrap_or(1))
            }),
        ],
    ),
];

/// Taking a lock and giving it back, once a visit; what is locked is one and the same whatever the key.
pub(crate) const LOCKS: &[(&str, Pass)] = &[
    ("std::sync::Mutex", |w| {
        pass(&w.indices, |_| {
            let guard = w.mutex.lock().expect("nobody panics");
            black_box(&guard);
            1
        })
    }),
    ("Lock", |w| {
        pass(&w.indices, |_| {
            let guard = w.lock.lock().expect("nobody dies");
            black_box(&guard);
            1
        })
    }),
];

fn pass<'a, T>(order: &'a [T], mut visit: impl FnMut(&'a T) -> u64) {
    // The results are used: an addition whose result is not may become another instruction.
    let sum = order
        .iter()
        .fold(0u64, |sum, at| sum.wrapping_add(visit(at)));
    black_box(sum);
}

impl Workload {
    pub(crate) fn new(Case { keys: n, order }: Case) -> Self {
        let mut rng = StdRng::seed_from_u64(n as u64);
        let indices: Vec<usize> = match order {
            Order::Drawn => (0..n.max(DRAWN)).map(|_| rng.random_range(0..n)).collect(),
            Order::Rounds => {
                let round = shuffled(n, &mut rng);
                round.into_iter().cycle().take(n.max(ROUND)).collect()
            }
        };

        let mut options = AtomicDict::options();
        // A fixed seed: a random one would make each run a look-up of other slots.
        options.capacity(n as u64).hash_seed(0x5EED);
        let dict = options.anonymous().expect("room for the dictionary");
        // The keys are even, and the strangers odd.
        let keys: Vec<u64> = (0..n).map(|_| rng.random::<u64>() & !1).collect();
        let table: Vec<Entry> = keys
            .iter()
            .map(|&key| dict.entry(key).expect("room for the key"))
            .collect();
        assert_eq!(dict.len(), n, "a key was drawn twice");
        table.iter().for_each(|entry| entry.store(1));

        let lock = Lock::new(&dict, 1).expect("room for the lock");
        let words = |n| (0..n).map(|_| AtomicU64::new(1)).collect();
        let places = shuffled(n, &mut rng);
        Self {
            dict,
            raw: words(n),
            apart: words(4 * n),
            places: indices.iter().map(|&i| 4 * places[i]).collect(),
            handles: indices.iter().map(|&i| table[i].clone()).collect(),
            keys: indices.iter().map(|&i| keys[i]).collect(),
            strangers: indices.iter().map(|&i| keys[i] | 1).collect(),
            mutex: Mutex::new(()),
            lock,
            table,
            indices,
        }
    }

    /// Number of visits of a pass.
    pub(crate) fn visits(&self) -> usize {
        self.indices.len()
    }
}

/// The numbers below `n` in random order.
fn shuffled(n: usize, rng: &mut StdRng) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..n).collect();
    numbers.shuffle(rng);
    numbers
}
