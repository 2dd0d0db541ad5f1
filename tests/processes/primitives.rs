//! Semaphores and onces whose holders are killed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use forkmap::{AcquireError, AtomicDict, Once, OnceError, Semaphore};
use libtest_mimic::Trial;
use nix::unistd::{ForkResult, fork};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::peer::{Latencies, PATIENCE, Peer, await_value, sleep_for_ever, watchdog};
use crate::{Role, run, test};

const PERMITS: usize = 3;

/// The first key of a semaphore, or the key of a once.
const KEY: u64 = 100;
const INSIDE: u64 = 1;
const STEP: u64 = 2;
const DONE: u64 = 3;

pub(crate) const ROLES: &[Role] = &[
    ("permits", |_| permits()),
    ("permits-of-the-killed", |_| permits_of_the_killed()),
    ("permits-killed-anywhere", |_| permits_killed_anywhere()),
    ("permit-of-a-thread", |_| permit_of_a_thread()),
    ("once-race", |_| once_race()),
    ("once-kills", |_| once_kills()),
    ("once-errors", |_| once_errors()),
    ("once-forks", |_| once_forks()),
    ("once-overwritten", |_| once_overwritten()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("no_more_are_inside_than_there_are_permits", || {
            print!("{}", run("permits", &[]));
        }),
        test("each_permit_of_100_killed_holders_comes_back", || {
            print!("{}", run("permits-of-the-killed", &[]));
        }),
        test("holders_killed_anywhere_take_no_permit_with_them", || {
            print!("{}", run("permits-killed-anywhere", &[]));
        }),
        test("a_permit_is_the_processs_and_not_the_threads", || {
            run("permit-of-a-thread", &[]);
        }),
        test("of_eight_processes_one_does_it_once", || {
            run("once-race", &[]);
        }),
        test("the_next_one_tries_after_each_of_100_killed", || {
            print!("{}", run("once-kills", &[]));
        }),
        test("a_once_that_panics_recurs_or_hangs_is_told", || {
            run("once-errors", &[]);
        }),
        test(
            "a_child_that_comes_back_from_a_once_has_not_done_it",
            || {
                run("once-forks", &[]);
            },
        ),
        test("a_once_whose_key_is_overwritten_is_not_done", || {
            run("once-overwritten", &[]);
        }),
    ]
}

fn dict() -> AtomicDict {
    watchdog();
    AtomicDict::anonymous(2000).unwrap()
}

fn permits() {
    let dict = dict();
    let semaphore = Semaphore::new(&dict, KEY, PERMITS).unwrap();
    let work = || {
        for _ in 0..3000 {
            let permit = semaphore.acquire().unwrap();
            let inside = dict.fetch_add(INSIDE, 1).unwrap();
            assert!(inside < PERMITS as u64, "{inside} are here already");
            dict.fetch_max(STEP, inside + 1).unwrap();
            std::thread::yield_now();
            dict.fetch_sub(INSIDE, 1).unwrap();
            drop(permit);
        }
    };
    let peers: Vec<_> = (0..6).map(|_| Peer::fork(work)).collect();
    peers.into_iter().for_each(Peer::join);
    assert_eq!(dict.load(INSIDE), 0);
    println!("{} at once", dict.load(STEP));
    assert_eq!(semaphore.available_permits(), PERMITS);
}

#[track_caller]
fn all_come_back(semaphore: &Semaphore) {
    let take = |_| semaphore.acquire_timeout(PATIENCE).unwrap();
    let all: Vec<_> = (0..PERMITS).map(take).collect();
    assert_eq!(semaphore.available_permits(), 0);
    let none = semaphore.try_acquire();
    assert!(matches!(none, Err(AcquireError::NoPermits)), "{none:?}");
    drop(all);
    assert_eq!(semaphore.available_permits(), PERMITS);
}

/// All permits are taken and one more process waits; then one of the holders is killed.
fn permits_of_the_killed() {
    const KILLS: u64 = 100;
    let dict = dict();
    let semaphore = Semaphore::new(&dict, KEY, PERMITS).unwrap();
    let start = || {
        Peer::fork(|| {
            let _permit = semaphore.acquire().unwrap();
            dict.fetch_add(INSIDE, 1).unwrap();
            sleep_for_ever();
        })
    };
    let mut inside: Vec<_> = (0..PERMITS).map(|_| start()).collect();
    let mut expected = PERMITS as u64;
    await_value(&dict, INSIDE, expected);
    let mut rng = SmallRng::seed_from_u64(8);
    let mut latencies = Latencies::default();
    for _ in 0..KILLS {
        let waiter = start();
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        assert_eq!(dict.load(INSIDE), expected, "one more than permits");
        let victim = inside.swap_remove(rng.random_range(0..PERMITS));
        let instant = Instant::now();
        victim.kill();
        expected += 1;
        await_value(&dict, INSIDE, expected);
        latencies.add(instant);
        inside.push(waiter);
    }
    assert_eq!(dict.load(INSIDE), expected);
    inside.into_iter().for_each(Peer::kill);
    all_come_back(&semaphore);
    println!("from kill to permit, {latencies}");
}

fn permits_killed_anywhere() {
    const KILLS: u64 = 100;
    let dict = dict();
    let semaphore = Semaphore::new(&dict, KEY, PERMITS).unwrap();
    let start = || {
        Peer::fork(|| {
            loop {
                let _permit = semaphore.acquire().unwrap();
                dict.fetch_add(DONE, 1).unwrap();
            }
        })
    };
    let mut peers: Vec<_> = (0..5).map(|_| start()).collect();
    let mut rng = SmallRng::seed_from_u64(9);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        peers.swap_remove(rng.random_range(0..5)).kill();
        peers.push(start());
    }
    await_value(&dict, DONE, dict.load(DONE) + 1000);
    assert!(peers.iter().all(|peer| !peer.has_ended()));
    peers.into_iter().for_each(Peer::kill);
    all_come_back(&semaphore);
    println!("{KILLS} kills, {} permits taken", dict.load(DONE));
}

fn permit_of_a_thread() {
    let dict = dict();
    let semaphore = Semaphore::new(&dict, KEY, 1).unwrap();
    let permit = semaphore.acquire().unwrap();
    Peer::fork(|| {
        let (start, short) = (Instant::now(), Duration::from_millis(70));
        let late = semaphore.acquire_timeout(short);
        assert!(matches!(late, Err(AcquireError::NoPermits)), "{late:?}");
        assert!(start.elapsed() >= short);
        assert!(semaphore.try_acquire().is_err());
    })
    .join();
    // A second one for the same thread is no other case.
    assert!(semaphore.try_acquire().is_err());
    let waiter = Peer::fork(|| drop(semaphore.acquire().unwrap()));
    std::thread::spawn(move || drop(permit)).join().unwrap();
    waiter.join();
    assert_eq!(semaphore.available_permits(), 1);
    // Taken by a thread that ends, it stays the process's.
    let permit = std::thread::scope(|scope| {
        let thread = scope.spawn(|| semaphore.acquire().unwrap());
        thread.join().unwrap()
    });
    Peer::fork(|| assert!(semaphore.try_acquire().is_err())).join();
    drop(permit);
    // None at all is never had.
    let none = Semaphore::new(&dict, KEY, 0).unwrap();
    assert!(none.try_acquire().is_err() && none.available_permits() == 0);
}

fn once_race() {
    const PROCESSES: u64 = 8;
    const ONCES: u64 = 200;
    let dict = dict();
    let work = || {
        dict.fetch_add(STEP, 1).unwrap();
        await_value(&dict, STEP, PROCESSES);
        for n in 0..ONCES {
            let once = Once::new(&dict, KEY + n).unwrap();
            let result = KEY + ONCES + n;
            once.call_once(|| {
                if n % 20 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let done = dict.load(result);
                dict.store(result, done + 1).unwrap();
            })
            .unwrap();
            assert!(once.is_completed());
            assert_eq!(dict.load(result), 1, "done, and done once");
        }
    };
    let peers: Vec<_> = (0..PROCESSES).map(|_| Peer::fork(work)).collect();
    peers.into_iter().for_each(Peer::join);
}

fn once_kills() {
    const KILLS: u64 = 100;
    let dict = dict();
    let once = Once::new(&dict, KEY).unwrap();
    let start = || {
        Peer::fork(|| {
            let begin = || {
                dict.fetch_add(STEP, 1).unwrap();
                sleep_for_ever();
            };
            once.call_once(begin).unwrap();
        })
    };
    let mut rng = SmallRng::seed_from_u64(10);
    let mut latencies = Latencies::default();
    let mut at_it = start();
    await_value(&dict, STEP, 1);
    for kill in 1..=KILLS {
        let next = start();
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        assert_eq!(dict.load(STEP), kill, "two are at it");
        let instant = Instant::now();
        at_it.kill();
        await_value(&dict, STEP, kill + 1);
        latencies.add(instant);
        assert!(!once.is_completed());
        at_it = next;
    }
    at_it.kill();
    let complete = || _ = dict.fetch_add(DONE, 1).unwrap();
    once.call_once(complete).unwrap();
    once.call_once(complete).unwrap();
    assert!(once.is_completed());
    assert_eq!(dict.load(DONE), 1);
    println!("from kill to the next try, {latencies}");
}

fn once_errors() {
    let dict = dict();
    let once = Once::new(&dict, KEY).unwrap();
    // A panic lets the next one try, also one that waits already.
    let panics = Peer::fork(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let call = || {
            once.call_once(|| {
                dict.store(STEP, 1).unwrap();
                await_value(&dict, STEP, 2);
                panic!("not done");
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    });
    await_value(&dict, STEP, 1);
    let (start, short) = (Instant::now(), Duration::from_millis(70));
    let error = once
        .call_once_timeout(|| unreachable!(), short)
        .unwrap_err();
    let pid = panics.pid();
    assert!(
        matches!(error, OnceError::Running { pid: Some(found) } if found == pid),
        "{error}"
    );
    assert!(start.elapsed() >= short);
    let next = Peer::fork(|| {
        once.call_once(|| {
            // Not by itself.
            let error = once.call_once(|| unreachable!()).unwrap_err();
            assert!(matches!(error, OnceError::Reentrant), "{error}");
            // Nor is a child of it the one whose turn it is.
            Peer::fork(|| {
                let short = Duration::from_millis(1);
                let error = once
                    .call_once_timeout(|| unreachable!(), short)
                    .unwrap_err();
                assert!(matches!(error, OnceError::Running { .. }), "{error}");
            })
            .join();
            dict.fetch_add(DONE, 1).unwrap();
        })
        .unwrap();
    });
    dict.store(STEP, 2).unwrap();
    panics.join();
    next.join();
    assert!(once.is_completed());
    once.call_once(|| unreachable!()).unwrap();
    assert_eq!(dict.load(DONE), 1);
}

/// The closure forks, and both come back from it: the turn is the parent's.
fn once_forks() {
    let dict = dict();
    let once = Once::new(&dict, KEY).unwrap();
    let mut in_child = false;
    let result = once.call_once(|| {
        // SAFETY: a role runs in a process with one thread, so the child may do anything.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => in_child = true,
            ForkResult::Parent { child } => Peer(child).join(),
        }
    });
    if in_child {
        // The parent, still in the closure, looks at how this ends.
        let told = matches!(result, Err(OnceError::Inherited));
        let good = told && !once.is_completed();
        std::process::exit(i32::from(!good));
    }
    result.unwrap();
    assert!(once.is_completed());
}

/// Something else is stored under the key before the closure is done, so nobody can see that it is.
fn once_overwritten() {
    let dict = dict();
    let once = Once::new(&dict, KEY).unwrap();
    for value in [7, 0] {
        let result = once.call_once(|| {
            Peer::fork(|| dict.store(KEY, value).unwrap()).join();
        });
        assert!(matches!(result, Err(OnceError::Overwritten)), "{result:?}");
        assert!(!once.is_completed());
        assert_eq!(dict.load(KEY), value, "what was stored stands");
        dict.store(KEY, 0).unwrap();
    }
    once.call_once(|| _ = dict.fetch_add(DONE, 1).unwrap())
        .unwrap();
    assert!(once.is_completed());
    assert_eq!(dict.load(DONE), 1);
}
