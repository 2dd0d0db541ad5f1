//! Stream dictionaries that lose their names.

use std::path::Path;

use forkmap::{OpenError, ReplaceError, StreamError, UnlinkError};

use super::streams::{Dict, Made, Model, SHORT, Site, work};
use super::streams_names::{
    BUSY, DONE, KEY, RIVALS, compete, is_at_once, or_unlinked, outcome, unlinked,
};
use crate::bench::scenario::{Failure, Fate, NAME, Outcome, Scenario, Scene, Seen, ensure};

/// Keys of the others.
const PEER: u64 = 10;
const NEWCOMER: u64 = 20;

/// Lengths of logs by which to tell whose dictionary it is.
const OLD: u64 = SHORT;
const VICTIM: u64 = 800;
const OF_PEER: u64 = 1200;
const OF_NEWCOMER: u64 = 1600;

/// The name leads from an old dictionary to nothing, or to one of the victim's.
struct Removal {
    site: Site,
    /// The old one; `None` if the victim is to make it.
    old: Option<Dict>,
    /// What the victim has made.
    own: Option<Dict>,
    /// How that went.
    op: fn(&mut Self) -> Result<u64, Failure>,
    /// Where the name leads after the operation.
    after: Option<u64>,
    /// Whether the operation concerns only the old one, whatever has the name.
    only_old: bool,
    /// Whether the others want a dictionary under the name.
    rivals: bool,
    answer: Option<u64>,
}

fn with_old(
    dir: &Path,
    op: fn(&mut Removal) -> Result<u64, Failure>,
    after: Option<u64>,
    rivals: bool,
) -> Made {
    let site = Site::new(dir, OLD);
    let old = Some(site.create(&Model::accounts())?);
    Ok(Box::new(Removal {
        site,
        old,
        own: None,
        op,
        after,
        only_old: false,
        rivals,
        answer: None,
    }))
}

fn with_own(dir: &Path, op: fn(&mut Removal) -> Result<u64, Failure>, rivals: bool) -> Made {
    Ok(Box::new(Removal {
        site: Site::new(dir, OLD),
        old: None,
        own: None,
        op,
        after: None,
        only_old: true,
        rivals,
        answer: None,
    }))
}

fn unlink_it(s: &mut Removal) -> Result<u64, Failure> {
    unlinked(s.site.options().unlink(NAME))
}

fn drop_it(s: &mut Removal) -> Result<u64, Failure> {
    drop(s.own.take());
    Ok(DONE)
}

/// The name is taken away.
pub(crate) fn unlink(dir: &Path) -> Made {
    with_old(dir, unlink_it, None, false)
}

/// The same, and others create a dictionary of that name meanwhile.
pub(crate) fn unlink_rivals(dir: &Path) -> Made {
    with_old(dir, unlink_it, None, true)
}

/// The name is given to another dictionary.
pub(crate) fn create_or_replace(dir: &Path) -> Made {
    let op = |s: &mut Removal| {
        let options = s.site.with_log(VICTIM).options();
        match options.create_or_replace(NAME) {
            Ok(dict) => s.own = Some(dict),
            Err(ReplaceError::Unlink(UnlinkError::Busy { .. })) => return Ok(BUSY),
            Err(error) => return Err(error.into()),
        }
        Ok(DONE)
    };
    with_old(dir, op, Some(VICTIM), true)
}

/// The creator drops its handle.
pub(crate) fn drop_unlinks(dir: &Path) -> Made {
    with_own(dir, drop_it, false)
}

/// The same, and others replace the dictionary meanwhile.
pub(crate) fn drop_unlinks_rivals(dir: &Path) -> Made {
    with_own(dir, drop_it, true)
}

/// The creator closes its handle.
pub(crate) fn close_unlinks(dir: &Path) -> Made {
    let op = |s: &mut Removal| {
        let entries = s.own.take().ok_or("nothing to close")?.close()?;
        ensure!(entries.len() >= 4, "{} keys", entries.len());
        Ok(DONE)
    };
    with_own(dir, op, false)
}

impl Removal {
    /// That of the dictionary which has the name.
    fn current(&self) -> Result<Option<u64>, Failure> {
        let found = self.site.find()?;
        Ok(found
            .map(|dict| dict.status())
            .transpose()?
            .map(|s| s.log_bytes))
    }

    /// Goes on in the old one: until its log is full, if it has no name any more.
    fn go_on(old: &Dict, has_name: bool) -> Result<(), Failure> {
        let mut model = Model::accounts();
        if has_name {
            work(old, &mut model, PEER)?;
            old.dump()?;
            return model.is_in(old);
        }
        model.is_in(old)?;
        for value in 0..100 {
            match old.set(&KEY, &value) {
                Ok(()) => _ = model.set(KEY, value),
                Err(StreamError::Unlinked) => {
                    ensure!(value >= 4, "no room for {value} changes");
                    model.is_in(old)?;
                    let dumped = old.dump();
                    ensure!(
                        matches!(dumped, Err(StreamError::Unlinked)),
                        "unlinked: {dumped:?}"
                    );
                    return model.is_in(old);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err("a log without an end".into())
    }
}

impl Scenario for Removal {
    fn enter(&mut self) -> Result<(), Failure> {
        match &self.old {
            Some(old) => _ = old.get(&0)?,
            None => {
                let mut options = self.site.options();
                options.unlink_on_drop(true);
                let entries = Model::accounts().0;
                self.own = Some(options.create_with(NAME, entries)?);
            }
        }
        Ok(())
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some((self.op)(self)?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        let found = self.current()?;
        ensure!(
            found == Some(OLD) || found.is_none() || found == self.after,
            "the name leads to a dictionary with a log of {found:?} bytes"
        );
        let has_name = found == Some(OLD);
        match &self.old {
            Some(old) => {
                Self::go_on(old, has_name)?;
                ensure!(old.is_current() == has_name, "the name leads elsewhere");
            }
            None if has_name => Self::go_on(&self.site.open()?, true)?,
            None => {}
        }
        // Between the two steps of a replacement there is nothing: not done yet.
        let done = found == self.after;
        if self.rivals && !(found.is_none() && done) {
            let site = self.site.with_log(OF_PEER);
            let dict = site.options().open_or_create(NAME)?;
            dict.set(&2, &10)?;
            // Who only opens one leaves what the creators of others have left.
            let others = match (found, scene.fate) {
                (None, Fate::Killed) => 0,
                _ => 2,
            };
            site.is_tidy(others)?;
        }
        Ok(Seen::done(done))
    }

    /// Wants another one under the name.
    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let found = self.current()?;
        let done = found == self.after;
        let mut busy = false;
        if self.rivals {
            let options = self.site.with_log(OF_NEWCOMER).options();
            match options.create_or_replace(NAME) {
                Ok(dict) => {
                    ensure!(dict.is_current(), "the name leads elsewhere");
                    ensure!(dict.is_empty()?, "a new dictionary is not empty");
                    dict.set(&1, &1)?;
                    dict.dump()?;
                }
                // Stopped with the lock of the old one: only then.
                Err(ReplaceError::Unlink(UnlinkError::Busy { .. }))
                    if scene.fate == Fate::Stopped && found == Some(OLD) =>
                {
                    busy = true;
                }
                Err(error) => return Err(error.into()),
            }
        } else if found == Some(OLD) {
            let dict = self.site.open()?;
            let mut model = Model::accounts();
            model.work(PEER);
            model.is_in(&dict)?;
            work(&dict, &mut model, NEWCOMER)?;
        } else {
            let opened = self.site.options().open(NAME);
            ensure!(
                matches!(opened, Err(OpenError::NotFound { .. })),
                "unlinked, and opened: {opened:?}"
            );
        }
        Ok(Seen {
            done: Some(done),
            busy,
        })
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let done = scene.seen.done == Some(true);
        ensure!(scene.answer != Some(BUSY), "given up where nobody was");
        // Where it leads if the victim did nothing since.
        let unless = match (self.rivals && !scene.seen.busy, done) {
            (true, _) => Some(OF_NEWCOMER),
            (false, true) => self.after,
            (false, false) => Some(OLD),
        };
        let is_late = unless == Some(OLD) || (self.rivals && !done && !self.only_old);
        let found = self.current()?;
        let possible = match (is_late, scene.fate) {
            // The victim had the last word.
            (true, Fate::Stopped) => found == self.after,
            // Or was about to have it, perhaps between the two steps of a replacement.
            (true, Fate::KilledLater) => [unless, None, self.after].contains(&found),
            _ => found == unless,
        };
        ensure!(possible, "the name leads to {found:?} at last");
        if let Some(old) = &self.old {
            match old.get(&3) {
                Ok(Some(_)) => {}
                // The others have come to a later generation.
                Err(StreamError::Unlinked) if found != Some(OLD) => {}
                other => return Err(format!("a value of the old one: {other:?}").into()),
            }
        }
        if scene.resumed() && found.is_none() {
            // Nothing to be put in order by anybody.
            self.site.is_empty()?;
        }
        if scene.killed_later() {
            // What it had in hand.
            self.site.gc()?;
        }
        // And all can still have the name, and take it away.
        let options = self.site.options();
        if let Some(dict) = self.site.find()? {
            dict.dump()?;
            self.site.is_tidy(0)?;
        }
        options.create_or_replace(NAME)?.set(&1, &1)?;
        self.site.is_tidy(0)?;
        options.unlink(NAME)?;
        self.site.is_empty()?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(compete(&self.site, name)?);
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        outcome(
            &self.site,
            answers,
            self.after.is_none() && is_at_once(rival),
        )
    }
}

/// A generation that the victim begins, of a dictionary that loses its name meanwhile.
struct Orphan {
    site: Site,
    dict: Dict,
    /// Whether another dictionary gets the name; then nobody says in the old one that it has lost it.
    replaced: bool,
    answer: Option<u64>,
}

fn orphan(dir: &Path, replaced: bool) -> Made {
    let site = Site::new(dir, SHORT);
    let dict = site.create(&Model::accounts())?;
    Ok(Box::new(Orphan {
        site,
        dict,
        replaced,
        answer: None,
    }))
}

/// The peer unlinks the dictionary.
pub(crate) fn dump_unlinked(dir: &Path) -> Made {
    orphan(dir, false)
}

/// The newcomer replaces it.
pub(crate) fn dump_replaced(dir: &Path) -> Made {
    orphan(dir, true)
}

impl Scenario for Orphan {
    fn enter(&mut self) -> Result<(), Failure> {
        self.dict.get(&0)?;
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some(or_unlinked(self.dict.dump())?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let mut model = Model::accounts();
        model.is_in(&self.dict)?;
        self.dict.set(&KEY, &1)?;
        model.set(KEY, 1);
        if self.replaced {
            work(&self.dict, &mut model, PEER)?;
        } else {
            self.site.options().unlink(NAME)?;
            self.site.is_empty()?;
        }
        model.is_in(&self.dict)?;
        Ok(Seen::NOTHING)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        let options = self.site.options();
        if self.replaced {
            let dict = options.create_or_replace(NAME)?;
            self.site.is_tidy(0)?;
            work(&dict, &mut Model(Vec::new()), NEWCOMER)?;
        } else {
            let opened = options.open(NAME);
            ensure!(
                matches!(opened, Err(OpenError::NotFound { .. })),
                "unlinked, and opened: {opened:?}"
            );
        }
        Ok(Seen::NOTHING)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        if scene.killed_later() {
            // What it had in hand.
            self.site.gc()?;
        }
        if !self.replaced {
            self.site.is_empty()?;
            return Ok(Seen::NOTHING);
        }
        // Before anybody puts anything in order.
        self.site.is_tidy(0)?;
        let mut expected = Model(Vec::new());
        expected.work(NEWCOMER);
        self.site.is_whole(&[&self.site.open()?], &expected)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(compete(&self.site, name)?);
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        outcome(&self.site, answers, rival != "create_or_replace")
    }
}
