//! Threads of one process: what they do to the same keys, and as whom they write.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forkmap::{ParticipantError, SharedHashMap, WriteError};

use crate::common::Name;
use crate::samples::{NONE, map_of};

#[test]
fn no_addition_is_lost_between_threads() {
    let map = SharedHashMap::<str, u16>::anonymous(4).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    map.fetch_add("a", 1).unwrap();
                    map.update("b", |old| old.unwrap_or(0).wrapping_add(1))
                        .unwrap();
                    while map
                        .fetch_update("c", |old| Some(old.wrapping_add(1)))
                        .unwrap()
                        .is_err()
                    {
                        map.try_insert("c", &0).unwrap();
                    }
                }
            });
        }
    });
    let all = ["a", "b", "c"].map(|key| map.get(key).unwrap().unwrap());
    assert_eq!(all, [80_000_u32 as u16; 3]);
    assert_eq!(map.check(), NONE);
}

/// Whole values of odd sizes, read while they are replaced, removed and inserted.
#[test]
fn values_are_never_torn() {
    let map = SharedHashMap::<u64, [u8; 100]>::anonymous(2).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100_000_u32 {
                map.set(&1, &[n as u8; 100]).unwrap();
                if n % 64 == 0 {
                    map.remove(&1).unwrap();
                }
            }
            // Relaxed: it ends the loops, and nothing else.
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let values = map.values().map(Result::unwrap).chain(map.get(&1).unwrap());
                for value in values {
                    assert!(value.iter().all(|&byte| byte == value[0]), "torn");
                }
            }
        });
    });
    assert_eq!(map.check(), NONE);
}

/// Racing inserters of the same keys: each key once, and one of them has inserted it. (There is room for
/// the cells that those have in hand who come too late.)
#[test]
fn threads_that_insert_the_same_keys_make_no_duplicates() {
    let map = SharedHashMap::<str, u32>::anonymous(5010).unwrap();
    let start = Barrier::new(4);
    let inserted: usize = thread::scope(|scope| {
        let inserter = |t: usize| {
            let (map, start) = (&map, &start);
            scope.spawn(move || {
                start.wait();
                let keys = (0..5000).map(|i| ((i + t * 10) % 5000).to_string());
                keys.filter(|key| match t % 2 {
                    0 => map.try_insert(key, &1).unwrap(),
                    _ => map.insert(key, &2).unwrap().is_none(),
                })
                .count()
            })
        };
        let threads: Vec<_> = (0..4).map(inserter).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((inserted, map.len()), (5000, 5000));
    assert_eq!(map.check(), NONE);
}

/// FA7: weakly consistent. The keys that stay are seen exactly once, while their values change and others
/// come and go.
#[test]
fn iteration_sees_each_lasting_key_once_while_others_change_the_map() {
    let map = SharedHashMap::<u64, [u64; 2]>::anonymous(1500).unwrap();
    for key in 0..500 {
        map.insert(&key, &[key, 0]).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                let key = n % 500;
                map.set(&key, &[key, n]).unwrap();
                map.set(&(500 + n % 997), &[500 + n % 997, n]).unwrap();
                map.remove(&(500 + n * 7 % 997)).unwrap();
            }
        });
        for _ in 0..200 {
            let mut seen = HashSet::new();
            for entry in &map {
                let (key, value) = entry.unwrap();
                assert_eq!(value[0], key, "a value of another key");
                assert!(seen.insert(key) || key >= 500, "{key} twice");
            }
            assert!((0..500).all(|key| seen.contains(&key)));
            let mut keys: Vec<u64> = map.keys().map(Result::unwrap).collect();
            keys.retain(|&key| key < 500);
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..500));
            let values = map
                .values()
                .filter(|value| value.as_ref().unwrap()[0] < 500);
            assert_eq!(values.count(), 500);
            assert!((500..=1500).contains(&map.len()));
        }
        // Relaxed, here and above: it ends the loop, and nothing else.
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(map.check(), NONE);
    let mut keys = map.keys();
    let count = keys.by_ref().count();
    assert!(
        count == map.len() && keys.next().is_none(),
        "it stays at the end"
    );
}

/// Each thread that changes the map is a writer, until it ends.
#[test]
fn one_writer_too_many_is_a_typed_error() {
    let map = SharedHashMap::<u64, u64>::options()
        .capacity(10)
        .participants(2)
        .anonymous()
        .unwrap();
    assert_eq!(map.stats().unwrap().writer_limit, 2);
    map.insert(&1, &1).unwrap();
    let (entered, leave) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            map.insert(&2, &2).unwrap();
            entered.wait();
            leave.wait();
        });
        entered.wait();
        assert_eq!(map.stats().unwrap().writers, 2);
        scope
            .spawn(|| {
                let error = map.insert(&3, &3).unwrap_err();
                let too_many = ParticipantError::TooMany { limit: 2 };
                assert_eq!(error.to_string(), too_many.to_string());
                assert!(matches!(
                    error,
                    WriteError::Writer(ParticipantError::TooMany { .. })
                ));
                assert!(matches!(map.clear(), Err(WriteError::Writer(_))));
                assert_eq!(map.get(&2).unwrap(), Some(2), "reading needs no writer");
                assert_eq!(map.len(), 2);
            })
            .join()
            .unwrap();
        map.insert(&1, &5).unwrap();
        leave.wait();
    });
    // Its place is free again. (A thread's memory goes a moment after `join` has returned in a scope.)
    for round in 0..20 {
        let map = map.clone();
        thread::spawn(move || map.insert(&3, &round).unwrap())
            .join()
            .unwrap();
    }
    assert_eq!(map.get(&3).unwrap(), Some(19));
    assert_eq!((map.recover().unwrap(), map.check()), (0, NONE));
    let stats = map.stats().unwrap();
    assert_eq!((stats.writers, stats.dead_writers), (2, 0));
}

/// A thread is another writer in each map, and in each attachment of one.
#[test]
fn many_maps_in_one_thread_do_not_mix_their_writers() {
    let name = Name::new("map-many");
    let maps: Vec<_> = (0..5).map(|_| map_of::<u64, u64>(50)).collect();
    let first = SharedHashMap::<u64, u64>::options()
        .capacity(50)
        .participants(4)
        .create(&name)
        .unwrap();
    let again = SharedHashMap::<u64, u64>::open(&name).unwrap();
    for n in 0..500 {
        maps[n as usize % 5].insert(&(n % 40), &n).unwrap();
        [&first, &again][n as usize % 2]
            .insert(&(n % 50), &n)
            .unwrap();
    }
    assert_eq!((first.len(), again.len()), (50, 50));
    assert_eq!(first.stats().unwrap().writers, 2);
    assert!(maps.iter().all(|map| map.check().is_empty()));
    drop(again);
    assert_eq!(
        first.stats().unwrap().writers,
        1,
        "a dropped attachment writes no more"
    );
    // So its place can be had again and again.
    for n in 0..20 {
        let again = SharedHashMap::<u64, u64>::open(&name).unwrap();
        again.insert(&1, &n).unwrap();
    }
    assert_eq!((first.get(&1).unwrap(), first.check()), (Some(19), NONE));
}

/// A thread-local that is dropped after the map's own, because it was there before.
#[test]
fn what_is_dropped_as_the_thread_ends_may_change_the_map() {
    struct AtExit(SharedHashMap<u64, u64>);

    impl Drop for AtExit {
        fn drop(&mut self) {
            for key in 0..20 {
                self.0.fetch_add(&key, 1).unwrap();
            }
        }
    }

    thread_local! {
        static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) };
    }

    let mut options = SharedHashMap::<u64, u64>::options();
    let map = options.capacity(20).participants(2).anonymous().unwrap();
    for _ in 0..5 {
        let map = map.clone();
        let thread = std::thread::spawn(move || {
            AT_EXIT.with(|at_exit| *at_exit.borrow_mut() = Some(AtExit(map.clone())));
            map.fetch_add(&0, 1).unwrap();
        });
        thread.join().unwrap();
    }
    assert_eq!(
        (map.get(&0).unwrap(), map.get(&19).unwrap()),
        (Some(10), Some(5))
    );
    assert_eq!(map.participants().unwrap().len(), 1);
    assert!(map.check().is_empty());
}
