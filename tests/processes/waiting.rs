//! Waiting for values that other processes change.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, Entry};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::peer::{Latencies, PATIENCE, Peer, await_value, watchdog};
use crate::{Role, run, test};

const PING: u64 = 1;
const PONG: u64 = 2;
const READY: u64 = 3;
const DONE: u64 = 4;
/// How many answers took up to 2^n microseconds.
const BUCKETS: u64 = 100;

/// Far below what a sleeper waits when nobody wakes it, which is 50 ms.
const WOKEN: Duration = Duration::from_millis(20);

pub(crate) const ROLES: &[Role] = &[
    ("ping-pong", |_| ping_pong()),
    ("asleep", |_| asleep()),
    ("every-operation", |_| every_operation()),
    ("wait-variants", |args| variants(&args[0])),
    ("stopped-waiter", |_| stopped_waiter()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_hundred_thousand_rounds_survive_killed_waiters", || {
            print!("{}", run("ping-pong", &[]));
        }),
        test("a_change_wakes_a_sleeper_in_another_process", || {
            print!("{}", run("asleep", &[]));
        }),
        test("every_operation_wakes_who_waits_for_it", || {
            print!("{}", run("every-operation", &[]));
        }),
        test("free_keys_timeouts_and_readers_can_be_waited_with", || {
            let name = Name::new("waiting");
            run("wait-variants", &[&name]);
        }),
        test("a_stopped_waiter_goes_on_with_what_is_there", || {
            run("stopped-waiter", &[]);
        }),
        test("who_waits_for_a_key_with_a_slot_awaits_no_new_key", || {
            waiting_is_told_where_it_matters();
        }),
    ]
}

/// A producer and a consumer, which is killed every few milliseconds. All that the next one needs is
/// in two words.
fn ping_pong() {
    const ROUNDS: u64 = 100_000;
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let producer = Peer::fork(|| {
        for round in 1..=ROUNDS {
            let start = Instant::now();
            dict.store(PING, round).unwrap();
            let pong = dict.wait_while_timeout(PONG, round - 1, PATIENCE);
            assert_eq!(pong, Some(round));
            let micros = start.elapsed().as_micros() as u64;
            let bucket = u64::BITS - micros.leading_zeros();
            dict.fetch_add(BUCKETS + u64::from(bucket), 1).unwrap();
        }
    });
    let consume = || {
        for round in dict.load(PONG) + 1.. {
            assert_eq!(dict.wait_while(PING, round - 1), round);
            dict.store(PONG, round).unwrap();
        }
    };
    let mut rng = SmallRng::seed_from_u64(11);
    let mut kills = 0;
    while !producer.has_ended() {
        let consumer = Peer::fork(consume);
        std::thread::sleep(Duration::from_micros(rng.random_range(1000..8000)));
        consumer.kill();
        kills += 1;
    }
    producer.join();
    assert_eq!((dict.load(PING), dict.load(PONG)), (ROUNDS, ROUNDS));
    println!("{ROUNDS} rounds, {kills} kills:");
    for bucket in 0..u64::from(u64::BITS) {
        let count = dict.load(BUCKETS + bucket);
        if count > 0 {
            println!("  below {:>8} us: {count}", 1u64 << bucket);
        }
    }
}

/// Changes that come when the other side surely sleeps: at one key, then each at a new one.
fn asleep() {
    const ROUNDS: u64 = 200;
    const NEW: u64 = 1000;
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let old_and_new = [|round| (PING, round), |round| (NEW + round, 1)];
    for (of, change) in ["old keys", "new keys"].iter().zip(old_and_new) {
        dict.store(PONG, 0).unwrap();
        let peer = Peer::fork(|| {
            for round in 1..=ROUNDS {
                let (key, value) = change(round);
                await_value(&dict, key, value);
                dict.store(PONG, round).unwrap();
            }
        });
        let mut latencies = Latencies::default();
        for round in 1..=ROUNDS {
            std::thread::sleep(Duration::from_millis(2));
            let (key, value) = change(round);
            let start = Instant::now();
            dict.store(key, value).unwrap();
            await_value(&dict, PONG, round);
            latencies.add(start);
        }
        peer.join();
        println!("there and back, {of}: {latencies}");
        // Without wake-ups it would be some 50 ms.
        assert!(latencies.best() < WOKEN, "sleepers are not woken");
    }
}

/// An operation that changes 1 into something else.
type Change<T> = (&'static str, fn(&T));

/// What an operation returns is not what this is about.
fn done<T>(_: T) {}

macro_rules! changes {
    ($of:ty, $key:tt: $($name:ident($($arg:expr),*))*) => {
        [$((stringify!($name), (|of| changes!(@ of, $key, $name, $($arg),*)) as fn(&$of))),*]
    };
    (@ $of:ident, by_key, $name:ident, $($arg:expr),*) => { done($of.$name(PING, $($arg),*).unwrap()) };
    (@ $of:ident, by_entry, $name:ident, $($arg:expr),*) => { done($of.$name($($arg),*)) };
}

/// Each of them, while another process sleeps until the value is not 1 any more.
fn every_operation() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let (entry, signed) = (dict.entry(PING).unwrap(), dict.cast::<i64>());
    let signed_entry = signed.entry(PING).unwrap();
    let _: (&Entry, &Entry<i64>) = (&entry, &signed_entry);
    let by_key = changes! { AtomicDict, by_key:
        store(5) swap(5) compare_exchange(1, 5) fetch_update(|n| Some(n + 1))
        fetch_add(1) fetch_sub(1) fetch_and(2) fetch_or(2) fetch_xor(3) fetch_min(0) fetch_max(2)
        fetch_add_bounded(1, 9) fetch_sub_bounded(1, 0)
    };
    let by_entry = changes! { Entry, by_entry:
        store(5) swap(5) compare_exchange(1, 5) fetch_update(|n| Some(n + 1))
        fetch_add(1) fetch_sub(1) fetch_and(2) fetch_or(2) fetch_xor(3) fetch_min(0) fetch_max(2)
        fetch_add_bounded(1, 9) fetch_sub_bounded(1, 0)
    };
    let signed_by_key = changes! { AtomicDict<i64>, by_key:
        store(-5) swap(-5) compare_exchange(1, -5) fetch_update(|n| Some(n - 3))
        fetch_add(-1) fetch_sub(5) fetch_min(-1) fetch_max(2)
        fetch_add_bounded(1, 9) fetch_sub_bounded(2, -1)
    };
    let signed_by_entry = changes! { Entry<i64>, by_entry:
        store(-5) swap(-5) compare_exchange(1, -5) fetch_update(|n| Some(n - 3))
        fetch_add(-1) fetch_sub(5) fetch_min(-1) fetch_max(2)
        fetch_add_bounded(1, 9) fetch_sub_bounded(2, -1)
    };
    let waiter = Peer::fork(|| {
        for round in 1.. {
            while dict.load(READY) < round {
                std::thread::sleep(Duration::from_micros(100));
            }
            dict.store(DONE, 2 * round - 1).unwrap();
            dict.wait_while_timeout(PING, 1, PATIENCE).unwrap();
            dict.store(DONE, 2 * round).unwrap();
        }
    });
    let mut wake = Wake {
        dict: &dict,
        rounds: 0,
        latencies: Latencies::default(),
    };
    by_key.iter().for_each(|change| wake.by(change, &dict));
    by_entry.iter().for_each(|change| wake.by(change, &entry));
    signed_by_key
        .iter()
        .for_each(|change| wake.by(change, &signed));
    let last = |change| wake.by(change, &signed_entry);
    signed_by_entry.iter().for_each(last);
    waiter.kill();
    println!("{}", wake.latencies);
}

struct Wake<'a> {
    dict: &'a AtomicDict,
    rounds: u64,
    latencies: Latencies,
}

impl Wake<'_> {
    /// Polled, so that no flag of the test's own is up.
    fn await_done(&self, done: u64) {
        let patience = Instant::now() + PATIENCE;
        while self.dict.load(DONE) < done {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// A waiter that nobody wakes looks at 50 ms after it fell asleep, and the change comes some
    /// milliseconds after that. A few times, because the machine may be busy with something else.
    fn by<T>(&mut self, (name, change): &Change<T>, of: &T) {
        const ENOUGH: u32 = 3;
        let mut quick = 0;
        for _ in 0..30 {
            self.rounds += 1;
            self.dict.store(PING, 1).unwrap();
            self.dict.store(READY, self.rounds).unwrap();
            self.await_done(2 * self.rounds - 1);
            std::thread::sleep(Duration::from_millis(3));
            let start = Instant::now();
            change(of);
            assert_ne!(self.dict.load(PING), 1, "{name} changes nothing");
            self.await_done(2 * self.rounds);
            self.latencies.add(start);
            quick += u32::from(start.elapsed() < WOKEN);
            if quick == ENOUGH {
                return;
            }
        }
        panic!("{name} of {} wakes nobody", std::any::type_name::<T>());
    }
}

fn variants(name: &str) {
    watchdog();
    let dict = AtomicDict::create(name, 2000).unwrap();
    let short = Duration::from_millis(120);
    let not_early = |wait: &dyn Fn() -> Option<u64>| {
        let start = Instant::now();
        assert_eq!(wait(), None);
        assert!(start.elapsed() >= short);
    };
    // A key without a slot has the value 0, and gets none by waiting.
    not_early(&|| dict.wait_while_timeout(PING, 0, short));
    not_early(&|| dict.wait_until_timeout(PING, |n| n == 1, short));
    assert_eq!(dict.wait_while(PING, 7), 0);
    assert!(dict.is_empty());
    let waits = |wait: &dyn Fn(&AtomicDict) -> u64| {
        dict.store(READY, 0).unwrap();
        let peer = Peer::fork(|| {
            dict.store(READY, 1).unwrap();
            assert_eq!(wait(&dict), 5);
        });
        await_value(&dict, READY, 1);
        std::thread::sleep(Duration::from_millis(5));
        peer
    };
    let first = 10;
    let unused = waits(&|dict| dict.wait_while(first, 0));
    assert!(!dict.contains_key(first));
    dict.store(first, 5).unwrap();
    unused.join();
    // With what was there before the fork, and with an entry.
    let entry = dict.entry(first + 1).unwrap();
    not_early(&|| entry.wait_while_timeout(0, short));
    not_early(&|| entry.wait_until_timeout(|n| n > 0, short));
    let inherited = waits(&|_| entry.wait_until(|n| n == 5));
    (3..=5).for_each(|n| entry.store(n));
    inherited.join();
    let inherited = waits(&|_| entry.wait_while(5) + 1);
    entry.store(4);
    inherited.join();
    // And across two forks, by who waits already when its parent is gone from the wait.
    let generations = waits(&|dict| {
        Peer::fork(|| assert_eq!(dict.wait_while_timeout(first + 2, 0, PATIENCE), Some(5))).join();
        dict.wait_while(first + 2, 0)
    });
    dict.store(first + 2, 5).unwrap();
    generations.join();
    // A reader cannot tell anybody that it waits: it looks by itself.
    let reader = waits(&|_| {
        let reader = AtomicDict::options().read_only(true).open(name).unwrap();
        assert_eq!(reader.wait_while_timeout(first + 3, 0, short), None);
        reader
            .wait_until_timeout(first + 3, |n| n == 5, PATIENCE)
            .unwrap()
    });
    std::thread::sleep(2 * short);
    dict.store(first + 3, 5).unwrap();
    reader.join();
    // Several at once, at one key and at many.
    let many: Vec<_> = (0..8)
        .map(|n| waits(&move |dict| dict.wait_while(first + 4 + n % 2, 0)))
        .collect();
    dict.store(first + 4, 5).unwrap();
    dict.store(first + 5, 5).unwrap();
    many.into_iter().for_each(Peer::join);
}

fn stopped_waiter() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    for round in 1..=20 {
        let peer = Peer::fork(|| {
            dict.store(READY, round).unwrap();
            let value = dict.wait_until(PING, |n| n >= round);
            assert_eq!(value, round);
            dict.store(DONE, round).unwrap();
        });
        await_value(&dict, READY, round);
        std::thread::sleep(Duration::from_millis(round % 4));
        peer.stop();
        dict.store(PING, round).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(dict.load(DONE), round - 1);
        peer.signal(Signal::SIGCONT);
        await_value(&dict, DONE, round);
        peer.join();
    }
}

/// A key that gets a slot is a system call more for who gives it one, if somebody waits for that.
fn waiting_is_told_where_it_matters() {
    /// The flag of those who wait for a key to get a slot: behind the header and the 64 bells of the
    /// values, two words each.
    const NEW_KEY_WAITING: u64 = 256 + 64 * 2 * 8;
    let dict = AtomicDict::anonymous(100).unwrap();
    let file = File::from(dict.as_fd().try_clone_to_owned().unwrap());
    let waiting = || {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, NEW_KEY_WAITING).unwrap();
        u64::from_ne_bytes(word)
    };
    let short = Duration::from_millis(1);
    dict.store(1, 1).unwrap();
    assert_eq!(dict.wait_while_timeout(1, 1, short), None);
    assert_eq!(waiting(), 0);
    assert_eq!(dict.wait_while_timeout(2, 0, short), None);
    assert_eq!(waiting(), 1, "not the flag that this test is about");
}
