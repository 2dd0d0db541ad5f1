//! A stream dictionary in which an operation is tried, which others have open and go on with.

use std::path::Path;
use std::time::Duration;

use forkmap::{Node, Position, StreamError, Tree, Watch};

use super::streams::{
    ACCOUNTS, Dict, LONG, MAP, Made, Model, SHORT, START, Site, below, entries, fill, previous,
    transfer, work,
};
use super::streams_dead::{Death, die};
use crate::bench::scenario::{Failure, Fate, Outcome, Scenario, Scene, Seen, ensure};

/// A key that is not there at first, one that is, and what the victim makes of them.
pub(super) const FRESH: u64 = 7;
pub(super) const THERE: u64 = ACCOUNTS[1];
pub(super) const NEW: u64 = 77;

/// Keys of the others, and what they leave of those of the victim.
const PEER: u64 = 10;
pub(super) const NEWCOMER: u64 = 20;
pub(super) const LEFT: u64 = 600;

/// Keys of a change that is longer than a log.
pub(super) const MANY: u64 = 100;
pub(super) const HOW_MANY: u64 = 14;

/// A key that holds a map, if there is one: with a value, and another map with one.
pub(super) const OUTER: u64 = 30;
pub(super) const INNER: u64 = 31;
pub(super) const VALUE: u64 = 1;

pub(super) const A_MOMENT: Duration = Duration::from_millis(1);

type Op = fn(&mut Change) -> Result<u64, Failure>;

/// An operation, and the dictionary that it is done in.
pub(super) struct Plan {
    op: Op,
    /// What it makes of the entries, and what it gives back, as a number.
    model: fn(&mut Model) -> u64,
    log_bytes: u64,
    /// Whether the log is full before.
    full: bool,
    /// Whether there is a map.
    nested: bool,
    /// How far somebody had come who began a generation.
    death: Option<Death>,
    /// What the victim does before.
    enter: fn(&mut Change) -> Result<(), Failure>,
    /// What that makes of the entries.
    entered: fn(&mut Model),
    /// Whether a rival may do the same: not if the victim did something before that both would do.
    is_for_two: bool,
    /// Whether the peer begins by opening it once more. (Else it puts in order, by going on, what somebody
    /// who knows only the name would find.)
    reopens: bool,
}

pub(super) fn plan(op: Op, model: fn(&mut Model) -> u64) -> Plan {
    Plan {
        op,
        model,
        log_bytes: LONG,
        full: false,
        nested: false,
        death: None,
        enter: Change::take_over,
        entered: |_| {},
        is_for_two: true,
        reopens: false,
    }
}

impl Plan {
    /// The log is short: the others come to later generations.
    pub(super) fn short(mut self) -> Self {
        self.log_bytes = SHORT;
        self
    }

    /// The log is short, and full.
    pub(super) fn full(mut self) -> Self {
        self.full = true;
        self.short()
    }

    /// There is a map.
    pub(super) fn nested(mut self) -> Self {
        self.nested = true;
        self
    }

    pub(super) fn after(mut self, death: Death) -> Self {
        self.death = Some(death);
        self.short()
    }

    pub(super) fn enter(mut self, enter: fn(&mut Change) -> Result<(), Failure>) -> Self {
        self.enter = enter;
        self.is_for_two = false;
        self
    }

    /// The same, and that appends a record.
    pub(super) fn append(mut self, enter: fn(&mut Change) -> Result<(), Failure>) -> Self {
        self.entered = |model| _ = model.set(ACCOUNTS[0], ENTERED);
        self.enter(enter)
    }

    /// What `enter` makes of the entries instead.
    pub(super) fn entered(mut self, entered: fn(&mut Model)) -> Self {
        self.entered = entered;
        self
    }

    /// What the operation gives back instead, whatever there is.
    pub(super) fn gives(mut self, model: fn(&mut Model) -> u64) -> Self {
        self.model = model;
        self
    }

    /// The peer begins by opening it once more.
    pub(super) fn reopen(mut self) -> Self {
        self.reopens = true;
        self
    }

    pub(super) fn make(self, dir: &Path) -> Made {
        let site = Site::new(dir, self.log_bytes);
        let mut before = Model::accounts();
        let other = site.create(&before)?;
        if self.nested {
            let inner = Tree::from_iter([(VALUE, START)]);
            let mut outer = inner.clone();
            outer.insert(INNER, Node::Map(inner));
            other.set_node(&OUTER, &Node::Map(outer))?;
            let maps = [OUTER, below(OUTER, INNER)];
            let values = maps.map(|map| below(map, VALUE));
            for (key, content) in [
                (maps[0], MAP),
                (values[0], START),
                (maps[1], MAP),
                (values[1], START),
            ] {
                before.set(key, content);
            }
        }
        let dict = site.open()?;
        let outer = dict.get_nested(&OUTER)?;
        if self.full {
            fill(&other, &mut before)?;
        }
        if let Some(death) = self.death {
            die(&site, Some(&other), death)?;
        }
        Ok(Box::new(Change {
            site,
            other,
            dict: Some(dict),
            outer,
            opened: None,
            before,
            seen: None,
            watch: None,
            plan: self,
            reply: 0,
        }))
    }
}

pub(super) struct Change {
    pub(super) site: Site,
    /// Of the creator.
    other: Dict,
    /// What the victim does it with, and the peer goes on with.
    dict: Option<Dict>,
    /// The map in that, if there is one.
    outer: Option<Dict>,
    /// What the victim has opened.
    pub(super) opened: Option<Dict>,
    /// The entries before the operation, but for what `enter` makes of them.
    before: Model,
    /// A position that the victim has seen.
    pub(super) seen: Option<Position>,
    /// What the victim has begun to watch.
    pub(super) watch: Option<Watch<u64, u64>>,
    plan: Plan,
    reply: u64,
}

/// What the operations of rivals leave.
const RIVAL: u64 = 5000;

/// Answers of those who find no map any more, or something else than that, or that instead.
const GONE: u64 = 4_000_000;
const IS_VALUE: u64 = 4_000_001;
const IS_MAP: u64 = 4_000_002;

/// What a rival's change of a map makes of an operation.
fn or_told(done: Result<u64, Failure>) -> Result<u64, Failure> {
    let error = match done {
        Ok(reply) => return Ok(reply),
        Err(error) => error,
    };
    match error.downcast_ref() {
        Some(StreamError::Gone) => Ok(GONE),
        Some(StreamError::IsValue) => Ok(IS_VALUE),
        Some(StreamError::IsMap) => Ok(IS_MAP),
        _ => Err(error),
    }
}

/// What the victim sets in `enter`, by its other handle.
const ENTERED: u64 = 5;

impl Change {
    pub(super) fn dict(&self) -> Result<&Dict, Failure> {
        Ok(self.dict.as_ref().ok_or("no dictionary")?)
    }

    pub(super) fn outer(&self) -> Result<&Dict, Failure> {
        Ok(self.outer.as_ref().ok_or("no map")?)
    }

    /// Reads with both handles, so that a fork is nothing new to them.
    pub(super) fn take_over(&mut self) -> Result<(), Failure> {
        self.other.get(&0)?;
        self.dict()?.get(&0)?;
        Ok(())
    }

    /// The others append a record.
    pub(super) fn append(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        self.seen = Some(self.dict()?.position()?);
        let [first, ..] = ACCOUNTS;
        Ok(self.other.set(&first, &ENTERED)?)
    }

    /// Begins to watch, and the others append a record.
    pub(super) fn watch_and_append(&mut self) -> Result<(), Failure> {
        self.watch = Some(self.dict()?.watch()?);
        self.append()
    }

    /// Begins to watch, and the others begin two generations.
    pub(super) fn watch_and_dump_twice(&mut self) -> Result<(), Failure> {
        self.watch = Some(self.dict()?.watch()?);
        self.dump_twice()
    }

    /// Begins to watch the map, and the others remove it.
    pub(super) fn watch_and_remove(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        self.watch = Some(self.outer()?.watch()?);
        self.other.remove(&OUTER)?;
        Ok(())
    }

    /// The others begin a generation.
    pub(super) fn dump(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        Ok(self.other.dump()?)
    }

    /// The others begin two.
    pub(super) fn dump_twice(&mut self) -> Result<(), Failure> {
        self.dump()?;
        Ok(self.other.dump()?)
    }

    /// The others have a dump and some records.
    pub(super) fn dump_and_append(&mut self) -> Result<(), Failure> {
        self.dump()?;
        self.append()
    }

    /// Leaves the flag of the bell raised.
    pub(super) fn wait_in_vain(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        let dict = self.dict()?;
        let none = dict.wait_for_change(dict.position()?, A_MOMENT)?;
        ensure!(none.is_none(), "a change that nobody made");
        Ok(())
    }

    /// Opens it once more.
    pub(super) fn open_another(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        self.opened = Some(self.site.open()?);
        Ok(())
    }

    /// The entries before the operation and after it.
    fn states(&self) -> (Model, Model) {
        let mut before = self.before.clone();
        (self.plan.entered)(&mut before);
        let mut after = before.clone();
        (self.plan.model)(&mut after);
        (before, after)
    }

    /// The same once the peer has gone.
    fn states_after_peer(&self) -> (Model, Model) {
        let (mut before, mut after) = self.states();
        before.work(PEER);
        after.work(PEER);
        (before, after)
    }

    /// What the others leave of a state.
    fn left(mut model: Model) -> Model {
        model.work(PEER);
        model.work(NEWCOMER);
        model.set(THERE, LEFT);
        model.set(FRESH, LEFT);
        model
    }

    /// Begins a generation: after that there is nothing of those before, but for what a stopped victim has
    /// in hand.
    fn tidy_up(&self, dict: &Dict, fate: Fate) -> Result<(), Failure> {
        dict.dump()?;
        self.site.is_tidy(usize::from(fate == Fate::Stopped))
    }
}

impl Scenario for Change {
    fn enter(&mut self) -> Result<(), Failure> {
        (self.plan.enter)(self)
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.reply = or_told((self.plan.op)(self))?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        Some(self.reply)
    }

    fn view(&self) -> Option<u64> {
        let dict = self.opened.as_ref().or(self.dict.as_ref());
        let entries = entries(dict.unwrap_or(&self.other)).ok()?;
        Some(entries.word())
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        let dict = self.dict()?;
        let (before, after) = self.states();
        if self.plan.reopens {
            Model::look(&self.site.open()?, &before, &after)?;
        }
        let seen = Model::look(dict, &before, &after)?;
        let mut model = if seen.done == Some(true) {
            after
        } else {
            before
        };
        work(dict, &mut model, PEER)?;
        // Not always: it would put in order what the newcomer is to find.
        if self.plan.log_bytes == LONG && self.plan.death.is_none() {
            return Ok(seen);
        }
        self.tidy_up(dict, scene.fate)?;
        model.is_in(dict)?;
        Ok(seen)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let dict = self.site.open()?;
        let (before, after) = self.states_after_peer();
        let seen = Model::look(&dict, &before, &after)?;
        let mut model = if seen.done == Some(true) {
            after
        } else {
            before
        };
        work(&dict, &mut model, NEWCOMER)?;
        for key in [THERE, FRESH] {
            let found = dict.insert(&key, &LEFT)?;
            ensure!(model.set(key, LEFT) == found, "key {key}: {found:?}");
        }
        model.is_in(&dict)?;
        self.tidy_up(&dict, scene.fate)?;
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let (before, mut early) = self.states();
        let early_reply = (self.plan.model)(&mut before.clone());
        early = Self::left(early);
        let mut late = Self::left(before);
        let untouched = late.clone();
        let late_reply = (self.plan.model)(&mut late);
        let found = entries(&self.other)?;
        let done = scene.seen.done;
        match scene.answer {
            Some(answer) => {
                // It took effect before the others came, or after they had gone.
                let possible = done != Some(false) && (answer == early_reply && found == early)
                    || done != Some(true) && (answer == late_reply && found == late);
                ensure!(
                    possible,
                    "seen before: {done:?}; the operation left {found:?}; it gave {answer:#x}, early \
                     would be {early_reply:#x}, late {late_reply:#x}"
                );
                ensure!(
                    scene.view == Some(found.word()),
                    "the victim saw something else at last"
                );
            }
            None => {
                ensure!(!scene.resumed(), "no answer");
                let expected = if done == Some(true) {
                    &early
                } else {
                    &untouched
                };
                let is_late = scene.killed_later() && done != Some(true) && found == late;
                ensure!(found == *expected || is_late, "{found:?}, not {expected:?}");
            }
        }
        self.site.is_whole(&[self.dict()?, &self.other], &found)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        const NESTED: &[&str] = &[
            "itself",
            "set below",
            "remove the map",
            "set",
            "insert",
            "remove",
            "transaction",
            "get",
            "dump",
            "open",
        ];
        const FLAT: &[&str] = &[
            "itself",
            "set",
            "insert",
            "remove",
            "transaction",
            "get",
            "dump",
            "open",
        ];
        let all = if self.plan.nested { NESTED } else { FLAT };
        &all[usize::from(!self.plan.is_for_two)..]
    }

    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        self.take_over()
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        if name == "itself" {
            return self.op();
        }
        let dict = self.dict()?;
        let done = || {
            Ok(match name {
                "set" => dict.set(&FRESH, &RIVAL).map(|()| 0)?,
                "insert" => previous(dict.insert(&THERE, &RIVAL)?),
                "remove" => previous(dict.remove(&THERE)?),
                "transaction" => transfer(dict, RIVAL).map(|()| 0)?,
                "get" => previous(dict.get(&THERE)?),
                "dump" => dict.dump().map(|()| 0)?,
                "open" => previous(self.site.open()?.get(&THERE)?),
                "set below" => self.outer()?.set(&FRESH, &RIVAL).map(|()| 0)?,
                "remove the map" => previous(dict.remove(&OUTER)?),
                other => return Err(format!("no rival does `{other}`").into()),
            })
        };
        self.reply = or_told(done())?;
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        // Whoever has lost an election has removed what it had made.
        self.site.is_tidy(0)?;
        let found = entries(&self.other)?;
        self.site.is_whole(&[self.dict()?, &self.other], &found)?;
        Ok(Outcome::Told(format!("{answers:?} {:?}", found.0)))
    }
}
