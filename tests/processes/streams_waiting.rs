//! Waiting for a stream dictionary to change.

use std::time::{Duration, Instant};

use forkmap::{StreamDict, StreamError};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::agreed;
use crate::peer::{Latencies, PATIENCE, Peer, await_value, watchdog};
use crate::streams::{StreamName, check_files};
use crate::{Role, run, test};

const DONE: u64 = 10;
const READY: u64 = 11;

/// Far below what a sleeper waits when nobody wakes it, which is 50 ms.
const WOKEN: Duration = Duration::from_millis(30);

pub(crate) const ROLES: &[Role] = &[
    ("stream-waited", |args| waited(&args[0])),
    ("stream-timeouts", |args| timeouts(&args[0])),
    ("stream-killed-waiters", |args| killed_waiters(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("stream_every_change_wakes_who_waits", || {
            print!("{}", run("stream-waited", &[&StreamName::new("waited")]));
        }),
        test("stream_waiting_ends_with_its_timeout", || {
            run("stream-timeouts", &[&StreamName::new("timeouts")]);
        }),
        test("stream_killed_waiters_take_no_wake_up_with_them", || {
            print!(
                "{}",
                run(
                    "stream-killed-waiters",
                    &[&StreamName::new("killed-waiters")]
                )
            );
        }),
    ]
}

type Texts = StreamDict<str, str>;

fn create(name: &str) -> Texts {
    Texts::options().log_bytes(1024).create(name).unwrap()
}

/// One asleep and one that may only read are told of each kind of change.
fn waited(name: &str) {
    const ROUNDS: u64 = 4;
    watchdog();
    let dict = agreed();
    let stream = create(name);
    let exchange = |old, new| stream.compare_exchange("key", old, new).unwrap().unwrap();
    let changes: [(&str, &dyn Fn()); 12] = [
        ("insert", &|| _ = stream.insert("key", "a").unwrap()),
        ("set", &|| stream.set("key", "b").unwrap()),
        ("fetch_update", &|| {
            _ = stream
                .fetch_update("key", |old| old.map(|old| old.to_owned() + "!"))
                .unwrap()
        }),
        ("compare_exchange", &|| _ = exchange(Some("b!"), Some("c"))),
        ("remove", &|| _ = stream.remove("key").unwrap()),
        ("get_or_insert_with", &|| {
            _ = stream.get_or_insert_with("key", || "d".to_owned()).unwrap()
        }),
        ("fetch_update to nothing", &|| {
            _ = stream.fetch_update("key", |_| None::<String>).unwrap()
        }),
        ("extend", &|| {
            stream.extend([("key", "e"), ("other", "f")]).unwrap()
        }),
        ("transaction", &|| {
            let change = stream.transaction(|tx| tx.remove("other"));
            assert!(change.unwrap_or_else(|error: StreamError| panic!("{error}")));
        }),
        ("append_if", &|| {
            let position = stream.position().unwrap();
            let change = stream.append_if(position, |tx| tx.set("key", "g"));
            assert!(matches!(change, Ok::<_, StreamError>(Some(()))));
        }),
        ("clear", &|| stream.clear().unwrap()),
        ("a change behind a dump", &|| {
            stream.dump().unwrap();
            stream.set("key", "h").unwrap();
        }),
    ];
    let wait = |read_only: bool| {
        let stream = Texts::options().read_only(read_only).open(name).unwrap();
        let mut seen = stream.position().unwrap();
        dict.fetch_add(READY, 1).unwrap();
        for _ in 0..ROUNDS * changes.len() as u64 {
            let found = stream.wait_for_change(seen, PATIENCE).unwrap();
            let found = found.expect("it was changed");
            assert!(found > seen && !stream.is_at(seen).unwrap());
            // A dump may still come in between, which is no change.
            seen = stream.position().unwrap();
            dict.fetch_add(DONE, 1).unwrap();
        }
        assert_eq!(stream.get("key").unwrap().as_deref(), Some("h"));
    };
    let waiters = [false, true].map(|read_only| Peer::fork(|| wait(read_only)));
    await_value(&dict, READY, 2);
    let mut rng = SmallRng::seed_from_u64(12);
    let mut latencies = [(); 12].map(|()| Latencies::default());
    for n in 0..ROUNDS * changes.len() as u64 {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
        let start = Instant::now();
        let kind = n as usize % changes.len();
        changes[kind].1();
        await_value(&dict, DONE, 2 * n + 2);
        latencies[kind].add(start);
    }
    waiters.into_iter().for_each(Peer::join);
    for (latencies, (what, _)) in latencies.iter().zip(changes) {
        println!("{what}: {latencies}");
        assert!(latencies.best() < WOKEN, "nobody was woken by {what}");
    }
    check_files(name, stream);
}

/// What changes nothing wakes nobody, in whatever generation.
fn timeouts(name: &str) {
    const LONG: Duration = Duration::from_millis(150);
    watchdog();
    let dict = agreed();
    let stream = create(name);
    stream.set("key", "value").unwrap();
    let wait = |read_only: bool| {
        let stream = Texts::options().read_only(read_only).open(name).unwrap();
        let seen = stream.position().unwrap();
        for timeout in [Duration::ZERO, Duration::from_millis(3), LONG] {
            if timeout == LONG {
                dict.fetch_add(READY, 1).unwrap();
            }
            let start = Instant::now();
            assert_eq!(stream.wait_for_change(seen, timeout).unwrap(), None);
            let took = start.elapsed();
            assert!(took >= timeout && took < PATIENCE, "{took:?}");
        }
        dict.fetch_add(DONE, 1).unwrap();
        let found = stream.wait_for_change(seen, PATIENCE).unwrap();
        assert!(found.is_some_and(|found| found > seen));
        // What was seen long ago is no reason to wait.
        assert!(
            stream
                .wait_for_change(seen, Duration::ZERO)
                .unwrap()
                .is_some()
        );
    };
    let waiters = [false, true].map(|read_only| Peer::fork(|| wait(read_only)));
    await_value(&dict, READY, 2);
    stream.dump().unwrap();
    assert_eq!(stream.get("key").unwrap().as_deref(), Some("value"));
    assert_eq!(stream.remove("absent").unwrap(), None);
    assert!(
        stream
            .compare_exchange("key", Some("other"), None)
            .unwrap()
            .is_err()
    );
    await_value(&dict, DONE, 2);
    stream.set("key", "another").unwrap();
    waiters.into_iter().for_each(Peer::join);
    check_files(name, stream);
}

/// Waiters die in their sleep, and others sleep at the same bell.
fn killed_waiters(name: &str) {
    const ROUNDS: u64 = 40;
    watchdog();
    let dict = agreed();
    let stream = create(name);
    let mut rng = SmallRng::seed_from_u64(13);
    let mut latencies = Latencies::default();
    let wait = || {
        let stream = Texts::open(name).unwrap();
        let seen = stream.position().unwrap();
        dict.fetch_add(READY, 1).unwrap();
        let found = stream.wait_for_change(seen, PATIENCE).unwrap();
        assert!(found.is_some());
        dict.fetch_add(DONE, 1).unwrap();
    };
    for round in 0..ROUNDS {
        let (victims, survivor) = ([(); 2].map(|()| Peer::fork(wait)), Peer::fork(wait));
        let done = dict.load(DONE);
        await_value(&dict, READY, 3 * round + 3);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        victims.into_iter().for_each(Peer::kill);
        let start = Instant::now();
        stream.set("round", &round.to_string()).unwrap();
        await_value(&dict, DONE, done + 1);
        latencies.add(start);
        survivor.join();
        assert_eq!(dict.load(DONE), done + 1);
    }
    assert!(latencies.best() < WOKEN, "{latencies}");
    println!("woken after {latencies}");
    check_files(name, stream);
}
