//! Maps into which many processes put the same keys at the same time.

use std::collections::HashMap;

use forkmap::{SharedHashMap, WriteError};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::maps::{agreed, check_at_rest, meet, scaled};
use crate::peer::{Peer, watchdog};
use crate::{Role, run, spawn, test, wait_all};

const PROCESSES: u64 = 4;

/// Cells for those who are about to insert, and for a look for a free one that others always run ahead of.
const SPARE: u64 = 64;

/// How often something was inserted, and how often something was removed.
const INSERTED: u64 = 10;
const REMOVED: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("map-same-keys", |_| same_keys()),
    ("map-size", |_| size()),
    ("map-opened-by-many", |args| {
        watchdog();
        let map = SharedHashMap::<str, u64>::open_or_create(&args[0], 5000).unwrap();
        let me: u64 = args[1].parse().unwrap();
        for n in 0..OWN {
            let key = format!("{me} {n}");
            assert!(map.try_insert(&key, &(me * n)).unwrap());
            map.fetch_add("all", 1).unwrap();
        }
        assert!((0..OWN).all(|n| map.get(&format!("{me} {n}")).unwrap() == Some(me * n)));
    }),
    ("map-read-and-left", |args| {
        let mut options = SharedHashMap::<str, u64>::options();
        let map = options.read_only(true).open(&args[0]).unwrap();
        assert_eq!(map.get("all").unwrap(), Some(6 * OWN));
        let refused = map.set("all", &0).unwrap_err();
        assert!(matches!(refused, WriteError::ReadOnly));
    }),
];

/// Keys of each process that opens one map with others.
const OWN: u64 = 500;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_keys_that_four_processes_insert_are_there_once", || {
            run("map-same-keys", &[]);
        }),
        test("map_is_as_long_as_it_has_keys", || {
            print!("{}", run("map-size", &[]));
        }),
        test("map_that_six_programs_open_at_once_is_one", || {
            let name = Name::new("opened-by-many");
            wait_all((0..6).map(|n| spawn("map-opened-by-many", &[&name, &n.to_string()])));
            run("map-read-and-left", &[&name]);
            let map = SharedHashMap::<str, u64>::open(&name).unwrap();
            assert_eq!(map.len() as u64, 6 * OWN + 1);
            for n in 0..6 * OWN {
                let (me, n) = (n / OWN, n % OWN);
                assert_eq!(map.get(&format!("{me} {n}")).unwrap(), Some(me * n));
            }
            assert_eq!(map.get("all").unwrap(), Some(6 * OWN));
            check_at_rest(&map);
        }),
    ]
}

/// S3: insert, insert if absent, compute if absent, remove: of each key exactly one process did it.
fn same_keys() {
    const KEYS: u64 = 20_000;
    watchdog();
    let dict = agreed();
    let map = SharedHashMap::<str, [u64; 2]>::anonymous(KEYS + SPARE).unwrap();
    // In the same order, so that they meet at each key.
    let by_all = |step: u64, of_one: &(dyn Fn(u64, u64, &str) -> bool + Sync)| {
        let work = |me| {
            meet(&dict, PROCESSES * (step + 1));
            let first = |key: &u64| of_one(me, *key, &format!("key {key}"));
            let firsts = (0..KEYS).filter(first).count();
            dict.fetch_add(100 + step, firsts as u64).unwrap();
        };
        let peers: Vec<_> = (0..PROCESSES).map(|me| Peer::fork(|| work(me))).collect();
        peers.into_iter().for_each(Peer::join);
        assert_eq!(dict.load(100 + step), KEYS, "step {step}");
        check_at_rest(&map);
    };
    let all_there = || {
        assert_eq!(map.len() as u64, KEYS);
        let entries: HashMap<_, _> = map.iter().map(Result::unwrap).collect();
        assert_eq!(entries.len() as u64, KEYS);
        for key in 0..KEYS {
            let [found, me] = entries[&format!("key {key}")];
            assert!(found == key && me < PROCESSES);
        }
    };
    let all_gone = || {
        assert!(map.is_empty());
        assert!((0..KEYS).all(|key| !map.contains_key(&format!("key {key}")).unwrap()));
    };
    let remove = |_, key, name: &str| match map.remove(name).unwrap() {
        None => false,
        Some(found) => {
            assert_eq!(found[0], key);
            true
        }
    };
    by_all(0, &|me, key, name| {
        let previous = map.insert(name, &[key, me]).unwrap();
        assert!(previous.is_none_or(|found| found[0] == key));
        previous.is_none()
    });
    all_there();
    by_all(1, &remove);
    all_gone();
    by_all(2, &|me, key, name| {
        map.try_insert(name, &[key, me]).unwrap()
    });
    all_there();
    by_all(3, &remove);
    by_all(4, &|me, key, name| {
        let found = map.get_or_insert_with(name, || [key, me]).unwrap();
        assert_eq!(map.get(name).unwrap(), Some(found), "all have the same one");
        found[1] == me
    });
    all_there();
    by_all(5, &|_, key, name| {
        let is_of = |value: &[u64; 2]| value[0] == key;
        map.remove_if(name, is_of).unwrap().is_some()
    });
    all_gone();
}

/// S5: the same sixteen keys come and go; at the end, the sums of what came and went are what is there.
fn size() {
    const KEYS: u64 = 16;
    let rounds = scaled(150_000);
    watchdog();
    let dict = agreed();
    let map = SharedHashMap::<u64, u64>::anonymous(KEYS + SPARE).unwrap();
    let work = |me| {
        let mut rng = SmallRng::seed_from_u64(me);
        let (mut inserted, mut removed) = (0, 0);
        meet(&dict, PROCESSES);
        for n in 0..rounds {
            let key = rng.random_range(0..KEYS);
            match rng.random_range(0..10) {
                0..2 => inserted += u64::from(map.insert(&key, &(n + 1)).unwrap().is_none()),
                2..4 => inserted += u64::from(map.try_insert(&key, &(n + 1)).unwrap()),
                4 => inserted += u64::from(map.fetch_add(&key, 1).unwrap() == 0),
                _ => removed += u64::from(map.remove(&key).unwrap().is_some()),
            }
        }
        dict.fetch_add(INSERTED, inserted).unwrap();
        dict.fetch_add(REMOVED, removed).unwrap();
    };
    let peers: Vec<_> = (0..PROCESSES).map(|me| Peer::fork(|| work(me))).collect();
    peers.into_iter().for_each(Peer::join);
    let found = (0..KEYS)
        .filter(|key| map.contains_key(key).unwrap())
        .count();
    assert_eq!(map.len(), found);
    let (inserted, removed) = (dict.load(INSERTED), dict.load(REMOVED));
    assert_eq!(
        inserted - removed,
        found as u64,
        "{inserted} came, {removed} went"
    );
    check_at_rest(&map);
    println!("{inserted} came, {removed} went, {found} are there");
}
