//! Watching what changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use forkmap::{KeyChange, Position, StreamDict, StreamError, ValueChange, Watch, WatchEvent};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::samples::{Deaf, Place};

type Dict = StreamDict<str, u64>;
type Event = WatchEvent<String, u64>;
type Content = BTreeMap<String, u64>;

fn changed(key: &str, value: ValueChange<u64>) -> KeyChange<String, u64> {
    let (path, key) = (std::sync::Arc::default(), key.to_owned());
    KeyChange { path, key, value }
}

fn inserted(key: &str, value: u64) -> KeyChange<String, u64> {
    changed(key, ValueChange::Inserted(value))
}

fn updated(key: &str, value: u64) -> KeyChange<String, u64> {
    changed(key, ValueChange::Updated(value))
}

fn removed(key: &str) -> KeyChange<String, u64> {
    changed(key, ValueChange::Removed)
}

/// All that there is now.
fn events(watch: &mut Watch<str, u64>) -> Vec<Event> {
    let next = || watch.next_within(Duration::ZERO).unwrap();
    std::iter::from_fn(next).collect()
}

/// The same, where none is too late.
fn changes(watch: &mut Watch<str, u64>) -> Vec<KeyChange<String, u64>> {
    let change = |event| match event {
        WatchEvent::Changed { change, .. } => change,
        other => panic!("{other:?}"),
    };
    events(watch).into_iter().map(change).collect()
}

/// Does to `content` what was told; and says whether that could be.
fn apply(content: &mut Content, change: &KeyChange<String, u64>) -> bool {
    let key = &change.key;
    match change.value {
        ValueChange::Inserted(value) => content.insert(key.clone(), value).is_none(),
        ValueChange::Updated(value) => content.insert(key.clone(), value).is_some(),
        ValueChange::Removed => content.remove(key).is_some(),
        ValueChange::Nested => panic!("there are no maps"),
    }
}

fn content(dict: &Dict, prefix: &str) -> Content {
    let view = dict.view().unwrap();
    let entries = view.iter().map(|entry| entry.unwrap());
    let entries = entries.filter(|(key, _)| key.starts_with(prefix));
    entries.map(|(key, value)| (key, *value)).collect()
}

#[test]
fn each_change_is_told_once_and_in_its_order() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(200);
    dict.set("before", &0).unwrap();
    let mut watch = dict.watch().unwrap();
    assert_eq!(watch.next_within(Duration::ZERO).unwrap(), None);
    dict.set("a", &1).unwrap();
    dict.set("a", &1).unwrap();
    dict.remove("a").unwrap();
    dict.remove("a").unwrap();
    assert_eq!(
        changes(&mut watch),
        [inserted("a", 1), updated("a", 1), removed("a")]
    );
    // Of a transaction, in the order in which it has made them, and all at one position.
    let done = dict.transaction::<_, StreamError>(|tx| {
        tx.set("b", &1)?;
        tx.set("b", &2)?;
        tx.remove("before")?;
        tx.set("before", &3)
    });
    done.unwrap();
    let told = events(&mut watch);
    let expected = [
        inserted("b", 1),
        updated("b", 2),
        removed("before"),
        inserted("before", 3),
    ];
    let here = dict.position().unwrap();
    let expected = expected.map(|change| WatchEvent::Changed {
        change,
        position: here,
    });
    assert_eq!(told, expected);
    assert_eq!(watch.reached(), here);
    dict.clear().unwrap();
    assert_eq!(changes(&mut watch), [removed("b"), removed("before")]);
    // What has not happened is not told.
    let failed = dict.transaction(|tx| {
        tx.set("c", &1)?;
        Err::<(), _>(StreamError::Gone)
    });
    assert!(failed.is_err());
    dict.dump().unwrap();
    assert_eq!(events(&mut watch), []);
}

#[test]
fn one_key_or_those_that_begin_alike() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(100);
    let mut watches = [
        dict.watch_key("net").unwrap(),
        dict.watch_prefix("net").unwrap(),
        dict.watch_prefix("net/").unwrap(),
        dict.watch_prefix("").unwrap(),
    ];
    let keys = ["net", "net/a", "ne", "network", "disk", "net/b"];
    for (key, n) in keys.into_iter().zip(0..) {
        dict.set(key, &n).unwrap();
        let told = watches.each_mut().map(changes);
        let expected = |is_told: bool| Vec::from_iter(is_told.then(|| inserted(key, n)));
        let begins = ["net", "net/", ""].map(|prefix| key.starts_with(prefix));
        assert_eq!(told[0], expected(key == "net"));
        assert_eq!(told[1..], begins.map(expected));
    }
    dict.clear().unwrap();
    let told = watches.each_mut().map(|watch| changes(watch).len());
    assert_eq!(told, [1, 4, 2, 6]);
}

#[test]
fn from_a_position_on() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(10_000);
    let start = dict.position().unwrap();
    dict.set("a", &1).unwrap();
    let one = dict.position().unwrap();
    dict.set("a", &2).unwrap();
    let since = |position| {
        let mut watch = dict.watch().unwrap().since(position).unwrap();
        events(&mut watch)
    };
    let told = |change, position| WatchEvent::Changed { change, position };
    let two = dict.position().unwrap();
    let all = [told(inserted("a", 1), one), told(updated("a", 2), two)];
    assert_eq!(since(start), all);
    assert_eq!(since(one), all[1..]);
    assert_eq!(since(two), []);
    let Position {
        generation,
        records,
    } = two;
    // Those that are still to come.
    for later in [(generation, records + 5), (generation + 1, 1)] {
        let (generation, records) = later;
        assert_eq!(
            since(Position {
                generation,
                records
            }),
            []
        );
    }
    dict.dump().unwrap();
    // The end of one generation is the start of the next; what was before that is gone.
    assert_eq!(since(two), []);
    let position = dict.position().unwrap();
    let resync = WatchEvent::Resync {
        changes: vec![inserted("a", 2)],
        is_whole: true,
        position,
    };
    for gone in [start, one] {
        assert_eq!(since(gone), [WatchEvent::Lagged, resync.clone()]);
    }
    dict.dump().unwrap();
    assert_eq!(since(two), [], "nothing has changed");
    // And it goes on from there.
    let mut watch = dict.watch().unwrap().since(one).unwrap();
    dict.set("b", &1).unwrap();
    assert_eq!(events(&mut watch).len(), 3);
}

/// Who does not look for a while is told the difference, and nothing is left out.
#[test]
fn who_comes_too_late_is_told_so_and_the_difference() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(100);
    let other = place.open::<str, u64>();
    let mut told = Content::new();
    let mut watch = dict.watch_prefix("k").unwrap();
    let mut rng = SmallRng::seed_from_u64(4);
    let (mut lags, mut live) = (0, 0);
    for _ in 0..300 {
        for _ in 0..rng.random_range(0..12) {
            let key = format!(
                "{}{}",
                ["k", "x"][rng.random_range(0..2)],
                rng.random_range(0..9)
            );
            match rng.random_range(0..6) {
                0 => drop(other.remove(&key).unwrap()),
                1 if rng.random_range(0..9) == 0 => other.clear().unwrap(),
                _ => other.set(&key, &rng.random_range(0..3)).unwrap(),
            }
        }
        let mut events = events(&mut watch).into_iter();
        while let Some(event) = events.next() {
            match event {
                WatchEvent::Changed { change, .. } => {
                    assert!(apply(&mut told, &change), "{change:?}");
                    live += 1;
                }
                WatchEvent::Lagged => {
                    let Some(WatchEvent::Resync { changes, .. }) = events.next() else {
                        panic!("no difference");
                    };
                    let before = told.clone();
                    assert!(changes.iter().all(|change| apply(&mut told, change)));
                    let differs = |key| before.get(key) != told.get(key);
                    let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
                    assert!(
                        keys.iter().all(|&key| differs(key)),
                        "a difference that is none"
                    );
                    lags += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, content(&dict, "k"));
    }
    assert!(lags > 20 && live > 200, "{lags} {live}");
}

/// Three, each with a prefix of its own, and writers that do not wait for them.
#[test]
fn several_watch_while_others_write() {
    const EACH: u64 = if cfg!(debug_assertions) {
        10_000
    } else {
        50_000
    };
    let place = Place::new();
    let dict = place.dict::<str, u64>(8 << 10);
    let done = AtomicBool::new(false);
    let prefixes = ["a/", "b/", ""];
    let watches = prefixes.map(|prefix| (prefix, dict.watch_prefix(prefix).unwrap()));
    let write = |dict: &Dict, prefix: &str| {
        for n in 0..EACH {
            dict.set(&format!("{prefix}{}", n % 7), &n).unwrap();
        }
    };
    let other = place.open::<str, u64>();
    thread::scope(|scope| {
        let watchers = watches.map(|(prefix, mut watch)| {
            let done = &done;
            scope.spawn(move || {
                let (mut told, mut events, mut last) = (Content::new(), 0, [0; 2]);
                loop {
                    let was_done = done.load(SeqCst);
                    let Some(event) = watch.next_within(Duration::from_millis(20)).unwrap() else {
                        match was_done {
                            true => return (prefix, told, events),
                            false => continue,
                        }
                    };
                    events += 1;
                    match event {
                        WatchEvent::Changed { change, .. } => {
                            assert!(apply(&mut told, &change), "{change:?}");
                            let key = &change.key;
                            let last = &mut last[usize::from(key.starts_with('b'))];
                            // Each writer counts: none is left out, none comes twice.
                            assert!(told[key] == *last || told[key] == 0, "{key} {last}");
                            *last = told[key] + 1;
                        }
                        WatchEvent::Lagged => {}
                        WatchEvent::Resync { changes, .. } => {
                            assert!(changes.iter().all(|change| apply(&mut told, change)));
                            let next = |writer: &str| {
                                let of = told.iter().filter(|(key, _)| key.starts_with(writer));
                                of.map(|(_, n)| n + 1).max().unwrap_or(0)
                            };
                            last = ["a", "b"].map(next);
                        }
                    }
                }
            })
        });
        let writers = [(&dict, "a/"), (&other, "b/")]
            .map(|(dict, prefix)| scope.spawn(move || write(dict, prefix)));
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, SeqCst);
        for watcher in watchers {
            let (prefix, told, events) = watcher.join().unwrap();
            println!("{prefix:?}: {events} events");
            assert!(events > 0);
            assert_eq!(told, content(&dict, prefix));
        }
    });
    assert!(dict.status().unwrap().dumps > 50);
}

#[test]
fn a_change_wakes_a_watch() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1000);
    let mut options = place.options::<str, u64>();
    for read_only in [false, true] {
        let opened = options.read_only(read_only).open("dict").unwrap();
        thread::scope(|scope| {
            let mut watch = opened.watch().unwrap();
            let waiter = scope.spawn(move || watch.next().unwrap().unwrap());
            thread::sleep(Duration::from_millis(20));
            dict.set("a", &1).unwrap();
            assert!(matches!(waiter.join().unwrap(), WatchEvent::Changed { .. }));
        });
    }
}

/// What this program cannot decode is an error for that change alone.
#[test]
fn what_cannot_be_decoded_is_one_error() {
    let place = Place::new();
    let dict = place.dict::<str, str>(64);
    let deaf = place.open::<str, Deaf>();
    let mut watch = deaf.watch().unwrap();
    let mut late = deaf.watch().unwrap();
    let is_decode = |result| matches!(result, Err(StreamError::Decode { what: "value", .. }));
    for value in ["one", "two!", "three"] {
        dict.set(value, value).unwrap();
        let told = watch.next_within(Duration::ZERO);
        match value.contains('!') {
            true => assert!(is_decode(told)),
            false => assert!(matches!(told, Ok(Some(WatchEvent::Changed { .. })))),
        }
        dict.dump().unwrap();
    }
    assert!(matches!(
        late.next_within(Duration::ZERO),
        Ok(Some(WatchEvent::Changed { .. }))
    ));
    assert!(matches!(
        late.next_within(Duration::ZERO),
        Ok(Some(WatchEvent::Lagged))
    ));
    assert!(is_decode(late.next_within(Duration::ZERO)));
    let Ok(Some(WatchEvent::Resync { changes, .. })) = late.next_within(Duration::ZERO) else {
        panic!("the rest");
    };
    assert_eq!(changes.len(), 1);
}

#[test]
fn a_watch_outlives_its_handle_and_tells_of_the_end() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(500);
    let mut watch = dict.watch().unwrap();
    let other = place.open::<str, u64>();
    drop(dict);
    other.set("a", &1).unwrap();
    assert_eq!(changes(&mut watch), [inserted("a", 1)]);
    place.options::<str, u64>().unlink("dict").unwrap();
    let mut set = (0..).map(|n| other.set("b", &n));
    let good = set.position(|set| matches!(set, Err(StreamError::Unlinked)));
    // All that has still happened is told.
    let next = || watch.next_within(Duration::from_secs(60)).ok();
    let told = std::iter::from_fn(next).flatten().count();
    assert!(told > 0 && Some(told) == good, "{told} {good:?}");
    let end = watch.next().unwrap();
    assert!(matches!(end, Err(StreamError::Unlinked)), "{end:?}");
    assert!(!format!("{watch:?}").is_empty());
}
