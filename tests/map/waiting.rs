//! Waiting for a key to change.

use std::thread;
use std::time::{Duration, Instant};

use forkmap::{SharedHashMap, WaitError};

use crate::common::Name;
use crate::samples::map_of;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);

/// Waits in another thread, changes, and sees that the waiter was told, and soon.
fn told(
    waiter: &SharedHashMap<str, str>,
    seen: Option<&'static str>,
    change: impl FnOnce(),
) -> Option<String> {
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let start = Instant::now();
            let changed = waiter.wait_for_change("key", seen, LONG).unwrap();
            (changed, start.elapsed())
        });
        // So that it sleeps.
        thread::sleep(Duration::from_millis(30));
        change();
        let (changed, time) = waiting.join().unwrap();
        assert!(time < LONG / 2, "{time:?}");
        changed
    })
}

#[test]
fn a_waiter_is_told_of_every_kind_of_change() {
    let name = Name::new("map-wait");
    let map = SharedHashMap::<str, str>::create(&name, 10).unwrap();
    let mut options = SharedHashMap::<str, str>::options();
    let reader = options.read_only(true).open(&name).unwrap();
    let other = SharedHashMap::<str, str>::open(&name).unwrap();
    for waiter in [&map, &other, &reader] {
        let changed = told(waiter, None, || drop(map.insert("key", "1").unwrap()));
        assert_eq!(changed.as_deref(), Some("1"), "inserted");
        let changed = told(waiter, Some("1"), || map.set("key", "2").unwrap());
        assert_eq!(changed.as_deref(), Some("2"), "set");
        let changed = told(waiter, Some("2"), || {
            map.compare_exchange("key", "2", "").unwrap().unwrap();
        });
        assert_eq!(changed.as_deref(), Some(""), "exchanged");
        let changed = told(waiter, Some(""), || drop(map.remove("key").unwrap()));
        assert_eq!(changed, None, "removed");
        let changed = told(waiter, None, || {
            assert!(map.try_insert("key", "3").unwrap())
        });
        assert_eq!(changed.as_deref(), Some("3"), "inserted if absent");
        let changed = told(waiter, Some("3"), || {
            map.update("key", |old| old.unwrap() + "!").unwrap();
        });
        assert_eq!(changed.as_deref(), Some("3!"), "updated");
        assert_eq!(
            told(waiter, Some("3!"), || map.clear().unwrap()),
            None,
            "cleared"
        );
    }
}

/// Without a signal they would sleep 50 ms each time.
#[test]
fn a_waiter_is_woken_and_does_not_just_look_now_and_then() {
    let map = map_of::<u64, u64>(4);
    let rounds = 200;
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..rounds {
                let seen = (n > 0).then(|| 2 * n - 1);
                let there = map.wait_for_change(&1, seen.as_ref(), LONG).unwrap();
                assert_eq!(there, Some(2 * n));
                map.set(&1, &(2 * n + 1)).unwrap();
            }
        });
        for n in 0..rounds {
            map.set(&1, &(2 * n)).unwrap();
            let there = map.wait_for_change(&1, Some(&(2 * n)), LONG).unwrap();
            assert_eq!(there, Some(2 * n + 1));
        }
    });
    let time = start.elapsed();
    assert!(time < Duration::from_millis(50 * rounds / 2), "{time:?}");
}

#[test]
fn what_is_already_so_is_told_at_once_and_what_does_not_come_times_out() {
    let name = Name::new("map-wait-short");
    let map = SharedHashMap::<str, str>::create(&name, 10).unwrap();
    let reader = SharedHashMap::<str, str>::options()
        .read_only(true)
        .open(&name)
        .unwrap();
    map.insert("key", "1").unwrap();
    for map in [&map, &reader] {
        for seen in [None, Some(""), Some("11"), Some("0")] {
            let there = map.wait_for_change("key", seen, Duration::ZERO).unwrap();
            assert_eq!(there.as_deref(), Some("1"));
        }
        let gone = map
            .wait_for_change("other", Some("1"), Duration::ZERO)
            .unwrap();
        assert_eq!(gone, None);
        let long = "k".repeat(300);
        assert_eq!(map.wait_for_change(&long, Some("1"), LONG).unwrap(), None);
        for (key, seen) in [("key", Some("1")), ("other", None), (&long, None)] {
            let start = Instant::now();
            let error = map.wait_for_change(key, seen, SHORT).unwrap_err();
            assert!(matches!(error, WaitError::TimedOut), "{error}");
            assert!(error.to_string().contains("; wait longer"), "{error}");
            assert!(start.elapsed() >= SHORT && start.elapsed() < LONG);
        }
    }
    // No limit at all.
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            map.wait_for_change("key", Some("1"), Duration::MAX)
                .unwrap()
        });
        thread::sleep(SHORT);
        map.set("key", "2").unwrap();
        assert_eq!(waiter.join().unwrap().as_deref(), Some("2"));
    });
}
