//! Counts the words of many files with several processes and one map, and is exact even while its workers
//! are being killed with SIGKILL.
//!
//! ```text
//! cargo run --release --example wordcount -- [--workers N] [--kill] [PATH...]
//! ```
//!
//! Without a PATH it takes the sources of the dependencies that cargo keeps on this machine. The
//! parent first counts all words by itself. It then forks the workers, replaces those that are
//! killed (with `--kill` it kills some itself, a few a second), and at the end compares every word.
//! The last line tells the outcome, and so does the exit status. Ctrl-C ends parent and workers, and
//! the map, which has no name, is gone with the last of them.
//!
//! # How to count exactly once
//!
//! Nobody can be killed half-way through an operation on the map, but between two of them. Whoever then does
//! the file again must not count anything twice. Two rules are enough.
//!
//! **One process at a place.** Each worker has a place, a small number. The parent reaps a killed
//! worker before it forks the next one for the same place.
//!
//! **What changes together is one value**, of whatever size:
//!
//! ```text
//! AtomicDict     number of a file    DONE (1 bit) | place + 1                  0: nobody has taken it
//!                CURSOR              the file to try next
//! SharedHashMap  word                count | for each place: last file + 1
//! ```
//!
//! 1. A worker takes a file by one compare-exchange of its value, from 0 to the worker's place.
//! 2. It counts the words of the file in private memory.
//! 3. For each word it adds to the count, and notes for its place which file that was, in one operation. A
//!    word where this file is noted already was added before the worker at this place was killed: leave it.
//! 4. It marks the file as done.
//!
//! A new worker begins with the file that its place has taken and not done, if there is one. The
//! cursor is only a hint, for a worker may be killed after moving it and before taking the file.
//! So everybody goes through all files once more before leaving.
//!
//! `job.rs` is this; `text.rs` reads files and splits them into words; here is the parent.

mod job;
mod text;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};
use std::{cmp::Reverse, env, thread};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use job::Job;
use text::{Counts, Text, count_plainly, list};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: wordcount [--workers N] [--kill] [PATH...]";
const MAX_WORKERS: usize = 1024;
/// How many words to print.
const TOP: usize = 12;

/// The running workers and their places.
type Crew = HashMap<Pid, usize>;

struct Args {
    workers: usize,
    kill: bool,
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()).and_then(|args| args.map_or(Ok(true), run)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` if all that was wanted is help.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>> {
    use lexopt::prelude::*;

    let mut workers = thread::available_parallelism().map_or(1, Into::into);
    let mut kill = false;
    let mut paths = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => workers = parser.value()?.parse()?,
            Long("kill") => kill = true,
            Value(path) => paths.push(path.into()),
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(None);
            }
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    if !(1..=MAX_WORKERS).contains(&workers) {
        return Err(format!("--workers takes a number from 1 to {MAX_WORKERS}").into());
    }
    if paths.is_empty() {
        paths.push(cargo_sources()?);
    }
    Ok(Some(Args {
        workers,
        kill,
        paths,
    }))
}

fn cargo_sources() -> Result<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let sources = home.unwrap_or_default().join("registry/src");
    if !sources.is_dir() {
        let sources = sources.display();
        return Err(format!("{sources} is no directory; name files to count\n{USAGE}").into());
    }
    Ok(sources)
}

/// Whether the workers counted what one process counts.
fn run(args: Args) -> Result<bool> {
    // This reads the files for the first time, so that both counts find them in memory.
    let texts = list(&args.paths)?;

    let start = Instant::now();
    let plain = count_plainly(&texts)?;
    let alone = start.elapsed();

    let job = Job::new(&texts, args.workers, plain.len())?;
    let start = Instant::now();
    let kills = supervise(&job, &args)?;
    let together = start.elapsed();

    let counts = job.counts()?;
    print_top(&counts);
    println!();
    print_speed("one process", &texts, alone);
    print_speed(&format!("workers: {}", args.workers), &texts, together);
    println!("kills: {kills}");
    Ok(check(&counts, &plain))
}

/// Forks the workers, replaces those that are killed, and comes back when all have done their work,
/// with the number of kills.
fn supervise(job: &Job, args: &Args) -> Result<u64> {
    let mut crew = Crew::new();
    let outcome = lead(job, args, &mut crew);
    // After an error some are left, who would go on for nobody.
    for &pid in crew.keys() {
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
    }
    outcome
}

fn lead(job: &Job, args: &Args, crew: &mut Crew) -> Result<u64> {
    const TICK: Duration = Duration::from_millis(2);
    const REDRAW: Duration = Duration::from_millis(100);

    for place in 0..args.workers {
        crew.insert(fork_worker(job, place)?, place);
    }
    let bar = progress_bar(job);
    let mut next_draw = Instant::now();
    // The first one soon, so that a short run sees some too.
    let mut next_kill = Instant::now() + Duration::from_millis(rand::random_range(0..50));
    let mut kills = 0;
    while !crew.is_empty() {
        let status = waitpid(None, Some(WaitPidFlag::WNOHANG))?;
        if let Some(pid) = status.pid() {
            let Some(place) = crew.remove(&pid) else {
                continue; // somebody else's: exec keeps the children of the program before
            };
            match status {
                WaitStatus::Exited(_, 0) => {}
                WaitStatus::Signaled(_, Signal::SIGKILL, _) => {
                    kills += 1;
                    crew.insert(fork_worker(job, place)?, place);
                }
                _ => return Err(format!("worker {place} gave up: {status:?}").into()),
            }
            continue;
        }
        let now = Instant::now();
        if args.kill && now >= next_kill {
            let nth = rand::random_range(0..crew.len());
            if let Some(&victim) = crew.keys().nth(nth) {
                kill(victim, Signal::SIGKILL)?;
            }
            // A little later each time, so that even a file that takes long gets done one day.
            next_kill = now + Duration::from_millis(rand::random_range(100..=300) + 10 * kills);
        }
        if now >= next_draw {
            draw(&bar, job);
            next_draw = now + REDRAW;
        }
        thread::sleep(TICK);
    }
    bar.finish_and_clear();
    Ok(kills)
}

fn fork_worker(job: &Job, place: usize) -> Result<Pid> {
    // SAFETY: this process has one thread, so its child may do whatever it may do itself. (With
    // more, the child could meet a lock whose owner was not copied.)
    match unsafe { fork() }.map_err(|error| format!("cannot fork a worker: {error}"))? {
        ForkResult::Parent { child } => Ok(child),
        // Never back into the code of the parent, of which the child has a copy.
        ForkResult::Child => exit(match job.work(place) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("wordcount: worker {place}: {error}");
                1
            }
        }),
    }
}

/// It draws only when told to. A bar that moves by itself would need a thread, and then no fork
/// would be safe any more.
fn progress_bar(job: &Job) -> ProgressBar {
    let style = "{wide_bar} {bytes} of {total_bytes}, {msg}";
    let style = ProgressStyle::with_template(style).expect("the template is a constant");
    ProgressBar::new(job.texts.iter().map(|text| text.bytes).sum()).with_style(style)
}

fn draw(bar: &ProgressBar, job: &Job) {
    let (files, bytes) = job.progress();
    let all = HumanCount(job.texts.len() as u64);
    bar.set_position(bytes);
    bar.set_message(format!("{} of {all} files", HumanCount(files)));
}

fn print_top(counts: &[(Vec<u8>, u64)]) {
    let mut top: Vec<_> = counts.iter().collect();
    top.sort_unstable_by_key(|&(word, n)| (Reverse(n), word));
    let rows = top.into_iter().take(TOP).map(|(word, n)| {
        let word = String::from_utf8_lossy(word).into_owned();
        (word, HumanCount(*n).to_string())
    });
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    for (word, n) in rows {
        println!("{word:width$} {n:>14}");
    }
}

fn print_speed(who: &str, texts: &[Text], time: Duration) {
    let seconds = time.as_secs_f64();
    let files = texts.len() as u64;
    let bytes: u64 = texts.iter().map(|text| text.bytes).sum();
    println!(
        "{who:14} {} files in {seconds:.3} s, {} files/s, {:.1} MB/s",
        HumanCount(files),
        HumanCount((files as f64 / seconds) as u64),
        bytes as f64 / seconds / 1e6,
    );
}

/// Compares every word, and prints the last line.
fn check(counts: &[(Vec<u8>, u64)], plain: &Counts<Box<[u8]>>) -> bool {
    let distinct = HumanCount(plain.len() as u64);
    let mut wrong = counts
        .iter()
        .map(|(word, n)| (word, *n, plain.get(&word[..]).copied().unwrap_or(0)))
        .filter(|&(_, counted, plainly)| counted != plainly);
    if let Some((word, counted, plainly)) = wrong.next() {
        let word = String::from_utf8_lossy(word);
        let n = HumanCount(1 + wrong.count() as u64);
        println!(
            "check: FAILED: {n} of {distinct} words differ, such as {word}: {counted}, not {plainly}"
        );
        return false;
    }
    // Each of them is right, and so all are there and each once if they are as many.
    if counts.len() != plain.len() {
        let found = HumanCount(counts.len() as u64);
        println!("check: FAILED: every word is right, but there are {found}, not {distinct}");
        return false;
    }
    let all = HumanCount(plain.values().sum());
    println!("check: equal to the single-process count: {all} words, {distinct} distinct");
    true
}
