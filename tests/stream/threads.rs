//! The threads of one process: by one handle, by clones of it, and by attachments of their own.

use std::sync::Barrier;
use std::thread;

use forkmap::{StreamDict, StreamError};

use crate::samples::{Place, entries};

#[test]
fn many_threads_look_at_once() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(200);
    for n in 0..50 {
        dict.set(&n, &(n * n)).unwrap();
    }
    // All at the same time: each holds its view until the others have one.
    let all = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let view = dict.view().unwrap();
                all.wait();
                assert_eq!(view.iter().len(), 50);
                assert!((0..50).all(|n| view.get(&n).unwrap() == Some(&(n * n))));
                assert!(matches!(dict.get(&0), Err(StreamError::Reentrant)));
                all.wait();
            });
        }
    });
    dict.set(&0, &1).unwrap();
}

/// Two keys that every transaction keeps equal, in threads with one handle, with clones of it and with
/// attachments of their own, over hundreds of generations.
#[test]
fn a_view_never_sees_half_of_a_transaction() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(150);
    let other = place.open::<u64, u64>();
    const EACH: u64 = 300;
    let write = |dict: &StreamDict<u64, u64>| {
        for _ in 0..EACH {
            dict.transaction(|tx| {
                let n = tx.get(&1)?.copied().unwrap_or(0);
                assert_eq!(tx.get(&2)?.copied().unwrap_or(0), n);
                tx.set(&1, &(n + 1))?;
                tx.set(&2, &(n + 1))
            })
            .unwrap();
        }
    };
    let read = |dict: &StreamDict<u64, u64>| {
        let mut last = 0;
        while last < 3 * EACH {
            let view = dict.view().unwrap();
            let [one, two] = [1, 2].map(|key| view.get(&key).unwrap().copied().unwrap_or(0));
            assert!(one == two && one >= last, "{last} {one} {two}");
            last = one;
        }
    };
    thread::scope(|scope| {
        let clone = dict.clone();
        scope.spawn(|| write(&dict));
        scope.spawn(move || write(&clone));
        scope.spawn(|| write(&other));
        for reader in [dict.clone(), other.clone(), place.open()] {
            scope.spawn(move || read(&reader));
        }
    });
    assert_eq!(entries(&dict), [(1, 3 * EACH), (2, 3 * EACH)]);
    assert!(dict.status().unwrap().dumps > 200);
}

#[test]
fn additions_of_many_threads_all_count() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1000);
    const EACH: u64 = 500;
    thread::scope(|scope| {
        for attachment in [dict.clone(), dict.clone(), place.open(), place.open()] {
            scope.spawn(move || {
                for n in 0..EACH {
                    let more = |old: Option<&u64>| Some(old.map_or(1, |n| n + 1));
                    attachment.fetch_update("sum", more).unwrap();
                    if n % 100 == 0 {
                        attachment.dump().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(dict.get("sum").unwrap(), Some(4 * EACH));
    let attached = place.open::<str, u64>();
    assert_eq!(attached.get("sum").unwrap(), Some(4 * EACH));
    assert_eq!(place.files().len(), 2);
}

#[test]
fn of_many_who_insert_a_key_one_does() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(100);
    let other = place.open::<u64, u64>();
    let start = Barrier::new(4);
    thread::scope(|scope| {
        let threads = [&dict, &dict, &other, &other].into_iter().zip(0_u64..);
        let threads: Vec<_> = threads
            .map(|(dict, me)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let got = (0..200).map(|key| dict.get_or_insert_with(&key, || me).unwrap());
                    got.collect::<Vec<_>>()
                })
            })
            .collect();
        let got = threads.into_iter().map(|thread| thread.join().unwrap());
        let got: Vec<_> = got.collect();
        assert!(got.windows(2).all(|two| two[0] == two[1]));
        let there = entries(&other).into_iter().map(|(_, value)| value);
        let mut keys: Vec<_> = entries(&dict).into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..200).collect::<Vec<_>>());
        assert_eq!(there.count(), 200);
    });
}
