//! How operations of `AtomicDict` compare with those on a plain vector of atomics, and a `Lock` with a
//! mutex of the standard library.
//!
//! The contenders take turns in short batches, and each batch is compared with the one on the plain
//! vector in the same round: what else the machine does at a time then slows both. Prints a table.

mod workload;

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use workload::{LOCKS, OPERATIONS, Pass, Workload, cases, smoke};

/// Nanoseconds of an operation, from passes of so many visits at least. One pass before brings back
/// into the caches what the other contenders have displaced.
fn batch(workload: &Workload, pass: Pass, visits: usize) -> f64 {
    let passes = visits.div_ceil(workload.visits());
    pass(workload);
    let start = Instant::now();
    for _ in 0..passes {
        pass(workload);
    }
    start.elapsed().as_nanos() as f64 / (passes * workload.visits()) as f64
}

/// The same of two threads at once, which visit the same keys in the same order: the mean.
fn batch_of_two(workload: &Workload, pass: Pass, visits: usize) -> f64 {
    let arrived = AtomicU32::new(0);
    let run = || {
        arrived.fetch_add(1, SeqCst);
        // Not asleep: who is woken up may find the other one done.
        while arrived.load(SeqCst) < 2 {
            hint::spin_loop();
        }
        batch(workload, pass, visits)
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        (run() + other.join().expect("it does not panic")) / 2.0
    })
}

/// The first quarter, the middle and the third quarter of the sorted numbers.
fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[numbers.len() * quarter / 4])
}

/// Prints the rows of the contenders; `batch` gives the time of one of them.
fn compare(title: &str, contenders: &[(&str, Pass)], rounds: usize, batch: impl Fn(Pass) -> f64) {
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        // Each in its turn is the first of a round.
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            times[at].push(batch(contenders[at].1));
        }
    }
    for ((name, _), own) in contenders.iter().zip(&times) {
        let ratios = times[0].iter().zip(own).map(|(raw, own)| raw / own);
        let [low, ratio, high] = quartiles(ratios.collect());
        let [_, time, _] = quartiles(own.clone());
        println!("| {title} | {name} | {time:.2} | {ratio:.2} | {low:.2} to {high:.2} |");
    }
}

fn main() {
    println!(
        "Speed relative to raw: 1 is as fast, 0.5 takes twice as long. Medians of all rounds.\n"
    );
    println!("| workload | contender | ns/op | of raw | middle half of the rounds |");
    println!("|---|---|---:|---:|---:|");
    let smoke = smoke();
    for case in cases() {
        let workload = Workload::new(case);
        for (operation, contenders) in OPERATIONS {
            let rounds = match workload.visits() {
                _ if smoke => 1,
                1_000_000.. => 41,
                _ => 301,
            };
            compare(
                &format!("{operation}, {case}"),
                contenders,
                rounds,
                |pass| batch(&workload, pass, 1 << 15),
            );
        }
    }
    // So many visits that both threads run most of the time. Needs two cores with nothing else to do.
    let (rounds, visits) = if smoke { (1, 1) } else { (21, 1 << 21) };
    let (operation, contenders) = OPERATIONS[0];
    for case in &cases()[..2] {
        let workload = Workload::new(*case);
        let title = format!("{operation}, {case}, two threads");
        compare(&title, contenders, rounds, |pass| {
            batch_of_two(&workload, pass, visits)
        });
    }
    let workload = Workload::new(cases()[0]);
    compare("lock, 1 key", LOCKS, if smoke { 1 } else { 301 }, |pass| {
        batch(&workload, pass, 1 << 15)
    });
    compare("lock, 1 key, two threads", LOCKS, rounds, |pass| {
        batch_of_two(&workload, pass, visits / 4)
    });
}
