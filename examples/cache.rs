//! A cache of big values that several processes fill and read together, and whose processes may be killed
//! with SIGKILL at any moment.
//!
//! ```text
//! cargo run --release --example cache -- [--workers N] [--requests N] [--kill]
//! ```
//!
//! The values are pages that take a while to render, of 1 to 64 kB. Each worker answers requests: from the
//! cache, or by rendering the page and putting it there. At most [`ROOM`] pages stay; the one that came first
//! goes. A page that was put in, the one that had to go for it, and the [`Books`] that count both change in
//! one transaction: so the books are right at every instant, whoever dies.
//!
//! That is what is checked, all the time: each page that comes out of the cache is byte for byte what
//! rendering it gives, and whoever looks finds as many pages as the books say. With `--kill` the parent kills
//! a random worker every few milliseconds, and forks another one. The last line tells the outcome, and so does
//! the exit status.

use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use forkmap::{AtomicDict, StreamDict, StreamError};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const USAGE: &str = "usage: cache [--workers N] [--requests N] [--kill]";
const MAX_WORKERS: u64 = 64;
/// Different pages that are asked for; a few of them much more often than the others.
const PAGES: u64 = 1_000;
/// How many of them the cache keeps.
const ROOM: u64 = 100;
/// How long no request need be answered before the parent gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key of the books. (Pages are numbered from 0.)
const BOOKS: u64 = u64::MAX;

/// What was done to the cache.
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Books {
    put_in: u64,
    taken_out: u64,
}

/// What the workers have done, in a dictionary of counters.
const ANSWERED: u64 = 1;
const HITS: u64 = 2;

/// A page: the same bytes whenever and wherever it is rendered.
fn render(page: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(page);
    let words = 128 + random.random_range(0..8_064);
    (0..words)
        .flat_map(|_| random.random::<u64>().to_le_bytes())
        .collect()
}

/// The books, in a cache that has none before the first page.
fn books(found: Option<&Vec<u8>>) -> Books {
    found.map_or(Books::default(), |bytes| {
        bytemuck::pod_read_unaligned(bytes)
    })
}

/// Puts a page in, unless another worker has, and takes out the one that came first if there are too many.
fn put_in(cache: &StreamDict<u64, [u8]>, page: u64, bytes: &[u8]) -> Result<(), StreamError> {
    cache.transaction(|tx| {
        if tx.contains_key(&page)? {
            return Ok(());
        }
        let mut books = books(tx.get(&BOOKS)?);
        if books.put_in - books.taken_out == ROOM {
            let mut keys = tx.iter().map(|entry| entry.map(|(key, _)| key));
            let first = keys.find(|key| !matches!(key, Ok(BOOKS))).transpose()?;
            drop(keys);
            if let Some(first) = first {
                books.taken_out += u64::from(tx.remove(&first)?);
            }
        }
        tx.set(&page, bytes)?;
        books.put_in += 1;
        tx.set(&BOOKS, bytemuck::bytes_of(&books))
    })
}

/// Whether as many pages are in the cache as the books say, and no more than fit.
fn audit(cache: &StreamDict<u64, [u8]>) -> Result<Books> {
    let view = cache.view()?;
    let has_books = view.contains_key(&BOOKS)?;
    let pages = view.len() as u64 - u64::from(has_books);
    let books = books(view.get(&BOOKS)?);
    if pages != books.put_in - books.taken_out || pages > ROOM {
        return Err(format!("{pages} pages in the cache, and {books:?}").into());
    }
    Ok(books)
}

fn work(cache: &StreamDict<u64, [u8]>, tally: &AtomicDict, requests: u64) -> Result<()> {
    let mut random = SmallRng::from_seed(rand::random());
    while tally.load(ANSWERED) < requests {
        // Half of the requests are for one page in twenty.
        let page = match random.random() {
            true => random.random_range(0..PAGES / 20),
            false => random.random_range(0..PAGES),
        };
        let rendered = render(page);
        match cache.get(&page)? {
            Some(found) if found == rendered => drop(tally.fetch_add(HITS, 1)?),
            Some(_) => return Err(format!("page {page} is not what it was").into()),
            None => put_in(cache, page, &rendered)?,
        }
        audit(cache)?;
        tally.fetch_add(ANSWERED, 1)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match parse(lexopt::Parser::from_env()).and_then(|args| args.map_or(Ok(()), run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cache: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Args {
    workers: u64,
    requests: u64,
    kill: bool,
}

/// `None` if all that was wanted is help.
fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>> {
    use lexopt::prelude::*;

    let mut args = Args {
        workers: 4,
        requests: 20_000,
        kill: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("workers") => args.workers = parser.value()?.parse()?,
            Long("requests") => args.requests = parser.value()?.parse()?,
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
    Ok(Some(args))
}

fn run(args: Args) -> Result<()> {
    let mut options = StreamDict::<u64, [u8]>::options();
    let cache = options.unlink_on_drop(true).create_unique()?;
    let tally = AtomicDict::anonymous(10)?;
    let start = || -> Result<Pid> {
        // SAFETY: this process has one thread, so its child may do whatever it may do itself.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(child),
            // Never back into the code of the parent, of which the child has a copy.
            ForkResult::Child => exit(match work(&cache, &tally, args.requests) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("cache: {error}");
                    1
                }
            }),
        }
    };
    let mut crew = Vec::new();
    let mut killed = 0;
    let outcome = (|| -> Result<()> {
        for _ in 0..args.workers {
            crew.push(start()?);
        }
        let (mut answered, mut since) = (0, Instant::now());
        while !crew.is_empty() {
            if args.kill && tally.load(ANSWERED) < args.requests {
                let victim = rand::random_range(0..crew.len());
                kill(crew.swap_remove(victim), Signal::SIGKILL)?;
                killed += 1;
                crew.push(start()?);
            }
            std::thread::sleep(Duration::from_millis(3));
            while let Ok(end) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                match end {
                    WaitStatus::Exited(child, 0) => crew.retain(|&worker| worker != child),
                    WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
                    WaitStatus::StillAlive => break,
                    end => {
                        return Err(
                            format!("a worker came to an end that it should not: {end:?}").into(),
                        );
                    }
                }
            }
            let now = tally.load(ANSWERED);
            if now != answered {
                (answered, since) = (now, Instant::now());
            } else if since.elapsed() > PATIENCE {
                return Err("nothing happens any more".into());
            }
        }
        Ok(())
    })();
    for worker in crew {
        let _ = kill(worker, Signal::SIGKILL);
    }
    outcome?;

    let books = audit(&cache)?;
    let pages = books.put_in - books.taken_out;
    for entry in cache.view()?.iter() {
        let (page, bytes) = entry?;
        if page != BOOKS && *bytes != render(page) {
            return Err(format!("page {page} is not what it was").into());
        }
    }
    let status = cache.status()?;
    let (answered, hits) = (tally.load(ANSWERED), tally.load(HITS));
    println!(
        "{answered} requests, {:.0} % from the cache; {} generations of the log, {} kB of shared memory",
        100.0 * hits as f64 / answered as f64,
        status.dumps + 1,
        status.memory / 1000
    );
    println!(
        "check: {pages} pages, as the books say ({} put in, {} taken out), each as it was rendered; {killed} workers killed",
        books.put_in, books.taken_out
    );
    Ok(())
}
