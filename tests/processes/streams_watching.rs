//! Watching from other processes, while those that write are killed and those that watch are stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use forkmap::{KeyChange, StreamDict, ValueChange, WatchEvent};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::maps::{agreed, breathe, end, is_over, meet, scaled};
use crate::peer::{Peer, watchdog};
use crate::streams::{StreamName, check_files};
use crate::{Role, run, test};

/// Of each watcher, how often it came too late.
const LAGS: u64 = 20;
/// Of each writer, how many changes it has made.
const DONE: u64 = 10;

pub(crate) const ROLES: &[Role] = &[("stream-watched", |args| watched(&args[0]))];

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("stream_watchers_miss_nothing_without_a_word", || {
        print!("{}", run("stream-watched", &[&StreamName::new("watched")]));
    })]
}

type Numbers = StreamDict<str, u64>;
type Content = BTreeMap<String, u64>;

const WRITERS: u64 = 2;
const PREFIXES: [&str; 3] = ["0/", "1/", ""];

fn content(stream: &Numbers, prefix: &str) -> Content {
    let view = stream.view().unwrap();
    let entries = view.iter().map(|entry| entry.unwrap());
    let entries = entries.filter(|(key, _)| key.starts_with(prefix));
    entries.map(|(key, value)| (key, *value)).collect()
}

/// Adds one to one key after the other, and removes each after 50.
fn write(stream: &Numbers, dict: &forkmap::AtomicDict, place: u64) {
    while !is_over(dict) {
        let n = dict.fetch_add(DONE + place, 1).unwrap();
        let key = format!("{place}/{}", n % 5);
        let next = |old: Option<&u64>| match old {
            Some(50) => None,
            old => Some(old.map_or(1, |old| old + 1)),
        };
        stream.fetch_update(&key, next).unwrap();
        breathe(n);
    }
}

/// Keeps a copy of what it is told, and sees that each change can be the next one of its key.
fn watch(stream: &Numbers, dict: &forkmap::AtomicDict, place: usize) {
    let mut watch = stream.watch_prefix(PREFIXES[place]).unwrap();
    let mut told = content(stream, PREFIXES[place]);
    // What came in between is told again.
    let mut is_exact = false;
    meet(dict, 1 + PREFIXES.len() as u64);
    loop {
        let was_over = is_over(dict);
        let Some(event) = watch.next_within(Duration::from_millis(20)).unwrap() else {
            if was_over {
                break;
            }
            continue;
        };
        let mut apply = |change: KeyChange<String, u64>, is_next: bool| {
            let KeyChange { path, key, value } = change;
            assert!(path.is_empty());
            let new = match value {
                ValueChange::Inserted(value) | ValueChange::Updated(value) => Some(value),
                ValueChange::Removed => None,
                ValueChange::Nested => panic!("there are no maps"),
            };
            let old = match new {
                Some(new) => told.insert(key.clone(), new),
                None => told.remove(&key),
            };
            let expected = match old {
                Some(50) => None,
                old => Some(old.map_or(1, |old| old + 1)),
            };
            assert!(!is_next || new == expected, "{key}: {old:?}, then {new:?}");
        };
        match event {
            WatchEvent::Changed { change, .. } => apply(change, is_exact),
            WatchEvent::Lagged => _ = dict.fetch_add(LAGS + place as u64, 1).unwrap(),
            WatchEvent::Resync { changes, .. } => {
                changes.into_iter().for_each(|change| apply(change, false));
            }
        }
        is_exact = true;
    }
    assert_eq!(told, content(stream, PREFIXES[place]));
}

fn watched(name: &str) {
    watchdog();
    let dict = agreed();
    let stream = Numbers::options().log_bytes(8 << 10).create(name).unwrap();
    let (stream_ref, dict_ref) = (&stream, &dict);
    let watchers = [0, 1, 2]
        .map(|place| Peer::fork(move || watch(&Numbers::open(name).unwrap(), dict_ref, place)));
    meet(&dict, 1 + PREFIXES.len() as u64);
    let writer = |place| Peer::fork(move || write(stream_ref, dict_ref, place));
    let mut writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let done = || {
        (0..WRITERS)
            .map(|place| dict.load(DONE + place))
            .sum::<u64>()
    };
    let mut kills = 0;
    while done() < scaled(100_000) {
        std::thread::sleep(Duration::from_millis(5));
        let place = kills % WRITERS;
        writers.remove(0).kill();
        writers.push(writer(place));
        kills += 1;
        if kills % 8 == 0 {
            // Long enough for several generations.
            let watcher = &watchers[(kills / 8 % 3) as usize];
            watcher.stop();
            let until = done() + 1000;
            while done() < until {
                std::thread::yield_now();
            }
            watcher.signal(Signal::SIGCONT);
        }
    }
    end(&dict);
    writers.into_iter().for_each(Peer::join);
    watchers.into_iter().for_each(Peer::join);
    let lags = [0, 1, 2].map(|place| dict.load(LAGS + place));
    let dumps = stream.status().unwrap().dumps;
    println!(
        "{} changes, {kills} kills, {dumps} generations, too late: {lags:?}",
        done()
    );
    assert!(dumps >= 50 && lags.iter().sum::<u64>() > 0);
    check_files(name, stream);
}
