//! Locks whose owners are killed, stopped, or panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, Lock, LockError};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::peer::{
    HOLDERS, LOCK, Latencies, PATIENCE, Peer, STEP, await_value, go_on, held, hold, holder,
    sleep_for_ever, step, take, told, watchdog,
};
use crate::{Role, run, spawn, test, wait_all};

const PROCESSES: u64 = 4;
const ROUNDS: u64 = 100_000;

/// What the lock guards: two words that are equal unless their writer died in between.
const FIRST: u64 = 10;
const SECOND: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("count-forked", |_| {
        watchdog();
        let dict = AtomicDict::anonymous(2000).unwrap();
        let peers: Vec<_> = (0..PROCESSES)
            .map(|_| Peer::fork(|| count(&dict)))
            .collect();
        peers.into_iter().for_each(Peer::join);
        assert_eq!(dict.load(FIRST), PROCESSES * ROUNDS);
    }),
    ("count-unrelated", |args| {
        watchdog();
        count(&AtomicDict::open_or_create(&args[0], 2000).unwrap());
    }),
    ("killed-holders", |_| killed_holders()),
    ("killed-anywhere", |_| killed_anywhere()),
    ("waiting-locker-killed", |_| waiting_locker_killed()),
    ("poison", |_| poison()),
    ("stopped", |_| stopped()),
    ("forced", |_| forced()),
    ("told-of-the-owner", |_| told_of_the_owner()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("four_forked_processes_count_under_a_lock", || {
            run("count-forked", &[]);
        }),
        test("four_unrelated_programs_count_under_a_lock", || {
            let name = Name::new("count-locked");
            wait_all((0..PROCESSES).map(|_| spawn("count-unrelated", &[&name])));
            let dict = AtomicDict::open(&name).unwrap();
            assert_eq!(dict.load(FIRST), PROCESSES * ROUNDS);
            assert!(!Lock::new(&dict, LOCK).unwrap().is_locked());
        }),
        test("the_next_one_is_told_of_each_of_200_killed_holders", || {
            print!("{}", run("killed-holders", &[]));
        }),
        test("lockers_killed_anywhere_hold_nobody_up", || {
            print!("{}", run("killed-anywhere", &[]));
        }),
        test("killed_waiters_of_a_lock_take_no_wake_up_with_them", || {
            print!("{}", run("waiting-locker-killed", &[]));
        }),
        test("a_lock_stays_poisoned_until_somebody_clears_it", || {
            run("poison", &[]);
        }),
        test("a_stopped_owner_is_alive_and_keeps_its_lock", || {
            run("stopped", &[]);
        }),
        test("a_lock_taken_away_by_force_is_the_next_ones", || {
            run("forced", &[]);
        }),
        test("a_lock_names_its_owner_and_is_not_reentrant", || {
            run("told-of-the-owner", &[]);
        }),
    ]
}

/// A load and a store: only the lock makes them one.
fn count(dict: &AtomicDict) {
    let lock = Lock::new(dict, LOCK).unwrap();
    let number = dict.entry(FIRST).unwrap();
    // All at once.
    dict.fetch_add(HOLDERS, 1).unwrap();
    await_value(dict, HOLDERS, PROCESSES);
    for _ in 0..ROUNDS {
        let _guard = lock.lock().unwrap();
        number.store(number.load() + 1);
    }
}

/// Each of them waits for its predecessor, asleep or about to be, and that one is killed.
fn killed_holders() {
    const KILLS: u64 = 200;
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let next = || {
        Peer::fork(|| {
            let lock = Lock::new(&dict, LOCK).unwrap();
            let mut guard = told(lock.lock());
            dict.store(FIRST, u64::from(guard.poisoned_by().unwrap()))
                .unwrap();
            guard.clear_poison();
            dict.fetch_add(HOLDERS, 1).unwrap();
            sleep_for_ever();
        })
    };
    let mut rng = SmallRng::seed_from_u64(5);
    let mut latencies = Latencies::default();
    let mut owner = holder(&dict);
    for kill in 1..=KILLS {
        let waiter = next();
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        let victim = owner.pid();
        let start = Instant::now();
        owner.kill();
        await_value(&dict, HOLDERS, kill + 1);
        latencies.add(start);
        assert_eq!(dict.load(FIRST), u64::from(victim));
        owner = waiter;
    }
    owner.kill();
    println!("from kill to lock, {latencies}");
    assert!(latencies.best() < Duration::from_secs(10));
}

/// Forks one that locks, changes both words and unlocks, until it is killed.
fn locker(dict: &AtomicDict) -> Peer {
    Peer::fork(|| {
        let lock = Lock::new(dict, LOCK).unwrap();
        loop {
            let guard = match lock.lock() {
                Err(LockError::Poisoned(mut guard)) => {
                    let (first, second) = (dict.load(FIRST), dict.load(SECOND));
                    assert!(first == second || first == second + 1);
                    dict.store(SECOND, first).unwrap();
                    dict.fetch_add(HOLDERS, 1).unwrap();
                    guard.clear_poison();
                    guard
                }
                taken => taken.unwrap(),
            };
            let n = dict.load(FIRST);
            assert_eq!(n, dict.load(SECOND), "half done, and nobody was told");
            dict.store(FIRST, n + 1).unwrap();
            std::hint::black_box((0..50).sum::<u64>());
            dict.store(SECOND, n + 1).unwrap();
            drop(guard);
        }
    })
}

fn killed_anywhere() {
    const KILLS: u64 = 300;
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let mut peers: Vec<_> = (0..4).map(|_| locker(&dict)).collect();
    let mut rng = SmallRng::seed_from_u64(6);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        peers.swap_remove(rng.random_range(0..4)).kill();
        peers.push(locker(&dict));
    }
    await_value(&dict, SECOND, dict.load(SECOND) + 10_000);
    assert!(peers.iter().all(|peer| !peer.has_ended()));
    peers.into_iter().for_each(Peer::kill);
    let (told, rounds) = (dict.load(HOLDERS), dict.load(FIRST));
    println!("{KILLS} kills, {rounds} rounds; {told} times the next one was told");
    assert!(told > 0);
}

/// One who is woken and killed before it takes the lock: the others must not sleep on.
fn waiting_locker_killed() {
    const ROUNDS: u64 = 100;
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let mut latencies = Latencies::default();
    for round in 1..=ROUNDS {
        let guard = take(&lock);
        let victim = Peer::fork(|| hold(&dict));
        let waiter = Peer::fork(|| {
            drop(take(&lock));
            dict.fetch_add(SECOND, 1).unwrap();
        });
        std::thread::sleep(Duration::from_micros(500 + 10 * round));
        let start = Instant::now();
        if round % 2 == 0 {
            drop(guard);
            victim.kill();
        } else {
            victim.signal(Signal::SIGKILL);
            drop(guard);
            victim.killed();
        }
        await_value(&dict, SECOND, round);
        latencies.add(start);
        waiter.join();
    }
    println!("from unlock to lock, {latencies}");
}

fn poison() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = holder(&dict);
    let pid = peer.pid();
    peer.kill();
    assert!(lock.is_locked(), "until somebody asks for it");
    for _ in 0..3 {
        // Each is told of the first, and clears nothing.
        Peer::fork(|| {
            let guard = told(lock.try_lock());
            assert_eq!(guard.poisoned_by(), Some(pid));
        })
        .join();
        assert!(!lock.is_locked());
        drop(told(lock.lock()));
        drop(told(lock.lock_timeout(PATIENCE)));
    }
    // One who knows, and dies as well.
    let second = Peer::fork(|| {
        let _guard = told(lock.try_lock());
        dict.fetch_add(HOLDERS, 1).unwrap();
        sleep_for_ever();
    });
    await_value(&dict, HOLDERS, 2);
    let second_pid = second.pid();
    second.kill();
    Peer::fork(|| {
        let mut guard = told(lock.try_lock());
        assert_eq!(guard.poisoned_by(), Some(second_pid));
        guard.clear_poison();
        assert!(!guard.is_poisoned());
    })
    .join();
    drop(lock.lock().expect("in good order"));

    // A panic is as good as a death, but one that is older than the guard is not its affair.
    Peer::fork(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            panic!("in the critical section");
        }));
        assert!(panicked.is_err());
        dict.store(SECOND, u64::from(std::process::id())).unwrap();
    })
    .join();
    let mut guard = told(lock.try_lock());
    assert_eq!(guard.poisoned_by().map(u64::from), Some(dict.load(SECOND)));
    guard.clear_poison();
    drop(guard);
    Peer::fork(|| {
        std::panic::set_hook(Box::new(|_| {}));
        struct LocksInDrop<'a>(&'a Lock);
        impl Drop for LocksInDrop<'_> {
            fn drop(&mut self) {
                drop(self.0.lock().unwrap());
            }
        }
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _locks = LocksInDrop(&lock);
            panic!("elsewhere");
        }));
        assert!(panicked.is_err());
    })
    .join();
    drop(lock.try_lock().expect("in good order"));
}

fn told_of_the_owner() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    assert!(!lock.is_locked() && lock.owner_pid().is_none());
    let guard = lock.lock().unwrap();
    let me = std::process::id();
    assert!(lock.is_locked() && lock.owner_pid() == Some(me));
    for again in [
        lock.try_lock(),
        lock.lock(),
        lock.lock_timeout(Duration::from_millis(1)),
        Lock::new(&dict, LOCK).unwrap().clone().try_lock(),
    ] {
        assert!(matches!(again, Err(LockError::Reentrant)), "{again:?}");
    }
    Peer::fork(|| {
        assert_eq!(lock.owner_pid(), Some(me));
        assert_eq!(held(lock.try_lock()), Some(me));
        let (start, short) = (Instant::now(), Duration::from_millis(70));
        assert_eq!(held(lock.lock_timeout(short)), Some(me));
        assert!(start.elapsed() >= short);
        // Another key is another lock.
        drop(Lock::new(&dict, LOCK + 1).unwrap().try_lock().unwrap());
    })
    .join();
    // Another thread of the same process is somebody else.
    std::thread::scope(|scope| scope.spawn(|| _ = held(lock.try_lock())).join().unwrap());
    drop(guard);
    assert!(!lock.is_locked() && lock.owner_pid().is_none());
}

fn stopped() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = Peer::fork(|| {
        let guard = lock.lock().unwrap();
        step(&dict, 1);
        assert_eq!(lock.owner_pid(), Some(std::process::id()));
        drop(guard);
    });
    await_value(&dict, STEP, 1);
    peer.stop();
    go_on(&dict, 1);
    assert_eq!(held(lock.try_lock()), Some(peer.pid()));
    let (start, short) = (Instant::now(), Duration::from_millis(300));
    assert_eq!(held(lock.lock_timeout(short)), Some(peer.pid()));
    assert!(start.elapsed() >= short);
    assert!(lock.is_locked());
    peer.signal(Signal::SIGCONT);
    drop(lock.lock().expect("given back in good order"));
    peer.join();
}

fn forced() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    assert!(!lock.force_unlock(), "nobody has it");
    let peer = Peer::fork(|| {
        let guard = lock.lock().unwrap();
        step(&dict, 1);
        drop(guard);
        step(&dict, 2);
    });
    await_value(&dict, STEP, 1);
    peer.stop();
    assert!(lock.force_unlock());
    assert!(!lock.force_unlock() && !lock.is_locked());
    let mut guard = told(lock.try_lock());
    assert_eq!(guard.poisoned_by(), Some(peer.pid()));
    guard.clear_poison();
    go_on(&dict, 1);
    peer.signal(Signal::SIGCONT);
    await_value(&dict, STEP, 2);
    assert_eq!(lock.owner_pid(), Some(std::process::id()), "still ours");
    Peer::fork(|| _ = held(lock.try_lock())).join();
    drop(guard);
    drop(lock.try_lock().unwrap());
    go_on(&dict, 2);
    peer.join();
}
