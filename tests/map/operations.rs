//! Operation by operation, with what each does at the edges of its arguments.

use std::cell::Cell;
#[cfg(feature = "serde")]
use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forkmap::entry::{Entry, EntryError};
use forkmap::{ParticipantError, ReadError, SharedHashMap, WriteError};

use crate::common::Name;
use crate::samples::{Lie, Odd, UNSPEAKABLE, map_of};

const NONE: Vec<String> = Vec::new();

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

/// Nobody interferes, so there is nothing to call them again for.
#[test]
fn closures_are_called_once() {
    let map = map_of::<u64, u64>(4);
    let calls = Cell::new(0);
    let call = |n: u64| {
        calls.set(calls.get() + 1);
        n
    };
    map.get_or_insert_with(&1, || call(1)).unwrap();
    map.get_or_insert_with(&1, || call(2)).unwrap();
    assert_eq!(calls.take(), 1);
    map.update(&1, |_| call(3)).unwrap();
    map.update(&2, |_| call(4)).unwrap();
    assert_eq!(calls.take(), 2);
    map.fetch_update(&2, |_| Some(call(5))).unwrap().unwrap();
    map.fetch_update(&3, |_| Some(call(5)))
        .unwrap()
        .unwrap_err();
    assert_eq!(calls.take(), 1);
    map.remove_if(&2, |&n| call(n) == 5).unwrap();
    assert_eq!(calls.take(), 1);
    map.retain(|_, &n| call(n) == 0).unwrap();
    assert_eq!((calls.take(), map.len()), (1, 0));
}

/// FP24.
#[test]
fn a_panic_in_a_closure_changes_nothing() {
    let map = map_of::<str, str>(2);
    map.insert("a", "1").unwrap();
    let panics = |call: &dyn Fn()| {
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        assert_eq!((map.len(), map.check()), (1, NONE));
        assert_eq!(map.get("a").unwrap().as_deref(), Some("1"));
    };
    for key in ["a", "b"] {
        panics(&|| drop(map.update(key, |_| panic!("in the closure"))));
    }
    panics(&|| drop(map.get_or_insert_with("b", || panic!("in the closure"))));
    panics(&|| drop(map.fetch_update("a", |_| panic!("in the closure"))));
    panics(&|| drop(map.remove_if("a", |_| panic!("in the closure"))));
    panics(&|| drop(map.retain(|_, _| panic!("in the closure"))));
    assert!(map.try_insert("b", "2").unwrap());
}

/// Closures may use the map; what they do to their own key has happened when it is their turn.
#[test]
fn closures_may_change_the_map() {
    let map = map_of::<u64, u64>(8);
    map.insert(&1, &10).unwrap();
    let mut calls = 0;
    let new = map.update(&1, |old| {
        calls += 1;
        if calls == 1 {
            map.insert(&1, &20).unwrap();
            map.insert(&2, &1).unwrap();
        }
        old.unwrap() + 1
    });
    assert_eq!(
        (new.unwrap(), calls),
        (21, 2),
        "called again with the new value"
    );
    let got = map.get_or_insert_with(&3, || {
        map.insert(&3, &30).unwrap();
        31
    });
    assert_eq!(got.unwrap(), 30, "somebody else was faster");
    let removed = map.remove_if(&3, |_| {
        map.remove(&3).unwrap();
        true
    });
    assert_eq!(removed.unwrap(), None);
    let mut calls = 0;
    let fetched = map.fetch_update(&2, |&old| {
        calls += 1;
        if calls == 1 {
            map.remove(&2).unwrap();
            map.insert(&2, &5).unwrap();
        }
        Some(old * 2)
    });
    assert_eq!((fetched.unwrap(), calls), (Ok(5), 2));
    map.retain(|&key, _| {
        let _ = map.remove(&(key ^ 3));
        map.insert(&100, &1).unwrap();
        true
    })
    .unwrap();
    assert_eq!(map.check(), NONE);
}

#[test]
fn an_entry_does_what_it_does_only_if_nobody_was_there() {
    let map = map_of::<str, str>(3);
    let occupied = |key: &str| match map.entry(key).unwrap() {
        Entry::Occupied(entry) => entry,
        entry => panic!("{entry:?}"),
    };
    let vacant = |key: &str| match map.entry(key).unwrap() {
        Entry::Vacant(entry) => entry,
        entry => panic!("{entry:?}"),
    };
    vacant("a").insert("1").unwrap();
    let (late, removed) = (vacant("b"), vacant("c"));
    map.insert("b", "2").unwrap();
    assert!(matches!(late.insert("3"), Err(EntryError::Changed)));
    // Came and went: it is not there, and that is what counts.
    map.insert("c", "x").unwrap();
    map.remove("c").unwrap();
    removed.insert("4").unwrap();

    // After its own change it goes on.
    let mut entry = occupied("a");
    entry.replace("5").unwrap();
    entry.replace("6").unwrap();
    assert_eq!(entry.get(), "6");
    assert_eq!(entry.remove().unwrap(), "6");
    assert_eq!(map.get("a").unwrap(), None);

    // Every way in which others change it.
    let changes: [(&str, &dyn Fn()); 4] = [
        ("by set", &|| map.set("b", "7").unwrap()),
        ("to the same", &|| map.set("b", "7").unwrap()),
        ("by two", &|| {
            map.set("b", "8").unwrap();
            map.set("b", "7").unwrap();
        }),
        ("anew", &|| {
            map.remove("b").unwrap();
            map.insert("b", "7").unwrap();
        }),
    ];
    for (how, change) in changes {
        let (mut replaced, removed) = (occupied("b"), occupied("b"));
        change();
        assert!(
            matches!(replaced.replace("9"), Err(EntryError::Changed)),
            "{how}"
        );
        assert!(
            matches!(removed.remove(), Err(EntryError::Changed)),
            "{how}"
        );
        assert_eq!(map.get("b").unwrap().as_deref(), Some("7"), "{how}");
        assert!(
            matches!(replaced.replace("9"), Err(EntryError::Changed)),
            "still"
        );
    }
    let (mut replaced, removed) = (occupied("b"), occupied("b"));
    map.remove("b").unwrap();
    assert!(matches!(replaced.replace("9"), Err(EntryError::Changed)));
    assert!(matches!(removed.remove(), Err(EntryError::Changed)));
    // Two entries of one key: the first one wins.
    let (mut first, second) = (occupied("c"), occupied("c"));
    first.replace("10").unwrap();
    assert!(matches!(second.remove(), Err(EntryError::Changed)));
    assert_eq!(first.into_value(), "10");
    assert_eq!((map.len(), map.check()), (1, NONE));

    let error = EntryError::Changed.to_string();
    assert!(error.contains("; make the entry anew"), "{error}");
    let debug = format!(
        "{:?} {:?}",
        map.entry("c").unwrap(),
        map.entry("x").unwrap()
    );
    assert!(!debug.contains("10"), "no data: {debug}");
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

#[test]
fn no_addition_is_lost_between_threads() {
    let map = SharedHashMap::<str, u16>::anonymous(4).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    map.fetch_add("a", 1).unwrap();
                    map.update("b", |old| old.unwrap_or(0).wrapping_add(1))
                        .unwrap();
                    while map
                        .fetch_update("c", |old| Some(old.wrapping_add(1)))
                        .unwrap()
                        .is_err()
                    {
                        map.try_insert("c", &0).unwrap();
                    }
                }
            });
        }
    });
    let all = ["a", "b", "c"].map(|key| map.get(key).unwrap().unwrap());
    assert_eq!(all, [80_000_u32 as u16; 3]);
    assert_eq!(map.check(), NONE);
}

/// Whole values of odd sizes, read while they are replaced, removed and inserted.
#[test]
fn values_are_never_torn() {
    let map = SharedHashMap::<u64, [u8; 100]>::anonymous(2).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100_000_u32 {
                map.set(&1, &[n as u8; 100]).unwrap();
                if n % 64 == 0 {
                    map.remove(&1).unwrap();
                }
            }
            // Relaxed: it ends the loops, and nothing else.
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let values = map.values().map(Result::unwrap).chain(map.get(&1).unwrap());
                for value in values {
                    assert!(value.iter().all(|&byte| byte == value[0]), "torn");
                }
            }
        });
    });
    assert_eq!(map.check(), NONE);
}

/// Racing inserters of the same keys: each key once, and one of them has inserted it. (There is room for
/// the cells that those have in hand who come too late.)
#[test]
fn threads_that_insert_the_same_keys_make_no_duplicates() {
    let map = SharedHashMap::<str, u32>::anonymous(5010).unwrap();
    let start = Barrier::new(4);
    let inserted: usize = thread::scope(|scope| {
        let inserter = |t: usize| {
            let (map, start) = (&map, &start);
            scope.spawn(move || {
                start.wait();
                let keys = (0..5000).map(|i| ((i + t * 10) % 5000).to_string());
                keys.filter(|key| match t % 2 {
                    0 => map.try_insert(key, &1).unwrap(),
                    _ => map.insert(key, &2).unwrap().is_none(),
                })
                .count()
            })
        };
        let threads: Vec<_> = (0..4).map(inserter).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((inserted, map.len()), (5000, 5000));
    assert_eq!(map.check(), NONE);
}

/// FA7: weakly consistent. The keys that stay are seen exactly once, while their values change and others
/// come and go.
#[test]
fn iteration_sees_each_lasting_key_once_while_others_change_the_map() {
    let map = SharedHashMap::<u64, [u64; 2]>::anonymous(1500).unwrap();
    for key in 0..500 {
        map.insert(&key, &[key, 0]).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                let key = n % 500;
                map.set(&key, &[key, n]).unwrap();
                map.set(&(500 + n % 997), &[500 + n % 997, n]).unwrap();
                map.remove(&(500 + n * 7 % 997)).unwrap();
            }
        });
        for _ in 0..200 {
            let mut seen = HashSet::new();
            for entry in &map {
                let (key, value) = entry.unwrap();
                assert_eq!(value[0], key, "a value of another key");
                assert!(seen.insert(key) || key >= 500, "{key} twice");
            }
            assert!((0..500).all(|key| seen.contains(&key)));
            let mut keys: Vec<u64> = map.keys().map(Result::unwrap).collect();
            keys.retain(|&key| key < 500);
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..500));
            let values = map
                .values()
                .filter(|value| value.as_ref().unwrap()[0] < 500);
            assert_eq!(values.count(), 500);
            assert!((500..=1500).contains(&map.len()));
        }
        // Relaxed, here and above: it ends the loop, and nothing else.
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(map.check(), NONE);
    let mut keys = map.keys();
    let count = keys.by_ref().count();
    assert!(
        count == map.len() && keys.next().is_none(),
        "it stays at the end"
    );
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

/// Each thread that changes the map is a writer, until it ends.
#[test]
fn one_writer_too_many_is_a_typed_error() {
    let map = SharedHashMap::<u64, u64>::options()
        .capacity(10)
        .participants(2)
        .anonymous()
        .unwrap();
    assert_eq!(map.stats().unwrap().writer_limit, 2);
    map.insert(&1, &1).unwrap();
    let (entered, leave) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            map.insert(&2, &2).unwrap();
            entered.wait();
            leave.wait();
        });
        entered.wait();
        assert_eq!(map.stats().unwrap().writers, 2);
        scope
            .spawn(|| {
                let error = map.insert(&3, &3).unwrap_err();
                let too_many = ParticipantError::TooMany { limit: 2 };
                assert_eq!(error.to_string(), too_many.to_string());
                assert!(matches!(
                    error,
                    WriteError::Writer(ParticipantError::TooMany { .. })
                ));
                assert!(matches!(map.clear(), Err(WriteError::Writer(_))));
                assert_eq!(map.get(&2).unwrap(), Some(2), "reading needs no writer");
                assert_eq!(map.len(), 2);
            })
            .join()
            .unwrap();
        map.insert(&1, &5).unwrap();
        leave.wait();
    });
    // Its place is free again. (A thread's memory goes a moment after `join` has returned in a scope.)
    for round in 0..20 {
        let map = map.clone();
        thread::spawn(move || map.insert(&3, &round).unwrap())
            .join()
            .unwrap();
    }
    assert_eq!(map.get(&3).unwrap(), Some(19));
    assert_eq!((map.recover().unwrap(), map.check()), (0, NONE));
    let stats = map.stats().unwrap();
    assert_eq!((stats.writers, stats.dead_writers), (2, 0));
}

/// A thread is another writer in each map, and in each attachment of one.
#[test]
fn many_maps_in_one_thread_do_not_mix_their_writers() {
    let name = Name::new("map-many");
    let maps: Vec<_> = (0..5).map(|_| map_of::<u64, u64>(50)).collect();
    let first = SharedHashMap::<u64, u64>::options()
        .capacity(50)
        .participants(4)
        .create(&name)
        .unwrap();
    let again = SharedHashMap::<u64, u64>::open(&name).unwrap();
    for n in 0..500 {
        maps[n as usize % 5].insert(&(n % 40), &n).unwrap();
        [&first, &again][n as usize % 2]
            .insert(&(n % 50), &n)
            .unwrap();
    }
    assert_eq!((first.len(), again.len()), (50, 50));
    assert_eq!(first.stats().unwrap().writers, 2);
    assert!(maps.iter().all(|map| map.check().is_empty()));
    drop(again);
    assert_eq!(
        first.stats().unwrap().writers,
        1,
        "a dropped attachment writes no more"
    );
    // So its place can be had again and again.
    for n in 0..20 {
        let again = SharedHashMap::<u64, u64>::open(&name).unwrap();
        again.insert(&1, &n).unwrap();
    }
    assert_eq!((first.get(&1).unwrap(), first.check()), (Some(19), NONE));
}

#[test]
fn handles_tell_of_their_attachment_as_those_of_a_dict_do() {
    let name = Name::new("map-handle");
    let map = SharedHashMap::<str, u64>::create(&name, 7).unwrap();
    let again = SharedHashMap::<str, u64>::open(&name).unwrap();
    assert_eq!((map.name(), map.path()), (Some(&*name), Some(name.path())));
    assert_eq!(map.instance_id(), again.instance_id());
    assert_eq!(map.capacity(), 7);
    assert!(map.is_current() && !map.is_read_only());
    map.insert("a", &1).unwrap();
    assert_eq!(again.get("a").unwrap(), Some(1));
    assert_eq!(again.fetch_add("a", 1).unwrap(), 1);

    let fd = map.as_fd().try_clone_to_owned().unwrap();
    let by_fd = SharedHashMap::<str, u64>::options().from_fd(fd).unwrap();
    assert_eq!((by_fd.name(), by_fd.path()), (None, None));
    assert_eq!(by_fd.instance_id(), map.instance_id());
    by_fd.insert("b", &2).unwrap();
    assert_eq!(map.len(), 2);
    let participants = map.participants().unwrap();
    assert_eq!(participants.len(), 3);
    assert!(
        participants
            .iter()
            .all(|p| p.is_alive && p.pid == std::process::id())
    );

    let replaced = SharedHashMap::<str, u64>::options()
        .capacity(3)
        .create_or_replace(&name)
        .unwrap();
    assert!(replaced.is_current() && !map.is_current());
    assert_ne!(replaced.instance_id(), map.instance_id());
    assert_eq!(
        (replaced.len(), map.len()),
        (0, 2),
        "who is attached goes on"
    );
    let opened = SharedHashMap::<str, u64>::open_or_create(&name, 3).unwrap();
    assert_eq!(opened.instance_id(), replaced.instance_id());
    SharedHashMap::<str, u64>::unlink(&name).unwrap();
    assert!(!replaced.is_current() && !name.exists());
    replaced.close().unwrap();

    let mut options = SharedHashMap::<str, u64>::options();
    options.unlink_on_drop(true);
    let unique = options.create_unique().unwrap();
    let path = unique.path().unwrap();
    let clone = unique.clone();
    unique.close().unwrap();
    assert!(path.exists(), "a clone shares the attachment");
    clone.insert("a", &1).unwrap();
    clone.close().unwrap();
    assert!(!path.exists());
    assert_eq!(
        SharedHashMap::<str, u64>::anonymous(1).unwrap().name(),
        None
    );
}

#[test]
fn handles_go_between_threads_and_print_no_data() {
    fn send_sync<T: Send + Sync + Clone>() {}
    send_sync::<SharedHashMap<str, [u8]>>();
    send_sync::<SharedHashMap<Odd, ()>>();
    let map = SharedHashMap::<u64, u64>::anonymous(8).unwrap();
    map.insert(&77_777, &88_888).unwrap();
    let texts = [
        format!("{map:?}"),
        format!("{:?} {:?} {:?}", map.iter(), map.keys(), map.values()),
        format!("{:?}", map.entry(&77_777).unwrap()),
    ];
    assert!(texts[0].contains("capacity: 8"), "{texts:?}");
    for text in texts {
        assert!(!text.contains("77777") && !text.contains("88888"), "{text}");
    }
}

#[test]
fn stats_tell_what_is_there() {
    let map = SharedHashMap::<u64, u64>::options()
        .capacity(1000)
        .participants(10)
        .anonymous()
        .unwrap();
    let empty = map.stats().unwrap();
    assert_eq!((empty.len, empty.free, empty.capacity), (0, 1000, 1000));
    assert_eq!((empty.hit_lines, empty.hit_lines_p99), (0.0, 0));
    assert_eq!((empty.miss_lines, empty.miss_lines_max), (1.0, 1));
    assert_eq!(
        (empty.writers, empty.dead_writers, empty.writer_limit),
        (0, 0, 10)
    );
    for key in 0..1000 {
        map.insert(&key, &key).unwrap();
    }
    let full = map.stats().unwrap();
    assert_eq!((full.len, full.free, full.writers), (1000, 0, 1));
    assert!(full.hit_lines >= 1.0 && full.hit_lines < 2.0, "{full:?}");
    assert!(full.miss_lines >= full.hit_lines_p99 as f64 / 8.0);
    assert!(full.miss_lines_p99 <= full.miss_lines_max, "{full:?}");
    map.clear().unwrap();
    let cleared = map.stats().unwrap();
    assert_eq!(
        (cleared.len, cleared.free, cleared.miss_lines),
        (0, 1000, 1.0)
    );
}

#[cfg(feature = "serde")]
#[test]
fn serde_types_are_keys_and_values() {
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

/// A thread-local that is dropped after the map's own, because it was there before.
#[test]
fn what_is_dropped_as_the_thread_ends_may_change_the_map() {
    struct AtExit(SharedHashMap<u64, u64>);

    impl Drop for AtExit {
        fn drop(&mut self) {
            for key in 0..20 {
                self.0.fetch_add(&key, 1).unwrap();
            }
        }
    }

    thread_local! {
        static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) };
    }

    let mut options = SharedHashMap::<u64, u64>::options();
    let map = options.capacity(20).participants(2).anonymous().unwrap();
    for _ in 0..5 {
        let map = map.clone();
        let thread = std::thread::spawn(move || {
            AT_EXIT.with(|at_exit| *at_exit.borrow_mut() = Some(AtExit(map.clone())));
            map.fetch_add(&0, 1).unwrap();
        });
        thread.join().unwrap();
    }
    assert_eq!(
        (map.get(&0).unwrap(), map.get(&19).unwrap()),
        (Some(10), Some(5))
    );
    assert_eq!(map.participants().unwrap().len(), 1);
    assert!(map.check().is_empty());
}
