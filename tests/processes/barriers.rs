//! Barriers: all or nobody, also when parties are killed.

use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, Barrier, BarrierError, InsertError};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::peer::{Latencies, PATIENCE, Peer, await_value, sleep_for_ever, watchdog};
use crate::{Role, run, test};

const PARTIES: usize = 4;

/// The first key of the barrier.
const BARRIER: u64 = 100;
const STEP: u64 = 1;
const JOINED: u64 = 2;
const BROKEN: u64 = 3;
const GO: u64 = 4;
const PASSED: u64 = 5;
/// How many leaders each round has had.
const LEADERS: u64 = 1000;

pub(crate) const ROLES: &[Role] = &[
    ("barrier-rounds", |_| rounds()),
    ("barrier-kills", |_| kills()),
    ("barrier-timeout", |_| timeout()),
    ("barrier-seats", |_| seats()),
    ("barrier-stopped", |_| stopped()),
    ("barrier-who-lives", |_| cannot_learn_who_lives()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("nobody_passes_a_barrier_early_and_one_leads", || {
            run("barrier-rounds", &[]);
        }),
        test("a_barrier_breaks_for_all_when_a_party_is_killed", || {
            print!("{}", run("barrier-kills", &[]));
        }),
        test("a_timeout_breaks_the_barrier_for_all", || {
            run("barrier-timeout", &[]);
        }),
        test("seats_are_of_the_living_and_not_inherited", || {
            run("barrier-seats", &[]);
        }),
        test("a_party_that_oversleeps_a_reset_has_passed", || {
            run("barrier-stopped", &[]);
        }),
        test("a_party_that_cannot_wait_breaks_the_barrier", || {
            run("barrier-who-lives", &[]);
        }),
    ]
}

fn barrier(parties: usize) -> (AtomicDict, Barrier) {
    watchdog();
    let dict = AtomicDict::anonymous(10_000).unwrap();
    let barrier = Barrier::new(&dict, BARRIER, parties).unwrap();
    (dict, barrier)
}

fn rounds() {
    const ROUNDS: u64 = 2000;
    const ARRIVED: u64 = 500;
    let (dict, barrier) = barrier(PARTIES);
    let work = |me: u64| {
        let mut party = barrier.join().unwrap();
        for round in 1..=ROUNDS {
            dict.store(ARRIVED + me, round).unwrap();
            let met = party.wait_timeout(PATIENCE).unwrap();
            assert_eq!(met.round(), round - 1);
            if met.is_leader() {
                dict.fetch_add(LEADERS + round, 1).unwrap();
            }
            for other in 0..PARTIES as u64 {
                let arrived = dict.load(ARRIVED + other);
                // The fast ones may be one round ahead, and no more: that one waits for us.
                assert!((round..=round + 1).contains(&arrived), "{round}: {arrived}");
            }
        }
    };
    let work = &work;
    let peers: Vec<_> = (0..PARTIES as u64)
        .map(|me| Peer::fork(|| work(me)))
        .collect();
    peers.into_iter().for_each(Peer::join);
    for round in 1..=ROUNDS {
        assert_eq!(dict.load(LEADERS + round), 1, "leaders of round {round}");
    }
}

/// Rounds, until one is killed, wherever it is; all others are told, and go on after a reset with a
/// new party.
fn kills() {
    const KILLS: u64 = 100;
    let (dict, barrier) = barrier(PARTIES);
    let start = |n| {
        let peer = Peer::fork(|| {
            let mut party = barrier.join().unwrap();
            dict.fetch_add(JOINED, 1).unwrap();
            loop {
                match party.wait() {
                    Ok(_) => _ = dict.fetch_add(PASSED, 1).unwrap(),
                    Err(BarrierError::Broken) => {
                        let go = dict.load(GO);
                        dict.fetch_add(BROKEN, 1).unwrap();
                        await_value(&dict, GO, go + 1);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        await_value(&dict, JOINED, n);
        peer
    };
    let mut peers: Vec<_> = (1..=PARTIES as u64).map(start).collect();
    let mut rng = SmallRng::seed_from_u64(7);
    let mut latencies = Latencies::default();
    for kill in 1..=KILLS {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..3000)));
        let victim = peers.swap_remove(rng.random_range(0..PARTIES));
        let instant = Instant::now();
        victim.kill();
        await_value(&dict, BROKEN, kill * (PARTIES as u64 - 1));
        latencies.add(instant);
        assert!(barrier.is_broken());
        assert!(matches!(barrier.join(), Err(BarrierError::Broken)));
        barrier.reset().unwrap();
        peers.push(start(PARTIES as u64 + kill));
        assert!(!barrier.is_broken());
        let before = dict.load(PASSED);
        dict.fetch_add(GO, 1).unwrap();
        if kill % 10 == 0 {
            await_value(&dict, PASSED, before + 1000);
        }
    }
    assert_eq!(dict.load(BROKEN), KILLS * (PARTIES as u64 - 1));
    assert!(peers.iter().all(|peer| !peer.has_ended()));
    peers.into_iter().for_each(Peer::kill);
    let passed = dict.load(PASSED);
    println!("{KILLS} kills, {passed} passages; until all were told, {latencies}");
}

fn timeout() {
    let (dict, barrier) = barrier(3);
    let mut party = barrier.join().unwrap();
    // The third seat is taken, and its party does not come.
    let late = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        dict.fetch_add(JOINED, 1).unwrap();
        await_value(&dict, GO, 1);
        assert!(matches!(party.wait(), Err(BarrierError::Broken)));
    });
    let other = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        dict.fetch_add(JOINED, 1).unwrap();
        assert!(matches!(party.wait(), Err(BarrierError::Broken)));
        dict.store(BROKEN, 1).unwrap();
        await_value(&dict, GO, 2);
        party.wait().unwrap();
    });
    await_value(&dict, JOINED, 2);
    let (start, short) = (Instant::now(), Duration::from_millis(120));
    let error = party.wait_timeout(short).unwrap_err();
    assert!(matches!(error, BarrierError::TimedOut), "{error}");
    assert!(start.elapsed() >= short);
    assert!(barrier.is_broken());
    await_value(&dict, BROKEN, 1);
    assert!(matches!(party.wait(), Err(BarrierError::Broken)));
    dict.store(GO, 1).unwrap();
    late.join();
    barrier.reset().unwrap();
    let third = Peer::fork(|| {
        barrier.join().unwrap().wait().unwrap();
    });
    dict.store(GO, 2).unwrap();
    party.wait_timeout(PATIENCE).unwrap();
    third.join();
    other.join();
}

fn seats() {
    let (dict, barrier) = barrier(2);
    let full = Barrier::new(&dict, u64::MAX, 1).unwrap_err();
    assert!(matches!(full, InsertError::TooManyKeys { .. }), "{full}");
    let full = Barrier::new(&dict, 0, dict.capacity()).unwrap_err();
    assert!(matches!(full, InsertError::TooManyKeys { .. }), "{full}");
    assert!(dict.len() <= 3, "keys were used up for nothing");
    let nobodys = Barrier::new(&dict, 1000, 0).unwrap();
    assert!(matches!(
        nobodys.join(),
        Err(BarrierError::Full { parties: 0 })
    ));
    let mut mine = barrier.join().unwrap();
    // A seat is given back by a drop, and not by a copy of it in a child.
    Peer::fork(|| {
        let error = mine.wait().unwrap_err();
        assert!(matches!(error, BarrierError::Inherited), "{error}");
        let mut own = barrier.join().unwrap();
        let full = barrier.join().unwrap_err();
        assert!(matches!(full, BarrierError::Full { parties: 2 }), "{full}");
        Peer::fork(|| {
            assert!(matches!(own.wait(), Err(BarrierError::Inherited)));
        })
        .join();
    })
    .join();
    // It left well: its seat is free.
    let victim = Peer::fork(|| {
        let _party = barrier.join().unwrap();
        dict.store(STEP, 1).unwrap();
        sleep_for_ever();
    });
    await_value(&dict, STEP, 1);
    assert!(matches!(
        barrier.join(),
        Err(BarrierError::Full { parties: 2 })
    ));
    victim.kill();
    // Who comes to take the place of the dead finds the barrier broken, and so do the others.
    assert!(matches!(barrier.join(), Err(BarrierError::Broken)));
    assert!(matches!(mine.wait(), Err(BarrierError::Broken)));
    barrier.reset().unwrap();
    let replacement = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        party.wait_timeout(PATIENCE).unwrap();
        party.wait_timeout(PATIENCE).unwrap();
    });
    // The round that broke counts, and the reset began the next.
    assert_eq!(mine.wait_timeout(PATIENCE).unwrap().round(), 1);
    assert_eq!(mine.wait_timeout(PATIENCE).unwrap().round(), 2);
    replacement.join();
    // A panic breaks it.
    Peer::fork(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _party = barrier.join().unwrap();
            panic!("in the middle of a round");
        }));
        assert!(panicked.is_err());
    })
    .join();
    assert!(matches!(mine.wait(), Err(BarrierError::Broken)));
}

/// Waits until who has the first seat has come to that round, counted from 1.
fn await_arrival(dict: &AtomicDict, round: u64) {
    let arrived = |seat| seat % (1 << 24) == round;
    let seen = dict.wait_until_timeout(BARRIER + 1, arrived, PATIENCE);
    assert!(seen.is_some(), "not there for round {round}");
}

/// A party sleeps while the round that it has arrived at ends, and more happens after that. All who
/// were in a round are told the same of it, however late they look.
fn stopped() {
    let (dict, barrier) = barrier(3);
    let sleeper = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        dict.store(JOINED, 1).unwrap();
        let met = party.wait().unwrap();
        assert_eq!(met.round(), 0);
        dict.store(PASSED, 1).unwrap();
        // The second sleep is through a round that breaks, and two resets.
        assert!(matches!(party.wait(), Err(BarrierError::Broken)));
        assert_eq!(party.wait().unwrap().round(), 4);
    });
    await_value(&dict, JOINED, 1);
    await_arrival(&dict, 1);
    sleeper.stop();
    let victim = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        party.wait().unwrap();
        dict.store(STEP, 1).unwrap();
        sleep_for_ever();
    });
    let mut party = barrier.join().unwrap();
    assert_eq!(party.wait_timeout(PATIENCE).unwrap().round(), 0);
    await_value(&dict, STEP, 1);
    victim.kill();
    let broken = party.wait();
    assert!(matches!(broken, Err(BarrierError::Broken)), "{broken:?}");
    barrier.reset().unwrap();
    sleeper.signal(Signal::SIGCONT);
    await_value(&dict, PASSED, 1);
    // Round 1 broke, so this is round 2, and its arrivals are those for 3.
    await_arrival(&dict, 3);
    sleeper.stop();
    for _ in 0..2 {
        let late = party.wait_timeout(Duration::from_millis(1));
        assert!(matches!(late, Err(BarrierError::TimedOut)), "{late:?}");
        barrier.reset().unwrap();
    }
    sleeper.signal(Signal::SIGCONT);
    let third = Peer::fork(|| {
        let met = barrier.join().unwrap().wait().unwrap();
        assert_eq!(met.round(), 4);
    });
    assert_eq!(party.wait_timeout(PATIENCE).unwrap().round(), 4);
    third.join();
    sleeper.join();
}

/// Who has arrived and then gets an error other than that the barrier is broken is not at that round
/// any more, and must not be counted among those who are.
fn cannot_learn_who_lives() {
    let (dict, barrier) = barrier(3);
    let mut late = barrier.join().unwrap();
    let waiting = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        dict.store(JOINED, 1).unwrap();
        let met = party.wait();
        assert!(matches!(met, Err(BarrierError::Broken)), "{met:?}");
    });
    await_value(&dict, JOINED, 1);
    let failing = Peer::fork(|| {
        let mut party = barrier.join().unwrap();
        nix::unistd::close(dict.as_fd().as_raw_fd()).unwrap();
        // It has to ask whether the late party lives, and has nothing to ask by.
        let met = party.wait();
        assert!(matches!(met, Err(BarrierError::Participant(_))), "{met:?}");
        dict.store(STEP, 1).unwrap();
        // Its seat stays taken.
        await_value(&dict, GO, 1);
    });
    await_value(&dict, STEP, 1);
    let met = late.wait_timeout(PATIENCE);
    assert!(matches!(met, Err(BarrierError::Broken)), "{met:?}");
    waiting.join();
    dict.store(GO, 1).unwrap();
    failing.join();
}
