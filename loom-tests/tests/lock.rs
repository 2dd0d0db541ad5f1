//! The edge `lock`: one at a time, who comes next sees what came before, nobody sleeps for ever, and
//! the death of an owner is told to one.
#![cfg(loom)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forkmap::model::lock::{Holder, LockWord, NotTaken};
use forkmap::model::owner::{CONTENDED, Owner, POISONED};
use forkmap::model::participants::ParticipantId;
use forkmap::model::{Word, futex};
use forkmap_loom_tests::{explore, join, spawn};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{Acquire, Release};

type Taken = Result<Option<Owner>, NotTaken<Infallible>>;

/// The only thread of participant `n`. The low halves of their words, which the futex compares, are
/// all the same.
fn alike(n: usize) -> Owner {
    let id = ParticipantId {
        slot: n,
        incarnation: 1,
    };
    Owner::new(id, 1)
}

/// Thread `n` of one participant.
fn apart(n: usize) -> Owner {
    let id = ParticipantId {
        slot: 0,
        incarnation: 1,
    };
    Owner::new(id, n as u32 + 1)
}

/// A lock, what it guards, and what has become of an owner whose fate is open.
#[derive(Debug)]
struct Guarded {
    word: Word,
    /// Plain, so that loom reports two at once, and whoever does not see what came before.
    data: UnsafeCell<u64>,
    fate: Word,
}

// SAFETY: loom's threads take turns on one thread of the system, and it reports conflicting accesses
// to `data`.
unsafe impl Sync for Guarded {}

/// Values of `fate`.
const GAVE_BACK: u64 = 1;
const DIED: u64 = 2;

fn alive(_: Owner) -> Result<Holder, Infallible> {
    Ok(Holder::Alive)
}

impl Guarded {
    fn new(word: u64) -> Arc<Self> {
        Arc::new(Self {
            word: Word::new(word),
            data: UnsafeCell::new(0),
            fate: Word::new(0),
        })
    }

    fn lock(&self) -> LockWord<'_> {
        LockWord::new(&self.word)
    }

    /// To be called with the lock.
    fn add_one(&self) {
        self.data.with_mut(|data| {
            // SAFETY: the lock is held, so nobody else is here; loom would report it.
            unsafe { *data += 1 }
        });
    }

    /// To be called with the lock.
    fn data(&self) -> u64 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }

    /// Locks, changes, and gives back clean.
    fn turn(&self, me: Owner, judge: impl FnMut(Owner) -> Result<Holder, Infallible>) -> Taken {
        let taken = self.lock().lock(me, None, judge);
        assert_eq!(self.lock().owner(), Some(me));
        self.add_one();
        assert!(self.lock().unlock(me, None));
        taken
    }

    fn set_fate(&self, fate: u64) {
        self.fate.store(fate, Release);
        futex::wake_all(&self.fate);
        // In place of the longest sleep: one that fell asleep with another owner, before the dying
        // one was woken to be the next.
        futex::wake_all(&self.word);
    }

    /// Whether the owner whose fate is open has died; waits until that is known. So nobody falls
    /// asleep with a dead owner: that is what the longest sleep is for, which is endless here.
    fn has_died(&self) -> bool {
        loop {
            match self.fate.load(Acquire) {
                0 => futex::wait(&self.fate, 0, Duration::MAX),
                fate => return fate == DIED,
            }
        }
    }
}

#[test]
fn two_take_turns() {
    for (name, owner) in [("alike", alike as fn(usize) -> Owner), ("apart", apart)] {
        explore(&format!("two lock, {name}"), None, 100, move || {
            let shared = Guarded::new(0);
            let turns = join([1, 2].map(|n| spawn(&shared, move |s| s.turn(owner(n), alive))));
            assert_eq!(turns, [Ok(None), Ok(None)]);
            assert_eq!(shared.data(), 2);
            assert_eq!(shared.lock().owner(), None);
        });
    }
}

/// Whoever has slept leaves the lock contended, since the third may still sleep.
#[test]
fn three_take_turns() {
    for (name, owner) in [("alike", alike as fn(usize) -> Owner), ("apart", apart)] {
        explore(&format!("three lock, {name}"), Some(3), 3_000, move || {
            let shared = Guarded::new(0);
            let turns = join([1, 2, 3].map(|n| spawn(&shared, move |s| s.turn(owner(n), alive))));
            assert_eq!(turns, [Ok(None); 3]);
            assert_eq!(shared.data(), 3);
            assert_eq!(shared.lock().owner(), None);
        });
    }
}

/// Both sleep, and one of them is woken by each who gives it back.
#[test]
fn two_who_sleep_both_get_it() {
    explore("two wait for a holder", Some(3), 1_000, || {
        let holder = alike(0);
        let shared = Guarded::new(holder.word());
        let waiters = [1, 2].map(|n| spawn(&shared, move |s| _ = s.turn(alike(n), alive)));
        let holder = spawn(&shared, move |shared| {
            shared.add_one();
            assert!(shared.lock().unlock(holder, None));
        });
        join(waiters);
        join([holder]);
        assert_eq!(shared.data(), 3);
    });
}

#[test]
fn trying_takes_it_or_leaves_it_alone() {
    explore("try_lock against unlock", None, 3, || {
        let (holder, me) = (alike(0), alike(1));
        let shared = Guarded::new(holder.word());
        let unlocks = spawn(&shared, move |shared| {
            shared.add_one();
            assert!(shared.lock().unlock(holder, None));
            None
        });
        let tries = spawn(&shared, move |shared| {
            let taken = shared.lock().try_lock(me, alive);
            if taken.is_ok() {
                shared.add_one();
            }
            Some(taken)
        });
        let [_, taken] = join([unlocks, tries]);
        match taken.unwrap() {
            Ok(None) => assert_eq!((shared.lock().owner(), shared.data()), (Some(me), 2)),
            Err(NotTaken::Held(owner)) => {
                assert_eq!(owner, holder);
                assert_eq!((shared.lock().owner(), shared.data()), (None, 1));
            }
            other => panic!("{other:?}"),
        }
    });
}

/// One that has no time looks, and does not cost the sleeper its wake-up.
#[test]
fn one_that_does_not_wait_does_not_harm_one_that_does() {
    explore("one waits, one has no time", Some(3), 1_000, || {
        let holder = alike(0);
        let shared = Guarded::new(holder.word());
        let waits = spawn(&shared, |shared| _ = shared.turn(alike(1), alive));
        let hasty = spawn(&shared, |shared| {
            let me = alike(2);
            if shared.lock().lock(me, Some(Instant::now()), alive) == Ok(None) {
                assert!(shared.lock().unlock(me, None));
            }
        });
        let holder = spawn(&shared, move |shared| {
            assert!(shared.lock().unlock(holder, None));
        });
        join([waits, hasty, holder]);
        assert_eq!(shared.lock().owner(), None);
    });
}

/// `N` find a lock whose owner is dead, and give it back with or without the poison: what each was
/// told, and the word in the end.
fn dead_owner<const N: usize>(
    name: &str,
    bound: Option<usize>,
    at_least: usize,
    flag: u64,
    persists: bool,
    check: impl Fn([Option<Owner>; N], u64) + Send + Sync + 'static,
) {
    explore(name, bound, at_least, move || {
        let dead = apart(0);
        let shared = Guarded::new(dead.word() | flag);
        let told = join(std::array::from_fn(|n| {
            spawn(&shared, move |shared| {
                let me = apart(n + 1);
                let judge = |owner| match owner == dead {
                    true => Ok(Holder::Dead),
                    false => alive(owner),
                };
                let told = shared.lock().lock(me, None, judge).unwrap();
                assert_eq!(shared.lock().owner(), Some(me));
                shared.add_one();
                assert!(shared.lock().unlock(me, told.filter(|_| persists)));
                told
            })
        }));
        assert_eq!(shared.data(), N as u64);
        check(told, shared.word.load(Acquire));
    });
}

fn told_once<const N: usize>(told: [Option<Owner>; N], end: u64) {
    assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&apart(0)]);
    assert_eq!(end, 0);
}

fn told_each<const N: usize>(told: [Option<Owner>; N], end: u64) {
    assert_eq!(told, [Some(apart(0)); N]);
    assert_eq!(end, apart(0).word() | POISONED);
}

#[test]
fn of_many_who_find_a_dead_owner_one_is_told() {
    for flag in [0, CONTENDED] {
        let name = format!("a dead owner, two waiters, flag {flag}");
        dead_owner::<2>(&name, None, 50, flag, false, told_once);
        let name = format!("a dead owner, three waiters, flag {flag}");
        dead_owner::<3>(&name, Some(3), 1_000, flag, false, told_once);
    }
}

#[test]
fn a_poisoned_lock_stays_so_until_it_is_given_back_clean() {
    for flag in [0, POISONED, POISONED | CONTENDED] {
        let name = format!("given back poisoned, two, flag {flag}");
        dead_owner::<2>(&name, None, 50, flag, true, told_each);
        let name = format!("given back poisoned, three, flag {flag}");
        dead_owner::<3>(&name, Some(3), 1_000, flag, true, told_each);
        let name = format!("given back clean, two, flag {flag}");
        dead_owner::<2>(&name, None, 50, flag, false, told_once);
    }
}

/// One takes the lock, and dies with it half-way or gives it back. Of two who wait, one is told of
/// the death, and none of anything else.
#[test]
fn an_owner_that_dies_is_told_of_once() {
    for dies in [false, true] {
        explore(
            &format!("an owner that dies: {dies}, two waiters"),
            Some(3),
            1_000,
            move || {
                let mortal = apart(0);
                let shared = Guarded::new(0);
                let first = spawn(&shared, move |shared| {
                    let taken = shared.lock().lock(mortal, None, alive).unwrap();
                    shared.add_one();
                    if dies {
                        shared.set_fate(DIED);
                    } else {
                        assert!(shared.lock().unlock(mortal, None));
                        shared.set_fate(GAVE_BACK);
                    }
                    taken
                });
                let waiters = [1, 2].map(|n| {
                    spawn(&shared, move |shared| {
                        let judge = |owner| match owner == mortal && shared.has_died() {
                            true => Ok(Holder::Dead),
                            false => alive(owner),
                        };
                        shared.turn(apart(n), judge).unwrap()
                    })
                });
                let waiters = join(waiters);
                assert_eq!(join([first]), [None]);
                let told: Vec<_> = waiters.into_iter().flatten().collect();
                let lock = shared.lock();
                match lock.owner() {
                    // It came last, and has died since.
                    Some(owner) => assert!(dies && owner == mortal && told.is_empty()),
                    None => assert_eq!(told, [mortal].repeat(usize::from(dies))),
                }
                assert_eq!(shared.data(), 3);
            },
        );
    }
}

/// Each hold ends once: given back by its owner, or taken from it. Who was robbed gives back nothing,
/// and least of all the lock of the next one.
#[test]
fn who_was_robbed_does_not_give_back_the_lock_of_the_next() {
    explore("break_open against unlock", Some(3), 1_000, || {
        let [first, second] = [0, 1].map(alike);
        let shared = Guarded::new(first.word());
        let unlocks = spawn(&shared, move |s| (s.lock().unlock(first, None), None));
        let robs = spawn(&shared, |shared| (true, shared.lock().break_open()));
        let locks = spawn(&shared, move |shared| {
            let told = shared.lock().lock(second, None, alive).unwrap();
            (shared.lock().unlock(second, told), told)
        });
        let [(first_gave_back, _), (_, robbed), (second_gave_back, told)] =
            join([unlocks, robs, locks]);
        assert_eq!(first_gave_back, robbed != Some(first));
        assert_eq!(second_gave_back, robbed != Some(second));
        assert_eq!(told, robbed.filter(|&robbed| robbed == first));
        let poison = robbed.map_or(0, |robbed| robbed.word() | POISONED);
        assert_eq!(shared.word.load(Acquire), poison);
    });
}

/// Taking it from somebody wakes who sleeps: the robbed one will not.
#[test]
fn who_waits_for_a_lock_that_is_broken_open_gets_it() {
    explore("break_open against wait", Some(3), 1_000, || {
        let holder = alike(0);
        let shared = Guarded::new(holder.word());
        let waiters = [1, 2].map(|n| {
            spawn(&shared, move |shared| {
                let told = shared.lock().lock(alike(n), None, alive).unwrap();
                shared.lock().unlock(alike(n), None);
                told
            })
        });
        // The holder never gives it back, so it is the one who is robbed.
        let robs = spawn(&shared, |shared| shared.lock().break_open());
        let told = join(waiters);
        assert_eq!(join([robs]), [Some(holder)]);
        assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&holder]);
        assert_eq!(shared.lock().owner(), None);
    });
}
