//! A map in which the victim does something to one key, and the others to the same one and others.

use std::borrow::Borrow;
use std::path::Path;

use forkmap::{SharedHashMap, WriteError};

use super::late;
use super::maps::{Key, Kind, Map, STRANGERS, Site, Value, is_dead};
use crate::bench::scenario::{Failure, Outcome, Scenario, Scene, Seen, ensure};

pub(super) type Made = Result<Box<dyn Scenario>, Failure>;

/// The value of the victim's key at first, what the victim makes of it, and what the others leave.
pub(super) const START: u64 = 100;
pub(super) const NEW: u64 = 77;
pub(super) const LEFT: u64 = 600;

/// A key of another home, that the others add to.
const UNTOUCHED: u64 = 0x0123_4567;
const PEER: u64 = 10;
const NEWCOMER: u64 = 1000;
const RIVAL: u64 = 5000;

/// What an operation gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply<V> {
    Value(Option<V>),
    Told(bool),
    Full,
}

impl<V> Reply<V> {
    /// As one number, with `number` for values.
    pub(super) fn word(&self, number: impl FnOnce(&V) -> u64) -> u64 {
        match self {
            Self::Value(None) => 0,
            Self::Value(Some(value)) => 4 + number(value),
            Self::Told(told) => 1 + u64::from(*told),
            Self::Full => u64::MAX,
        }
    }
}

/// What an operation makes of the value of its key, and what it gives back.
pub(super) type Model = fn(Option<u64>) -> (Option<u64>, Reply<u64>);

pub(super) type Op<T> = fn(&Change<T>) -> Result<Reply<Value<T>>, Failure>;

/// An operation on one key, and the map that it is done in.
pub(super) struct Plan<T: Kind> {
    op: Op<T>,
    model: Model,
    /// The value of the key before it.
    before: Option<u64>,
    /// How many neighbours are inserted before the key, and after it. (A line has eight buckets.)
    crowd: [usize; 2],
    /// Whether there is nothing else in the map.
    empty: bool,
    /// Whether the others stay away: the peer leaves the key alone and the newcomer leaves it removed, their
    /// own keys are of other homes, and the newcomer takes the slot of the victim if that is dead, instead
    /// of calling `recover`.
    apart: bool,
    /// Whether the operation is the first one of the victim.
    first: bool,
    /// Whether all counters are about to begin anew.
    late: bool,
}

impl<T: Kind> Plan<T> {
    pub(super) fn new(before: Option<u64>, op: Op<T>, model: Model) -> Self {
        Self {
            op,
            model,
            before,
            crowd: [0, 0],
            empty: false,
            apart: false,
            first: false,
            late: false,
        }
    }

    pub(super) fn crowd(mut self, before: usize, after: usize) -> Self {
        self.crowd = [before, after];
        self
    }

    pub(super) fn empty(mut self) -> Self {
        self.empty = true;
        self
    }

    pub(super) fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    pub(super) fn first(mut self) -> Self {
        self.first = true;
        self
    }

    pub(super) fn late(mut self) -> Self {
        self.late = true;
        self
    }

    pub(super) fn make(self, dir: &Path) -> Made {
        // Room for all keys and for the one cell that a stopped victim may have in hand.
        let crowd = self.crowd[0] + self.crowd[1];
        let capacity = if crowd == 0 { 5 } else { 14 };
        // This process, the victim, the peer and the newcomer; or this process once more.
        let site = Site::new(dir, capacity, 4);
        let mut keys = site.neighbours::<T>()?;
        let strangers = keys.split_off(keys.len() - STRANGERS);
        if self.apart {
            keys[1..3].copy_from_slice(&strangers[1..3]);
        }
        let map = site.create::<T>()?;
        if self.late {
            late::map(&site.file())?;
        }
        map.register()?;
        let second = match self.apart {
            true => Some(site.open::<T>()?),
            false => None,
        };
        if let Some(second) = &second {
            second.register()?;
        }
        let far = strangers[0];
        if !self.empty {
            map.insert(far, UNTOUCHED)?;
        }
        for &key in &keys[3..3 + self.crowd[0]] {
            map.insert(key, key)?;
        }
        if let Some(before) = self.before {
            map.insert(keys[0], before)?;
        }
        for &key in &keys[3 + self.crowd[0]..3 + crowd] {
            map.insert(key, key)?;
        }
        let [key, new] = [keys[0], NEW];
        Ok(Box::new(Change {
            site,
            map,
            _second: second,
            keys,
            far,
            key: T::key(key),
            new: T::value(new),
            plan: self,
            reply: None,
            rivals_reply: None,
        }))
    }
}

pub(super) struct Change<T: Kind> {
    site: Site,
    map: Map<T>,
    _second: Option<Map<T>>,
    /// Of the victim, the peer, the newcomer; and the crowd.
    keys: Vec<u64>,
    far: u64,
    /// Made before the operation, so that it is not part of it.
    key: Key<T>,
    new: Value<T>,
    plan: Plan<T>,
    reply: Option<Reply<Value<T>>>,
    rivals_reply: Option<u64>,
}

impl<T: Kind> Change<T> {
    pub(super) fn map(&self) -> &SharedHashMap<T::Key, T::Value> {
        &self.map.0
    }

    pub(super) fn key(&self) -> &<T::Key as forkmap::Stored>::Item {
        self.key.borrow()
    }

    pub(super) fn value(&self) -> &<T::Value as forkmap::Stored>::Item {
        self.new.borrow()
    }

    /// What else is there, after the others have done so much.
    fn others(&self, added: u64, own: &[u64]) -> Vec<(u64, u64)> {
        let crowd = self.plan.crowd[0] + self.plan.crowd[1];
        let crowd = self.keys[3..3 + crowd].iter().map(|&key| (key, key));
        let own = own.iter().map(|&key| (key, 9));
        let far = if self.plan.empty { 0 } else { UNTOUCHED } + added;
        let far = (far != 0).then_some((self.far, far));
        crowd.chain(own).chain(far).collect()
    }

    /// The key before the operation and after it, once the peer has gone.
    fn after_peer(&self) -> [Option<u64>; 2] {
        let states = [self.plan.before, (self.plan.model)(self.plan.before).0];
        if self.plan.apart {
            return states;
        }
        states.map(|state| Some(state.unwrap_or(0) + PEER))
    }

    fn left(&self) -> Option<u64> {
        (!self.plan.apart).then_some(LEFT)
    }
}

impl<T: Kind> Scenario for Change<T> {
    fn enter(&mut self) -> Result<(), Failure> {
        if self.plan.first {
            return Ok(());
        }
        self.map.register()
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.reply = Some((self.plan.op)(self)?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        let number = |value: &Value<T>| T::number(value).unwrap_or(u64::MAX - 5);
        match &self.reply {
            Some(reply) => Some(reply.word(number)),
            None => self.rivals_reply,
        }
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let [victim, own, ..] = self.keys[..] else {
            return Err("no keys".into());
        };
        let before = self.plan.before;
        let states = [before, (self.plan.model)(before).0];
        let (found, seen) = self.map.look(victim, states, &self.others(0, &[]))?;
        self.map.work_on(own)?;
        self.map.add(self.far, PEER)?;
        if !self.plan.apart {
            let previous = self.map.add(victim, PEER)?;
            ensure!(previous == found, "from {found:?} to {previous:?}");
            // Fills the cell anew that the key had.
            self.map.add(own, 0)?;
        }
        let others = self.others(PEER, &[own]);
        let (_, again) = self.map.look(victim, self.after_peer(), &others)?;
        ensure!(again == seen, "first {seen:?}, then {again:?}");
        Ok(seen)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let [victim, peers, own, ..] = self.keys[..] else {
            return Err("no keys".into());
        };
        let map = self.site.open::<T>()?;
        let others = self.others(PEER, &[peers]);
        let (found, seen) = map.look(victim, self.after_peer(), &others)?;
        if is_dead(scene.fate) {
            if self.plan.apart {
                map.register()?;
            } else {
                let recovered = map.0.recover()?;
                ensure!(recovered >= 1, "nobody was recovered");
            }
            map.is_in_order()?;
        }
        map.work_on(own)?;
        map.add(self.far, NEWCOMER)?;
        let others = self.others(PEER + NEWCOMER, &[peers, own]);
        let (_, again) = map.look(victim, self.after_peer(), &others)?;
        ensure!(again == seen, "first {seen:?}, then {again:?}");

        let previous = map.insert(victim, 500)?;
        ensure!(previous == found, "from {found:?} to {previous:?}");
        map.add(own, 0)?;
        ensure!(map.remove(victim)? == Some(500), "the value is not 500");
        if let Some(left) = self.left() {
            ensure!(map.try_insert(victim, left)?, "it was removed");
        }
        map.look(victim, [self.left(); 2], &others)?;
        if is_dead(scene.fate) {
            map.is_in_order()?;
        }
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let [victim, peers, newcomers, ..] = self.keys[..] else {
            return Err("no keys".into());
        };
        let others = self.others(PEER + NEWCOMER, &[peers, newcomers]);
        let found = self.map.get(victim)?;
        let left = self.left();
        if let Some(answer) = scene.answer {
            // It took effect before the others came, or after they had gone.
            let (_, early) = (self.plan.model)(self.plan.before);
            let (after, late) = (self.plan.model)(left);
            let word = |reply: Reply<u64>| reply.word(|value| *value);
            let done = scene.seen.done;
            let possible = done != Some(false) && (answer, found) == (word(early), left)
                || done != Some(true) && (answer, found) == (word(late), after);
            ensure!(
                possible,
                "seen before: {done:?}; the operation gave {answer}, and left {found:?}"
            );
        } else {
            ensure!(!scene.resumed(), "no answer");
            let (after, _) = (self.plan.model)(left);
            let is_late = scene.killed_later() && scene.seen.done != Some(true) && found == after;
            ensure!(found == left || is_late, "the value is {found:?} at last");
        }
        self.map
            .has_exactly(&others, found.map(|value| (victim, value)))?;
        self.map.is_whole(&self.site)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        &[
            "itself",
            "insert",
            "try_insert",
            "remove",
            "add",
            "get",
            "insert another",
            "remove another",
            "iter",
            "clear",
            "recover",
        ]
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        let another = match (name, self.plan.crowd) {
            ("insert another", _) => self.keys[1],
            (_, [0, 0]) => self.far,
            _ => self.keys[3],
        };
        self.rivals_reply = match name {
            "itself" => return self.op(),
            _ => self.map.compete(name, (self.keys[0], RIVAL), another)?,
        };
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}

/// An insert's answer, where a full map is one.
pub(super) fn full_or<V>(done: Result<Option<V>, WriteError>) -> Result<Reply<V>, Failure> {
    match done {
        Err(WriteError::Full { .. }) => Ok(Reply::Full),
        done => Ok(Reply::Value(done?)),
    }
}
