//! The threads of one process: by one handle, by clones of it, and by attachments of their own.

use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use forkmap::{StreamDict, StreamError};

use crate::damage::{FIRST_LINK, LOG, put};
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
                assert_eq!(view.iter().count(), 50);
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

/// The log is sealed, by a process that was stopped then: a thread that wants to change something waits for it
/// a while, and those that only look do not.
#[test]
fn who_looks_does_not_wait_for_another_process() {
    let went_on = (0..20).any(|_| {
        let place = Place::new();
        let dict = place.dict::<u64, [u8]>(4096);
        dict.set(&0, &vec![0; 20 << 20]).unwrap();
        dict.dump().unwrap();
        let before = dict.position().unwrap().generation;
        let file = place.path().join(place.generation("dict"));
        let mut bytes = fs::read(&file).unwrap();
        put(&mut bytes, LOG + FIRST_LINK, u64::MAX);
        fs::write(&file, bytes).unwrap();
        let began = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut is_first = true;
                let done = dict.transaction::<_, StreamError>(|tx| {
                    if std::mem::take(&mut is_first) {
                        began.wait();
                    }
                    tx.set(&1, b"1")
                });
                done.unwrap();
            });
            began.wait();
            // Unless this thread was away for longer than the other one waits.
            dict.view().unwrap().position().generation == before
        })
    });
    assert!(went_on);
}

/// A transaction that others are always faster than keeps nobody from looking.
#[test]
fn who_looks_does_not_wait_for_a_transaction_that_gets_nowhere() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 20);
    let rival = place.open::<str, u64>();
    let seen = AtomicBool::new(false);
    let was_seen = || seen.load(SeqCst);
    let (tried, rivalled) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let done = dict.transaction(|tx| {
                tried.store(true, SeqCst);
                let before = rivalled.load(SeqCst);
                while !was_seen() && rivalled.load(SeqCst) < before + 2 {
                    thread::yield_now();
                }
                tx.set("t", &1)
            });
            done.unwrap();
        });
        while !tried.load(SeqCst) {
            thread::yield_now();
        }
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !was_seen() && Instant::now() < deadline {
                rival.set("r", &1).unwrap();
                rivalled.fetch_add(1, SeqCst);
            }
            let seen_in_time = seen.swap(true, SeqCst);
            assert!(seen_in_time, "nobody could look for a minute");
        });
        dict.len().unwrap();
        seen.store(true, SeqCst);
    });
    assert_eq!(dict.get("t").unwrap(), Some(1));
}
