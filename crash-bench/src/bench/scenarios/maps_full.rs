//! Inserts where there is one cell left, or none.

use std::path::Path;

use super::maps::{Map, Numbers, Site, is_dead};
use super::maps_one::{LEFT, NEW, Reply, full_or};
use crate::bench::scenario::{Failure, Outcome, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// The key of the victim, of the others, and one that is there.
const KEY: u64 = 1;
const OWN: u64 = 2;
const THERE: u64 = 3;

/// One key of them fits at most.
struct Brim {
    site: Site,
    map: Map<Numbers>,
    /// Whether there is a cell for the victim.
    has_room: bool,
    reply: Option<Reply<u64>>,
    rivals_reply: Option<u64>,
}

fn brim(dir: &Path, has_room: bool) -> Made {
    let site = Site::new(dir, 2, 4);
    let map = site.create::<Numbers>()?;
    map.insert(THERE, 0)?;
    if !has_room {
        map.insert(THERE + 1, 0)?;
    }
    Ok(Box::new(Brim {
        site,
        map,
        has_room,
        reply: None,
        rivals_reply: None,
    }))
}

/// The last cell.
pub(crate) fn insert_last(dir: &Path) -> Made {
    brim(dir, true)
}

/// One key too many.
pub(crate) fn insert_full(dir: &Path) -> Made {
    brim(dir, false)
}

impl Brim {
    fn states(&self) -> [Option<u64>; 2] {
        [None, self.has_room.then_some(NEW)]
    }

    /// What is there besides the key of the victim.
    fn others(&self, n: u64) -> Vec<(u64, u64)> {
        let mut pairs = vec![(THERE, n)];
        if !self.has_room {
            pairs.push((THERE + 1, 0));
        }
        pairs
    }

    /// Works at the brim: `n` rounds were done before this one.
    fn work(&self, map: &Map<Numbers>, scene: Scene, n: u64) -> Result<Seen, Failure> {
        let (found, seen) = map.look(KEY, self.states(), &self.others(n))?;
        // What is there can be changed.
        ensure!(map.add(THERE, 1)? == Some(n), "a value is lost");
        // The victim may have the last cell in hand while it is stopped; not when it is dead.
        let done = found.is_some();
        let fits = map.insert_if_room(OWN, 5)?;
        let must = self.has_room && !done;
        ensure!(
            fits == must || (must && !is_dead(scene.fate)),
            "done: {done}, and one more key fits: {fits}"
        );
        if fits {
            ensure!(!map.insert_if_room(OWN + 100, 5)?, "a key too many");
            ensure!(map.remove(OWN)? == Some(5), "an own key is lost");
        }
        // The room of a key that is removed can be had at once, by the same key and by others.
        ensure!(map.remove(THERE)? == Some(n + 1), "a value is lost");
        ensure!(map.insert_if_room(OWN, 6)?, "no room for a key");
        ensure!(map.remove(OWN)? == Some(6), "an own key is lost");
        ensure!(map.insert_if_room(THERE, n + 1)?, "no room for a key");
        let (_, again) = map.look(KEY, self.states(), &self.others(n + 1))?;
        ensure!(again == seen, "first {seen:?}, then {again:?}");
        Ok(seen)
    }
}

impl Scenario for Brim {
    fn enter(&mut self) -> Result<(), Failure> {
        self.map.register()
    }

    fn op(&mut self) -> Result<(), Failure> {
        self.reply = Some(full_or(self.map.0.insert(&KEY, &NEW))?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        match &self.reply {
            Some(reply) => Some(reply.word(|value| *value)),
            None => self.rivals_reply,
        }
    }

    fn peer(&self, scene: Scene) -> Result<Seen, Failure> {
        self.work(&self.map, scene, 0)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let map = self.site.open::<Numbers>()?;
        let seen = self.work(&map, scene, 1)?;
        let fits = map.insert_if_room(KEY, LEFT)?;
        ensure!(
            fits == self.has_room || (self.has_room && !is_dead(scene.fate)),
            "the key fits: {fits}"
        );
        if is_dead(scene.fate) {
            map.0.recover()?;
            map.is_in_order()?;
        }
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let found = self.map.get(KEY)?;
        let done = scene.seen.done == Some(true);
        let word = |reply: Reply<u64>| reply.word(|value| *value);
        let possible = match (self.has_room, scene.answer) {
            (false, None) => found.is_none(),
            (false, answer) => answer == Some(word(Reply::Full)) && found.is_none(),
            (true, None) if scene.killed_later() && !done => {
                [None, Some(LEFT), Some(NEW)].contains(&found)
            }
            (true, None) => found == Some(LEFT),
            // It took effect before the others came.
            (true, answer) if done => {
                answer == Some(word(Reply::Value(None))) && found == Some(LEFT)
            }
            // After they had gone, who had no room for the key, or had.
            (true, answer) => {
                let late = [Reply::Value(None), Reply::Value(Some(LEFT))];
                late.map(|reply| Some(word(reply))).contains(&answer) && found == Some(NEW)
            }
        };
        ensure!(
            possible,
            "seen before: {done}; the operation gave {:?}, and left {found:?}",
            scene.answer
        );
        let key = found.map(|value| (KEY, value));
        self.map.has_exactly(&self.others(2), key)?;
        self.map.is_whole(&self.site)?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        // Two who insert the same key may find the map full for the cell that the other one has in hand.
        &[
            "insert",
            "remove",
            "add",
            "get",
            "insert another",
            "recover",
        ]
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.rivals_reply = self.map.compete(name, (THERE, 5), OWN)?;
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}
