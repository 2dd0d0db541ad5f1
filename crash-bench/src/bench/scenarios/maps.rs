//! Maps to be tried, as all scenarios of `SharedHashMap` see them: keys and values by number, and what
//! must hold whatever has happened.

use std::borrow::Borrow;
use std::path::Path;
use std::sync::Mutex;

use forkmap::{Options, SharedHashMap, Stored, WriteError};

use crate::bench::scenario::{Failure, Fate, NAME, Outcome, Seen, ensure};

/// What a map is of.
pub(super) trait Kind: 'static {
    type Key: Stored + ?Sized;
    type Value: Stored + ?Sized;
    /// The key of that number, and so below.
    fn key(n: u64) -> Key<Self>;
    fn key_number(key: &Key<Self>) -> Result<u64, Failure>;
    fn value(n: u64) -> Value<Self>;
    /// Fails if it is not the whole of a value.
    fn number(value: &Value<Self>) -> Result<u64, Failure>;
}

pub(super) type Key<T> = <<T as Kind>::Key as Stored>::Owned;
pub(super) type Value<T> = <<T as Kind>::Value as Stored>::Owned;

/// Numbers to numbers.
pub(super) struct Numbers;

impl Kind for Numbers {
    type Key = u64;
    type Value = u64;

    fn key(n: u64) -> u64 {
        n
    }

    fn key_number(key: &u64) -> Result<u64, Failure> {
        Ok(*key)
    }

    fn value(n: u64) -> u64 {
        n
    }

    fn number(value: &u64) -> Result<u64, Failure> {
        Ok(*value)
    }
}

/// Long texts to long texts, of several words.
pub(super) struct Texts;

impl Kind for Texts {
    type Key = str;
    type Value = str;

    fn key(n: u64) -> String {
        format!("key number {n:012}")
    }

    fn key_number(key: &String) -> Result<u64, Failure> {
        let number = key.strip_prefix("key number ").ok_or("another key")?;
        Ok(number.parse()?)
    }

    /// The number again and again, so that no two have a word in common.
    fn value(n: u64) -> String {
        let mut text = format!("{n:X}.").repeat(20);
        text.truncate(20 + n as usize % 37);
        text
    }

    fn number(text: &String) -> Result<u64, Failure> {
        let (digits, _) = text.split_once('.').ok_or("no value")?;
        let n = u64::from_str_radix(digits, 16)?;
        ensure!(*text == Self::value(n), "the value is torn: {text}");
        Ok(n)
    }
}

/// Where a map of a scenario is, and how large it is.
#[derive(Debug, Clone)]
pub(super) struct Site {
    dir: std::path::PathBuf,
    pub(super) capacity: u64,
    pub(super) writers: u64,
}

impl Site {
    pub(super) fn new(dir: &Path, capacity: u64, writers: u64) -> Self {
        let dir = dir.to_path_buf();
        Self {
            dir,
            capacity,
            writers,
        }
    }

    /// With a fixed seed: the same lines each time.
    fn options<T: Kind>(&self) -> Options<SharedHashMap<T::Key, T::Value>> {
        let mut options = SharedHashMap::options();
        options.dir(&self.dir).hash_seed(0x5EED);
        options.capacity(self.capacity).participants(self.writers);
        if <T::Value as Stored>::LENGTH.is_none() {
            options.key_bytes(24).value_bytes(60);
        }
        options
    }

    pub(super) fn create<T: Kind>(&self) -> Result<Map<T>, Failure> {
        Ok(Map(self.options::<T>().create(NAME)?))
    }

    pub(super) fn open<T: Kind>(&self) -> Result<Map<T>, Failure> {
        Ok(Map(self.options::<T>().open(NAME)?))
    }

    /// The file of the map.
    pub(super) fn file(&self) -> std::path::PathBuf {
        self.dir.join(NAME)
    }

    /// Keys of one home line in a map like this; and behind them [`STRANGERS`] of other lines.
    pub(super) fn neighbours<T: Kind>(&self) -> Result<Vec<u64>, Failure> {
        // Searched for once, before any point is played: what is found then is there in all forks.
        type Known = ((&'static str, u64, u64), Vec<u64>);
        static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
        let mut known = KNOWN.lock().map_err(|error| error.to_string())?;
        let of = (std::any::type_name::<T>(), self.capacity, self.writers);
        if let Some((_, keys)) = known.iter().find(|known| known.0 == of) {
            return Ok(keys.clone());
        }
        let keys = self.search::<T>()?;
        known.push((of, keys.clone()));
        Ok(keys)
    }

    /// Two keys stand in the order in which they were inserted, whichever that is, only if they have one
    /// home.
    fn search<T: Kind>(&self) -> Result<Vec<u64>, Failure> {
        let map = Map::<T>(self.options::<T>().anonymous()?);
        let in_order = |first: u64, second: u64| -> Result<bool, Failure> {
            map.insert(first, 1)?;
            map.insert(second, 1)?;
            let mut order = Vec::new();
            for key in map.0.keys() {
                order.push(T::key_number(&key?)?);
            }
            map.0.clear()?;
            Ok(order == [first, second])
        };
        let (mut keys, mut strangers) = (vec![1], Vec::new());
        for key in 2..5000 {
            if in_order(1, key)? && in_order(key, 1)? {
                keys.push(key);
            } else if strangers.len() < STRANGERS {
                strangers.push(key);
            }
            if keys.len() >= 40 && strangers.len() == STRANGERS {
                keys.extend(strangers);
                return Ok(keys);
            }
        }
        Err("no keys of one home".into())
    }
}

/// A map, whose keys and values are numbers to its user.
pub(super) struct Map<T: Kind>(pub(super) SharedHashMap<T::Key, T::Value>);

impl<T: Kind> Map<T> {
    pub(super) fn get(&self, key: u64) -> Result<Option<u64>, Failure> {
        let value = self.0.get(T::key(key).borrow())?;
        value.map(|value| T::number(&value)).transpose()
    }

    pub(super) fn insert(&self, key: u64, value: u64) -> Result<Option<u64>, Failure> {
        let old = self
            .0
            .insert(T::key(key).borrow(), T::value(value).borrow())?;
        old.map(|old| T::number(&old)).transpose()
    }

    /// As `insert`, unless the map is full.
    pub(super) fn insert_if_room(&self, key: u64, value: u64) -> Result<bool, Failure> {
        let done = self.0.set(T::key(key).borrow(), T::value(value).borrow());
        match done {
            Ok(()) => Ok(true),
            Err(WriteError::Full { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn try_insert(&self, key: u64, value: u64) -> Result<bool, Failure> {
        Ok(self
            .0
            .try_insert(T::key(key).borrow(), T::value(value).borrow())?)
    }

    pub(super) fn remove(&self, key: u64) -> Result<Option<u64>, Failure> {
        let old = self.0.remove(T::key(key).borrow())?;
        old.map(|old| T::number(&old)).transpose()
    }

    /// Adds to a value, and returns the previous one.
    pub(super) fn add(&self, key: u64, n: u64) -> Result<Option<u64>, Failure> {
        let mut previous = Ok(None);
        self.0.update(T::key(key).borrow(), |old| {
            previous = old.map(|old| T::number(&old)).transpose();
            T::value(previous.as_ref().map_or(0, |old| old.unwrap_or(0)) + n)
        })?;
        previous
    }

    /// What a rival does about a key, with that value, or about another one; as a number, what it gave back.
    pub(super) fn compete(
        &self,
        name: &str,
        (key, value): (u64, u64),
        other: u64,
    ) -> Result<Option<u64>, Failure> {
        let or_nothing = |found: Option<u64>| Some(found.map_or(0, |value| value + 1));
        let insert = |key: u64| match self
            .0
            .insert(T::key(key).borrow(), T::value(value).borrow())
        {
            Err(WriteError::Full { .. }) => Ok(Some(u64::MAX)),
            done => {
                let old = done?.map(|old| T::number(&old)).transpose()?;
                Ok::<_, Failure>(or_nothing(old))
            }
        };
        Ok(match name {
            "insert" => insert(key)?,
            "try_insert" => Some(u64::from(self.try_insert(key, value)?)),
            "remove" => or_nothing(self.remove(key)?),
            "add" => or_nothing(self.add(key, value)?),
            "get" => or_nothing(self.get(key)?),
            "insert another" => insert(other)?,
            "remove another" => or_nothing(self.remove(other)?),
            "iter" => {
                let found = self.pairs()?.into_iter().find(|pair| pair.0 == key);
                or_nothing(found.map(|pair| pair.1))
            }
            "clear" => self.0.clear().map(|()| None)?,
            // Nobody is dead whom others would not recover, too.
            "recover" => self.0.recover().map(|_| None)?,
            other => return Err(format!("no rival does `{other}`").into()),
        })
    }

    /// What there is after two operations, which must be in order, with what they gave back.
    pub(super) fn outcome(
        &self,
        site: &Site,
        answers: [Option<u64>; 2],
    ) -> Result<Outcome, Failure> {
        let pairs = self.pairs()?;
        self.has_exactly(&pairs, [])?;
        self.is_whole(site)?;
        Ok(Outcome::Told(format!("{answers:?} {pairs:?}")))
    }

    /// All that is there, in order.
    pub(super) fn pairs(&self) -> Result<Vec<(u64, u64)>, Failure> {
        let mut pairs = Vec::new();
        for pair in &self.0 {
            let (key, value) = pair?;
            pairs.push((T::key_number(&key)?, T::number(&value)?));
        }
        pairs.sort_unstable();
        Ok(pairs)
    }

    /// Makes the caller a writer, and changes nothing that can be seen: a key gets the value that it has. (Only
    /// where there is none, one comes and goes.) The last key, which is nobody's who is killed: to replace what
    /// a recovery has broken could mend it.
    pub(super) fn register(&self) -> Result<(), Failure> {
        if let Some(&(key, value)) = self.pairs()?.last() {
            let (key, value) = (T::key(key), T::value(value));
            let value = value.borrow();
            let _ = self.0.compare_exchange(key.borrow(), value, value)?;
            return Ok(());
        }
        let fits = self.insert_if_room(NOBODYS, 0)?;
        ensure!(
            self.remove(NOBODYS)?.is_some() == fits,
            "a key that nobody has"
        );
        Ok(())
    }

    /// The key must be as it was before the operation, or as it is after it; which of them is told, and
    /// what is there. All other keys must be those given.
    pub(super) fn look(
        &self,
        key: u64,
        [not_yet, done]: [Option<u64>; 2],
        others: &[(u64, u64)],
    ) -> Result<(Option<u64>, Seen), Failure> {
        let found = self.get(key)?;
        ensure!(
            found == not_yet || found == done,
            "the value is {found:?}, not {not_yet:?} or {done:?}"
        );
        self.has_exactly(others, found.map(|value| (key, value)))?;
        let again = self.0.contains_key(T::key(key).borrow())?;
        ensure!(again == found.is_some(), "{found:?}, then there: {again}");
        let seen = match not_yet == done {
            true => Seen::NOTHING,
            false => Seen::done(found == done),
        };
        Ok((found, seen))
    }

    /// What is there must be this and nothing else, by each key and as a whole.
    pub(super) fn has_exactly(
        &self,
        pairs: &[(u64, u64)],
        more: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<(), Failure> {
        let mut expected = pairs.to_vec();
        expected.extend(more);
        expected.sort_unstable();
        let found = self.pairs()?;
        ensure!(found == expected, "{found:?}, not {expected:?}");
        let len = self.0.len();
        ensure!(len == expected.len(), "{len} keys, not {}", expected.len());
        for (key, value) in expected {
            let found = self.get(key)?;
            ensure!(found == Some(value), "key {key}: {found:?}, not {value}");
        }
        Ok(())
    }

    /// Works on a key that only the caller has, and leaves it with the value 9.
    pub(super) fn work_on(&self, key: u64) -> Result<(), Failure> {
        let found = (
            self.insert(key, 1)?,
            self.insert(key, 2)?,
            self.add(key, 5)?,
            self.remove(key)?,
            self.get(key)?,
            self.try_insert(key, 9)?,
            self.try_insert(key, 10)?,
        );
        let expected = (None, Some(1), Some(2), Some(7), None, true, false);
        ensure!(found == expected, "an own key: {found:?}, not {expected:?}");
        Ok(())
    }

    /// Nothing may be half done.
    pub(super) fn is_in_order(&self) -> Result<(), Failure> {
        let flaws = self.0.check();
        ensure!(flaws.is_empty(), "not in order: {flaws:?}");
        Ok(())
    }

    /// The last look, by somebody who is alone: once the dead are recovered, everything is in order, all
    /// room can be had, by keys and by writers, and given back.
    pub(super) fn is_whole(&self, site: &Site) -> Result<(), Failure> {
        self.0.recover()?;
        self.is_in_order()?;
        let stats = self.0.stats()?;
        ensure!(
            stats.dead_writers == 0 && stats.len + stats.free == stats.capacity,
            "after recovery: {stats:?}"
        );
        let pairs = self.pairs()?;

        let fresh: Vec<u64> = (0..stats.free as u64).map(|n| FRESH + n).collect();
        for &key in &fresh {
            ensure!(self.insert(key, key)?.is_none(), "a fresh key was there");
        }
        ensure!(!self.insert_if_room(FRESH - 1, 1)?, "a key too many");
        ensure!(self.0.len() == self.0.capacity(), "full, and not all there");
        self.is_in_order()?;
        for &key in &fresh {
            ensure!(self.remove(key)? == Some(key), "a fresh key is lost");
        }
        self.has_exactly(&pairs, [])?;

        // Each attachment is a writer of its own.
        let writers = self.0.stats()?.writers as u64;
        let mut others = Vec::new();
        for _ in writers..site.writers {
            let other = site.open::<T>()?;
            other.register()?;
            others.push(other);
        }
        ensure!(
            self.0.stats()?.writers as u64 == site.writers,
            "not all writers are there"
        );
        for (other, key) in others.iter().zip(&fresh) {
            ensure!(other.insert(*key, 1)?.is_none(), "a fresh key was there");
            ensure!(self.remove(*key)? == Some(1), "a fresh key is lost");
        }
        drop(others);
        self.is_in_order()
    }
}

/// Keys of other homes, at the end of those of one.
pub(super) const STRANGERS: usize = 3;

/// A key that nobody inserts, and the first of many that are there only at the last look.
const NOBODYS: u64 = 900_000;
const FRESH: u64 = 1_000_001;

/// Whether the victim is dead: then others may put in order what it has left, and all of it.
pub(super) fn is_dead(fate: Fate) -> bool {
    fate == Fate::Killed
}
