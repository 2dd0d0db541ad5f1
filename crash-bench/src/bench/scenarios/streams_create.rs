//! Stream dictionaries that come to be, and what dead creators have left.

use std::path::Path;

use forkmap::CreateError;

use super::streams::{Dict, LONG, Made, Model, Site, entries, work};
use super::streams_dead::{Death, die};
use super::streams_names::{KEY, NOTHING, RIVALS, compete, outcome, unless_there};
use crate::bench::scenario::{Failure, Fate, NAME, Outcome, Scenario, Scene, Seen, ensure};

/// Keys of the others.
const PEER: u64 = 10;
const NEWCOMER: u64 = 20;

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
    answer: Option<u64>,
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
        answer: None,
    }))
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
        self.answer = match &self.own {
            Some(dict) => Some(dict.status()?.log_bytes),
            None => Some(NOTHING),
        };
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn view(&self) -> Option<u64> {
        Some(entries(self.own.as_ref()?).ok()?.word())
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
            ensure!(
                scene.view == Some(expected.word()) || (answer == NOTHING && !done && self.rivals),
                "seen before: {done}; it has something else"
            );
        }
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

/// What a dead creator has left, which the victim removes.
struct Forsaken {
    site: Site,
    answer: Option<u64>,
}

/// The way for who calls for it.
pub(crate) fn gc(dir: &Path) -> Made {
    let site = Site::new(dir, LONG);
    die(&site, None, Death::Unnamed)?;
    Ok(Box::new(Forsaken { site, answer: None }))
}

impl Scenario for Forsaken {
    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some(self.site.gc()? as u64);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
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

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(match name {
            "gc" => self.site.gc()? as u64,
            _ => compete(&self.site, name)?,
        });
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        outcome(&self.site, answers, rival == "gc")
    }
}

/// A generation of a dictionary that is there, and that stayed when the next one began: the victim removes it.
struct Outdated {
    site: Site,
    dict: Dict,
    answer: Option<u64>,
}

/// Collecting where there is something that is needed beside what is not.
pub(crate) fn gc_outdated(dir: &Path) -> Made {
    let site = Site::new(dir, LONG);
    let dict = site.create(&Model::accounts())?;
    let files = site.files()?;
    let first = dir.join(files.last().ok_or("no generation")?);
    let kept = dir.join("kept");
    std::fs::hard_link(&first, &kept)?;
    dict.dump()?;
    std::fs::rename(kept, first)?;
    let answer = None;
    Ok(Box::new(Outdated { site, dict, answer }))
}

impl Scenario for Outdated {
    fn enter(&mut self) -> Result<(), Failure> {
        self.dict.get(&0)?;
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some(self.site.gc()? as u64);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let left = self.site.files()?.len();
        ensure!((2..=3).contains(&left), "{left} files");
        let mut model = Model::accounts();
        work(&self.dict, &mut model, PEER)?;
        // From one that the victim may have taken for the current one to later ones.
        self.dict.dump()?;
        self.dict.dump()?;
        model.is_in(&self.dict)?;
        model.is_in(&self.site.open()?)?;
        Ok(Seen::done(left == 2))
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let mut model = Model::accounts();
        model.work(PEER);
        work(&self.site.open()?, &mut model, NEWCOMER)?;
        self.site.gc()?;
        self.site.is_tidy(0)?;
        Ok(scene.seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        if let Some(answer) = scene.answer {
            ensure!(answer <= 1, "{answer} files");
        }
        let mut expected = Model::accounts();
        expected.work(PEER);
        expected.work(NEWCOMER);
        self.site
            .is_whole(&[&self.dict, &self.site.open()?], &expected)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(compete(&self.site, name)?);
        Ok(())
    }

    fn outcome(&self, _: &str, _: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        // Who of them has removed it is all the same.
        outcome(&self.site, [None; 2], true)
    }
}
