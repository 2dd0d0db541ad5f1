//! Operations on one stream dictionary, which others have open and go on with.

use std::path::Path;
use std::time::Duration;

use forkmap::{Node, Position, StreamError, Tree, Watch, WatchEvent};

use super::streams::{
    ACCOUNTS, Dict, LONG, MAP, Made, Model, SHORT, START, Site, below, entries, fill, previous,
    transfer, work,
};
use super::streams_dead::{Death, die};
use crate::bench::scenario::{Failure, Fate, Scenario, Scene, Seen, ensure};

/// A key that is not there at first, one that is, and what the victim makes of them.
const FRESH: u64 = 7;
const THERE: u64 = ACCOUNTS[1];
const NEW: u64 = 77;

/// Keys of the others, and what they leave of those of the victim.
const PEER: u64 = 10;
const NEWCOMER: u64 = 20;
const LEFT: u64 = 600;

/// Keys of a change that is longer than a log.
const MANY: u64 = 100;
const HOW_MANY: u64 = 14;

/// A key that holds a map, if there is one: with a value, and another map with one.
const OUTER: u64 = 30;
const INNER: u64 = 31;
const VALUE: u64 = 1;

const A_MOMENT: Duration = Duration::from_millis(1);

type Op = fn(&mut Change) -> Result<u64, Failure>;

/// An operation, and the dictionary that it is done in.
struct Plan {
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
    /// Whether the peer begins by opening it once more. (Else it puts in order, by going on, what somebody
    /// who knows only the name would find.)
    reopens: bool,
}

fn plan(op: Op, model: fn(&mut Model) -> u64) -> Plan {
    Plan {
        op,
        model,
        log_bytes: LONG,
        full: false,
        nested: false,
        death: None,
        enter: Change::take_over,
        entered: |_| {},
        reopens: false,
    }
}

impl Plan {
    /// The log is short: the others come to later generations.
    fn short(mut self) -> Self {
        self.log_bytes = SHORT;
        self
    }

    /// The log is short, and full.
    fn full(mut self) -> Self {
        self.full = true;
        self.short()
    }

    /// There is a map.
    fn nested(mut self) -> Self {
        self.nested = true;
        self
    }

    fn after(mut self, death: Death) -> Self {
        self.death = Some(death);
        self.short()
    }

    fn enter(mut self, enter: fn(&mut Change) -> Result<(), Failure>) -> Self {
        self.enter = enter;
        self
    }

    /// The same, and that appends a record.
    fn append(mut self, enter: fn(&mut Change) -> Result<(), Failure>) -> Self {
        self.entered = |model| _ = model.set(ACCOUNTS[0], ENTERED);
        self.enter(enter)
    }

    /// The peer begins by opening it once more.
    fn reopen(mut self) -> Self {
        self.reopens = true;
        self
    }

    fn make(self, dir: &Path) -> Made {
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

struct Change {
    site: Site,
    /// Of the creator.
    other: Dict,
    /// What the victim does it with, and the peer goes on with.
    dict: Option<Dict>,
    /// The map in that, if there is one.
    outer: Option<Dict>,
    /// What the victim has opened.
    opened: Option<Dict>,
    /// The entries before the operation, but for what `enter` makes of them.
    before: Model,
    /// A position that the victim has seen.
    seen: Option<Position>,
    /// What the victim has begun to watch.
    watch: Option<Watch<u64, u64>>,
    plan: Plan,
    reply: u64,
}

/// What the victim sets in `enter`, by its other handle.
const ENTERED: u64 = 5;

impl Change {
    fn dict(&self) -> Result<&Dict, Failure> {
        Ok(self.dict.as_ref().ok_or("no dictionary")?)
    }

    fn outer(&self) -> Result<&Dict, Failure> {
        Ok(self.outer.as_ref().ok_or("no map")?)
    }

    /// Reads with both handles, so that a fork is nothing new to them.
    fn take_over(&mut self) -> Result<(), Failure> {
        self.other.get(&0)?;
        self.dict()?.get(&0)?;
        Ok(())
    }

    /// The others append a record.
    fn append(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        self.seen = Some(self.dict()?.position()?);
        let [first, ..] = ACCOUNTS;
        Ok(self.other.set(&first, &ENTERED)?)
    }

    /// Begins to watch, and the others append a record.
    fn watch_and_append(&mut self) -> Result<(), Failure> {
        self.watch = Some(self.dict()?.watch()?);
        self.append()
    }

    /// Begins to watch, and the others begin two generations.
    fn watch_and_dump_twice(&mut self) -> Result<(), Failure> {
        self.watch = Some(self.dict()?.watch()?);
        self.dump_twice()
    }

    /// Begins to watch the map, and the others remove it.
    fn watch_and_remove(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        self.watch = Some(self.outer()?.watch()?);
        self.other.remove(&OUTER)?;
        Ok(())
    }

    /// The others begin a generation.
    fn dump(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        Ok(self.other.dump()?)
    }

    /// The others begin two.
    fn dump_twice(&mut self) -> Result<(), Failure> {
        self.dump()?;
        Ok(self.other.dump()?)
    }

    /// The others have a dump and some records.
    fn dump_and_append(&mut self) -> Result<(), Failure> {
        self.dump()?;
        self.append()
    }

    /// Leaves the flag of the bell raised.
    fn wait_in_vain(&mut self) -> Result<(), Failure> {
        self.take_over()?;
        let dict = self.dict()?;
        let none = dict.wait_for_change(dict.position()?, A_MOMENT)?;
        ensure!(none.is_none(), "a change that nobody made");
        Ok(())
    }

    /// Opens it once more.
    fn open_another(&mut self) -> Result<(), Failure> {
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
        self.reply = (self.plan.op)(self)?;
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        let dict = self.opened.as_ref().or(self.dict.as_ref());
        let entries = entries(dict.unwrap_or(&self.other)).ok()?;
        Some(entries.word(self.reply))
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
                let possible = done != Some(false)
                    && (answer == early.word(early_reply) && found == early)
                    || done != Some(true) && (answer == late.word(late_reply) && found == late);
                ensure!(
                    possible,
                    "seen before: {done:?}; the operation left {found:?}; it gave {answer:#x}, early \
                     would be {:#x}, late {:#x}",
                    early.word(early_reply),
                    late.word(late_reply)
                );
            }
            None => {
                ensure!(!scene.resumed(), "no answer");
                let expected = if done == Some(true) {
                    &early
                } else {
                    &untouched
                };
                ensure!(found == *expected, "{found:?}, not {expected:?}");
            }
        }
        self.site.is_whole(&[self.dict()?, &self.other], &found)?;
        Ok(Seen::NOTHING)
    }
}

/// The operations, and what they are to do.
mod ops {
    use super::*;

    pub(super) fn set() -> Plan {
        let op = |s: &mut Change| {
            s.dict()?.set(&FRESH, &NEW)?;
            Ok(0)
        };
        plan(op, |model| {
            model.set(FRESH, NEW);
            0
        })
    }

    pub(super) fn insert() -> Plan {
        plan(
            |s| Ok(previous(s.dict()?.insert(&THERE, &NEW)?)),
            |model| previous(model.set(THERE, NEW)),
        )
    }

    pub(super) fn remove() -> Plan {
        plan(
            |s| Ok(previous(s.dict()?.remove(&THERE)?)),
            |model| previous(model.remove(THERE)),
        )
    }

    pub(super) fn transaction() -> Plan {
        let op = |s: &mut Change| {
            transfer(s.dict()?, NEW)?;
            Ok(0)
        };
        plan(op, |model| {
            model.transfer(NEW);
            0
        })
    }

    pub(super) fn compare_exchange() -> Plan {
        let op = |s: &mut Change| {
            let done = s
                .dict()?
                .compare_exchange(&THERE, Some(&START), Some(&NEW))?;
            Ok(done.map_or_else(|found| previous(found) << 32, previous))
        };
        plan(op, |model| match model.get(THERE) {
            Some(START) => previous(model.set(THERE, NEW)),
            found => previous(found) << 32,
        })
    }

    /// More than fits into a log as short as that before it.
    pub(super) fn extend() -> Plan {
        let op = |s: &mut Change| {
            let keys = [MANY; HOW_MANY as usize];
            let mut entries = keys.map(|key| (key, NEW));
            for (entry, n) in entries.iter_mut().zip(0..) {
                entry.0 += n;
            }
            s.dict()?
                .extend(entries.iter().map(|(key, value)| (key, value)))?;
            Ok(0)
        };
        plan(op, |model| {
            for n in 0..HOW_MANY {
                model.set(MANY + n, NEW);
            }
            0
        })
    }

    /// Reads a key that nobody changes but `enter`, and the others in the end.
    pub(super) fn get() -> Plan {
        let op = |s: &mut Change| Ok(previous(s.dict()?.get(&THERE)?));
        plan(op, |model| previous(model.get(THERE)))
    }

    pub(super) fn dump() -> Plan {
        let op = |s: &mut Change| {
            s.dict()?.dump()?;
            Ok(0)
        };
        plan(op, |_| 0)
    }

    pub(super) fn open() -> Plan {
        let op = |s: &mut Change| {
            s.opened = Some(s.site.open()?);
            Ok(0)
        };
        plan(op, |_| 0)
    }

    /// Closes a handle that others of the process have beside theirs.
    pub(super) fn close() -> Plan {
        let op = |s: &mut Change| {
            let opened = s.opened.take().ok_or("nothing to close")?;
            Ok(opened.close()?.len() as u64)
        };
        // A key of each of the others, and one more, may be there by then.
        plan(op, |model| model.0.len() as u64).enter(Change::open_another)
    }

    pub(super) fn drop_handle() -> Plan {
        let op = |s: &mut Change| {
            drop(s.opened.take());
            Ok(0)
        };
        plan(op, |_| 0).enter(Change::open_another)
    }

    pub(super) fn wait_for_change() -> Plan {
        let op = |s: &mut Change| {
            let seen = s.seen.ok_or("no position")?;
            let changed = s.dict()?.wait_for_change(seen, A_MOMENT)?;
            Ok(u64::from(changed.is_some()))
        };
        plan(op, |_| 1).append(Change::append)
    }

    pub(super) fn watch() -> Plan {
        let op = |s: &mut Change| {
            s.watch = Some(s.dict()?.watch()?);
            Ok(0)
        };
        plan(op, |_| 0)
    }

    /// The next event, by number.
    pub(super) fn watch_next() -> Plan {
        let op = |s: &mut Change| {
            let watch = s.watch.as_mut().ok_or("nothing is watched")?;
            Ok(match watch.next_within(A_MOMENT)? {
                None => 0,
                Some(WatchEvent::Changed { .. }) => 1,
                Some(WatchEvent::Lagged) => 2,
                Some(_) => 3,
            })
        };
        plan(op, |_| 1).append(Change::watch_and_append)
    }

    /// In a map.
    pub(super) fn nested_set() -> Plan {
        let op = |s: &mut Change| {
            s.outer()?.set(&FRESH, &NEW)?;
            Ok(0)
        };
        plan(op, |model| {
            model.set(below(OUTER, FRESH), NEW);
            0
        })
        .nested()
    }

    /// Makes a map, unless there is one.
    pub(super) fn nest() -> Plan {
        let op = |s: &mut Change| {
            s.outer()?.nested(&FRESH)?;
            Ok(0)
        };
        plan(op, |model| {
            model.set(below(OUTER, FRESH), MAP);
            0
        })
        .nested()
    }

    pub(super) fn nested_remove() -> Plan {
        let op = |s: &mut Change| {
            s.dict()?.remove(&OUTER)?;
            Ok(0)
        };
        plan(op, |model| {
            model.remove(OUTER);
            0
        })
        .nested()
    }

    /// From one map into another, with what is in it.
    pub(super) fn nested_move() -> Plan {
        let op = |s: &mut Change| {
            s.dict()?.transaction(|tx| {
                let mut outer = tx.nested(&OUTER)?;
                if let Some(node) = outer.remove_node(&INNER)? {
                    tx.set_node(&INNER, &node)?;
                }
                Ok::<(), StreamError>(())
            })?;
            Ok(0)
        };
        plan(op, |model| {
            model.remove(below(OUTER, INNER));
            model.set(INNER, MAP);
            model.set(below(INNER, VALUE), START);
            0
        })
        .nested()
    }

    pub(super) fn nested_get() -> Plan {
        let op = |s: &mut Change| Ok(previous(s.outer()?.get(&VALUE)?));
        plan(op, |model| previous(model.get(below(OUTER, VALUE)))).nested()
    }

    /// The first of what went with a map.
    pub(super) fn watch_removed() -> Plan {
        let plan = watch_next().nested().enter(Change::watch_and_remove);
        Plan {
            entered: |model| _ = model.remove(OUTER),
            ..plan
        }
    }

    pub(super) fn watch_lagged() -> Plan {
        let plan = watch_next().short().enter(Change::watch_and_dump_twice);
        Plan {
            entered: |_| {},
            model: |_| 2,
            ..plan
        }
    }
}

macro_rules! scenarios {
    ($($name:ident: $plan:expr;)+) => {
        $(
            pub(crate) fn $name(dir: &Path) -> Made {
                $plan.make(dir)
            }
        )+
    };
}
scenarios! {
    set: ops::set();
    set_first: ops::set().enter(|_| Ok(()));
    set_outrun: ops::set().short();
    set_full: ops::set().full().reopen();
    set_sealed: ops::set().after(Death::Sealed);
    set_after_builder: ops::set().after(Death::Named);
    set_after_winner: ops::set().after(Death::Elected).enter(|_| Ok(()));
    set_rings: ops::set().enter(Change::wait_in_vain);
    set_behind: ops::set().short().enter(Change::dump_twice);
    insert: ops::insert();
    remove: ops::remove();
    transaction: ops::transaction();
    transaction_full: ops::transaction().full();
    compare_exchange: ops::compare_exchange();
    extend_long: ops::extend().short();
    get: ops::get();
    get_record: ops::get().append(Change::append);
    get_next: ops::get().enter(Change::dump);
    get_later: ops::get().short().enter(Change::dump_twice);
    get_sealed: ops::get().after(Death::Sealed);
    get_after_winner: ops::get().after(Death::Elected).enter(|_| Ok(())).reopen();
    dump: ops::dump().reopen();
    open: ops::open().append(Change::dump_and_append);
    open_after_builder: ops::open().after(Death::Named);
    open_after_winner: ops::open().after(Death::Elected).enter(|_| Ok(()));
    close: ops::close();
    drop_handle: ops::drop_handle();
    watch: ops::watch();
    watch_next: ops::watch_next();
    watch_lagged: ops::watch_lagged();
    watch_removed: ops::watch_removed();
    nest: ops::nest();
    nest_full: ops::nest().full();
    nested_set: ops::nested_set();
    nested_set_full: ops::nested_set().full();
    nested_remove: ops::nested_remove();
    nested_remove_full: ops::nested_remove().full();
    nested_move: ops::nested_move();
    nested_get: ops::nested_get();
    nested_get_next: ops::nested_get().enter(Change::dump);
    nested_get_later: ops::nested_get().short().enter(Change::dump_twice);
    wait_for_change: ops::wait_for_change();
}
