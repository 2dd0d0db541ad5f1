//! An index: many tasks, each of which appends its number to one list.
//!
//! ```text
//! cargo run --release --example index
//! ```
//!
//! A task draws a running number `i` from one key and stores what it has to say under the key
//! `BASE + i`. The running numbers are all different, so no two tasks write the same key, and the
//! keys `BASE..BASE + n` are the list, without a gap once all tasks are through.
//!
//! A task that is killed between the two steps leaves a gap, a key that `get` answers `None` for, and
//! disturbs nobody else.

use std::error::Error;
use std::process::exit;
use std::time::Instant;

use forkmap::{AtomicDict, InsertError};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const PROCESSES: u64 = 16;
const TASKS_EACH: u64 = 32_768;
const TASKS: u64 = PROCESSES * TASKS_EACH;

/// The length of the list.
const INDEX: u64 = 0;
/// The key of its first element.
const BASE: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let dict = AtomicDict::anonymous(1 + TASKS)?;

    let start = Instant::now();
    let mut children = Vec::new();
    for process in 0..PROCESSES {
        // SAFETY: this process has one thread, so its child may do whatever it may do itself.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => children.push(child),
            ForkResult::Child => {
                let mut tasks = process * TASKS_EACH..(process + 1) * TASKS_EACH;
                exit(match tasks.try_for_each(|id| append(&dict, id)) {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("{error}");
                        1
                    }
                })
            }
        }
    }
    for child in children {
        let status = waitpid(child, None)?;
        if status != WaitStatus::Exited(child, 0) {
            return Err(format!("a child failed: {status:?}").into());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{PROCESSES} processes appended {TASKS} numbers in {seconds:.2} s");

    let length = dict.load(INDEX);
    let mut list: Vec<u64> = (0..length).filter_map(|i| dict.get(BASE + i)).collect();
    list.sort_unstable();
    if !list.iter().copied().eq(0..TASKS) {
        list.dedup();
        let distinct = list.len();
        return Err(format!("a list of {length} has {distinct} numbers, not {TASKS}").into());
    }
    println!("all {TASKS} numbers are in the list, each once");
    Ok(())
}

fn append(dict: &AtomicDict, id: u64) -> Result<(), InsertError> {
    let i = dict.fetch_add(INDEX, 1)?;
    dict.store(BASE + i, id)
}
