//! Random operations beside a `HashMap` of std, for each kind of keys and values.

use std::borrow::Borrow;
use std::collections::HashMap;

use forkmap::entry::{Entry, EntryError};
use forkmap::{SharedHashMap, WriteError};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::samples::{Odd, Sample, bytes, map_of, owned_bytes};

struct Pair<K: Sample + ?Sized, V: Sample + ?Sized> {
    map: SharedHashMap<K, V>,
    /// Stored keys and values.
    model: HashMap<Vec<u8>, Vec<u8>>,
}

impl<K: Sample + ?Sized, V: Sample + ?Sized> Pair<K, V> {
    fn is_full(&self, key: &[u8]) -> bool {
        self.model.len() == self.map.capacity() && !self.model.contains_key(key)
    }

    /// Whether this is `Full` when it must be; what came out else.
    fn room<R>(&self, key: &[u8], done: Result<R, WriteError>) -> Option<R> {
        match done {
            Ok(done) => {
                assert!(!self.is_full(key), "there was no room");
                Some(done)
            }
            Err(WriteError::Full { capacity }) => {
                assert_eq!(capacity, self.map.capacity());
                assert!(self.is_full(key), "there was room");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, rng: &mut SmallRng, key: &K::Owned) {
        let (key, stored) = (key.borrow(), owned_bytes::<K>(key));
        let value = V::sample(rng);
        let (value, new) = (value.borrow(), owned_bytes::<V>(&value));
        let old = self.model.get(&stored).cloned();
        let out = |found: Option<V::Owned>| found.map(|found| owned_bytes::<V>(&found));
        let map = &self.map;
        match rng.random_range(0..16) {
            0 => assert_eq!(out(map.get(key).unwrap()), old),
            1 => {
                let mut out = V::sample(rng);
                assert_eq!(map.get_into(key, &mut out).unwrap(), old.is_some());
                if let Some(old) = old {
                    assert_eq!(owned_bytes::<V>(&out), old);
                }
            }
            2 => assert_eq!(map.contains_key(key).unwrap(), old.is_some()),
            3 | 4 => {
                if let Some(previous) = self.room(&stored, map.insert(key, value)) {
                    assert_eq!(out(previous), old);
                    self.model.insert(stored, new);
                }
            }
            5 => {
                if self.room(&stored, map.set(key, value)).is_some() {
                    self.model.insert(stored, new);
                }
            }
            6 => {
                if let Some(inserted) = self.room(&stored, map.try_insert(key, value)) {
                    assert_eq!(inserted, old.is_none());
                    self.model.entry(stored).or_insert(new);
                }
            }
            7 => {
                let mut calls = 0;
                let got = map.get_or_insert_with(key, || {
                    calls += 1;
                    V::decode_again(&new)
                });
                if let Some(got) = self.room(&stored, got) {
                    assert_eq!(calls, usize::from(old.is_none()));
                    let there = self.model.entry(stored).or_insert(new);
                    assert_eq!(&owned_bytes::<V>(&got), there);
                }
            }
            8 => {
                // Half of the time with what is there.
                let guess = match &old {
                    Some(old) if rng.random() => V::decode_again(old),
                    _ => V::sample(rng),
                };
                let is_it = old.as_ref() == Some(&owned_bytes::<V>(&guess));
                let done = map.compare_exchange(key, guess.borrow(), value).unwrap();
                match done {
                    Ok(()) => {
                        assert!(is_it);
                        self.model.insert(stored, new);
                    }
                    Err(found) => {
                        assert!(!is_it);
                        assert_eq!(out(found), old);
                    }
                }
            }
            9 => {
                let updated = map.update(key, |found| {
                    assert_eq!(out(found), old);
                    V::decode_again(&new)
                });
                if let Some(updated) = self.room(&stored, updated) {
                    assert_eq!(owned_bytes::<V>(&updated), new);
                    self.model.insert(stored, new);
                }
            }
            10 => {
                let accept: bool = rng.random();
                let done = map.fetch_update(key, |found| {
                    assert_eq!(Some(bytes::<V>(found)), old);
                    accept.then(|| V::decode_again(&new))
                });
                match done.unwrap() {
                    Ok(previous) => {
                        assert!(accept);
                        assert_eq!(Some(owned_bytes::<V>(&previous)), old);
                        self.model.insert(stored, new);
                    }
                    Err(found) => {
                        assert!(!accept || old.is_none());
                        assert_eq!(out(found), old);
                    }
                }
            }
            11 => {
                assert_eq!(out(map.remove(key).unwrap()), old);
                self.model.remove(&stored);
            }
            12 => {
                let accept: bool = rng.random();
                let removed = map.remove_if(key, |found| {
                    assert_eq!(Some(bytes::<V>(found)), old);
                    accept
                });
                assert_eq!(out(removed.unwrap()), old.filter(|_| accept));
                if accept {
                    self.model.remove(&stored);
                }
            }
            _ => self.entry(rng, key, stored, value, new),
        }
    }

    fn entry(
        &mut self,
        rng: &mut SmallRng,
        key: &K::Item,
        stored: Vec<u8>,
        value: &V::Item,
        new: Vec<u8>,
    ) {
        match self.map.entry(key).unwrap() {
            Entry::Occupied(mut entry) => {
                let old = self.model.get(&stored).expect("it is not there");
                assert_eq!(&bytes::<V>(entry.get()), old);
                let changed: bool = rng.random();
                if changed {
                    // To what is there: changed all the same.
                    let same = V::decode_again(old);
                    self.map.set(key, same.borrow()).unwrap();
                }
                if rng.random() {
                    let replaced = entry.replace(value);
                    if changed {
                        assert!(matches!(replaced, Err(EntryError::Changed)));
                        assert_eq!(&bytes::<V>(entry.get()), old);
                        return;
                    }
                    replaced.unwrap();
                    assert_eq!(bytes::<V>(entry.get()), new);
                    self.model.insert(stored.clone(), new);
                }
                if rng.random() {
                    match entry.remove() {
                        Ok(removed) => {
                            assert!(!changed);
                            let there = self.model.remove(&stored);
                            assert_eq!(Some(owned_bytes::<V>(&removed)), there);
                        }
                        Err(EntryError::Changed) => assert!(changed),
                        Err(error) => panic!("{error}"),
                    }
                } else {
                    let value = owned_bytes::<V>(&entry.into_value());
                    assert_eq!(Some(&value), self.model.get(&stored));
                }
            }
            Entry::Vacant(entry) => {
                assert!(!self.model.contains_key(&stored), "it is there");
                if self.is_full(&stored) {
                    let error = entry.insert(value).unwrap_err();
                    assert!(matches!(error, EntryError::Write(WriteError::Full { .. })));
                    return;
                }
                let changed: bool = rng.random();
                if changed {
                    self.map.insert(key, value).unwrap();
                    self.model.insert(stored, new);
                    assert!(matches!(entry.insert(value), Err(EntryError::Changed)));
                } else {
                    entry.insert(value).unwrap();
                    self.model.insert(stored, new);
                }
            }
        }
    }

    /// Everything at once.
    fn compare(&self) {
        let map = &self.map;
        assert_eq!(map.len(), self.model.len());
        assert_eq!(map.is_empty(), self.model.is_empty());
        let (mut keys, mut values) = (map.keys(), map.values());
        let mut seen = HashMap::new();
        for entry in map {
            let (key, value) = entry.unwrap();
            let (key, value) = (owned_bytes::<K>(&key), owned_bytes::<V>(&value));
            // In the same order, as nobody changes it.
            assert_eq!(owned_bytes::<K>(&keys.next().unwrap().unwrap()), key);
            assert_eq!(owned_bytes::<V>(&values.next().unwrap().unwrap()), value);
            assert_eq!(seen.insert(key, value), None, "a key is seen twice");
        }
        assert!(keys.next().is_none() && keys.next().is_none() && values.next().is_none());
        assert_eq!(seen, self.model);
        assert_eq!(map.check(), Vec::<String>::new());
        let stats = map.stats().unwrap();
        assert_eq!(
            (stats.len, stats.free, stats.capacity),
            (seen.len(), map.capacity() - seen.len(), map.capacity())
        );
    }
}

/// Another copy of an owned value, by its bytes.
trait DecodeAgain: Sample {
    fn decode_again(bytes: &[u8]) -> Self::Owned {
        let mut image = Self::Image::default();
        Self::room(&mut image, bytes.len()).copy_from_slice(bytes);
        Self::decode(image).unwrap()
    }
}
impl<T: Sample + ?Sized> DecodeAgain for T {}

fn against_std<K: Sample + ?Sized, V: Sample + ?Sized>(seed: u64) {
    let what = format!(
        "{} -> {}, seed {seed}",
        std::any::type_name::<K>(),
        std::any::type_name::<V>()
    );
    println!("{what}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for capacity in [1, 2, 5, 40] {
        let mut pair = Pair::<K, V> {
            map: map_of(capacity),
            model: HashMap::new(),
        };
        let keys: Vec<_> = (0..2 * capacity).map(|_| K::sample(&mut rng)).collect();
        for step in 0..3000 {
            let key = &keys[rng.random_range(0..keys.len())];
            pair.step(&mut rng, key);
            if step % 50 == 0 {
                pair.compare();
            }
            match rng.random_range(0..600) {
                0 => {
                    pair.map.clear().unwrap();
                    pair.model.clear();
                    pair.compare();
                }
                1 => {
                    let keep = |key: &[u8], value: &[u8]| {
                        (key.len() ^ value.len()) % 2 == 0
                            || key.iter().chain(value).fold(0, |a, b| a ^ b) % 2 == 0
                    };
                    let mut asked = 0;
                    pair.map
                        .retain(|key, value| {
                            asked += 1;
                            keep(&bytes::<K>(key), &bytes::<V>(value))
                        })
                        .unwrap();
                    assert_eq!(asked, pair.model.len(), "each key once");
                    pair.model.retain(|key, value| keep(key, value));
                    pair.compare();
                }
                _ => {}
            }
        }
        pair.compare();
    }
}

macro_rules! models {
    ($($name:ident: $key:ty => $value:ty, $seed:literal;)+) => {
        $(
            #[test]
            fn $name() {
                against_std::<$key, $value>($seed);
            }
        )+
    };
}
models! {
    words_to_words_as_in_std: u64 => u64, 1;
    arrays_to_arrays_as_in_std: [u8; 32] => [u8; 100], 2;
    text_to_text_as_in_std: str => str, 3;
    bytes_to_bytes_as_in_std: [u8] => [u8], 4;
    text_to_integers_as_in_std: str => u32, 5;
    sets_of_text_as_in_std: str => (), 6;
    long_integers_to_odd_structs_as_in_std: u128 => Odd, 7;
    odd_structs_to_odd_structs_as_in_std: Odd => Odd, 8;
    odd_structs_to_text_as_in_std: Odd => str, 9;
    one_key_without_bytes_as_in_std: () => u64, 10;
    nothing_to_nothing_as_in_std: () => (), 11;
    words_to_nothing_as_in_std: u64 => (), 12;
    single_bytes_as_in_std: u8 => [u8; 3], 13;
    eight_bytes_as_in_std: [u8; 8] => [u8], 14;
    nine_bytes_as_in_std: [u8; 9] => i8, 15;
    floats_as_in_std: f64 => f64, 16;
    short_integers_as_in_std: u16 => i64, 17;
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::against_std;
    use crate::samples::Mixed;
    use forkmap::Serde;

    models! {
        text_to_serde_as_in_std: str => Serde<Mixed>, 18;
        serde_to_serde_as_in_std: Serde<(u32, String)> => Serde<Mixed>, 19;
        serde_to_words_as_in_std: Serde<(u32, String)> => u64, 20;
    }
}
