//! Dictionaries that were damaged at random, at rest and in use: a value or a typed error, never a panic, a
//! crash or a loop without end.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use forkmap::{Position, StreamDict, StreamError};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::samples::{Json, Place, json};

/// Where things stand, as docs/FORMAT.md says, in bytes: in the header,
pub(crate) const GEOMETRY: usize = 80;
/// in a control with eight participants, behind its start,
pub(crate) const CONTROL: usize = 1344 + 32 * 8;
pub(crate) const CURRENT: usize = 0;
pub(crate) const UNLINKED: usize = 8;
/// in a generation, which has two, and starts with its log,
pub(crate) const LOG: usize = 1344 + 32 * 2;
/// and behind that.
pub(crate) const USED: usize = 0;
pub(crate) const NEXT: usize = 8;
pub(crate) const WANTED: usize = 16;
pub(crate) const FIRST_LINK: usize = 24;

pub(crate) fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

pub(crate) fn get(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

/// Makes the checksum of the header right again, as somebody would who means harm.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..248]);
    put(bytes, 248, checksum);
}

/// Puts a record there, with the right checksum.
pub(crate) fn record(bytes: &mut [u8], offset: usize, link: u64, payload: &[u8]) {
    put(bytes, offset, link);
    let checksum = xxhash_rust::xxh3::xxh3_64(payload) & 0xFFFF_FFFF;
    put(bytes, offset + 8, (payload.len() as u64) << 32 | checksum);
    bytes[offset + 16..][..payload.len()].copy_from_slice(payload);
}

/// The longest that something small may take, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does it in a thread of its own, which is given up when it gets nowhere.
pub(crate) fn patient<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, done) = channel();
    let worker = thread::spawn(move || sender.send(call()));
    match done.recv_timeout(PATIENCE) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(worker.join().expect_err("it has sent nothing"))
        }
    }
}

type Dict = StreamDict<str, Json>;

/// A dictionary with a log of some hundred bytes, after some changes.
fn victim(place: &Place, rng: &mut SmallRng) -> Dict {
    let log_bytes = [0, 200, 1000][rng.random_range(0..3)];
    let dict = place
        .options()
        .log_bytes(log_bytes)
        .create_or_replace("dict");
    let dict = dict.unwrap();
    for _ in 0..rng.random_range(0..20) {
        change(&dict, rng).unwrap();
    }
    dict
}

fn change(dict: &Dict, rng: &mut SmallRng) -> Result<(), StreamError> {
    let key = ["", "a", "key", "longer than eight"][rng.random_range(0..4)];
    let value = json([("n", rng.random_range(-9..9)), ("m", 0)]);
    match rng.random_range(0..8) {
        0 => dict.remove(key).map(drop),
        1 => dict.dump(),
        2 => dict.extend([(key, &value), ("b", &value)]),
        _ => dict.set(key, &value),
    }
}

/// A word that could stand in a log; or nearly.
fn plausible(bytes: &[u8], rng: &mut SmallRng) -> u64 {
    let words = (bytes.len() / 8) as u64;
    match rng.random_range(0..8) {
        0 => 0,
        1 => rng.random(),
        2 => get(bytes, GEOMETRY + 8 * rng.random_range(0..6)),
        3 => rng.random_range(0..64) << 32 | u64::from(rng.random::<u32>()),
        4 => get(bytes, 8 * rng.random_range(0..words) as usize),
        _ => rng.random_range(0..words),
    }
}

/// Damages the bytes of one file behind its header, and tells how.
fn damage(bytes: &mut [u8], rng: &mut SmallRng) -> &'static str {
    // (The header may be damaged already.)
    let body = 1344 + 32 * get(bytes, 144).min(8) as usize;
    let end = bytes.len();
    // Most of a file is zeros.
    let near = (body + 512).min(end);
    let offset = |rng: &mut SmallRng| match rng.random_range(0..4) {
        0 => 256 + 8 * rng.random_range(0..(end - 256) / 8),
        _ => body + 8 * rng.random_range(0..(near - body) / 8),
    };
    match rng.random_range(0..9) {
        0 => {
            rng.fill_bytes(&mut bytes[256..]);
            "everything at random"
        }
        1 => {
            rng.fill_bytes(&mut bytes[body..]);
            "the body at random"
        }
        2 => {
            rng.fill_bytes(&mut bytes[256..body]);
            "bells and participants at random"
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
            bytes[rng.random_range(0..256)] ^= 1 << rng.random_range(0..8);
            "a bit of the header"
        }
        6 => {
            let at = body + 64 + 8 * rng.random_range(0..12);
            if at + 80 < end {
                let mut payload = vec![0; rng.random_range(0..60)];
                rng.fill_bytes(&mut payload);
                if let Some(kind) = payload.get_mut(3) {
                    // Short lengths, so that some of it can be read.
                    *kind &= 0xC0;
                }
                payload.iter_mut().take(7).skip(1).for_each(|byte| {
                    *byte = if *byte & 0x3F == 0 {
                        1
                    } else {
                        *byte & 0xC0 & (*byte << 7)
                    };
                });
                record(bytes, at, rng.random_range(0..40), &payload);
                put(bytes, body + FIRST_LINK, ((at - body) / 8) as u64);
            }
            "a record that somebody made up"
        }
        7 => {
            for at in (body..near).step_by(8) {
                let word = plausible(bytes, rng);
                put(bytes, at, word);
            }
            "plausible words everywhere"
        }
        _ => {
            for _ in 0..rng.random_range(1..8) {
                let (offset, word) = (offset(rng), plausible(bytes, rng));
                put(bytes, offset, word);
            }
            "some plausible words"
        }
    }
}

/// Every operation. Any value may come out, and any error.
fn exercise(dict: &Dict, rng: &mut SmallRng) {
    let value = json([("x", rng.random_range(0..100))]);
    for _ in 0..12 {
        let key = ["", "a", "b", "key"][rng.random_range(0..4)];
        match rng.random_range(0..18) {
            0 => _ = dict.get(key),
            1 => _ = dict.contains_key(key),
            2 => _ = (dict.len(), dict.is_empty()),
            3 => _ = dict.insert(key, &value),
            4..=6 => _ = change(dict, rng),
            7 => _ = dict.get_or_insert_with(key, || value.clone()),
            8 => _ = dict.fetch_update(key, |_| Some(value.clone())),
            9 => _ = dict.compare_exchange(key, None, Some(&value)),
            10 => _ = dict.clear(),
            11 => _ = dict.reload(),
            12 => _ = (dict.status(), dict.participants()),
            13 => {
                if let Ok(view) = dict.view() {
                    let count = view.iter().filter(Result::is_ok).count();
                    assert!(count <= view.len());
                    assert_eq!(view.keys().count(), view.values().count());
                }
            }
            14 => {
                let seen = dict.position().unwrap_or(Position {
                    generation: 1,
                    records: 0,
                });
                let _ = dict.wait_for_change(seen, Duration::from_micros(100));
                let _ = dict.append_if(seen, |tx| tx.set(key, &value));
            }
            15 => _ = dict.entry(key).unwrap().or_insert(&value),
            16 => {
                let _ = dict.transaction(|tx| {
                    tx.clear();
                    tx.set(key, &value)?;
                    tx.remove("a")
                });
            }
            _ => _ = (dict.clone().close(), dict.is_current()),
        }
    }
}

/// Damages dictionaries and uses them, in a thread of its own that is given up when it gets nowhere.
fn survive(
    first_seed: u64,
    round: impl Fn(&Place, &mut SmallRng) -> &'static str + Send + 'static,
) {
    let rounds = if cfg!(debug_assertions) { 400 } else { 5000 };
    println!("seeds {first_seed} to {}", first_seed + rounds);
    let (sender, progress) = channel();
    let worker = thread::spawn(move || {
        let place = Place::new();
        for seed in first_seed..first_seed + rounds {
            sender.send(seed).unwrap();
            let mut rng = SmallRng::seed_from_u64(seed);
            let called = catch_unwind(AssertUnwindSafe(|| round(&place, &mut rng)));
            assert!(called.is_ok(), "seed {seed}: it panicked");
        }
        // And what is there now can be replaced, and leaves nothing.
        drop(
            place
                .options::<str, Json>()
                .create_or_replace("dict")
                .unwrap(),
        );
        place.options::<str, Json>().unlink("dict").unwrap();
        assert_eq!(place.files(), Vec::<String>::new());
    });
    let mut latest = None;
    loop {
        match progress.recv_timeout(PATIENCE) {
            Ok(now) => latest = Some(now),
            Err(RecvTimeoutError::Timeout) => panic!("it hangs: seed {latest:?}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    worker.join().expect("told above");
}

/// One of the two files, or both.
fn targets(place: &Place, rng: &mut SmallRng) -> Vec<String> {
    let mut files = vec!["dict".to_owned(), place.generation("dict")];
    match rng.random_range(0..4) {
        0 => drop(files.pop()),
        1 => {}
        _ => drop(files.remove(0)),
    }
    files
}

#[test]
fn dictionaries_that_were_damaged_at_rest_are_survived() {
    survive(1_000_000, |place, rng| {
        drop(victim(place, rng));
        let mut what = "";
        for file in targets(place, rng) {
            let path = place.path().join(file);
            let mut bytes = fs::read(&path).unwrap();
            what = damage(&mut bytes, rng);
            fs::write(&path, &bytes).unwrap();
        }
        if let Ok(dict) = place.options::<str, Json>().open("dict") {
            exercise(&dict, rng);
        }
        start_again(place);
        what
    });
}

#[test]
fn dictionaries_that_are_damaged_in_use_are_survived() {
    survive(2_000_000, |place, rng| {
        let dict = victim(place, rng);
        let other: Dict = place.open();
        let mut what = "";
        for _ in 0..2 {
            for file in targets(place, rng) {
                let file = File::options()
                    .read(true)
                    .write(true)
                    .open(place.path().join(file));
                let file = file.unwrap();
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                what = damage(&mut bytes, rng);
                // In place: the length stays, and those who have it mapped see it at once.
                file.write_all_at(&bytes, 0).unwrap();
            }
            exercise(&dict, rng);
            exercise(&other, rng);
            if place.generations("dict").len() != 1 {
                break;
            }
        }
        drop((dict, other));
        start_again(place);
        what
    });
}

/// Files that were cut short, or that have grown, before anybody has opened them.
#[test]
fn dictionaries_that_were_cut_are_refused() {
    survive(3_000_000, |place, rng| {
        drop(victim(place, rng));
        for file in targets(place, rng) {
            let path = place.path().join(file);
            let bytes = fs::read(&path).unwrap();
            let mut cut = bytes.clone();
            cut.resize(rng.random_range(0..2 * bytes.len()), rng.random());
            fs::write(&path, &cut).unwrap();
            let opened = place.options::<str, Json>().open("dict");
            assert!(opened.is_err() || cut.len() == bytes.len());
        }
        start_again(place);
        "cut"
    });
}

/// Removes whatever is there.
fn start_again(place: &Place) {
    for file in place.files() {
        fs::remove_file(place.path().join(file)).unwrap();
    }
}
