//! What blocks, and what it stands on: becoming a participant, locks, permits, turns, rings.

use std::path::Path;
use std::time::Duration;

use forkmap::{AtomicDict, Lock, LockError, LockGuard, Once, Permit, Semaphore};

use super::late;
use crate::bench::child::Child;
use crate::bench::scenario::{Failure, Fate, NAME, Outcome, Place, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// Longer than it may take until a dead owner is noticed.
const SOON: Duration = Duration::from_secs(5);

const LOCK: u64 = 1;
const OTHER_LOCK: u64 = 2;
const PERMIT: u64 = 3;
const ONCE: u64 = 4;
const VALUE: u64 = 5;
const DONE: u64 = 6;

/// Room for two living processes: who dies or stops while it registers must not take it from others.
fn dict(place: &Place) -> Result<AtomicDict, Failure> {
    Ok(place.options().participants(2).capacity(10).create(NAME)?)
}

/// Whether the lock is with the victim, by the account of one who wants it.
fn is_held(lock: &Lock, fate: Fate) -> Result<bool, Failure> {
    let taken = match fate {
        Fate::Stopped => lock.try_lock(),
        _ => lock.lock_timeout(SOON),
    };
    match (taken, fate) {
        (Ok(_), _) => Ok(false),
        (Err(LockError::Poisoned(mut guard)), Fate::Killed) => {
            guard.clear_poison();
            Ok(true)
        }
        (Err(LockError::Held { .. }), Fate::Stopped) => Ok(true),
        (Err(error), _) => Err(error.into()),
    }
}

/// A lock that the victim takes or gives back.
struct Locking {
    place: Place,
    dict: AtomicDict,
    lock: Lock,
    guard: Option<LockGuard>,
    /// What the victim does before.
    before: fn(&mut Self) -> Result<(), Failure>,
    op: fn(&mut Self) -> Result<(), Failure>,
    /// Whether it has the lock after the operation; before it, it is the other way round.
    has_it: bool,
    /// Whether a rival was given the lock.
    taken: Option<u64>,
}

fn locking(
    dir: &Path,
    has_it: bool,
    before: fn(&mut Locking) -> Result<(), Failure>,
    op: fn(&mut Locking) -> Result<(), Failure>,
) -> Made {
    let place = Place::new(dir);
    let dict = dict(&place)?;
    let lock = Lock::new(&dict, LOCK)?;
    Ok(Box::new(Locking {
        place,
        dict,
        lock,
        guard: None,
        before,
        op,
        has_it,
        taken: None,
    }))
}

/// Takes a free lock, already known in the segment.
pub(crate) fn lock(dir: &Path) -> Made {
    locking(dir, true, Locking::register, Locking::take)
}

/// Gives a lock back.
pub(crate) fn unlock(dir: &Path) -> Made {
    locking(dir, false, Locking::take, Locking::give_back)
}

/// Gives a lock back that somebody has slept on.
pub(crate) fn unlock_contended(dir: &Path) -> Made {
    let before = |s: &mut Locking| {
        s.take()?;
        // The bit that a sleeper sets.
        s.dict.fetch_or(LOCK, 1)?;
        Ok(())
    };
    locking(dir, false, before, Locking::give_back)
}

impl Locking {
    fn register(&mut self) -> Result<(), Failure> {
        drop(Lock::new(&self.dict, OTHER_LOCK)?.lock()?);
        Ok(())
    }

    fn take(&mut self) -> Result<(), Failure> {
        self.guard = Some(self.lock.lock()?);
        Ok(())
    }

    fn give_back(&mut self) -> Result<(), Failure> {
        drop(self.guard.take());
        Ok(())
    }

    fn seen(&self, lock: &Lock, scene: Scene) -> Result<Seen, Failure> {
        let held = is_held(lock, scene.fate)?;
        if scene.fate == Fate::Killed && scene.seen.done.is_some() {
            // The one before has had it, and mended what was to be mended.
            ensure!(!held, "the dead owner was told twice");
            return Ok(Seen::NOTHING);
        }
        Ok(Seen::done(held == self.has_it))
    }
}

impl Scenario for Locking {
    fn enter(&mut self) -> Result<(), Failure> {
        (self.before)(self)
    }

    fn op(&mut self) -> Result<(), Failure> {
        (self.op)(self)
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        // Whatever else there is goes on.
        drop(Lock::new(&self.dict, OTHER_LOCK)?.lock_timeout(SOON)?);
        ensure!(self.dict.fetch_add(VALUE, 1)? == 0, "a new value is not 0");
        self.seen(&self.lock, scene)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let dict = self.place.open()?;
        self.seen(&Lock::new(&dict, LOCK)?, scene)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        // The victim has gone on to its end, and ended without giving anything back.
        let held = is_held(&self.lock, Fate::Killed)?;
        let expected = match scene.fate {
            Fate::Killed => [false; 2],
            Fate::Stopped => [self.has_it; 2],
            Fate::KilledLater if scene.seen.done == Some(true) => [self.has_it; 2],
            Fate::KilledLater => [false, true],
        };
        ensure!(
            expected.contains(&held),
            "held at last: {held}, not one of {expected:?}"
        );
        ensure!(!self.lock.is_locked(), "a lock that nobody has is taken");
        Ok(Seen::NOTHING)
    }

    fn answer(&self) -> Option<u64> {
        self.taken
    }

    fn rivals(&self) -> &'static [&'static str] {
        // A victim that wants the lock waits for a rival that was stopped with it.
        if self.has_it {
            &["another lock"]
        } else {
            &["try_lock", "another lock"]
        }
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        self.register()
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "try_lock" => self.taken = Some(u64::from(!is_held(&self.lock, Fate::Stopped)?)),
            _ => self.register()?,
        }
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        let held = is_held(&self.lock, Fate::Killed)?;
        ensure!(!self.lock.is_locked(), "a lock that nobody has is taken");
        drop(Lock::new(&self.dict, OTHER_LOCK)?.lock_timeout(SOON)?);
        Ok(Outcome::Told(format!("{answers:?}, held at last: {held}")))
    }
}

/// A lock, a permit, or a turn, that the victim takes for the first time in its life, and gives back.
struct Visit {
    place: Place,
    dict: AtomicDict,
    before: fn(&AtomicDict) -> Result<(), Failure>,
    op: fn(&AtomicDict) -> Result<(), Failure>,
}

fn visit(
    dir: &Path,
    before: fn(&AtomicDict) -> Result<(), Failure>,
    op: fn(&AtomicDict) -> Result<(), Failure>,
) -> Made {
    let place = Place::new(dir);
    let dict = dict(&place)?;
    Ok(Box::new(Visit {
        place,
        dict,
        before,
        op,
    }))
}

/// The first lock of a process, which registers it.
pub(crate) fn register(dir: &Path) -> Made {
    visit(dir, |_| Ok(()), first_lock)
}

/// The same, where each place has had as many as can be counted.
pub(crate) fn register_late(dir: &Path) -> Made {
    let made = register(dir)?;
    late::participants(&dir.join(NAME))?;
    Ok(made)
}

fn first_lock(dict: &AtomicDict) -> Result<(), Failure> {
    drop(Lock::new(dict, LOCK)?.lock()?);
    Ok(())
}

/// A lock whose owner is dead.
pub(crate) fn lock_of_the_dead(dir: &Path) -> Made {
    let op = |dict: &AtomicDict| match Lock::new(dict, LOCK)?.lock() {
        Err(LockError::Poisoned(mut guard)) => {
            guard.clear_poison();
            Ok(())
        }
        // Somebody else has been told while the victim was stopped.
        Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    };
    let place = Place::new(dir);
    let dict = dict(&place)?;
    let lock = Lock::new(&dict, LOCK)?;
    let owner = Child::fork(move || {
        std::mem::forget(lock.lock()?);
        Ok(String::new())
    })?;
    owner.wait(SOON)?;
    let before = |_: &AtomicDict| Ok(());
    Ok(Box::new(Visit {
        place,
        dict,
        before,
        op,
    }))
}

/// A permit, taken and given back.
pub(crate) fn permit(dir: &Path) -> Made {
    let op = |dict: &AtomicDict| {
        let permit: Permit = Semaphore::new(dict, PERMIT, 1)?.acquire()?;
        drop(permit);
        Ok(())
    };
    visit(dir, |_| Ok(()), op)
}

/// The turn to do something once.
pub(crate) fn once(dir: &Path) -> Made {
    let op = |dict: &AtomicDict| {
        let mut done = Ok(0);
        Once::new(dict, ONCE)?.call_once(|| done = dict.fetch_add(DONE, 1))?;
        done?;
        Ok(())
    };
    visit(dir, |_| Ok(()), op)
}

/// A change of a value that somebody waits for.
pub(crate) fn ring(dir: &Path) -> Made {
    let before = |dict: &AtomicDict| {
        // Leaves the flag of the bell raised.
        let seen = dict.wait_while_timeout(VALUE, 0, Duration::from_millis(1));
        ensure!(seen.is_none(), "a new value is not 0");
        Ok(())
    };
    let op = |dict: &AtomicDict| {
        dict.fetch_add(VALUE, 1)?;
        Ok(())
    };
    visit(dir, before, op)
}

impl Visit {
    /// All that the victim may have been at can be had, unless it is stopped and has it.
    fn look(&self, dict: &AtomicDict, scene: Scene) -> Result<Seen, Failure> {
        let lock = Lock::new(dict, LOCK)?;
        let taken = match scene.fate {
            Fate::Stopped => lock.try_lock(),
            _ => lock.lock_timeout(SOON),
        };
        match taken.or_else(LockError::into_guard) {
            Ok(mut guard) => guard.clear_poison(),
            Err(LockError::Held { .. }) if scene.fate == Fate::Stopped => {}
            Err(error) => return Err(error.into()),
        }
        let semaphore = Semaphore::new(dict, PERMIT, 1)?;
        let once = Once::new(dict, ONCE)?;
        let try_once = || once.call_once_timeout(|| _ = dict.fetch_add(DONE, 1), Duration::ZERO);
        match scene.fate {
            Fate::Stopped => {
                drop(semaphore.try_acquire());
                let _ = try_once();
            }
            _ => {
                drop(semaphore.acquire_timeout(SOON)?);
                try_once()?;
            }
        }
        ensure!(dict.load(DONE) <= 2, "done {} times", dict.load(DONE));
        // Waiting for what is there already, and for what does not come.
        dict.fetch_add(VALUE, 1000)?;
        let seen = dict.wait_until_timeout(VALUE, |value| value >= 1000, SOON);
        ensure!(seen.is_some(), "a change was not seen");
        let seen = dict.wait_while_timeout(VALUE, seen.unwrap_or(0), Duration::from_millis(1));
        ensure!(seen.is_none(), "a change that nobody made");
        Ok(Seen::NOTHING)
    }
}

impl Scenario for Visit {
    fn enter(&mut self) -> Result<(), Failure> {
        (self.before)(&self.dict)
    }

    fn op(&mut self) -> Result<(), Failure> {
        (self.op)(&self.dict)
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        self.look(&self.dict, scene)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        self.look(&self.place.open()?, scene)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        // By now all others are dead, and nothing may be left with them.
        let seen = self.look(
            &self.dict,
            Scene {
                fate: Fate::Killed,
                ..scene
            },
        )?;
        let living = self
            .dict
            .participants()?
            .iter()
            .filter(|one| one.is_alive)
            .count();
        ensure!(living == 1, "{living} participants, where only one lives");
        ensure!(
            Once::new(&self.dict, ONCE)?.is_completed(),
            "not done at last"
        );
        Ok(seen)
    }

    fn rivals(&self) -> &'static [&'static str] {
        &["another lock", "fetch_add"]
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Nothing that the victim may have to wait for.
    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "fetch_add" => _ = self.dict.fetch_add(VALUE, 1)?,
            _ => drop(Lock::new(&self.dict, OTHER_LOCK)?.lock()?),
        }
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        let value = self.dict.load(VALUE);
        let done = self.dict.load(DONE);
        let scene = Scene {
            fate: Fate::Killed,
            seen: Seen::NOTHING,
            answer: None,
            view: None,
        };
        self.finish(scene)?;
        Ok(Outcome::Told(format!("{answers:?} {value} {done}")))
    }
}
