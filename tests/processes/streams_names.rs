//! Stream dictionaries that come and go by name: many who create one at once, and unlinking under others.

use std::time::Duration;

use forkmap::{AtomicDict, OpenError, StreamError, UnlinkError};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::{agreed, end, is_over, meet, scaled};
use crate::peer::{Peer, await_value, watchdog};
use crate::streams::{Numbers, StreamName, files};
use crate::{Role, run, test};

const DONE: u64 = 10;
const FAILED: u64 = 11;
/// The number of the generation that all have, once they are told to go on.
const GO: u64 = 12;
/// What each writer was told to have written.
const TOLD: u64 = 100;

pub(crate) const ROLES: &[Role] = &[
    ("stream-boot", |args| boot(&args[0])),
    ("stream-boot-and-unlink", |args| boot_and_unlink(&args[0])),
    ("stream-unlinked", |args| unlinked(&args[0])),
    ("stream-unlinked-while-written", |args| {
        unlinked_while_written(&args[0])
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("stream_eight_that_open_or_create_at_once_share_one", || {
            run("stream-boot", &[&StreamName::new("boot")]);
        }),
        test(
            "stream_opening_or_creating_among_unlinkers_never_fails",
            || {
                print!(
                    "{}",
                    run("stream-boot-and-unlink", &[&StreamName::new("boot-unlink")])
                );
            },
        ),
        test(
            "stream_who_has_an_unlinked_one_reads_on_and_is_told",
            || {
                run("stream-unlinked", &[&StreamName::new("unlinked")]);
            },
        ),
        test("stream_unlinked_among_writers_leaves_nothing", || {
            print!(
                "{}",
                run(
                    "stream-unlinked-while-written",
                    &[&StreamName::new("unlinked-written")]
                )
            );
        }),
    ]
}

/// Again and again under one name, which is free in between.
fn boot(name: &str) {
    const PEERS: u64 = 8;
    let rounds = scaled(500);
    watchdog();
    let dict = agreed();
    let join = |me: u64| {
        for round in 0..rounds {
            let met = |n: u64| meet(&dict, PEERS * (4 * round + n));
            met(1);
            let mut options = Numbers::options();
            let stream = options.log_bytes(1024).open_or_create(name).unwrap();
            assert_eq!(
                stream.insert(&me, &round).unwrap(),
                None,
                "that of another round"
            );
            met(2);
            assert_eq!(stream.len().unwrap() as u64, PEERS);
            let view = stream.view().unwrap();
            assert!((0..PEERS).all(|peer| view.get(&peer).unwrap() == Some(&round)));
            drop(view);
            met(3);
            if me == round % PEERS {
                assert_eq!(files(name).len(), 2);
                Numbers::unlink(name).unwrap();
                assert_eq!(files(name).len(), 0, "{:?}", files(name));
            }
            met(4);
        }
    };
    let peers: Vec<_> = (0..PEERS).map(|me| Peer::fork(|| join(me))).collect();
    peers.into_iter().for_each(Peer::join);
    assert_eq!(Numbers::gc("/dev/shm", name).unwrap(), 0);
}

/// Who opens or creates always gets one; who only opens gets one or finds none.
fn boot_and_unlink(name: &str) {
    const PEERS: u64 = 8;
    let rounds = scaled(1000);
    watchdog();
    let dict = agreed();
    let use_it = |stream: &Numbers, me: u64| {
        for n in 0..5 {
            match stream.set(&me, &n) {
                Ok(()) => {}
                Err(StreamError::Unlinked) => return,
                Err(error) => panic!("{error}"),
            }
            match stream.get(&me) {
                Ok(found) => assert_eq!(found, Some(n)),
                // Others have gone on in a generation that nobody finds any more.
                Err(StreamError::Unlinked) => return,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let join = |me: u64| {
        let mut options = Numbers::options();
        options.log_bytes(128);
        meet(&dict, PEERS);
        for round in 0..rounds {
            use_it(&options.open_or_create(name).unwrap(), me);
            if round % 8 == me {
                use_it(&options.create_or_replace(name).unwrap(), me);
            }
        }
        dict.fetch_add(DONE, 1).unwrap();
    };
    let open = |me: u64| {
        meet(&dict, PEERS);
        while !is_over(&dict) {
            match Numbers::open(name) {
                Ok(stream) => use_it(&stream, me),
                Err(OpenError::NotFound { .. }) => _ = dict.fetch_add(FAILED, 1).unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let unlink = |_| {
        meet(&dict, PEERS);
        while !is_over(&dict) {
            match Numbers::unlink(name) {
                Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            std::thread::yield_now();
        }
    };
    let joiners: Vec<_> = (0..4).map(|me| Peer::fork(|| join(me))).collect();
    let openers: Vec<_> = (4..6).map(|me| Peer::fork(|| open(me))).collect();
    let unlinkers: Vec<_> = (6..8).map(|me| Peer::fork(|| unlink(me))).collect();
    joiners.into_iter().for_each(Peer::join);
    end(&dict);
    openers.into_iter().chain(unlinkers).for_each(Peer::join);
    assert_eq!(dict.load(DONE), 4);
    match Numbers::unlink(name) {
        Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let forsaken = Numbers::gc("/dev/shm", name).unwrap();
    assert_eq!(files(name), Vec::<String>::new());
    let failed = dict.load(FAILED);
    println!(
        "{} rounds, {failed} found none, {forsaken} forsaken",
        4 * rounds
    );
}

/// One that writes, one that reads and one that may only read have it while it is unlinked.
fn unlinked(name: &str) {
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    for n in 0..100 {
        stream.set(&(n % 10), &n).unwrap();
    }
    let all = |stream: &Numbers, last: u64| {
        let view = stream.view().unwrap();
        assert_eq!(view.len(), 11);
        assert!((0..10).all(|n| view.get(&n).unwrap() == Some(&(90 + n))));
        assert_eq!(view.get(&50).unwrap(), Some(&last));
    };
    let read = |read_only: bool| {
        let stream = Numbers::options().read_only(read_only).open(name).unwrap();
        all(&stream, 0);
        meet(&dict, 2);
        await_value(&dict, GO, 1);
        // As far as the writer has come.
        all(&stream, dict.load(TOLD));
        if !read_only {
            assert!(matches!(
                write_on(&stream, 51, 10_000),
                (_, Some(StreamError::Unlinked))
            ));
            assert!(matches!(stream.dump(), Err(StreamError::Unlinked)));
        }
        dict.fetch_add(DONE, 1).unwrap();
        await_value(&dict, GO, 2);
        let view = stream.view().unwrap();
        assert_eq!(view.get(&50).unwrap(), Some(&dict.load(TOLD)));
        assert_eq!(view.get(&7777).unwrap(), None, "that of another one");
    };
    stream.set(&50, &0).unwrap();
    let readers = [false, true].map(|read_only| Peer::fork(|| read(read_only)));
    await_value(&dict, 1, 2);
    Numbers::unlink(name).unwrap();
    assert_eq!(files(name), Vec::<String>::new());
    assert!(matches!(
        Numbers::open(name),
        Err(OpenError::NotFound { .. })
    ));
    let (written, error) = write_on(&stream, 50, 10_000);
    assert!(matches!(error, Some(StreamError::Unlinked)), "{error:?}");
    // Fewer than fit into a log.
    assert!((1..1024 / 40).contains(&written), "{written}");
    dict.store(TOLD, written).unwrap();
    dict.store(GO, 1).unwrap();
    await_value(&dict, DONE, 2);
    assert_eq!(files(name), Vec::<String>::new());
    let new = Numbers::create(name).unwrap();
    assert!(new.is_empty().unwrap());
    new.set(&7777, &1).unwrap();
    new.dump().unwrap();
    assert_eq!(files(name).len(), 2);
    dict.store(GO, 2).unwrap();
    readers.into_iter().for_each(Peer::join);
    assert!(matches!(stream.set(&50, &0), Err(StreamError::Unlinked)));
    all(&stream, written);
    drop(stream);
    assert_eq!(
        (files(name).len(), new.len().unwrap()),
        (2, 1),
        "the old one has gone alone"
    );
    assert_eq!(Numbers::open(name).unwrap().get(&7777).unwrap(), Some(1));
    Numbers::unlink(name).unwrap();
    assert_eq!(files(name), Vec::<String>::new());
}

/// Sets a key to 1, 2 and so on until that fails, or often enough: the last number that was written, and
/// why it ended.
pub(crate) fn write_on(stream: &Numbers, key: u64, most: u64) -> (u64, Option<StreamError>) {
    for n in 1..=most {
        if let Err(error) = stream.set(&key, &n) {
            return (n - 1, Some(error));
        }
    }
    (most, None)
}

/// At a random instant, while writers switch from one generation to the next all the time.
fn unlinked_while_written(name: &str) {
    const WRITERS: u64 = 3;
    let rounds = scaled(250);
    watchdog();
    let dict: AtomicDict = agreed();
    let mut rng = SmallRng::seed_from_u64(5);
    let (mut all, mut cut_off) = (0, 0);
    for round in 1..=rounds {
        let mut options = Numbers::options();
        let stream = options.log_bytes(128).create(name).unwrap();
        let write = |me: u64| {
            let stream = Numbers::open(name).unwrap();
            meet(&dict, WRITERS * round);
            let (written, error) = write_on(&stream, me, 10_000);
            assert!(matches!(error, Some(StreamError::Unlinked)), "{error:?}");
            // What it has written it has, unless others went on in a generation that it does not find.
            match stream.get(&me) {
                Ok(found) => assert_eq!(found.unwrap_or(0), written),
                Err(StreamError::Unlinked) => _ = dict.fetch_add(FAILED, 1).unwrap(),
                Err(error) => panic!("{error}"),
            }
            dict.fetch_add(DONE, written).unwrap();
        };
        let writers: Vec<_> = (0..WRITERS).map(|me| Peer::fork(|| write(me))).collect();
        await_value(&dict, 1, WRITERS * round);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        Numbers::unlink(name).unwrap();
        writers.into_iter().for_each(Peer::join);
        assert_eq!(files(name), Vec::<String>::new(), "in round {round}");
        (all, cut_off) = (dict.load(DONE), dict.load(FAILED));
        drop(stream);
    }
    assert_eq!(Numbers::gc("/dev/shm", name).unwrap(), 0);
    println!("{rounds} rounds, {all} changes, {cut_off} writers cut off");
}
