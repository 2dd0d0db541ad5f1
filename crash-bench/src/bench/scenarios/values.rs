//! Operations on one value: the others add to the same one.

use std::path::Path;

use forkmap::{AtomicDict, Entry};

use crate::bench::scenario::{Failure, Fate, Outcome, Place, Scenario, Scene, Seen, ensure};

/// The key that all use, and one that nobody touches.
const KEY: u64 = 7;
const BYSTANDER: u64 = 8;
const UNTOUCHED: u64 = 0x0123_4567_89AB_CDEF;

/// The value at first, if the key has one.
const START: u64 = 100;

/// A key that only a rival has.
const RIVALS: u64 = 9;

/// What the others add.
const PEER: u64 = 10;
const NEWCOMER: u64 = 1000;

struct OnValue {
    place: Place,
    dict: AtomicDict,
    /// `None`: the key has no slot yet.
    entry: Option<Entry>,
    /// The operation; gives the previous value, but for a store.
    op: Op,
    /// What it makes of a value.
    model: fn(u64) -> u64,
    /// What the operation gave.
    previous: Option<u64>,
}

type Made = Result<Box<dyn Scenario>, Failure>;
type Op = fn(&OnValue) -> Result<Option<u64>, Failure>;

fn make(dir: &Path, with_key: bool, op: Op, model: fn(u64) -> u64) -> Made {
    let place = Place::new(dir);
    let dict = place.create(10)?;
    dict.store(BYSTANDER, UNTOUCHED)?;
    let entry = with_key.then(|| dict.entry(KEY)).transpose()?;
    if let Some(entry) = &entry {
        entry.store(START);
    }
    Ok(Box::new(OnValue {
        place,
        dict,
        entry,
        op,
        model,
        previous: None,
    }))
}

/// Addition by key.
pub(crate) fn fetch_add(dir: &Path) -> Made {
    make(
        dir,
        true,
        |s| Ok(Some(s.dict.fetch_add(KEY, 1)?)),
        |v| v + 1,
    )
}

/// Addition to a key that has no slot yet.
pub(crate) fn fetch_add_new_key(dir: &Path) -> Made {
    make(
        dir,
        false,
        |s| Ok(Some(s.dict.fetch_add(KEY, 1)?)),
        |v| v + 1,
    )
}

/// Addition by entry.
pub(crate) fn fetch_add_by_entry(dir: &Path) -> Made {
    let op: Op = |s| Ok(Some(s.entry.as_ref().ok_or("no entry")?.fetch_add(1)));
    make(dir, true, op, |v| v + 1)
}

/// A store, which has no previous value to give.
pub(crate) fn store(dir: &Path) -> Made {
    let op: Op = |s| Ok(s.dict.store(KEY, 7).map(|()| None)?);
    make(dir, true, op, |_| 7)
}

/// A swap.
pub(crate) fn swap(dir: &Path) -> Made {
    make(dir, true, |s| Ok(Some(s.dict.swap(KEY, 7)?)), |_| 7)
}

/// An exchange that succeeds only while nobody else has changed the value.
pub(crate) fn compare_exchange(dir: &Path) -> Made {
    let op: Op = |s| {
        let done = s.dict.compare_exchange(KEY, START, 7)?;
        Ok(Some(done.unwrap_or_else(|found| found)))
    };
    make(dir, true, op, |v| if v == START { 7 } else { v })
}

/// A maximum above all that the others make of the value.
pub(crate) fn fetch_max(dir: &Path) -> Made {
    let op: Op = |s| Ok(Some(s.dict.fetch_max(KEY, 5000)?));
    make(dir, true, op, |v| v.max(5000))
}

/// An addition that the additions of the others make impossible.
pub(crate) fn fetch_add_bounded(dir: &Path) -> Made {
    let op: Op = |s| {
        let done = s.dict.fetch_add_bounded(KEY, 1, START + 5)?;
        Ok(Some(done.unwrap_or_else(|found| found)))
    };
    make(dir, true, op, |v| if v < START + 5 { v + 1 } else { v })
}

impl OnValue {
    fn first(&self) -> u64 {
        if self.entry.is_some() { START } else { 0 }
    }

    /// What the value is before the others have `added` something, and after the operation if it is
    /// `done`.
    fn expected(&self, done: bool, added: u64) -> u64 {
        let first = self.first();
        added + if done { (self.model)(first) } else { first }
    }

    fn has_nothing_else(&self) -> Result<(), Failure> {
        ensure!(
            self.dict.load(BYSTANDER) == UNTOUCHED,
            "another value was changed"
        );
        let keys = self.dict.len();
        ensure!(keys == 2, "there are {keys} keys, not 2");
        Ok(())
    }

    /// Adds to the value, after a look at it.
    fn add(&self, dict: &AtomicDict, before: u64, n: u64) -> Result<Seen, Failure> {
        let found = dict.load(KEY);
        let done = found == self.expected(true, before);
        let not_yet = self.expected(false, before);
        ensure!(
            done || found == not_yet,
            "the value is {found}, not {not_yet}"
        );
        let previous = dict.fetch_add(KEY, n)?;
        ensure!(
            previous == found,
            "the value went from {found} to {previous}"
        );
        let sum = dict.load(KEY);
        ensure!(sum == found + n, "{found} + {n} is {sum}");
        ensure!(
            dict.load(BYSTANDER) == UNTOUCHED,
            "another value was changed"
        );
        Ok(Seen::done(done))
    }
}

impl Scenario for OnValue {
    fn op(&mut self) -> Result<(), Failure> {
        self.previous = (self.op)(self)?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.previous
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        self.add(&self.dict, 0, PEER)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        self.add(&self.place.open()?, PEER, NEWCOMER)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let done = scene.seen.done == Some(true);
        let others = self.expected(done, PEER + NEWCOMER);
        let late = (self.model)(others);
        let found = self.dict.load(KEY);
        let possible = match scene.fate {
            Fate::Stopped if !done => found == late,
            Fate::KilledLater if !done => found == others || found == late,
            _ => found == others,
        };
        ensure!(possible, "the value is {found} at last, not {others}");
        if let Some(previous) = scene.answer {
            let expected = if done { self.first() } else { others };
            ensure!(previous == expected, "the previous value is {previous}");
        }
        self.has_nothing_else()?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        &[
            "itself",
            "fetch_add",
            "store",
            "swap",
            "compare_exchange",
            "load",
            "iter",
            "a new key",
        ]
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        let dict = &self.dict;
        self.previous = match name {
            "itself" => return self.op(),
            "fetch_add" => Some(dict.fetch_add(KEY, NEWCOMER)?),
            "store" => dict.store(KEY, NEWCOMER).map(|()| None)?,
            "swap" => Some(dict.swap(KEY, NEWCOMER)?),
            "compare_exchange" => {
                let done = dict.compare_exchange(KEY, self.first(), NEWCOMER)?;
                Some(done.unwrap_or_else(|found| found))
            }
            "load" => Some(dict.load(KEY)),
            // A key without a value yet is one that has 0.
            "iter" => {
                let found = dict.iter().find(|pair| pair.0 == KEY);
                Some(found.map_or(0, |pair| pair.1))
            }
            "a new key" => Some(dict.fetch_add(RIVALS, 1)?),
            other => return Err(format!("no rival does `{other}`").into()),
        };
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        ensure!(
            self.dict.load(BYSTANDER) == UNTOUCHED,
            "another value was changed"
        );
        let mut pairs: Vec<_> = self.dict.iter().collect();
        pairs.sort_unstable();
        Ok(Outcome::Told(format!("{answers:?} {pairs:?}")))
    }
}
