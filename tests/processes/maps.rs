//! Maps that many processes change at once: what all their tests need, and what a reader may see.

use forkmap::entry::{Entry, EntryError};
use forkmap::{AtomicDict, SharedHashMap, Stored};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::peer::{Peer, await_value, watchdog};
use crate::{Role, run, test};

/// How many of them have come to where they meet.
const HERE: u64 = 1;
/// Not 0 when it is over.
const OVER: u64 = 2;
/// How much the readers have looked at.
const READS: u64 = 3;

pub(crate) const ROLES: &[Role] = &[
    ("map-torn", |_| torn()),
    ("map-foreign", |args| foreign(&args[0])),
    ("map-pairs", |_| pairs()),
    ("map-iterated", |_| iterated()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "map_values_that_are_overwritten_are_whole_and_there",
            || {
                print!("{}", run("map-torn", &[]));
            },
        ),
        test("map_readers_never_see_another_keys_value", || {
            let name = Name::new("foreign");
            print!("{}", run("map-foreign", &[&name]));
        }),
        test("map_two_counters_in_one_value_are_always_equal", || {
            print!("{}", run("map-pairs", &[]));
        }),
        test("map_keys_that_stay_are_iterated_exactly_once", || {
            print!("{}", run("map-iterated", &[]));
        }),
    ]
}

/// What the processes of a test agree on, apart from the map.
pub(crate) fn agreed() -> AtomicDict {
    AtomicDict::anonymous(2000).unwrap()
}

/// Goes on when all `n` have come here.
pub(crate) fn meet(dict: &AtomicDict, n: u64) {
    dict.fetch_add(HERE, 1).unwrap();
    await_value(dict, HERE, n);
}

pub(crate) fn is_over(dict: &AtomicDict) -> bool {
    dict.load(OVER) != 0
}

pub(crate) fn end(dict: &AtomicDict) {
    dict.store(OVER, 1).unwrap();
}

/// So many in an optimized build, and a part of them in a slow one.
pub(crate) fn scaled(n: u64) -> u64 {
    if cfg!(debug_assertions) { n / 5 } else { n }
}

/// Now and then lets another process go on, so that those who are to be killed do not keep who kills them
/// waiting.
pub(crate) fn breathe(n: u64) {
    if n % 16 == 0 {
        std::thread::yield_now();
    }
}

/// Everything about a map that nobody changes: the dead are recovered first.
#[track_caller]
pub(crate) fn check_at_rest<K: Stored + ?Sized, V: Stored + ?Sized>(map: &SharedHashMap<K, V>) {
    map.recover().unwrap();
    assert_eq!(map.check(), Vec::<String>::new());
    let stats = map.stats().unwrap();
    let keys = map.keys().count();
    assert_eq!((stats.dead_writers, stats.len, map.len()), (0, keys, keys));
    assert_eq!(stats.free, map.capacity() - keys);
    assert_eq!(map.is_empty(), keys == 0);
}

/// One letter, as often as befits it.
pub(crate) fn pure(letter: u64) -> Vec<u8> {
    const LENGTHS: [usize; 8] = [100, 32, 1, 64, 7, 99, 8, 50];
    let letter = letter % 8;
    vec![b'A' + letter as u8; LENGTHS[letter as usize]]
}

pub(crate) fn is_pure(value: &[u8]) -> bool {
    (0..8).any(|letter| pure(letter) == value)
}

/// S1, S2: eight keys that are only ever overwritten.
fn torn() {
    const KEYS: u64 = 8;
    const WRITERS: u64 = 3;
    let writes = scaled(150_000);
    watchdog();
    let dict = agreed();
    let mut options = SharedHashMap::<u64, [u8]>::options();
    let map = options.capacity(KEYS).value_bytes(100).anonymous().unwrap();
    (0..KEYS).for_each(|key| map.set(&key, &pure(key)).unwrap());
    let write = |me: u64| {
        let mut rng = SmallRng::seed_from_u64(me);
        meet(&dict, WRITERS + 2);
        for n in 0..writes {
            let (key, new) = (rng.random_range(0..KEYS), pure(rng.random_range(0..8)));
            let previous = match n % 5 {
                0 => map.insert(&key, &new).unwrap().unwrap(),
                1 => {
                    map.set(&key, &new).unwrap();
                    continue;
                }
                2 => {
                    let all_pure = |old: Option<Vec<u8>>| {
                        assert!(is_pure(&old.unwrap()));
                        new.clone()
                    };
                    map.update(&key, all_pure).unwrap()
                }
                3 => match map.entry(&key).unwrap() {
                    Entry::Vacant(_) => panic!("key {key} is missing"),
                    Entry::Occupied(mut entry) => {
                        let old = entry.get().to_vec();
                        let replaced = entry.replace(&new);
                        assert!(matches!(replaced, Ok(()) | Err(EntryError::Changed)));
                        old
                    }
                },
                _ => {
                    let old = map.get(&key).unwrap().unwrap();
                    let exchanged = map.compare_exchange(&key, &old, &new).unwrap();
                    exchanged.map_or_else(Option::unwrap, |()| old)
                }
            };
            assert!(is_pure(&previous), "mixed: {previous:?}");
        }
    };
    let read = |me: u64| {
        let mut rng = SmallRng::seed_from_u64(100 + me);
        let mut buffer = Vec::new();
        meet(&dict, WRITERS + 2);
        while !is_over(&dict) {
            let mut reads = 0;
            for n in 0..64 {
                let key = rng.random_range(0..KEYS);
                if n % 2 == 0 {
                    buffer = map.get(&key).unwrap().expect("it is only overwritten");
                } else {
                    assert!(map.get_into(&key, &mut buffer).unwrap());
                }
                assert!(is_pure(&buffer), "mixed: {buffer:?}");
                reads += 1;
            }
            let mut seen = 0_u64;
            for entry in &map {
                let (key, value) = entry.unwrap();
                assert!(is_pure(&value), "mixed: {value:?}");
                assert_eq!(seen & 1 << key, 0, "key {key} twice");
                seen |= 1 << key;
                reads += 1;
            }
            assert_eq!(seen, (1 << KEYS) - 1, "a key is missing");
            assert_eq!(map.len() as u64, KEYS);
            dict.fetch_add(READS, reads).unwrap();
        }
    };
    let readers: Vec<_> = (0..2).map(|me| Peer::fork(|| read(me))).collect();
    let writers: Vec<_> = (0..WRITERS).map(|me| Peer::fork(|| write(me))).collect();
    writers.into_iter().for_each(Peer::join);
    end(&dict);
    readers.into_iter().for_each(Peer::join);
    check_at_rest(&map);
    println!("{} writes, {} reads", WRITERS * writes, dict.load(READS));
}

/// S4, and readers that may not write: keys come and go in few slots, and each value tells its key.
fn foreign(name: &str) {
    const WRITERS: u64 = 3;
    let rounds = scaled(100_000);
    watchdog();
    let dict = agreed();
    let mut options = SharedHashMap::<u64, [u64; 5]>::options();
    let map = options.capacity(64).create(name).unwrap();
    let value = |key: u64, n: u64| [key, n, !key, n, key ^ n];
    let is_of = |key: u64, found: [u64; 5]| found == value(key, found[1]);
    let write = |me: u64| {
        let mut rng = SmallRng::seed_from_u64(me);
        meet(&dict, WRITERS + 2);
        for n in 0..rounds {
            let key = rng.random_range(0..16) * WRITERS + me;
            let previous = match n % 3 {
                0 => map.remove(&key).unwrap(),
                _ => map.insert(&key, &value(key, n)).unwrap(),
            };
            assert!(previous.is_none_or(|found| is_of(key, found)));
        }
    };
    let read = |read_only: bool| {
        let mut options = SharedHashMap::<u64, [u64; 5]>::options();
        let map = options.read_only(read_only).open(name).unwrap();
        meet(&dict, WRITERS + 2);
        while !is_over(&dict) {
            let mut hits = 0;
            for key in 0..16 * WRITERS {
                if let Some(found) = map.get(&key).unwrap() {
                    assert!(is_of(key, found), "{key}: {found:?}");
                    hits += 1;
                }
            }
            for entry in &map {
                let (key, found) = entry.unwrap();
                assert!(is_of(key, found), "{key}: {found:?}");
                hits += 1;
            }
            assert!(
                map.values()
                    .all(|found| is_of(found.as_ref().unwrap()[0], found.unwrap()))
            );
            dict.fetch_add(READS, hits).unwrap();
        }
        // Nobody but the writers had to register.
        assert!(map.participants().unwrap().len() as u64 <= WRITERS);
    };
    let readers = [true, false].map(|read_only| Peer::fork(|| read(read_only)));
    let writers: Vec<_> = (0..WRITERS).map(|me| Peer::fork(|| write(me))).collect();
    writers.into_iter().for_each(Peer::join);
    end(&dict);
    readers.into_iter().for_each(Peer::join);
    assert_eq!(map.participants().unwrap().len() as u64, WRITERS);
    check_at_rest(&map);
    println!("{} changes, {} hits", WRITERS * rounds, dict.load(READS));
}

/// Two numbers in one value that each change changes together; and nobody sees them go back.
fn pairs() {
    const WRITERS: u64 = 3;
    let rounds = scaled(100_000);
    watchdog();
    let dict = agreed();
    let map = SharedHashMap::<str, [u64; 2]>::anonymous(4).unwrap();
    map.set("pair", &[0, 0]).unwrap();
    let next = |old: Option<[u64; 2]>| old.map_or([1, 1], |[a, b]| [a + 1, b + 1]);
    let write = || {
        meet(&dict, WRITERS + 2);
        (0..rounds).for_each(|_| _ = map.update("pair", next).unwrap());
    };
    let read = || {
        let mut latest = 0;
        meet(&dict, WRITERS + 2);
        while !is_over(&dict) {
            for _ in 0..64 {
                let [a, b] = map.get("pair").unwrap().unwrap();
                assert!(a == b && a >= latest, "{a} {b} after {latest}");
                latest = a;
            }
            dict.fetch_add(READS, 64).unwrap();
        }
    };
    let readers = [(), ()].map(|()| Peer::fork(read));
    let writers: Vec<_> = (0..WRITERS).map(|_| Peer::fork(write)).collect();
    writers.into_iter().for_each(Peer::join);
    end(&dict);
    readers.into_iter().for_each(Peer::join);
    assert_eq!(map.get("pair").unwrap(), Some([WRITERS * rounds; 2]));
    check_at_rest(&map);
    println!("{} changes, {} reads", WRITERS * rounds, dict.load(READS));
}

/// Keys that stay, some of them changed all the time, among others that come and go.
fn iterated() {
    const STAY: u64 = 60;
    const COME: u64 = 60;
    const WRITERS: u64 = 3;
    let rounds = scaled(100_000);
    watchdog();
    let dict = agreed();
    let map = SharedHashMap::<str, u64>::anonymous(2 * (STAY + COME)).unwrap();
    let name = |key: u64| format!("key {key}");
    (0..STAY).for_each(|key| map.set(&name(key), &key).unwrap());
    let write = |me: u64| {
        let mut rng = SmallRng::seed_from_u64(me);
        meet(&dict, WRITERS + 2);
        for n in 0..rounds {
            let key = rng.random_range(STAY..STAY + COME);
            match n % 3 {
                0 => _ = map.try_insert(&name(key), &key).unwrap(),
                1 => _ = map.remove(&name(key)).unwrap(),
                _ => {
                    _ = map
                        .update(&name(key - STAY), |old| old.unwrap() + 1000)
                        .unwrap()
                }
            }
        }
    };
    let read = || {
        meet(&dict, WRITERS + 2);
        while !is_over(&dict) {
            let mut times = vec![0; STAY as usize];
            for entry in &map {
                let (key, value) = entry.unwrap();
                let key: u64 = key.strip_prefix("key ").unwrap().parse().unwrap();
                assert_eq!(value % 1000, key);
                if key < STAY {
                    times[key as usize] += 1;
                }
            }
            assert!(times.iter().all(|&times| times == 1), "{times:?}");
            assert!((STAY..=STAY + COME).contains(&(map.len() as u64)));
            dict.fetch_add(READS, 1).unwrap();
        }
    };
    let readers = [(), ()].map(|()| Peer::fork(read));
    let writers: Vec<_> = (0..WRITERS).map(|me| Peer::fork(|| write(me))).collect();
    writers.into_iter().for_each(Peer::join);
    end(&dict);
    readers.into_iter().for_each(Peer::join);
    check_at_rest(&map);
    println!(
        "{} changes, {} iterations",
        WRITERS * rounds,
        dict.load(READS)
    );
}
