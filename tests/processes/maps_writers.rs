//! Who is a writer of a map, and who takes its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use forkmap::{ParticipantError, SharedHashMap, WriteError};
use libtest_mimic::Trial;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use crate::maps::{agreed, check_at_rest, meet, scaled};
use crate::peer::{Peer, STEP, await_value, sleep_for_ever, watchdog};
use crate::{Role, run, test};

type Map = SharedHashMap<u64, u64>;

pub(crate) const ROLES: &[Role] = &[
    ("map-threads", |_| threads()),
    ("map-child", |_| child()),
    ("map-places", |_| places()),
    ("map-fork-among-threads", |_| fork_among_threads()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("map_threads_are_writers_as_long_as_they_live", || {
            run("map-threads", &[]);
        }),
        test("map_child_is_a_writer_of_its_own", || {
            run("map-child", &[]);
        }),
        test("map_places_of_the_dead_are_taken_again", || {
            run("map-places", &[]);
        }),
        test(
            "map_can_be_used_in_a_child_forked_while_others_write",
            || {
                run("map-fork-among-threads", &[]);
            },
        ),
    ]
}

fn map(participants: u64) -> Map {
    watchdog();
    let mut options = Map::options();
    options.capacity(100).participants(participants);
    options.anonymous().unwrap()
}

/// Places and pids of those who live.
fn living(map: &Map) -> Vec<(usize, u32)> {
    let all = map.participants().unwrap().into_iter();
    let living = all.filter(|writer| writer.is_alive);
    living.map(|writer| (writer.slot, writer.pid)).collect()
}

#[track_caller]
fn too_many(refused: Result<(), WriteError>, most: usize) {
    match refused {
        Err(WriteError::Writer(ParticipantError::TooMany { limit })) => assert_eq!(limit, most),
        other => panic!("{other:?}"),
    }
}

/// A thread that has changed `key`, or tried, and lives until it is told to end.
struct Thread(JoinHandle<()>, Sender<()>);

impl Thread {
    fn writer(map: &Map, key: u64) -> (Self, Result<(), WriteError>) {
        let (told, tell) = (channel(), channel());
        let map = map.clone();
        let thread = std::thread::spawn(move || {
            told.0.send(map.set(&key, &key)).unwrap();
            // (Or until nobody is left to tell it.)
            _ = tell.1.recv();
        });
        (Self(thread, tell.0), told.1.recv().unwrap())
    }

    fn end(self) {
        self.1.send(()).unwrap();
        self.0.join().unwrap();
    }
}

fn threads() {
    let map = map(2);
    assert_eq!(living(&map), [], "who only reads");
    assert_eq!(map.get(&1).unwrap(), None);
    let (first, done) = Thread::writer(&map, 1);
    done.unwrap();
    let (second, done) = Thread::writer(&map, 2);
    done.unwrap();
    let both = living(&map);
    assert_eq!(both.len(), 2);
    assert!(both.iter().all(|&(_, pid)| pid == std::process::id()));
    let (third, refused) = Thread::writer(&map, 3);
    too_many(refused, 2);
    too_many(map.set(&3, &3), 2);
    too_many(map.remove(&1).map(drop), 2);
    Peer::fork(|| too_many(map.set(&4, &4), 2)).join();
    // Nothing was changed, and reading goes on.
    assert_eq!(map.len(), 2);
    assert_eq!(
        [1, 2, 3].map(|key| map.get(&key).unwrap()),
        [Some(1), Some(2), None]
    );
    third.end();
    first.end();
    // Its place stays the process's, for the next thread.
    assert_eq!(living(&map), both);
    for key in 10..100 {
        let (thread, done) = Thread::writer(&map, key);
        done.unwrap();
        assert_eq!(living(&map), both);
        thread.end();
    }
    map.set(&3, &3).unwrap();
    too_many(Thread::writer(&map, 5).1, 2);
    second.end();
    assert_eq!(living(&map), both);
    assert_eq!(map.recover().unwrap(), 0, "nobody is dead");
    check_at_rest(&map);
    let stats = map.stats().unwrap();
    assert_eq!((stats.writers, stats.writer_limit), (2, 2));
}

/// Ends this process at once, as a crash would: no destructor runs.
fn exit_now() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) }
}

/// Puts keys in and takes them out, all of the same few.
fn churn(map: &Map, me: u64, rounds: u64) {
    for n in 0..rounds {
        map.insert(&(n % 7), &me).unwrap();
        map.fetch_add(&1000, 1).unwrap();
        map.remove(&(n % 5)).unwrap();
    }
}

fn child() {
    let rounds = scaled(100_000);
    let (map, dict) = (map(8), agreed());
    map.set(&0, &0).unwrap();
    let here = std::process::id();
    let [(own, pid)] = living(&map)[..] else {
        panic!("one writer");
    };
    assert_eq!(pid, here);
    let work = |me| {
        meet(&dict, 3);
        churn(&map, me, rounds);
    };
    Peer::fork(|| {
        assert_eq!(living(&map), [(own, here)], "it has changed nothing yet");
        map.set(&50, &50).unwrap();
        assert_eq!(living(&map).len(), 2);
        exit_now();
    })
    .join();
    // And others while it writes itself, one the child of the other.
    let peer = Peer::fork(|| {
        let grandchild = Peer::fork(|| {
            work(3);
            exit_now();
        });
        work(2);
        grandchild.join();
        exit_now();
    });
    let pid = peer.pid();
    work(1);
    peer.join();
    assert_eq!(living(&map), [(own, here)], "the parent is who it was");
    let all = map.participants().unwrap();
    assert!(
        all.iter()
            .any(|writer| writer.pid == pid && writer.slot != own)
    );
    assert_eq!(map.stats().unwrap().dead_writers, 3);
    assert_eq!(map.get(&1000).unwrap(), Some(3 * rounds));
    assert_eq!(map.recover().unwrap(), 3);
    assert_eq!(map.recover().unwrap(), 0);
    assert_eq!(map.participants().unwrap().len(), 1);
    check_at_rest(&map);
}

/// One place besides ours, and many who have it one after the other, however they end.
fn places() {
    let (map, dict) = (map(2), agreed());
    map.set(&1, &1).unwrap();
    let ours = living(&map)[0];
    let mut place = None;
    for round in 1..=100 {
        let peer = Peer::fork(|| {
            map.set(&(1 + round), &round).unwrap();
            map.remove(&round).unwrap();
            dict.store(STEP, round).unwrap();
            match round % 3 {
                0 => sleep_for_ever(),
                1 => exit_now(),
                _ => std::process::exit(0),
            }
        });
        await_value(&dict, STEP, round);
        let pid = peer.pid();
        if round % 3 == 0 {
            let both = living(&map);
            assert!(both.len() == 2 && both.contains(&ours));
            let slot = both.iter().find(|writer| writer.1 == pid).unwrap().0;
            assert_eq!(*place.get_or_insert(slot), slot);
            Peer::fork(|| too_many(map.set(&0, &0), 2)).join();
            peer.kill();
        } else {
            peer.join();
        }
        let all = map.participants().unwrap();
        assert!(
            all.iter()
                .any(|writer| writer.pid == pid && !writer.is_alive)
        );
        if round % 2 == 0 {
            assert_eq!(map.recover().unwrap(), 1);
            assert_eq!(living(&map), [ours]);
            assert_eq!(map.participants().unwrap().len(), 1);
        }
    }
    check_at_rest(&map);
    assert_eq!(map.get(&101).unwrap(), Some(100));
}

/// A child that `_exit`s, forked where other threads may hold any lock of the program: it uses the map
/// and the heap of a C library that sees to that, and nothing else.
fn fork_bare(work: impl FnOnce() -> bool) -> Pid {
    // SAFETY: as above.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            watchdog();
            let fine = work();
            // SAFETY: ends this process at once; no destructor of the parent's runs.
            unsafe { libc::_exit(i32::from(!fine)) }
        }
    }
}

fn fork_among_threads() {
    const THREADS: u64 = 3;
    const CHILDREN: u64 = 60;
    let map = map(16);
    let stop = AtomicBool::new(false);
    let work = |me: u64| {
        let mut n = 0;
        // Relaxed: a flag and nothing else.
        while !stop.load(Ordering::Relaxed) {
            map.fetch_add(&(100 + n % 3), 1).unwrap();
            map.set(&(n % 20), &me).unwrap();
            map.remove(&((n + 7) % 20)).unwrap();
            n += 1;
        }
        n
    };
    let work = &work;
    let added: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|me| scope.spawn(move || work(me)))
            .collect();
        for round in 0..CHILDREN {
            // This thread is a writer too, in every second round from the start.
            map.fetch_add(&500, round % 2).unwrap();
            let child = fork_bare(|| {
                let mine = 1000 + round;
                let fine = (0..100).all(|n| map.fetch_add(&mine, 1).is_ok_and(|old| old == n));
                let others = (0..100).all(|n| map.fetch_add(&(100 + n % 3), 1).is_ok());
                fine && others && map.remove(&mine).is_ok_and(|found| found == Some(100))
            });
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let sum: u64 = (100..103).map(|key| map.get(&key).unwrap().unwrap()).sum();
    assert_eq!(sum, added + 100 * CHILDREN);
    assert_eq!(map.get(&500).unwrap(), Some(CHILDREN / 2));
    check_at_rest(&map);
    assert_eq!(living(&map).len() as u64, THREADS + 1);
}
