//! Operations on all keys of a map, and waiting for one.

use std::path::Path;
use std::time::Duration;

use forkmap::WaitError;

use super::maps::{Kind, Map, Numbers, Site, Texts, is_dead};
use crate::bench::scenario::{Failure, Outcome, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// Keys that are there at first, each with ten times itself as its value.
const KEYS: u64 = 4;

/// The key that the peer leaves, and the one of the newcomer, with the value 9.
const PEER: u64 = 11;
const NEWCOMER: u64 = 12;

/// Where the peer leaves word of which keys it has seen: this, plus a bit for each.
const NOTE: u64 = 13;
const SEEN: u64 = 1000;

/// What a keeper makes of a value.
const KEPT: u64 = 5000;

struct Sweep<T: Kind> {
    site: Site,
    map: Map<T>,
    /// Gives what was found, as a number.
    op: fn(&Map<T>) -> Result<Option<u64>, Failure>,
    /// Whether it removes a key that has that value.
    removes: fn(u64) -> bool,
    found: Option<u64>,
}

fn sweep<T: Kind>(
    dir: &Path,
    op: fn(&Map<T>) -> Result<Option<u64>, Failure>,
    removes: fn(u64) -> bool,
) -> Made {
    let site = Site::new(dir, KEYS + 4, 4);
    let map = site.create::<T>()?;
    for key in 1..=KEYS {
        map.insert(key, key * 10)?;
    }
    Ok(Box::new(Sweep {
        site,
        map,
        op,
        removes,
        found: None,
    }))
}

/// Removes all keys.
pub(crate) fn clear(dir: &Path) -> Made {
    sweep::<Numbers>(dir, |map| Ok(map.0.clear().map(|()| None)?), |_| true)
}

/// Removes those that have small values, which two of the four have.
pub(crate) fn retain(dir: &Path) -> Made {
    let removes = |value| value < 30;
    sweep::<Numbers>(
        dir,
        |map| Ok(map.0.retain(|_, &value| value >= 30).map(|()| None)?),
        removes,
    )
}

/// Visits all.
pub(crate) fn iter(dir: &Path) -> Made {
    sweep::<Numbers>(dir, visit::<Numbers>, |_| false)
}

/// The same with values of several words.
pub(crate) fn iter_text(dir: &Path) -> Made {
    sweep::<Texts>(dir, visit::<Texts>, |_| false)
}

/// Counts them.
pub(crate) fn len(dir: &Path) -> Made {
    let count = |map: &Map<Numbers>| {
        let found = map.0.len();
        // Those of the others come meanwhile.
        let possible = KEYS as usize..=KEYS as usize + 3;
        ensure!(possible.contains(&found), "{found} keys");
        Ok(Some(found as u64))
    };
    sweep::<Numbers>(dir, count, |_| false)
}

/// A key that is there all the time is seen once, with one of its values; any other at most once.
fn visit<T: Kind>(map: &Map<T>) -> Result<Option<u64>, Failure> {
    let found = map.pairs()?;
    for key in 1..=KEYS {
        let mut values = found.iter().filter(|pair| pair.0 == key);
        let (value, again) = (values.next(), values.next());
        let possible = [key * 10, key * 10 + KEPT];
        ensure!(
            value.is_some_and(|pair| possible.contains(&pair.1)) && again.is_none(),
            "key {key} in {found:?}"
        );
    }
    let mut keys: Vec<_> = found.iter().map(|pair| pair.0).collect();
    keys.dedup();
    ensure!(keys.len() == found.len(), "a key was seen twice: {found:?}");
    Ok(Some(found.iter().map(|pair| pair.0 + pair.1).sum()))
}

impl<T: Kind> Sweep<T> {
    /// The first keys that are there, a bit for each. They must have the values that they had at first.
    fn present(&self, map: &Map<T>) -> Result<u64, Failure> {
        let mut present = 0;
        for key in 1..=KEYS {
            let found = map.get(key)?;
            let may_go = (self.removes)(key * 10);
            ensure!(
                found == Some(key * 10) || found.is_none() && may_go,
                "key {key}: {found:?}"
            );
            present |= u64::from(found.is_some()) << key;
        }
        Ok(present)
    }

    fn first_pairs(present: u64, added: u64) -> Vec<(u64, u64)> {
        let there = (1..=KEYS).filter(|key| present >> key & 1 != 0);
        there.map(|key| (key, key * 10 + added)).collect()
    }

    /// Whether all is removed that is to be; nothing, if that is nothing at all.
    fn seen(&self, present: u64) -> Seen {
        let mut doomed = (1..=KEYS).filter(|key| (self.removes)(key * 10)).peekable();
        match doomed.peek() {
            None => Seen::NOTHING,
            Some(_) => Seen::done(doomed.all(|key| present >> key & 1 == 0)),
        }
    }
}

impl<T: Kind> Scenario for Sweep<T> {
    fn enter(&mut self) -> Result<(), Failure> {
        self.map.register()
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.found = (self.op)(&self.map)?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.found
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let present = self.present(&self.map)?;
        self.map.has_exactly(&Self::first_pairs(present, 0), [])?;
        self.map.work_on(PEER)?;
        self.map.insert(NOTE, SEEN + present)?;
        let again = self.present(&self.map)?;
        ensure!(again == present, "{present:b}, then {again:b}");
        Ok(self.seen(present))
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let map = self.site.open::<T>()?;
        let present = self.present(&map)?;
        let note = (NOTE, SEEN + present);
        map.has_exactly(&Self::first_pairs(present, 0), [(PEER, 9), note])?;
        if is_dead(scene.fate) {
            map.0.recover()?;
            map.is_in_order()?;
        }
        map.work_on(NEWCOMER)?;
        let again = self.present(&map)?;
        ensure!(again == present, "{present:b}, then {again:b}");
        // From now on nobody who asks will remove them.
        for (key, value) in Self::first_pairs(present, 0) {
            let previous = map.add(key, KEPT)?;
            ensure!(previous == Some(value), "key {key}: {previous:?}");
        }
        let own = [(PEER, 9), (NEWCOMER, 9), note];
        map.has_exactly(&Self::first_pairs(present, KEPT), own)?;
        if is_dead(scene.fate) {
            map.is_in_order()?;
        }
        Ok(self.seen(present))
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        // Only what the victim, gone on, may have removed since may be missing.
        let note = self.map.get(NOTE)?;
        let present = match note {
            Some(note) => note - SEEN,
            None => self.map.pairs()?.iter().fold(0, |all, pair| {
                all | u64::from(pair.0 <= KEYS) << (pair.0 % 64)
            }),
        };
        let mut expected = Self::first_pairs(present, KEPT);
        expected.extend([(PEER, 9), (NEWCOMER, 9)]);
        expected.extend(note.map(|note| (NOTE, note)));
        let goes_on = scene.resumed() || scene.killed_later();
        let may_go = |value| goes_on && (self.removes)(value);
        for (key, value) in expected.clone() {
            if may_go(value) && self.map.get(key)?.is_none() {
                expected.retain(|pair| pair.0 != key);
            }
        }
        ensure!(
            note.is_some() || may_go(SEEN),
            "the note of the peer is lost"
        );
        self.map.has_exactly(&expected, [])?;
        self.map.is_whole(&self.site)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        // Who looks at all keys while several go sees some of them.
        match (self.removes)(10) {
            true => &[
                "itself",
                "insert",
                "remove",
                "add",
                "insert another",
                "recover",
            ],
            false => &["itself", "insert", "insert another", "recover"],
        }
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.found = match name {
            "itself" => return self.op(),
            // One of those that are seldom kept, and a value that always is.
            _ => self.map.compete(name, (2, 20 + KEPT), PEER)?,
        };
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}

/// A key whose change somebody waits for, or has waited for.
struct Waiting {
    site: Site,
    map: Map<Numbers>,
    /// Whether the victim is who waits; else it makes the change.
    waits: bool,
}

const KEY: u64 = 7;
const START: u64 = 100;
const A_MOMENT: Duration = Duration::from_millis(1);

fn waiting(dir: &Path, waits: bool) -> Made {
    let site = Site::new(dir, 4, 4);
    let map = site.create::<Numbers>()?;
    map.insert(KEY, START)?;
    Ok(Box::new(Waiting { site, map, waits }))
}

/// A change that rings.
pub(crate) fn ring(dir: &Path) -> Made {
    waiting(dir, false)
}

/// Waiting for a change, in vain or not.
pub(crate) fn wait(dir: &Path) -> Made {
    waiting(dir, true)
}

impl Waiting {
    /// Waits for nothing, and for what is there already; then adds.
    fn look(&self, map: &Map<Numbers>, before: u64, n: u64) -> Result<Seen, Failure> {
        let found = map.get(KEY)?.ok_or("the key is lost")?;
        let done = !self.waits && found == before + 1;
        ensure!(done || found == before, "the value is {found}");
        let none = map.0.wait_for_change(&KEY, Some(&found), A_MOMENT);
        ensure!(
            matches!(none, Err(WaitError::TimedOut)),
            "a change that nobody made: {none:?}"
        );
        let known = map.0.wait_for_change(&KEY, None, A_MOMENT)?;
        ensure!(known == Some(found), "{known:?}, not {found}");
        let previous = map.0.fetch_add(&KEY, n)?;
        ensure!(previous == found, "from {found} to {previous}");
        let known = map.0.wait_for_change(&KEY, Some(&found), A_MOMENT)?;
        ensure!(known == Some(found + n), "{known:?}, not {found} + {n}");
        match self.waits {
            true => Ok(Seen::NOTHING),
            false => Ok(Seen::done(done)),
        }
    }
}

impl Scenario for Waiting {
    fn enter(&mut self) -> Result<(), Failure> {
        self.map.register()?;
        if !self.waits {
            // Leaves the flag of the bell raised.
            let none = self.map.0.wait_for_change(&KEY, Some(&START), A_MOMENT);
            ensure!(none.is_err(), "a change that nobody made");
        }
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        if !self.waits {
            self.map.0.fetch_add(&KEY, 1)?;
            return Ok(());
        }
        match self.map.0.wait_for_change(&KEY, Some(&START), A_MOMENT) {
            Err(WaitError::TimedOut) => Ok(()),
            Ok(Some(value)) if [START + 1010, START + 1000].contains(&value) => Ok(()),
            other => Err(format!("waited for: {other:?}").into()),
        }
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        self.look(&self.map, START, 10)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let map = self.site.open::<Numbers>()?;
        let seen = self.look(&map, START + 10, 1000)?;
        if is_dead(scene.fate) {
            map.0.recover()?;
            map.is_in_order()?;
        }
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let done = scene.seen.done == Some(true) || scene.resumed();
        let expected = START + 1010 + u64::from(done && !self.waits);
        let found = self.map.get(KEY)?;
        let is_late = scene.killed_later() && !done && !self.waits;
        ensure!(
            found == Some(expected) || (is_late && found == Some(expected + 1)),
            "{found:?}, not {expected}"
        );
        self.map.is_whole(&self.site)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        &["itself", "add"]
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        self.map.register()
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        match name {
            "itself" => self.op(),
            _ => self.map.compete(name, (KEY, 1000), KEY).map(|_| ()),
        }
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}
