//! Waiting for a key of a map that other processes change.

use std::time::{Duration, Instant};

use forkmap::{SharedHashMap, WaitError};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::maps::{agreed, check_at_rest};
use crate::peer::{Latencies, PATIENCE, Peer, await_value, sleep_for_ever, watchdog};
use crate::{Role, run, test};

const DONE: u64 = 10;

/// Far below what a sleeper waits when nobody wakes it, which is 50 ms.
const WOKEN: Duration = Duration::from_millis(30);

pub(crate) const ROLES: &[Role] = &[
    ("map-waited", |args| waited(&args[0])),
    ("map-killed-waiters", |_| killed_waiters()),
    ("map-killed-changers", |_| killed_changers()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_every_change_of_a_key_wakes_who_waits_for_it", || {
            let name = Name::new("waited");
            print!("{}", run("map-waited", &[&name]));
        }),
        test("map_killed_waiters_take_no_wake_up_with_them", || {
            print!("{}", run("map-killed-waiters", &[]));
        }),
        test("map_changes_of_killed_writers_are_noticed", || {
            print!("{}", run("map-killed-changers", &[]));
        }),
    ]
}

type Map = SharedHashMap<str, str>;

/// One asleep and one that may only read are told of each kind of change.
fn waited(name: &str) {
    const ROUNDS: u64 = 5;
    watchdog();
    let dict = agreed();
    let map = Map::options().capacity(10).create(name).unwrap();
    let changes: [(&dyn Fn(), Option<&str>); 8] = [
        (
            &|| _ = map.try_insert("key", "inserted").unwrap(),
            Some("inserted"),
        ),
        (&|| map.set("key", "set").unwrap(), Some("set")),
        (
            &|| _ = map.insert("key", "replaced").unwrap(),
            Some("replaced"),
        ),
        (
            &|| _ = map.update("key", |old| old.unwrap() + "!").unwrap(),
            Some("replaced!"),
        ),
        (
            &|| {
                map.compare_exchange("key", "replaced!", "")
                    .unwrap()
                    .unwrap()
            },
            Some(""),
        ),
        (&|| map.retain(|_, _| false).unwrap(), None),
        (
            &|| _ = map.get_or_insert_with("key", || "new".into()).unwrap(),
            Some("new"),
        ),
        (&|| _ = map.remove("key").unwrap(), None),
    ];
    let wait = |read_only| {
        let map = Map::options().read_only(read_only).open(name).unwrap();
        let mut seen: Option<String> = None;
        for n in 0..ROUNDS * changes.len() as u64 {
            let expected = changes[n as usize % changes.len()].1;
            let found = map
                .wait_for_change("key", seen.as_deref(), PATIENCE)
                .unwrap();
            assert_eq!(found.as_deref(), expected);
            // Another key is none of its business, and time comes to an end.
            let short = map.wait_for_change("other", None, Duration::from_millis(1));
            assert!(matches!(short, Err(WaitError::TimedOut)));
            seen = found;
            dict.fetch_add(DONE, 1).unwrap();
        }
    };
    let waiters = [false, true].map(|read_only| Peer::fork(|| wait(read_only)));
    let mut rng = SmallRng::seed_from_u64(12);
    let mut latencies = [(); 8].map(|()| Latencies::default());
    for n in 0..ROUNDS * changes.len() as u64 {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
        let start = Instant::now();
        let kind = n as usize % changes.len();
        changes[kind].0();
        await_value(&dict, DONE, 2 * n + 2);
        latencies[kind].add(start);
    }
    waiters.into_iter().for_each(Peer::join);
    check_at_rest(&map);
    for (latencies, change) in latencies.iter().zip(changes) {
        println!("to {:?}: {latencies}", change.1);
        assert!(latencies.best() < WOKEN, "nobody was woken");
    }
}

fn killed_waiters() {
    const ROUNDS: u64 = 60;
    watchdog();
    let dict = agreed();
    let map = Map::anonymous(10).unwrap();
    map.set("key", "0").unwrap();
    let mut rng = SmallRng::seed_from_u64(13);
    for round in 1..=ROUNDS {
        let wait = |seen: &str| map.wait_for_change("key", Some(seen), PATIENCE).unwrap();
        let seen = (round - 1).to_string();
        let victim = Peer::fork(|| {
            wait(&seen);
            sleep_for_ever();
        });
        let waiter = Peer::fork(|| {
            assert_eq!(wait(&seen), Some(round.to_string()));
            dict.fetch_add(DONE, 1).unwrap();
        });
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        if round % 2 == 0 {
            victim.kill();
            map.set("key", &round.to_string()).unwrap();
        } else {
            map.set("key", &round.to_string()).unwrap();
            victim.kill();
        }
        await_value(&dict, DONE, round);
        waiter.join();
    }
    check_at_rest(&map);
}

/// Who changes a key is killed as soon as that is seen, perhaps before it has woken anybody.
fn killed_changers() {
    const ROUNDS: u64 = 60;
    watchdog();
    let dict = agreed();
    let map = SharedHashMap::<u64, u64>::anonymous(10).unwrap();
    map.set(&1, &0).unwrap();
    let mut latencies = Latencies::default();
    for round in 1..=ROUNDS {
        let waiter = Peer::fork(|| {
            let seen = round - 1;
            let found = map.wait_for_change(&1, Some(&seen), PATIENCE).unwrap();
            assert_eq!(found, Some(round));
            dict.fetch_add(DONE, 1).unwrap();
        });
        std::thread::sleep(Duration::from_millis(3));
        let changer = Peer::fork(|| {
            map.set(&1, &round).unwrap();
            sleep_for_ever();
        });
        while map.get(&1).unwrap() != Some(round) {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        changer.kill();
        await_value(&dict, DONE, round);
        latencies.add(start);
        waiter.join();
    }
    check_at_rest(&map);
    println!("from a change and a death to who waits, {latencies}");
    assert!(latencies.best() < Duration::from_millis(200));
}
