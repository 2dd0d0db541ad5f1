//! Adds up the squares of a hundred million numbers, in programs that know nothing of each other but a name.
//!
//! ```text
//! cargo run --release --example distributed_sum
//! ```
//!
//! The numbers are cut into slices. A worker inserts the sum of each slice that it has added up under the number of
//! the slice: `try_insert` inserts it once, whoever is first. So workers may come and go: a slice that nobody has
//! finished is still missing, and anybody can do it. This program starts four of them, as
//!
//! ```text
//! distributed_sum worker NAME FIRST
//! ```
//!
//! (from slice `FIRST` on, round and round); you may start more in another terminal while it runs. It waits until
//! all slices are there, adds them up, and compares that with the formula.

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;

use forkmap::SharedHashMap;

const SLICES: u64 = 200;
const SLICE: u64 = 500_000;
const WORKERS: u64 = 4;

/// By the number of a slice, its sum.
type Sums = SharedHashMap<u64, u64>;

fn square_sum(slice: u64) -> u64 {
    (slice * SLICE + 1..=(slice + 1) * SLICE)
        .map(|n| n * n % 1_000_003)
        .sum()
}

fn work(name: &str, first: u64) -> Result<(), Box<dyn Error>> {
    let sums = Sums::open(name)?;
    let mut done = 0;
    for slice in (0..SLICES).map(|slice| (first + slice) % SLICES) {
        if !sums.contains_key(&slice)? && sums.try_insert(&slice, &square_sum(slice))? {
            done += 1;
        }
    }
    println!("the worker that began at slice {first} did {done}");
    Ok(())
}

fn collect() -> Result<bool, Box<dyn Error>> {
    let name = format!("distributed-sum-{}", std::process::id());
    let mut options = Sums::options();
    options.capacity(SLICES).unlink_on_drop(true);
    let sums = options.create(&name)?;
    let program = std::env::current_exe()?;
    let workers = (0..WORKERS).map(|n| {
        let first = (n * SLICES / WORKERS).to_string();
        Command::new(&program)
            .args(["worker", &name, &first])
            .spawn()
    });
    let workers: Vec<_> = workers.collect::<Result<_, _>>()?;
    let mut total = 0;
    for slice in 0..SLICES {
        // Asleep until it is there.
        total += match sums.get(&slice)? {
            Some(sum) => sum,
            None => sums
                .wait_for_change(&slice, None, Duration::from_secs(60))?
                .ok_or("a slice was inserted and is not there")?,
        };
    }
    for mut worker in workers {
        if !worker.wait()?.success() {
            return Err("a worker failed".into());
        }
    }
    let expected: u64 = (1..=SLICES * SLICE).map(|n| n * n % 1_000_003).sum();
    println!(
        "the sum of the squares up to {}, each modulo 1000003: {total}",
        SLICES * SLICE
    );
    let is_right = total == expected && sums.len() as u64 == SLICES;
    if is_right {
        println!("check: as one program adds it up");
    }
    Ok(is_right)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => collect(),
        ["worker", name, first] => match first.parse() {
            Ok(first) => work(name, first).map(|()| true),
            Err(_) => Err("FIRST is a number".into()),
        },
        _ => Err("usage: distributed_sum [worker NAME FIRST]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("check: WRONG");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
