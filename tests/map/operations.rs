//! Operation by operation, with what each does at the edges of its arguments.

use forkmap::entry::{Entry, EntryError};
use forkmap::{ReadError, SharedHashMap, WriteError};

use crate::common::Name;
use crate::samples::{Lie, NONE, UNSPEAKABLE, map_of};

#[test]
fn every_operation_tells_what_was_there() {
    let map = SharedHashMap::<str, str>::anonymous(10).unwrap();
    assert!(map.is_empty());
    assert_eq!(map.get("a").unwrap(), None);
    assert_eq!(map.insert("a", "1").unwrap(), None);
    assert_eq!(map.insert("a", "2").unwrap().as_deref(), Some("1"));
    map.set("a", "3").unwrap();
    map.set("b", "4").unwrap();
    assert_eq!((map.len(), map.is_empty()), (2, false));
    assert!(!map.try_insert("a", "5").unwrap());
    assert!(map.try_insert("c", "6").unwrap());
    assert_eq!(map.get_or_insert_with("d", || "7".into()).unwrap(), "7");
    assert_eq!(map.get_or_insert_with("d", || unreachable!()).unwrap(), "7");
    assert_eq!(map.compare_exchange("a", "3", "8").unwrap(), Ok(()));
    let found = map.compare_exchange("a", "3", "9").unwrap();
    assert_eq!(found, Err(Some("8".into())));
    assert_eq!(map.compare_exchange("e", "3", "9").unwrap(), Err(None));
    assert!(!map.contains_key("e").unwrap(), "nothing was inserted");
    let updated = map.update("a", |old| old.unwrap() + "!").unwrap();
    assert_eq!(updated, "8!");
    assert_eq!(map.update("e", |old| format!("{old:?}")).unwrap(), "None");
    let previous = map.fetch_update("a", |old| Some(old.repeat(2)));
    assert_eq!(previous.unwrap(), Ok("8!".into()));
    let found = map.fetch_update("a", |_| None).unwrap();
    assert_eq!(found, Err(Some("8!8!".into())));
    assert_eq!(
        map.fetch_update("f", |_| unreachable!()).unwrap(),
        Err(None)
    );
    assert_eq!(map.remove_if("a", |value| value == "x").unwrap(), None);
    let removed = map.remove_if("a", |value| value == "8!8!").unwrap();
    assert_eq!(removed.as_deref(), Some("8!8!"));
    assert_eq!(map.remove_if("a", |_| unreachable!()).unwrap(), None);
    assert_eq!(map.remove("b").unwrap().as_deref(), Some("4"));
    assert_eq!(map.remove("b").unwrap(), None);
    let mut left: Vec<_> = map.iter().map(Result::unwrap).collect();
    left.sort();
    let left: Vec<_> = left.iter().map(|(key, value)| (&**key, &**value)).collect();
    assert_eq!(left, [("c", "6"), ("d", "7"), ("e", "None")]);
    map.retain(|key, value| key == "d" || value == "None")
        .unwrap();
    assert_eq!(map.len(), 2);
    map.clear().unwrap();
    assert!(map.is_empty());
    map.clear().unwrap();
    assert_eq!(map.check(), NONE);
}

/// A value that is there is compared whole, and by its length too.
#[test]
fn compared_are_all_bytes_of_a_value() {
    let map = map_of::<u64, [u8]>(4);
    let values = [
        &b""[..],
        b"\0",
        b"\0\0",
        b"12345678",
        b"12345678\0",
        b"123456781",
        b"12345678123",
        b"12345678124",
        b"12345679123",
    ];
    for there in values {
        map.insert(&1, there).unwrap();
        for guess in values {
            let done = map.compare_exchange(&1, guess, there).unwrap();
            match guess == there {
                true => assert_eq!(done, Ok(())),
                false => assert_eq!(done, Err(Some(there.to_vec()))),
            }
        }
    }
    // Longer than any value can be: it is not what is there.
    let done = map.compare_exchange(&1, &[0; 21], b"x").unwrap();
    assert!(done.is_err());
    let floats = map_of::<u64, f64>(1);
    floats.insert(&1, &f64::NAN).unwrap();
    assert_eq!(
        floats.compare_exchange(&1, &f64::NAN, &0.0).unwrap(),
        Ok(())
    );
    assert!(floats.compare_exchange(&1, &-0.0, &1.0).unwrap().is_err());
}

/// Keys are their bytes: those that differ in one of them, or in their length, are different.
#[test]
fn keys_that_differ_anywhere_are_different() {
    let map = SharedHashMap::<[u8], u32>::options()
        .capacity(200)
        .key_bytes(40)
        .anonymous()
        .unwrap();
    let mut keys: Vec<Vec<u8>> = (0..=40).map(|len| vec![0; len]).collect();
    for at in 0..40 {
        let mut key = vec![0; 40];
        key[at] = 1;
        keys.push(key.clone());
        key[at] = 0x80;
        keys.push(key);
    }
    for (n, key) in (0..).zip(&keys) {
        assert!(map.try_insert(key, &n).unwrap());
    }
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(map.get(key).unwrap(), Some(n));
    }
    assert_eq!(map.len(), keys.len());
    assert_eq!(map.check(), NONE);
    for (n, key) in (0..).zip(&keys) {
        assert_eq!(map.remove(key).unwrap(), Some(n));
    }
    let floats = map_of::<f64, u8>(4);
    for key in [0.0, -0.0, f64::NAN] {
        assert!(floats.try_insert(&key, &1).unwrap());
        assert!(floats.contains_key(&key).unwrap());
    }
}

/// With the seed 0x5EED these keys have the same length, and the same upper 48 bits of their hash: all
/// that a cell knows of a key but its bytes.
#[test]
fn keys_of_the_same_hash_are_told_apart_by_their_bytes() {
    let pairs = [
        ["015d920b", "0252adba"],
        ["01b4566e", "02e3b21c"],
        ["00e1fb8f", "0197f80b"],
        ["0225687b", "0252873f"],
        ["019a5444", "0207a9e6"],
    ];
    let map = SharedHashMap::<str, u32>::options()
        .capacity(10)
        .key_bytes(8)
        .hash_seed(0x5EED)
        .anonymous()
        .unwrap();
    for [a, b] in pairs {
        let hash = |key: &str| xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), 0x5EED) >> 16;
        assert_eq!(hash(a), hash(b));
        map.insert(a, &1).unwrap();
        assert_eq!(map.get(b).unwrap(), None);
        assert_eq!(map.remove(b).unwrap(), None);
        assert_eq!(map.compare_exchange(b, &1, &2).unwrap(), Err(None));
        assert!(map.try_insert(b, &2).unwrap());
        assert_eq!(
            (map.get(a).unwrap(), map.get(b).unwrap()),
            (Some(1), Some(2))
        );
    }
    assert_eq!((map.len(), map.check()), (10, NONE));
    for [a, b] in pairs {
        assert_eq!(map.remove(a).unwrap(), Some(1));
        assert_eq!((map.get(a).unwrap(), map.get(b).unwrap()), (None, Some(2)));
        assert_eq!(map.check(), NONE);
    }
}

/// Inverse of the hash: the key that has it under this seed. See docs/FORMAT.md.
pub(crate) fn key_of_hash(hash: u64, seed: u64) -> u64 {
    let inverse = 0xCFEE_444D_8B59_A89B;
    let mut x = hash.wrapping_mul(inverse);
    x ^= x >> 32;
    x = (x ^ seed.rotate_left(32)).wrapping_mul(inverse);
    x ^= x >> 32;
    x ^ seed
}

/// All at home in one line, which is the last one, and with the same tag: each is looked for in all lines.
#[test]
fn keys_of_one_home_spill_into_other_lines_and_come_back() {
    for (tags, first) in [(1, 0), (256, 0), (2, u64::MAX >> 8 << 8)] {
        let map = SharedHashMap::<u64, u64>::options()
            .capacity(100)
            .participants(4)
            .hash_seed(3)
            .anonymous()
            .unwrap();
        let keys: Vec<u64> = (0..100)
            .map(|n| {
                let hash = first & !0xFF_FFFF | (n % tags) << 16 | n;
                key_of_hash(if first == 0 { hash } else { hash | 0xFF << 56 }, 3)
            })
            .collect();
        for (n, key) in keys.iter().enumerate() {
            assert!(map.try_insert(key, &(n as u64)).unwrap());
            assert!(!map.try_insert(key, &0).unwrap());
            assert_eq!(map.check(), NONE);
        }
        let stats = map.stats().unwrap();
        // 100 of 8 a line.
        assert_eq!((stats.miss_lines_max, stats.hit_lines_p99), (13, 13));
        let full = map.insert(&key_of_hash(first | 0xFFFF, 3), &1);
        assert!(matches!(full, Err(WriteError::Full { capacity: 100 })));
        let found: Vec<_> = keys.iter().map(|key| map.get(key).unwrap()).collect();
        assert!((0..100).map(Some).eq(found));
        // Every other one, then the far ones, then the rest.
        let order = (0..100).step_by(2).chain((0..50).map(|n| 99 - 2 * n));
        for n in order {
            assert_eq!(map.remove(&keys[n]).unwrap(), Some(n as u64));
            assert_eq!(map.get(&keys[n]).unwrap(), None);
            assert_eq!(map.check(), NONE);
        }
        assert_eq!(map.stats().unwrap().miss_lines, 1.0);
    }
}

#[test]
fn empty_keys_and_values_are_ordinary_ones() {
    let map = map_of::<str, str>(2);
    assert_eq!(map.get("").unwrap(), None);
    assert_eq!(map.insert("", "").unwrap(), None);
    assert_eq!(map.get("").unwrap().as_deref(), Some(""));
    assert_eq!(map.insert("", "x").unwrap().as_deref(), Some(""));
    assert_eq!(map.compare_exchange("", "x", "").unwrap(), Ok(()));
    assert_eq!(map.keys().collect::<Result<Vec<_>, _>>().unwrap(), [""]);
    assert!(!map.contains_key("\0").unwrap());
    assert_eq!(map.remove("").unwrap().as_deref(), Some(""));

    let map = map_of::<[u8], [u8]>(2);
    map.insert(b"", b"").unwrap();
    map.insert(b"\0", b"\0").unwrap();
    assert_eq!(map.get(b"").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(map.get(b"\0").unwrap().as_deref(), Some(&b"\0"[..]));
    assert_eq!(map.check(), NONE);

    // Limits of nothing.
    let map = SharedHashMap::<str, str>::options()
        .capacity(1)
        .key_bytes(0)
        .value_bytes(0)
        .anonymous()
        .unwrap();
    map.insert("", "").unwrap();
    assert_eq!(map.get("").unwrap().as_deref(), Some(""));
    assert_eq!(map.get("x").unwrap(), None);
    assert!(matches!(
        map.set("x", ""),
        Err(WriteError::KeyTooLong { bytes: 1, limit: 0 })
    ));
    assert!(matches!(
        map.set("", "x"),
        Err(WriteError::ValueTooLong { bytes: 1, limit: 0 })
    ));
    assert_eq!(map.check(), NONE);
}

/// Exactly the limit fits; one byte more is an error of its own, and changes nothing.
#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    for (most_key, most_value) in [(1, 1), (7, 9), (8, 8), (20, 30), (256, 1024)] {
        let map = SharedHashMap::<str, [u8]>::options()
            .capacity(3)
            .key_bytes(most_key)
            .value_bytes(most_value)
            .anonymous()
            .unwrap();
        let (most_key, most_value) = (most_key as usize, most_value as usize);
        assert_eq!((map.key_bytes(), map.value_bytes()), (most_key, most_value));
        let (key, long_key) = ("k".repeat(most_key), "k".repeat(most_key + 1));
        let (value, long) = (vec![7; most_value], vec![7; most_value + 1]);
        assert_eq!(map.insert(&key, &value).unwrap(), None);
        assert_eq!(map.get(&key).unwrap().as_ref(), Some(&value));

        // As a key that is not there, where that is all there is to say.
        assert_eq!(map.get(&long_key).unwrap(), None);
        assert!(!map.get_into(&long_key, &mut Vec::new()).unwrap());
        assert!(!map.contains_key(&long_key).unwrap());
        assert_eq!(map.remove(&long_key).unwrap(), None);
        assert_eq!(map.remove_if(&long_key, |_| unreachable!()).unwrap(), None);
        let key_errors = [
            map.insert(&long_key, b"").map(|_| ()),
            map.set(&long_key, b""),
            map.try_insert(&long_key, b"").map(|_| ()),
            map.get_or_insert_with(&long_key, || unreachable!())
                .map(|_| ()),
            map.compare_exchange(&long_key, b"", b"").map(|_| ()),
            map.update(&long_key, |_| unreachable!()).map(|_| ()),
            map.fetch_update(&long_key, |_| unreachable!()).map(|_| ()),
            map.entry(&long_key).map(|_| ()),
        ];
        for (n, error) in key_errors.into_iter().enumerate() {
            let Err(WriteError::KeyTooLong { bytes, limit }) = error else {
                panic!("operation {n}: {error:?}");
            };
            assert_eq!((bytes, limit), (most_key + 1, most_key));
        }
        let there = |key: &str| match map.entry(key).unwrap() {
            Entry::Occupied(mut entry) => entry.replace(&long),
            Entry::Vacant(entry) => entry.insert(&long),
        };
        let from_entry = |error: EntryError| match error {
            EntryError::Write(error) => error,
            error => panic!("{error}"),
        };
        for key in [key.as_str(), ""] {
            let mut errors = vec![
                map.insert(key, &long).map(|_| ()),
                map.set(key, &long),
                map.try_insert(key, &long).map(|_| ()),
                map.compare_exchange(key, &value, &long).map(|_| ()),
                map.update(key, |_| long.clone()).map(|_| ()),
                there(key).map_err(from_entry),
            ];
            if key.is_empty() {
                errors.push(map.get_or_insert_with(key, || long.clone()).map(|_| ()));
            } else {
                let update = |_: &[u8]| Some(long.clone());
                errors.push(map.fetch_update(key, update).map(|_| ()));
            }
            for (n, error) in errors.into_iter().enumerate() {
                let Err(WriteError::ValueTooLong { bytes, limit }) = error else {
                    panic!("operation {n}: {error:?}");
                };
                assert_eq!((bytes, limit), (most_value + 1, most_value));
            }
        }
        assert_eq!((map.len(), map.get(&key).unwrap()), (1, Some(value)));
        assert_eq!(map.check(), NONE);
    }
    // The longest keys that there are.
    let map = SharedHashMap::<[u8], ()>::options()
        .capacity(2)
        .key_bytes(65_535)
        .anonymous()
        .unwrap();
    let mut key = vec![1; 65_535];
    map.insert(&key, &()).unwrap();
    assert!(map.contains_key(&key).unwrap());
    key[65_534] = 2;
    assert!(!map.contains_key(&key).unwrap());
    key.push(0);
    assert!(matches!(
        map.set(&key, &()),
        Err(WriteError::KeyTooLong { .. })
    ));
    assert_eq!(map.check(), NONE);
}

#[test]
fn reading_into_a_buffer_uses_its_memory() {
    let map = map_of::<u64, [u8]>(4);
    map.insert(&1, b"twenty bytes, no mo").unwrap();
    map.insert(&2, b"").unwrap();
    let mut buffer = Vec::with_capacity(100);
    buffer.extend_from_slice(b"what was there before");
    let memory = buffer.as_ptr();
    assert!(map.get_into(&1, &mut buffer).unwrap());
    assert_eq!(buffer, b"twenty bytes, no mo");
    assert!(map.get_into(&2, &mut buffer).unwrap());
    assert_eq!(buffer, b"");
    assert_eq!((buffer.as_ptr(), buffer.capacity()), (memory, 100));

    let map = map_of::<u64, str>(4);
    map.insert(&1, "äöü").unwrap();
    let mut text = String::with_capacity(50);
    let memory = text.as_ptr();
    assert!(map.get_into(&1, &mut text).unwrap());
    assert_eq!((text.as_str(), text.as_ptr()), ("äöü", memory));
    let mut number = 5;
    let numbers = map_of::<u64, u64>(1);
    assert!(!numbers.get_into(&1, &mut number).unwrap());
    numbers.insert(&1, &8).unwrap();
    assert!(numbers.get_into(&1, &mut number).unwrap());
    assert_eq!(number, 8);
}

macro_rules! arithmetic {
    ($($type:ident)+) => {
        $(
            let map = map_of::<str, $type>(4);
            let (least, most) = ($type::MIN, $type::MAX);
            let key = stringify!($type);
            // What is not there is 0, and is there afterwards.
            assert_eq!(map.fetch_add(key, 3).unwrap(), 0);
            assert_eq!(map.fetch_add(key, most).unwrap(), 3);
            assert_eq!(map.get(key).unwrap(), Some(most.wrapping_add(3)));
            map.set(key, &least).unwrap();
            assert_eq!(map.fetch_sub(key, 1).unwrap(), least);
            assert_eq!(map.fetch_add(key, 1).unwrap(), most);
            assert_eq!(map.fetch_sub(key, 5).unwrap(), least);
            assert_eq!(map.fetch_max(key, 7).unwrap(), least.wrapping_sub(5));
            map.set(key, &0b1100).unwrap();
            assert_eq!(map.fetch_and(key, 0b0110).unwrap(), 0b1100);
            assert_eq!(map.fetch_or(key, 0b0011).unwrap(), 0b0100);
            assert_eq!(map.fetch_xor(key, 0b0101).unwrap(), 0b0111);
            assert_eq!(map.fetch_min(key, 1).unwrap(), 0b0010);
            assert_eq!(map.fetch_min(key, 2).unwrap(), 1);
            assert_eq!(map.fetch_max(key, 0).unwrap(), 1);
            assert_eq!(map.fetch_max(key, most).unwrap(), 1);
            assert_eq!(map.fetch_min(key, least).unwrap(), most);
            assert_eq!(map.get(key).unwrap(), Some(least));
            for (n, fresh) in ["and", "or", "xor"].into_iter().enumerate() {
                assert_eq!(map.remove(if n == 0 { key } else { "gone" }).unwrap().is_some(), n == 0);
                map.remove("and").unwrap();
                map.remove("or").unwrap();
                assert_eq!(match fresh {
                    "and" => map.fetch_and(fresh, 5),
                    "or" => map.fetch_or(fresh, 5),
                    _ => map.fetch_xor(fresh, 5),
                }.unwrap(), 0);
                assert_eq!(map.get(fresh).unwrap(), Some(if n == 0 { 0 } else { 5 }));
            }
            assert_eq!(map.check(), NONE);
        )+
    };
}

#[test]
fn integers_of_every_width_wrap_around() {
    arithmetic!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);
    let map = map_of::<u64, i16>(4);
    assert_eq!(map.fetch_sub(&1, 5).unwrap(), 0);
    assert_eq!(map.fetch_min(&1, -9).unwrap(), -5);
    assert_eq!(map.fetch_max(&1, -3).unwrap(), -9);
    assert_eq!(map.get(&1).unwrap(), Some(-3));
    assert_eq!(map.fetch_max(&2, -3).unwrap(), 0, "what is not there is 0");
    assert_eq!(map.get(&2).unwrap(), Some(0));
    let full = map_of::<u64, u8>(1);
    full.set(&1, &1).unwrap();
    assert!(matches!(
        full.fetch_add(&2, 1),
        Err(WriteError::Full { capacity: 1 })
    ));
    assert_eq!(full.fetch_add(&1, 255).unwrap(), 1);
    assert_eq!(full.get(&1).unwrap(), Some(0));
}

/// What others wrote and this type cannot be: told, and repaired by what needs not read it.
#[test]
fn bytes_that_cannot_be_decoded_are_a_typed_error() {
    let name = Name::new("map-undecodable");
    let map = SharedHashMap::<str, str>::create(&name, 10).unwrap();
    let liar = SharedHashMap::<Lie, Lie>::open(&name).unwrap();
    liar.insert(b"key", b"\xFF").unwrap();
    liar.insert(b"\xFE", b"value").unwrap();
    map.insert("fine", "too").unwrap();
    assert_eq!(
        liar.get(b"fine").unwrap().as_deref().map(|v| &v[..3]),
        Some(&b"too"[..])
    );

    let error = map.get("key").unwrap_err();
    assert!(matches!(error, ReadError::Decode { .. }), "{error}");
    assert!(
        error.to_string().contains("a schema id keeps those apart"),
        "{error}"
    );
    assert!(matches!(
        map.get_into("key", &mut String::new()),
        Err(ReadError::Decode { .. })
    ));
    assert!(map.contains_key("key").unwrap());
    assert_eq!(map.iter().filter(Result::is_err).count(), 2);
    assert_eq!(map.keys().filter(Result::is_err).count(), 1);
    assert_eq!(map.values().filter(Result::is_err).count(), 1);
    let errors = [
        map.insert("key", "x").map(|_| ()),
        map.remove("key").map(|_| ()),
        map.update("key", |_| unreachable!()).map(|_| ()),
        map.fetch_update("key", |_| unreachable!()).map(|_| ()),
        map.compare_exchange("key", "x", "y").map(|_| ()),
        map.get_or_insert_with("key", || unreachable!()).map(|_| ()),
        map.entry("key").map(|_| ()),
        map.retain(|_, _| true),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        assert!(
            matches!(error, Err(WriteError::Decode { .. })),
            "operation {n}"
        );
    }
    assert!(!map.try_insert("key", "x").unwrap());
    map.set("key", "again").unwrap();
    assert_eq!(map.get("key").unwrap().as_deref(), Some("again"));
    assert_eq!((map.len(), map.check()), (3, NONE));

    // And what cannot be encoded.
    assert!(matches!(
        liar.get(UNSPEAKABLE),
        Err(ReadError::Encode { .. })
    ));
    assert!(matches!(
        liar.contains_key(UNSPEAKABLE),
        Err(ReadError::Encode { .. })
    ));
    let encode = |error: WriteError| match error {
        WriteError::Encode { what, .. } => what,
        error => panic!("{error}"),
    };
    assert_eq!(encode(liar.set(UNSPEAKABLE, b"").unwrap_err()), "key");
    assert_eq!(encode(liar.entry(UNSPEAKABLE).unwrap_err()), "key");
    for key in [&b"fine"[..], b"other"] {
        assert_eq!(encode(liar.set(key, UNSPEAKABLE).unwrap_err()), "value");
    }
    let unspeakable = |_| UNSPEAKABLE.to_vec();
    assert_eq!(
        encode(liar.update(b"fine", unspeakable).unwrap_err()),
        "value"
    );
    let current = liar.compare_exchange(b"fine", UNSPEAKABLE, b"");
    assert_eq!(encode(current.unwrap_err()), "value");
    assert_eq!((map.len(), map.check()), (3, NONE));
    map.clear().unwrap();
    assert!(map.is_empty(), "keys that are no text as well");
}

#[cfg(feature = "serde")]
#[test]
fn serde_types_are_keys_and_values() {
    use std::collections::HashMap;

    use crate::samples::Mixed;
    use forkmap::Serde;

    let map = SharedHashMap::<str, Serde<Mixed>>::anonymous(10).unwrap();
    let values = [
        ("none", Mixed::None),
        ("int", Mixed::Int(-5)),
        ("text", Mixed::Text("ä".into())),
        ("bytes", Mixed::Bytes(vec![0, 255])),
        ("pair", Mixed::Pair(Box::new(Mixed::None), true)),
    ];
    for (key, value) in &values {
        assert_eq!(map.insert(key, value).unwrap(), None);
    }
    let all: HashMap<_, _> = map.iter().map(Result::unwrap).collect();
    assert!(values.iter().all(|(key, value)| &all[*key] == value));
    let done = map.compare_exchange("int", &Mixed::Int(-5), &Mixed::None);
    assert_eq!(done.unwrap(), Ok(()));
    let long = Mixed::Text("x".repeat(2000));
    let error = map.set("int", &long).unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::ValueTooLong {
                bytes: 2003,
                limit: 1024
            }
        ),
        "{error}"
    );

    let map = SharedHashMap::<Serde<(u32, String)>, u64>::anonymous(10).unwrap();
    assert_eq!(map.fetch_add(&(1, "a".into()), 5).unwrap(), 0);
    assert_eq!(map.get(&(1, "a".into())).unwrap(), Some(5));
    assert_eq!(map.get(&(1, "b".into())).unwrap(), None);
    let keys: Vec<_> = map.keys().map(Result::unwrap).collect();
    assert_eq!(keys, [(1, "a".to_owned())]);

    // Bytes that are none of the type.
    let name = Name::new("map-serde");
    let texts = SharedHashMap::<str, Serde<String>>::create(&name, 4).unwrap();
    texts.insert("a", &"\u{7F}".repeat(30)).unwrap();
    let mixed = SharedHashMap::<str, Serde<Mixed>>::open(&name).unwrap();
    assert!(matches!(mixed.get("a"), Err(ReadError::Decode { .. })));
}
