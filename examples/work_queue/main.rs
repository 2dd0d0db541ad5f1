//! A queue of work, done by processes that may be killed with SIGKILL at any moment: what a dead
//! worker had taken is done by another one.
//!
//! ```text
//! cargo run --release --example work_queue -- [--workers N] [--items N] [--kill]
//! ```
//!
//! An item is a range of numbers, whose primes are to be counted. With `--kill` the parent kills a
//! random worker many times a second; it forks another one for each that dies. At the end it compares
//! every item with a sieve. The last line tells the outcome, and so does the exit status.
//!
//! # How an item is done
//!
//! 1. A worker takes its *lease*, a [`Lock`](forkmap::Lock), without waiting for it. If the owner of
//!    the lease is dead, the lock says so: it is taken, and poisoned.
//! 2. It does the work, if there is no outcome yet. No more workers than cores do that at once: a
//!    [`Semaphore`](forkmap::Semaphore) sees to it.
//! 3. It records the outcome, by one compare-exchange: the item is done.
//! 4. It gives the lease back.
//!
//! A worker that dies before the third step leaves an item that is not done and a lease that the next
//! one gets; one that dies after it leaves a lease that nobody needs any more. A worker that is slow,
//! or stopped, keeps its lease: there is no time after which it would be taken away, and done twice.
//!
//! # Which item is next
//!
//! ```text
//! key               value
//! LEASE + item      its lock
//! OUTCOME + item    number of primes (32 bits) | worker (32 bits)       0: not done
//! CURSOR            the item to hand out next
//! FRONT             how many items, from the first one on, are done without a gap
//! ```
//!
//! The cursor hands out each item once, to a worker that may die before it has done anything. The
//! front finds those: it stops at the first item that is not done, and each worker tries that one
//! before it asks the cursor. Neither needs a look at all items, and the parent waits for the front
//! to reach the end.
//!
//! `queue.rs` is this; `primes.rs` is the work; here is the parent.

mod primes;
mod queue;

use std::collections::{HashMap, HashSet};
use std::process::{ExitCode, exit};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use queue::Queue;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: work_queue [--workers N] [--items N] [--kill]";
const MAX_WORKERS: u32 = 128;
const MAX_ITEMS: u64 = 10_000;
/// How many workers there may be one after the other: something is wrong if so many die.
const MAX_FORKS: u32 = 2_000;
/// How long no item need be done before the parent gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running workers and their numbers.
type Crew = HashMap<Pid, u32>;

struct Args {
    workers: u32,
    items: u64,
    kill: bool,
}

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()).and_then(|args| args.map_or(Ok(()), run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("work_queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

/// `None` if all that was wanted is help.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>> {
    use lexopt::prelude::*;

    let mut args = Args {
        workers: MAX_WORKERS.min(2 * cores() as u32),
        items: 2_000,
        kill: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => args.workers = parser.value()?.parse()?,
            Long("items") => args.items = parser.value()?.parse()?,
            Long("kill") => args.kill = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    if !(1..=MAX_WORKERS).contains(&args.workers) {
        return Err(format!("--workers takes a number from 1 to {MAX_WORKERS}").into());
    }
    if !(1..=MAX_ITEMS).contains(&args.items) {
        return Err(format!("--items takes a number from 1 to {MAX_ITEMS}").into());
    }
    Ok(Some(args))
}

fn run(args: Args) -> Result<()> {
    let queue = Queue::new(args.items, MAX_FORKS, cores())?;
    let start = Instant::now();
    let mut crew = Crew::new();
    let killed = lead(&queue, &args, &mut crew);
    // After an error some are left, who would go on for nobody.
    for &pid in crew.keys() {
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
    }
    let killed = killed?;
    let (items, seconds) = (args.items, start.elapsed().as_secs_f64());
    println!(
        "{} workers did {items} items in {seconds:.2} s",
        args.workers
    );
    queue.check(&killed)
}

/// Forks the workers, replaces those that are killed, and comes back when all have done their work,
/// with the numbers of those who were killed.
fn lead(queue: &Queue, args: &Args, crew: &mut Crew) -> Result<HashSet<u32>> {
    const TICK: Duration = Duration::from_millis(5);

    let mut forked = 0;
    let mut killed = HashSet::new();
    let mut next_kill = Instant::now();
    let mut progress = (0, Instant::now());
    while forked < args.workers {
        fork_worker(queue, &mut forked, crew)?;
    }
    while !crew.is_empty() {
        let done = queue.wait(TICK);
        // Once all is done the workers leave by themselves.
        let flag = match done {
            true => WaitPidFlag::empty(),
            false => WaitPidFlag::WNOHANG,
        };
        let status = waitpid(None, Some(flag))?;
        // (A pid that is not in the crew is somebody else's: exec keeps the children of the program
        // before.)
        if let Some(worker) = status.pid().and_then(|pid| crew.remove(&pid)) {
            match status {
                WaitStatus::Exited(_, 0) => {}
                WaitStatus::Signaled(_, Signal::SIGKILL, _) => {
                    killed.insert(worker);
                    if !done {
                        fork_worker(queue, &mut forked, crew)?;
                    }
                }
                _ => return Err(format!("worker {worker} gave up: {status:?}").into()),
            }
        }
        let now = Instant::now();
        if args.kill && !done && now >= next_kill {
            let nth = rand::random_range(0..crew.len().max(1));
            if let Some(&victim) = crew.keys().nth(nth) {
                kill(victim, Signal::SIGKILL)?;
            }
            // A little later each time, so that even an item that takes long gets done one day.
            let pause = rand::random_range(20..=100) + killed.len() as u64;
            next_kill = now + Duration::from_millis(pause);
        }
        let front = queue.front();
        if front != progress.0 {
            progress = (front, now);
        } else if now - progress.1 > PATIENCE {
            let owner = queue.owner_pid(front);
            return Err(format!("item {front} is never done; the process at it: {owner:?}").into());
        }
    }
    Ok(killed)
}

fn fork_worker(queue: &Queue, forked: &mut u32, crew: &mut Crew) -> Result<()> {
    if *forked == MAX_FORKS {
        return Err(format!("{MAX_FORKS} workers were not enough; what kills them?").into());
    }
    *forked += 1;
    let me = *forked;
    // SAFETY: this process has one thread, so its child may do whatever it may do itself. (With
    // more, the child could meet a lock whose owner was not copied.)
    match unsafe { fork() }.map_err(|error| format!("cannot fork a worker: {error}"))? {
        ForkResult::Parent { child } => crew.insert(child, me),
        // Never back into the code of the parent, of which the child has a copy.
        ForkResult::Child => exit(match queue.work(me) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("work_queue: worker {me}: {error}");
                1
            }
        }),
    };
    Ok(())
}
