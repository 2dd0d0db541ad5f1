//! Random programs over nested maps beside a plain nested map, by several attachments with tiny logs: handles that
//! are kept, transactions that are taken back, and watches that tell all of it.

use std::time::Duration;

use forkmap::{
    KeyChange, Node, StreamDict, StreamError, Transaction, Tree, ValueChange, Watch, WatchEvent,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::samples::Place;

type Dict = StreamDict<str, u64>;
type Owned = Tree<String, u64>;

const KEYS: [&str; 5] = ["", "a", "b", "ab", "c"];

/// A map of the model, which knows itself again.
#[derive(Debug, Clone, Default)]
struct Model {
    id: u64,
    entries: Vec<(String, Entry)>,
}

#[derive(Debug, Clone)]
enum Entry {
    Value(u64),
    Map(Model),
}

impl Model {
    fn get(&self, key: &str) -> Option<&Entry> {
        let found = self.entries.iter().find(|(there, _)| there == key);
        found.map(|(_, entry)| entry)
    }

    fn map(&self, key: &str) -> Option<&Model> {
        match self.get(key) {
            Some(Entry::Map(map)) => Some(map),
            _ => None,
        }
    }

    fn put(&mut self, key: &str, entry: Entry) {
        match self.entries.iter_mut().find(|(there, _)| there == key) {
            Some((_, there)) => *there = entry,
            None => self.entries.push((key.to_owned(), entry)),
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(there, _)| there != key);
        self.entries.len() < before
    }

    /// The map below that knows itself as `id`, and the keys that lead there.
    fn find(&self, id: u64) -> Option<(Vec<String>, &Model)> {
        if self.id == id {
            return Some((Vec::new(), self));
        }
        self.entries.iter().find_map(|(key, entry)| {
            let Entry::Map(map) = entry else { return None };
            let (mut path, found) = map.find(id)?;
            path.insert(0, key.clone());
            Some((path, found))
        })
    }

    fn at_mut(&mut self, path: &[String]) -> &mut Model {
        let Some((first, rest)) = path.split_first() else {
            return self;
        };
        let entry = self.entries.iter_mut().find(|(there, _)| there == first);
        match entry {
            Some((_, Entry::Map(map))) => map.at_mut(rest),
            other => panic!("{path:?}: {other:?}"),
        }
    }

    /// Any of the maps.
    fn random(&self, rng: &mut SmallRng) -> Vec<String> {
        let maps = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Map(_)));
        let maps: Vec<_> = maps.collect();
        match maps.is_empty() || rng.random_range(0..3) == 0 {
            true => Vec::new(),
            false => {
                let (key, Entry::Map(map)) = maps[rng.random_range(0..maps.len())] else {
                    unreachable!()
                };
                let mut path = map.random(rng);
                path.insert(0, key.clone());
                path
            }
        }
    }

    fn tree(&self, keys: &Keys) -> Owned {
        let entries = self.entries.iter().filter(|(key, _)| keys.has(key));
        let node = |entry: &Entry| match entry {
            Entry::Value(value) => Node::Value(*value),
            Entry::Map(map) => Node::Map(map.tree(&Keys::All)),
        };
        entries
            .map(|(key, entry)| (key.clone(), node(entry)))
            .collect()
    }
}

/// Which keys a watch is about.
enum Keys {
    All,
    One(&'static str),
    Prefix(&'static str),
}

impl Keys {
    fn has(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => *one == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

/// A watch, and what it has told.
struct Watched {
    watch: Watch<str, u64>,
    map: u64,
    keys: Keys,
    told: Owned,
    has_lagged: bool,
}

impl Watched {
    fn new(dict: &Dict, model: &Model, keys: Keys) -> Self {
        let position = dict.position().unwrap();
        let watch = match keys {
            Keys::All => dict.watch(),
            Keys::One(key) => dict.watch_key(key),
            Keys::Prefix(prefix) => dict.watch_prefix(prefix),
        };
        Self {
            watch: watch.unwrap().since(position).unwrap(),
            map: model.id,
            told: model.tree(&keys),
            keys,
            has_lagged: false,
        }
    }

    /// Hears what there is, and compares; whether it goes on.
    fn listen(&mut self, model: &Model, lags: &mut usize) -> bool {
        loop {
            match self.watch.next_within(Duration::ZERO) {
                Ok(Some(WatchEvent::Changed { change, .. })) => self.apply(change),
                Ok(Some(WatchEvent::Lagged)) => {
                    (self.has_lagged, *lags) = (true, *lags + 1);
                }
                Ok(Some(WatchEvent::Resync {
                    changes, is_whole, ..
                })) => {
                    if is_whole {
                        self.told = Tree::new();
                    }
                    changes.into_iter().for_each(|change| self.apply(change));
                }
                Ok(None) => break,
                Err(StreamError::Gone) => {
                    assert!(self.told.is_empty(), "{:?}", self.told);
                    assert!(model.find(self.map).is_none());
                    return false;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let (_, now) = model.find(self.map).expect("or it is gone");
        let now = now.tree(&self.keys);
        assert_eq!(self.told, now);
        if !self.has_lagged {
            assert_eq!(format!("{:?}", self.told), format!("{now:?}"), "the order");
        }
        true
    }

    fn apply(&mut self, change: KeyChange<String, u64>) {
        let KeyChange { path, key, value } = change;
        assert!(self.keys.has(path.first().unwrap_or(&key)));
        change_in(&mut self.told, &path, key, value);
    }
}

fn change_in(tree: &mut Owned, path: &[String], key: String, change: ValueChange<u64>) {
    if let Some((first, rest)) = path.split_first() {
        let Some(Node::Map(below)) = tree.get_mut(first) else {
            panic!("{first} holds no map")
        };
        change_in(below, rest, key, change);
        return;
    }
    let old = match change {
        ValueChange::Inserted(value) => {
            assert!(tree.insert(key, Node::Value(value)).is_none());
            return;
        }
        ValueChange::Updated(value) => {
            let old = tree.insert(key, Node::Value(value));
            Some(old.expect("it was there"))
        }
        ValueChange::Nested => tree.insert(key, Node::Map(Tree::new())),
        ValueChange::Removed => Some(tree.remove(&key).expect("it was there")),
    };
    if let Some(Node::Map(map)) = old {
        assert!(map.is_empty(), "what is in it goes first");
    }
}

struct World {
    dicts: Vec<Dict>,
    model: Model,
    next_id: u64,
    /// Handles that were got at some time.
    kept: Vec<(Dict, u64)>,
    watches: Vec<Watched>,
    lags: usize,
    gone: usize,
}

fn key(rng: &mut SmallRng) -> &'static str {
    KEYS[rng.random_range(0..KEYS.len())]
}

fn handle(dict: &Dict, path: &[String]) -> Dict {
    let down = |dict: Dict, key: &String| dict.get_nested(key).unwrap().unwrap();
    path.iter().fold(dict.clone(), down)
}

type Step<'f> = dyn FnMut(&mut Transaction<'_, str, u64>) -> Result<(), StreamError> + 'f;

/// Goes down in a transaction, and does there what is to be done.
fn within(
    tx: &mut Transaction<'_, str, u64>,
    path: &[String],
    f: &mut Step<'_>,
) -> Result<(), StreamError> {
    match path.split_first() {
        None => f(tx),
        Some((first, rest)) => within(&mut tx.get_nested(first)?.unwrap(), rest, f),
    }
}

impl World {
    fn new(place: &Place, log_bytes: u64) -> Self {
        let dicts = vec![place.dict(log_bytes), place.open(), place.open()];
        Self {
            dicts,
            model: Model::default(),
            next_id: 1,
            kept: Vec::new(),
            watches: Vec::new(),
            lags: 0,
            gone: 0,
        }
    }

    fn fresh(&mut self) -> Entry {
        let id = self.next_id;
        self.next_id += 1;
        let entries = Vec::new();
        Entry::Map(Model { id, entries })
    }

    fn entry(&mut self, node: &Node<String, u64>) -> Entry {
        match node {
            Node::Value(value) => Entry::Value(*value),
            Node::Map(tree) => {
                let Entry::Map(mut map) = self.fresh() else {
                    unreachable!()
                };
                for (key, node) in tree.iter() {
                    let entry = self.entry(node);
                    map.put(key, entry);
                }
                Entry::Map(map)
            }
        }
    }

    fn step(&mut self, rng: &mut SmallRng) {
        let dict = self.dicts[rng.random_range(0..self.dicts.len())].clone();
        let path = self.model.random(rng);
        let (key, value) = (key(rng), rng.random_range(0..9));
        let map = handle(&dict, &path);
        let there = self.model.at_mut(&path).clone();
        match rng.random_range(0..20) {
            0..4 => {
                map.set(key, &value).unwrap();
                self.model.at_mut(&path).put(key, Entry::Value(value));
            }
            4 => {
                let previous = map.insert(key, &value).unwrap();
                let Some(Entry::Value(old)) = there.get(key) else {
                    assert_eq!(previous, None);
                    return self.model.at_mut(&path).put(key, Entry::Value(value));
                };
                assert_eq!(previous, Some(*old));
                self.model.at_mut(&path).put(key, Entry::Value(value));
            }
            5..8 => match map.nested(key) {
                Ok(nested) => {
                    if there.map(key).is_none() {
                        let fresh = self.fresh();
                        self.model.at_mut(&path).put(key, fresh);
                    }
                    let id = self.model.at_mut(&path).map(key).unwrap().id;
                    self.kept.push((nested, id));
                }
                Err(error) => {
                    assert!(matches!(error, StreamError::IsValue));
                    assert!(matches!(there.get(key), Some(Entry::Value(_))));
                }
            },
            8 | 9 => {
                map.remove(key).unwrap();
                self.model.at_mut(&path).remove(key);
            }
            10 if rng.random_range(0..4) == 0 => {
                map.clear().unwrap();
                self.model.at_mut(&path).entries.clear();
            }
            11 => self.dicts[0].dump().unwrap(),
            12 => self.move_node(rng, &dict),
            13..17 => self.transact(rng, &dict),
            17 if self.watches.len() < 6 => {
                let keys = match rng.random_range(0..4) {
                    0 => Keys::One(key),
                    1 => Keys::Prefix(key),
                    _ => Keys::All,
                };
                self.watches.push(Watched::new(&map, &there, keys));
            }
            _ => {
                assert_eq!(map.tree().unwrap(), there.tree(&Keys::All));
                let node = map.get_node(key).unwrap();
                assert_eq!(node.as_ref(), there.tree(&Keys::All).get(key));
                assert_eq!(map.len().unwrap(), there.entries.len());
            }
        }
    }

    /// From one map into another.
    fn move_node(&mut self, rng: &mut SmallRng, dict: &Dict) {
        let (from, to) = (self.model.random(rng), self.model.random(rng));
        let (old, new) = (key(rng), key(rng));
        let mut lost = from.clone();
        lost.push(old.to_owned());
        if to.starts_with(&lost) {
            return;
        }
        let mut moved = None;
        let done = dict.transaction(|tx| {
            within(tx, &from, &mut |tx| {
                moved = tx.remove_node(old)?;
                Ok(())
            })?;
            within(tx, &to, &mut |tx| match &moved {
                Some(node) => tx.set_node(new, node),
                None => Ok(()),
            })
        });
        done.unwrap();
        self.model.at_mut(&from).remove(old);
        if let Some(node) = moved {
            let entry = self.entry(&node);
            self.model.at_mut(&to).put(new, entry);
        }
    }

    /// Several changes anywhere, which may come to nothing.
    fn transact(&mut self, rng: &mut SmallRng, dict: &Dict) {
        let before = (self.model.clone(), self.next_id);
        let (fails, steps) = (rng.random_range(0..3) == 0, rng.random_range(1..8));
        let seed = rng.random();
        let world = &mut *self;
        let done = dict.transaction(|tx| {
            // (It may be called again.)
            (world.model, world.next_id) = before.clone();
            let mut rng = SmallRng::seed_from_u64(seed);
            for _ in 0..steps {
                let path = world.model.random(&mut rng);
                let (key, value) = (key(&mut rng), rng.random_range(0..9));
                let what = rng.random_range(0..12);
                within(tx, &path, &mut |tx| {
                    match what {
                        0..4 => {
                            tx.set(key, &value)?;
                            world.model.at_mut(&path).put(key, Entry::Value(value));
                        }
                        4..7 => {
                            let found = tx.nested(key).map(drop);
                            let there = world.model.at_mut(&path);
                            match there.get(key) {
                                Some(Entry::Value(_)) => {
                                    assert!(matches!(found, Err(StreamError::IsValue)));
                                }
                                Some(Entry::Map(_)) => found?,
                                None => {
                                    found?;
                                    let fresh = world.fresh();
                                    world.model.at_mut(&path).put(key, fresh);
                                }
                            }
                        }
                        7..9 => {
                            let removed = tx.remove(key)?;
                            assert_eq!(removed, world.model.at_mut(&path).remove(key));
                        }
                        9 => {
                            tx.clear();
                            world.model.at_mut(&path).entries.clear();
                        }
                        _ => {
                            let tree = world.model.at_mut(&path).tree(&Keys::All);
                            tx.set_node(key, &Node::Map(tree.clone()))?;
                            let entry = world.entry(&Node::Map(tree));
                            world.model.at_mut(&path).put(key, entry);
                        }
                    }
                    Ok(())
                })?;
                assert_eq!(tx.tree()?, world.model.tree(&Keys::All));
            }
            match fails {
                true => Err(StreamError::Forked),
                false => Ok(()),
            }
        });
        match done {
            Ok(()) => {}
            Err(StreamError::Forked) if fails => (self.model, self.next_id) = before,
            Err(StreamError::TooDeep { .. }) => (self.model, self.next_id) = before,
            Err(error) => panic!("{error}"),
        }
    }

    fn compare(&mut self, rng: &mut SmallRng) {
        let now = format!("{:?}", self.model.tree(&Keys::All));
        for dict in &self.dicts {
            assert_eq!(format!("{:?}", dict.view().unwrap()), now);
        }
        for (handle, id) in &self.kept {
            match (handle.tree(), self.model.find(*id)) {
                (Ok(tree), Some((_, map))) => assert_eq!(tree, map.tree(&Keys::All)),
                (Err(StreamError::Gone), None) => {}
                (found, _) => panic!("{found:?}"),
            }
        }
        if self.kept.len() > 12 {
            self.kept.remove(rng.random_range(0..12));
        }
        let (model, lags, gone) = (&self.model, &mut self.lags, &mut self.gone);
        self.watches.retain_mut(|watch| {
            // At times it is not looked at for long.
            if rng.random_range(0..8) > 0 {
                return true;
            }
            let goes_on = watch.listen(model, lags);
            *gone += usize::from(!goes_on);
            goes_on && rng.random_range(0..60) > 0
        });
    }
}

#[test]
fn random_programs_do_as_with_a_plain_nested_map() {
    let base = rand::rng().random();
    let (mut lags, mut gone, mut generations) = (0, 0, 0);
    for round in 0..24 {
        let seed = u64::wrapping_add(base, round);
        println!("seed {seed}");
        let mut rng = SmallRng::seed_from_u64(seed);
        let place = Place::new();
        let mut world = World::new(&place, [0, 300, 1000, 5000][round as usize % 4]);
        for _ in 0..300 {
            world.step(&mut rng);
            world.compare(&mut rng);
            assert_eq!(place.files().len(), 2);
        }
        lags += world.lags;
        gone += world.gone;
        generations += world.dicts[0].position().unwrap().generation;
    }
    println!("{generations} generations, {lags} too late, {gone} watched maps gone");
    assert!(generations > 500 && lags > 20 && gone > 20);
}
