//! Recovery: of writers that have died at each of the steps of an operation.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use super::maps::{Map, Numbers, Site, is_dead};
use super::maps_one::NEW;
use crate::bench::child::Child;
use crate::bench::plan::Leg;
use crate::bench::scenario::{Failure, Outcome, Scenario, Scene, Seen, ensure};
use crate::bench::tracer::Victim;

type Made = Result<Box<dyn Scenario>, Failure>;

const CAPACITY: u64 = 40;

/// As many as there are dead, and those who come after them.
const WRITERS: u64 = 24;

/// The value that a key has at first if it is there, and the one that the dead give it.
const START: u64 = 100;

/// Longer than it may take until a process has died.
const SOON: std::time::Duration = std::time::Duration::from_secs(5);

/// Writers that died after their work, behind those that died in it.
const AT_REST: usize = 3;

/// A key, and the value that it has if it is there.
pub(super) type State = (u64, Option<u64>);

/// What the dead were doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Insert,
    Replace,
    Remove,
}

impl Deed {
    pub(super) fn states(self) -> [Option<u64>; 2] {
        match self {
            Self::Insert => [None, Some(NEW)],
            Self::Replace => [Some(START), Some(NEW)],
            Self::Remove => [Some(START), None],
        }
    }
}

/// A map in which writers have died: one after its first change of the segment, one after its second,
/// and so on until one had no more to do. A copy of a segment is one whose writers are all dead, so it is
/// made once.
#[derive(Debug, Clone)]
pub(super) struct Battlefield {
    segment: Vec<u8>,
    /// The keys that each was at, and what others have seen there since.
    pub(super) keys: Vec<State>,
}

/// What a battlefield is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Battle {
    pub(super) deed: Deed,
    /// After each how many-th change somebody has died.
    pub(super) stride: usize,
    /// Whether all room is taken by then, but for what the dead have left.
    pub(super) full: bool,
}

impl Battle {
    /// With a dead writer after each change.
    pub(super) fn of(deed: Deed) -> Self {
        Self {
            deed,
            stride: 1,
            full: false,
        }
    }
}

/// Somebody who will be killed.
struct Doomed<'a> {
    map: &'a Map<Numbers>,
    key: u64,
    deed: Deed,
}

impl Scenario for Doomed<'_> {
    fn enter(&mut self) -> Result<(), Failure> {
        self.map.register()
    }

    fn op(&mut self) -> Result<(), Failure> {
        match self.deed {
            Deed::Insert | Deed::Replace => _ = self.map.0.insert(&self.key, &NEW)?,
            Deed::Remove => _ = self.map.0.remove(&self.key)?,
        }
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }

    fn finish(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }
}

impl Battlefield {
    /// A directory where that was, and a map like it was then.
    pub(super) fn visit(
        dir: &Path,
        battle: Battle,
    ) -> Result<(Site, Map<Numbers>, Vec<State>), Failure> {
        let site = Site::new(dir, CAPACITY, WRITERS);
        let field = Self::of(&site, battle)?;
        let map = field.copy(&site)?;
        Ok((site, map, field.keys))
    }

    fn of(site: &Site, battle: Battle) -> Result<Self, Failure> {
        static KNOWN: Mutex<Vec<(Battle, Battlefield)>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().map_err(|error| error.to_string())?;
        if let Some((_, found)) = known.iter().find(|(of, _)| *of == battle) {
            return Ok(found.clone());
        }
        let mut new = Self::fight(site, battle)?;
        if battle.full {
            new.fill(site)?;
        }
        known.push((battle, new.clone()));
        Ok(new)
    }

    fn fight(site: &Site, battle: Battle) -> Result<Self, Failure> {
        let deed = battle.deed;
        let map = site.create::<Numbers>()?;
        let mut keys = Vec::new();
        for (most, key) in (1..)
            .step_by(battle.stride)
            .zip(site.neighbours::<Numbers>()?)
        {
            if let Some(start) = deed.states()[0] {
                map.insert(key, start)?;
            }
            let mut doomed = Doomed {
                map: &map,
                key,
                deed,
            };
            let mut victim = Victim::start(&mut doomed)?;
            let mut before = fs::read(site.file())?;
            let mut changes = 0;
            while changes < most && victim.follow([Leg::Step(1)].into_iter())? {
                let now = fs::read(site.file())?;
                changes += usize::from(now != before);
                before = now;
            }
            victim.kill();
            keys.push((key, map.get(key)?));
            if changes < most {
                for _ in 0..AT_REST {
                    Child::fork(|| map.register().map(|()| String::new()))?.wait(SOON)?;
                }
                let segment = fs::read(site.file())?;
                fs::remove_file(site.file())?;
                return Ok(Self { segment, keys });
            }
        }
        Err("more changes than keys".into())
    }

    /// Inserts keys as long as there is room without what the dead have left.
    fn fill(&mut self, site: &Site) -> Result<(), Failure> {
        let map = self.copy(site)?;
        let mut last = None;
        for key in FILLING.. {
            map.insert(key, 9)?;
            if map.0.stats()?.dead_writers == 0 {
                break;
            }
            last = Some(key);
        }
        drop(map);
        fs::remove_file(site.file())?;

        let map = self.copy(site)?;
        for key in FILLING..=last.ok_or("no room")? {
            map.insert(key, 9)?;
        }
        self.segment = fs::read(site.file())?;
        Ok(fs::remove_file(site.file())?)
    }

    /// A map like this.
    fn copy(&self, site: &Site) -> Result<Map<Numbers>, Failure> {
        fs::write(site.file(), &self.segment)?;
        site.open()
    }
}

/// How the dead are recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Call,
    /// By taking their slots, one after the other.
    Slots,
    /// By an insert for which there would be no room.
    Full,
}

struct Recovery {
    site: Site,
    map: Map<Numbers>,
    keys: Vec<State>,
    deed: Deed,
    way: Way,
    /// Attachments of the victim, a writer each.
    attachments: Vec<Map<Numbers>>,
    rivals_reply: Option<u64>,
}

/// Keys of the victim, the peer and the newcomer.
const VICTIM: u64 = 10_001;
const PEER: u64 = 10_002;
const NEWCOMER: u64 = 10_003;

/// The first key of those that fill a map, each with the value 9.
const FILLING: u64 = 20_001;

fn recovery(dir: &Path, deed: Deed, way: Way) -> Made {
    let battle = Battle {
        deed,
        stride: if way == Way::Slots { 3 } else { 1 },
        full: way == Way::Full,
    };
    let (site, map, keys) = Battlefield::visit(dir, battle)?;
    Ok(Box::new(Recovery {
        site,
        map,
        keys,
        deed,
        way,
        attachments: Vec::new(),
        rivals_reply: None,
    }))
}

macro_rules! recoveries {
    ($($name:ident: $deed:ident, $way:ident;)+) => {
        $(
            pub(crate) fn $name(dir: &Path) -> Made {
                recovery(dir, Deed::$deed, Way::$way)
            }
        )+
    };
}
recoveries! {
    recover_inserts: Insert, Call;
    recover_replaces: Replace, Call;
    recover_removals: Remove, Call;
    slots_of_inserts: Insert, Slots;
    slots_of_replaces: Replace, Slots;
    slots_of_removals: Remove, Slots;
    full_after_inserts: Insert, Full;
}

impl Recovery {
    /// All that the dead had done is still so, and what they had not is not. `changed` says what others
    /// have made of the key number so and so.
    fn look(
        &self,
        map: &Map<Numbers>,
        changed: impl Fn(usize, Option<u64>) -> Option<u64>,
        own: &[u64],
    ) -> Result<Seen, Failure> {
        let mut expected: Vec<_> = own.iter().map(|&key| (key, 9)).collect();
        for (n, &(key, state)) in self.keys.iter().enumerate() {
            ensure!(
                self.deed.states().contains(&state),
                "key {key} of a dead writer is {state:?}"
            );
            expected.extend(changed(n, state).map(|value| (key, value)));
        }
        let filled = map.pairs()?.into_iter().filter(|(key, _)| *key >= FILLING);
        expected.extend(filled.map(|(key, _)| (key, 9)));
        let victims = match self.way {
            Way::Full => [None, Some(NEW)],
            _ => [None, None],
        };
        Ok(map.look(VICTIM, victims, &expected)?.1)
    }
}

/// What the peer and then the newcomer make of the keys.
fn by_peer(n: usize, state: Option<u64>) -> Option<u64> {
    match n % 2 {
        0 => Some(state.unwrap_or(0) + 10),
        _ => state,
    }
}

fn by_both(n: usize, state: Option<u64>) -> Option<u64> {
    by_peer(n, state).filter(|_| n % 3 == 0)
}

impl Scenario for Recovery {
    fn enter(&mut self) -> Result<(), Failure> {
        match self.way {
            Way::Call => return Ok(()),
            Way::Full => return self.map.register(),
            Way::Slots => {}
        }
        let records = self.map.0.participants()?.len();
        for _ in records..WRITERS as usize {
            let other = self.site.open()?;
            other.register()?;
            self.attachments.push(other);
        }
        // From now on there are only slots of the dead to be had.
        let dead = self.map.0.stats()?.dead_writers;
        for _ in 0..dead - AT_REST {
            self.attachments.push(self.site.open()?);
        }
        self.attachments.reverse();
        self.attachments.truncate(dead - AT_REST);
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        match self.way {
            Way::Call => _ = self.map.0.recover()?,
            Way::Slots => {
                for attachment in &self.attachments {
                    attachment.register()?;
                }
            }
            Way::Full => {
                let previous = self.map.0.insert(&VICTIM, &NEW)?;
                ensure!(previous.is_none(), "{previous:?}, and it was not there");
            }
        }
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let seen = self.look(&self.map, |_, state| state, &[])?;
        self.map.work_on(PEER)?;
        for (n, &(key, state)) in self.keys.iter().enumerate() {
            if by_peer(n, state) != state {
                let previous = self.map.add(key, 10)?;
                ensure!(previous == state, "key {key}: {state:?}, {previous:?}");
            }
        }
        let again = self.look(&self.map, by_peer, &[PEER])?;
        ensure!(again == seen, "first {seen:?}, then {again:?}");
        Ok(seen)
    }

    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure> {
        let map = self.site.open()?;
        let seen = self.look(&map, by_peer, &[PEER])?;
        map.0.recover()?;
        if is_dead(scene.fate) {
            map.is_in_order()?;
        }
        map.work_on(NEWCOMER)?;
        for (n, &(key, state)) in self.keys.iter().enumerate() {
            let before = by_peer(n, state);
            if by_both(n, state) != before {
                let previous = map.remove(key)?;
                ensure!(previous == before, "key {key}: {before:?}, {previous:?}");
            }
        }
        let again = self.look(&map, by_both, &[PEER, NEWCOMER])?;
        ensure!(again == seen, "first {seen:?}, then {again:?}");
        Ok(seen)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let seen = self.look(&self.map, by_both, &[PEER, NEWCOMER])?;
        self.map.is_whole(&self.site)?;
        ensure!(
            !scene.resumed() || seen.done != Some(false),
            "the resumed victim has not inserted its key"
        );
        Ok(seen)
    }

    fn answer(&self) -> Option<u64> {
        self.rivals_reply
    }

    fn rivals(&self) -> &'static [&'static str] {
        &[
            "insert",
            "remove",
            "add",
            "get",
            "insert another",
            "recover",
        ]
    }

    /// It finds a place that the victim leaves.
    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// About the last of the dead whose keys there are.
    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        let (key, _) = *self.keys.last().ok_or("nobody is dead")?;
        self.rivals_reply = self.map.compete(name, (key, 55), PEER)?;
        Ok(())
    }

    fn outcome(&self, _: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        self.map.outcome(&self.site, answers)
    }
}
