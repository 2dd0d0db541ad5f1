//! The smallest pool: some forked processes count in one dictionary.
//!
//! ```text
//! cargo run --example pool
//! ```
//!
//! The parent makes the dictionary, and its children inherit it: it needs no name and no clean-up.
//!
//! **Fork before the first thread.** `fork` copies the thread that calls it and no other. If some
//! other thread holds a lock at that moment, the allocator's for instance, then in the child nobody
//! will ever release it. (forkmap takes no lock; nearly everything else in a program may.) So a pool
//! is forked at the start, while the program has one thread. Each child may then start threads.

use std::error::Error;
use std::process::exit;

use forkmap::AtomicDict;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const CHILDREN: u64 = 4;
const ROUNDS: u64 = 100_000;
const TOTAL: u64 = 0;

fn main() -> Result<(), Box<dyn Error>> {
    let dict = AtomicDict::anonymous(1)?;

    let mut children = Vec::new();
    for _ in 0..CHILDREN {
        // SAFETY: this process has one thread, so its child may do whatever it may do itself.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => children.push(child),
            // Never back into the code of the parent, of which the child has a copy.
            ForkResult::Child => exit(match count(&dict) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("{error}");
                    1
                }
            }),
        }
    }

    for child in children {
        let status = waitpid(child, None)?;
        if status != WaitStatus::Exited(child, 0) {
            return Err(format!("a child failed: {status:?}").into());
        }
    }
    let total = dict.load(TOTAL);
    if total != CHILDREN * ROUNDS {
        return Err(format!("the children counted {total}, not {}", CHILDREN * ROUNDS).into());
    }
    println!("{CHILDREN} processes counted to {total}");
    Ok(())
}

fn count(dict: &AtomicDict) -> Result<(), Box<dyn Error>> {
    for _ in 0..ROUNDS {
        dict.fetch_add(TOTAL, 1)?;
    }
    Ok(())
}
