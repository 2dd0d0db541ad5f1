//! Chaos: processes on all cores that do what they like with a few hot keys, and are killed and stopped at any instant.
//! Everything that any of them was told is written down, and explained.

#![expect(
    clippy::disallowed_types,
    reason = "what is written down must not pass through what is tried"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, SharedHashMap, StreamDict};
use libtest_mimic::Trial;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Call, Op, Wrong, explain};
use crate::peer::{Peer, watchdog};
use crate::streams::StreamName;
use crate::{Role, run, test};

const WORKERS: usize = 4;
const KEYS: u64 = 4;
/// Keys that fit: with as many writers in the middle of something, `Full` may come too early in a map of four.
const ROOM: u64 = 4 * KEYS;
/// Calls that a page has room for.
const CALLS: usize = if cfg!(debug_assertions) {
    1 << 12
} else {
    1 << 15
};
/// Words of one that is written down: key and op, value, start, what was told, end.
const WORDS: usize = 5;

pub(crate) const ROLES: &[Role] = &[("chaos", |args| {
    chaos(&args[0], &args[1], args[2].parse().unwrap())
})];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("chaos_all_that_a_dict_tells_can_be_explained", || {
            explained("dict")
        }),
        test("chaos_all_that_a_map_tells_can_be_explained", || {
            explained("map")
        }),
        test(
            "chaos_all_that_a_map_of_long_values_tells_can_be_explained",
            || explained("long"),
        ),
        test("chaos_all_that_a_stream_tells_can_be_explained", || {
            explained("stream")
        }),
    ]
}

fn explained(what: &str) {
    let name = StreamName::new(&format!("chaos-{what}"));
    print!("{}", run("chaos", &[what, &name, &seconds()]));
}

/// For how long: more by hand.
fn seconds() -> String {
    std::env::var("FORKMAP_CHAOS_SECONDS").unwrap_or_else(|_| "3".to_owned())
}

/// What is tried. No value is ever given twice.
enum Target {
    Dict(AtomicDict),
    Map(SharedHashMap<u64, u64>),
    /// Values of many words, each of which says the same: torn ones are noticed.
    Long(SharedHashMap<u64, [u64; 12]>),
    Stream(StreamDict<u64, u64>),
}

fn whole(words: [u64; 12]) -> u64 {
    assert_eq!(words, [words[0]; 12], "torn");
    words[0]
}

impl Target {
    fn new(what: &str, name: &str) -> Self {
        match what {
            "dict" => Self::Dict(AtomicDict::anonymous(KEYS).unwrap()),
            "map" => Self::Map(SharedHashMap::anonymous(ROOM).unwrap()),
            "long" => Self::Long(SharedHashMap::anonymous(ROOM).unwrap()),
            _ => {
                let mut options = StreamDict::options();
                Self::Stream(
                    options
                        .unlink_on_drop(true)
                        .log_bytes(4096)
                        .create(name)
                        .unwrap(),
                )
            }
        }
    }

    fn get(&self, key: u64) -> Option<u64> {
        match self {
            Self::Dict(dict) => Some(dict.load(key)).filter(|&value| value != 0),
            Self::Map(map) => map.get(&key).unwrap(),
            Self::Long(map) => map.get(&key).unwrap().map(whole),
            Self::Stream(stream) => stream.get(&key).unwrap(),
        }
    }

    fn put(&self, key: u64, value: u64) -> Option<u64> {
        match self {
            Self::Dict(dict) => Some(dict.swap(key, value).unwrap()).filter(|&value| value != 0),
            Self::Map(map) => map.insert(&key, &value).unwrap(),
            Self::Long(map) => map.insert(&key, &[value; 12]).unwrap().map(whole),
            Self::Stream(stream) => stream.insert(&key, &value).unwrap(),
        }
    }

    /// Gives the key a value if it has that one: the one that it had.
    fn exchange(&self, key: u64, from: u64, to: u64) -> Result<Option<u64>, Option<u64>> {
        let none = |value: u64| Some(value).filter(|&value| value != 0);
        match self {
            Self::Dict(dict) => {
                let done = dict.compare_exchange(key, from, to).unwrap();
                done.map(none).map_err(none)
            }
            Self::Map(map) => {
                let done = map.compare_exchange(&key, &from, &to).unwrap();
                done.map(|()| Some(from))
            }
            Self::Long(map) => {
                let done = map.compare_exchange(&key, &[from; 12], &[to; 12]).unwrap();
                done.map(|()| Some(from)).map_err(|found| found.map(whole))
            }
            Self::Stream(stream) => stream
                .compare_exchange(&key, Some(&from), Some(&to))
                .unwrap(),
        }
    }

    fn remove(&self, key: u64) -> Option<u64> {
        match self {
            // (There no key is ever removed.)
            Self::Dict(dict) => Some(dict.swap(key, 0).unwrap()).filter(|&value| value != 0),
            Self::Map(map) => map.remove(&key).unwrap(),
            Self::Long(map) => map.remove(&key).unwrap().map(whole),
            Self::Stream(stream) => stream.remove(&key).unwrap(),
        }
    }

    /// What a worker uses: what it inherits, or what it opens by itself.
    fn opened(&self, name: &str, by_name: bool) -> Option<Self> {
        match self {
            Self::Stream(_) if by_name => Some(Self::Stream(StreamDict::open(name).unwrap())),
            _ => None,
        }
    }
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// What one worker writes down. It stays when that is killed.
#[derive(Clone, Copy)]
struct Page(&'static [AtomicU64]);

impl Page {
    fn new() -> Self {
        let words = CALLS * WORDS;
        let len = (words * 8).try_into().unwrap();
        let (access, flags) = (
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED,
        );
        // SAFETY: a new mapping, at no address of anybody's choice.
        let start = unsafe { mmap_anonymous(None, len, access, flags) }.unwrap();
        let start = start.as_ptr() as *const AtomicU64;
        // SAFETY: so many words that are zero and never unmapped, and only used as atomics.
        let words = unsafe { std::slice::from_raw_parts(start, words) };
        Self(words)
    }

    fn entries(self) -> impl Iterator<Item = &'static [AtomicU64]> {
        self.0.chunks_exact(WORDS)
    }

    fn clear(self) {
        self.0.iter().for_each(|word| word.store(0, Release));
    }

    /// Makes a call and writes it down: what for before, and what came of it after.
    fn call(
        entry: &[AtomicU64],
        key: u64,
        op: Op,
        call: impl FnOnce() -> (Op, Option<u64>),
    ) -> Option<u64> {
        let put = |op: Op| {
            let (kind, value) = match op {
                Op::Get => (1, 0),
                Op::Put(value) => (2, value),
                Op::Remove => (3, 0),
            };
            entry[1].store(value, Release);
            entry[0].store(kind << 32 | key, Release);
        };
        entry[2].store(now(), Release);
        put(op);
        let (op, told) = call();
        let end = now();
        put(op);
        entry[3].store(told.unwrap_or(0), Release);
        entry[4].store(end, Release);
        told
    }

    /// What is written down, by key. Whoever has not told has died by then.
    fn read(self, by: u64, history: &mut HashMap<u64, Vec<Call>>) -> usize {
        let mut calls = 0;
        for entry in self.entries() {
            let [what, value, start, told, end] =
                [0, 1, 2, 3, 4].map(|n: usize| entry[n].load(Acquire));
            let op = match what >> 32 {
                0 => break,
                1 => Op::Get,
                2 => Op::Put(value),
                _ => Op::Remove,
            };
            let (told, end) = match end {
                0 => (None, by),
                end => (Some(Some(told).filter(|&told| told != 0)), end),
            };
            history.entry(what as u32 as u64).or_default().push(Call {
                op,
                told,
                start,
                end,
            });
            calls += 1;
        }
        calls
    }
}

/// Does anything with any key, until its page is full.
fn work(target: &Target, page: Page, number: u64) {
    let mut rng = SmallRng::seed_from_u64(number);
    let mut seen = [0; KEYS as usize];
    for (n, entry) in page.entries().enumerate() {
        let key = rng.random_range(0..KEYS);
        let value = number << 32 | (n as u64 + 1);
        let told = match rng.random_range(0..16) {
            0..6 => Page::call(entry, key, Op::Get, || (Op::Get, target.get(key))),
            6..11 => Page::call(entry, key, Op::Put(value), || {
                (Op::Put(value), target.put(key, value))
            }),
            11..14 if seen[key as usize] != 0 => {
                let exchange = || match target.exchange(key, seen[key as usize], value) {
                    Ok(old) => (Op::Put(value), old),
                    Err(found) => (Op::Get, found),
                };
                Page::call(entry, key, Op::Put(value), exchange)
            }
            _ => Page::call(entry, key, Op::Remove, || (Op::Remove, target.remove(key))),
        };
        seen[key as usize] = told.unwrap_or(0);
    }
}

struct Worker {
    peer: Peer,
    page: Page,
    /// A stopped one goes on then.
    until: Option<Instant>,
}

impl Worker {
    /// Kills it, and says until when it may have done something: whether it was still at it.
    fn kill(self, used: &mut Vec<(Page, u64)>) -> bool {
        self.peer.signal(Signal::SIGKILL);
        let ended = waitpid(self.peer.0, None).unwrap();
        used.push((self.page, now()));
        match ended {
            WaitStatus::Signaled(_, Signal::SIGKILL, false) => true,
            WaitStatus::Exited(_, 0) => false,
            other => panic!("{other:?}"),
        }
    }
}

fn chaos(what: &str, name: &str, seconds: u64) {
    watchdog();
    let target = Target::new(what, name);
    let mut rng = SmallRng::seed_from_u64(7);
    let mut numbers = 1..;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut calls, mut kills, mut stops, mut rounds) = (0, 0, 0, 0);
    // Of processes that were killed, and their pages.
    let mut pages: Vec<Page> = (0..24).map(|_| Page::new()).collect();
    while Instant::now() < end || kills < 20 || stops < 20 {
        let (mut history, mut used) = (HashMap::new(), Vec::new());
        // What is there is something that was put there.
        let before = now();
        for key in 0..KEYS {
            let mut begin = |op, told| {
                let told = Some(told);
                let call = Call {
                    op,
                    told,
                    start: before,
                    end: before,
                };
                history.entry(key).or_insert_with(Vec::new).push(call);
            };
            if let Some(value) = target.get(key) {
                begin(Op::Put(value), None);
            }
        }
        let mut start = |pages: &mut Vec<Page>| {
            let (page, number) = (pages.pop()?, numbers.next()?);
            let peer = Peer::fork(|| {
                let opened = target.opened(name, number % 2 == 0);
                work(opened.as_ref().unwrap_or(&target), page, number);
            });
            Some(Worker {
                peer,
                page,
                until: None,
            })
        };
        let mut crew: Vec<Worker> = (0..WORKERS).map_while(|_| start(&mut pages)).collect();
        // As long as there are pages, and everybody has room on his.
        while !crew
            .iter()
            .any(|worker| worker.until.is_none() && worker.peer.has_ended())
        {
            std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
            for worker in &mut crew {
                if worker.until.is_some_and(|until| until < Instant::now()) {
                    worker.peer.signal(Signal::SIGCONT);
                    worker.until = None;
                }
            }
            let at = rng.random_range(0..crew.len());
            let is_stopped = crew[at].until.is_some();
            match rng.random_range(0..3) {
                0 if !is_stopped => {
                    crew[at].peer.signal(Signal::SIGSTOP);
                    crew[at].until =
                        Some(Instant::now() + Duration::from_micros(rng.random_range(0..20_000)));
                    stops += 1;
                }
                // (Stopped ones die as well.)
                1 => {
                    let Some(next) = start(&mut pages) else { break };
                    let dead = std::mem::replace(&mut crew[at], next);
                    kills += u32::from(dead.kill(&mut used));
                }
                _ => {}
            }
        }
        for worker in crew {
            kills += u32::from(worker.kill(&mut used));
        }
        let after = now();
        for key in 0..KEYS {
            let told = Some(target.get(key));
            let call = Call {
                op: Op::Get,
                told,
                start: after,
                end: now(),
            };
            history.entry(key).or_insert_with(Vec::new).push(call);
        }
        for (page, by) in used {
            calls += page.read(by, &mut history);
            page.clear();
            pages.push(page);
        }
        for (key, calls) in history {
            if let Err(Wrong(why, calls)) = explain(&calls) {
                panic!("round {rounds}, key {key}: {why}: {calls:?}");
            }
        }
        rounds += 1;
    }
    println!("{what}: {calls} calls explained in {rounds} rounds, {kills} kills, {stops} stops");
    assert!(calls > 1000);
}
