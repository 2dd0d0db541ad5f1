//! Maps that were damaged, by accident or on purpose: a value or a typed error, never a panic, a crash or a
//! loop without end.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use forkmap::entry::Entry;
use forkmap::{Mismatch, OpenError, Options, SharedHashMap};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::samples::{Odd, Sample};

const HEADER: usize = 256;
const CHECKSUM: usize = HEADER - 8;
const LENGTH: usize = 16;
const GEOMETRY: usize = 80;
const PARTICIPANTS: usize = 144;

const CAPACITY: usize = 12;
const WRITERS: usize = 4;
const CELLS: usize = CAPACITY + WRITERS;
const LINES: usize = (CELLS * 5 / 4).div_ceil(8) + 1;

/// Where the parts of the body start, as docs/FORMAT.md says, in bytes.
const JOURNALS: usize = 1344 + 32 * WRITERS;
const BUCKETS: usize = JOURNALS + 64 * WRITERS;
const HOMES: usize = BUCKETS + 64 * LINES;
const FULL: usize = HOMES + 16 * LINES;
const HINT: usize = FULL + 8;
const FIRST_CELL: usize = HINT + 8;

fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

fn get(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// Makes the checksum right again, as somebody would who means harm.
fn reseal(bytes: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..CHECKSUM]);
    put(bytes, CHECKSUM, checksum);
}

fn options<K: Sample + ?Sized, V: Sample + ?Sized>(dir: &Path) -> Options<SharedHashMap<K, V>> {
    let mut options = SharedHashMap::<K, V>::options();
    options.dir(dir).hash_seed(11);
    options
}

/// The bytes of a small map with so many keys, after many others, and the keys.
fn victim<K, V>(dir: &Path, keys: usize, rng: &mut SmallRng) -> (Vec<u8>, Vec<K::Owned>)
where
    K: Sample + ?Sized,
    V: Sample + ?Sized,
{
    let mut options = options::<K, V>(dir);
    options
        .capacity(CAPACITY as u64)
        .participants(WRITERS as u64);
    if K::LENGTH.is_none() {
        options.key_bytes(20);
    }
    if V::LENGTH.is_none() {
        options.value_bytes(20);
    }
    let map = options.create_or_replace("victim").unwrap();
    let borrow = std::borrow::Borrow::<K::Item>::borrow;
    let value = std::borrow::Borrow::<V::Item>::borrow;
    for _ in 0..rng.random_range(0..30) {
        let key = K::sample(rng);
        let _ = map.set(borrow(&key), value(&V::sample(rng)));
        if rng.random() {
            map.remove(borrow(&key)).unwrap();
        }
    }
    map.clear().unwrap();
    let mut there = Vec::new();
    while there.len() < keys {
        let key = K::sample(rng);
        if map
            .try_insert(borrow(&key), value(&V::sample(rng)))
            .unwrap()
        {
            there.push(key);
        }
    }
    assert_eq!(map.check(), Vec::<String>::new());
    let bytes = fs::read(dir.join("victim")).unwrap();
    assert!(CELLS <= 64 && FIRST_CELL < bytes.len());
    (bytes, there)
}

/// A word that could stand there; or nearly.
fn plausible(bytes: &[u8], offset: usize, rng: &mut SmallRng) -> u64 {
    let seq_bits = (54 - (CELLS - 1).ilog2() - 1).min(48);
    let small = |rng: &mut SmallRng, n: usize| match rng.random_range(0..8) {
        0 => rng.random::<u64>(),
        1 => n as u64 + rng.random_range(0..3),
        _ => rng.random_range(0..n as u64),
    };
    let publication = |rng: &mut SmallRng| {
        let cell = small(rng, CELLS + 1) % (1 << (54 - seq_bits));
        cell << seq_bits | (small(rng, 4) % (1 << seq_bits))
    };
    let same_part = |rng: &mut SmallRng, start: usize, end: usize| {
        get(bytes, start + 8 * rng.random_range(0..(end - start) / 8))
    };
    let bucket = |rng: &mut SmallRng| {
        let tentative = u64::from(rng.random::<bool>()) << 54;
        let tag = same_part(rng, BUCKETS, HOMES) & (0xFF << 55);
        1 << 63 | tag | tentative | publication(rng)
    };
    match offset {
        JOURNALS..BUCKETS => match (offset - JOURNALS) / 8 % 8 {
            0 => {
                let (home, index) = (small(rng, LINES), small(rng, LINES * 8));
                rng.random_range(0..4_u64) << 62 | (home % (1 << 31)) << 31 | (index % (1 << 31))
            }
            1 if rng.random() => same_part(rng, BUCKETS, HOMES),
            1 => bucket(rng),
            _ => u64::from(rng.random::<bool>()) << 63 | publication(rng),
        },
        BUCKETS..HOMES if rng.random() => same_part(rng, BUCKETS, HOMES),
        BUCKETS..HOMES => bucket(rng),
        HOMES..FULL if offset % 16 == HOMES % 16 => {
            let len = small(rng, LINES + 1) & 0xFFFF;
            let pending = small(rng, LINES * 8 + 2) & 0xFFFF;
            small(rng, 5) << 32 | len << 16 | pending
        }
        HOMES..FULL => same_part(rng, HOMES, FULL),
        FULL..FIRST_CELL => match rng.random_range(0..3) {
            0 => 0,
            1 => u64::MAX,
            _ => rng.random(),
        },
        _ => match rng.random_range(0..3) {
            0 => small(rng, WRITERS + 2) << 49 | small(rng, 2) << 48 | small(rng, 4),
            1 => same_part(rng, FIRST_CELL, bytes.len()),
            _ => small(rng, 300),
        },
    }
}

fn damage(bytes: &mut [u8], body_end: usize, rng: &mut SmallRng) -> &'static str {
    let parts = [
        (JOURNALS, BUCKETS, "journals"),
        (BUCKETS, HOMES, "buckets"),
        (HOMES, FULL, "homes and tags"),
        (FULL, FIRST_CELL, "hint"),
        (FIRST_CELL, body_end, "cells"),
    ];
    let offset = |rng: &mut SmallRng| {
        let (start, end, _) = parts[rng.random_range(0..parts.len())];
        start + 8 * rng.random_range(0..(end - start) / 8)
    };
    match rng.random_range(0..8) {
        0 => {
            rng.fill_bytes(&mut bytes[HEADER..body_end]);
            "everything at random"
        }
        1 => {
            rng.fill_bytes(&mut bytes[JOURNALS..body_end]);
            "the body at random"
        }
        2 => {
            let (start, end, what) = parts[rng.random_range(0..parts.len())];
            rng.fill_bytes(&mut bytes[start..end]);
            what
        }
        3 => {
            for _ in 0..rng.random_range(1..8) {
                let offset = offset(rng);
                put(bytes, offset, rng.random());
            }
            "words at random"
        }
        4 => {
            for _ in 0..rng.random_range(1..8) {
                bytes[offset(rng) + rng.random_range(0..8)] ^= 1 << rng.random_range(0..8);
            }
            "bits"
        }
        5 => {
            let (start, end, _) = parts[rng.random_range(0..parts.len())];
            for offset in (start..end).step_by(8) {
                let word = plausible(bytes, offset, rng);
                put(bytes, offset, word);
            }
            "a part of plausible words"
        }
        6 => {
            for offset in (JOURNALS..body_end).step_by(8) {
                if rng.random_range(0..4) == 0 {
                    let word = plausible(bytes, offset, rng);
                    put(bytes, offset, word);
                }
            }
            "plausible words everywhere"
        }
        _ => {
            for _ in 0..rng.random_range(1..12) {
                let offset = offset(rng);
                let word = plausible(bytes, offset, rng);
                put(bytes, offset, word);
            }
            "some plausible words"
        }
    }
}

/// Every operation, with keys that were there and with others. Any value may come out.
fn exercise<K: Sample + ?Sized, V: Sample + ?Sized>(
    map: &SharedHashMap<K, V>,
    there: &[K::Owned],
    rng: &mut SmallRng,
    operations: usize,
) {
    let borrow = std::borrow::Borrow::<K::Item>::borrow;
    let value = std::borrow::Borrow::<V::Item>::borrow;
    let buckets = LINES * 8;
    for _ in 0..operations {
        let key = match rng.random_range(0..there.len() * 2 + 1) {
            n if n < there.len() => there[n].clone(),
            _ => K::sample(rng),
        };
        let key = borrow(&key);
        let new = V::sample(rng);
        match rng.random_range(0..22) {
            0 => _ = map.get(key),
            1 => _ = map.get_into(key, &mut V::sample(rng)),
            2 => _ = map.contains_key(key),
            3 => _ = map.insert(key, value(&new)),
            4 => _ = map.set(key, value(&new)),
            5 => _ = map.try_insert(key, value(&new)),
            6 => _ = map.get_or_insert_with(key, || new.clone()),
            7 => _ = map.compare_exchange(key, value(&V::sample(rng)), value(&new)),
            8 => _ = map.update(key, |old| old.unwrap_or_else(|| new.clone())),
            9 => _ = map.fetch_update(key, |_| Some(new.clone())),
            10 | 11 => _ = map.remove(key),
            12 => _ = map.remove_if(key, |_| false),
            13 => match map.entry(key) {
                Ok(Entry::Occupied(mut entry)) => {
                    let _ = entry.replace(value(&new));
                    let _ = entry.remove();
                }
                Ok(Entry::Vacant(entry)) => _ = entry.insert(value(&new)),
                Err(_) => {}
            },
            14 => _ = map.retain(|_, _| rng.random()),
            15 => _ = map.clear(),
            16 => {
                assert!(map.iter().count() <= buckets && map.keys().count() <= buckets);
                assert!(map.values().count() <= buckets && map.len() <= buckets);
                let _ = map.is_empty();
            }
            17 => _ = map.check(),
            18 => _ = map.recover(),
            19 => _ = (map.stats(), map.participants()),
            20 => {
                let seen = rng.random::<bool>().then(|| value(&new));
                let _ = map.wait_for_change(key, seen, Duration::from_micros(100));
            }
            _ => {
                let clone = map.clone();
                assert_eq!(
                    (clone.capacity(), clone.name()),
                    (map.capacity(), map.name())
                );
            }
        }
    }
}

/// The longest that some operations on a tiny map may take, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Damages maps and uses them, in a thread of its own that is given up when it gets nowhere.
fn survive<K: Sample + ?Sized, V: Sample + ?Sized>(first_seed: u64) {
    let rounds = if cfg!(debug_assertions) { 1500 } else { 10_000 };
    println!("seeds {first_seed} to {}", first_seed + rounds);
    let (sender, progress) = channel();
    let worker = thread::spawn(move || {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for seed in first_seed..first_seed + rounds {
            let mut rng = SmallRng::seed_from_u64(seed);
            let keys = [0, 1, 6, CAPACITY][rng.random_range(0..4)];
            let (mut bytes, there) = victim::<K, V>(dir.path(), keys.min(most::<K>()), &mut rng);
            let body_end = bytes.len();
            let what = damage(&mut bytes, body_end, &mut rng);
            fs::write(dir.path().join("victim"), &bytes).unwrap();
            sender.send((seed, what)).unwrap();
            let called = catch_unwind(AssertUnwindSafe(|| {
                let read_only = rng.random_range(0..8) == 0;
                let map = options::<K, V>(dir.path())
                    .read_only(read_only)
                    .open("victim")
                    .unwrap();
                // Put in order first, or not.
                if rng.random() {
                    let _ = map.recover();
                }
                exercise(&map, &there, &mut rng, 30);
            }));
            assert!(called.is_ok(), "seed {seed}, {what}: it panicked");
        }
    });
    let mut latest = None;
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok(now) => latest = Some(now),
            Err(RecvTimeoutError::Timeout) => panic!("it hangs: {latest:?}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().expect("told above");
}

/// How many keys of that kind there are, if they are few.
fn most<K: Sample + ?Sized>() -> usize {
    if K::LENGTH == Some(0) { 1 } else { usize::MAX }
}

#[test]
fn damaged_maps_of_words_are_survived() {
    survive::<u64, u64>(1_000_000);
}

#[test]
fn damaged_maps_of_text_are_survived() {
    survive::<str, str>(2_000_000);
}

#[test]
fn damaged_maps_of_structs_are_survived() {
    survive::<Odd, [u8; 100]>(3_000_000);
}

#[test]
fn damaged_sets_are_survived() {
    survive::<[u8], ()>(4_000_000);
    survive::<(), [u8]>(5_000_000);
}

#[cfg(feature = "serde")]
#[test]
fn damaged_maps_of_serde_types_are_survived() {
    use crate::samples::Mixed;
    use forkmap::Serde;
    survive::<Serde<(u32, String)>, Serde<Mixed>>(6_000_000);
}

fn is_damaged<T: std::fmt::Debug>(opened: Result<T, OpenError>, what: &str) {
    let error = opened.expect_err(what);
    let OpenError::Mismatch {
        mismatch: Mismatch::Damaged { .. },
        ..
    } = error
    else {
        panic!("{what}: {error}");
    };
}

/// FM7: geometry that a checksum does not protect, because the checksum was made to fit.
#[test]
fn impossible_geometry_of_a_map_is_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let mut rng = SmallRng::seed_from_u64(1);
    let most = [1 << 26, 1 << 32, 1 << 60, 1 << 63, u64::MAX / 16, u64::MAX];
    let (good, _) = victim::<str, [u8]>(dir.path(), 5, &mut rng);
    let words = [24, 32, 40, 48, 56].map(|word| (GEOMETRY + word, 1));
    let changes = most
        .into_iter()
        .chain([0, 1, 500])
        .map(|bad| (GEOMETRY, bad));
    let keys = most
        .into_iter()
        .chain([65_536, 65_535])
        .map(|bad| (GEOMETRY + 8, bad));
    let long = [1 << 40, (1 << 40) + 1, 4096];
    let values = most.into_iter().chain(long).map(|bad| (GEOMETRY + 16, bad));
    let writers = [0, 1, 300, 4094, 4095, 1 << 32, u64::MAX].map(|bad| (PARTICIPANTS, bad));
    for (offset, bad) in changes
        .chain(keys)
        .chain(values)
        .chain(words)
        .chain(writers)
    {
        let mut bytes = good.clone();
        // With one page more, which no small change of the numbers explains.
        bytes.resize(bytes.len() + 4096, 0);
        let length = bytes.len() as u64;
        put(&mut bytes, LENGTH, length);
        put(&mut bytes, offset, bad);
        reseal(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let what = format!("{bad} at {offset}");
        is_damaged(options::<str, [u8]>(dir.path()).open("victim"), &what);
        is_damaged(
            options::<str, [u8]>(dir.path())
                .read_only(true)
                .open("victim"),
            &what,
        );
    }
    // Lengths that the types fix.
    let (good, _) = victim::<u64, Odd>(dir.path(), 5, &mut rng);
    for (offset, right) in [(GEOMETRY + 8, 8), (GEOMETRY + 16, 12)] {
        for bad in (0..20).chain(most).filter(|&bad| bad != right) {
            let mut bytes = good.clone();
            put(&mut bytes, offset, bad);
            reseal(&mut bytes);
            fs::write(&file, &bytes).unwrap();
            let what = format!("{bad} at {offset}");
            is_damaged(options::<u64, Odd>(dir.path()).open("victim"), &what);
        }
    }
}

/// The same with words at random, and with whatever length the file really has.
#[test]
fn random_headers_of_a_map_with_a_right_checksum_do_no_harm() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let seed = 11;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let (good, there) = victim::<str, [u8]>(dir.path(), 6, &mut rng);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        let pages = rng.random_range(1..=3);
        bytes.resize(4096 * pages, 0);
        put(&mut bytes, LENGTH, 4096 * pages as u64);
        for _ in 0..rng.random_range(1..3) {
            let word = match rng.random_range(0..3) {
                0 => rng.random(),
                1 => rng.random_range(0..2000),
                _ => rng.random_range(0..40),
            };
            let place = [GEOMETRY, GEOMETRY + 8, GEOMETRY + 16, PARTICIPANTS, 8 * 3];
            let place = place[rng.random_range(0..5)];
            put(
                &mut bytes,
                place + 8 * usize::from(place == 24 && rng.random()),
                word,
            );
        }
        if rng.random() {
            let end = bytes.len();
            rng.fill_bytes(&mut bytes[1344..end]);
        }
        reseal(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        match options::<str, [u8]>(dir.path()).open("victim") {
            Ok(map) => {
                opened += 1;
                for key in there.iter().map(String::as_str).chain(["", "other"]) {
                    let _ = (map.get(key), map.set(key, b"new"), map.remove(key));
                }
                let _ = (map.check(), map.stats(), map.recover(), map.clear());
            }
            Err(_) => refused += 1,
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(
        opened > 100 && refused > 1000,
        "{opened} opened, {refused} refused"
    );
}

/// FM1 of the whole header: a checksum sees to it.
#[test]
fn damaged_headers_of_a_map_are_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let mut rng = SmallRng::seed_from_u64(21);
    let (good, _) = victim::<u64, u64>(dir.path(), 5, &mut rng);
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(1..4) {
            bytes[rng.random_range(0..HEADER)] ^= rng.random_range(1..=255_u8);
        }
        if bytes == good {
            continue;
        }
        fs::write(&file, &bytes).unwrap();
        let opened = options::<u64, u64>(dir.path()).open("victim");
        assert!(
            matches!(opened, Err(OpenError::Mismatch { .. })),
            "{opened:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was changed");
    }
}

/// FM8: header and words change under our hands; the geometry was read once, at attach.
#[test]
fn a_peer_that_keeps_overwriting_a_map_does_no_more_than_garble() {
    let (sender, done) = channel();
    let worker = thread::spawn(move || {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("victim");
        let mut rng = SmallRng::seed_from_u64(9);
        let (good, there) = victim::<str, str>(dir.path(), 6, &mut rng);
        let map = options::<str, str>(dir.path()).open("victim").unwrap();
        thread::scope(|scope| {
            let vandal = scope.spawn(|| {
                let file = File::options().write(true).open(&path).unwrap();
                let mut rng = SmallRng::seed_from_u64(8);
                for n in 0..6000 {
                    let mut garbage = good.clone();
                    match n % 3 {
                        0 => rng.fill_bytes(&mut garbage),
                        1 => _ = damage(&mut garbage, good.len(), &mut rng),
                        _ => {}
                    }
                    file.write_all_at(&garbage, 0).unwrap();
                }
            });
            while !vandal.is_finished() {
                exercise(&map, &there, &mut rng, 10);
            }
        });
        assert_eq!(map.capacity(), CAPACITY);
        sender.send(()).unwrap();
    });
    let finished = done.recv_timeout(2 * PATIENCE);
    assert_ne!(finished, Err(RecvTimeoutError::Timeout), "it hangs");
    worker.join().unwrap();
}
