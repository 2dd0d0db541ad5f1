//! A storm on what blocks: each death is noticed by the next one, and keeps nothing.

use std::path::Path;
use std::time::Duration;

use forkmap::{
    AcquireError, AtomicDict, Barrier, BarrierError, Lock, LockError, LockGuard, Once, OnceError,
    Options, ParticipantError, Permit, Semaphore,
};
use libtest_mimic::Trial;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::peer::{PATIENCE, Peer, watchdog};
use crate::storm::{Footprint, crews, kills, live};
use crate::{Role, run, test};

/// One for this process, and enough for the victims: each has two at most, and the right to a third one for
/// the instant at which it looks at that.
const PLACES: usize = 12;
const PERMITS: usize = 3;
const PARTIES: usize = 2;
const ONCES: u64 = 8;

/// Keys: the lock, and the first ones of the others.
const LOCK: u64 = 100;
const SEMAPHORE: u64 = 110;
const BARRIER: u64 = 120;
const ONCE: u64 = 130;
/// What the lock guards: two words that are equal, and whether somebody is at them, unless that one died.
const FIRST: u64 = 1;
const SECOND: u64 = 2;
const INSIDE: u64 = 3;
/// How many were told of a dead owner since that was looked at.
const TOLD: u64 = 4;
/// How often each closure was begun, and has come to its end.
const BEGUN: u64 = 10;
const DONE: u64 = 20;
/// How many operations of each kind were done by all.
const OPERATIONS: u64 = 30;
const KINDS: [&str; 5] = ["locked", "permits", "onces", "rounds", "attached"];

pub(crate) const ROLES: &[Role] = &[("storm-primitives", |args| {
    storm(Path::new(&args[0]), args[1].parse().unwrap());
})];

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "storm_locks_permits_and_places_are_free_after_many_kills",
        || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let args = [dir.path().to_str().unwrap(), &kills(1000)];
            print!("{}", run("storm-primitives", &args));
        },
    )]
}

/// The primitives, by way of one attachment.
struct Tools {
    dict: AtomicDict,
    lock: Lock,
    semaphore: Semaphore,
    barrier: Barrier,
}

impl Tools {
    fn new(dict: AtomicDict) -> Self {
        Self {
            lock: Lock::new(&dict, LOCK).unwrap(),
            semaphore: Semaphore::new(&dict, SEMAPHORE, PERMITS).unwrap(),
            barrier: Barrier::new(&dict, BARRIER, PARTIES).unwrap(),
            dict,
        }
    }

    fn done(&self, kind: u64) {
        self.dict.fetch_add(OPERATIONS + kind, 1).unwrap();
    }

    fn once(&self, n: u64) -> Once {
        Once::new(&self.dict, ONCE + n).unwrap()
    }

    /// The lock, with what it guards in order, unless somebody has it. Whether the last owner was dead, and
    /// which process that was, if that is still known.
    #[track_caller]
    fn owned(
        &self,
        taken: Result<LockGuard, LockError>,
    ) -> Option<(LockGuard, Option<Option<u32>>)> {
        let dict = &self.dict;
        let [first, second, inside] = [FIRST, SECOND, INSIDE].map(|key| dict.load(key));
        match taken {
            Ok(guard) => {
                assert!(inside == 0, "the last owner is dead, and nobody was told");
                assert_eq!(first, second);
                Some((guard, None))
            }
            Err(LockError::Poisoned(mut guard)) => {
                dict.fetch_add(TOLD, 1).unwrap();
                assert!(first == second || first == second + 1);
                dict.store(SECOND, first).unwrap();
                let by = guard.poisoned_by();
                guard.clear_poison();
                Some((guard, Some(by)))
            }
            Err(LockError::Held { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn lock(&self, rng: &mut SmallRng) {
        let dict = &self.dict;
        let taken = match rng.random_bool(0.5) {
            true => self.lock.try_lock(),
            false => self.lock.lock_timeout(short(rng)),
        };
        // (What is loaded of an owner that is alive is not looked at.)
        let Some((guard, _)) = self.owned(taken) else {
            return;
        };
        dict.store(INSIDE, 1).unwrap();
        let n = dict.fetch_add(FIRST, 1).unwrap();
        spin(rng.random_range(0..200));
        assert_eq!(dict.fetch_add(SECOND, 1).unwrap(), n, "two are here");
        dict.store(INSIDE, 0).unwrap();
        drop(guard);
        self.done(0);
    }

    /// Takes one more, or gives all back.
    fn permit(&self, permits: &mut Vec<Permit>, rng: &mut SmallRng) {
        if permits.len() == 2 || rng.random_bool(0.3) {
            return permits.clear();
        }
        let taken = match rng.random_bool(0.5) {
            true => self.semaphore.try_acquire(),
            false => self.semaphore.acquire_timeout(short(rng)),
        };
        match taken {
            Ok(permit) => permits.push(permit),
            Err(AcquireError::NoPermits) => {}
            Err(error) => panic!("{error}"),
        }
        self.done(1);
    }

    fn call_once(&self, n: u64, timeout: Duration) -> bool {
        let dict = &self.dict;
        let call = || {
            dict.fetch_add(BEGUN + n, 1).unwrap();
            spin(2000);
            dict.fetch_add(DONE + n, 1).unwrap();
        };
        match self.once(n).call_once_timeout(call, timeout) {
            Ok(()) => true,
            Err(OnceError::Running { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn meet(&self, rng: &mut SmallRng) {
        let met = self.barrier.join().and_then(|mut party| {
            party.wait_timeout(short(rng))?;
            self.done(3);
            party.wait_timeout(short(rng))
        });
        match met {
            Ok(_) | Err(BarrierError::TimedOut | BarrierError::Full { .. }) => {}
            Err(BarrierError::Broken) => {
                if rng.random_bool(0.5) {
                    self.barrier.reset().unwrap();
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Is at it for a while, without giving the processor to others.
fn spin(n: u32) {
    (0..n).for_each(|_| std::hint::spin_loop());
}

fn short(rng: &mut SmallRng) -> Duration {
    Duration::from_micros(rng.random_range(0..60))
}

struct Storm<'a> {
    options: Options<AtomicDict>,
    dir: &'a Path,
    tools: Tools,
}

impl Storm<'_> {
    fn open(&self) -> Tools {
        Tools::new(self.options.open("dict").unwrap())
    }

    /// With the attachment of the parent, or with its own, which it gives up now and then.
    fn victim(&self, rng: &mut SmallRng) {
        let mut opened = None;
        let mut permits = Vec::new();
        live(rng, |rng| {
            let tools = opened.as_ref().unwrap_or(&self.tools);
            match rng.random_range(0..32) {
                0..10 => tools.lock(rng),
                10..18 => tools.permit(&mut permits, rng),
                18..24 => {
                    tools.call_once(rng.random_range(0..ONCES), short(rng));
                    tools.done(2);
                }
                24..30 => tools.meet(rng),
                30 => {
                    permits.clear();
                    let own = self.open();
                    own.done(4);
                    opened = Some(own);
                }
                _ => {
                    permits.clear();
                    opened = None;
                }
            }
        });
    }

    /// Nobody else lives, and these have died since it was called last.
    fn check(&self, dead: &[u32]) {
        let (tools, dict) = (&self.tools, &self.tools.dict);
        let deaths = dead.len() as u64;
        // Nobody has the lock; whose owner died is told, once, and who that was.
        let (guard, told) = tools
            .owned(tools.lock.try_lock())
            .expect("its owner is dead");
        assert!(
            told.flatten().is_none_or(|pid| dead.contains(&pid)),
            "{told:?}, {dead:?}"
        );
        dict.store(INSIDE, 0).unwrap();
        drop(guard);
        assert!(!tools.lock.is_locked());
        drop(tools.lock.try_lock().expect("it was told already"));
        let told = dict.swap(TOLD, 0).unwrap();
        assert!(told <= deaths, "{deaths} deaths, and {told} were told");

        let take = || tools.semaphore.try_acquire();
        let permits: Vec<_> = (0..PERMITS).map(|_| take().unwrap()).collect();
        assert!(matches!(take(), Err(AcquireError::NoPermits)));
        drop(permits);
        assert_eq!(tools.semaphore.available_permits(), PERMITS);

        for n in 0..ONCES {
            assert!(tools.call_once(n, Duration::ZERO), "who was at it is dead");
            let [begun, done] = [BEGUN, DONE].map(|key| dict.swap(key + n, 0).unwrap());
            // Each but one ended by a death: in the middle of it, or before its end was noted.
            let explained = 1 <= done && done <= begun && begun <= deaths + 1;
            assert!(explained, "{begun} begun, {done} done, {deaths} deaths");
            dict.store(ONCE + n, 0).unwrap();
        }

        match tools.barrier.join() {
            Ok(party) => drop(party),
            Err(error) => assert!(matches!(error, BarrierError::Broken), "{error}"),
        }
        tools.barrier.reset().unwrap();
        let parties: Vec<_> = (0..PARTIES)
            .map(|_| tools.barrier.join().unwrap())
            .collect();
        assert!(matches!(
            tools.barrier.join(),
            Err(BarrierError::Full { .. })
        ));
        drop(parties);

        let all = dict.participants().unwrap();
        let mut living = all.iter().filter(|one| one.is_alive);
        let me = living.next().map(|one| one.pid);
        assert!(
            me == Some(std::process::id()) && living.next().is_none(),
            "{all:?}"
        );
        assert!(all.len() <= PLACES);
    }

    /// Somebody who waits is let go on, whatever the dead have left there.
    fn check_waiting(&self) {
        let tools = &self.tools;
        let guard = tools.lock.try_lock().unwrap();
        let permits: Vec<_> = (0..PERMITS)
            .map(|_| tools.semaphore.acquire().unwrap())
            .collect();
        let mut party = tools.barrier.join().unwrap();
        let peer = Peer::fork(|| {
            drop(tools.lock.lock().unwrap());
            drop(tools.semaphore.acquire().unwrap());
            tools
                .barrier
                .join()
                .unwrap()
                .wait_timeout(PATIENCE)
                .unwrap();
        });
        drop(guard);
        drop(permits);
        party.wait_timeout(PATIENCE).unwrap();
        peer.join();
    }

    /// All places can be had, and they are as many as before.
    fn check_places(&self) {
        let others: Vec<_> = (1..PLACES).map(|_| self.open()).collect();
        others
            .iter()
            .for_each(|other| drop(other.lock.try_lock().unwrap()));
        let refused = self.open().lock.try_lock();
        let full = matches!(
            refused,
            Err(LockError::Participant(ParticipantError::TooMany {
                limit: PLACES
            }))
        );
        assert!(full, "{refused:?}");
        drop(others);
        assert_eq!(self.tools.dict.participants().unwrap().len(), 1);
    }

    /// When everything was looked at.
    fn footprint(&self) -> Footprint {
        self.check(&[]);
        self.check_waiting();
        self.check_places();
        Footprint::of(self.dir, "")
    }
}

fn storm(dir: &Path, kills: u64) {
    watchdog();
    let mut options = AtomicDict::options();
    options.dir(dir).capacity(200).participants(PLACES as u64);
    let tools = Tools::new(options.create("dict").unwrap());
    let storm = Storm {
        options,
        dir,
        tools,
    };
    let before = storm.footprint();
    let mut told = 0;
    crews(
        kills,
        32,
        |_, _, rng| storm.victim(rng),
        |deaths, dead| {
            told += storm.tools.dict.load(TOLD) + u64::from(storm.tools.dict.load(INSIDE) != 0);
            storm.check(dead);
            if deaths % 64 == 0 {
                storm.check_waiting();
                storm.check_places();
            }
        },
    );
    assert_eq!(storm.footprint(), before);
    let kinds = KINDS.iter().zip(OPERATIONS..);
    let done = kinds.map(|(kind, key)| format!("{} {kind}", storm.tools.dict.load(key)));
    let done: Vec<_> = done.collect();
    println!(
        "{kills} deaths, {told} of them with the lock; {}",
        done.join(", ")
    );
}
