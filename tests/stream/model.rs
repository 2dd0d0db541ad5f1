//! Random operations beside a list of keys and values, by several attachments, with tiny logs: hundreds of
//! generations, and the same entries in the same order everywhere after each step.

use std::borrow::Borrow;
use std::fmt::Debug;

use forkmap::{Stored, StreamDict, StreamError};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::samples::{Json, Odd, Place, bytes, entries, json, owned_bytes};

/// A kind of keys or values that there are random ones of.
trait Sample: Stored<Owned: Debug + Clone> {
    fn sample(rng: &mut SmallRng) -> Self::Owned;
}

impl Sample for u64 {
    fn sample(rng: &mut SmallRng) -> u64 {
        [0, 1, u64::MAX, rng.random_range(0..20)][rng.random_range(0..4)]
    }
}

impl Sample for () {
    fn sample(_: &mut SmallRng) {}
}

impl Sample for Odd {
    fn sample(rng: &mut SmallRng) -> Odd {
        let worker = rng.random_range(0..9);
        Odd {
            worker,
            tries: [7; 4],
        }
    }
}

impl Sample for str {
    fn sample(rng: &mut SmallRng) -> String {
        "äb".repeat(rng.random_range(0..5)) + &rng.random_range(0..3).to_string()
    }
}

impl Sample for [u8] {
    fn sample(rng: &mut SmallRng) -> Vec<u8> {
        let most = if rng.random_range(0..50) == 0 {
            2000
        } else {
            20
        };
        let mut bytes = vec![0; rng.random_range(0..most)];
        rng.fill_bytes(&mut bytes);
        bytes
    }
}

impl Sample for Json {
    fn sample(rng: &mut SmallRng) -> <Json as Stored>::Owned {
        let n = rng.random_range(-9..9);
        [json([]), json([("a", n)]), json([("", n), ("b", 0)])][rng.random_range(0..3)].clone()
    }
}

/// Stored keys and values, in the order of their insertion.
#[derive(Clone, Default)]
struct Model(Vec<(Vec<u8>, Vec<u8>)>);

impl Model {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.0.iter().find(|(there, _)| there == key);
        found.map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let at = self.0.iter().position(|(there, _)| there == key);
        match (at, value) {
            (Some(at), Some(value)) => Some(std::mem::replace(&mut self.0[at].1, value)),
            (Some(at), None) => Some(self.0.remove(at).1),
            (None, Some(value)) => {
                self.0.push((key.to_vec(), value));
                None
            }
            (None, None) => None,
        }
    }
}

struct Pair<'p, K: Sample + ?Sized, V: Sample + ?Sized> {
    place: &'p Place,
    dicts: Vec<StreamDict<K, V>>,
    reader: StreamDict<K, V>,
    model: Model,
    generations: u64,
}

impl<K: Sample + ?Sized, V: Sample + ?Sized> Pair<'_, K, V> {
    fn step(&mut self, rng: &mut SmallRng, keys: &[K::Owned]) {
        let at = rng.random_range(0..self.dicts.len());
        let dict = &self.dicts[at];
        let owned = &keys[rng.random_range(0..keys.len())];
        let (key, stored) = (owned.borrow(), owned_bytes::<K>(owned));
        let owned = V::sample(rng);
        let (value, new) = (owned.borrow(), owned_bytes::<V>(&owned));
        let old = self.model.get(&stored);
        let out = |found: Option<V::Owned>| found.map(|found| owned_bytes::<V>(&found));
        match rng.random_range(0..18) {
            0 => assert_eq!(out(dict.get(key).unwrap()), old),
            1 | 2 => {
                dict.set(key, value).unwrap();
                self.model.put(&stored, Some(new));
            }
            3 | 4 => {
                assert_eq!(out(dict.insert(key, value).unwrap()), old);
                self.model.put(&stored, Some(new));
            }
            5 | 6 => assert_eq!(
                out(dict.remove(key).unwrap()),
                self.model.put(&stored, None)
            ),
            7 => {
                let got = dict.get_or_insert_with(key, || owned.clone()).unwrap();
                if old.is_none() {
                    self.model.put(&stored, Some(new));
                }
                assert_eq!(Some(owned_bytes::<V>(&got)), self.model.get(&stored));
            }
            8 => {
                let keep: bool = rng.random();
                let previous = dict.fetch_update(key, |found| {
                    assert_eq!(found.map(|found| bytes::<V>(found.borrow())), old);
                    keep.then(|| owned.clone())
                });
                assert_eq!(out(previous.unwrap()), old);
                self.model.put(&stored, keep.then_some(new));
            }
            9 => {
                let there = dict.get(key).unwrap();
                let other = V::sample(rng);
                let expected = match rng.random_range(0..3) {
                    0 => None,
                    1 => Some(other.borrow()),
                    _ => there.as_ref().map(|there| there.borrow()),
                };
                let is_it = expected.map(|expected| bytes::<V>(expected)) == old;
                let to = rng.random::<bool>().then_some(value);
                match dict.compare_exchange(key, expected, to).unwrap() {
                    Ok(found) => assert!(is_it && out(found) == old),
                    Err(found) => assert!(!is_it && out(found) == old),
                }
                if is_it {
                    self.model.put(&stored, to.map(|to| bytes::<V>(to)));
                }
            }
            10 => {
                let entry = dict.entry(key).unwrap();
                let entry = entry.and_modify(|value| *value = owned.clone());
                let got = entry.or_insert(value).unwrap();
                assert_eq!(owned_bytes::<V>(&got), new);
                self.model.put(&stored, Some(new));
            }
            11 => {
                let many: Vec<_> = keys.iter().filter(|_| rng.random()).collect();
                let entries = many.iter().map(|key| ((**key).borrow(), value));
                dict.extend(entries).unwrap();
                for key in many {
                    self.model.put(&owned_bytes::<K>(key), Some(new.clone()));
                }
            }
            12 if rng.random_range(0..4) == 0 => {
                dict.clear().unwrap();
                self.model.0.clear();
            }
            12 | 13 => dict.dump().unwrap(),
            14 => dict.reload().unwrap(),
            15 => {
                let opened = self.place.open();
                match self.dicts.len() < 5 {
                    true => self.dicts.push(opened),
                    false => self.dicts[at] = opened,
                }
            }
            _ => self.transaction(rng, keys, at),
        }
    }

    fn transaction(&mut self, rng: &mut SmallRng, keys: &[K::Owned], at: usize) {
        let (here, seed) = (self.dicts[at].position().unwrap(), rng.random());
        let fails = rng.random_range(0..4) == 0;
        let mut after = Model::default();
        let done = self.dicts[at].append_if(here, |tx| {
            // The same each time it is called.
            let mut rng = SmallRng::seed_from_u64(seed);
            after = self.model.clone();
            for _ in 0..rng.random_range(0..8) {
                let owned = &keys[rng.random_range(0..keys.len())];
                let (key, stored) = (owned.borrow(), owned_bytes::<K>(owned));
                match rng.random_range(0..20) {
                    0 => {
                        tx.clear();
                        after.0.clear();
                    }
                    1..8 => {
                        let removed = tx.remove(key)?;
                        assert_eq!(removed, after.put(&stored, None).is_some());
                    }
                    _ => {
                        let value = V::sample(&mut rng);
                        tx.set(key, value.borrow())?;
                        after.put(&stored, Some(owned_bytes::<V>(&value)));
                    }
                }
                assert_eq!(
                    (tx.len(), tx.is_empty()),
                    (after.0.len(), after.0.is_empty())
                );
                let found = tx.get(key)?.map(|found| bytes::<V>(found.borrow()));
                assert_eq!(found, after.get(&stored));
                assert_eq!(tx.contains_key(key)?, found.is_some());
            }
            match fails {
                true => Err(StreamError::Gone),
                false => Ok(()),
            }
        });
        match done {
            Ok(done) => {
                assert_eq!(done, Some(()));
                self.model = after;
            }
            Err(error) => assert!(fails && matches!(error, StreamError::Gone)),
        }
    }

    fn compare(&mut self) {
        let positions = self.dicts.iter().map(|dict| dict.position().unwrap());
        let positions: Vec<_> = positions.collect();
        assert!(
            positions.windows(2).all(|two| two[0] == two[1]),
            "{positions:?}"
        );
        for dict in self.dicts.iter().chain([&self.reader]) {
            let stored = entries(dict).into_iter();
            let stored =
                stored.map(|(key, value)| (owned_bytes::<K>(&key), owned_bytes::<V>(&value)));
            assert_eq!(stored.collect::<Vec<_>>(), self.model.0);
        }
        self.generations = positions[0].generation;
    }
}

fn against_a_list<K: Sample + ?Sized, V: Sample + ?Sized>(seed: u64) {
    println!(
        "{} -> {}",
        std::any::type_name::<K>(),
        std::any::type_name::<V>()
    );
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut generations = 0;
    for log_bytes in [0, 40, 100, 500] {
        let place = Place::new();
        let keys: Vec<_> = (0..12).map(|_| K::sample(&mut rng)).collect();
        let mut pair = Pair::<K, V> {
            place: &place,
            dicts: vec![place.dict(log_bytes), place.open()],
            reader: place.options().read_only(true).open("dict").unwrap(),
            model: Model::default(),
            generations: 0,
        };
        for _ in 0..400 {
            pair.step(&mut rng, &keys);
            pair.compare();
            assert_eq!(place.files().len(), 2);
        }
        generations += pair.generations;
    }
    println!("{generations} generations");
    assert!(generations > 200, "{generations}");
}

macro_rules! models {
    ($($name:ident: $key:ty => $value:ty, $seed:literal;)+) => {
        $(
            #[test]
            fn $name() {
                against_a_list::<$key, $value>($seed);
            }
        )+
    };
}
models! {
    words_to_words_as_in_a_list: u64 => u64, 1;
    text_to_bytes_as_in_a_list: str => [u8], 2;
    bytes_to_structs_as_in_a_list: [u8] => Odd, 3;
    structs_to_text_as_in_a_list: Odd => str, 4;
    sets_of_text_as_in_a_list: str => (), 5;
    one_key_as_in_a_list: () => u64, 6;
    text_to_an_own_encoding_as_in_a_list: str => Json, 7;
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::{Sample, SmallRng, against_a_list};
    use forkmap::Serde;
    use rand::RngExt;

    impl Sample for Serde<(u8, Option<String>)> {
        fn sample(rng: &mut SmallRng) -> (u8, Option<String>) {
            let text = rng
                .random::<bool>()
                .then(|| "x".repeat(rng.random_range(0..9)));
            (rng.random_range(0..4), text)
        }
    }

    models! {
        serde_to_serde_as_in_a_list: Serde<(u8, Option<String>)> => Serde<(u8, Option<String>)>, 8;
    }
}
