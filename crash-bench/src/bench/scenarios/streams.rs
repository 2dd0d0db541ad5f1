//! Stream dictionaries to be tried, as all scenarios of `StreamDict` see them, and what must hold whatever
//! has happened.

use std::fs;
use std::path::{Path, PathBuf};

use forkmap::{OpenError, Options, StreamDict, StreamError, View};

use crate::bench::scenario::{Failure, NAME, Seen, ensure};

pub(super) type Dict = StreamDict<u64, u64>;
pub(super) type Made = Result<Box<dyn crate::bench::scenario::Scenario>, Failure>;

/// Bytes of a log in which there is room for all that happens at a point, and of one that is full again
/// and again.
pub(super) const LONG: u64 = 4000;
pub(super) const SHORT: u64 = 240;

/// Bytes that a change of one key takes there.
const CHANGE: u64 = 40;

/// The keys that everybody moves amounts between, and how much each has at first.
pub(super) const ACCOUNTS: [u64; 4] = [1, 2, 3, 4];
pub(super) const START: u64 = 1000;

/// Where a dictionary of a scenario is.
#[derive(Debug, Clone)]
pub(super) struct Site {
    dir: PathBuf,
    log_bytes: u64,
}

impl Site {
    pub(super) fn new(dir: &Path, log_bytes: u64) -> Self {
        let dir = dir.to_path_buf();
        Self { dir, log_bytes }
    }

    /// The same place with another length of logs.
    pub(super) fn with_log(&self, log_bytes: u64) -> Self {
        Self::new(&self.dir, log_bytes)
    }

    pub(super) fn options(&self) -> Options<Dict> {
        let mut options = Dict::options();
        options.dir(&self.dir).hash_seed(0x5EED);
        options.participants(16).log_bytes(self.log_bytes);
        options
    }

    pub(super) fn create(&self, model: &Model) -> Result<Dict, Failure> {
        let entries = model.0.iter().copied();
        Ok(self.options().create_with(NAME, entries)?)
    }

    pub(super) fn open(&self) -> Result<Dict, Failure> {
        Ok(self.options().open(NAME)?)
    }

    /// Opens it, if the name is there.
    pub(super) fn find(&self) -> Result<Option<Dict>, Failure> {
        match self.options().open(NAME) {
            Ok(dict) => Ok(Some(dict)),
            Err(OpenError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn gc(&self) -> Result<usize, Failure> {
        Ok(Dict::gc(&self.dir, NAME)?)
    }

    /// All files of dictionaries, in order.
    pub(super) fn files(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What stands in one of them.
    pub(super) fn words(&self, name: &str) -> Result<Vec<u64>, Failure> {
        let bytes = fs::read(self.dir.join(name))?;
        let words = bytes.chunks_exact(8);
        Ok(words
            .filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
            .collect())
    }

    /// There must be the control and one generation, and so many others at most that somebody living has
    /// in hand.
    pub(super) fn is_tidy(&self, others: usize) -> Result<(), Failure> {
        let files = self.files()?;
        let named = files.first().is_some_and(|name| name == NAME);
        ensure!(
            named && (2..=2 + others).contains(&files.len()),
            "of a dictionary there is {files:?}"
        );
        Ok(())
    }

    /// There must be nothing.
    pub(super) fn is_empty(&self) -> Result<(), Failure> {
        let files = self.files()?;
        ensure!(files.is_empty(), "left over: {files:?}");
        Ok(())
    }

    /// The last look, by somebody who is alone: all that have the dictionary open have these entries, one
    /// change reaches all, a new generation leaves nothing of those before, and unlinking leaves nothing.
    pub(super) fn is_whole(&self, dicts: &[&Dict], model: &Model) -> Result<(), Failure> {
        let [first, others @ ..] = dicts else {
            return Err("nobody has it open".into());
        };
        model.is_in(first)?;
        first.dump()?;
        self.is_tidy(0)?;
        let new = self.open()?;
        let mut model = model.clone();
        for &dict in others.iter().chain([&&new]) {
            model.is_in(dict)?;
        }
        work(&new, &mut model, LAST)?;
        new.dump()?;
        for &dict in dicts {
            model.is_in(dict)?;
        }
        self.is_tidy(0)?;
        self.options().unlink(NAME)?;
        self.is_empty()?;
        let removed = self.gc()?;
        ensure!(removed == 0, "{removed} files, and none was left");
        model.is_in(first)
    }
}

/// A key that there is only at the last look.
const LAST: u64 = 99;

/// What must be in a dictionary, in the order of insertion. What a map holds comes behind it: each byte of a key
/// is the key in one more map, from the highest one on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model(pub(super) Vec<(u64, u64)>);

/// What stands for a map, as a value.
pub(super) const MAP: u64 = u64::MAX;

/// A key in the map that `outer` holds.
pub(super) const fn below(outer: u64, key: u64) -> u64 {
    outer << 8 | key
}

/// Whether it is `outer`, or in the map that that holds.
fn is_within(key: u64, outer: u64) -> bool {
    key == outer || key > 0xFF && is_within(key >> 8, outer)
}

impl Model {
    pub(super) fn accounts() -> Self {
        Self(ACCOUNTS.map(|key| (key, START)).to_vec())
    }

    pub(super) fn get(&self, key: u64) -> Option<u64> {
        let found = self.0.iter().find(|entry| entry.0 == key);
        found.map(|entry| entry.1)
    }

    /// Sets a value: what was there before.
    pub(super) fn set(&mut self, key: u64, value: u64) -> Option<u64> {
        match self.0.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => Some(std::mem::replace(&mut entry.1, value)),
            None => {
                let map = key >> 8;
                let last = self.0.iter().rposition(|entry| is_within(entry.0, map));
                let at = last
                    .filter(|_| map > 0)
                    .map_or(self.0.len(), |last| last + 1);
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes a key, with everything below it.
    pub(super) fn remove(&mut self, key: u64) -> Option<u64> {
        let found = self.get(key);
        self.0.retain(|entry| !is_within(entry.0, key));
        found
    }

    /// As [`transfer`].
    pub(super) fn transfer(&mut self, amount: u64) {
        let balances = ACCOUNTS.map(|key| self.get(key));
        for (key, balance) in ACCOUNTS.into_iter().zip(moved(balances, amount)) {
            if let Some(balance) = balance {
                self.set(key, balance);
            }
        }
    }

    /// As [`work`].
    pub(super) fn work(&mut self, own: u64) {
        self.remove(own);
        self.set(own, 9);
        self.transfer(own);
    }

    /// A dictionary must have this and nothing else, in this order.
    pub(super) fn is_in(&self, dict: &Dict) -> Result<(), Failure> {
        let found = entries(dict)?;
        ensure!(found == *self, "{found:?}, not {self:?}");
        let len = self.0.iter().filter(|entry| entry.0 <= 0xFF).count();
        ensure!(dict.len()? == len, "another length");
        for &(key, value) in &self.0 {
            let found = match dict.get(&key) {
                _ if key > 0xFF => continue,
                Err(StreamError::IsMap) => Some(MAP),
                found => found?,
            };
            ensure!(found == Some(value), "key {key}: {found:?}, not {value}");
        }
        Ok(())
    }

    /// A dictionary must have the entries before an operation or those after it: which of them.
    pub(super) fn look(dict: &Dict, before: &Self, after: &Self) -> Result<Seen, Failure> {
        let found = entries(dict)?;
        ensure!(
            found == *before || found == *after,
            "{found:?}, not {before:?} or {after:?}"
        );
        found.is_in(dict)?;
        Ok(match before == after {
            true => Seen::NOTHING,
            false => Seen::done(found == *after),
        })
    }

    /// As a number.
    pub(super) fn word(&self) -> u64 {
        let words = self.0.iter().flat_map(|&(key, value)| [key, value]);
        let mix =
            |word: u64, next: u64| (word.rotate_left(5) ^ next).wrapping_mul(0x0100_0000_01B3);
        words.fold(0xCBF2, mix)
    }
}

/// What is there.
pub(super) fn entries(dict: &Dict) -> Result<Model, Failure> {
    let mut entries = Vec::new();
    push_all(&dict.view()?, 0, &mut entries)?;
    Ok(Model(entries))
}

fn push_all(
    view: &View<'_, u64, u64>,
    outer: u64,
    all: &mut Vec<(u64, u64)>,
) -> Result<(), StreamError> {
    for key in view.keys() {
        let key = key?;
        match view.get(&key) {
            Err(StreamError::IsMap) => {
                all.push((below(outer, key), MAP));
                if let Some(map) = view.get_nested(&key)? {
                    push_all(&map, below(outer, key), all)?;
                }
            }
            value => all.extend(value?.map(|value| (below(outer, key), *value))),
        }
    }
    Ok(())
}

/// A previous value, as a number.
pub(super) fn previous(value: Option<u64>) -> u64 {
    value.map_or(0, |value| value + 1)
}

/// What a transfer makes of the accounts: their sum stays.
fn moved(mut balances: [Option<u64>; 4], amount: u64) -> [Option<u64>; 4] {
    let mut there = balances.iter_mut().flatten();
    if let Some(first) = there.next() {
        let mut given = 0;
        for other in there {
            *other = other.wrapping_add(amount);
            given += amount;
        }
        *first = first.wrapping_sub(given);
    }
    balances
}

/// Moves an amount from the first account to each of the others, at once.
pub(super) fn transfer(dict: &Dict, amount: u64) -> Result<(), Failure> {
    dict.transaction(|tx| {
        let mut balances = [None; 4];
        for (key, balance) in ACCOUNTS.iter().zip(&mut balances) {
            *balance = tx.get(key)?.copied();
        }
        for (key, balance) in ACCOUNTS.iter().zip(moved(balances, amount)) {
            if let Some(balance) = balance {
                tx.set(key, &balance)?;
            }
        }
        Ok::<(), StreamError>(())
    })?;
    Ok(())
}

/// Goes on in a dictionary: works on a key that only the caller has, and leaves it with the value 9; moves
/// amounts between all accounts.
pub(super) fn work(dict: &Dict, model: &mut Model, own: u64) -> Result<(), Failure> {
    let position = dict.position()?;
    ensure!(dict.is_at(position)?, "a change that nobody made");
    let found = (
        dict.remove(&own)?,
        dict.insert(&own, &1)?,
        dict.get(&own)?,
        dict.compare_exchange(&own, Some(&1), Some(&7))?,
        dict.compare_exchange(&own, Some(&1), Some(&8))?,
        dict.remove(&own)?,
        dict.get(&own)?,
        dict.insert(&own, &9)?,
    );
    let expected = (
        model.get(own),
        None,
        Some(1),
        Ok(Some(1)),
        Err(Some(7)),
        Some(7),
        None,
        None,
    );
    ensure!(found == expected, "an own key: {found:?}, not {expected:?}");
    ensure!(!dict.is_at(position)?, "no change, and some were made");
    transfer(dict, own)?;
    model.work(own);
    model.is_in(dict)
}

/// Changes an account as long as there is room in the log.
pub(super) fn fill(dict: &Dict, model: &mut Model) -> Result<(), Failure> {
    let [.., last] = ACCOUNTS;
    for value in 0.. {
        let status = dict.status()?;
        if status.log_used + CHANGE > status.log_bytes {
            break;
        }
        dict.set(&last, &value)?;
        model.set(last, value);
    }
    Ok(())
}
