//! Segments that were damaged, by accident or on purpose: a typed error, never a crash or a hang.

#![cfg(not(feature = "portable"))]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use forkmap::{
    AtomicDict, Barrier, Lock, LockError, Mismatch, Once, OpenError, Options, Semaphore,
};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

const HEADER: usize = 256;
const CHECKSUM: usize = HEADER - 8;
const GEOMETRY: usize = 80;
/// With as many participants as fit by default.
const BODY: usize = 1344 + 32 * 256;
const PARTICIPANTS: usize = 144;
const LENGTH: usize = 16;

/// A directory with one segment in it, and that segment's bytes.
fn segment(dir: &Path) -> (Options<AtomicDict>, Vec<u8>) {
    let mut options = AtomicDict::options();
    options.dir(dir).capacity(100);
    let dict = options.create("victim").unwrap();
    (0..50).for_each(|key| dict.store(key, key).unwrap());
    let bytes = fs::read(dir.join("victim")).unwrap();
    options = AtomicDict::options();
    options.dir(dir);
    (options, bytes)
}

fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

/// Makes the checksum right again, as somebody would who means harm.
fn reseal(bytes: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..CHECKSUM]);
    put(bytes, CHECKSUM, checksum);
}

/// FM1, FM3.
#[test]
fn ten_thousand_damaged_headers_and_wrong_lengths_are_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let seed = 20_261_121;
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut refused = [0; 3];
    for round in 0..10_000 {
        let mut bytes = good.clone();
        match round % 3 {
            0 => {
                let flips = rng.random_range(1..=4);
                // Distinct bits, so that no two flips cancel.
                let start = rng.random_range(0..HEADER * 8 - flips);
                (start..start + flips).for_each(|bit| bytes[bit / 8] ^= 1 << (bit % 8));
            }
            1 => {
                let start = rng.random_range(0..HEADER);
                let end = rng.random_range(start + 1..=HEADER);
                rng.fill_bytes(&mut bytes[start..end]);
            }
            _ => {
                let length = rng.random_range(0..2 * good.len());
                bytes.resize(length, 0);
            }
        }
        if bytes == good {
            continue;
        }
        fs::write(&file, &bytes).unwrap();
        let error = options
            .open("victim")
            .expect_err("a damaged segment opened");
        assert!(
            matches!(
                error,
                OpenError::Mismatch {
                    mismatch: Mismatch::NotASegment,
                    ..
                } | OpenError::Mismatch {
                    mismatch: Mismatch::ByteOrder,
                    ..
                } | OpenError::Mismatch {
                    mismatch: Mismatch::Version { .. },
                    ..
                } | OpenError::Mismatch {
                    mismatch: Mismatch::Length { .. },
                    ..
                } | OpenError::Mismatch {
                    mismatch: Mismatch::Damaged { .. },
                    ..
                }
            ),
            "{error:?}"
        );
        refused[round % 3] += 1;
        assert_eq!(fs::read(&file).unwrap(), bytes, "nothing was changed");
    }
    println!("refused: {refused:?} (flips, ranges, lengths)");
    assert!(refused.iter().sum::<usize>() > 9_900);
    fs::write(&file, &good).unwrap();
    assert_eq!(options.open("victim").unwrap().load(49), 49);
}

/// FM7: geometry that a checksum does not protect, because the checksum was made to fit.
#[test]
fn impossible_geometry_is_refused() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let slots = u64::from_le_bytes(good[GEOMETRY..GEOMETRY + 8].try_into().unwrap());
    let most = 1 << 60;
    let slots = [
        0,
        most,
        most - 1,
        1 << 63,
        u64::MAX,
        u64::MAX / 16,
        slots + 500,
    ];
    let participants = [0, 1, 4094, 4095, 1 << 32, u64::MAX / 32, u64::MAX];
    let slots = slots.map(|bad| (GEOMETRY, bad));
    let participants = participants.map(|bad| (PARTICIPANTS, bad));
    for (offset, bad) in slots.into_iter().chain(participants) {
        let mut bytes = good.clone();
        put(&mut bytes, offset, bad);
        reseal(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let error = options.open("victim").unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Mismatch {
                    mismatch: Mismatch::Damaged { .. },
                    ..
                }
            ),
            "{bad} at {offset}: {error}"
        );
    }
    for length in [0, 8, 4088, 8192, good.len() as u64 * 2, 1 << 62, u64::MAX] {
        let mut bytes = good.clone();
        put(&mut bytes, LENGTH, length);
        reseal(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        let OpenError::Mismatch { mismatch, .. } = options.open("victim").unwrap_err() else {
            panic!("{length}")
        };
        match mismatch {
            Mismatch::Length { expected, .. } => assert_eq!(expected, length),
            Mismatch::Damaged { .. } => assert_ne!(length % 4096, 0),
            other => panic!("{length}: {other}"),
        }
    }
    // Header and file agree, on a length that no table of these slots has.
    let mut bytes = good.clone();
    put(&mut bytes, LENGTH, 256);
    reseal(&mut bytes);
    fs::write(&file, &bytes[..256]).unwrap();
    assert!(matches!(
        options.open("victim"),
        Err(OpenError::Mismatch {
            mismatch: Mismatch::Damaged { .. },
            ..
        })
    ));
}

/// The same with everything at random, and with whatever length the file really has. None of it may
/// leave a mapping behind either.
#[test]
fn random_headers_with_a_right_checksum_do_no_harm() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let mappings = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines()
            .filter(|line| line.contains(dir.path().to_str().unwrap()))
            .count()
    };
    let mut rng = SmallRng::seed_from_u64(11);
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        if rng.random() {
            bytes.resize(rng.random_range(256..3 * good.len()), 0);
        }
        // What the file has, so that more than the length is looked at.
        let length = bytes.len() as u64;
        put(&mut bytes, LENGTH, length);
        let word = if rng.random() {
            rng.random_range(0..2000)
        } else {
            rng.random()
        };
        put(&mut bytes, 8 * rng.random_range(3..31), word);
        reseal(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        match options.open("victim") {
            Ok(dict) => {
                exercise(&dict, &mut rng, 3);
                opened += 1;
            }
            Err(_) => refused += 1,
        }
        if rng.random_range(0..3) == 0 {
            let whole = bytes.len().next_multiple_of(4096);
            bytes.resize(whole, 0);
            put(&mut bytes, LENGTH, whole as u64);
            reseal(&mut bytes);
            fs::write(&file, &bytes).unwrap();
            if let Ok(dict) = options.open("victim") {
                exercise(&dict, &mut rng, 3);
                opened += 1;
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 10 && refused > 1000);
    assert_eq!(mappings(), 0, "a mapping is left behind");
}

/// FM2: words that nobody of ours wrote. Any value may come out, but every call returns.
#[test]
fn operations_on_a_table_of_random_words_return() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let mut rng = SmallRng::seed_from_u64(7);
    for _ in 0..200 {
        let mut bytes = good.clone();
        rng.fill_bytes(&mut bytes[HEADER..]);
        fs::write(&file, &bytes).unwrap();
        let dict = options.open("victim").unwrap();
        exercise(&dict, &mut rng, 20);
        assert!(dict.iter().count() <= dict.capacity() + 1);
        assert!(dict.len() <= dict.capacity() + 1);
    }
}

/// FM2 for what blocks, and for what it stands on: owners that never were, rounds that never came. All
/// calls return, and what was taken can be given back.
#[test]
fn primitives_on_random_words_return() {
    const MOMENT: Duration = Duration::from_millis(1);
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let mut rng = SmallRng::seed_from_u64(13);
    let (mut locked, mut met) = (0, 0);
    for _ in 0..300 {
        let mut bytes = good.clone();
        // Bells, participants and values; the keys are where they were.
        rng.fill_bytes(&mut bytes[HEADER..BODY]);
        for value in (BODY + 8..bytes.len() - 8).step_by(16) {
            let word = rng.random::<u64>() >> rng.random_range(0..64);
            put(&mut bytes, value, word);
        }
        fs::write(&file, &bytes).unwrap();
        let dict = options.open("victim").unwrap();

        let lock = Lock::new(&dict, 1).unwrap();
        let _ = (lock.owner_pid(), lock.is_locked());
        let guard = lock.lock_timeout(MOMENT).or_else(LockError::into_guard);
        locked += usize::from(guard.is_ok());
        drop(guard);
        lock.force_unlock();
        let _ = lock.try_lock().map(|_guard| ());

        let semaphore = Semaphore::new(&dict, 10, 5).unwrap();
        let permit = semaphore.try_acquire();
        drop((semaphore.acquire_timeout(MOMENT), permit));
        assert!(semaphore.available_permits() <= 5);

        let barrier = Barrier::new(&dict, 20, 1).unwrap();
        let _ = barrier.join().map(|mut party| party.wait_timeout(MOMENT));
        barrier.reset().unwrap();
        if let Ok(mut party) = barrier.join() {
            met += usize::from(party.wait_timeout(MOMENT).is_ok());
        }

        let once = Once::new(&dict, 30).unwrap();
        let mut done = false;
        let called = once.call_once_timeout(|| done = true, MOMENT);
        assert_eq!(called.is_ok(), once.is_completed());

        assert!(dict.participants().unwrap().len() <= 256);
        let value = dict.load(40);
        assert_eq!(dict.wait_while_timeout(40, value, MOMENT), None);
    }
    // No word names anybody who lives.
    assert_eq!((locked, met), (300, 300));
}

fn exercise(dict: &AtomicDict, rng: &mut SmallRng, rounds: usize) {
    for _ in 0..rounds {
        let key = rng.random();
        let _ = dict.get(key);
        let _ = dict.fetch_add(key, 1);
        let _ = dict.fetch_max(key, 1);
        let _ = dict.compare_exchange(key, 0, 1);
        let _ = dict.fetch_add_bounded(key, 1, 100);
        let _ = dict.entry(key).map(|entry| entry.swap(1));
    }
}

/// FM8: header and words change under our hands; the geometry was read once, at attach.
#[test]
fn a_peer_that_keeps_overwriting_everything_does_no_more_than_garble() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = dir.path().join("victim");
    let (options, good) = segment(dir.path());
    let dict = options.open("victim").unwrap();
    let capacity = dict.capacity();
    thread::scope(|scope| {
        let vandal = scope.spawn(|| {
            let file = File::options().write(true).open(&path).unwrap();
            let mut rng = SmallRng::seed_from_u64(8);
            let mut garbage = vec![0; good.len()];
            for _ in 0..2000 {
                rng.fill_bytes(&mut garbage);
                file.write_all_at(&garbage, 0).unwrap();
            }
        });
        let mut rng = SmallRng::seed_from_u64(9);
        while !vandal.is_finished() {
            exercise(&dict, &mut rng, 10);
            assert!(dict.iter().count() <= capacity + 1);
        }
    });
    assert_eq!(dict.capacity(), capacity);
}
