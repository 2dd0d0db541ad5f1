//! How operations of `AtomicDict` compare with those on a plain vector of atomics.
//!
//! The contenders take turns in short batches, and each batch is compared with the one on the plain
//! vector in the same round: what else the machine does at a time then slows both. Prints a table.

mod workload;

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use workload::{OPERATIONS, Pass, Workload, cases, smoke};

/// Nanoseconds of an operation in a batch, which is one pass. One before it brings back into the
/// caches what the other contenders have displaced.
fn batch(workload: &Workload, pass: Pass) -> f64 {
    pass(workload);
    let start = Instant::now();
    pass(workload);
    start.elapsed().as_nanos() as f64 / workload.visits() as f64
}

/// The same with two threads at once, on the same keys in the same order: the mean of the two.
fn batch_of_two(workload: &Workload, pass: Pass) -> f64 {
    let line = Barrier::new(2);
    let run = || {
        line.wait();
        batch(workload, pass)
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

fn compare(
    title: &str,
    workload: &Workload,
    contenders: &[(&str, Pass)],
    batch: fn(&Workload, Pass) -> f64,
) {
    let rounds = match workload.visits() {
        _ if smoke() => 2,
        1_000_000.. => 41,
        _ => 301,
    };
    let mut times = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        // Each in its turn is the first of a round.
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            times[at].push(batch(workload, contenders[at].1));
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
    for case in cases() {
        let workload = Workload::new(case);
        for (operation, contenders) in OPERATIONS {
            let title = format!("{operation}, {case}");
            compare(&title, &workload, contenders, batch);
        }
    }
    for case in &cases()[..2] {
        let (operation, contenders) = OPERATIONS[0];
        let title = format!("{operation}, {case}, two threads");
        compare(&title, &Workload::new(*case), contenders, batch_of_two);
    }
}
