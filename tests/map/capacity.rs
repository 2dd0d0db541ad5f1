//! What was asked for fits, for ever.

use std::collections::HashSet;

use forkmap::entry::{Entry, EntryError};

use crate::samples::NONE;
use forkmap::{SharedHashMap, Stored, WriteError};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

/// A kind of keys with many different ones.
trait Many: Stored {
    fn random(rng: &mut SmallRng) -> Self::Owned;
}

impl Many for u64 {
    fn random(rng: &mut SmallRng) -> u64 {
        rng.random()
    }
}

impl Many for str {
    fn random(rng: &mut SmallRng) -> String {
        let len = rng.random_range(0..3);
        format!("{}{}", "key ".repeat(len), rng.random::<u64>())
    }
}

impl Many for [u8; 20] {
    fn random(rng: &mut SmallRng) -> Self {
        let mut key = [0; 20];
        rng.fill_bytes(&mut key);
        key
    }
}

/// The key as it is handed in.
fn at<K: Stored + ?Sized>(key: &K::Owned) -> &K::Item {
    std::borrow::Borrow::borrow(key)
}

/// S8: exactly so many, whatever keys they are; and full is full for new keys only.
fn exactly<K: Many<Owned: Clone> + ?Sized>(asked: u64, writers: u64, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let map = SharedHashMap::<K, u32>::options()
        .capacity(asked)
        .participants(writers)
        .anonymous()
        .unwrap();
    let capacity = map.capacity();
    assert_eq!(capacity as u64, asked);
    let mut known = HashSet::new();
    let mut fresh = |rng: &mut SmallRng| loop {
        let key = K::random(rng);
        if known.insert(K::encode(at::<K>(&key)).unwrap().as_ref().to_vec()) {
            return key;
        }
    };
    let keys: Vec<K::Owned> = (0..capacity).map(|_| fresh(&mut rng)).collect();
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(
            map.insert(at::<K>(key), &n).unwrap(),
            None,
            "{n} of {asked}"
        );
    }
    assert_eq!((map.len(), map.check()), (capacity, NONE));
    assert_eq!(map.stats().unwrap().free, 0);

    let full = |done: Result<(), WriteError>| match done {
        Err(WriteError::Full { capacity }) => assert_eq!(capacity as u64, asked),
        done => panic!("{done:?}"),
    };
    for _ in 0..3 {
        let more = fresh(&mut rng);
        let more = at::<K>(&more);
        full(map.insert(more, &1).map(|_| ()));
        full(map.set(more, &1));
        full(map.try_insert(more, &1).map(|_| ()));
        full(map.get_or_insert_with(more, || 1).map(|_| ()));
        full(map.update(more, |_| 1).map(|_| ()));
        full(map.fetch_add(more, 1).map(|_| ()));
        let Entry::Vacant(entry) = map.entry(more).unwrap() else {
            panic!("it is there");
        };
        let error = entry.insert(&1).unwrap_err();
        assert!(
            matches!(error, EntryError::Write(WriteError::Full { .. })),
            "{error}"
        );
        assert_eq!(map.compare_exchange(more, &1, &2).unwrap(), Err(None));
        assert_eq!(map.fetch_update(more, |_| Some(2)).unwrap(), Err(None));
        assert_eq!(map.get(more).unwrap(), None);
        assert_eq!(map.remove(more).unwrap(), None);
    }
    assert_eq!((map.len(), map.check()), (capacity, NONE));

    // All else goes on.
    for (n, key) in (0..).zip(&keys) {
        let key = at::<K>(key);
        assert_eq!(map.get(key).unwrap(), Some(n));
        match n % 6 {
            0 => map.set(key, &(n + 1)).unwrap(),
            1 => assert_eq!(map.insert(key, &(n + 1)).unwrap(), Some(n)),
            2 => assert_eq!(map.fetch_add(key, 1).unwrap(), n),
            3 => assert_eq!(map.update(key, |old| old.unwrap() + 1).unwrap(), n + 1),
            4 => assert_eq!(map.compare_exchange(key, &n, &(n + 1)).unwrap(), Ok(())),
            _ => {
                let Entry::Occupied(mut entry) = map.entry(key).unwrap() else {
                    panic!("it is not there");
                };
                entry.replace(&(n + 1)).unwrap();
            }
        }
        assert!(!map.try_insert(key, &0).unwrap());
        assert_eq!(
            map.get_or_insert_with(key, || unreachable!()).unwrap(),
            n + 1
        );
    }
    assert_eq!((map.len(), map.check()), (capacity, NONE));

    // After one removal there is room for exactly one.
    let mut keys: Vec<Option<K::Owned>> = keys.into_iter().map(Some).collect();
    for round in 0..20 {
        let n = rng.random_range(0..capacity);
        let out = keys[n].take().unwrap();
        assert!(map.remove(at::<K>(&out)).unwrap().is_some());
        if round < 3 {
            assert_eq!((map.len(), map.check()), (capacity - 1, NONE));
        }
        let one = fresh(&mut rng);
        assert!(map.try_insert(at::<K>(&one), &7).unwrap());
        full(map.set(at::<K>(&out), &1));
        full(map.set(at::<K>(&fresh(&mut rng)), &1));
        assert_eq!(map.get(at::<K>(&one)).unwrap(), Some(7));
        keys[n] = Some(one);
    }
    assert_eq!((map.len(), map.check()), (capacity, NONE));

    // And empty again, in another order.
    for n in 0..capacity {
        let other = rng.random_range(n..capacity);
        keys.swap(n, other);
        let key = keys[n].clone().unwrap();
        assert!(map.remove(at::<K>(&key)).unwrap().is_some());
    }
    let stats = map.stats().unwrap();
    assert_eq!(
        (stats.len, stats.free, stats.miss_lines),
        (0, capacity, 1.0)
    );
    assert_eq!(map.check(), NONE);
}

#[test]
fn exactly_what_was_asked_for_fits() {
    let seed: u64 = 20_261_121;
    println!("seed {seed}");
    for capacity in [1, 2, 7, 64, 1000] {
        for round in 0..3 {
            exactly::<u64>(capacity, 128, seed + round);
            exactly::<str>(capacity, 2, seed + round);
            exactly::<[u8; 20]>(capacity, 3, seed + round);
        }
    }
    exactly::<u64>(100_000, 128, seed);
    if !cfg!(debug_assertions) {
        exactly::<str>(100_000, 2, seed);
    }
}

/// Whoever inserts it meanwhile, and if that fills the map: a key that is there can be set.
#[test]
fn a_key_that_is_there_is_never_one_too_many() {
    let map = SharedHashMap::<u64, u64>::anonymous(1).unwrap();
    let got = map.get_or_insert_with(&1, || {
        map.insert(&1, &5).unwrap();
        6
    });
    assert_eq!(got.unwrap(), 5);
    map.clear().unwrap();
    let updated = map.update(&1, |old| {
        let Some(old) = old else {
            map.insert(&1, &5).unwrap();
            return 0;
        };
        old + 1
    });
    assert_eq!(updated.unwrap(), 6);
    map.clear().unwrap();
    let Entry::Vacant(entry) = map.entry(&1).unwrap() else {
        panic!("it is there");
    };
    map.insert(&1, &5).unwrap();
    assert!(matches!(entry.insert(&6), Err(EntryError::Changed)));

    // The same without closures: two who set one key, which always fits.
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for n in 0..50_000 {
                    if n % 3 == 0 {
                        map.remove(&1).unwrap();
                    }
                    match map.set(&1, &n) {
                        // A removed cell may be in another one's hands for an instant.
                        Ok(()) | Err(WriteError::Full { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(map.check(), NONE);
}

/// S7: what was removed is gone without a trace: the last of millions of keys is as fast as the first.
#[test]
fn millions_of_inserts_and_removals_leave_nothing_behind() {
    let cycles: u64 = if cfg!(debug_assertions) {
        1_000_000
    } else {
        10_000_000
    };
    let map = SharedHashMap::<u64, u64>::options()
        .capacity(64)
        .participants(4)
        .anonymous()
        .unwrap();
    // Some that stay all the time, and among them the fresh ones come and go.
    for key in 0..40 {
        map.insert(&(1 << 60 | key), &key).unwrap();
    }
    let start = map.stats().unwrap();
    for key in 0..cycles {
        assert!(map.try_insert(&key, &key).unwrap());
        assert_eq!(map.remove(&key).unwrap(), Some(key));
    }
    let end = map.stats().unwrap();
    assert_eq!(end, start);
    assert_eq!((end.len, map.check()), (40, NONE));
    assert!((0..40).all(|key| map.get(&(1 << 60 | key)).unwrap() == Some(key)));
    map.clear().unwrap();
    assert_eq!((map.len(), map.stats().unwrap().miss_lines), (0, 1.0));

    // And with nobody who stays: 50 at once, always others.
    let mut worst: f64 = 0.0;
    for key in 0..cycles / 10 {
        assert!(map.try_insert(&key, &key).unwrap());
        if key >= 50 {
            assert_eq!(map.remove(&(key - 50)).unwrap(), Some(key - 50));
        }
        if key % (cycles / 100) == 0 {
            worst = worst.max(map.stats().unwrap().miss_lines);
            assert_eq!(map.check(), NONE);
        }
    }
    println!("at most {worst} lines a miss");
    assert!(worst < 3.0);
    map.retain(|_, _| false).unwrap();
    let end = map.stats().unwrap();
    assert_eq!((end.len, end.miss_lines, map.check()), (0, 1.0, NONE));
}

/// The same with byte keys in a set that is full most of the time.
#[test]
fn a_full_set_takes_a_new_key_for_each_that_goes() {
    let cycles: u64 = if cfg!(debug_assertions) {
        50_000
    } else {
        1_000_000
    };
    let map = SharedHashMap::<str, ()>::options()
        .capacity(7)
        .key_bytes(20)
        .participants(2)
        .anonymous()
        .unwrap();
    for n in 0..cycles {
        if n >= 7 {
            let full = map.try_insert(&n.to_string(), &());
            assert!(matches!(full, Err(WriteError::Full { capacity: 7 })));
            assert_eq!(map.remove(&(n - 7).to_string()).unwrap(), Some(()));
        }
        assert!(map.try_insert(&n.to_string(), &()).unwrap());
    }
    assert_eq!((map.len(), map.check()), (7, NONE));
}
