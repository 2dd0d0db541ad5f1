//! Maps whose writers are killed and stopped at any instant.

use std::path::Path;
use std::time::Duration;

use forkmap::entry::Entry;
use forkmap::{AtomicDict, SharedHashMap, WriteError};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::{agreed, breathe, check_at_rest, pure};
use crate::peer::{Peer, await_value, watchdog};
use crate::storm::{Footprint, kills};
use crate::{Role, run, test};

/// How many operations were done by all.
const DONE: u64 = 10;
/// How many additions were done by all.
const SUM: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("map-killed", |args| {
        let numbers: Vec<u64> = args.iter().map(|arg| arg.parse().unwrap()).collect();
        killed(numbers[0], numbers[1], numbers[2]);
    }),
    ("map-killed-in-sequence", |args| {
        killed_in_sequence(Path::new(&args[0]), args[1].parse().unwrap());
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_writers_killed_anywhere_leave_it_in_order", || {
            print!("{}", run("map-killed", &["40", "64", &kills(250)]));
        }),
        test("map_writers_of_two_hot_keys_killed_anywhere", || {
            print!("{}", run("map-killed", &["2", "24", &kills(250)]));
        }),
        test("storm_map_is_as_large_after_many_kills_as_before", || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let args = [dir.path().to_str().unwrap(), &kills(1000)];
            print!("{}", run("map-killed-in-sequence", &args));
        }),
    ]
}

/// Two maps, so that all kinds of values are there, and what was done to them.
#[derive(Debug)]
struct Arena {
    words: SharedHashMap<u64, [u8]>,
    sums: SharedHashMap<str, u64>,
    dict: AtomicDict,
    keys: u64,
}

/// A value that tells its key, and whether it is whole.
fn of(key: u64, letter: u64) -> Vec<u8> {
    [&[key as u8][..], &pure(letter)].concat()
}

#[track_caller]
fn check_value(key: u64, value: &[u8]) {
    let whole = (0..8).any(|letter| of(key, letter) == value);
    assert!(whole, "key {key} has {value:?}");
}

#[track_caller]
fn check_found(key: u64, value: Option<Vec<u8>>) {
    if let Some(value) = value {
        check_value(key, &value);
    }
}

impl Arena {
    fn new(keys: u64, capacity: u64, places: u64, dir: Option<&Path>) -> Self {
        let mut options = SharedHashMap::<u64, [u8]>::options();
        options
            .capacity(capacity)
            .value_bytes(101)
            .participants(places);
        let words = match dir {
            Some(dir) => options.dir(dir).create("words").unwrap(),
            None => options.anonymous().unwrap(),
        };
        let mut options = SharedHashMap::<str, u64>::options();
        options.capacity(8).participants(places);
        let sums = options.anonymous().unwrap();
        Self {
            words,
            sums,
            dict: agreed(),
            keys,
        }
    }

    /// One operation of any kind. None may fail: there is always room.
    fn operate(&self, rng: &mut SmallRng) -> Result<(), WriteError> {
        let map = &self.words;
        let key = rng.random_range(0..self.keys);
        let new = of(key, rng.random_range(0..8));
        match rng.random_range(0..32) {
            0..4 => check_found(key, map.insert(&key, &new)?),
            4..6 => map.set(&key, &new)?,
            6 | 7 => _ = map.try_insert(&key, &new)?,
            8 | 9 => check_value(key, &map.get_or_insert_with(&key, || new)?),
            10 | 11 => {
                let current = of(key, rng.random_range(0..8));
                if let Err(found) = map.compare_exchange(&key, &current, &new)? {
                    check_found(key, found);
                }
            }
            12 | 13 => {
                let next = |old: Option<Vec<u8>>| {
                    check_found(key, old);
                    new.clone()
                };
                map.update(&key, next)?;
            }
            14 => {
                let next = |old: &[u8]| {
                    check_value(key, old);
                    Some(new.clone())
                };
                let found = map.fetch_update(&key, next)?;
                check_found(key, found.map_or_else(|found| found, Some));
            }
            15..20 => check_found(key, map.remove(&key)?),
            20 | 21 => check_found(key, map.remove_if(&key, |value| value[1] < b'E')?),
            22 | 23 => match map.entry(&key)? {
                Entry::Occupied(mut entry) => _ = entry.replace(&new),
                Entry::Vacant(entry) => _ = entry.insert(&new),
            },
            24 => match map.entry(&key)? {
                Entry::Occupied(entry) => check_found(key, entry.remove().ok()),
                Entry::Vacant(_) => {}
            },
            25 => {
                let modulus = rng.random_range(2..9);
                map.retain(|&key, value| {
                    check_value(key, value);
                    key % modulus != 0
                })?;
            }
            26 => map.clear()?,
            27 | 28 => {
                for entry in map {
                    let (key, value) = entry.unwrap();
                    assert!(key < self.keys);
                    check_value(key, &value);
                }
                assert!(map.len() as u64 <= self.keys);
            }
            _ => check_found(key, map.get(&key).unwrap()),
        }
        self.sums.fetch_add("sum", 1)?;
        self.dict.fetch_add(SUM, 1).unwrap();
        self.dict.fetch_add(DONE, 1).unwrap();
        Ok(())
    }

    fn writer(&self, seed: u64, in_crew: bool) -> Peer {
        Peer::fork(|| {
            let mut rng = SmallRng::seed_from_u64(seed);
            loop {
                self.operate(&mut rng).unwrap();
                if in_crew {
                    breathe(self.dict.load(DONE));
                }
            }
        })
    }

    /// One that does nothing but put in order what the dead leave.
    fn recoverer(&self, seed: u64) -> Peer {
        Peer::fork(|| {
            let mut rng = SmallRng::seed_from_u64(seed);
            loop {
                self.words.recover().unwrap();
                self.sums.recover().unwrap();
                std::thread::sleep(Duration::from_micros(rng.random_range(0..500)));
            }
        })
    }

    /// To be called when nobody is left, after so many deaths.
    fn check(&self, deaths: u64) {
        check_at_rest(&self.words);
        check_at_rest(&self.sums);
        for entry in &self.words {
            let (key, value) = entry.unwrap();
            assert!(key < self.keys);
            check_value(key, &value);
        }
        let sum = self.sums.get("sum").unwrap().unwrap_or(0);
        let told = self.dict.load(SUM);
        assert!(
            told <= sum && sum <= told + deaths,
            "{sum} additions, {told} of them told of, {deaths} deaths"
        );
        // To the brim: not a cell is lost, and not a bucket.
        let capacity = self.words.capacity() as u64;
        let present = self.words.len() as u64;
        let others = 1000..1000 + capacity - present;
        for key in others.clone() {
            assert!(self.words.try_insert(&key, b"x").unwrap());
        }
        let full = self.words.try_insert(&9999, b"x");
        assert!(matches!(full, Err(WriteError::Full { .. })), "{full:?}");
        assert_eq!(self.words.len() as u64, capacity);
        assert!(
            others
                .clone()
                .all(|key| self.words.remove(&key).unwrap().is_some())
        );
        assert_eq!(self.words.len() as u64, present);
        check_at_rest(&self.words);
    }
}

/// S6: more processes than cores, and each death at an instant when another one may be stopped in the
/// middle of something.
fn killed(keys: u64, capacity: u64, kills: u64) {
    const ROUND: u64 = 12;
    const WRITERS: usize = 4;
    watchdog();
    let arena = Arena::new(keys, capacity, 16, None);
    let dict = &arena.dict;
    let mut rng = SmallRng::seed_from_u64(keys);
    let mut seeds = 1000..;
    let mut deaths = 0;
    let mut recoverers = 0;
    while deaths < kills {
        let mut crew: Vec<_> = (0..WRITERS)
            .map(|_| arena.writer(seeds.next().unwrap(), true))
            .collect();
        crew.push(arena.recoverer(seeds.next().unwrap()));
        let at_most = Duration::from_micros(rng.random_range(50..3000));
        for _ in 0..ROUND {
            std::thread::sleep(rng.random_range(Duration::ZERO..at_most));
            let victim = rng.random_range(0..crew.len());
            // One is stopped while the other dies and is recovered.
            let stopped = rng.random_range(0..crew.len());
            let stop = stopped != victim && rng.random_bool(0.5);
            if stop {
                crew[stopped].stop();
            }
            let seed = seeds.next().unwrap();
            let next = if victim == WRITERS {
                recoverers += 1;
                arena.recoverer(seed)
            } else {
                arena.writer(seed, true)
            };
            std::mem::replace(&mut crew[victim], next).kill();
            deaths += 1;
            if stop {
                std::thread::sleep(rng.random_range(Duration::ZERO..at_most));
                crew[stopped].signal(Signal::SIGCONT);
            }
        }
        // The survivors go on, whatever the dead were doing.
        await_value(dict, DONE, dict.load(DONE) + 500);
        assert!(crew.iter().all(|peer| !peer.has_ended()));
        deaths += crew.len() as u64;
        crew.into_iter().for_each(Peer::kill);
        arena.check(deaths);
    }
    let done = dict.load(DONE);
    println!("{deaths} deaths, {recoverers} of recoverers, {done} operations");
}

/// One after the other, each at a random instant of its work.
fn killed_in_sequence(dir: &Path, kills: u64) {
    const PLACES: u64 = 2;
    watchdog();
    // A place for the victim and one for this process: the next victim takes that of the last.
    let arena = Arena::new(20, 40, PLACES, Some(dir));
    let dict = &arena.dict;
    arena.check(0);
    let before = Footprint::of(dir, "");
    let mut rng = SmallRng::seed_from_u64(7);
    for kill in 0..kills {
        let done = dict.load(DONE);
        let victim = arena.writer(kill, false);
        // Most of them get to work, and some do not.
        if rng.random_bool(0.7) {
            await_value(dict, DONE, done + 1);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..400)));
        victim.kill();
        if rng.random_bool(0.5) {
            check_at_rest(&arena.words);
            check_at_rest(&arena.sums);
        }
        if kill % 1000 == 999 {
            watchdog();
            assert!(arena.words.participants().unwrap().len() as u64 <= PLACES);
        }
    }
    arena.check(kills);
    assert_eq!(Footprint::of(dir, ""), before);
    // This process, and nobody else.
    assert_eq!(arena.words.participants().unwrap().len(), 1);
    println!("{kills} deaths, {} operations", dict.load(DONE));
}
