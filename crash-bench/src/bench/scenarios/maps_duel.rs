//! Changes of keys at which a writer has died, one at each step of its operation, while others recover it.

use std::path::Path;

use super::maps::{Map, Numbers, Site, is_dead};
use super::maps_dead::{Battle, Battlefield, Deed, State};
use crate::bench::scenario::{Failure, Outcome, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// What the victim makes of each key, and the newcomer after it.
const VICTIMS: u64 = 33;
const NEWCOMERS: u64 = 44;

const PEER: u64 = 10_002;
const NEWCOMER: u64 = 10_003;

/// Where the peer leaves word of how many keys it has seen changed.
const NOTE: u64 = 10_004;

struct Duel {
    site: Site,
    map: Map<Numbers>,
    keys: Vec<State>,
    /// What the victim makes of the keys, one after the other: a value, or nothing.
    makes: Option<u64>,
    rivals_reply: Option<u64>,
}

fn duel(dir: &Path, deed: Deed, makes: Option<u64>) -> Made {
    let (site, map, keys) = Battlefield::visit(dir, Battle::of(deed))?;
    Ok(Box::new(Duel {
        site,
        map,
        keys,
        makes,
        rivals_reply: None,
    }))
}

macro_rules! duels {
    ($($name:ident: $deed:ident, $makes:expr;)+) => {
        $(
            pub(crate) fn $name(dir: &Path) -> Made {
                duel(dir, Deed::$deed, $makes)
            }
        )+
    };
}
duels! {
    insert_over_inserts: Insert, Some(VICTIMS);
    insert_over_replaces: Replace, Some(VICTIMS);
    insert_over_removals: Remove, Some(VICTIMS);
    remove_over_inserts: Insert, None;
    remove_over_replaces: Replace, None;
    remove_over_removals: Remove, None;
}

impl Duel {
    /// How many keys the victim has changed: so many of the first, and no other. (A key that is as the
    /// victim would have it before counts if a later one does.)
    fn progress(&self, map: &Map<Numbers>) -> Result<u64, Failure> {
        let mut progress = 0;
        for (n, &(key, state)) in self.keys.iter().enumerate() {
            let found = map.get(key)?;
            ensure!(
                found == self.makes || found == state,
                "key {key}: {found:?}, not {state:?} or {:?}",
                self.makes
            );
            if found == self.makes && found != state {
                progress = n as u64 + 1;
            }
        }
        let changed = self.keys[..progress as usize].iter();
        for &(key, _) in changed {
            let found = map.get(key)?;
            ensure!(found == self.makes, "key {key} was passed over: {found:?}");
        }
        Ok(progress)
    }

    /// The keys when the victim has changed so many of them.
    fn pairs(&self, progress: u64) -> Vec<(u64, u64)> {
        let made = |(n, &(key, state)): (usize, &State)| {
            let value = if n < progress as usize {
                self.makes
            } else {
                state
            };
            value.map(|value| (key, value))
        };
        self.keys.iter().enumerate().filter_map(made).collect()
    }

    /// What the newcomer makes of a key.
    fn left(n: usize) -> Option<u64> {
        (n % 3 != 0).then_some(NEWCOMERS)
    }

    /// The last one that the victim changes.
    fn seen(&self, progress: u64) -> Seen {
        let changes = |(_, state): &State| *state != self.makes;
        let last = self.keys.iter().rposition(changes);
        Seen::done(last.is_some_and(|last| progress as usize > last))
    }
}

impl Scenario for Duel {
    fn enter(&mut self) -> Result<(), Failure> {
        self.map.register()
    }

    fn op(&mut self) -> Result<(), Failure> {
        for (key, _) in &self.keys {
            match self.makes {
                Some(value) => _ = self.map.0.insert(key, &value)?,
                None => _ = self.map.0.remove(key)?,
            }
        }
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let progress = self.progress(&self.map)?;
        self.map.has_exactly(&self.pairs(progress), [])?;
        self.map.work_on(PEER)?;
        self.map.insert(NOTE, progress)?;
        self.map
            .has_exactly(&self.pairs(progress), [(PEER, 9), (NOTE, progress)])?;
        Ok(self.seen(progress))
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let map = self.site.open()?;
        let progress = self.progress(&map)?;
        let others = [(PEER, 9), (NOTE, progress)];
        map.has_exactly(&self.pairs(progress), others)?;
        // Also while the victim is stopped, who may be about to dispose of what the dead have left.
        map.0.recover()?;
        if is_dead(scene.fate) {
            map.is_in_order()?;
        }
        map.work_on(NEWCOMER)?;
        let mut pairs = self.pairs(progress);
        pairs.push((NEWCOMER, 9));
        map.has_exactly(&pairs, others)?;
        for (n, &(key, _)) in self.keys.iter().enumerate() {
            let before = pairs.iter().find(|pair| pair.0 == key).map(|pair| pair.1);
            let previous = map.insert(key, NEWCOMERS)?;
            ensure!(
                previous == before,
                "key {key}: {previous:?}, not {before:?}"
            );
            if Self::left(n).is_none() {
                ensure!(map.remove(key)? == Some(NEWCOMERS), "key {key} is lost");
            }
        }
        if is_dead(scene.fate) {
            map.is_in_order()?;
        }
        Ok(self.seen(progress))
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let progress = self.map.get(NOTE)?.ok_or("the note is lost")?;
        let mut expected = vec![(PEER, 9), (NEWCOMER, 9), (NOTE, progress)];
        // Whether the victim, gone on, may have come to the next key.
        let mut goes_on = scene.resumed() || scene.killed_later();
        for (n, &(key, state)) in self.keys.iter().enumerate() {
            let found = self.map.get(key)?;
            // Whether it had looked at a key that was as it wants it, nobody can tell.
            let may_be_before = n < progress as usize || !scene.resumed() || state == self.makes;
            let may_be_after = n >= progress as usize && goes_on;
            ensure!(
                may_be_before && found == Self::left(n) || may_be_after && found == self.makes,
                "key {key}: {found:?} at last; {progress} were changed before"
            );
            if n >= progress as usize && found != self.makes && state != self.makes {
                // It was killed before this one.
                goes_on = false;
            }
            expected.extend(found.map(|value| (key, value)));
        }
        self.map.has_exactly(&expected, [])?;
        self.map.is_whole(&self.site)?;
        Ok(Seen::NOTHING)
    }

    fn answer(&self) -> Option<u64> {
        self.rivals_reply
    }

    fn rivals(&self) -> &'static [&'static str] {
        &["itself", "insert", "remove", "add", "get", "recover"]
    }

    /// About the key in the middle.
    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        let (key, _) = self.keys[self.keys.len() / 2];
        self.rivals_reply = match name {
            "itself" => return self.op(),
            _ => self.map.compete(name, (key, 55), key)?,
        };
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}
