//! One thread at one dictionary twice: refused in every combination, and nothing is stuck afterwards.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use forkmap::{StreamDict, StreamError};

use crate::samples::{Place, texts};

type Dict = StreamDict<str, str>;
type Call = (&'static str, fn(&Dict) -> Result<(), StreamError>);

/// Everything that looks at a dictionary or changes it.
const CALLS: [Call; 24] = [
    ("get", |dict| dict.get("a").map(drop)),
    ("contains_key", |dict| dict.contains_key("a").map(drop)),
    ("len", |dict| dict.len().map(drop)),
    ("is_empty", |dict| dict.is_empty().map(drop)),
    ("position", |dict| dict.position().map(drop)),
    ("view", |dict| dict.view().map(drop)),
    ("status", |dict| dict.status().map(drop)),
    ("set", |dict| dict.set("a", "1")),
    ("insert", |dict| dict.insert("a", "1").map(drop)),
    ("remove", |dict| dict.remove("x").map(drop)),
    ("clear", |dict| dict.clear()),
    ("dump", |dict| dict.dump()),
    ("reload", |dict| dict.reload()),
    ("extend", |dict| dict.extend([("a", "1")])),
    ("get_or_insert_with", |dict| {
        dict.get_or_insert_with("a", || "1".to_owned()).map(drop)
    }),
    ("fetch_update", |dict| {
        dict.fetch_update("a", |_| Some("1".to_owned())).map(drop)
    }),
    ("compare_exchange", |dict| {
        dict.compare_exchange("x", None, None).map(drop)
    }),
    ("or_insert", |dict| {
        dict.entry("a")?.or_insert("1").map(drop)
    }),
    ("or_nothing", |dict| dict.entry("a")?.or_nothing().map(drop)),
    ("transaction", |dict| dict.transaction(|_| Ok(()))),
    ("append_if", |dict| {
        let start = forkmap::Position {
            generation: 1,
            records: 0,
        };
        dict.append_if(start, |_| Ok(())).map(drop)
    }),
    ("is_at", |dict| {
        let start = forkmap::Position {
            generation: 1,
            records: 0,
        };
        dict.is_at(start).map(drop)
    }),
    ("wait_for_change", |dict| {
        let nowhere = forkmap::Position {
            generation: 0,
            records: 0,
        };
        dict.wait_for_change(nowhere, Duration::from_secs(9))
            .map(drop)
    }),
    ("close", |dict| dict.clone().close().map(drop)),
];

fn all_refused(dict: &Dict) {
    let clone = dict.clone();
    for dict in [dict, &clone] {
        for (name, call) in CALLS {
            let called = call(dict);
            assert!(
                matches!(called, Err(StreamError::Reentrant)),
                "{name}: {called:?}"
            );
        }
    }
}

fn all_work(dict: &Dict) {
    for (name, call) in CALLS {
        let called = call(dict);
        assert!(called.is_ok(), "{name}: {called:?}");
    }
    dict.set("a", "1").unwrap();
}

#[test]
fn nothing_works_beside_a_view_and_everything_after_it() {
    let place = Place::new();
    let dict = place.dict::<str, str>(64);
    dict.set("a", "1").unwrap();
    let view = dict.view().unwrap();
    all_refused(&dict);
    assert_eq!(view.get("a").unwrap().map(|s| &**s), Some("1"));
    drop(view);
    all_work(&dict);
    // One is dropped in a panic.
    let held = catch_unwind(AssertUnwindSafe(|| {
        let _view = dict.view().unwrap();
        all_refused(&dict);
        panic!("as planned");
    }));
    assert!(held.is_err());
    all_work(&dict);
    std::thread::scope(|scope| {
        scope.spawn(|| all_work(&dict));
    });
}

#[test]
fn nothing_works_in_a_transaction_but_that_and_everything_after_it() {
    let place = Place::new();
    let dict = place.dict::<str, str>(64);
    dict.set("a", "1").unwrap();
    let position = dict.position().unwrap();
    dict.transaction(|_| {
        all_refused(&dict);
        Ok::<_, StreamError>(())
    })
    .unwrap();
    all_work(&dict);
    let refused = dict.transaction(|tx| {
        tx.set("b", "lost")?;
        dict.get("a")
    });
    assert!(matches!(refused, Err(StreamError::Reentrant)));
    assert!(!dict.contains_key("b").unwrap());
    assert!(position < dict.position().unwrap());
    let here = dict.position().unwrap();
    dict.append_if(here, |_| {
        all_refused(&dict);
        Ok::<_, StreamError>(())
    })
    .unwrap();
    let refuse = |_: Option<&String>| {
        all_refused(&dict);
        None::<String>
    };
    dict.fetch_update("x", refuse).unwrap();
    dict.get_or_insert_with("y", || {
        all_refused(&dict);
        "1".to_owned()
    })
    .unwrap();
    let entry = dict.entry("y").unwrap();
    entry
        .and_modify(|_| all_refused(&dict))
        .or_nothing()
        .unwrap();
    all_work(&dict);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        dict.transaction(|_| -> Result<(), StreamError> {
            all_refused(&dict);
            panic!("as planned")
        })
    }));
    assert!(panicked.is_err());
    all_work(&dict);
    std::thread::scope(|scope| {
        scope.spawn(|| all_work(&dict));
    });
}

/// An entry holds nothing before its last word.
#[test]
fn an_entry_in_hand_hinders_nobody() {
    let place = Place::new();
    let dict = place.dict::<str, str>(64);
    let entry = dict.entry("k").unwrap();
    all_work(&dict);
    assert_eq!(entry.or_insert("2").unwrap(), "2");
}

#[test]
fn two_attachments_in_one_thread_are_two() {
    let place = Place::new();
    let one = place.dict::<str, str>(64);
    let two = place.open::<str, str>();
    one.set("a", "1").unwrap();
    let view = two.view().unwrap();
    all_work(&one);
    one.set("b", "2").unwrap();
    all_refused(&two);
    assert_eq!(view.get("b").unwrap(), None, "a view is of one moment");
    drop(view);
    assert_eq!(two.get("b").unwrap().as_deref(), Some("2"));
    // In a transaction too: the other's change makes this one begin anew, once.
    let mut calls = 0;
    one.transaction(|tx| {
        calls += 1;
        if calls == 1 {
            assert!(!tx.contains_key("c")?);
            two.set("c", "3")?;
            assert!(!tx.contains_key("c")?, "still that moment");
        }
        let found = tx.get("c")?.cloned().unwrap_or_default();
        tx.set("d", &(found + "!"))
    })
    .unwrap();
    assert_eq!(calls, 2);
    assert_eq!(two.get("d").unwrap().as_deref(), Some("3!"));
    assert_eq!(texts(&one), texts(&two));
    let alive = one.status().unwrap().participants;
    assert_eq!(alive.len(), 2, "each has its place");
    assert!(
        alive
            .iter()
            .all(|one| one.is_alive && one.pid == std::process::id())
    );
}

/// Two dictionaries do not mind each other.
#[test]
fn another_dictionary_is_another() {
    let place = Place::new();
    let one = place.dict::<str, str>(64);
    let two = place.options::<str, str>().create("two").unwrap();
    two.set("a", "2").unwrap();
    let (first, second) = (one.view().unwrap(), two.view().unwrap());
    assert_eq!((first.len(), second.len()), (0, 1));
    drop(first);
    all_work(&one);
    all_refused(&two);
    drop(second);
    one.transaction(|_| {
        all_work(&two);
        Ok::<_, StreamError>(())
    })
    .unwrap();
}
