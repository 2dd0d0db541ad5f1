//! Maps in maps: what a key holds, what goes with it, and what is told of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forkmap::{Node, StreamDict, StreamError, Tree, WatchEvent};

use crate::samples::Place;

type Dict = StreamDict<str, u64>;

fn shown(dict: &Dict) -> String {
    format!("{:?}", dict.view().unwrap())
}

/// How many records `f` appends.
fn records(dict: &Dict, f: impl FnOnce()) -> u64 {
    let before = dict.position().unwrap();
    f();
    let after = dict.position().unwrap();
    assert_eq!(before.generation, after.generation);
    after.records - before.records
}

/// The nested test of the library that had this first, in our words.
#[test]
fn what_is_changed_below_is_seen_by_the_creator() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 12);
    dict.nested("nested")
        .unwrap()
        .nested("deeper")
        .unwrap()
        .set("0", &1)
        .unwrap();
    let other: Dict = place.open();
    let deeper = other.nested("nested").unwrap().nested("deeper").unwrap();
    let add = |old: Option<&u64>| old.map(|old| old + 1);
    assert_eq!(deeper.fetch_update("0", add).unwrap(), Some(1));
    let seen = dict.get_nested("nested").unwrap().unwrap();
    assert_eq!(seen.nested("deeper").unwrap().get("0").unwrap(), Some(2));
    assert_eq!(shown(&dict), r#"{"nested": {"deeper": {"0": 2}}}"#);
    let map = |key: &str, node| Tree::from_iter([(key.to_owned(), Node::Map(node))]);
    let deepest = Tree::from_iter([("0".to_owned(), 2)]);
    let expected = map("nested", map("deeper", deepest));
    assert_eq!(dict.tree().unwrap(), expected);
    assert_eq!(dict.view().unwrap(), expected);
    assert_eq!(deeper.view().unwrap(), HashMap::from([("0".to_owned(), 2)]));
    assert_ne!(other.view().unwrap(), Tree::new());
    assert_eq!(
        place.files().len(),
        2,
        "all is in the files of the dictionary"
    );
}

#[test]
fn a_key_holds_a_value_or_a_map() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    dict.set("value", &1).unwrap();
    let map = dict.nested("map").unwrap();
    assert!(map.is_empty().unwrap());
    map.set("in", &2).unwrap();
    let is_map = |found: Result<(), StreamError>| {
        let error = found.unwrap_err();
        assert!(matches!(error, StreamError::IsMap), "{error}");
        assert!(error.to_string().contains("use nested"));
    };
    let written = records(&dict, || {
        is_map(dict.get("map").map(drop));
        is_map(dict.view().unwrap().get("map").map(drop));
        is_map(dict.transaction(|tx| tx.get("map").map(drop)));
        is_map(dict.fetch_update("map", |_| Some(1)).map(drop));
        is_map(dict.compare_exchange("map", None, Some(&1)).map(drop));
        is_map(dict.get_or_insert_with("map", || 1).map(drop));
        is_map(dict.entry("map").unwrap().or_insert(&1).map(drop));
        is_map(dict.clone().close().map(drop));
        let errors = [
            dict.nested("value").map(drop),
            dict.get_nested("value").map(drop),
            {
                let view = dict.view().unwrap();
                view.get_nested("value").map(drop)
            },
            dict.transaction(|tx| tx.nested("value").map(drop)),
            dict.transaction(|tx| tx.get_nested("value").map(drop)),
        ];
        for error in errors {
            assert!(matches!(error, Err(StreamError::IsValue)), "{error:?}");
        }
        assert!(dict.get_nested("none").unwrap().is_none());
        assert!(dict.view().unwrap().get_nested("none").unwrap().is_none());
    });
    assert_eq!(written, 0);
    dict.set("more", &3).unwrap();
    assert!(dict.contains_key("map").unwrap() && !dict.contains_key("in").unwrap());
    assert_eq!((dict.len().unwrap(), map.len().unwrap()), (3, 1));
    assert_eq!(dict.status().unwrap().len, 4);
    let view = dict.view().unwrap();
    let keys: Result<Vec<_>, _> = view.keys().collect();
    assert_eq!(keys.unwrap(), ["value", "map", "more"]);
    let shown: Vec<_> = view.iter().map(|entry| format!("{entry:?}")).collect();
    assert_eq!(
        shown,
        [r#"Ok(("value", 1))"#, "Err(IsMap)", r#"Ok(("more", 3))"#]
    );
    assert_eq!(
        (view.iter().len(), view.values().flatten().sum::<u64>()),
        (3, 4)
    );
    let nodes: Result<Vec<_>, _> = view.nodes().collect();
    let shown = r#"[("value", 1), ("map", {"in": 2}), ("more", 3)]"#;
    assert_eq!(format!("{:?}", nodes.unwrap()), shown);
    assert_ne!(
        view,
        HashMap::from([("value".to_owned(), 1), ("more".to_owned(), 3)])
    );
}

#[test]
fn who_has_a_map_that_was_taken_away_is_told() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    let other: Dict = place.open();
    type Take = fn(&Dict);
    let takes: [Take; 8] = [
        |dict| dict.set("map", &1).unwrap(),
        |dict| assert_eq!(dict.insert("map", &1).unwrap(), None),
        |dict| assert_eq!(dict.remove("map").unwrap(), None),
        |dict| dict.clear().unwrap(),
        |dict| dict.set_node("map", &Node::Map(Tree::new())).unwrap(),
        |dict| assert!(dict.remove_node("map").unwrap().is_some()),
        |dict| dict.extend([("map", &1)]).unwrap(),
        |dict| {
            let node = dict.get_node("map").unwrap().unwrap();
            dict.set_node("map", &node).unwrap();
        },
    ];
    for (n, take) in takes.into_iter().enumerate() {
        let map = dict.nested("map").unwrap();
        let inner = map.nested("inner").unwrap();
        inner.set("a", &1).unwrap();
        let elsewhere = other.nested("map").unwrap().nested("inner").unwrap();
        assert_eq!(elsewhere.get("a").unwrap(), Some(1));
        assert_eq!(records(&dict, || take(&dict)), 1, "{n}");
        if n % 2 == 0 {
            dict.dump().unwrap();
        }
        dict.remove("map").unwrap();
        // Another one at the same place.
        let again = dict.nested("map").unwrap();
        again.nested("inner").unwrap().set("a", &2).unwrap();
        for gone in [&map, &inner, &elsewhere] {
            let all = [
                gone.get("a").map(drop),
                gone.set("a", &1),
                gone.remove("a").map(drop),
                gone.len().map(drop),
                gone.clear(),
                gone.transaction(|_| Ok(())),
                gone.nested("x").map(drop),
                gone.get_nested("x").map(drop),
                gone.tree().map(drop),
                gone.view().map(drop),
                gone.watch().map(drop),
                gone.clone().close().map(drop),
                gone.get_node("a").map(drop),
            ];
            for found in all {
                assert!(matches!(found, Err(StreamError::Gone)), "{n}: {found:?}");
            }
        }
        // What is about the whole dictionary goes on.
        assert_eq!(map.position().unwrap(), dict.position().unwrap());
        assert!(map.is_at(dict.position().unwrap()).unwrap());
        assert_eq!(map.status().unwrap(), dict.status().unwrap());
        assert_eq!(
            map.wait_for_change(dict.position().unwrap(), Duration::ZERO)
                .unwrap(),
            None
        );
        assert_eq!(shown(&dict), r#"{"map": {"inner": {"a": 2}}}"#);
        assert_eq!(shown(&other), shown(&dict));
        dict.clear().unwrap();
    }
}

#[test]
fn a_transaction_goes_over_all_levels_or_none() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    dict.transaction(|tx| {
        tx.set("first", &0)?;
        let mut a = tx.nested("a")?;
        a.set("1", &1)?;
        a.nested("deep")?.set("2", &2)?;
        a.nested("deep")?.set("3", &3)?;
        tx.set("last", &9)
    })
    .unwrap();
    let before = r#"{"first": 0, "a": {"1": 1, "deep": {"2": 2, "3": 3}}, "last": 9}"#;
    assert_eq!(shown(&dict), before);
    assert_eq!(dict.position().unwrap().records, 1);
    let other: Dict = place.open();
    let all = |tx: &mut forkmap::Transaction<'_, str, u64>| {
        let mut a = tx.nested("a")?;
        let moved = a.remove_node("deep")?.unwrap();
        a.set("1", &5)?;
        tx.set_node("deep", &moved)?;
        tx.nested("deep")?.remove("2")?;
        assert!(tx.nested("deep")?.contains_key("3")?);
        assert!(tx.get_nested("none")?.is_none());
        tx.remove("first")?;
        tx.nested("a")?.clear();
        tx.nested("a")?.nested("x")?.nested("y")?.set("z", &7)?;
        tx.set("last", &1)?;
        let keys: Result<Vec<_>, _> = tx.keys().collect();
        assert_eq!(keys?, ["a", "last", "deep"]);
        assert_eq!(tx.iter().flatten().count(), 1);
        assert_eq!((tx.len(), tx.nested("deep")?.len()), (3, 1));
        let after = r#"{"a": {"x": {"y": {"z": 7}}}, "last": 1, "deep": {"3": 3}}"#;
        assert_eq!(format!("{tx:?}"), after);
        Ok::<_, StreamError>(after)
    };
    let failed = dict.transaction(|tx| {
        all(tx)?;
        tx.clear();
        tx.nested("new")?.set("1", &1)?;
        Err::<(), _>(StreamError::Forked)
    });
    assert!(matches!(failed, Err(StreamError::Forked)));
    assert_eq!(
        (shown(&dict), shown(&other)),
        (before.into(), before.into())
    );
    dict.dump().unwrap();
    let deep = dict.nested("a").unwrap().nested("deep").unwrap();
    assert_eq!(
        deep.get("3").unwrap(),
        Some(3),
        "it is the same one as before"
    );
    let after = dict.transaction(all).unwrap();
    assert_eq!((shown(&dict), shown(&other)), (after.into(), after.into()));
    assert!(matches!(deep.get("3"), Err(StreamError::Gone)));
    drop(other);
    dict.dump().unwrap();
    assert_eq!(shown(&place.open()), after);
}

#[test]
fn whole_maps_come_and_go_at_once() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    let mut map = Tree::from_iter([("a".to_owned(), 1), ("b".to_owned(), 2)]);
    map.insert("map".to_owned(), map.clone().into());
    map.insert("empty".to_owned(), Tree::new().into());
    assert_eq!(
        records(&dict, || dict
            .set_node("x", &Node::Map(map.clone()))
            .unwrap()),
        1
    );
    assert_eq!(dict.get_node("x").unwrap(), Some(Node::Map(map.clone())));
    assert_eq!(dict.get_node("none").unwrap(), None);
    dict.set_node("value", &Node::Value(7)).unwrap();
    assert_eq!(dict.get("value").unwrap(), Some(7));
    assert_eq!(dict.get_node("value").unwrap(), Some(Node::Value(7)));
    let nested = dict.nested("x").unwrap();
    assert_eq!(nested.tree().unwrap(), map);
    assert_eq!(nested.nested("map").unwrap().len().unwrap(), 2);
    // In another order it is the same.
    let first = nested.remove("a").unwrap().unwrap();
    nested.set("a", &first).unwrap();
    assert_eq!(nested.view().unwrap(), map);
    nested.nested("empty").unwrap().set("a", &1).unwrap();
    assert_ne!(nested.view().unwrap(), map);
    nested.nested("empty").unwrap().clear().unwrap();
    let mut taken = None;
    assert_eq!(records(&dict, || taken = dict.remove_node("x").unwrap()), 1);
    assert_eq!(taken, Some(Node::Map(map)));
    assert_eq!(dict.remove_node("x").unwrap(), None);
    assert_eq!(shown(&dict), r#"{"value": 7}"#);
    assert_eq!(dict.clone().close().unwrap(), [("value".to_owned(), 7)]);
}

#[test]
fn maps_are_as_deep_as_they_may_be_and_no_deeper() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    let mut deepest = dict.clone();
    for _ in 0..128 {
        deepest = deepest.nested("x").unwrap();
    }
    deepest.set("value", &1).unwrap();
    let tree = dict.tree().unwrap();
    let is_too_deep = |done: Result<(), StreamError>| {
        let error = done.unwrap_err();
        assert!(
            matches!(error, StreamError::TooDeep { limit: 128 }),
            "{error}"
        );
    };
    is_too_deep(deepest.nested("x").map(drop));
    is_too_deep(dict.set_node("x", &Node::Map(tree.clone())));
    assert_eq!(dict.view().unwrap(), tree, "nothing has changed");
    dict.dump().unwrap();
    let other: Dict = place.open();
    assert_eq!(other.view().unwrap(), tree);
    assert_eq!(shown(&other).matches('{').count(), 129);
    dict.remove("x").unwrap();
    assert!(matches!(deepest.get("value"), Err(StreamError::Gone)));
    let Some(Node::Map(tree)) = tree.get("x").cloned() else {
        panic!("{tree:?}")
    };
    dict.set_node("y", &Node::Map(tree.clone())).unwrap();
    assert_eq!(other.nested("y").unwrap().view().unwrap(), tree);
}

#[test]
fn a_node_that_does_not_fit_leaves_what_was_there() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    dict.set("k", &1).unwrap();
    let mut deep = Node::Value(1);
    for _ in 0..200 {
        deep = Node::Map(Tree::from_iter([
            ("first".to_owned(), Node::Value(7)),
            ("x".to_owned(), deep),
        ]));
    }
    let refused = dict.transaction(|tx| {
        tx.nested("before")?.set("a", &1)?;
        let refused = tx.set_node("k", &deep);
        assert!(matches!(refused, Err(StreamError::TooDeep { .. })));
        let refused = tx.nested("before")?.set_node("new", &deep);
        tx.set("after", &2)?;
        Ok::<_, StreamError>(refused)
    });
    assert!(refused.unwrap().is_err());
    let expected = r#"{"k": 1, "before": {"a": 1}, "after": 2}"#;
    assert_eq!(shown(&dict), expected);
    assert_eq!(shown(&place.open()), expected);
    dict.dump().unwrap();
    assert_eq!(shown(&place.open()), expected);
}

/// As deep as may be, with values that do not fit on the stack so many times.
#[test]
fn large_values_far_below_are_copied() {
    #[repr(C)]
    #[derive(Clone, Copy, PartialEq, Debug, bytemuck::Pod, bytemuck::Zeroable)]
    struct Large([u64; 1024]);
    let place = Place::new();
    let dict = place.dict::<str, Large>(1 << 20);
    let mut deepest = dict.clone();
    for _ in 0..128 {
        deepest = deepest.nested("x").unwrap();
    }
    deepest.set("value", &Large([7; 1024])).unwrap();
    let (tree, other) = (dict.tree().unwrap(), dict.tree().unwrap().clone());
    assert_eq!(tree, other);
    assert_eq!(dict.view().unwrap(), other);
    dict.set_node("y", &dict.get_node("x").unwrap().unwrap())
        .unwrap();
    assert_eq!(dict.remove_node("y").unwrap().as_ref(), tree.get("x"));
}

#[test]
fn a_dictionary_begins_with_maps() {
    let place = Place::new();
    let mut tree = Tree::from_iter([("a".to_owned(), 1)]);
    tree.insert("map".to_owned(), Node::Map(tree.clone()));
    let options = place.options::<str, u64>();
    let dict = options.create_with_tree("dict", &tree).unwrap();
    assert_eq!(dict.view().unwrap(), tree);
    assert_eq!(
        (
            dict.position().unwrap().generation,
            dict.position().unwrap().records
        ),
        (1, 0)
    );
    assert_eq!(shown(&place.open()), r#"{"a": 1, "map": {"a": 1}}"#);
}

/// What is told of one map does not cost its path for each key.
#[test]
fn a_watch_of_long_paths_needs_no_more_memory_than_they_are_long() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 20);
    let map = dict.nested(&"k".repeat(1 << 16)).unwrap();
    let keys: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    map.extend(keys.iter().map(|key| (key.as_str(), &1)))
        .unwrap();
    let mut watch = dict.watch().unwrap();
    map.clear().unwrap();
    let mut paths = Vec::new();
    while let Some(event) = watch.next_within(Duration::ZERO).unwrap() {
        let WatchEvent::Changed { change, .. } = event else {
            panic!("{event:?}")
        };
        paths.push(change.path);
    }
    assert_eq!(paths.len(), 1000);
    let apart = paths
        .windows(2)
        .filter(|two| !Arc::ptr_eq(&two[0], &two[1]));
    assert_eq!(apart.count(), 0);
}

#[test]
fn a_watch_of_what_was_removed_keeps_nothing_of_what_comes_there() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 20);
    let map = dict.nested("a").unwrap().nested("b").unwrap();
    map.set("1", &1).unwrap();
    let mut watch = map.watch().unwrap();
    dict.remove("a").unwrap();
    let again = dict.nested("a").unwrap().nested("b").unwrap();
    let keys: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    again
        .extend(keys.iter().map(|key| (key.as_str(), &1)))
        .unwrap();
    let told = watch.next_within(Duration::ZERO).unwrap();
    assert!(matches!(told, Some(WatchEvent::Changed { .. })), "{told:?}");
    let gone = watch.next_within(Duration::ZERO);
    assert!(matches!(gone, Err(StreamError::Gone)), "{gone:?}");
    assert!(format!("{watch:?}").contains("len: 0"), "{watch:?}");
}

/// Who begins at a position that is gone is told everything, and that it is everything.
#[test]
fn a_copy_of_what_was_there_long_ago_is_begun_anew() {
    for late in [false, true] {
        let place = Place::new();
        let dict = place.dict::<str, u64>(256);
        dict.set("old", &1).unwrap();
        let position = dict.position().unwrap();
        let watch = || {
            place
                .open::<str, u64>()
                .watch()
                .unwrap()
                .since(position)
                .unwrap()
        };
        let early = (!late).then(watch);
        dict.dump().unwrap();
        dict.remove("old").unwrap();
        dict.set("new", &2).unwrap();
        (0..2).for_each(|_| dict.dump().unwrap());
        let mut watch = early.unwrap_or_else(watch);
        let lagged = watch.next_within(Duration::ZERO).unwrap();
        assert_eq!(lagged, Some(WatchEvent::Lagged));
        let mut copy = Tree::from_iter([("old".to_owned(), 1)]);
        let event = watch.next_within(Duration::ZERO).unwrap();
        let Some(WatchEvent::Resync {
            changes, is_whole, ..
        }) = event
        else {
            panic!("{event:?}")
        };
        assert_eq!(is_whole, late);
        if is_whole {
            copy = Tree::new();
        }
        for change in changes {
            assert!(copy.apply(change));
        }
        assert_eq!(dict.view().unwrap(), copy);
    }
}

/// A dump is read piece by piece, and a piece may begin anywhere in a map.
#[test]
fn maps_that_are_longer_than_a_piece_of_a_dump_are_read() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 20);
    let keys: Vec<_> = (0..12_000).map(|n| format!("key {n}")).collect();
    for map in ["a", "b"] {
        let map = dict.nested(map).unwrap();
        map.extend(keys.iter().map(|key| (key.as_str(), &1)))
            .unwrap();
        map.nested("deeper")
            .unwrap()
            .extend(keys.iter().map(|key| (key.as_str(), &2)))
            .unwrap();
    }
    dict.dump().unwrap();
    let other: Dict = place.open();
    assert!(dict.status().unwrap().dump_bytes > 10 << 16);
    assert_eq!(shown(&other), shown(&dict));
}

/// A change that was begun anew is made where it was to be made.
#[test]
fn several_change_one_map_at_the_same_time() {
    const EACH: u64 = 3000;
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 12);
    dict.nested("map").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let map = place.open::<str, u64>().nested("map").unwrap();
                let add = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
                (0..EACH).for_each(|_| _ = map.fetch_update("n", add).unwrap());
            });
        }
    });
    assert_eq!(shown(&dict), format!(r#"{{"map": {{"n": {}}}}}"#, 3 * EACH));
}

#[test]
fn a_nested_handle_keeps_the_dictionary_open() {
    let place = Place::new();
    let mut options = place.options::<str, u64>();
    let dict = options.unlink_on_drop(true).create("dict").unwrap();
    let nested = dict.nested("a").unwrap();
    drop(dict);
    nested.set("b", &1).unwrap();
    assert_eq!(nested.position().unwrap().records, 2);
    nested.dump().unwrap();
    let reader = place
        .options::<str, u64>()
        .read_only(true)
        .open("dict")
        .unwrap();
    let seen = reader.nested("a").unwrap();
    assert_eq!(seen.get("b").unwrap(), Some(1));
    assert!(matches!(seen.set("b", &2), Err(StreamError::ReadOnly)));
    assert!(matches!(reader.nested("none"), Err(StreamError::ReadOnly)));
    assert_eq!(nested.close().unwrap(), [("b".to_owned(), 1)]);
    assert!(place.files().is_empty());
}

#[test]
fn a_view_and_a_transaction_see_that_they_are_of_one_dictionary() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 14);
    let nested = dict.nested("a").unwrap();
    let view = dict.view().unwrap();
    assert!(matches!(nested.get("x"), Err(StreamError::Reentrant)));
    drop(view);
    let found = nested.transaction(|_| dict.get("x").map(drop));
    assert!(matches!(found, Err(StreamError::Reentrant)));
    // A watch has a copy of its own.
    let view = nested.view().unwrap();
    let watch = nested.watch().unwrap().since(view.position()).unwrap();
    assert_eq!(watch.reached(), view.position());
}
