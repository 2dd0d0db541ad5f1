//! The two files of a `StreamDict`.

use std::fs;

use forkmap::{Stored, StreamDict, StreamError};

use crate::document::{Dictionary, Offsets, Words, generation_name};
use crate::{number, table};

/// Where the tables of the document put the words of a `StreamDict`, from the start of its body on.
fn stream_offsets() -> Offsets {
    let tables = ["## The body of a StreamDict", "## The body of a generation"].map(table);
    let mut offsets = Offsets::new();
    for row in tables.iter().flatten() {
        let offset = match row[0].split(" + ").collect::<Vec<_>>()[..] {
            ["b"] => 0,
            ["b", offset] | ["b", offset, "32 i"] if offset != "8 w" => number(offset),
            _ => continue,
        };
        if let Some(name) = row[1].strip_prefix('`') {
            let name = name.split('`').next().unwrap();
            let before = offsets.insert(name.to_owned(), offset);
            assert_eq!(before, None, "two words {name}");
        }
    }
    offsets
}

/// Changes a dictionary and compares what it holds with what the document makes of its two files.
fn a_dictionary_is_as_documented<K, V>(keys: &[K::Owned], values: &[V::Owned])
where
    K: Stored + ?Sized,
    V: Stored<Owned: Clone> + ?Sized,
{
    let key = |n: usize| std::borrow::Borrow::<K::Item>::borrow(&keys[n % keys.len()]);
    let value = |n: usize| std::borrow::Borrow::<V::Item>::borrow(&values[n % values.len()]);
    let offsets = stream_offsets();
    for (log_bytes, participants) in [(0, 2), (100, 4), (4096, 256)] {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut options = StreamDict::<K, V>::options();
        options
            .dir(dir.path())
            .participants(participants)
            .schema(0x5C);
        let dict = options
            .log_bytes(log_bytes)
            .budget(1 << 30)
            .create("dict")
            .unwrap();
        let look = || {
            let document = Dictionary::read(dir.path(), "dict", &offsets);
            let stored = |(key, value): (K::Owned, V::Owned)| {
                let key = K::encode(std::borrow::Borrow::borrow(&key)).unwrap();
                let value = V::encode(std::borrow::Borrow::borrow(&value)).unwrap();
                (key.as_ref().to_vec(), value.as_ref().to_vec())
            };
            let entries: Vec<_> = dict
                .clone()
                .close()
                .unwrap()
                .into_iter()
                .map(stored)
                .collect();
            assert_eq!(document.entries(), entries);
            let position = dict.position().unwrap();
            assert_eq!(document.records, position.records);
            assert_eq!(document.generation.word(96), position.generation);
            let control = &document.control;
            let instance = u128::from(control.word(64)) << 64 | u128::from(control.word(72));
            assert_eq!(instance, dict.instance_id());
            assert_eq!((control.word(48), control.word(144)), (0x5C, participants));
            assert_eq!((control.word(80), control.word(88)), (log_bytes, 1 << 30));
            let row = 1344 + 32 * participants;
            let row = |name| control.word(row + offsets[name]);
            assert_eq!(
                (row("generation"), row("records")),
                (position.generation, position.records)
            );
        };
        look();
        for n in 0..60 {
            match n % 15 {
                3 | 11 => drop(dict.remove(key(n / 2)).unwrap()),
                7 => dict
                    .extend((0..n / 8).map(|i| (key(n + i), value(n * i))))
                    .unwrap(),
                9 => dict.dump().unwrap(),
                13 if n > 40 => dict.clear().unwrap(),
                _ => dict.set(key(n), value(n / 3)).unwrap(),
            }
            look();
        }
        assert!(dict.position().unwrap().generation > 3);
    }
}

#[test]
fn a_stream_dictionary_has_every_word_where_the_document_puts_it() {
    let texts: Vec<String> = (0..20).map(|n| "text".repeat(5)[..n].to_owned()).collect();
    let bytes: Vec<Vec<u8>> = (0..12).map(|n| vec![n; usize::from(n) * 9]).collect();
    let words: Vec<u64> = (0..20).map(|n| u64::MAX / 20 * n).collect();
    let odd: Vec<[u8; 12]> = (0..9).map(|n| [n; 12]).collect();
    a_dictionary_is_as_documented::<str, str>(&texts, &texts);
    a_dictionary_is_as_documented::<u64, [u8]>(&words, &bytes);
    a_dictionary_is_as_documented::<[u8], u64>(&bytes, &words);
    a_dictionary_is_as_documented::<[u8; 12], ()>(&odd, &[()]);
    a_dictionary_is_as_documented::<(), [u8; 12]>(&[()], &odd);
}

#[test]
fn nested_dictionaries_are_as_documented() {
    let offsets = stream_offsets();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = StreamDict::<str, str>::options();
    let dict = options
        .dir(dir.path())
        .log_bytes(600)
        .create("dict")
        .unwrap();
    let look = || {
        let document = Dictionary::read(dir.path(), "dict", &offsets);
        assert_eq!(document.text(), format!("{:?}", dict.view().unwrap()));
    };
    look();
    for n in 0..90_u32 {
        let key = |n: u32| ["a", "b", "", "c"][n as usize % 4];
        let nested = dict.transaction(|tx| {
            let mut deep = tx.nested("maps")?;
            for level in 0..n % 5 {
                deep.nested(key(n / 3 + level))?
                    .nested("more")?
                    .set(key(n), &n.to_string())?;
                if n % 13 == 7 {
                    deep.set(key(n), "a value now")?;
                }
                deep.remove(key(n + 1))?;
            }
            tx.nested(key(n))?.set(key(n / 2), key(n))
        });
        assert!(nested.is_ok() || matches!(nested, Err(StreamError::IsValue)));
        match n % 15 {
            3 => drop(dict.remove(key(n / 5)).unwrap()),
            6 => dict.dump().unwrap(),
            9 => dict.set(key(n / 5), "a value").unwrap(),
            12 => dict.clear().unwrap(),
            14 => dict.nested("maps").unwrap().clear().unwrap(),
            _ => {}
        }
        look();
    }
    assert!(dict.position().unwrap().generation > 8);
}

/// A generation that is sealed, and the one that follows it, kept by a copy of the control that is older.
#[test]
fn a_sealed_generation_leads_on_as_the_document_says() {
    let offsets = stream_offsets();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = StreamDict::<str, str>::options();
    options.dir(dir.path()).participants(2);
    let dict = options.create("dict").unwrap();
    dict.set("a", "1").unwrap();
    let control = Words(fs::read(dir.path().join("dict")).unwrap());
    let name = generation_name("dict", &control, &offsets);
    let kept = dir.path().join("kept");
    fs::hard_link(dir.path().join(name), &kept).unwrap();
    dict.dump().unwrap();
    dict.set("b", "2").unwrap();
    let sealed = Words(fs::read(kept).unwrap());
    let first = sealed.word(1408 + offsets["first"]);
    assert_eq!(first, 8);
    assert_eq!(
        sealed.word(1408 + 8 * first),
        u64::MAX,
        "the link of the only record"
    );
    let now = Dictionary::read(dir.path(), "dict", &offsets);
    assert_eq!(sealed.word(1408 + offsets["next"]), now.generation.word(80));
    assert_eq!(now.generation.word(88), sealed.word(80));
    assert_eq!(now.generation.word(96), 2);
    let since = |document: &Dictionary| [120, 128].map(|at| document.generation.word(at));
    assert_eq!(since(&now), [1, 1]);
    dict.dump().unwrap();
    let later = || Dictionary::read(dir.path(), "dict", &offsets);
    assert_eq!(since(&later()), [2, 1]);
    dict.dump().unwrap();
    assert_eq!(since(&later()), [2, 1], "nothing has changed");
    options.unlink("dict").unwrap();
    assert!(dict.set("c", "3").is_ok(), "in the log that is there");
}

/// As for the others above: a dictionary as format 2 has always been.
#[test]
fn a_stream_dictionary_of_format_2_still_opens() {
    let offsets = stream_offsets();
    let control = include_bytes!("../golden/format-2-stream-dict.seg");
    let generation = include_bytes!("../golden/format-2-stream-generation.seg");
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let name = generation_name("golden", &Words(control.to_vec()), &offsets);
    fs::write(dir.path().join("golden"), control).unwrap();
    fs::write(dir.path().join(&name), generation).unwrap();
    let there = r#"{"key": "another value", "": "nothing", "map": {"x": "1", "deep": {}, "z": "3"}, "a": "", "ümläüt": "ß", "new": {"w": "4"}}"#;
    let document = Dictionary::read(dir.path(), "golden", &offsets);
    assert_eq!((document.text(), document.records), (there.to_owned(), 3));

    let dict = StreamDict::<str, str>::options()
        .dir(dir.path())
        .schema(0xF0)
        .open("golden")
        .unwrap();
    assert_eq!(format!("{:?}", dict.view().unwrap()), there);
    let status = dict.status().unwrap();
    assert_eq!(
        (status.position.generation, status.position.records),
        (2, 3)
    );
    assert_eq!((status.log_bytes, status.budget), (200, 1 << 20));
    assert_eq!(
        dict.insert("key", "new").unwrap().as_deref(),
        Some("another value")
    );
    dict.dump().unwrap();
    assert!(!dir.path().join(name).exists());
    dict.set("more", "").unwrap();
    let document = Dictionary::read(dir.path(), "golden", &offsets);
    assert_eq!(document.records, 1);
    assert_eq!(document.text(), format!("{:?}", dict.view().unwrap()));
}
