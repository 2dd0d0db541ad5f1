//! Many changes at once, and changes at a position.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forkmap::{Position, StreamDict, StreamError};

use crate::samples::{Place, entries, texts};

fn three(place: &Place, log_bytes: u64) -> StreamDict<str, str> {
    let dict = place.dict::<str, str>(log_bytes);
    dict.extend([("a", "1"), ("b", "2"), ("c", "3")]).unwrap();
    dict
}

#[test]
fn many_entries_are_one_record() {
    let place = Place::new();
    let dict = place.dict::<str, str>(1 << 16);
    let start = dict.position().unwrap();
    let none: [(&str, &str); 0] = [];
    dict.extend(none).unwrap();
    assert_eq!(dict.position().unwrap(), start, "nothing is no record");
    dict.extend([("a", "1"), ("b", "2"), ("a", "3")]).unwrap();
    assert_eq!(
        dict.position().unwrap(),
        Position {
            records: 1,
            ..start
        }
    );
    assert_eq!(texts(&dict), "a=3 b=2");
    let many: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    dict.extend(many.iter().map(|n| (&**n, "x"))).unwrap();
    let now = dict.position().unwrap();
    assert_eq!(
        now.records,
        if now.generation == start.generation {
            2
        } else {
            1
        }
    );
    assert_eq!(dict.len().unwrap(), 1002);
    assert_eq!(place.open::<str, str>().len().unwrap(), 1002);
}

#[test]
fn a_transaction_sees_its_own_changes() {
    for log_bytes in [0, 1 << 16] {
        let place = Place::new();
        let dict = three(&place, log_bytes);
        let before = dict.position().unwrap();
        dict.transaction(|tx| {
            assert_eq!((tx.len(), tx.is_empty()), (3, false));
            tx.set("a", "4")?;
            assert_eq!((tx.get("a")?.map(|s| &**s), tx.len()), (Some("4"), 3));
            assert!(tx.remove("b")? && !tx.remove("b")? && !tx.remove("x")?);
            assert_eq!(
                (tx.get("b")?, tx.contains_key("b")?, tx.len()),
                (None, false, 2)
            );
            tx.set("b", "5")?;
            tx.set("d", "6")?;
            assert_eq!((tx.get("d")?.map(|s| &**s), tx.len()), (Some("6"), 4));
            assert!(tx.remove("d")? && !tx.contains_key("d")?);
            assert_eq!((tx.get("c")?.map(|s| &**s), tx.len()), (Some("3"), 3));
            Ok::<_, StreamError>(())
        })
        .unwrap();
        let after = dict.position().unwrap();
        assert!(after > before && after.records <= before.records + 1);
        assert_eq!(texts(&dict), "a=4 c=3 b=5");
        assert_eq!(texts(&place.open()), "a=4 c=3 b=5");
    }
}

#[test]
fn a_transaction_can_clear_and_go_on() {
    let place = Place::new();
    let dict = three(&place, 256);
    dict.transaction(|tx| {
        tx.set("d", "lost")?;
        tx.clear();
        assert!(tx.is_empty());
        assert_eq!(tx.len(), 0);
        assert!(!tx.contains_key("a")? && tx.get("d")?.is_none() && !tx.remove("b")?);
        tx.set("c", "4")?;
        tx.set("a", "5")?;
        assert_eq!((tx.len(), tx.get("b")?), (2, None));
        Ok::<_, StreamError>(())
    })
    .unwrap();
    assert_eq!(texts(&dict), "c=4 a=5", "in the order of now");
    dict.transaction(|tx| {
        tx.clear();
        tx.set("z", "1")?;
        tx.clear();
        Ok::<_, StreamError>(())
    })
    .unwrap();
    assert_eq!(texts(&dict), "");
    assert!(place.open::<str, str>().is_empty().unwrap());
}

#[test]
fn a_transaction_that_changes_nothing_is_no_record() {
    let place = Place::new();
    let dict = three(&place, 256);
    let before = dict.position().unwrap();
    let read = dict.transaction(|tx| Ok::<_, StreamError>(tx.get("a")?.cloned()));
    assert_eq!(read.unwrap().as_deref(), Some("1"));
    let removed = dict.transaction(|tx| tx.remove("x")).unwrap();
    assert!(!removed);
    assert_eq!(dict.remove("x").unwrap(), None);
    assert_eq!(dict.fetch_update("x", |_| None::<String>).unwrap(), None);
    assert_eq!(dict.position().unwrap(), before);
}

#[derive(Debug)]
enum Mine {
    Enough,
    Stream(StreamError),
}

impl From<StreamError> for Mine {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

#[test]
fn a_transaction_that_fails_has_changed_nothing() {
    for log_bytes in [0, 64, 1 << 16] {
        let place = Place::new();
        let dict = three(&place, log_bytes);
        let other = place.open::<str, str>();
        let before = dict.position().unwrap();
        let error = dict.transaction(|tx| {
            tx.clear();
            tx.set("a", "lost")?;
            tx.set("new", &"lost".repeat(1000))?;
            Err::<(), _>(Mine::Enough)
        });
        assert!(matches!(error, Err(Mine::Enough)));
        let error = dict.append_if(before, |tx| {
            tx.remove("a")?;
            Err::<(), _>(Mine::Enough)
        });
        assert!(matches!(error, Err(Mine::Enough)));
        for dict in [&dict, &other] {
            assert_eq!(texts(dict), "a=1 b=2 c=3");
            assert_eq!(dict.position().unwrap(), before);
        }
        let done: Result<_, Mine> = dict.transaction(|tx| Ok(tx.set("d", "4")?));
        if let Err(Mine::Stream(error)) = done {
            panic!("{error}");
        }
        assert_eq!(texts(&other), "a=1 b=2 c=3 d=4");
    }
}

#[test]
fn a_panic_in_a_closure_has_changed_nothing() {
    let place = Place::new();
    let dict = three(&place, 64);
    let other = place.open::<str, str>();
    type Closure<'c> = &'c dyn Fn(&StreamDict<str, str>);
    let closures: [Closure<'_>; 6] = [
        &|dict| {
            let _ = dict.transaction(|tx| -> Result<(), StreamError> {
                tx.clear();
                tx.set("a", "lost")?;
                panic!("as planned")
            });
        },
        &|dict| {
            let here = dict.position().unwrap();
            let _ = dict.append_if(here, |tx| -> Result<(), StreamError> {
                tx.remove("a")?;
                panic!("as planned")
            });
        },
        &|dict| drop(dict.fetch_update("a", |_| -> Option<String> { panic!("as planned") })),
        &|dict| drop(dict.get_or_insert_with("x", || -> String { panic!("as planned") })),
        &|dict| {
            let entry = dict.entry("a").unwrap();
            let _ = entry.and_modify(|_| panic!("as planned")).or_nothing();
        },
        &|dict| {
            let entry = dict.entry("x").unwrap();
            let _ = entry.or_insert_with(|| -> String { panic!("as planned") });
        },
    ];
    for (n, closure) in closures.iter().enumerate() {
        let before = dict.position().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| closure(&dict))).is_err());
        assert!(dict.is_at(before).unwrap());
        for dict in [&dict, &other, &dict.clone()] {
            assert_eq!(dict.get("a").unwrap(), Some((n + 1).to_string()));
            assert_eq!(dict.len().unwrap(), 3);
        }
        // And it works on: by this thread, and by others.
        dict.set("a", &(n + 1).to_string()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| dict.set("a", &(n + 2).to_string()).unwrap());
        });
        dict.dump().unwrap();
    }
}

#[test]
fn a_closure_is_called_once_where_it_says_so() {
    let place = Place::new();
    // Each change begins a generation, and is tried again behind that.
    let dict = place.dict::<str, u64>(0);
    let mut calls = 0;
    for n in 0..20 {
        let made = dict.get_or_insert_with(&n.to_string(), || {
            calls += 1;
            n
        });
        assert_eq!((made.unwrap(), calls), (n, n + 1));
        let entry = dict.entry(&format!("x{n}")).unwrap();
        let mut made = 0;
        let inserted = entry.or_insert_with(|| {
            made += 1;
            n
        });
        assert_eq!((inserted.unwrap(), made), (n, 1));
    }
    assert!(dict.status().unwrap().dumps > 5);
}

#[test]
fn something_is_appended_at_a_position_or_not_at_all() {
    let place = Place::new();
    let dict = three(&place, 1 << 12);
    let other = place.open::<str, str>();
    let set = |position, value: &str| {
        dict.append_if(position, |tx| tx.set("a", value))
            .unwrap()
            .is_some()
    };
    let start = dict.position().unwrap();
    assert!(set(start, "2"));
    assert!(!set(start, "3"), "it has passed");
    let here = dict.position().unwrap();
    other.set("x", "").unwrap();
    assert!(!set(here, "3"), "by another");
    let ahead = Position {
        records: 99,
        ..here
    };
    let beyond = Position {
        generation: 99,
        ..here
    };
    assert!(!set(ahead, "3") && !set(beyond, "3"));
    let never = |position| {
        let done = dict.append_if(position, |_| -> Result<(), StreamError> { unreachable!() });
        done.unwrap().is_none()
    };
    assert!(never(start) && never(ahead));
    // What changes nothing happens there as well.
    let here = dict.position().unwrap();
    let read = dict.append_if(here, |tx| tx.contains_key("a")).unwrap();
    assert_eq!(read, Some(true));
    assert!(set(here, "4"));
    assert_eq!(texts(&other), "a=4 b=2 c=3 x=");
}

#[test]
fn the_end_of_a_generation_is_the_start_of_the_next() {
    let place = Place::new();
    let dict = three(&place, 1 << 12);
    let other = place.open::<str, str>();
    let end = dict.position().unwrap();
    dict.dump().unwrap();
    let start = dict.position().unwrap();
    let expected = Position {
        generation: end.generation + 1,
        records: 0,
    };
    assert_eq!(start, expected);
    assert!(start > end && start != end);
    for dict in [&dict, &other] {
        assert!(dict.is_at(end).unwrap() && dict.is_at(start).unwrap());
        let view = dict.view().unwrap();
        assert!(view.is_at(end) && view.is_at(start));
    }
    let before = Position {
        records: end.records - 1,
        ..end
    };
    assert!(!dict.is_at(before).unwrap());
    let set = |position, value: &str| other.append_if(position, |tx| tx.set("a", value)).unwrap();
    assert_eq!(set(before, "lost"), None);
    assert_eq!(set(end, "2"), Some(()));
    assert_eq!(set(end, "lost"), None);
    assert_eq!(set(start, "lost"), None);
    for position in [end, start] {
        assert!(!dict.is_at(position).unwrap() && !other.is_at(position).unwrap());
    }
    // From the start as well, in a fresh one.
    let (end, start) = (dict.position().unwrap(), {
        dict.dump().unwrap();
        dict.position().unwrap()
    });
    assert_eq!(set(start, "3"), Some(()));
    assert!(!dict.is_at(end).unwrap());
}

/// A log of one record: every attempt to append finds the log full, and goes on behind the switch.
#[test]
fn something_is_appended_at_a_position_across_a_switch() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(24);
    let other = place.open::<u64, u64>();
    let mut position = dict.position().unwrap();
    for n in 0..100 {
        let at = if n % 2 == 0 { &dict } else { &other };
        let done = at.append_if(position, |tx| tx.set(&1, &n)).unwrap();
        assert_eq!(done, Some(()), "{n}");
        let late = other.append_if(position, |tx| tx.set(&1, &999)).unwrap();
        assert_eq!(late, None, "{n}");
        position = at.position().unwrap();
    }
    assert!(position.generation >= 99);
    assert_eq!(entries(&other), [(1, 99)]);
}

#[test]
fn an_error_type_of_nobody_is_no_hindrance() {
    struct Never;
    impl From<StreamError> for Never {
        fn from(_: StreamError) -> Self {
            Self
        }
    }
    let place = Place::new();
    let dict = three(&place, 0);
    let done: Result<Result<(), Infallible>, Never> = dict.transaction(|_| Ok(Ok(())));
    assert!(matches!(done, Ok(Ok(()))));
}
