//! Operations on one stream dictionary, which others have open and go on with.

use std::path::Path;

use forkmap::{StreamError, WatchEvent};

use super::streams::{MAP, Made, START, below, previous, transfer};
use super::streams_change::{
    A_MOMENT, Change, FRESH, HOW_MANY, INNER, MANY, NEW, OUTER, Plan, THERE, VALUE, plan,
};
use super::streams_dead::Death;

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
        plan.entered(|model| _ = model.remove(OUTER))
    }

    pub(super) fn watch_lagged() -> Plan {
        let plan = watch_next().short().enter(Change::watch_and_dump_twice);
        plan.entered(|_| {}).gives(|_| 2)
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
