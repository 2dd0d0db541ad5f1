//! Stream dictionaries that come to be, that lose their names, and what the dead have left of either.

use std::path::Path;

use forkmap::{CreateError, OpenError, ReplaceError, StreamError, UnlinkError};

use super::streams::{Dict, LONG, Made, Model, SHORT, Site, entries, work};
use super::streams_dead::{Death, die};
use crate::bench::scenario::{Failure, Fate, NAME, Scenario, Scene, Seen, ensure};

/// Keys of the others.
const PEER: u64 = 10;
const NEWCOMER: u64 = 20;
const KEY: u64 = 5;

/// A dictionary that the victim makes.
struct Creation {
    site: Site,
    op: fn(&Site) -> Result<Option<Dict>, Failure>,
    /// What is in that of the victim at first.
    start: Model,
    /// Whether the others want one, too; else they only remove what they find forsaken.
    rivals: bool,
    /// What the victim has.
    own: Option<Dict>,
}

/// What is in a dictionary of the others at first.
fn of_others() -> Model {
    Model(vec![(KEY, 1)])
}

fn creation(
    dir: &Path,
    op: fn(&Site) -> Result<Option<Dict>, Failure>,
    start: Model,
    rivals: bool,
) -> Made {
    Ok(Box::new(Creation {
        site: Site::new(dir, LONG),
        op,
        start,
        rivals,
        own: None,
    }))
}

/// A creation, where others may have been faster.
fn unless_there(made: Result<Dict, CreateError>) -> Result<Option<Dict>, Failure> {
    match made {
        Err(CreateError::AlreadyExists { .. }) => Ok(None),
        made => Ok(Some(made?)),
    }
}

fn create_it(site: &Site) -> Result<Option<Dict>, Failure> {
    unless_there(site.options().create(NAME))
}

/// Creation under a name that must be free.
pub(crate) fn create(dir: &Path) -> Made {
    creation(dir, create_it, Model(Vec::new()), true)
}

/// The same, where nobody else creates one, and all look for what is forsaken.
pub(crate) fn create_gc(dir: &Path) -> Made {
    creation(dir, create_it, Model(Vec::new()), false)
}

/// Creation with entries.
pub(crate) fn create_with(dir: &Path) -> Made {
    let op = |site: &Site| {
        let entries = Model::accounts().0;
        unless_there(site.options().create_with(NAME, entries))
    };
    creation(dir, op, Model::accounts(), true)
}

/// Creation unless it is there.
pub(crate) fn open_or_create(dir: &Path) -> Made {
    let op = |site: &Site| Ok(Some(site.options().open_or_create(NAME)?));
    creation(dir, op, Model(Vec::new()), true)
}

impl Creation {
    /// Creation leaves nothing but the dictionary, and what a stopped creator has in hand.
    fn is_tidy(&self, fate: Fate) -> Result<(), Failure> {
        self.site.is_tidy(usize::from(fate == Fate::Stopped))
    }

    fn gc(&self) -> Result<(), Failure> {
        let removed = self.site.gc()?;
        ensure!(removed <= 1, "{removed} files");
        let removed = self.site.gc()?;
        ensure!(removed == 0, "{removed} files at second sight");
        Ok(())
    }
}

impl Scenario for Creation {
    fn op(&mut self) -> Result<(), Failure> {
        self.own = (self.op)(&self.site)?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        let word = |dict: &Dict| Some(entries(dict).ok()?.word(1));
        self.own.as_ref().map_or(Some(0), word)
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        if !self.rivals {
            self.gc()?;
        }
        let (dict, mut model) = match self.site.find()? {
            Some(dict) => (dict, self.start.clone()),
            None if self.rivals => (self.site.create(&of_others())?, of_others()),
            None => return Ok(Seen::done(false)),
        };
        model.is_in(&dict)?;
        let done = model == self.start;
        work(&dict, &mut model, PEER)?;
        self.is_tidy(scene.fate)?;
        Ok(Seen::done(done))
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        if !self.rivals {
            self.gc()?;
            if scene.seen.done == Some(false) {
                ensure!(self.site.find()?.is_none(), "a dictionary of nobody");
                if scene.fate == Fate::Killed {
                    self.site.is_empty()?;
                }
                return Ok(Seen::done(false));
            }
        }
        let dict = self.site.open()?;
        let (mut theirs, mut others) = (self.start.clone(), of_others());
        theirs.work(PEER);
        others.work(PEER);
        let seen = Model::look(&dict, &others, &theirs)?;
        let mut model = entries(&dict)?;
        work(&dict, &mut model, NEWCOMER)?;

        let taken = self.site.options().create(NAME);
        ensure!(
            matches!(taken, Err(CreateError::AlreadyExists { .. })),
            "a name was given twice: {taken:?}"
        );
        let same = self.site.options().open_or_create(NAME)?;
        ensure!(
            same.instance_id() == dict.instance_id(),
            "another dictionary"
        );
        self.gc()?;
        dict.dump()?;
        self.is_tidy(scene.fate)?;
        model.is_in(&dict)?;
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let done = scene.seen.done == Some(true);
        if scene.killed_later() {
            // What it had in hand when it came too late.
            self.gc()?;
        }
        let is_there = match scene.fate {
            Fate::KilledLater if !done && !self.rivals => self.site.find()?.is_some(),
            fate => done || self.rivals || fate == Fate::Stopped,
        };
        if !is_there {
            return self.site.is_empty().map(|()| Seen::NOTHING);
        }
        // Whoever found the name taken has removed what it had made.
        self.site.is_tidy(0)?;
        let mut expected = match done || !self.rivals {
            true => self.start.clone(),
            false => of_others(),
        };
        if done || self.rivals {
            expected.work(PEER);
            expected.work(NEWCOMER);
        }
        if let Some(answer) = scene.answer {
            // It has none of its own if it came too late.
            let has_one = expected.word(1);
            ensure!(
                answer == has_one || (answer == 0 && !done && self.rivals),
                "seen before: {done}; it has something else"
            );
        }
        self.site.is_whole(&[&self.site.open()?], &expected)?;
        Ok(Seen::NOTHING)
    }
}

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
    op: fn(&mut Self) -> Result<(), Failure>,
    /// Where the name leads after the operation.
    after: Option<u64>,
    /// Whether the operation concerns only the old one, whatever has the name.
    only_old: bool,
    /// Whether the others want a dictionary under the name.
    rivals: bool,
}

fn with_old(
    dir: &Path,
    op: fn(&mut Removal) -> Result<(), Failure>,
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
    }))
}

fn with_own(dir: &Path, op: fn(&mut Removal) -> Result<(), Failure>, rivals: bool) -> Made {
    Ok(Box::new(Removal {
        site: Site::new(dir, OLD),
        old: None,
        own: None,
        op,
        after: None,
        only_old: true,
        rivals,
    }))
}

fn unlink_it(s: &mut Removal) -> Result<(), Failure> {
    match s.site.options().unlink(NAME) {
        // The others have taken it away.
        Ok(()) | Err(UnlinkError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn drop_it(s: &mut Removal) -> Result<(), Failure> {
    drop(s.own.take());
    Ok(())
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
        s.own = Some(options.create_or_replace(NAME)?);
        Ok(())
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
        Ok(())
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

    fn op(&mut self) -> Result<(), Failure> {
        (self.op)(self)
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
}

/// What a dead creator has left, which the victim removes.
struct Forsaken {
    site: Site,
    removed: usize,
}

/// The way for who calls for it.
pub(crate) fn gc(dir: &Path) -> Made {
    let site = Site::new(dir, LONG);
    die(&site, None, Death::Unnamed)?;
    Ok(Box::new(Forsaken { site, removed: 0 }))
}

impl Scenario for Forsaken {
    fn op(&mut self) -> Result<(), Failure> {
        self.removed = self.site.gc()?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        Some(self.removed as u64)
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        ensure!(self.site.find()?.is_none(), "a dictionary of nobody");
        let left = self.site.files()?.len();
        ensure!(left <= 1, "{left} files");
        let removed = self.site.gc()?;
        ensure!(removed == left, "{removed} files of {left}");
        self.site.is_empty()?;
        let mut model = of_others();
        work(&self.site.create(&model)?, &mut model, PEER)?;
        self.site.is_tidy(0)?;
        Ok(Seen::done(left == 0))
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let dict = self.site.open()?;
        let mut model = of_others();
        model.work(PEER);
        work(&dict, &mut model, NEWCOMER)?;
        dict.dump()?;
        self.site.is_tidy(0)?;
        Ok(scene.seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        if let Some(answer) = scene.answer {
            let possible = answer <= 1 && (answer == 1 || scene.seen.done != Some(true));
            ensure!(possible, "{answer} files");
        }
        let mut expected = of_others();
        expected.work(PEER);
        expected.work(NEWCOMER);
        self.site.is_tidy(0)?;
        self.site.is_whole(&[&self.site.open()?], &expected)?;
        Ok(Seen::NOTHING)
    }
}

/// A generation that the victim begins, of a dictionary that loses its name meanwhile.
struct Orphan {
    site: Site,
    dict: Dict,
    /// Whether another dictionary gets the name; then nobody says in the old one that it has lost it.
    replaced: bool,
    /// Whether the victim was told.
    told: bool,
}

fn orphan(dir: &Path, replaced: bool) -> Made {
    let site = Site::new(dir, SHORT);
    let dict = site.create(&Model::accounts())?;
    Ok(Box::new(Orphan {
        site,
        dict,
        replaced,
        told: false,
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
        self.told = match self.dict.dump() {
            Ok(()) => false,
            Err(StreamError::Unlinked) => true,
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        Some(u64::from(self.told))
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
}
