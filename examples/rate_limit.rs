//! A rate limit that many processes keep together: of each client, so many requests pass per window
//! of time, whichever process they come to.
//!
//! ```text
//! cargo run --release --example rate_limit
//! ```
//!
//! [`request`] is what to copy. The value of a client holds the number of a window and the count of
//! the requests that passed in it. They change together, by one operation: with two values, there
//! would be a moment in which the window is the new one and the count still the old one's.
//!
//! A key per client *and window* would do with a plain `fetch_add_bounded`, but a dictionary never
//! releases a key: it would be full one day, however large. (For a limit without windows, so many at
//! once or so many ever, `fetch_add_bounded` is right.) Clients that are not known beforehand, such as
//! addresses, are hashed to as many keys as there shall be; those with the same key share one limit.
//!
//! The rest is the trial of it. Some processes bring requests as fast as they can. Time is counted in
//! requests here, so that a slow machine comes to the same result as a fast one.

use std::error::Error;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};
use forkmap::{AtomicDict, Entry, InsertError};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// How many requests of a client pass in a window.
const LIMIT: u32 = 800;

const CLIENTS: u64 = 8;
const WINDOWS: u64 = 240;
/// How many requests come in a window, of all clients together.
const REQUESTS: u64 = 64_000;

/// The value of a client.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Budget {
    window: u32,
    /// How many have passed in this window.
    used: u32,
}

/// Tells whether a request passes, and in which window it was counted.
///
/// `now` is the window that the clock shows: in a real program the seconds since 1970, say, which are
/// 32 bits until 2106. A process may read the clock and be interrupted before it comes here. If
/// others have begun a later window meanwhile, its request counts in that one: a window that is over
/// is never opened again, since then all its requests could pass once more.
fn request(limits: &AtomicDict<Budget>, client: u64, now: u32) -> Result<(bool, u32), InsertError> {
    let spend = |budget: Budget| {
        let window = budget.window.max(now);
        let used = if budget.window == window {
            budget.used
        } else {
            0
        };
        (used < LIMIT).then_some(Budget {
            window,
            used: used + 1,
        })
    };
    // The outer error would be a dictionary without room for one more client.
    let (passes, found) = match limits.fetch_update(client, spend)? {
        Ok(before) => (true, before),
        Err(full) => (false, full),
    };
    Ok((passes, found.window.max(now)))
}

/// What the processes share.
struct Trial {
    limits: AtomicDict<Budget>,
    /// The number of the next request, which is the time, too.
    requests: Entry,
    /// What became of the requests, as each process has seen it.
    books: AtomicDict<Tally>,
    processes: u64,
}

/// What one process has seen of one client in one window.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Tally {
    passed: u32,
    refused: u32,
}

const NEXT_REQUEST: u64 = u64::MAX;

fn page(process: u64, window: u64, client: u64) -> u64 {
    (process * WINDOWS + window) * CLIENTS + client
}

/// Client 0 sends every second request, client 1 every fourth, and so on: some of them want far more
/// than the limit, others less.
fn client_of(request: u64) -> u64 {
    u64::from(request.trailing_ones()).min(CLIENTS - 1)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rate_limit: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let processes = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let processes = processes.max(4);
    let books = AtomicDict::anonymous(processes * WINDOWS * CLIENTS + 1)?;
    let trial = Trial {
        limits: AtomicDict::anonymous(CLIENTS)?.cast(),
        requests: books.entry(NEXT_REQUEST)?,
        books: books.cast(),
        processes,
    };

    let start = Instant::now();
    let mut children = Vec::new();
    for process in 0..processes {
        // SAFETY: this process has one thread, so its child may do whatever it may do itself.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => children.push(child),
            // Never back into the code of the parent, of which the child has a copy.
            ForkResult::Child => exit(match hammer(&trial, process) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("rate_limit: {error}");
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
    let (all, seconds) = (WINDOWS * REQUESTS, start.elapsed().as_secs_f64());
    println!("{processes} processes brought {all} requests in {seconds:.2} s");
    check(&trial)
}

fn hammer(trial: &Trial, process: u64) -> Result<(), InsertError> {
    loop {
        let number = trial.requests.fetch_add(1);
        let now = number / REQUESTS;
        if now >= WINDOWS {
            return Ok(());
        }
        let client = client_of(number);
        let (passes, window) = request(&trial.limits, client, now as u32)?;

        // Nobody else writes this page, so a load and a store will do.
        let page = page(process, window.into(), client);
        let mut tally = trial.books.load(page);
        match passes {
            true => tally.passed += 1,
            false => tally.refused += 1,
        }
        trial.books.store(page, tally)?;
    }
}

/// Adds up the books of all processes.
fn check(trial: &Trial) -> Result<(), Box<dyn Error>> {
    println!("client    asked   passed  refused  windows in which more asked");
    let (mut asked, mut full) = (0, 0);
    for client in 0..CLIENTS {
        let (mut all, mut full_here) = (Tally::default(), 0);
        for window in 0..WINDOWS {
            let pages = (0..trial.processes).map(|process| page(process, window, client));
            let Tally { passed, refused } = pages.fold(Tally::default(), |mut sum, page| {
                let tally = trial.books.load(page);
                sum.passed += tally.passed;
                sum.refused += tally.refused;
                sum
            });
            let of = format!("{passed} requests of client {client} passed in window {window}");
            if passed > LIMIT {
                return Err(format!("check: FAILED: {of}, and only {LIMIT} may").into());
            }
            if refused > 0 && passed < LIMIT {
                return Err(format!("check: FAILED: {of}, and {refused} were refused").into());
            }
            all.passed += passed;
            all.refused += refused;
            full_here += u64::from(refused > 0);
        }
        let Tally { passed, refused } = all;
        let sum = passed + refused;
        println!("{client:6} {sum:8} {passed:8} {refused:8}  {full_here} of {WINDOWS}");
        asked += u64::from(sum);
        full += full_here;
    }
    // A trial in which nobody loses a request, and in which the limit is met at all.
    if asked != WINDOWS * REQUESTS {
        return Err(format!("check: FAILED: the books have {asked} requests").into());
    }
    if full < WINDOWS {
        return Err(format!("check: FAILED: the limit was met {full} times only").into());
    }
    println!(
        "check: {WINDOWS} windows x {CLIENTS} clients, never more than {LIMIT} passed, {LIMIT} exactly in the {full} where more asked"
    );
    Ok(())
}
