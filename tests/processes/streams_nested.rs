//! Nested dictionaries that many processes change, and watch, while they are killed.

use std::time::Duration;

use forkmap::{Node, StreamDict, StreamError, Tree, ViewNode, WatchEvent};
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::{agreed, breathe, end, is_over, meet, scaled};
use crate::peer::{Peer, watchdog};
use crate::streams::{StreamName, check_files};
use crate::{Role, run, test};

type Dict = StreamDict<u64, u64>;

/// The maps that others are moved between.
const PARENTS: u64 = 5;
/// Those that are moved, from this key on: each has a value, and a map with another one.
const CHILDREN: u64 = 100;
const HOW_MANY: u64 = 16;
const FIRST: u64 = 0;
const INNER: u64 = 1;
/// What all values of one have together.
const SUM: u64 = 1000;
/// How many moves were made.
const DONE: u64 = 10;

pub(crate) const ROLES: &[Role] = &[
    ("stream-nested-seen", |args| seen(&args[0])),
    ("stream-nested-moved", |args| moved(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_what_is_changed_below_is_seen_by_the_creator",
            || {
                run("stream-nested-seen", &[&StreamName::new("nested-seen")]);
            },
        ),
        test("stream_maps_are_moved_by_whoever_is_killed", || {
            let name = StreamName::new("nested-moved");
            print!("{}", run("stream-nested-moved", &[&name]));
        }),
    ]
}

fn seen(name: &str) {
    watchdog();
    let dict = StreamDict::<str, u64>::create(name).unwrap();
    let deeper = dict.nested("nested").unwrap().nested("deeper").unwrap();
    deeper.set("0", &1).unwrap();
    let other = Peer::fork(|| {
        let other = StreamDict::<str, u64>::open(name).unwrap();
        let deeper = other.nested("nested").unwrap().nested("deeper").unwrap();
        let add = |old: Option<&u64>| old.map(|old| old + 1);
        deeper.fetch_update("0", add).unwrap();
    });
    other.join();
    assert_eq!(deeper.get("0").unwrap(), Some(2));
    let shown = format!("{:?}", dict.view().unwrap());
    assert_eq!(shown, r#"{"nested": {"deeper": {"0": 2}}}"#);
    check_files(name, dict);
}

fn child(first: u64) -> Tree<u64, u64> {
    let mut child = Tree::from_iter([(FIRST, first)]);
    let inner = Tree::from_iter([(FIRST, SUM - first)]);
    child.insert(INNER, Node::Map(inner));
    child
}

/// What is in a child, which must be whole.
fn first_of(child: &Node<u64, u64>) -> u64 {
    let first = child.map().and_then(|child| child.get(&FIRST)?.value());
    let first = *first.unwrap_or_else(|| panic!("{child:?}"));
    assert_eq!(*child, Node::Map(self::child(first)));
    first
}

/// Moves a child to another place, or to the end of where it is, with some of its sum from here to there.
fn move_one(dict: &Dict, rng: &mut SmallRng) {
    let (which, to) = (
        CHILDREN + rng.random_range(0..HOW_MANY),
        rng.random_range(0..PARENTS),
    );
    let amount = rng.random_range(0..SUM);
    let moved = dict.transaction(|tx| {
        let mut found = Vec::new();
        for parent in 0..PARENTS {
            found.extend(tx.nested(&parent)?.remove_node(&which)?);
        }
        assert_eq!(found.len(), 1, "{which}: {found:?}");
        let next = (first_of(&found[0]) + amount) % (SUM + 1);
        tx.nested(&to)?.set_node(&which, &Node::Map(child(next)))?;
        Ok::<_, StreamError>(())
    });
    moved.unwrap();
}

/// Each is in one place, and whole.
fn check(dict: &Dict) {
    let view = dict.view().unwrap();
    let mut found = Vec::new();
    for parent in view.nodes() {
        let ViewNode::Map(parent) = parent.unwrap().1 else {
            panic!("there are only maps")
        };
        let children = parent.tree().unwrap();
        for (which, child) in children {
            first_of(&child);
            found.push(which);
        }
    }
    found.sort_unstable();
    assert!(found.into_iter().eq(CHILDREN..CHILDREN + HOW_MANY));
}

/// Keeps a copy of one of the parents by what it is told.
fn watch(name: &str, over: &forkmap::AtomicDict, parent: u64) {
    let dict = Dict::open(name).unwrap().nested(&parent).unwrap();
    let (mut copy, mut watch) = {
        let view = dict.view().unwrap();
        let watch = dict.watch().unwrap().since(view.position());
        (view.tree().unwrap(), watch.unwrap())
    };
    meet(over, 3);
    loop {
        let was_over = is_over(over);
        let changes = match watch.next_within(Duration::from_millis(20)).unwrap() {
            None if was_over => break,
            None | Some(WatchEvent::Lagged) => continue,
            Some(WatchEvent::Changed { change, .. }) => vec![change],
            Some(WatchEvent::Resync {
                changes, is_whole, ..
            }) => {
                if is_whole {
                    copy = Tree::new();
                }
                changes
            }
        };
        for change in changes {
            assert!(copy.apply(change.clone()), "{change:?}");
        }
    }
    assert_eq!(dict.view().unwrap(), copy);
}

fn moved(name: &str) {
    const WORKERS: u64 = 4;
    watchdog();
    let agreed = agreed();
    let dict = Dict::options().log_bytes(16 << 10).create(name).unwrap();
    for n in 0..HOW_MANY {
        let parent = dict.nested(&(n % PARENTS)).unwrap();
        let child = Node::Map(child(n));
        parent.set_node(&(CHILDREN + n), &child).unwrap();
    }
    let (dict_ref, agreed_ref) = (&dict, &agreed);
    let watchers = [0, 1].map(|parent| Peer::fork(move || watch(name, agreed_ref, parent)));
    meet(&agreed, 3);
    let worker = |seed: u64| {
        Peer::fork(move || {
            let mut rng = SmallRng::seed_from_u64(seed);
            let opened = (seed % 2 == 0).then(|| Dict::open(name).unwrap());
            while !is_over(agreed_ref) {
                move_one(opened.as_ref().unwrap_or(dict_ref), &mut rng);
                breathe(agreed_ref.fetch_add(DONE, 1).unwrap());
            }
        })
    };
    let mut workers: Vec<_> = (0..WORKERS).map(worker).collect();
    let mut kills = WORKERS;
    let mut rng = SmallRng::seed_from_u64(7);
    while agreed.load(DONE) < scaled(100_000) {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..8000)));
        workers.remove(0).kill();
        check(&dict);
        workers.push(worker(kills));
        kills += 1;
        if kills % 16 == 0 {
            check(&Dict::open(name).unwrap());
        }
    }
    end(&agreed);
    workers.into_iter().for_each(Peer::join);
    watchers.into_iter().for_each(Peer::join);
    check(&dict);
    let dumps = dict.status().unwrap().dumps;
    println!(
        "{} moves, {} kills, {dumps} generations",
        agreed.load(DONE),
        kills - WORKERS
    );
    assert!(kills > 20 && dumps > 20);
    check_files(name, dict);
}
