//! Programs that produce and programs that consume, which know nothing of each other but a name; and any of the
//! consumers may be killed at any moment.
//!
//! ```text
//! cargo run --release --example producer_consumer -- [--kill]
//! ```
//!
//! The queue is a `StreamDict`: its keys come in the order in which they were inserted, so the first one is the next
//! to be consumed. Taking an item out and adding it to what its consumer has consumed is one transaction: a consumer
//! that is killed has done both or neither. At most [`ROOM`] items are in the queue; who finds it full, or empty,
//! sleeps until something changes. The program starts two producers and three consumers, as
//!
//! ```text
//! producer_consumer produce NAME FIRST
//! producer_consumer consume NAME NUMBER
//! ```
//!
//! and checks in the end that all was consumed once: exit status 1 if not. With `--kill` it kills a consumer every
//! few milliseconds, and starts another one.

use std::error::Error;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use forkmap::{StreamDict, StreamError};

const PRODUCERS: u64 = 2;
const CONSUMERS: u64 = 3;
/// Items of each producer.
const ITEMS: u64 = 25_000;
/// Items in the queue at most.
const ROOM: usize = 50;
const A_WHILE: Duration = Duration::from_secs(60);

/// The first of the keys under which consumers keep what they have consumed. (Items are numbered from 0.)
const BOOKS: u64 = 1 << 32;

/// Items, and of each consumer how many it has consumed.
type Queue = StreamDict<u64, u64>;

fn books_of(consumer: u64) -> [u64; 2] {
    [BOOKS + 2 * consumer, BOOKS + 2 * consumer + 1]
}

/// What an item is worth.
fn value(item: u64) -> u64 {
    item * item + 1
}

/// Does `step` until it is done, asleep while it cannot be.
fn until_done(
    queue: &Queue,
    mut step: impl FnMut() -> Result<bool, StreamError>,
) -> Result<(), Box<dyn Error>> {
    loop {
        let seen = queue.position()?;
        if step()? {
            return Ok(());
        }
        if queue.wait_for_change(seen, A_WHILE)?.is_none() {
            return Err("nothing has changed for a minute".into());
        }
    }
}

fn produce(name: &str, first: u64) -> Result<(), Box<dyn Error>> {
    let queue = Queue::open(name)?;
    for item in first..first + ITEMS {
        until_done(&queue, || {
            queue.transaction(|tx| {
                // The books are keys, too.
                if tx.len() >= ROOM + 2 * CONSUMERS as usize {
                    return Ok(false);
                }
                tx.set(&item, &value(item))?;
                Ok::<_, StreamError>(true)
            })
        })?;
    }
    Ok(())
}

fn consume(name: &str, consumer: u64) -> Result<(), Box<dyn Error>> {
    let queue = Queue::open(name)?;
    let [count, sum] = books_of(consumer);
    loop {
        let mut all = 0;
        until_done(&queue, || {
            queue.transaction(|tx| {
                let mut items = tx.iter().filter_map(Result::ok);
                let next = items.find(|&(key, _)| key < BOOKS);
                let next = next.map(|(item, &value)| (item, value));
                drop(items);
                all = 0;
                for consumer in 0..CONSUMERS {
                    all += tx.get(&books_of(consumer)[0])?.copied().unwrap_or(0);
                }
                let Some((item, value)) = next else {
                    return Ok(all == PRODUCERS * ITEMS);
                };
                tx.remove(&item)?;
                for (key, more) in [(count, 1), (sum, value)] {
                    let before = tx.get(&key)?.copied().unwrap_or(0);
                    tx.set(&key, &(before + more))?;
                }
                Ok::<_, StreamError>(true)
            })
        })?;
        if all == PRODUCERS * ITEMS {
            return Ok(());
        }
    }
}

fn run(kill: bool) -> Result<(), Box<dyn Error>> {
    let name = format!("producer-consumer-{}", std::process::id());
    let queue = Queue::options().unlink_on_drop(true).create(&name)?;
    let program = std::env::current_exe()?;
    let start = |role: &str, number: u64| {
        Command::new(&program)
            .args([role, &name, &number.to_string()])
            .spawn()
    };
    let producers = (0..PRODUCERS).map(|n| start("produce", n * ITEMS));
    let mut producers: Vec<Child> = producers.collect::<Result<_, _>>()?;
    let consumers = (0..CONSUMERS).map(|n| start("consume", n));
    let mut consumers: Vec<Child> = consumers.collect::<Result<_, _>>()?;
    let mut killed = 0;
    let consumed = || -> Result<u64, StreamError> {
        let view = queue.view()?;
        let counts = (0..CONSUMERS).map(|n| Ok(*view.get(&books_of(n)[0])?.unwrap_or(&0)));
        counts.sum()
    };
    while kill && consumed()? < PRODUCERS * ITEMS {
        std::thread::sleep(Duration::from_millis(5));
        let at = killed % consumers.len();
        consumers[at].kill()?;
        consumers[at].wait()?;
        consumers[at] = start("consume", at as u64)?;
        killed += 1;
    }
    for child in producers.iter_mut().chain(&mut consumers) {
        if !child.wait()?.success() {
            return Err("one of them failed".into());
        }
    }
    let view = queue.view()?;
    let mut total = [0; 2];
    for consumer in 0..CONSUMERS {
        let books = books_of(consumer).map(|key| view.get(&key).map(|n| *n.unwrap_or(&0)));
        let [count, sum] = books;
        let (count, sum) = (count?, sum?);
        println!("consumer {consumer}: {count} items");
        total = [total[0] + count, total[1] + sum];
    }
    let items = PRODUCERS * ITEMS;
    let expected = [items, (0..items).map(value).sum()];
    let left = view.keys().flatten().filter(|&key| key < BOOKS).count();
    if total != expected || left != 0 {
        return Err(format!("check: WRONG, {total:?} and {left} left, not {expected:?}").into());
    }
    println!("check: each of {items} items was consumed once; {killed} consumers killed");
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let number = |number: &str| number.parse::<u64>();
    let done = match arguments[..] {
        [] => run(false),
        ["--kill"] => run(true),
        ["produce", name, first] if number(first).is_ok() => {
            produce(name, number(first).unwrap_or(0))
        }
        ["consume", name, n] if number(n).is_ok() => consume(name, number(n).unwrap_or(0)),
        _ => Err(
            "usage: producer_consumer [--kill | produce NAME FIRST | consume NAME NUMBER]".into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("producer_consumer: {error}");
            ExitCode::FAILURE
        }
    }
}
