//! Kinds of keys and values, and random ones of each.

use std::borrow::Borrow;
use std::fmt::Debug;

use bytemuck::{Pod, Zeroable};
use forkmap::{CodecError, SharedHashMap, Stored, TypeShape};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

/// What the check of a map in order finds.
pub(crate) const NONE: Vec<String> = Vec::new();

/// Twelve bytes: no whole number of words.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug, Pod, Zeroable)]
pub(crate) struct Odd {
    pub(crate) worker: u32,
    pub(crate) tries: [u16; 4],
}

/// A kind of keys or values that there are random ones of. At most 20 bytes in stored form, if they vary.
pub(crate) trait Sample: Stored<Owned: Debug + Clone> {
    fn sample(rng: &mut SmallRng) -> Self::Owned;
}

/// Few different ones, so that the same comes again.
fn few(rng: &mut SmallRng) -> u64 {
    match rng.random_range(0..4) {
        0 => rng.random(),
        1 => u64::MAX - rng.random_range(0..3),
        _ => rng.random_range(0..200),
    }
}

macro_rules! integers {
    ($($type:ty)+) => {
        $(
            impl Sample for $type {
                fn sample(rng: &mut SmallRng) -> Self {
                    few(rng) as Self
                }
            }
        )+
    };
}
integers!(u8 i8 u16 u32 u64 i64 u128 f64);

impl Sample for () {
    fn sample(_: &mut SmallRng) {}
}

impl Sample for Odd {
    fn sample(rng: &mut SmallRng) -> Self {
        let n = few(rng);
        Self {
            worker: n as u32,
            tries: [n as u16, 1, (n >> 32) as u16, 2],
        }
    }
}

macro_rules! arrays {
    ($($n:literal)+) => {
        $(
            impl Sample for [u8; $n] {
                fn sample(rng: &mut SmallRng) -> Self {
                    let n = few(rng).to_le_bytes();
                    std::array::from_fn(|i| n[i % 8])
                }
            }
        )+
    };
}
arrays!(3 8 9 32 100);

impl Sample for [u8] {
    fn sample(rng: &mut SmallRng) -> Vec<u8> {
        let len = rng.random_range(0..=20);
        let mut bytes = vec![0; len];
        match rng.random() {
            true => rng.fill_bytes(&mut bytes),
            // Bytes that differ in their length only.
            false => bytes.fill(rng.random_range(0..2)),
        }
        bytes
    }
}

impl Sample for str {
    fn sample(rng: &mut SmallRng) -> String {
        let word = ["", "a", "ä", "key", "\0", "longer"][rng.random_range(0..6)];
        let mut text = word.repeat(rng.random_range(0..=2)) + &few(rng).to_string();
        let len = rng.random_range(0..=20);
        while text.len() > len {
            text.pop();
        }
        text
    }
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::{Sample, SmallRng, few};
    use forkmap::Serde;
    use rand::RngExt;
    use serde::{Deserialize, Serialize};

    /// What the maps of other languages hold.
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    pub(crate) enum Mixed {
        None,
        Int(i64),
        Text(String),
        Bytes(Vec<u8>),
        Pair(Box<Mixed>, bool),
    }

    impl Sample for Serde<Mixed> {
        fn sample(rng: &mut SmallRng) -> Mixed {
            match rng.random_range(0..5) {
                0 => Mixed::None,
                1 => Mixed::Int(few(rng) as i64),
                2 => Mixed::Text("t".repeat(rng.random_range(0..18))),
                3 => Mixed::Bytes(vec![rng.random(); rng.random_range(0..18)]),
                _ => Mixed::Pair(Box::new(Mixed::Int(few(rng) as i64)), rng.random()),
            }
        }
    }

    impl Sample for Serde<(u32, String)> {
        fn sample(rng: &mut SmallRng) -> (u32, String) {
            (few(rng) as u32, "x".repeat(rng.random_range(0..3)))
        }
    }
}
#[cfg(feature = "serde")]
pub(crate) use with_serde::Mixed;

/// The stored form.
pub(crate) fn bytes<T: Stored + ?Sized>(item: &T::Item) -> Vec<u8> {
    T::encode(item).unwrap().as_ref().to_vec()
}

/// The stored form of what came out.
pub(crate) fn owned_bytes<T: Stored + ?Sized>(owned: &T::Owned) -> Vec<u8> {
    bytes::<T>(owned.borrow())
}

/// A map whose limits are 20 bytes where they are not fixed.
pub(crate) fn map_of<K: Stored + ?Sized, V: Stored + ?Sized>(capacity: u64) -> SharedHashMap<K, V> {
    let mut options = SharedHashMap::<K, V>::options();
    options.capacity(capacity).participants(4);
    if K::LENGTH.is_none() {
        options.key_bytes(20);
    }
    if V::LENGTH.is_none() {
        options.value_bytes(20);
    }
    options.anonymous().unwrap()
}

/// An encoding that claims to be that of `str` and takes any bytes; but some that it refuses to encode.
#[derive(Debug)]
pub(crate) struct Lie;

pub(crate) const UNSPEAKABLE: &[u8] = b"unspeakable";

impl Stored for Lie {
    type Item = [u8];
    type Owned = Vec<u8>;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];

    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = <str as Stored>::SHAPE;

    fn encode(item: &[u8]) -> Result<&[u8], CodecError> {
        match item == UNSPEAKABLE {
            true => Err("it cannot be said".into()),
            false => Ok(item),
        }
    }

    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        // More than is asked for, and then less.
        image.resize(len + 7, 0xEE);
        image
    }

    fn decode(image: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(image)
    }
}
