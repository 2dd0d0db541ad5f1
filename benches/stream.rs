//! `StreamDict`: what reading and writing cost, and what a switch from one generation to the next does to
//! those who read and write meanwhile.
//!
//! ```text
//! cargo bench --bench stream [-- FILTER]
//! cargo bench --bench stream -- --figures      bytes stored for each byte written, and the longest stalls
//! ```

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use forkmap::StreamDict;

type Dict = StreamDict<u64, [u8]>;

fn key(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn dict(log_bytes: u64) -> Dict {
    let mut options = Dict::options();
    options.unlink_on_drop(true).log_bytes(log_bytes);
    options.create_unique().expect("there is room")
}

/// One with so many entries of so many bytes.
fn filled(keys: u64, bytes: usize) -> Dict {
    let dict = dict(64 << 10);
    let keys: Vec<_> = (0..keys).map(key).collect();
    let value = vec![7; bytes];
    for keys in keys.chunks(1000) {
        let entries = keys.iter().map(|key| (key, &*value));
        dict.extend(entries).expect("there is room");
    }
    dict
}

fn another(dict: &Dict) -> Dict {
    Dict::open(dict.name().expect("it has one")).expect("it is there")
}

fn reads(criterion: &mut Criterion) {
    const KEYS: u64 = 1000;
    let dict = StreamDict::<u64, u64>::options()
        .unlink_on_drop(true)
        .create_unique()
        .expect("there is room");
    let mut plain = HashMap::new();
    for n in 0..KEYS {
        dict.set(&key(n), &n).expect("there is room");
        plain.insert(key(n), n);
    }
    let mut group = criterion.benchmark_group("read without news, 1k keys");
    let mut n = 0;
    let mut next = move || {
        n = (n + 7919) % KEYS;
        key(n)
    };
    group.bench_function("HashMap", |bencher| {
        bencher.iter(|| plain.get(&next()).copied());
    });
    group.bench_function("get", |bencher| {
        bencher.iter(|| dict.get(&next()).expect("readable"));
    });
    group.bench_function("view held", |bencher| {
        let view = dict.view().expect("readable");
        bencher.iter(|| view.get(&next()).expect("readable").copied());
    });
    group.finish();
}

fn writes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    for (name, bytes) in [("100 B", 100), ("100 kB", 100_000)] {
        let dict = filled(100, bytes);
        let value = vec![8; bytes];
        let mut n = 0;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new("set", name), |bencher| {
            bencher.iter(|| {
                n = (n + 1) % 100;
                dict.set(&key(n), &value).expect("there is room");
            });
        });
    }
    group.finish();
}

fn following(criterion: &mut Criterion) {
    const CHANGES: u64 = 10_000;
    let mut group = criterion.benchmark_group("follow");
    group.throughput(Throughput::Elements(CHANGES));
    group.bench_function("10k changes of 100 B", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                // A log that holds all of them.
                let dict = dict(4 << 20);
                let follower = another(&dict);
                for n in 0..CHANGES {
                    dict.set(&key(n % 1000), &[7; 100]).expect("there is room");
                }
                let start = Instant::now();
                black_box(follower.len().expect("readable"));
                spent += start.elapsed();
            }
            spent
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    for keys in [0, 1_000, 100_000] {
        let dict = filled(keys, 100);
        group.throughput(Throughput::Elements(keys));
        group.bench_function(BenchmarkId::new("entries of 100 B", keys), |bencher| {
            bencher.iter(|| another(&dict));
        });
    }
    group.finish();
}

/// Bytes that were stored, in logs and in dumps, for each byte of a key or a value that was set.
fn amplification(puts: u64) {
    const VALUE: usize = 100;
    println!("| entries | sets | generations | bytes stored for each byte set |");
    println!("|---:|---:|---:|---:|");
    for keys in [1_000, 100_000, 1_000_000] {
        let keys = keys.min(puts);
        let dict = filled(keys, VALUE);
        let mut last = dict.status().expect("readable");
        let (before, mut stored) = (last.dumps, 0);
        for n in 0..puts {
            dict.set(&key(n % keys), &[n as u8; VALUE])
                .expect("there is room");
            // (Each set may begin a generation; asking after each would take longer than the sets.)
            if n % 16 == 0 || n + 1 == puts {
                let status = dict.status().expect("readable");
                match status.dumps == last.dumps {
                    true => stored += status.log_used - last.log_used,
                    // The one before was full.
                    false => {
                        stored +=
                            last.log_bytes - last.log_used + status.dump_bytes + status.log_used;
                    }
                }
                last = status;
            }
        }
        let set = puts * (8 + VALUE as u64);
        let ratio = stored as f64 / set as f64;
        println!("| {keys} | {puts} | {} | {ratio:.2} |", last.dumps - before);
    }
}

/// How long single operations took, as a histogram.
fn histogram(who: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "| {who} | {} | {:.1?} | {:.1?} | {:.1?} | {:.1?} |",
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// A writer and a reader of one dictionary, while one generation follows another.
fn stalls(keys: u64, time: Duration) {
    let dict = filled(keys, 100);
    let before = dict.status().expect("readable").dumps;
    let follower = another(&dict);
    let done = AtomicBool::new(false);
    let (written, read) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut times = Vec::new();
            while !done.load(Relaxed) {
                let start = Instant::now();
                black_box(follower.get(&key(1)).expect("readable"));
                times.push(start.elapsed());
                thread::sleep(Duration::from_micros(20));
            }
            times
        });
        let (start, mut times) = (Instant::now(), Vec::new());
        let mut n = 0;
        while start.elapsed() < time {
            n += 1;
            let start = Instant::now();
            dict.set(&key(n % keys), &[n as u8; 100])
                .expect("there is room");
            times.push(start.elapsed());
        }
        done.store(true, Relaxed);
        (times, reader.join().expect("it does not panic"))
    });
    let switches = dict.status().expect("readable").dumps - before;
    histogram(
        &format!("set, {keys} entries, {switches} switches"),
        written,
    );
    histogram(&format!("get elsewhere, {keys} entries"), read);
}

/// What a change costs who makes it while nobody, or three others, watch: processor time of that thread, and in all.
/// The watches have a key each, or lie idle.
fn watched(rounds: u64) {
    const KEYS: [u64; 3] = [1, 2, 3];
    const SETS: u64 = 200;
    let processor_time = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let dict = dict(1 << 20);
    let write = |n: u64| {
        let (start, start_busy) = (Instant::now(), processor_time());
        for set in 0..SETS {
            let key = KEYS[set as usize % KEYS.len()];
            dict.set(&key, &[n as u8; 100]).expect("there is room");
        }
        [processor_time() - start_busy, start.elapsed()]
    };
    let mut times: [Vec<[Duration; 2]>; 3] = Default::default();
    for n in 0..rounds {
        times[0].push(write(n));
        let others: Vec<_> = KEYS.iter().map(|_| another(&dict)).collect();
        let watch = |(key, other): (&u64, &Dict)| other.watch_key(key).expect("readable");
        let mut watches: Vec<_> = KEYS.iter().zip(&others).map(watch).collect();
        times[1].push(write(n));
        let told = thread::scope(|scope| {
            let listen = watches.iter_mut().map(|watch| {
                scope.spawn(|| {
                    let next = || {
                        watch
                            .next_within(Duration::from_millis(20))
                            .expect("readable")
                    };
                    std::iter::from_fn(next).count()
                })
            });
            let listeners: Vec<_> = listen.collect();
            // Those of the round before come first.
            thread::sleep(Duration::from_millis(2));
            times[2].push(write(n));
            let told = listeners
                .into_iter()
                .map(|one| one.join().expect("no panic"));
            told.sum::<usize>()
        });
        assert!(told > 0);
    }
    println!("\n| three watches, {SETS} sets of 100 B | busy | in all | ratio of busy |");
    println!("|---|---:|---:|---:|");
    let median = |times: &[[Duration; 2]], which: usize| {
        let mut times: Vec<_> = times.iter().map(|both| both[which]).collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let alone = median(&times[0], 0);
    for (who, times) in ["none", "idle", "listening"].iter().zip(&times) {
        let (busy, all) = (median(times, 0), median(times, 1));
        let ratio = busy.as_secs_f64() / alone.as_secs_f64();
        println!("| {who} | {busy:.1?} | {all:.1?} | {ratio:.2} |");
    }
}

fn figures(smoke: bool) {
    let (puts, time) = match smoke {
        true => (1_000, Duration::from_millis(50)),
        false => (1_000_000, Duration::from_secs(5)),
    };
    watched(if smoke { 3 } else { 300 });
    amplification(puts);
    println!("\n| operation | times | half | 99 % | 99.9 % | longest |");
    println!("|---|---:|---:|---:|---:|---:|");
    for keys in [1_000, 100_000, 1_000_000] {
        stalls(keys.min(puts), time);
    }
}

fn main() {
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let smoke = has("--test");
    if smoke || has("--figures") {
        figures(smoke);
    }
    if !has("--figures") {
        let mut criterion = Criterion::default().configure_from_args();
        reads(&mut criterion);
        writes(&mut criterion);
        following(&mut criterion);
        criterion.final_summary();
    }
}
