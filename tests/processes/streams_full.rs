//! Stream dictionaries for which there is too little room.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forkmap::{CreateError, StreamDict, StreamError};
use libtest_mimic::Trial;

use crate::maps::{agreed, meet};
use crate::peer::{Peer, await_value, watchdog};
use crate::resources::{entries, free, on_tmpfs};
use crate::streams::{StreamName, check_files};
use crate::{Role, run, test};

const DONE: u64 = 10;
const GO: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("stream-full", |_| on_tmpfs("size=512k", full)),
    ("stream-to-the-brim", |_| on_tmpfs("size=512k", to_the_brim)),
    ("stream-room-for-one", |_| on_tmpfs("size=8m", room_for_one)),
    ("stream-budget", |args| budget(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_what_finds_no_room_is_an_error_and_harms_nobody",
            || {
                drop(run("stream-full", &[]));
            },
        ),
        test("stream_full_to_the_brim_goes_on_when_there_is_room", || {
            drop(run("stream-to-the-brim", &[]));
        }),
        test(
            "stream_writers_take_turns_where_there_is_room_for_one",
            || {
                drop(run("stream-room-for-one", &[]));
            },
        ),
        test("stream_what_is_over_the_budget_is_an_error", || {
            run("stream-budget", &[&StreamName::new("budget")]);
        }),
    ]
}

type Texts = StreamDict<u64, [u8]>;

fn is_no_space(error: &StreamError) -> bool {
    matches!(error, StreamError::Create(CreateError::NoSpace { .. }))
}

/// Has `n` keys, each with a value of so many bytes.
#[track_caller]
fn check(stream: &Texts, n: u64, bytes: usize) {
    let view = stream.view().unwrap();
    assert_eq!(view.len() as u64, n);
    for (key, entry) in (0..).zip(view.iter()) {
        let (found, value) = entry.unwrap();
        assert_eq!((found, value), (key, &vec![key as u8; bytes]));
    }
}

/// Values that do not fit, by two processes, and smaller ones between them.
fn full(dir: &Path) {
    const ROUNDS: u64 = 20;
    watchdog();
    let dict = agreed();
    let mut options = Texts::options();
    options.dir(dir).log_bytes(4096);
    let stream = options.create("full").unwrap();
    let (files, room) = (entries(dir), free(dir));
    let big = vec![1; 1 << 20];
    let refused = |stream: &Texts, key: u64| {
        let error = stream.set(&key, &big).unwrap_err();
        assert!(is_no_space(&error), "{error}");
        assert_eq!(entries(dir), 2);
        let error = stream.transaction(|tx| {
            tx.set(&500, b"with the big one or not at all")?;
            tx.set(&key, &big)
        });
        assert!(is_no_space(&error.unwrap_err()));
    };
    refused(&stream, 0);
    assert_eq!(
        (entries(dir), free(dir)),
        (files, room),
        "nothing is left over"
    );
    let other = || {
        let stream = options.open("full").unwrap();
        meet(&dict, 2);
        for round in 0..ROUNDS {
            await_value(&dict, GO, round + 1);
            check(&stream, 2 * round + 1, 100);
            refused(&stream, 2 * round + 1);
            stream
                .set(&(2 * round + 1), &[(2 * round + 1) as u8; 100])
                .unwrap();
            dict.store(DONE, round + 1).unwrap();
        }
    };
    let peer = Peer::fork(other);
    meet(&dict, 2);
    for round in 0..ROUNDS {
        check(&stream, 2 * round, 100);
        refused(&stream, 2 * round);
        stream.set(&(2 * round), &[(2 * round) as u8; 100]).unwrap();
        dict.store(GO, round + 1).unwrap();
        await_value(&dict, DONE, round + 1);
        if round % 5 == 0 {
            stream.dump().unwrap();
        }
    }
    peer.join();
    check(&stream, 2 * ROUNDS, 100);
    check(&options.open("full").unwrap(), 2 * ROUNDS, 100);
    stream.dump().unwrap();
    assert_eq!(entries(dir), 2);
    drop(stream);
    options.unlink("full").unwrap();
    assert_eq!(entries(dir), 0);
}

/// Two processes fill the directory until nothing fits; then something else in it goes.
fn to_the_brim(dir: &Path) {
    const BYTES: usize = 1000;
    watchdog();
    let dict = agreed();
    fs::write(dir.join("filler"), vec![1; 200 << 10]).unwrap();
    let mut options = Texts::options();
    options.dir(dir).log_bytes(4096);
    let stream = options.create("brim").unwrap();
    // One after the other, so that the keys are there in order.
    let fill = |stream: &Texts, first: u64| {
        let mut key = first;
        loop {
            match stream.set(&key, &[key as u8; BYTES]) {
                Ok(()) => key += 1,
                Err(error) => {
                    assert!(is_no_space(&error), "{error}");
                    return key;
                }
            }
        }
    };
    let other = || {
        // Not before: who does not look keeps the memory of the generation that it has seen last.
        await_value(&dict, GO, 1);
        let stream = options.open("brim").unwrap();
        let n = dict.load(DONE);
        check(&stream, n, BYTES);
        assert_eq!(fill(&stream, n), n);
        check(&stream, n, BYTES);
        check(&options.open("brim").unwrap(), n, BYTES);
        fs::remove_file(dir.join("filler")).unwrap();
        let more = fill(&stream, n);
        assert!(more > n + 20, "{more} after {n}");
        check(&stream, more, BYTES);
        dict.store(DONE, more).unwrap();
        dict.store(GO, 2).unwrap();
        await_value(&dict, GO, 3);
        check(&stream, 1, BYTES);
    };
    let peer = Peer::fork(other);
    let n = fill(&stream, 0);
    // Not the shortest generation fits: entries, a log of the least length, and what comes with it.
    let (left, least) = (free(dir), n * (BYTES as u64 + 16) + 4096);
    assert!(left < least + (16 << 10), "{left} left, {least} needed");
    dict.store(DONE, n).unwrap();
    dict.store(GO, 1).unwrap();
    await_value(&dict, GO, 2);
    let n = dict.load(DONE);
    check(&stream, n, BYTES);
    // This one has let go of a generation only now.
    let n = fill(&stream, n);
    check(&stream, n, BYTES);
    // More room, for what removes takes some too.
    fs::write(dir.join("filler"), b"").unwrap();
    let flags = nix::mount::MsFlags::MS_REMOUNT;
    nix::mount::mount(None::<&str>, dir, None::<&str>, flags, Some("size=2m")).unwrap();
    for key in 1..n {
        assert_eq!(stream.remove(&key).unwrap(), Some(vec![key as u8; BYTES]));
    }
    stream.dump().unwrap();
    stream.dump().unwrap();
    // What the other one has seen last is its own to keep, until it looks.
    dict.store(GO, 3).unwrap();
    peer.join();
    assert_eq!(entries(dir), 3);
    drop(stream);
    options.unlink("brim").unwrap();
    fs::remove_file(dir.join("filler")).unwrap();
    assert_eq!(
        (entries(dir), free(dir)),
        (0, 2 << 20),
        "nothing is left over"
    );
}

/// There is room for the generation that is there and for one more: of several that are about to begin the next
/// one, the others find none, and that is no error.
fn room_for_one(dir: &Path) {
    const EACH: u64 = 40;
    /// A little less than who finds no room waits at least.
    const A_WHILE: Duration = Duration::from_millis(45);
    watchdog();
    let dict = agreed();
    let mut options = Texts::options();
    options.dir(dir).log_bytes(4096);
    let stream = options.create("one").unwrap();
    let change = |key: u64| {
        // (It is for who looks on that the memory of generations is kept.)
        let stream = options.open("one").unwrap();
        meet(&dict, 3);
        for n in 0..EACH {
            loop {
                let start = Instant::now();
                let Err(error) = stream.set(&key, &vec![n as u8; 1 << 20]) else {
                    break;
                };
                assert!(is_no_space(&error), "{error}");
                // Nobody got anywhere for a while: that can be, on a machine that is very busy.
                assert!(start.elapsed() > A_WHILE, "refused at once");
            }
        }
    };
    drop(stream);
    let peers = [0, 1].map(|key| Peer::fork(move || change(key)));
    change(0);
    peers.into_iter().for_each(Peer::join);
    let stream = options.open("one").unwrap();
    assert_eq!(stream.len().unwrap(), 2);
    assert!(stream.status().unwrap().dumps > EACH / 2);
    options.unlink("one").unwrap();
    assert_eq!(entries(dir), 0);
}

/// The same with less than there is.
fn budget(name: &str) {
    const BUDGET: u64 = 256 << 10;
    watchdog();
    let dict = agreed();
    let mut options = Texts::options();
    let stream = options.log_bytes(4096).budget(BUDGET).create(name).unwrap();
    let big = vec![1; BUDGET as usize];
    let refused = |stream: &Texts, key: u64| match stream.set(&key, &big) {
        Err(StreamError::OverBudget { need, budget }) => {
            assert!(need > BUDGET && budget == BUDGET);
            assert_eq!(crate::streams::files(name).len(), 2);
        }
        other => panic!("{other:?}"),
    };
    let other = || {
        // The budget is the dictionary's, whatever who opens it says.
        let stream = Texts::options().budget(1 << 40).open(name).unwrap();
        meet(&dict, 2);
        refused(&stream, 0);
        stream.set(&0, &[0; 100]).unwrap();
        await_value(&dict, GO, 1);
        check(&stream, dict.load(DONE), 100);
    };
    let peer = Peer::fork(other);
    meet(&dict, 2);
    refused(&stream, 0);
    while stream.is_empty().unwrap() {
        std::thread::yield_now();
    }
    let (mut n, mut last) = (1, stream.status().unwrap());
    let (need, budget) = loop {
        match stream.set(&n, &[n as u8; 100]) {
            Ok(()) => n += 1,
            Err(StreamError::OverBudget { need, budget }) => break (need, budget),
            Err(error) => panic!("{error}"),
        }
        let status = stream.status().unwrap();
        assert!(status.memory <= BUDGET && status.budget == BUDGET);
        // While one generation follows another both count.
        let both = last.memory + status.memory - stream.bytes();
        assert!(status.dumps == last.dumps || both <= BUDGET, "{both}");
        last = status;
    };
    assert!(need > budget && budget == BUDGET && n > 200, "{n}");
    check(&stream, n, 100);
    dict.store(DONE, n).unwrap();
    dict.store(GO, 1).unwrap();
    peer.join();
    check(&Texts::open(name).unwrap(), n, 100);
    // What makes room finds some.
    stream.clear().unwrap();
    stream.set(&0, &[0; 100]).unwrap();
    check(&stream, 1, 100);
    check_files(name, stream);
}
