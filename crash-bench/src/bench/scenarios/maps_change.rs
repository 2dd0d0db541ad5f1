//! Operations on one key of a map.

use std::path::Path;

use forkmap::entry::{Entry, EntryError};

use super::maps::{Kind, Numbers, Texts};
use super::maps_one::{Change, Made, NEW, Plan, Reply, START};
use crate::bench::scenario::Failure;

fn upsert(old: Option<u64>) -> (Option<u64>, Reply<u64>) {
    (Some(NEW), Reply::Value(old))
}

fn removal(old: Option<u64>) -> (Option<u64>, Reply<u64>) {
    (None, Reply::Value(old))
}

fn insertion<T: Kind>(before: Option<u64>) -> Plan<T> {
    let op = |s: &Change<T>| Ok(Reply::Value(s.map().insert(s.key(), s.value())?));
    Plan::new(before, op, upsert)
}

fn taking<T: Kind>() -> Plan<T> {
    let op = |s: &Change<T>| Ok(Reply::Value(s.map().remove(s.key())?));
    Plan::new(Some(START), op, removal)
}

fn looking<T: Kind>(before: Option<u64>) -> Plan<T> {
    let op = |s: &Change<T>| Ok(Reply::Value(s.map().get(s.key())?));
    Plan::new(before, op, |old| (old, Reply::Value(old)))
}

fn trying(before: Option<u64>) -> Plan<Numbers> {
    let op = |s: &Change<Numbers>| Ok(Reply::Told(s.map().try_insert(s.key(), s.value())?));
    Plan::new(before, op, |old| {
        (Some(old.unwrap_or(NEW)), Reply::Told(old.is_none()))
    })
}

fn exchange(before: u64) -> Plan<Numbers> {
    let op = |s: &Change<Numbers>| {
        let done = s.map().compare_exchange(s.key(), &START, s.value())?;
        Ok(done.map_or_else(Reply::Value, |()| Reply::Told(true)))
    };
    Plan::new(Some(before), op, |old| match old {
        Some(START) => (Some(NEW), Reply::Told(true)),
        old => (old, Reply::Value(old)),
    })
}

fn adding(before: Option<u64>) -> Plan<Numbers> {
    let op = |s: &Change<Numbers>| Ok(Reply::Value(Some(s.map().fetch_add(s.key(), 1)?)));
    Plan::new(before, op, |old| {
        let old = old.unwrap_or(0);
        (Some(old + 1), Reply::Value(Some(old)))
    })
}

/// What an entry is good for, once more if somebody else was faster; others do two things at most.
fn while_changed(
    change: impl Fn() -> Result<Option<u64>, EntryError>,
) -> Result<Reply<u64>, Failure> {
    for _ in 0..4 {
        match change() {
            Err(EntryError::Changed) => {}
            done => return Ok(Reply::Value(done?)),
        }
    }
    Err("an entry was changed again and again".into())
}

/// A change through an entry: of the key if it is there, else of the key that is not.
fn by_entry(before: Option<u64>, removes: bool) -> Plan<Numbers> {
    let replace = |s: &Change<Numbers>| {
        while_changed(|| match s.map().entry(s.key())? {
            Entry::Occupied(mut entry) => {
                let old = *entry.get();
                entry.replace(s.value()).map(|()| Some(old))
            }
            Entry::Vacant(entry) => entry.insert(s.value()).map(|()| None),
        })
    };
    let remove = |s: &Change<Numbers>| {
        while_changed(|| match s.map().entry(s.key())? {
            Entry::Occupied(entry) => entry.remove().map(Some),
            Entry::Vacant(_) => Ok(None),
        })
    };
    match removes {
        true => Plan::new(before, remove, removal),
        false => Plan::new(before, replace, upsert),
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
    insert: insertion::<Numbers>(None);
    insert_apart: insertion::<Numbers>(None).apart();
    insert_empty: insertion::<Numbers>(None).empty();
    insert_chain: insertion::<Numbers>(None).crowd(8, 0);
    insert_chain_apart: insertion::<Numbers>(None).crowd(8, 0).apart();
    insert_first: insertion::<Numbers>(None).first();
    insert_first_apart: insertion::<Numbers>(Some(START)).first().apart();
    insert_late: insertion::<Numbers>(None).late();
    insert_text: insertion::<Texts>(None);
    replace: insertion::<Numbers>(Some(START));
    replace_apart: insertion::<Numbers>(Some(START)).apart();
    replace_chain: insertion::<Numbers>(Some(START)).crowd(8, 0);
    replace_late: insertion::<Numbers>(Some(START)).late();
    replace_text: insertion::<Texts>(Some(START));
    replace_text_apart: insertion::<Texts>(Some(START)).apart();
    remove: taking::<Numbers>();
    remove_apart: taking::<Numbers>().apart();
    remove_farthest: taking::<Numbers>().crowd(8, 0);
    remove_farthest_apart: taking::<Numbers>().crowd(8, 0).apart();
    remove_middle: taking::<Numbers>().crowd(3, 6);
    remove_late: taking::<Numbers>().late();
    remove_text: taking::<Texts>().apart();
    try_insert: trying(None);
    try_insert_lost: trying(Some(START));
    compare_exchange: exchange(START);
    compare_exchange_lost: exchange(START + 1);
    fetch_add: adding(Some(START));
    fetch_add_new: adding(None);
    entry_replace: by_entry(Some(START), false);
    entry_insert: by_entry(None, false);
    entry_remove: by_entry(Some(START), true);
    get: looking::<Numbers>(Some(START));
    get_chain: looking::<Numbers>(Some(START)).crowd(8, 0);
    get_absent: looking::<Numbers>(None).crowd(8, 0).apart();
    get_text: looking::<Texts>(Some(START));
    set: Plan::<Numbers>::new(
        Some(START),
        |s| Ok(Reply::Told(s.map().set(s.key(), s.value()).map(|()| true)?)),
        |_| (Some(NEW), Reply::Told(true)),
    );
    get_or_insert_with: Plan::<Numbers>::new(
        None,
        |s| Ok(Reply::Value(Some(s.map().get_or_insert_with(s.key(), || NEW)?))),
        |old| (Some(old.unwrap_or(NEW)), Reply::Value(Some(old.unwrap_or(NEW)))),
    );
    update: Plan::<Numbers>::new(
        Some(START),
        |s| {
            let add = |old: Option<u64>| old.unwrap_or(0) + 1;
            Ok(Reply::Value(Some(s.map().update(s.key(), add)?)))
        },
        |old| (Some(old.unwrap_or(0) + 1), Reply::Value(Some(old.unwrap_or(0) + 1))),
    );
    fetch_update: Plan::<Numbers>::new(
        Some(START),
        |s| {
            let done = s.map().fetch_update(s.key(), |old| (*old < 300).then_some(old + 1))?;
            Ok(done.map_or_else(Reply::Value, |old| Reply::Value(Some(old))))
        },
        |old| match old {
            Some(old) if old < 300 => (Some(old + 1), Reply::Value(Some(old))),
            old => (old, Reply::Value(old)),
        },
    );
    remove_if: Plan::<Numbers>::new(
        Some(START),
        |s| Ok(Reply::Value(s.map().remove_if(s.key(), |old| *old < 300)?)),
        |old| match old {
            Some(old) if old < 300 => (None, Reply::Value(Some(old))),
            old => (old, Reply::Value(None)),
        },
    );
}
