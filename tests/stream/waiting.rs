//! Waiting for changes.

use std::thread;
use std::time::{Duration, Instant};

use forkmap::Position;

use crate::samples::Place;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_has_changed_is_not_waited_for() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    let before = dict.position().unwrap();
    dict.set("a", "1").unwrap();
    let now = dict.position().unwrap();
    for (seen, timeout) in [
        (before, LONG),
        (before, Duration::ZERO),
        (before, Duration::MAX),
    ] {
        assert_eq!(dict.wait_for_change(seen, timeout).unwrap(), Some(now));
    }
    let nowhere = Position {
        generation: u64::MAX,
        records: u64::MAX,
    };
    assert_eq!(dict.wait_for_change(nowhere, LONG).unwrap(), Some(now));
}

#[test]
fn waiting_ends_when_its_time_is_over() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    dict.set("a", "1").unwrap();
    let reader = place.options::<str, str>().read_only(true).open("dict");
    for dict in [&dict, &reader.unwrap()] {
        let here = dict.position().unwrap();
        for millis in [0, 1, 80] {
            let (start, timeout) = (Instant::now(), Duration::from_millis(millis));
            assert_eq!(dict.wait_for_change(here, timeout).unwrap(), None);
            assert!(start.elapsed() >= timeout);
        }
    }
    // A dump changes nothing.
    let here = dict.position().unwrap();
    dict.dump().unwrap();
    let waited = dict.wait_for_change(here, Duration::from_millis(20));
    assert_eq!(waited.unwrap(), None);
}

#[test]
fn every_change_wakes_who_waits_for_it() {
    let place = Place::new();
    // Every few changes a generation: waiting goes on across them.
    let dict = place.dict::<u64, u64>(100);
    let other = place.open::<u64, u64>();
    let reader = place.options::<u64, u64>().read_only(true).open("dict");
    let (clone, reader) = (dict.clone(), reader.unwrap());
    const CHANGES: u64 = 100;
    thread::scope(|scope| {
        for waiting in [&clone, &other, &reader] {
            scope.spawn(move || {
                let mut seen = Position {
                    generation: 1,
                    records: 0,
                };
                while waiting.get(&0).unwrap() != Some(CHANGES) {
                    let now = waiting.wait_for_change(seen, LONG).unwrap();
                    let now = now.expect("it came to nothing for a minute");
                    assert!(now > seen);
                    seen = now;
                }
            });
        }
        for n in 1..=CHANGES {
            dict.set(&0, &n).unwrap();
            if n % 10 == 0 {
                dict.dump().unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        }
    });
}

#[test]
fn a_removal_and_a_clearing_wake_too() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(1000);
    let other = place.open::<u64, u64>();
    dict.extend([(&1, &1), (&2, &2)]).unwrap();
    for left in [1, 0] {
        let seen = other.position().unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| other.wait_for_change(seen, LONG).unwrap());
            match left {
                1 => drop(dict.remove(&1).unwrap()),
                _ => dict.clear().unwrap(),
            }
            assert!(waiting.join().unwrap() > Some(seen));
        });
        assert_eq!(other.len().unwrap(), left);
    }
}
