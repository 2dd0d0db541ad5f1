//! Maps in which many processes count: nothing is lost, also not by who is stopped.

use std::time::Duration;

use forkmap::entry::{Entry, EntryError};
use forkmap::{AtomicDict, SharedHashMap};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::{agreed, check_at_rest, meet, scaled};
use crate::peer::{Peer, await_value, watchdog};
use crate::{Role, run, test};

const PROCESSES: u64 = 4;
const EACH: u64 = 25_000;

/// How often each process has done something: this and the number of the process.
const DONE: u64 = 100;
/// How many keys came, and how many went.
const CAME: u64 = 10;
const WENT: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("map-count", |_| count()),
    ("map-count-in-large-values", |_| count_in_large_values()),
    ("map-stopped", |_| stopped()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_four_processes_count_to_a_hundred_thousand", || {
            run("map-count", &[]);
        }),
        test("map_four_processes_count_in_values_of_200_bytes", || {
            run("map-count-in-large-values", &[]);
        }),
        test(
            "map_stopped_writers_hold_nobody_up_and_lose_nothing",
            || {
                print!("{}", run("map-stopped", &[]));
            },
        ),
    ]
}

fn by_all(dict: &AtomicDict, work: impl Fn(u64)) {
    let peer = |me| {
        Peer::fork(|| {
            meet(dict, PROCESSES);
            work(me);
        })
    };
    let peers: Vec<_> = (0..PROCESSES).map(peer).collect();
    peers.into_iter().for_each(Peer::join);
}

fn count() {
    watchdog();
    let total = PROCESSES * EACH;
    let map = SharedHashMap::<u64, u64>::anonymous(10).unwrap();
    map.set(&2, &0).unwrap();
    by_all(&agreed(), |_| {
        for _ in 0..EACH {
            map.fetch_add(&0, 1).unwrap();
            map.update(&1, |old| old.unwrap_or(0) + 1).unwrap();
            let mut current = map.get(&2).unwrap().unwrap();
            while let Err(found) = map.compare_exchange(&2, &current, &(current + 1)).unwrap() {
                current = found.unwrap();
            }
            map.fetch_sub(&3, 1).unwrap();
            map.fetch_max(&4, current).unwrap();
        }
    });
    let found = [0, 1, 2, 3, 4].map(|key| map.get(&key).unwrap().unwrap());
    assert_eq!(
        found,
        [total, total, total, total.wrapping_neg(), total - 1]
    );
    check_at_rest(&map);

    let map = SharedHashMap::<str, i32>::anonymous(10).unwrap();
    by_all(&agreed(), |_| {
        for _ in 0..EACH {
            map.fetch_add("a key of some length, by addition", 1)
                .unwrap();
            map.update("by closure", |old| old.unwrap_or(0) + 1)
                .unwrap();
        }
    });
    for key in ["a key of some length, by addition", "by closure"] {
        assert_eq!(map.get(key).unwrap(), Some(total as i32));
    }
    check_at_rest(&map);
}

/// A counter in the middle of others that depend on it.
type Large = [u64; 25];

fn value(count: u64) -> Large {
    std::array::from_fn(|n| count * (n as u64 + 1))
}

fn next(old: &Large) -> Large {
    assert_eq!(*old, value(old[0]), "mixed");
    value(old[0] + 1)
}

fn count_in_large_values() {
    watchdog();
    let total = PROCESSES * EACH;
    let map = SharedHashMap::<str, Large>::anonymous(10).unwrap();
    map.set("fetch_update", &value(0)).unwrap();
    by_all(&agreed(), |_| {
        for _ in 0..EACH {
            let previous = map.fetch_update("fetch_update", |old| Some(next(old)));
            previous.unwrap().unwrap();
            loop {
                let changed = match map.entry("entry").unwrap() {
                    Entry::Occupied(mut entry) => {
                        let new = next(entry.get());
                        entry.replace(&new)
                    }
                    Entry::Vacant(entry) => entry.insert(&value(1)),
                };
                match changed {
                    Ok(()) => break,
                    Err(EntryError::Changed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    for key in ["fetch_update", "entry"] {
        assert_eq!(map.get(key).unwrap(), Some(value(total)));
    }
    check_at_rest(&map);
}

/// Adds, inserts and removes, all with others at the same keys.
fn work(map: &SharedHashMap<u64, u64>, dict: &AtomicDict, me: u64, rounds: u64) {
    let mut rng = SmallRng::seed_from_u64(me);
    for _ in 0..rounds {
        map.fetch_add(&0, 1).unwrap();
        let key = rng.random_range(1..9);
        let came = map.try_insert(&key, &key).unwrap();
        dict.fetch_add(CAME, u64::from(came)).unwrap();
        let key = rng.random_range(1..9);
        let went = map.remove(&key).unwrap();
        assert!(went.is_none_or(|found| found == key));
        dict.fetch_add(WENT, u64::from(went.is_some())).unwrap();
        dict.fetch_add(DONE + me, 1).unwrap();
    }
}

/// Stopped anywhere, some for a while and one until all others are at their end.
fn stopped() {
    let rounds = scaled(200_000);
    watchdog();
    let dict = agreed();
    // Each may hold a cell when it is stopped.
    let map = SharedHashMap::<u64, u64>::anonymous(40).unwrap();
    let done = |n| dict.load(DONE + n as u64);
    let work = |me| work(&map, &dict, me, rounds);
    let peers: Vec<_> = (0..PROCESSES).map(|me| Peer::fork(|| work(me))).collect();
    let mut rng = SmallRng::seed_from_u64(11);
    let mut stops = 0;
    while stops < 60 && (0..peers.len()).all(|n| done(n) < rounds / 2) {
        let n = rng.random_range(0..peers.len());
        peers[n].stop();
        let there = done(n);
        let other = (n + rng.random_range(1..peers.len())) % peers.len();
        // (Unless it is at its end.)
        await_value(&dict, DONE + other as u64, (done(other) + 100).min(rounds));
        assert_eq!(done(n), there);
        peers[n].signal(Signal::SIGCONT);
        stops += 1;
        std::thread::sleep(Duration::from_micros(rng.random_range(0..500)));
    }
    let last = rng.random_range(0..peers.len());
    let is_stopped = done(last) < rounds;
    if is_stopped {
        peers[last].stop();
    }
    for n in (0..PROCESSES).filter(|&n| n != last as u64) {
        await_value(&dict, DONE + n, rounds);
    }
    if is_stopped {
        peers[last].signal(Signal::SIGCONT);
    }
    peers.into_iter().for_each(Peer::join);
    assert_eq!(map.get(&0).unwrap(), Some(PROCESSES * rounds));
    let (came, went) = (dict.load(CAME), dict.load(WENT));
    assert_eq!(
        map.len() as u64,
        1 + came - went,
        "{came} came, {went} went"
    );
    check_at_rest(&map);
    println!("stopped {stops} times; {came} came, {went} went");
}
