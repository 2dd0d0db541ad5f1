//! How `SharedHashMap` compares with maps inside one process: papaya, which is lock-free as well, and dashmap,
//! which has locks.
//!
//! The contenders take turns in short batches, and each batch is compared with papaya's in the same round:
//! what else the machine does at a time then slows all. Prints a table. papaya is used with one guard a
//! batch, which is its fastest way.
//!
//! ```text
//! cargo bench --bench maps [-- WORD...]       only rows that have all the words, such as "1M hit"
//! ```

use std::fmt::Debug;
use std::hash::Hash;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use bytemuck::Pod;
use forkmap::{SharedHashMap, Stored};

/// A map under test. What a batch does is inlined into it: a call for each operation would cost more than
/// some of them.
trait Contender<K, V>: Sync {
    fn hit(&self, keys: &[K]);
    fn miss(&self, keys: &[K]);
    /// Sets the value of keys that are there, without asking for the previous one where that can be had.
    fn overwrite(&self, keys: &[K], value: V);
    /// The same, and takes the previous one.
    fn exchange(&self, keys: &[K], value: V);
    fn remove_and_insert(&self, keys: &[K], value: V);
}

impl<K, V> Contender<K, V> for SharedHashMap<K, V>
where
    K: Stored<Item = K> + Sync + Pod,
    V: Stored<Item = V, Owned = V> + Sync + Pod + Debug,
{
    fn hit(&self, keys: &[K]) {
        for key in keys {
            black_box(self.get(key).unwrap().unwrap());
        }
    }

    fn miss(&self, keys: &[K]) {
        for key in keys {
            assert!(self.get(key).unwrap().is_none());
        }
    }

    fn overwrite(&self, keys: &[K], value: V) {
        for key in keys {
            self.set(key, &value).unwrap();
        }
    }

    fn exchange(&self, keys: &[K], value: V) {
        for key in keys {
            black_box(self.insert(key, &value).unwrap());
        }
    }

    fn remove_and_insert(&self, keys: &[K], value: V) {
        for key in keys {
            black_box(self.remove(key).unwrap());
            black_box(self.try_insert(key, &value).unwrap());
        }
    }
}

impl<K, V> Contender<K, V> for papaya::HashMap<K, V>
where
    K: Copy + Hash + Eq + Send + Sync,
    V: Copy + Send + Sync,
{
    fn hit(&self, keys: &[K]) {
        let map = self.pin();
        for key in keys {
            black_box(*map.get(key).unwrap());
        }
    }

    fn miss(&self, keys: &[K]) {
        let map = self.pin();
        for key in keys {
            assert!(map.get(key).is_none());
        }
    }

    fn overwrite(&self, keys: &[K], value: V) {
        self.exchange(keys, value);
    }

    fn exchange(&self, keys: &[K], value: V) {
        let map = self.pin();
        for key in keys {
            black_box(map.insert(*key, value).copied());
        }
    }

    fn remove_and_insert(&self, keys: &[K], value: V) {
        let map = self.pin();
        for key in keys {
            black_box(map.remove(key).copied());
            black_box(map.insert(*key, value).copied());
        }
    }
}

impl<K, V> Contender<K, V> for dashmap::DashMap<K, V>
where
    K: Copy + Hash + Eq + Send + Sync,
    V: Copy + Send + Sync,
{
    fn hit(&self, keys: &[K]) {
        for key in keys {
            black_box(*self.get(key).unwrap());
        }
    }

    fn miss(&self, keys: &[K]) {
        for key in keys {
            assert!(self.get(key).is_none());
        }
    }

    fn overwrite(&self, keys: &[K], value: V) {
        self.exchange(keys, value);
    }

    fn exchange(&self, keys: &[K], value: V) {
        for key in keys {
            black_box(self.insert(*key, value));
        }
    }

    fn remove_and_insert(&self, keys: &[K], value: V) {
        for key in keys {
            black_box(self.remove(key));
            black_box(self.insert(*key, value));
        }
    }
}

const NAMES: [&str; 3] = ["papaya", "dashmap", "SharedHashMap"];

/// Random keys: number `n` of them. Those of different numbers differ.
fn key<K: Pod>(n: u64) -> K {
    let mut key = K::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut key);
    for (at, byte) in bytes.iter_mut().enumerate() {
        // Odd multiples of an odd constant, and no two the same modulo 2^64.
        *byte = n
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(8 * at as u32) as u8;
    }
    key
}

struct Rounds {
    smoke: bool,
    words: Vec<String>,
}

impl Rounds {
    /// Prints a row for each contender.
    fn compare(&self, title: &str, operations: usize, batch: impl Fn(usize) -> f64) {
        if !self.words.iter().all(|word| title.contains(word)) {
            return;
        }
        let rounds = if self.smoke { 1 } else { 21 };
        let mut times = vec![Vec::with_capacity(rounds); NAMES.len()];
        for round in 0..rounds {
            // Each in its turn is the first of a round.
            for turn in 0..NAMES.len() {
                let at = (round + turn) % NAMES.len();
                times[at].push(batch(at) / operations as f64);
            }
        }
        for (name, own) in NAMES.iter().zip(&times) {
            let ratios = times[0].iter().zip(own).map(|(papaya, own)| papaya / own);
            let [low, ratio, high] = quartiles(ratios.collect());
            let [_, time, _] = quartiles(own.clone());
            println!("| {title} | {name} | {time:.1} | {ratio:.2} | {low:.2} to {high:.2} |");
        }
    }
}

/// The first quarter, the middle and the third quarter of the sorted numbers.
fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[numbers.len() * quarter / 4])
}

fn nanoseconds(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_nanos() as f64
}

/// The time of two threads that do the same at once, each on its own keys.
fn of_two(f: impl Fn(usize) + Sync) -> f64 {
    let arrived = AtomicU32::new(0);
    let run = |thread| {
        arrived.fetch_add(1, SeqCst);
        // Not asleep: who is woken up may find the other one done.
        while arrived.load(SeqCst) < 2 {
            spin_loop();
        }
        nanoseconds(|| f(thread))
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        (run(0) + other.join().expect("it does not panic")) / 2.0
    })
}

fn case<K, V>(rounds: &Rounds, what: &str, size: &str, keys: u64, capacity: u64)
where
    K: Pod + Hash + Eq + Send + Sync + Stored<Item = K>,
    V: Pod + Send + Sync + Debug + Stored<Item = V, Owned = V>,
{
    let titles = [
        "hit",
        "miss",
        "set",
        "insert",
        "remove + insert",
        "fill",
        "threads",
    ];
    let title = |operation: &str| format!("{what}, {size}, {operation}");
    if !titles.iter().any(|operation| {
        rounds
            .words
            .iter()
            .all(|word| title(operation).contains(word) || word.contains("thread"))
    }) {
        return;
    }
    let new = || {
        SharedHashMap::<K, V>::options()
            // Two more than are there: else a thread that removes a key may find its room in the hands of
            // the other one.
            .capacity(capacity + 2)
            .anonymous()
            .unwrap()
    };
    let (papaya, dashmap, ours) = (papaya::HashMap::new(), dashmap::DashMap::new(), new());
    let maps: [&dyn Contender<K, V>; 3] = [&papaya, &dashmap, &ours];
    let all: Vec<K> = (0..keys).map(key).collect();
    for n in 0..keys {
        papaya.pin().insert(key(n), V::zeroed());
        dashmap.insert(key(n), V::zeroed());
        SharedHashMap::set(&ours, &key(n), &V::zeroed()).unwrap();
    }
    let visits = if rounds.smoke { 100 } else { 200_000 };
    let mut random = 1_u64;
    let mut draw = |from: u64| -> Vec<K> {
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 33
        };
        (0..visits).map(|_| key(from + next() % keys)).collect()
    };
    let (here, elsewhere, absent) = (draw(0), draw(0), draw(keys));
    let value = V::zeroed();
    let run = |operation: &str, f: &dyn Fn(&dyn Contender<K, V>)| {
        rounds.compare(&title(operation), visits, |at| nanoseconds(|| f(maps[at])));
    };
    run("hit", &|map| map.hit(&here));
    run("miss", &|map| map.miss(&absent));
    run("set", &|map| map.overwrite(&here, value));
    run("insert", &|map| map.exchange(&here, value));
    run("remove + insert", &|map| {
        map.remove_and_insert(&here, value)
    });
    type OnKeys<'a, K, V> = dyn Fn(&dyn Contender<K, V>, &[K]) + Sync + 'a;
    let run_two = |operation: &str, f: &OnKeys<'_, K, V>| {
        let title = title(&format!("{operation}, two threads"));
        rounds.compare(&title, visits, |at| {
            let (here, elsewhere) = (&here, &elsewhere);
            of_two(|thread| f(maps[at], if thread == 0 { here } else { elsewhere }))
        });
    };
    run_two("hit", &|map, keys| map.hit(keys));
    run_two("set", &|map, keys| map.overwrite(keys, value));
    run_two("remove + insert", &|map, keys| {
        map.remove_and_insert(keys, value)
    });
    if capacity == keys {
        // Of fresh keys into a map that was filled and cleared before: else it is the kernel that is
        // measured, which has to find the memory.
        rounds.compare(&title("fill"), all.len(), |at| {
            match at {
                0 => papaya.pin().clear(),
                1 => dashmap.clear(),
                _ => ours.clear().unwrap(),
            }
            nanoseconds(|| maps[at].exchange(&all, value))
        });
    }
    let stats = ours.stats().unwrap();
    eprintln!(
        "{what}, {size}: lines of the index for a hit {:.2} (99 %: {}), for a miss {:.2} (99 %: {}, most {})",
        stats.hit_lines,
        stats.hit_lines_p99,
        stats.miss_lines,
        stats.miss_lines_p99,
        stats.miss_lines_max
    );
}

fn main() {
    let arguments = || std::env::args().skip(1);
    let rounds = Rounds {
        smoke: arguments().any(|argument| argument == "--test"),
        words: arguments().filter(|word| !word.starts_with("--")).collect(),
    };
    println!(
        "Speed relative to papaya: 1 is as fast, 2 takes half the time. Medians of all rounds.\n"
    );
    println!("| workload | map | ns/op | of papaya | middle half of the rounds |");
    println!("|---|---|---:|---:|---:|");
    let sizes: &[(&str, u64, u64)] = match rounds.smoke {
        true => &[("1k", 1_000, 1_000), ("200 of 2k", 200, 2_000)],
        false => &[
            ("1k", 1_000, 1_000),
            ("100k", 100_000, 100_000),
            ("1M", 1_000_000, 1_000_000),
            ("200k of 2M", 200_000, 2_000_000),
        ],
    };
    for &(size, keys, capacity) in sizes {
        case::<u64, u64>(&rounds, "8 B to 8 B", size, keys, capacity);
        case::<[u8; 32], [u8; 100]>(&rounds, "32 B to 100 B", size, keys, capacity);
    }
}
