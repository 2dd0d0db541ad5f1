//! A storm on an `AtomicDict`: who is killed has claimed a key or has not, and has added or has not.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use forkmap::{AtomicDict, InsertError};
use libtest_mimic::Trial;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::peer::{PATIENCE, Peer, watchdog};
use crate::storm::{CREW, Footprint, crews, kills, live};
use crate::{Role, run, test};

/// What all add to; what each place adds to; what all count up by compare-exchange.
const ALL: u64 = 0;
const OWN: u64 = 10;
const EXCHANGED: u64 = 20;
/// What is raised; what is overwritten, by a place and the number of its write.
const HIGHEST: u64 = 30;
const LATEST: u64 = 31;
/// What is waited for, also under a key that nobody ever gives a slot.
const SIGNAL: u64 = 40;
const NEVER: u64 = 41;
/// From here on keys get their slots in the storm. The value is the key then, or still 0.
const NEW: u64 = 1000;
/// How many slots are left for the end.
const LEFT: u64 = 500;
/// From here on keys get what slots are left.
const REST: u64 = 1_000_000;

/// In the other dictionary, where victims tell what they have done: as often as under the same key here, ...
const OPERATIONS: u64 = 100;
/// ... what they are about to do, ...
const WANTED: u64 = 110;
const BEGUN: u64 = 120;
/// ... which of its writes each place has made, ...
const WRITTEN: u64 = 130;
/// ... and what has become of a new key.
const CLAIMED: u64 = 1;
const SET: u64 = 2;

pub(crate) const ROLES: &[Role] = &[("storm-dict", |args| {
    storm(Path::new(&args[0]), args[1].parse().unwrap());
})];

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "storm_dict_has_all_its_slots_and_counts_after_many_kills",
        || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let args = [dir.path().to_str().unwrap(), &kills(1000)];
            print!("{}", run("storm-dict", &args));
        },
    )]
}

struct Storm {
    dict: AtomicDict,
    told: AtomicDict,
}

impl Storm {
    fn operate(&self, place: u64, new_keys: u64, rng: &mut SmallRng) {
        let (dict, told) = (&self.dict, &self.told);
        let by_entry = rng.random_bool(0.5);
        let count = |key| {
            let before = told.load(key);
            let found = match by_entry {
                true => dict.entry(key).unwrap().fetch_add(1),
                false => dict.fetch_add(key, 1).unwrap(),
            };
            assert!(found >= before, "{found}, and {before} were told");
            told.fetch_add(key, 1).unwrap();
        };
        match rng.random_range(0..16) {
            0 | 1 => count(ALL),
            2 | 3 => count(OWN + place),
            4 | 5 => {
                let found = dict.load(EXCHANGED);
                let exchanged = dict.compare_exchange(EXCHANGED, found, found + 1).unwrap();
                told.fetch_add(EXCHANGED, exchanged.is_ok().into()).unwrap();
            }
            6 | 7 => {
                let value = told.load(WANTED) + rng.random_range(0..3);
                told.fetch_max(WANTED, value).unwrap();
                match by_entry {
                    true => dict.entry(HIGHEST).unwrap().fetch_max(value),
                    false => dict.fetch_max(HIGHEST, value).unwrap(),
                };
                told.fetch_max(HIGHEST, value).unwrap();
            }
            8 | 9 => self.overwrite(place, by_entry, rng),
            10 | 11 => {
                let (found, short) = (dict.load(SIGNAL), Duration::from_micros(50));
                match rng.random_range(0..4) {
                    0 => _ = dict.wait_while_timeout(SIGNAL, found, short),
                    1 => _ = dict.entry(SIGNAL).unwrap().wait_while_timeout(found, short),
                    2 => assert_eq!(dict.wait_while_timeout(NEVER, 0, short), None),
                    _ => _ = dict.fetch_add(SIGNAL, 1).unwrap(),
                }
            }
            _ => {
                // Mostly one that nobody had until just now, so that some are claimed by all at once.
                let n = match rng.random_bool(0.7) {
                    true => new_keys.saturating_sub(rng.random_range(0..8)),
                    false => rng.random_range(0..=new_keys),
                };
                self.give_slot(NEW + n, rng);
            }
        }
        told.fetch_add(OPERATIONS, 1).unwrap();
    }

    fn overwrite(&self, place: u64, by_entry: bool, rng: &mut SmallRng) {
        let (dict, told) = (&self.dict, &self.told);
        let write = told.fetch_add(BEGUN + place, 1).unwrap() + 1;
        let (value, found) = (place << 32 | write, dict.load(LATEST));
        match rng.random_range(0..3) {
            0 if by_entry => dict.entry(LATEST).unwrap().store(value),
            0 => dict.store(LATEST, value).unwrap(),
            1 => {
                let old = match by_entry {
                    true => dict.entry(LATEST).unwrap().swap(value),
                    false => dict.swap(LATEST, value).unwrap(),
                };
                assert!(old as u32 as u64 <= told.load(BEGUN + (old >> 32)));
            }
            _ => match dict.compare_exchange(LATEST, found, value).unwrap() {
                Ok(old) => assert_eq!(old, found),
                Err(_) => return,
            },
        }
        told.store(WRITTEN + place, write).unwrap();
    }

    /// Any operation that gives a key a slot, and perhaps a value: itself.
    fn give_slot(&self, key: u64, rng: &mut SmallRng) {
        let dict = &self.dict;
        let is_set = match rng.random_range(0..8) {
            0 => {
                let found = dict.entry(key).unwrap().load();
                assert!(found == 0 || found == key);
                false
            }
            1 => {
                dict.fetch_add(key, 0).unwrap();
                false
            }
            2 => {
                let found = dict.swap(key, key).unwrap();
                assert!(found == 0 || found == key);
                true
            }
            3 => {
                let done = dict.compare_exchange(key, 0, key).unwrap();
                assert!(matches!(done, Ok(0)) || done == Err(key));
                true
            }
            4 => {
                dict.fetch_max(key, key).unwrap();
                true
            }
            5 => {
                let done = dict
                    .fetch_update(key, |found| (found == 0).then_some(key))
                    .unwrap();
                assert!(matches!(done, Ok(0)) || done == Err(key));
                true
            }
            6 => {
                dict.entry(key).unwrap().fetch_or(key);
                true
            }
            _ => {
                dict.store(key, key).unwrap();
                true
            }
        };
        let what = if is_set { CLAIMED | SET } else { CLAIMED };
        self.told.fetch_or(key, what).unwrap();
    }

    /// So many have died since this was called last, and nobody lives. Each may have done one thing that it
    /// could not tell of any more.
    fn check_counts(&self, deaths: u64, latest: &mut (u64, Vec<u64>)) {
        let (dict, told) = (&self.dict, &self.told);
        for key in [ALL, EXCHANGED].into_iter().chain(OWN..OWN + CREW) {
            let (found, before) = (dict.load(key), told.load(key));
            let explained = before <= found && found <= before + deaths;
            assert!(
                explained,
                "key {key} has {found}, {before} told of, {deaths} deaths"
            );
            told.store(key, found).unwrap();
        }
        let [reached, highest] = [told.load(HIGHEST), told.load(WANTED)];
        let found = dict.load(HIGHEST);
        assert!(
            reached <= found && found <= highest,
            "{reached} <= {found} <= {highest}"
        );
        // The last write of whoever wrote it: it could tell of that, or could not any more.
        let found = dict.load(LATEST);
        let (place, write) = (found >> 32, found as u32 as u64);
        let [own, begun] = [WRITTEN, BEGUN].map(|key| told.load(key + place));
        assert!(own == write || begun == write, "{found:x}: {own}, {begun}");
        told.store(WRITTEN + place, write).unwrap();
        // No write is like another, so one that was told of did away with what was there before.
        let writes: Vec<_> = (0..CREW).map(|place| told.load(WRITTEN + place)).collect();
        assert!(
            writes == latest.1 || found != latest.0,
            "{found:x}: {writes:?}, {latest:x?}"
        );
        *latest = (found, writes);
    }

    /// Every key that has a slot, with so many new ones at most.
    fn check_keys(&self, new_keys: u64) {
        let (dict, told) = (&self.dict, &self.told);
        let mut seen = BTreeSet::new();
        for (key, value) in dict {
            assert!(seen.insert(key), "{key} twice");
            if key >= NEW {
                assert!(key <= NEW + new_keys, "nobody has claimed {key}");
                let is_set = told.load(key) & SET != 0;
                assert!(value == key || value == 0 && !is_set, "{key} has {value}");
            }
        }
        assert_eq!(dict.len(), seen.len());
        for n in NEW..=NEW + new_keys {
            let there = dict.contains_key(n);
            assert!(
                there == seen.contains(&n) && (there || told.load(n) == 0),
                "{n} is gone"
            );
        }
        assert!(!dict.contains_key(NEVER));
        assert_eq!(dict.participants().unwrap(), [], "values need no identity");
    }

    /// Whoever waits goes on, whatever the dead have left at the bell. (How soon is for other tests.)
    fn check_bell(&self) {
        let dict = &self.dict;
        let found = dict.load(SIGNAL);
        let waiter = Peer::fork(|| {
            let seen = dict.wait_while_timeout(SIGNAL, found, PATIENCE);
            assert_eq!(seen, Some(found + 1));
        });
        dict.fetch_add(SIGNAL, 1).unwrap();
        waiter.join();
    }
}

fn storm(dir: &Path, kills: u64) {
    watchdog();
    let mut options = AtomicDict::options();
    let dict = options.dir(dir).capacity(2000).create("dict").unwrap();
    let told = AtomicDict::anonymous(8000).unwrap();
    let storm = Storm { dict, told };
    let capacity = storm.dict.capacity() as u64;
    let new_keys = |deaths| (capacity - LEFT) * deaths / kills;
    storm.check_bell();
    let before = Footprint::of(dir, "");
    let mut latest = (0, vec![0; CREW as usize]);
    crews(
        kills,
        31,
        |deaths, place, rng| {
            let new_keys = new_keys(deaths);
            live(rng, |rng| storm.operate(place, new_keys, rng));
        },
        |deaths, dead| {
            storm.check_counts(dead.len() as u64, &mut latest);
            if deaths % 64 == 0 {
                storm.check_keys(new_keys(deaths));
                storm.check_bell();
            }
        },
    );
    storm.check_keys(new_keys(kills));
    let claimed = storm.dict.len() as u64;
    let rest = REST..REST + capacity - claimed;
    assert!(
        rest.clone().count() as u64 > LEFT / 2,
        "{claimed} of {capacity} are claimed"
    );
    for key in rest.clone() {
        storm.dict.store(key, key).unwrap();
    }
    let full = storm.dict.store(REST - 1, 1);
    assert!(matches!(full, Err(InsertError::Full { .. })), "{full:?}");
    assert_eq!(storm.dict.len() as u64, capacity);
    assert!(rest.clone().all(|key| storm.dict.get(key) == Some(key)));
    assert_eq!(Footprint::of(dir, ""), before);
    let operations = storm.told.load(OPERATIONS);
    println!("{kills} deaths, {operations} operations; {claimed} keys were claimed");
}
