//! One thread against a model, and threads against each other.

use std::collections::HashMap;
use std::thread;

use super::*;
use crate::raw::bell;
use crate::raw::bytes::Bytes;
use crate::raw::hash::mix;

const SEED: u64 = 7;

struct Heap<const LINE: usize> {
    words: Vec<Word>,
    bells: Vec<Word>,
    geometry: Geometry,
}

impl<const LINE: usize> Heap<LINE> {
    fn new(capacity: usize, writers: usize, shape: CellShape) -> Self {
        let geometry = Geometry {
            capacity,
            writers,
            shape,
        };
        let zeros = |words: usize| (0..words).map(|_| Word::new(0)).collect();
        Self {
            words: zeros(geometry.words::<LINE>().unwrap()),
            bells: zeros(bell::WORDS),
            geometry,
        }
    }

    fn table(&self) -> Table<'_, LINE> {
        let bells = Bells::new(&self.bells);
        Table::new(&self.words, &self.geometry, bells, SEED, Access::ReadWrite)
    }
}

const NUMBERS: CellShape = CellShape {
    one_word_keys: true,
    key_bytes: 8,
    varying_values: false,
    value_bytes: 8,
};

const STRINGS: CellShape = CellShape {
    one_word_keys: false,
    key_bytes: 20,
    varying_values: true,
    value_bytes: 30,
};

impl<const LINE: usize> Table<'_, LINE> {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let target = self.target(key, self.shape.one_word_keys);
        let look = |value: Bytes<'_>| {
            let mut out = Vec::new();
            value.append_to(&mut out);
            out
        };
        self.find(&target, look).map(|(_, value)| value)
    }

    /// Sets the key, and tells whether it was there.
    fn put(&self, writer: usize, key: &[u8], value: &[u8]) -> Result<bool, Full> {
        let target = self.target(key, self.shape.one_word_keys);
        loop {
            if let Some((at, ())) = self.find_live(&target, |_| ()) {
                if self.replace(writer, &target, at, value).is_some() {
                    return Ok(true);
                }
            } else if self.insert(writer, &target, value)? {
                return Ok(false);
            }
        }
    }

    fn take(&self, writer: usize, key: &[u8]) -> bool {
        let target = self.target(key, self.shape.one_word_keys);
        loop {
            let Some((at, ())) = self.find_live(&target, |_| ()) else {
                return false;
            };
            if self.remove(writer, &target, at) {
                return true;
            }
        }
    }
}

fn against_a_model<const LINE: usize>(capacity: usize, shape: CellShape, steps: u64) {
    let heap = Heap::<LINE>::new(capacity, 3, shape);
    let table = heap.table();
    let mut model: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut full = 0;
    for step in 0..steps {
        let random = mix(step, 1);
        let number = random % (capacity as u64 * 2);
        let key = match shape.one_word_keys {
            true => number.to_le_bytes().to_vec(),
            false => vec![number as u8; (number % 21) as usize]
                .into_iter()
                .chain((number / 21).to_le_bytes())
                .take(20)
                .collect(),
        };
        let len = match shape.varying_values {
            true => (random >> 8) as usize % 31,
            false => shape.value_bytes,
        };
        let value = vec![step as u8; len.min(shape.value_bytes)];
        let writer = (random >> 16) as usize % 3;
        match random >> 32 & 3 {
            0 | 1 => match table.put(writer, &key, &value) {
                Ok(replaced) => assert_eq!(model.insert(key, value).is_some(), replaced),
                Err(Full) => {
                    assert_eq!(model.len(), capacity);
                    assert!(!model.contains_key(&key));
                    full += 1;
                }
            },
            2 => assert_eq!(table.take(writer, &key), model.remove(&key).is_some()),
            _ => assert_eq!(table.get(&key), model.get(&key).cloned()),
        }
        if step % 64 == 0 {
            assert_eq!(table.check(), []);
            assert_eq!(table.census().keys, model.len());
        }
    }
    assert!(full > 0 || capacity > 100 || cfg!(miri), "never full");
    for (key, value) in &model {
        assert_eq!(table.get(key).as_ref(), Some(value));
    }
    assert_eq!(table.check(), []);
}

#[test]
fn a_map_does_what_a_hash_map_does() {
    let (steps, capacities): (u64, &[usize]) = match cfg!(miri) {
        true => (60, &[1, 7]),
        false => (20_000, &[1, 2, 7, 64, 200]),
    };
    for &capacity in capacities {
        against_a_model::<8>(capacity, NUMBERS, steps);
        against_a_model::<1>(capacity, NUMBERS, steps);
        against_a_model::<8>(capacity, STRINGS, steps);
        against_a_model::<2>(capacity, STRINGS, steps);
    }
}

/// Keys in pairs of threads that insert, replace and remove the same few; values that say whose they are.
fn race<const LINE: usize>(threads: usize, keys: u64, steps: u64) {
    let heap = Heap::<LINE>::new(keys as usize, threads, STRINGS);
    thread::scope(|scope| {
        for writer in 0..threads {
            let table = heap.table();
            scope.spawn(move || {
                for step in 0..steps {
                    let random = mix(step, writer as u64);
                    let key = [random as u8 % keys as u8; 9];
                    match random >> 16 & 3 {
                        0 => {
                            let value = [key[0], step as u8].repeat(1 + step as usize % 12);
                            // At the brim others may have the last cells in hand.
                            let _ = table.put(writer, &key, &value);
                        }
                        1 => _ = table.take(writer, &key),
                        _ => {
                            if let Some(value) = table.get(&key) {
                                assert_eq!(value[0], key[0], "of another key");
                                assert!(value.chunks(2).all(|pair| pair == &value[..2]), "torn");
                            }
                        }
                    }
                }
            });
        }
    });
    assert_eq!(heap.table().check(), []);
}

#[test]
fn threads_never_see_torn_or_foreign_values_and_leak_nothing() {
    let (steps, keys): (u64, &[u64]) = match cfg!(miri) {
        true => (15, &[2]),
        false => (100_000, &[1, 2, 5]),
    };
    for &keys in keys {
        race::<8>(3, keys, steps);
        race::<1>(3, keys, steps);
    }
}

/// Each inserts one key and then looks for the other's.
fn two_inserters(look: Access) {
    for round in 0..if cfg!(miri) { 2 } else { 2_000 } {
        let heap = Heap::<8>::new(20, 2, NUMBERS);
        let keys = [round, round + 1_000_000].map(u64::to_le_bytes);
        let view = |access| {
            let bells = Bells::new(&heap.bells);
            Table::<8>::new(&heap.words, &heap.geometry, bells, SEED, access)
        };
        let insert_and_look = |writer: usize| {
            let (reader, table) = (view(look), view(Access::ReadWrite));
            assert_eq!(table.put(writer, &keys[writer], &[1; 8]), Ok(false));
            reader.get(&keys[1 - writer]).is_some()
        };
        let seen = thread::scope(|scope| {
            let other = scope.spawn(|| insert_and_look(1));
            [insert_and_look(0), other.join().unwrap()]
        });
        assert_ne!(seen, [false; 2], "both were first");
        assert_eq!(view(Access::ReadWrite).check(), []);
    }
}

#[test]
fn two_inserters_cannot_both_miss_each_other() {
    two_inserters(Access::ReadWrite);
}

#[test]
fn two_inserters_cannot_both_miss_each_other_on_read_only_pages() {
    two_inserters(Access::ReadOnly);
}
