//! Encodings that fail, and values that somebody else's encoding wrote.

use std::cell::Cell;

use forkmap::{CodecError, Stored, StreamDict, StreamError, TypeShape};

use crate::samples::{Deaf, Json, Lie, Place, UNSPEAKABLE, json, texts};

fn is_encode<T>(result: Result<T, StreamError>, which: &str) {
    let Err(error) = result else {
        panic!("{which}")
    };
    assert!(
        matches!(error, StreamError::Encode { what, .. } if what == which),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with(&format!("the {which} cannot be encoded: "))
    );
}

fn is_decode<T>(result: Result<T, StreamError>, which: &str) {
    let Err(error) = result else {
        panic!("{which}")
    };
    assert!(
        matches!(error, StreamError::Decode { what, .. } if what == which),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with(&format!("the {which} cannot be decoded: "))
    );
}

#[test]
fn what_has_no_stored_form_changes_nothing() {
    let place = Place::new();
    let dict = place.dict::<Lie, Lie>(64);
    let bad = UNSPEAKABLE;
    dict.set(b"a", b"1").unwrap();
    let before = dict.position().unwrap();
    is_encode(dict.set(b"a", bad), "value");
    is_encode(dict.insert(b"a", bad), "value");
    is_encode(dict.extend([(&b"b"[..], &b"2"[..]), (b"a", bad)]), "value");
    is_encode(dict.get_or_insert_with(b"b", || bad.to_vec()), "value");
    is_encode(dict.fetch_update(b"a", |_| Some(bad.to_vec())), "value");
    is_encode(dict.compare_exchange(b"a", Some(bad), None), "value");
    is_encode(dict.compare_exchange(b"a", Some(b"1"), Some(bad)), "value");
    is_encode(dict.entry(b"b").unwrap().or_insert(bad), "value");
    let modify = |value: &mut Vec<u8>| *value = bad.to_vec();
    is_encode(
        dict.entry(b"a").unwrap().and_modify(modify).or_nothing(),
        "value",
    );
    is_encode(dict.set(bad, b"1"), "key");
    is_encode(dict.insert(bad, b"1"), "key");
    is_encode(dict.get(bad), "key");
    is_encode(dict.contains_key(bad), "key");
    is_encode(dict.remove(bad), "key");
    is_encode(dict.fetch_update(bad, |_| None::<Vec<u8>>), "key");
    is_encode(dict.get_or_insert_with(bad, Vec::new), "key");
    is_encode(dict.compare_exchange(bad, None, None), "key");
    is_encode(dict.entry(bad), "key");
    is_encode(dict.extend([(bad, &b"2"[..])]), "key");
    is_encode(dict.view().unwrap().get(bad), "key");
    is_encode(dict.view().unwrap().contains_key(bad), "key");
    assert_eq!(dict.position().unwrap(), before);
    assert_eq!(texts(&place.open()), "a=1");
    // Who can live with it goes on in the same transaction.
    dict.transaction(|tx| {
        is_encode(tx.set(b"a", bad), "value");
        is_encode(tx.set(bad, b"1"), "key");
        is_encode(tx.get(bad), "key");
        is_encode(tx.remove(bad), "key");
        is_encode(tx.contains_key(bad), "key");
        assert_eq!((tx.get(b"a")?, tx.len()), (Some(&b"1".to_vec()), 1));
        tx.set(b"b", b"2")
    })
    .unwrap();
    dict.dump().unwrap();
    assert_eq!(texts(&place.open()), "a=1 b=2");
    let options = place.options::<Lie, Lie>();
    for (key, value) in [(&b"a"[..], bad), (bad, b"1")] {
        let error = options.create_with("other", [(key, value)]).unwrap_err();
        assert!(error.to_string().contains("it cannot be said"), "{error}");
    }
    assert_eq!(place.files().len(), 2);
}

/// Found out before the change happens: behind that it is too late for an error.
#[test]
fn what_cannot_be_decoded_again_is_not_stored() {
    let place = Place::new();
    let dict = place.dict::<str, Deaf>(64);
    dict.set("a", b"1").unwrap();
    let before = dict.position().unwrap();
    is_decode(dict.set("a", b"loud!"), "value");
    is_decode(dict.set("b", b"loud!"), "value");
    is_decode(dict.insert("a", b"loud!"), "value");
    is_decode(dict.extend([("b", &b"2"[..]), ("a", b"!")]), "value");
    is_decode(dict.get_or_insert_with("b", || b"!".to_vec()), "value");
    is_decode(dict.fetch_update("a", |_| Some(b"!".to_vec())), "value");
    is_decode(dict.compare_exchange("a", Some(b"1"), Some(b"!")), "value");
    let exchanged = dict.compare_exchange("a", Some(b"!"), None).unwrap();
    assert_eq!(exchanged, Err(Some(b"1".to_vec())));
    is_decode(dict.entry("b").unwrap().or_insert(b"!"), "value");
    assert!(dict.is_at(before).unwrap());
    dict.transaction(|tx| {
        is_decode(tx.set("a", b"loud!"), "value");
        is_decode(tx.set("b", b"loud!"), "value");
        assert_eq!((tx.get("a")?, tx.len()), (Some(&b"1".to_vec()), 1));
        tx.set("c", b"3")
    })
    .unwrap();
    assert_eq!(texts(&place.open()), "a=1 c=3");
}

/// Claims to be four bytes long, and is as long as it likes.
#[derive(Debug)]
struct Elastic;

impl Stored for Elastic {
    type Item = [u8];
    type Owned = Vec<u8>;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];

    const LENGTH: Option<usize> = Some(4);
    const SHAPE: TypeShape = TypeShape::of::<u32>();

    fn encode(item: &[u8]) -> Result<&[u8], CodecError> {
        Ok(item)
    }

    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        image.resize(len, 0);
        image
    }

    fn decode(image: Vec<u8>) -> Result<Vec<u8>, CodecError> {
        Ok(image)
    }
}

#[test]
fn a_value_of_another_length_than_its_type_has_is_not_stored() {
    let place = Place::new();
    let dict = place.dict::<Elastic, Elastic>(64);
    dict.set(&[1; 4], &[2; 4]).unwrap();
    for len in [0, 3, 5, 1000] {
        is_decode(dict.set(&[1; 4], &vec![3; len]), "value");
    }
    let plain = place.open::<u32, u32>();
    assert_eq!(plain.get(&0x0101_0101).unwrap(), Some(0x0202_0202));
    // (A key is what it is stored as; one of another length is one that nobody else can have.)
    dict.set(b"long key", &[4; 4]).unwrap();
    assert_eq!(dict.get(b"long key").unwrap(), Some(vec![4; 4]));
    let view = plain.view().unwrap();
    let keys: Vec<_> = view.keys().map(|key| key.ok()).collect();
    assert_eq!(keys, [Some(0x0101_0101), None]);
    assert_eq!(view.values().filter(Result::is_ok).count(), 2);
}

/// An encoding that never says the same twice: each time a blank more.
#[derive(Debug)]
struct Rambling;

thread_local! {
    static SAID: Cell<usize> = const { Cell::new(0) };
}

impl Stored for Rambling {
    type Item = str;
    type Owned = String;
    type Image = Vec<u8>;
    type Encoded<'i> = String;

    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = <str as Stored>::SHAPE;

    fn encode(item: &str) -> Result<String, CodecError> {
        SAID.set(SAID.get() + 1);
        Ok(format!("{item}{}", " ".repeat(SAID.get() % 5)))
    }

    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        // More than was asked for, and then less.
        image.resize(len + 3, b' ');
        image
    }

    fn decode(image: Vec<u8>) -> Result<String, CodecError> {
        Ok(String::from_utf8(image)?.trim_end().to_owned())
    }
}

#[test]
fn an_encoding_that_changes_its_mind_harms_nobody_else() {
    let place = Place::new();
    let dict = place.dict::<str, Rambling>(1000);
    let honest = place.open::<str, str>();
    for n in 0..10 {
        dict.set(&n.to_string(), "a").unwrap();
    }
    // It may be refused, when everything is to be written once more; then nothing has changed.
    for _ in 0..10 {
        match dict.dump() {
            Ok(()) => {}
            dumped => is_encode(dumped, "value"),
        }
        match dict.set("x", "a") {
            Ok(()) => {}
            set => is_encode(set, "value"),
        }
        assert_eq!(dict.get("1").unwrap().as_deref(), Some("a"));
        assert!(dict.len().unwrap() >= 10);
    }
    honest.set("b", "2").unwrap();
    honest.dump().unwrap();
    assert_eq!(dict.get("b").unwrap().as_deref(), Some("2"));
    assert_eq!(place.files().len(), 2);
}

fn with_strangers(log_bytes: u64, place: &Place) -> StreamDict<str, str> {
    let dict = place.dict::<str, str>(log_bytes);
    let stranger = place.open::<str, Lie>();
    stranger.set("a", b"1").unwrap();
    stranger.set("bad", b"\xFF\xFE\0").unwrap();
    stranger.set("c", b"3").unwrap();
    stranger.set("worse", &[0x80; 300]).unwrap();
    dict
}

#[test]
fn what_a_stranger_wrote_is_an_error_for_that_key_alone() {
    for log_bytes in [0, 1 << 16] {
        let place = Place::new();
        let dict = with_strangers(log_bytes, &place);
        let before = dict.position().unwrap();
        for dict in [&dict, &place.open()] {
            is_decode(dict.get("bad"), "value");
            is_decode(dict.insert("bad", "x"), "value");
            is_decode(dict.get_or_insert_with("bad", String::new), "value");
            is_decode(dict.fetch_update("bad", |_| None::<String>), "value");
            is_decode(dict.compare_exchange("bad", None, None), "value");
            is_decode(dict.entry("bad").unwrap().or_nothing(), "value");
            is_decode(dict.transaction(|tx| tx.get("bad").map(drop)), "value");
            is_decode(dict.clone().close(), "value");
            assert!(dict.contains_key("bad").unwrap());
            assert_eq!(dict.get("a").unwrap().as_deref(), Some("1"));
            let view = dict.view().unwrap();
            let read = view.iter().map(|entry| entry.ok().map(|(key, _)| key));
            let expected = [Some("a"), None, Some("c"), None].map(|key| key.map(String::from));
            assert!(read.eq(expected));
            assert_eq!(view.values().filter(Result::is_ok).count(), 2);
            assert_eq!(
                (view.keys().filter(Result::is_ok).count(), view.len()),
                (4, 4)
            );
            is_decode(view.get("worse"), "value");
            assert!(view != std::collections::HashMap::new());
        }
        assert!(dict.is_at(before).unwrap());
    }
}

#[test]
fn what_a_stranger_wrote_survives_a_dump_byte_for_byte() {
    let place = Place::new();
    let dict = with_strangers(1 << 12, &place);
    for _ in 0..3 {
        dict.dump().unwrap();
        dict.reload().unwrap();
    }
    let stranger = place.open::<str, Lie>();
    assert_eq!(stranger.status().unwrap().dumps, 3);
    let entries = crate::samples::entries(&stranger);
    let expected: [(&str, &[u8]); 4] = [
        ("a", b"1"),
        ("bad", b"\xFF\xFE\0"),
        ("c", b"3"),
        ("worse", &[0x80; 300]),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_vec()));
    assert_eq!(entries, expected);
}

#[test]
fn what_a_stranger_wrote_can_be_overwritten_and_removed() {
    for log_bytes in [0, 1 << 16] {
        let place = Place::new();
        let dict = with_strangers(log_bytes, &place);
        dict.set("bad", "2").unwrap();
        assert!(dict.transaction(|tx| tx.remove("worse")).unwrap());
        dict.set("d", "4").unwrap();
        dict.dump().unwrap();
        assert_eq!(texts(&place.open()), "a=1 bad=2 c=3 d=4");
        let stranger = place.open::<str, Lie>();
        stranger.set("bad", b"\xFF").unwrap();
        dict.extend([("bad", "5")]).unwrap();
        stranger.set("bad", b"\xFF").unwrap();
        dict.clear().unwrap();
        assert_eq!(texts(&dict), "");
    }
}

#[test]
fn a_key_of_a_stranger_is_an_error_where_it_is_shown() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    let stranger = place.open::<Lie, str>();
    dict.set("a", "1").unwrap();
    stranger.set(b"\xFF", "2").unwrap();
    dict.set("b", "3").unwrap();
    dict.dump().unwrap();
    assert_eq!(
        (dict.len().unwrap(), dict.get("b").unwrap().as_deref()),
        (3, Some("3"))
    );
    let view = dict.view().unwrap();
    is_decode(view.keys().nth(1).unwrap(), "key");
    is_decode(view.iter().nth(1).unwrap(), "key");
    assert_eq!(view.values().filter(Result::is_ok).count(), 3);
    drop(view);
    assert_eq!(stranger.get(b"\xFF").unwrap().as_deref(), Some("2"));
}

/// A notation that has many forms for one value: what is compared is the form that it has here.
#[test]
fn values_in_an_own_encoding_are_compared_by_their_stored_form() {
    let place = Place::new();
    let dict = place.dict::<str, Json>(0);
    dict.set("a", &json([("x", 1), ("y", 2)])).unwrap();
    let same = json([("y", 2), ("x", 1)]);
    let exchanged = dict.compare_exchange("a", Some(&same), Some(&json([])));
    assert_eq!(exchanged.unwrap(), Ok(Some(same.clone())));
    assert_eq!(dict.get("a").unwrap(), Some(json([])));
    is_encode(dict.set("a", &json([("\"", 1)])), "value");
    let more = |map: &mut std::collections::BTreeMap<String, i64>| {
        map.insert("z".to_owned(), 3);
    };
    let modified = dict.entry("a").unwrap().and_modify(more).or_insert(&same);
    assert_eq!(modified.unwrap(), json([("z", 3)]));
}
