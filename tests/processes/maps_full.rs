//! Maps that are full to the brim, or nearly, while writers die; and what a death must not undo.

use std::time::Duration;

use forkmap::{SharedHashMap, WriteError};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::maps::{agreed, breathe, check_at_rest, scaled};
use crate::peer::{Peer, await_value, watchdog};
use crate::{Role, run, test};

const DONE: u64 = 10;

pub(crate) const ROLES: &[Role] = &[
    ("map-full", |_| full()),
    ("map-strict", |args| strict(&args[0])),
    ("map-missed", |_| missed()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_that_the_dead_have_filled_takes_one_more", || {
            print!("{}", run("map-full", &[]));
        }),
        test("map_change_that_was_seen_outlives_its_writer", || {
            let name = Name::new("strict");
            print!("{}", run("map-strict", &[&name]));
        }),
        test("map_misses_are_as_fast_after_a_million_removals", || {
            print!("{}", run("map-missed", &[]));
        }),
    ]
}

/// Kills writers in the middle of inserts when hardly a cell is free: it is full when all are taken, and
/// not before, though nobody calls `recover`.
fn full() {
    const CAPACITY: u64 = 12;
    const VICTIMS: u64 = 3;
    let rounds = scaled(2400);
    watchdog();
    let dict = agreed();
    let mut options = SharedHashMap::<u64, [u64; 3]>::options();
    let map = options
        .capacity(CAPACITY)
        .participants(8)
        .anonymous()
        .unwrap();
    let mut rng = SmallRng::seed_from_u64(9);
    let mut survived = 0;
    for round in 0..rounds {
        // So many that each victim finds one cell free, and no more.
        (VICTIMS..CAPACITY).for_each(|key| map.set(&key, &[key; 3]).unwrap());
        let before = dict.load(DONE);
        let churn = |me: u64| {
            loop {
                // Another one may hold the last cell for an instant.
                let inserted = map.try_insert(&me, &[me; 3]);
                assert!(matches!(inserted, Ok(true) | Err(WriteError::Full { .. })));
                map.remove(&me).unwrap();
                let n = dict.fetch_add(DONE, 1).unwrap();
                breathe(n);
            }
        };
        let victims: Vec<_> = (0..VICTIMS).map(|me| Peer::fork(|| churn(me))).collect();
        await_value(&dict, DONE, before + 5);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..300)));
        victims.into_iter().for_each(Peer::kill);
        let present = map.len() as u64;
        survived += present + VICTIMS - CAPACITY;
        // Until it is full: by the same key, and then by others.
        for key in 0..CAPACITY {
            let inserted = map.try_insert(&key, &[key; 3]);
            assert!(inserted.is_ok(), "round {round}, key {key}: {inserted:?}");
        }
        let full = map.try_insert(&1000, &[0; 3]);
        assert!(matches!(full, Err(WriteError::Full { capacity: 12 })));
        // What is there can be changed all the same.
        map.set(&0, &[0; 3]).unwrap();
        assert_eq!(map.compare_exchange(&1, &[1; 3], &[1; 3]).unwrap(), Ok(()));
        check_at_rest(&map);
        (0..VICTIMS).for_each(|key| assert_eq!(map.remove(&key).unwrap(), Some([key; 3])));
    }
    let deaths = rounds * VICTIMS;
    println!("{deaths} deaths, {survived} inserts outlived their writer");
}

/// What all ways of reading say of one key, which must be the same.
fn seen(maps: &[&SharedHashMap<u64, u64>; 2], key: u64) -> Option<u64> {
    let [found, other] = maps.map(|map| map.get(&key).unwrap());
    assert_eq!(found, other, "by another attachment");
    for map in maps {
        let of_key = map
            .iter()
            .map(Result::unwrap)
            .filter(|entry| entry.0 == key);
        let iterated: Vec<_> = of_key.map(|entry| entry.1).collect();
        assert_eq!(iterated, Vec::from_iter(found), "iterated");
        assert_eq!(map.contains_key(&key).unwrap(), found.is_some());
    }
    found
}

/// Writers that are killed as soon as a reader sees what they did: it stays as it was at their death,
/// before and after recovery, until somebody changes it.
fn strict(name: &str) {
    let rounds = scaled(1000);
    watchdog();
    let map = SharedHashMap::<u64, u64>::create(name, 100).unwrap();
    let mut options = SharedHashMap::<u64, u64>::options();
    let read_only = options.read_only(true).open(name).unwrap();
    let maps = [&read_only, &map];
    let mut rng = SmallRng::seed_from_u64(10);
    let mut outcomes = [0; 2];
    for round in 0..rounds {
        let key = round % 7;
        map.remove(&key).unwrap();
        // 1, 2, nothing, 4, 5, nothing, and so on.
        let victim = Peer::fork(|| {
            for n in (0..).step_by(3) {
                assert!(map.try_insert(&key, &(n + 1)).unwrap());
                map.set(&key, &(n + 2)).unwrap();
                map.remove(&key).unwrap();
            }
        });
        let until = rng.random_range(0..40);
        let reader = maps[round as usize % 2];
        let mut last = 0;
        while last <= until {
            match reader.get(&key).unwrap() {
                Some(value) => {
                    assert!(value >= last, "{value} after {last}");
                    last = value;
                }
                // (It may not run yet.)
                None => std::thread::yield_now(),
            }
        }
        victim.kill();
        let dead = seen(&maps, key);
        assert!(
            dead.is_none_or(|value| value >= last),
            "{dead:?} after {last}"
        );
        outcomes[usize::from(dead.is_some())] += 1;
        assert_eq!(seen(&maps, key), dead);
        map.recover().unwrap();
        assert_eq!(seen(&maps, key), dead, "undone by recovery");
        if let Some(value) = dead {
            assert_eq!(map.compare_exchange(&key, &value, &0).unwrap(), Ok(()));
            assert_eq!(seen(&maps, key), Some(0));
        } else {
            assert!(map.try_insert(&key, &0).unwrap());
        }
        assert_eq!(map.check(), Vec::<String>::new());
    }
    println!("{rounds} deaths: after {outcomes:?} of them nothing, something was there");
}

/// S7: fresh keys come and go, and what a miss takes does not grow.
fn missed() {
    const PROCESSES: u64 = 4;
    const CYCLES: u64 = 250_000;
    const STAY: u64 = 900;
    watchdog();
    let map = SharedHashMap::<u64, u64>::anonymous(1000).unwrap();
    let stay = |n| n * 0x9E37_79B9;
    (0..STAY).for_each(|n| map.set(&stay(n), &n).unwrap());
    let before = map.stats().unwrap();
    let cycle = |me: u64| {
        let first = 1 << 60 | me << 40;
        let mut keys = std::collections::VecDeque::new();
        for key in first..first + CYCLES {
            assert!(map.try_insert(&key, &me).unwrap());
            keys.push_back(key);
            if keys.len() == 20 {
                let oldest = keys.pop_front().unwrap();
                assert_eq!(map.remove(&oldest).unwrap(), Some(me));
            }
        }
        keys.iter()
            .for_each(|key| assert_eq!(map.remove(key).unwrap(), Some(me)));
    };
    let peers: Vec<_> = (0..PROCESSES).map(|me| Peer::fork(|| cycle(me))).collect();
    peers.into_iter().for_each(Peer::join);
    check_at_rest(&map);
    let after = map.stats().unwrap();
    for stats in [&before, &after] {
        let (mean, most) = (stats.miss_lines, stats.miss_lines_max);
        println!("a miss passes {mean:.2} lines, {most} at most");
    }
    assert_eq!(after.len as u64, STAY);
    assert!(after.miss_lines <= 2.0 * before.miss_lines);
    assert!((0..STAY).all(|n| map.get(&stay(n)).unwrap() == Some(n)));
    map.clear().unwrap();
    let empty = map.stats().unwrap();
    assert_eq!((empty.len, empty.miss_lines_max), (0, 1));
    check_at_rest(&map);
}
