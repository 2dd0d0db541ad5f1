//! The map of one performance, and what is in it.

use std::sync::{Mutex, MutexGuard};

use forkmap::model::bell::{self, Bells};
use forkmap::model::bytes::Bytes;
use forkmap::model::hash::unmix;
use forkmap::model::map::{Cell, Full, Geometry, Table};
use forkmap::model::{Access, Word};
use loom::sync::atomic::{AtomicBool as Flag, Ordering::SeqCst};

use super::Step::{self, Get, IfTold, Insert, Insist, Recover, Remove, Replace, Tell, Visit};
use super::history::Log;
use super::history::Outcome::{self, Inserted, Was};
use super::{Key, Value};
use crate::SEED;

/// The key of this number, as it stands in the map.
fn bytes_of(key: Key) -> [u8; 8] {
    const TAG: u64 = 0x5A << 16;
    let hash = match key {
        0..=3 => 0xFFFF_FFFF_FF00_0000 | TAG | u64::from(key),
        4..=7 => TAG | u64::from(key),
        _ => u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15),
    };
    unmix(hash, SEED).to_le_bytes()
}

/// Two words that fit together, of which each says to whom it belongs.
fn value_of(key: Key, value: Value) -> [u8; 16] {
    let word = u64::from(key) << 32 | u64::from(value) << 8 | 1;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&word.to_le_bytes());
    bytes[8..].copy_from_slice(&(!word).to_le_bytes());
    bytes
}

fn value_in(key: Key, bytes: [u8; 16]) -> Value {
    let value = bytes[1];
    assert_eq!(bytes, value_of(key, value), "torn, or of another key");
    value
}

fn copy(value: Bytes<'_>) -> [u8; 16] {
    let mut bytes = [0; 16];
    value.copy_to(&mut bytes);
    bytes
}

/// The map of one performance.
pub(super) struct Stage<const LINE: usize> {
    pub(super) words: Vec<Word>,
    mute: Vec<Word>,
    geometry: Geometry,
    pub(super) told: Flag,
    log: Mutex<Log>,
}

impl<const LINE: usize> Stage<LINE> {
    pub(super) fn new(words: &[u64], geometry: Geometry) -> Self {
        Self {
            words: words.iter().map(|&word| Word::new(word)).collect(),
            mute: (0..bell::WORDS).map(|_| Word::new(0)).collect(),
            geometry,
            told: Flag::new(false),
            log: Mutex::default(),
        }
    }

    pub(super) fn table(&self, access: Access) -> Table<'_, LINE> {
        let bells = Bells::new(&self.mute).mute();
        Table::new(&self.words, &self.geometry, bells, SEED, access)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("a panic ends the model")
    }

    /// The upper level of the hint says "all taken" only of words that say so.
    pub(super) fn check_hint(&self) {
        let Geometry {
            capacity, writers, ..
        } = self.geometry;
        let cells = capacity + writers;
        let cell_words = cells * self.geometry.shape.words();
        let (hint, _) = self.words.split_at(self.words.len() - cell_words);
        let (full, hint) = hint.split_at(hint.len() - cells.div_ceil(64));
        let full = &full[full.len() - hint.len().div_ceil(64)..];
        for (n, word) in hint.iter().enumerate() {
            let is_full = full[n / 64].load(SeqCst) >> (n % 64) & 1 == 1;
            assert!(!is_full || word.load(SeqCst) == !0, "closed, and not full");
        }
    }

    /// Performs an operation on the map itself.
    pub(super) fn perform(&self, writer: usize, looks: Access, step: Step) -> Outcome {
        let table = self.table(Access::ReadWrite);
        let bytes = step.key().map(bytes_of).unwrap_or_default();
        let target = table.target(&bytes, true);
        match step {
            Get(key) => {
                let found = self.table(looks).find(&target, copy);
                Was(found.map(|(_, bytes)| value_in(key, bytes)))
            }
            Insert(key, value) => match table.insert(writer, &target, &value_of(key, value)) {
                Ok(inserted) => Inserted(inserted),
                Err(Full) => Outcome::Full,
            },
            Replace(key, _) | Remove(key) => loop {
                let Some((at, bytes)) = table.find_live(&target, copy) else {
                    break Was(None);
                };
                let changed = match step {
                    Replace(_, new) => {
                        let value = value_of(key, new);
                        table.replace(writer, &target, at, &value).is_some()
                    }
                    _ => table.remove(writer, &target, at),
                };
                if changed {
                    break Was(Some(value_in(key, bytes)));
                }
            },
            Insist(..) | Visit | Tell | IfTold | Recover(_) => unreachable!("not on one key"),
        }
    }

    /// Looks a key up, and tries twice to replace what was found. If that fails it was but a look.
    pub(super) fn insist(&self, writer: usize, key: Key, new: Value) -> (Step, Outcome) {
        let table = self.table(Access::ReadWrite);
        let bytes = bytes_of(key);
        let target = table.target(&bytes, true);
        let Some((at, found)) = table.find_live(&target, copy) else {
            return (Get(key), Was(None));
        };
        let value = value_of(key, new);
        let replaced = (0..2).any(|_| table.replace(writer, &target, at, &value).is_some());
        let step = if replaced {
            Replace(key, new)
        } else {
            Get(key)
        };
        (step, Was(Some(value_in(key, found))))
    }

    /// One pass over the map: what it says of each of `keys`.
    pub(super) fn visit(&self, looks: Access, keys: &[Key]) -> Vec<(Key, Outcome)> {
        let table = self.table(looks);
        let mut found = Vec::new();
        let mut from = 0;
        let look = |cell: Cell<'_>| {
            let mut key = [0; 8];
            cell.key().copy_to(&mut key);
            Some((key, copy(cell.value())))
        };
        while let Some((at, (key, value))) = table.visit(from, look) {
            let key = keys.iter().find(|&&known| bytes_of(known) == key);
            found.push((*key.expect("never stored"), value));
            from = at.next();
        }
        let outcome = |&key: &Key| {
            let mut values = found.iter().filter(|(found, _)| *found == key);
            let value = values.next().map(|&(_, bytes)| value_in(key, bytes));
            assert!(values.next().is_none(), "key {key} stands there twice");
            (key, Was(value))
        };
        keys.iter().map(outcome).collect()
    }
}
