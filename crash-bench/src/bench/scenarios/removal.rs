//! Names that are taken away, or given to another segment.

use std::path::Path;

use forkmap::{AtomicDict, ReplaceError, UnlinkError};

use super::names::{self, BUSY, unlinked};

use crate::bench::scenario::{Failure, Fate, NAME, Outcome, Place, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// Capacities by which to tell whose segment it is.
const OLD: u64 = 500;
const VICTIM: u64 = 1000;
const PEER: u64 = 1500;
const NEWCOMER: u64 = 2000;
const RIVAL: u64 = 400;

/// The name leads from an old segment to nothing, or to one of the victim's.
struct Removal {
    place: Place,
    /// The old segment; `None` if the victim is to make it.
    old: Option<AtomicDict>,
    /// What the victim has made.
    own: Option<AtomicDict>,
    /// As a number: how that went.
    op: fn(&mut Self) -> Result<u64, Failure>,
    /// Where the name leads after the operation.
    after: Option<u64>,
    /// Whether the operation concerns only the old segment, whatever has the name.
    only_old: bool,
    answer: Option<u64>,
}

fn with_old(dir: &Path, op: fn(&mut Removal) -> Result<u64, Failure>, after: Option<u64>) -> Made {
    let place = Place::new(dir);
    let old = Some(place.create(OLD)?);
    Ok(Box::new(Removal {
        place,
        old,
        own: None,
        op,
        after,
        only_old: false,
        answer: None,
    }))
}

fn with_own(dir: &Path, op: fn(&mut Removal) -> Result<u64, Failure>) -> Made {
    let place = Place::new(dir);
    Ok(Box::new(Removal {
        place,
        old: None,
        own: None,
        op,
        after: None,
        only_old: true,
        answer: None,
    }))
}

/// The name is taken away.
pub(crate) fn unlink(dir: &Path) -> Made {
    with_old(dir, |s| unlinked(s.place.options().unlink(NAME)), None)
}

/// The name is given to another segment.
pub(crate) fn create_or_replace(dir: &Path) -> Made {
    let op = |s: &mut Removal| names::compete(&s.place, "create_or_replace", VICTIM);
    with_old(dir, op, Some(VICTIM))
}

/// The creator drops its handle.
pub(crate) fn unlink_on_drop(dir: &Path) -> Made {
    with_own(dir, |s| {
        drop(s.own.take());
        Ok(1)
    })
}

/// The creator closes its handle.
pub(crate) fn close(dir: &Path) -> Made {
    with_own(dir, |s| {
        s.own.take().ok_or("nothing to close")?.close()?;
        Ok(1)
    })
}

impl Removal {
    /// The capacity of the segment that has the name.
    fn current(&self) -> Result<Option<u64>, Failure> {
        let found = self.place.find()?;
        Ok(found.map(|dict| dict.capacity() as u64 / 2))
    }
}

impl Scenario for Removal {
    fn enter(&mut self) -> Result<(), Failure> {
        if self.old.is_none() {
            let mut options = self.place.options();
            self.own = Some(options.capacity(OLD).unlink_on_drop(true).create(NAME)?);
        }
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some((self.op)(self)?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    /// Goes on in the old segment, whatever becomes of its name, and needs one under the name.
    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let found = self.current()?;
        ensure!(
            found == Some(OLD) || found.is_none() || found == self.after,
            "the name leads to a segment for {found:?} keys"
        );
        if let Some(old) = &self.old {
            ensure!(old.fetch_add(1, 10)? == 0, "a new value is not 0");
            ensure!(
                old.is_current() == (found == Some(OLD)),
                "the name leads elsewhere"
            );
        }
        // Between the two steps of a replacement there is nothing: not done yet.
        let done = found == self.after;
        if !(found.is_none() && done) {
            let mut options = self.place.options();
            // Enough for the segment that is there, and its own if there is none.
            let capacity = if found.is_some() { OLD } else { PEER };
            let dict = options.capacity(capacity).open_or_create(NAME)?;
            dict.fetch_add(2, 10)?;
        }
        Ok(Seen::done(done))
    }

    /// Wants another one under the name.
    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let found = self.current()?;
        let done = found == self.after;
        let mut options = self.place.options();
        let busy = match options.capacity(NEWCOMER).create_or_replace(NAME) {
            Ok(dict) => {
                ensure!(dict.is_current(), "the name leads elsewhere");
                false
            }
            // Stopped with the lock of the old segment: only then.
            Err(ReplaceError::Unlink(UnlinkError::Busy { .. }))
                if scene.fate == Fate::Stopped && found == Some(OLD) =>
            {
                true
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Seen {
            done: Some(done),
            busy,
        })
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let done = scene.seen.done == Some(true);
        ensure!(scene.answer != Some(BUSY), "given up where nobody was");
        let before = if scene.seen.busy { OLD } else { NEWCOMER };
        let is_late = scene.seen.busy || (!done && !self.only_old);
        let found = self.current()?;
        let possible = match (is_late, scene.fate) {
            // The victim had the last word.
            (true, Fate::Stopped) => found == self.after,
            // Or was about to have it, perhaps between the two steps of a replacement.
            (true, Fate::KilledLater) => [Some(before), None, self.after].contains(&found),
            _ => found == Some(NEWCOMER),
        };
        ensure!(possible, "the name leads to {found:?} at last");
        if let Some(old) = &self.old {
            ensure!(
                old.fetch_add(1, 1)? == 10,
                "a value of the old segment is lost"
            );
        }
        // And all can still have the name, and take it away.
        let options = self.place.options();
        options.create_or_replace(NAME)?.fetch_add(1, 1)?;
        options.unlink(NAME)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        names::RIVALS
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(names::compete(&self.place, name, RIVAL)?);
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        if let Some(old) = &self.old {
            ensure!(old.fetch_add(1, 1)? == 0, "a value of nobody");
        }
        let replaces = self.after.is_some() || rival == "create_or_replace";
        names::outcome(&self.place, answers, replaces)
    }
}
