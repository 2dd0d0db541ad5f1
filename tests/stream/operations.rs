//! Operation by operation, with what each does at the edges of its arguments.

use std::collections::HashMap;
use std::fmt::Debug;

use forkmap::{Position, Stored, StreamDict, StreamError};

use crate::samples::{Json, Odd, Place, bytes, entries, json, texts};

#[test]
fn every_operation_tells_what_was_there() {
    let place = Place::new();
    let dict = place.dict::<str, str>(1 << 16);
    assert!(dict.is_empty().unwrap());
    assert_eq!(dict.get("a").unwrap(), None);
    assert_eq!(dict.insert("a", "1").unwrap(), None);
    assert_eq!(dict.insert("a", "2").unwrap().as_deref(), Some("1"));
    dict.set("a", "3").unwrap();
    dict.set("b", "4").unwrap();
    assert_eq!((dict.len().unwrap(), dict.is_empty().unwrap()), (2, false));
    assert!(dict.contains_key("a").unwrap() && !dict.contains_key("c").unwrap());
    let made = dict.get_or_insert_with("c", || "5".to_owned()).unwrap();
    assert_eq!(made, "5");
    let found = dict.get_or_insert_with("c", || -> String { unreachable!() });
    assert_eq!(found.unwrap(), "5");
    let previous = dict.fetch_update("a", |old| old.map(|old| old.clone() + "!"));
    assert_eq!(previous.unwrap().as_deref(), Some("3"));
    let previous = dict.fetch_update("d", |old| old.is_none().then(|| "6".to_owned()));
    assert_eq!(previous.unwrap(), None);
    let previous = dict.fetch_update("b", |_| None::<String>).unwrap();
    assert_eq!(previous.as_deref(), Some("4"));
    assert_eq!(texts(&dict), "a=3! c=5 d=6");
    assert_eq!(dict.remove("c").unwrap().as_deref(), Some("5"));
    assert_eq!(dict.remove("c").unwrap(), None);
    assert_eq!(texts(&dict), "a=3! d=6");
    dict.clear().unwrap();
    assert_eq!((dict.len().unwrap(), dict.get("a").unwrap()), (0, None));
    dict.clear().unwrap();
    dict.set("a", "").unwrap();
    assert_eq!(texts(&dict), "a=");
}

#[test]
fn a_value_is_exchanged_only_for_what_is_there() {
    let place = Place::new();
    let dict = place.dict::<str, str>(256);
    let exchange = |expected, new| {
        let before = dict.position().unwrap();
        let exchanged = dict.compare_exchange("a", expected, new).unwrap();
        (exchanged, dict.is_at(before).unwrap())
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(exchange(Some("1"), Some("2")), (Err(None), true));
    assert_eq!(exchange(None, None), (Ok(None), true));
    assert_eq!(exchange(None, Some("1")), (Ok(None), false));
    assert_eq!(exchange(None, Some("2")), (Err(text("1")), true));
    assert_eq!(exchange(None, None), (Err(text("1")), true));
    assert_eq!(exchange(Some(""), None), (Err(text("1")), true));
    assert_eq!(exchange(Some("1\0"), None), (Err(text("1")), true));
    assert_eq!(exchange(Some("1"), Some("1")), (Ok(text("1")), false));
    assert_eq!(exchange(Some("1"), Some("")), (Ok(text("1")), false));
    assert_eq!(exchange(Some(""), None), (Ok(text("")), false));
    assert_eq!(exchange(Some(""), None), (Err(None), true));
    assert_eq!(texts(&dict), "");
}

#[test]
fn an_entry_does_all_that_is_said_of_it_at_once() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(128);
    let count = |word| dict.entry(word).unwrap().and_modify(|n| *n += 1);
    assert_eq!(count("a").or_insert(&1).unwrap(), 1);
    assert_eq!(count("a").or_insert(&1).unwrap(), 2);
    assert_eq!(count("b").or_nothing().unwrap(), None);
    assert_eq!(count("a").or_nothing().unwrap(), Some(3));
    assert_eq!(count("b").or_insert_with(|| 7).unwrap(), 7);
    assert_eq!(
        count("b").or_insert_with(|| -> u64 { panic!() }).unwrap(),
        8
    );
    let before = dict.position().unwrap();
    let entry = dict.entry("b").unwrap();
    assert_eq!(entry.or_insert_with(|| -> u64 { panic!() }).unwrap(), 8);
    assert!(dict.is_at(before).unwrap(), "it was only looked at");
    let twice = count("b").and_modify(|n| *n *= 10);
    assert_eq!(
        dict.get("b").unwrap(),
        Some(8),
        "nothing happens before the end"
    );
    assert_eq!(twice.or_insert(&0).unwrap(), 90);
    drop(count("b"));
    assert_eq!(entries(&dict), [("a".to_owned(), 3), ("b".to_owned(), 90)]);
}

/// Whatever it stores, in every state of the log, comes out again, in all attachments.
fn comes_out<K, V>(keys: &[&K::Item], values: &[&V::Item])
where
    K: Stored<Owned: Debug> + ?Sized,
    V: Stored<Owned: Debug + Clone> + ?Sized,
{
    for log_bytes in [0, 64, 1 << 16] {
        let place = Place::new();
        let dict = place.dict::<K, V>(log_bytes);
        let other = place.open::<K, V>();
        let out = |value: Option<V::Owned>| {
            value.map(|value| bytes::<V>(std::borrow::Borrow::borrow(&value)))
        };
        for value in values {
            for key in keys {
                dict.set(key, value).unwrap();
                for dict in [&dict, &other] {
                    assert_eq!(out(dict.get(key).unwrap()), Some(bytes::<V>(value)));
                }
            }
            dict.dump().unwrap();
            let opened = place.open::<K, V>();
            other.reload().unwrap();
            for dict in [&dict, &other, &opened] {
                assert_eq!(dict.len().unwrap(), keys.len());
                let found = keys.iter().map(|key| out(dict.get(key).unwrap()));
                let all = vec![Some(bytes::<V>(value)); keys.len()];
                assert_eq!(found.collect::<Vec<_>>(), all);
            }
        }
        for key in keys {
            assert!(dict.remove(key).unwrap().is_some());
        }
        assert!(other.is_empty().unwrap());
    }
}

#[test]
fn keys_and_values_of_every_kind_come_out_as_they_went_in() {
    let long = "long ".repeat(2000);
    let odd = [0, 1, u32::MAX].map(|worker| Odd {
        worker,
        tries: [worker as u16; 4],
    });
    let odd: Vec<&Odd> = odd.iter().collect();
    let maps = [
        json([]),
        json([("a", -1)]),
        json([("", 0), ("b", i64::MIN)]),
    ];
    let maps: Vec<_> = maps.iter().collect();
    let words = ["", "a", "\0", "ümläüt", "12345678", "123456789", &long];
    let blobs: Vec<&[u8]> = vec![b"", b"\0", b"\xFF\xFE", b"1234567", long.as_bytes()];
    comes_out::<str, str>(&words, &words);
    comes_out::<[u8], [u8]>(&blobs, &blobs);
    comes_out::<str, [u8]>(&words, &blobs);
    comes_out::<u64, u64>(&[&0, &1, &u64::MAX], &[&0, &u64::MAX]);
    comes_out::<Odd, Odd>(&odd, &odd);
    comes_out::<[u8; 3], ()>(&[&[0; 3], &[1; 3]], &[&()]);
    comes_out::<(), f64>(&[&()], &[&0.0, &-0.0, &f64::INFINITY]);
    comes_out::<u8, i128>(&[&0, &255], &[&0, &i128::MIN]);
    comes_out::<str, Json>(&words, &maps);
    comes_out::<Json, Odd>(&maps, &odd);
}

#[cfg(feature = "serde")]
#[test]
fn serde_types_come_out_as_they_went_in() {
    use forkmap::Serde;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Hash)]
    enum Mixed {
        None,
        Int(i64),
        Text(String),
        List(Vec<Mixed>),
    }

    let list = Mixed::List(vec![Mixed::None, Mixed::Text("t".into()), Mixed::Int(-1)]);
    let all = [&Mixed::None, &Mixed::Int(i64::MIN), &list];
    comes_out::<Serde<Mixed>, Serde<Mixed>>(&all, &all);
    comes_out::<str, Serde<(u8, Option<String>)>>(
        &["a", "b"],
        &[&(1, None), &(2, Some("x".into()))],
    );
    let place = Place::new();
    let dict = place.dict::<Serde<Mixed>, Serde<Mixed>>(0);
    dict.set(&list, &Mixed::None).unwrap();
    dict.set(&Mixed::None, &list).unwrap();
    let model: HashMap<_, _> = entries(&dict).into_iter().collect();
    assert_eq!(model[&Mixed::None], list);
    assert!(dict.view().unwrap() == model);
}

#[test]
fn a_change_that_is_longer_than_the_log_begins_a_longer_one() {
    let place = Place::new();
    let dict = place.dict::<str, [u8]>(1024);
    let other = place.open::<str, [u8]>();
    let start = dict.status().unwrap();
    assert_eq!((start.dumps, start.log_bytes, start.len), (0, 1024, 0));
    let value: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    dict.set("large", &value).unwrap();
    let status = dict.status().unwrap();
    assert_eq!((status.dumps, status.len), (1, 1));
    assert_eq!(
        status.position,
        Position {
            generation: 2,
            records: 1
        }
    );
    assert!(status.log_bytes >= 1_000_000 && status.log_used >= 1_000_000);
    assert!(status.memory >= 1_000_000);
    assert_eq!(other.get("large").unwrap(), Some(value));
    assert_eq!(
        other.status().unwrap().loads,
        1,
        "nobody reads a dump that has nothing new"
    );
    dict.set("small", b"").unwrap();
    dict.set("large", b"small").unwrap();
    dict.dump().unwrap();
    let status = dict.status().unwrap();
    assert_eq!(
        (status.log_bytes, status.log_used),
        (1024, 0),
        "it shrinks again"
    );
}

#[test]
fn a_view_equals_a_map_with_the_same_entries() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(100);
    let mut model: HashMap<String, u64> = HashMap::new();
    assert!(dict.view().unwrap() == model);
    for n in 0..50 {
        model.insert(format!("{}", n % 20), n);
        assert!(dict.view().unwrap() != model);
        dict.set(&format!("{}", n % 20), &n).unwrap();
        assert!(dict.view().unwrap() == model);
    }
    model.insert("more".into(), 0);
    assert!(dict.view().unwrap() != model, "one key less");
    dict.set("other", &0).unwrap();
    assert!(dict.view().unwrap() != model, "another key");
    model.remove("more");
    model.insert("other".into(), 1);
    assert!(dict.view().unwrap() != model, "another value");
}

#[test]
fn a_view_gives_keys_values_and_both_in_one_order() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(1 << 12);
    for (n, word) in (0..).zip(["z", "a", "m", "z"]) {
        dict.set(word, &n).unwrap();
    }
    let view = dict.view().unwrap();
    assert_eq!((view.len(), view.is_empty()), (3, false));
    assert_eq!(view.iter().count(), 3);
    let keys: Vec<_> = view.keys().map(Result::unwrap).collect();
    let values: Vec<_> = view.values().map(|value| *value.unwrap()).collect();
    let both = view.iter().map(|entry| entry.unwrap());
    let both: Vec<_> = both.map(|(key, value)| (key, *value)).collect();
    assert_eq!(
        (&keys[..], &values[..]),
        (&["z", "a", "m"].map(String::from)[..], &[3, 1, 2][..])
    );
    assert_eq!(both, keys.into_iter().zip(values).collect::<Vec<_>>());
    assert_eq!(view.get("a").unwrap(), Some(&1));
    assert!(view.contains_key("m").unwrap() && !view.contains_key("x").unwrap());
    assert!(view.is_at(view.position()));
}

#[test]
fn closing_gives_back_what_was_there_in_its_order() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(64);
    for (n, word) in (0..).zip(["z", "a", "m"]) {
        dict.set(word, &n).unwrap();
    }
    let expected = [("z", 0), ("a", 1), ("m", 2)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(dict.clone().close().unwrap(), expected);
    assert_eq!(place.open::<str, u64>().close().unwrap(), expected);
    assert_eq!(dict.close().unwrap(), expected);
    let unlinked = place
        .options::<str, u64>()
        .unlink_on_drop(true)
        .create("gone")
        .unwrap();
    unlinked.set("a", &1).unwrap();
    assert_eq!(unlinked.close().unwrap().len(), 1);
    assert_eq!(
        place.files().len(),
        2,
        "those of the first: {:?}",
        place.files()
    );
}

#[test]
fn handles_and_errors_can_be_shown() {
    let place = Place::new();
    let dict = place.dict::<str, u64>(64);
    dict.set("a", &1).unwrap();
    assert!(format!("{dict:?}").contains("dict"));
    assert!(!format!("{:?}", dict.entry("a").unwrap()).is_empty());
    let view = dict.view().unwrap();
    assert_eq!(format!("{view:?}"), r#"{"a": 1}"#);
    assert!(!format!("{:?}", view.iter()).is_empty());
    drop(view);
    let shown = dict.transaction(|tx| Ok::<_, StreamError>(format!("{tx:?}")));
    assert_eq!(shown.unwrap(), r#"{"a": 1}"#);
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&dict);
    let _: &StreamDict<str, u64> = &dict.clone();
}
