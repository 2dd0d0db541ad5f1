//! Stream dictionaries that are read while they change: what a reader may see, and what following costs.

use std::fs;
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, StreamDict, StreamError};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::maps::{agreed, end, is_over, meet, scaled};
use crate::peer::{Peer, await_value, step, watchdog};
use crate::streams::{Numbers, StreamName, check_files};
use crate::{Role, run, test};

/// The latest number that the writer is about to write, and the latest that it has written.
const BEGUN: u64 = 20;
const WRITTEN: u64 = 21;
/// How many readers have seen the latest generation, over all of them.
const SEEN: u64 = 22;
const READS: u64 = 23;
/// What one is told who has slept.
const WAKE: u64 = 24;

pub(crate) const ROLES: &[Role] = &[
    ("stream-read", |args| read(&args[0])),
    ("stream-loads", |args| loads(&args[0])),
    ("stream-leaks", |args| leaks(&args[0])),
    ("stream-status", |args| status(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("stream_readers_see_whole_changes_and_never_go_back", || {
            print!("{}", run("stream-read", &[&StreamName::new("read")]));
        }),
        test("stream_who_reads_on_loads_no_dump", || {
            run("stream-loads", &[&StreamName::new("loads")]);
        }),
        test(
            "stream_generations_leak_no_descriptor_and_no_mapping",
            || {
                run("stream-leaks", &[&StreamName::new("leaks")]);
            },
        ),
        test("stream_status_tells_who_lags", || {
            run("stream-status", &[&StreamName::new("status")]);
        }),
    ]
}

type Texts = StreamDict<str, u64>;

/// Two keys that are changed together, or removed, beside a number that only grows.
fn read(name: &str) {
    const READERS: u64 = 3;
    let some_time = Duration::from_secs(2);
    watchdog();
    let dict = agreed();
    let mut options = Texts::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    stream.set("seq", &0).unwrap();
    let write = || {
        meet(&dict, READERS + 1);
        let start = Instant::now();
        let mut n = 0;
        while start.elapsed() < some_time {
            n += 1;
            dict.store(BEGUN, n).unwrap();
            let change = stream.transaction(|tx| {
                for key in ["tmp-a", "tmp-b"] {
                    match n % 3 {
                        0 => assert!(tx.remove(key)?),
                        _ => tx.set(key, &n)?,
                    }
                }
                tx.set("seq", &n)
            });
            change.unwrap_or_else(|error: StreamError| panic!("{error}"));
            dict.store(WRITTEN, n).unwrap();
            if n % 2 == 0 {
                stream.set(&format!("key {}", n % 64), &n).unwrap();
            } else {
                stream.remove(&format!("key {}", (n + 31) % 64)).unwrap();
            }
        }
        end(&dict);
        assert_eq!(stream.status().unwrap().loads, 0);
    };
    let look = |stream: &Texts, latest: &mut u64| {
        let written = dict.load(WRITTEN);
        let view = stream.view().unwrap();
        let begun = dict.load(BEGUN);
        let n = *view.get("seq").unwrap().unwrap();
        assert!(n >= *latest, "{n} after {latest}");
        assert!(
            (written..=begun).contains(&n),
            "{n} not in {written}..={begun}"
        );
        *latest = n;
        let pair = ["tmp-a", "tmp-b"].map(|key| view.get(key).unwrap().copied());
        let expected = (n % 3 != 0).then_some(n);
        assert_eq!(pair, [expected; 2], "at {n}");
        let position = view.position();
        drop(view);
        let (before, seq) = (dict.load(WRITTEN), stream.get("seq").unwrap().unwrap());
        let after = dict.load(BEGUN);
        assert!((before.max(n)..=after).contains(&seq), "{seq} at {n}");
        *latest = seq;
        assert!(stream.position().unwrap() >= position);
        dict.fetch_add(READS, 1).unwrap();
    };
    let follow = || {
        let (stream, mut latest) = (Texts::open(name).unwrap(), 0);
        meet(&dict, READERS + 1);
        while !is_over(&dict) {
            (0..64).for_each(|_| look(&stream, &mut latest));
        }
    };
    let newcomers = || {
        let mut latest = 0;
        meet(&dict, READERS + 1);
        while !is_over(&dict) {
            let stream = Texts::open(name).unwrap();
            assert!(stream.status().unwrap().loads >= 1);
            look(&stream, &mut latest);
        }
    };
    let readers = [
        Peer::fork(follow),
        Peer::fork(follow),
        Peer::fork(newcomers),
    ];
    Peer::fork(write).join();
    readers.into_iter().for_each(Peer::join);
    let (dumps, reads) = (stream.status().unwrap().dumps, dict.load(READS));
    assert!(dumps >= 10 && reads >= 100, "{dumps} dumps, {reads} reads");
    println!(
        "{} changes, {dumps} dumps, {reads} reads",
        dict.load(WRITTEN)
    );
    check_files(name, stream);
}

/// Begins a generation as soon as it has written, by itself or because the log is full.
fn next_generation(stream: &Numbers, n: u64) {
    stream.set(&0, &n).unwrap();
    if n % 2 == 0 {
        stream.dump().unwrap();
        return;
    }
    let before = stream.status().unwrap().dumps;
    while stream.status().unwrap().dumps == before {
        stream
            .fetch_update(&1, |old| Some(old.map_or(1, |old| old + 1)))
            .unwrap();
    }
}

/// Followers that look once in each generation, and one that sleeps over many.
fn loads(name: &str) {
    let generations = scaled(500);
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    stream.set(&0, &0).unwrap();
    let follow = |stream: &Numbers, loads: u64| {
        meet(&dict, 4);
        for n in 1..=generations {
            await_value(&dict, WRITTEN, n);
            assert_eq!(stream.get(&0).unwrap(), Some(n));
            let status = stream.status().unwrap();
            assert_eq!((status.dumps, status.loads), (n, loads));
            dict.fetch_add(SEEN, 1).unwrap();
        }
    };
    let sleep = || {
        let stream = Numbers::open(name).unwrap();
        assert_eq!(stream.get(&0).unwrap(), Some(0));
        meet(&dict, 4);
        await_value(&dict, WAKE, 1);
        assert_eq!(stream.get(&0).unwrap(), Some(generations));
        assert_eq!(stream.status().unwrap().loads, 2);
        dict.fetch_add(SEEN, 1).unwrap();
        await_value(&dict, WAKE, 2);
        assert_eq!(stream.get(&0).unwrap(), Some(generations + 1));
        assert_eq!(stream.status().unwrap().loads, 2, "slept over one switch");
        dict.fetch_add(SEEN, 1).unwrap();
        await_value(&dict, WAKE, 3);
        assert_eq!(stream.get(&0).unwrap(), Some(generations + 3));
        assert_eq!(stream.status().unwrap().loads, 3, "slept over two switches");
    };
    let peers = [
        Peer::fork(|| follow(&stream, 0)),
        Peer::fork(|| follow(&Numbers::open(name).unwrap(), 1)),
        Peer::fork(sleep),
    ];
    meet(&dict, 4);
    for n in 1..=generations {
        next_generation(&stream, n);
        dict.store(WRITTEN, n).unwrap();
        await_value(&dict, SEEN, 2 * n);
    }
    dict.store(WAKE, 1).unwrap();
    await_value(&dict, SEEN, 2 * generations + 1);
    next_generation(&stream, generations + 1);
    dict.store(WAKE, 2).unwrap();
    await_value(&dict, SEEN, 2 * generations + 2);
    next_generation(&stream, generations + 2);
    next_generation(&stream, generations + 3);
    dict.store(WAKE, 3).unwrap();
    peers.into_iter().for_each(Peer::join);
    assert_eq!(stream.status().unwrap().loads, 0);
    check_files(name, stream);
}

/// Descriptors, mappings, and of these the ones of segments with names.
fn resources() -> [usize; 3] {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let own = maps
        .lines()
        .filter(|line| line.contains(" /dev/shm/"))
        .count();
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    [descriptors, maps.lines().count(), own]
}

/// The same number of each in the writer and in those who follow, after many generations.
fn leaks(name: &str) {
    const GENERATIONS: u64 = 200;
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    let check = |stream: &Numbers, before: &mut Option<[usize; 3]>, n: u64| {
        assert_eq!(stream.get(&0).unwrap(), Some(n));
        // Once everything is there that comes by itself.
        if n == 10 {
            *before = Some(resources());
        }
        if let (Some(before), 0) = (&before, n % 50) {
            let after = resources();
            assert_eq!([after[0], after[2]], [before[0], before[2]], "at {n}");
            // (The allocator has a few of its own.)
            assert!(after[1] <= before[1] + 4, "{after:?} after {before:?}");
        }
    };
    let follow = |read_only: bool| {
        let stream = Numbers::options().read_only(read_only).open(name).unwrap();
        let mut before = None;
        for n in 1..=GENERATIONS {
            await_value(&dict, WRITTEN, n);
            check(&stream, &mut before, n);
            dict.fetch_add(SEEN, 1).unwrap();
        }
    };
    let followers = [false, true].map(|read_only| Peer::fork(|| follow(read_only)));
    let mut before = None;
    for n in 1..=GENERATIONS {
        next_generation(&stream, n);
        check(&stream, &mut before, n);
        dict.store(WRITTEN, n).unwrap();
        await_value(&dict, SEEN, 2 * n);
    }
    followers.into_iter().for_each(Peer::join);
    check_files(name, stream);
}

/// Positions by process id, one of which is stopped for a while.
fn status(name: &str) {
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    stream.set(&0, &0).unwrap();
    let follow = || {
        let stream = Numbers::open(name).unwrap();
        dict.fetch_add(SEEN, 1).unwrap();
        while !is_over(&dict) {
            let position = stream.position().unwrap();
            let _ = stream
                .wait_for_change(position, Duration::from_millis(20))
                .unwrap();
        }
    };
    let readers = [Peer::fork(follow), Peer::fork(follow)];
    let stepper = AtomicDict::anonymous(100).unwrap();
    let late = Peer::fork(|| {
        // One with the handle of its parent is a process of its own as soon as it looks.
        assert_eq!(stream.get(&0).unwrap(), Some(0));
        step(&stepper, 1);
        assert!(stream.get(&0).unwrap() >= Some(1));
        step(&stepper, 2);
    });
    await_value(&dict, SEEN, 2);
    await_value(&stepper, crate::peer::STEP, 1);
    let told = |pid: u32| {
        let told = stream.status().unwrap().participants;
        let mut own = told.into_iter().filter(|one| one.pid == pid);
        let one = own.next().expect("it takes part");
        assert!(own.next().is_none());
        one
    };
    let reached = |pid: u32| {
        let here = stream.position().unwrap();
        let start = Instant::now();
        while told(pid).position < here {
            assert!(
                start.elapsed() < crate::peer::PATIENCE,
                "{pid} does not come"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let me = std::process::id();
    readers.iter().for_each(|reader| reached(reader.pid()));
    readers[0].stop();
    let before = told(readers[0].pid()).position;
    let late_before = told(late.pid()).position;
    for n in 1..=20 {
        next_generation(&stream, n);
    }
    reached(readers[1].pid());
    reached(me);
    for (pid, position) in [(readers[0].pid(), before), (late.pid(), late_before)] {
        let lags = told(pid);
        assert!(lags.is_alive);
        assert_eq!(
            lags.position, position,
            "one that does not look stays where it is"
        );
        assert!(lags.position.generation + 20 <= told(me).position.generation);
    }
    readers[0].signal(Signal::SIGCONT);
    crate::peer::go_on(&stepper, 1);
    reached(readers[0].pid());
    await_value(&stepper, crate::peer::STEP, 2);
    reached(late.pid());
    assert_eq!(stream.status().unwrap().participants.len(), 4);
    crate::peer::go_on(&stepper, 2);
    late.join();
    // The dead are told apart, or are not in it any more.
    let dead = readers[1].pid();
    readers[1].kill_only();
    let told = stream.status().unwrap().participants;
    assert!(
        !told.iter().any(|one| one.pid == dead && one.is_alive),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|one| one.pid == readers[0].pid() && one.is_alive)
    );
    end(&dict);
    let [alive, killed] = readers;
    alive.join();
    killed.killed();
    check_files(name, stream);
}
