//! `AtomicDict` in one process: every operation, at every edge of its arguments.

#![cfg(not(feature = "portable"))]

mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use common::Name;
use forkmap::{AtomicDict, CreateError, InsertError, OpenOrCreateError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

fn dict(capacity: u64) -> AtomicDict {
    AtomicDict::anonymous(capacity).unwrap()
}

/// Inverse of the hash: the key that has the slot of its own under this seed. See docs/FORMAT.md.
fn key_that_hashes_to_zero(seed: u64) -> u64 {
    let inverse = 0xCFEE_444D_8B59_A89B;
    let mut x = seed.rotate_left(32).wrapping_mul(inverse);
    x ^= x >> 32;
    x ^ seed
}

#[test]
fn every_operation_returns_the_previous_value() {
    let dict = dict(10);
    let key = 5;
    assert_eq!(dict.swap(key, 12), Ok(0));
    assert_eq!(dict.fetch_add(key, 3), Ok(12));
    assert_eq!(dict.fetch_sub(key, 5), Ok(15));
    assert_eq!(dict.fetch_and(key, 0b0110), Ok(0b1010));
    assert_eq!(dict.fetch_or(key, 0b1001), Ok(0b0010));
    assert_eq!(dict.fetch_xor(key, 0b1111), Ok(0b1011));
    assert_eq!(dict.fetch_max(key, 9), Ok(0b0100));
    assert_eq!(dict.fetch_min(key, 7), Ok(9));
    assert_eq!(dict.compare_exchange(key, 7, 70), Ok(Ok(7)));
    assert_eq!(dict.compare_exchange(key, 7, 71), Ok(Err(70)));
    assert_eq!(dict.fetch_update(key, |v| v.checked_mul(2)), Ok(Ok(70)));
    assert_eq!(dict.fetch_update(key, |_| None), Ok(Err(140)));
    dict.store(key, 1).unwrap();
    assert_eq!(dict.load(key), 1);
    assert_eq!(dict.get(key), Some(1));

    let entry = dict.entry(key).unwrap();
    assert_eq!(entry.swap(12), 1);
    assert_eq!(entry.fetch_add(3), 12);
    assert_eq!(entry.fetch_sub(5), 15);
    assert_eq!(entry.fetch_and(0b0110), 0b1010);
    assert_eq!(entry.fetch_or(0b1001), 0b0010);
    assert_eq!(entry.fetch_xor(0b1111), 0b1011);
    assert_eq!(entry.fetch_max(9), 0b0100);
    assert_eq!(entry.fetch_min(7), 9);
    assert_eq!(entry.compare_exchange(7, 70), Ok(7));
    assert_eq!(entry.compare_exchange(7, 71), Err(70));
    assert_eq!(entry.fetch_update(|v| v.checked_mul(2)), Ok(70));
    assert_eq!(entry.fetch_update(|_| None), Err(140));
    entry.store(1);
    assert_eq!((entry.load(), dict.load(key)), (1, 1));
}

#[test]
fn additions_wrap_around_and_bounded_ones_do_not() {
    let dict = dict(10);
    dict.store(1, u64::MAX).unwrap();
    assert_eq!(dict.fetch_add(1, 2), Ok(u64::MAX));
    assert_eq!(dict.fetch_sub(1, 2), Ok(1));
    assert_eq!(dict.load(1), u64::MAX);
    assert_eq!(dict.fetch_add_bounded(1, 1, u64::MAX), Ok(Err(u64::MAX)));
    assert_eq!(dict.fetch_sub_bounded(2, 1, 0), Ok(Err(0)));
    assert!(
        !dict.contains_key(2),
        "a bounded operation that fails claims no slot"
    );
    assert_eq!(dict.fetch_add_bounded(3, 5, 5), Ok(Ok(0)));
    assert_eq!(dict.fetch_add_bounded(3, 1, 5), Ok(Err(5)));
    assert_eq!(dict.fetch_sub_bounded(3, 2, 3), Ok(Ok(5)));
    assert_eq!(dict.fetch_sub_bounded(3, 1, 3), Ok(Err(3)));
    let entry = dict.entry(3).unwrap();
    assert_eq!(entry.fetch_add_bounded(2, 5), Ok(3));
    assert_eq!(entry.fetch_add_bounded(1, 5), Err(5));
    assert_eq!(entry.fetch_sub_bounded(5, 0), Ok(5));
    assert_eq!(entry.fetch_sub_bounded(1, 0), Err(0));
}

/// A2, A3, A8 and FA2: no key and no value is special.
#[test]
fn every_key_and_every_value_is_an_ordinary_one() {
    let seed = 99;
    let dict = AtomicDict::options()
        .capacity(10)
        .hash_seed(seed)
        .anonymous()
        .unwrap();
    let special = key_that_hashes_to_zero(seed);
    let keys = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, seed, special];
    for (i, key) in keys.into_iter().enumerate() {
        assert_eq!(dict.get(key), None);
        for value in [0, 1, u64::MAX, 1 << 63] {
            dict.store(key, value).unwrap();
            assert_eq!(dict.get(key), Some(value));
        }
        dict.store(key, 0).unwrap();
        assert_eq!(dict.get(key), Some(0), "a key with the value 0 is there");
        assert_eq!(dict.len(), i + 1);
    }
    let mut found: Vec<u64> = dict.keys().collect();
    found.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(found, keys);
}

/// A6.
#[test]
fn looking_never_inserts() {
    let dict = dict(4);
    for key in 0..1000 {
        assert_eq!(dict.load(key), 0);
        assert_eq!(dict.get(key), None);
        assert!(!dict.contains_key(key));
        assert_eq!(dict.compare_exchange(key, 1, 2), Ok(Err(0)));
        assert_eq!(dict.fetch_update(key, |_| None), Ok(Err(0)));
    }
    assert!(dict.is_empty());
    assert_eq!(dict.len(), 0);
    assert_eq!(dict.iter().count(), 0);
    assert_eq!(dict.compare_exchange(7, 0, 2), Ok(Ok(0)));
    assert_eq!(dict.keys().collect::<Vec<_>>(), [7]);
}

/// A5 and S8: what was asked for fits, `capacity()` is exact, and one more changes nothing.
#[test]
fn exactly_the_capacity_fits_and_one_more_is_full() {
    let mut rng = SmallRng::seed_from_u64(1);
    for asked in [0, 1, 2, 7, 64, 1000] {
        for _ in 0..20 {
            let dict = dict(asked);
            let capacity = dict.capacity();
            assert!(capacity as u64 >= asked.max(1), "{capacity} for {asked}");
            let mut keys = HashMap::new();
            while keys.len() < capacity {
                let key = rng.random();
                keys.insert(key, dict.fetch_add(key, key).unwrap() + key);
            }
            for _ in 0..3 {
                let more = rng.random();
                if keys.contains_key(&more) {
                    continue;
                }
                let full = Err(InsertError::Full { capacity });
                assert_eq!(dict.fetch_add(more, 1), full);
                assert_eq!(dict.store(more, 1).map(|()| 0), full);
                assert_eq!(dict.entry(more).map(|_| 0), full);
                assert_eq!(dict.compare_exchange(more, 0, 1).map(|_| 0), full);
                assert_eq!(dict.fetch_update(more, Some).map(|_| 0), full);
                assert_eq!(dict.get(more), None);
                assert_eq!(dict.load(more), 0);
            }
            assert_eq!(dict.len(), capacity);
            assert_eq!(dict.iter().collect::<HashMap<_, _>>(), keys);
            for (&key, &value) in &keys {
                assert_eq!(dict.get(key), Some(value));
                assert_eq!(dict.swap(key, 1), Ok(value));
            }
        }
    }
}

/// A1: handles, entries and iterators in any order of life.
#[test]
fn an_entry_outlives_its_dictionary() {
    let entry = {
        let dict = dict(100);
        dict.store(5, 41).unwrap();
        dict.entry(5).unwrap()
    };
    assert_eq!(entry.fetch_add(1), 41);
    assert_eq!(dict(10).entry(5).unwrap().fetch_add(1), 0);
    let clone = entry.clone();
    drop(entry);
    assert_eq!(thread::spawn(move || clone.load()).join().unwrap(), 42);
}

#[test]
fn views_of_other_types_share_the_bits() {
    let dict = dict(10);
    let floats = dict.cast::<f64>();
    let signed = dict.cast::<i64>();
    floats.store(1, -0.5).unwrap();
    assert_eq!(dict.load(1), (-0.5f64).to_bits());
    assert_eq!(floats.fetch_update(1, |x| Some(x * 3.0)), Ok(Ok(-0.5)));
    assert_eq!(floats.swap(1, f64::NAN), Ok(-1.5));
    assert!(
        floats.compare_exchange(1, f64::NAN, 1.0).unwrap().is_ok(),
        "compared by bits"
    );
    assert_eq!(signed.fetch_sub(2, 7), Ok(0));
    assert_eq!(signed.fetch_add(2, -1), Ok(-7));
    assert_eq!(signed.entry(2).unwrap().fetch_add(8), -8);
    assert_eq!(signed.entry(2).unwrap().fetch_sub(1), 0);
    assert_eq!(signed.get(2), Some(-1));
    assert_eq!(signed.fetch_max(2, -5), Ok(-1));
    assert_eq!(signed.fetch_min(2, -5), Ok(-1));
    assert_eq!(signed.fetch_add_bounded(2, 5, 0), Ok(Ok(-5)));
    assert_eq!(signed.fetch_add_bounded(2, 1, 0), Ok(Err(0)));
    assert_eq!(signed.fetch_sub_bounded(2, 1, -1), Ok(Ok(0)));
    assert_eq!(signed.fetch_sub_bounded(2, 1, -1), Ok(Err(-1)));
    let entry = signed.entry(2).unwrap();
    assert_eq!(
        (entry.fetch_max(i64::MAX), entry.fetch_min(i64::MIN)),
        (-1, i64::MAX)
    );
    assert_eq!(entry.fetch_sub_bounded(1, i64::MIN), Err(i64::MIN));
    assert_eq!(entry.fetch_add_bounded(1, i64::MAX), Ok(i64::MIN));
    signed.store(2, -1).unwrap();
    assert_eq!(signed.iter().find(|&(key, _)| key == 2), Some((2, -1)));

    #[repr(C, align(8))]
    #[derive(Clone, Copy, PartialEq, Debug, bytemuck::Pod, bytemuck::Zeroable)]
    struct Job {
        worker: u32,
        tries: u32,
    }
    let jobs = dict.cast::<Job>();
    assert_eq!(
        jobs.load(9),
        Job {
            worker: 0,
            tries: 0
        }
    );
    let taken = Job {
        worker: 3,
        tries: 1,
    };
    assert_eq!(
        jobs.compare_exchange(
            9,
            Job {
                worker: 0,
                tries: 0
            },
            taken
        ),
        Ok(Ok(jobs.load(8)))
    );
    assert_eq!(jobs.entry(9).unwrap().load(), taken);
    assert_eq!(dict.cast::<[u8; 8]>().load(9), [3, 0, 0, 0, 1, 0, 0, 0]);
}

/// Nobody interferes, so there is nothing to call the closure again for.
#[test]
fn an_update_calls_its_closure_once() {
    let dict = dict(10);
    for key in [1, 1, 2] {
        let mut token = Some(7);
        assert!(dict.fetch_update(key, |_| token.take()).unwrap().is_ok());
        assert_eq!(dict.load(key), 7);
    }
}

/// FP24.
#[test]
fn a_panic_in_a_closure_changes_nothing() {
    let dict = dict(10);
    dict.store(1, 5).unwrap();
    for key in [1, 2] {
        let call = || dict.fetch_update(key, |_| panic!("in the closure"));
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    }
    assert_eq!(dict.load(1), 5);
    assert!(!dict.contains_key(2));
    assert_eq!(dict.fetch_add(1, 1), Ok(5));
}

/// FA7: weakly consistent, and it ends.
#[test]
fn iteration_sees_each_lasting_key_once_while_others_are_inserted() {
    let dict = dict(20_000);
    for key in 0..1000 {
        dict.store(key, key).unwrap();
    }
    thread::scope(|scope| {
        scope.spawn(|| (1000..20_000).for_each(|key| dict.store(key, key).unwrap()));
        for _ in 0..20 {
            let mut seen = HashMap::new();
            for (key, value) in &dict {
                assert!(value == key || value == 0, "{key} has {value}");
                assert!(seen.insert(key, value).is_none(), "{key} twice");
            }
            assert!((0..1000).all(|key| seen.get(&key) == Some(&key)));
        }
    });
    assert_eq!(dict.len(), 20_000);
    let mut iter = dict.iter();
    assert!(iter.by_ref().count() == 20_000 && iter.next().is_none());
}

/// S3 for keys: racing inserters of the same keys.
#[test]
fn threads_that_insert_the_same_keys_make_no_duplicates() {
    let dict = dict(20_000);
    thread::scope(|scope| {
        for t in 0..4 {
            let dict = dict.clone();
            scope.spawn(move || {
                for i in 0..20_000 {
                    dict.fetch_add((i + t * 5000) % 20_000, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(dict.len(), 20_000);
    assert_eq!(dict.iter().filter(|&(_, value)| value == 4).count(), 20_000);
}

/// A limit that many race for is reached exactly.
#[test]
fn bounded_additions_of_many_threads_reach_the_ceiling_exactly() {
    let dict = dict(4);
    let adder = || (0..10_000).filter(|_| dict.fetch_add_bounded(1, 1, 15_000).unwrap().is_ok());
    let passed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| adder().count())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((passed, dict.load(1)), (15_000, 15_000));
}

#[test]
fn a_capacity_that_cannot_be_is_refused_before_anything_is_made() {
    let name = Name::new("too-large");
    for capacity in [u64::MAX, u64::MAX / 2, u64::MAX / 16, 1 << 62] {
        let error = AtomicDict::create(&name, capacity).unwrap_err();
        assert!(matches!(error, CreateError::TooLarge { .. }), "{error}");
        assert!(
            AtomicDict::options()
                .capacity(capacity)
                .required_bytes()
                .is_err()
        );
    }
    // Can be counted, and is more than any machine has.
    for capacity in [1 << 50, 1 << 45] {
        for error in [
            AtomicDict::create(&name, capacity).unwrap_err(),
            AtomicDict::anonymous(capacity).unwrap_err(),
            match AtomicDict::open_or_create(&name, capacity).unwrap_err() {
                OpenOrCreateError::Create(error) => error,
                error => panic!("{error}"),
            },
        ] {
            let CreateError::NoSpace { need, free, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(
                need,
                AtomicDict::options()
                    .capacity(capacity)
                    .required_bytes()
                    .unwrap()
            );
            assert!(0 < free.unwrap() && free.unwrap() < need);
        }
    }
    assert!(!name.exists());
}

#[test]
fn the_required_bytes_are_told_beforehand() {
    for capacity in [0, 1, 100, 1024, 100_000] {
        let told = AtomicDict::options()
            .capacity(capacity)
            .required_bytes()
            .unwrap();
        assert_eq!(dict(capacity).bytes(), told);
        assert!(told >= 32 * capacity && told <= 32 * capacity + 16_384);
    }
    assert_eq!(AtomicDict::options().anonymous().unwrap().capacity(), 2048);
}

#[test]
fn handles_go_between_threads_and_print_no_data() {
    fn send_sync<T: Send + Sync + Clone>() {}
    send_sync::<AtomicDict>();
    send_sync::<forkmap::Entry>();
    let dict = dict(4);
    dict.store(1, 77_777).unwrap();
    let text = format!("{dict:?}");
    assert!(
        text.contains("capacity: 8") && !text.contains("77777"),
        "{text}"
    );
    assert_eq!(format!("{:?}", dict.entry(1).unwrap()), "Entry(77777)");
    let texts = [format!("{:?}", dict.iter()), format!("{:?}", dict.keys())];
    assert!(
        texts
            .iter()
            .all(|text| text.len() < 50 && !text.contains("77777")),
        "{texts:?}"
    );
}
