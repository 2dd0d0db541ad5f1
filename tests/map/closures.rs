//! Operations that take a closure, and entries, which leave time between the look and the change.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forkmap::entry::{Entry, EntryError};

use crate::samples::{NONE, map_of};

/// Nobody interferes, so there is nothing to call them again for.
#[test]
fn closures_are_called_once() {
    let map = map_of::<u64, u64>(4);
    let calls = Cell::new(0);
    let call = |n: u64| {
        calls.set(calls.get() + 1);
        n
    };
    map.get_or_insert_with(&1, || call(1)).unwrap();
    map.get_or_insert_with(&1, || call(2)).unwrap();
    assert_eq!(calls.take(), 1);
    map.update(&1, |_| call(3)).unwrap();
    map.update(&2, |_| call(4)).unwrap();
    assert_eq!(calls.take(), 2);
    map.fetch_update(&2, |_| Some(call(5))).unwrap().unwrap();
    map.fetch_update(&3, |_| Some(call(5)))
        .unwrap()
        .unwrap_err();
    assert_eq!(calls.take(), 1);
    map.remove_if(&2, |&n| call(n) == 5).unwrap();
    assert_eq!(calls.take(), 1);
    map.retain(|_, &n| call(n) == 0).unwrap();
    assert_eq!((calls.take(), map.len()), (1, 0));
}

/// FP24.
#[test]
fn a_panic_in_a_closure_changes_nothing() {
    let map = map_of::<str, str>(2);
    map.insert("a", "1").unwrap();
    let panics = |call: &dyn Fn()| {
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        assert_eq!((map.len(), map.check()), (1, NONE));
        assert_eq!(map.get("a").unwrap().as_deref(), Some("1"));
    };
    for key in ["a", "b"] {
        panics(&|| drop(map.update(key, |_| panic!("in the closure"))));
    }
    panics(&|| drop(map.get_or_insert_with("b", || panic!("in the closure"))));
    panics(&|| drop(map.fetch_update("a", |_| panic!("in the closure"))));
    panics(&|| drop(map.remove_if("a", |_| panic!("in the closure"))));
    panics(&|| drop(map.retain(|_, _| panic!("in the closure"))));
    assert!(map.try_insert("b", "2").unwrap());
}

/// Closures may use the map; what they do to their own key has happened when it is their turn.
#[test]
fn closures_may_change_the_map() {
    let map = map_of::<u64, u64>(8);
    map.insert(&1, &10).unwrap();
    let mut calls = 0;
    let new = map.update(&1, |old| {
        calls += 1;
        if calls == 1 {
            map.insert(&1, &20).unwrap();
            map.insert(&2, &1).unwrap();
        }
        old.unwrap() + 1
    });
    assert_eq!(
        (new.unwrap(), calls),
        (21, 2),
        "called again with the new value"
    );
    let got = map.get_or_insert_with(&3, || {
        map.insert(&3, &30).unwrap();
        31
    });
    assert_eq!(got.unwrap(), 30, "somebody else was faster");
    let removed = map.remove_if(&3, |_| {
        map.remove(&3).unwrap();
        true
    });
    assert_eq!(removed.unwrap(), None);
    let mut calls = 0;
    let fetched = map.fetch_update(&2, |&old| {
        calls += 1;
        if calls == 1 {
            map.remove(&2).unwrap();
            map.insert(&2, &5).unwrap();
        }
        Some(old * 2)
    });
    assert_eq!((fetched.unwrap(), calls), (Ok(5), 2));
    map.retain(|&key, _| {
        let _ = map.remove(&(key ^ 3));
        map.insert(&100, &1).unwrap();
        true
    })
    .unwrap();
    assert_eq!(map.check(), NONE);
}

#[test]
fn an_entry_does_what_it_does_only_if_nobody_was_there() {
    let map = map_of::<str, str>(3);
    let occupied = |key: &str| match map.entry(key).unwrap() {
        Entry::Occupied(entry) => entry,
        entry => panic!("{entry:?}"),
    };
    let vacant = |key: &str| match map.entry(key).unwrap() {
        Entry::Vacant(entry) => entry,
        entry => panic!("{entry:?}"),
    };
    vacant("a").insert("1").unwrap();
    let (late, removed) = (vacant("b"), vacant("c"));
    map.insert("b", "2").unwrap();
    assert!(matches!(late.insert("3"), Err(EntryError::Changed)));
    // Came and went: it is not there, and that is what counts.
    map.insert("c", "x").unwrap();
    map.remove("c").unwrap();
    removed.insert("4").unwrap();

    // After its own change it goes on.
    let mut entry = occupied("a");
    entry.replace("5").unwrap();
    entry.replace("6").unwrap();
    assert_eq!(entry.get(), "6");
    assert_eq!(entry.remove().unwrap(), "6");
    assert_eq!(map.get("a").unwrap(), None);

    // Every way in which others change it.
    let changes: [(&str, &dyn Fn()); 4] = [
        ("by set", &|| map.set("b", "7").unwrap()),
        ("to the same", &|| map.set("b", "7").unwrap()),
        ("by two", &|| {
            map.set("b", "8").unwrap();
            map.set("b", "7").unwrap();
        }),
        ("anew", &|| {
            map.remove("b").unwrap();
            map.insert("b", "7").unwrap();
        }),
    ];
    for (how, change) in changes {
        let (mut replaced, removed) = (occupied("b"), occupied("b"));
        change();
        assert!(
            matches!(replaced.replace("9"), Err(EntryError::Changed)),
            "{how}"
        );
        assert!(
            matches!(removed.remove(), Err(EntryError::Changed)),
            "{how}"
        );
        assert_eq!(map.get("b").unwrap().as_deref(), Some("7"), "{how}");
        assert!(
            matches!(replaced.replace("9"), Err(EntryError::Changed)),
            "still"
        );
    }
    let (mut replaced, removed) = (occupied("b"), occupied("b"));
    map.remove("b").unwrap();
    assert!(matches!(replaced.replace("9"), Err(EntryError::Changed)));
    assert!(matches!(removed.remove(), Err(EntryError::Changed)));
    // Two entries of one key: the first one wins.
    let (mut first, second) = (occupied("c"), occupied("c"));
    first.replace("10").unwrap();
    assert!(matches!(second.remove(), Err(EntryError::Changed)));
    assert_eq!(first.into_value(), "10");
    assert_eq!((map.len(), map.check()), (1, NONE));

    let error = EntryError::Changed.to_string();
    assert!(error.contains("; make the entry anew"), "{error}");
    let debug = format!(
        "{:?} {:?}",
        map.entry("c").unwrap(),
        map.entry("x").unwrap()
    );
    assert!(!debug.contains("10"), "no data: {debug}");
}
