//! The order of the keys is that of their insertion, through everything; and so are the entries.

use crate::samples::{Place, entries, texts};

#[test]
fn the_order_of_insertion_survives_everything() {
    for log_bytes in [0, 100, 1 << 16] {
        let place = Place::new();
        let dict = place.dict::<str, str>(log_bytes);
        let look = |expected: &str| {
            let opened = place.open();
            for dict in [&dict, &opened] {
                assert_eq!(texts(dict), expected);
                dict.reload().unwrap();
                assert_eq!(texts(dict), expected);
            }
            dict.dump().unwrap();
            for dict in [&dict, &opened, &place.open()] {
                assert_eq!(texts(dict), expected);
            }
        };
        for key in ["z", "b", "y", "a", "x"] {
            dict.set(key, "").unwrap();
        }
        look("z= b= y= a= x=");
        dict.set("y", "1").unwrap();
        dict.insert("z", "2").unwrap();
        dict.fetch_update("a", |_| Some("3".to_owned())).unwrap();
        look("z=2 b= y=1 a=3 x=");
        dict.remove("b").unwrap();
        dict.remove("z").unwrap();
        look("y=1 a=3 x=");
        dict.set("z", "4").unwrap();
        dict.compare_exchange("b", None, Some("5"))
            .unwrap()
            .unwrap();
        look("y=1 a=3 x= z=4 b=5");
        dict.extend([("x", "6"), ("c", "7"), ("y", "8")]).unwrap();
        look("y=8 a=3 x=6 z=4 b=5 c=7");
        dict.transaction(|tx| {
            tx.remove("a")?;
            tx.set("a", "9")
        })
        .unwrap();
        look("y=8 x=6 z=4 b=5 c=7 a=9");
        dict.clear().unwrap();
        look("");
        dict.set("z", "").unwrap();
        dict.set("a", "").unwrap();
        look("z= a=");
    }
}

#[test]
fn a_dictionary_begins_with_the_entries_that_it_is_given() {
    let place = Place::new();
    let options = place.options::<str, u64>();
    let words = ["z", "b", "y", "b"].map(String::from);
    let dict = options
        .create_with("dict", words.into_iter().zip(1_u64..))
        .unwrap();
    let expected = [("z", 1), ("b", 4), ("y", 3)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(entries(&dict), expected);
    assert_eq!(entries(&place.open::<str, u64>()), expected);
    let status = dict.status().unwrap();
    assert_eq!(
        (status.dumps, status.position.records, status.len),
        (0, 0, 3)
    );
    dict.set("a", &5).unwrap();
    dict.dump().unwrap();
    dict.remove("b").unwrap();
    assert_eq!(entries(&place.open::<str, u64>()).len(), 3);
    // Borrowed ones, and none.
    let none: [(&str, &u64); 0] = [];
    let empty = options.create_with("empty", none).unwrap();
    assert!(empty.is_empty().unwrap());
    let one = options.create_with("one", [("", &7)]).unwrap();
    assert_eq!(one.get("").unwrap(), Some(7));
    assert!(
        options.create_with("one", [("", &8)]).is_err(),
        "the name is taken"
    );
    assert_eq!(place.files().len(), 6);
}

#[test]
fn positions_only_grow() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(100);
    let other = place.open::<u64, u64>();
    let mut last = dict.position().unwrap();
    assert_eq!((last.generation, last.records), (1, 0));
    for n in 0..500 {
        let dict = if n % 3 == 0 { &dict } else { &other };
        assert_eq!(dict.position().unwrap(), last);
        dict.set(&(n % 5), &n).unwrap();
        let now = dict.position().unwrap();
        let next = match now.generation == last.generation {
            true => last.records + 1,
            false => 1,
        };
        assert!(now > last && now.generation <= last.generation + 1);
        assert_eq!(now.records, next);
        last = now;
    }
    assert!(last.generation > 100);
    let (loads, dumps) = [&dict, &other]
        .map(|dict| dict.status().unwrap())
        .map(|status| (status.loads, status.dumps))
        .into();
    assert_eq!(
        (loads.1, dumps.1),
        (last.generation - 1, last.generation - 1)
    );
    assert_eq!(
        (loads.0, dumps.0),
        (0, 1),
        "who has read to the end reads no dump"
    );
}

#[test]
fn a_reload_reads_everything_anew() {
    let place = Place::new();
    let dict = place.dict::<str, str>(1000);
    dict.set("a", "1").unwrap();
    dict.set("a", "2").unwrap();
    let before = dict.position().unwrap();
    for n in 1..4 {
        dict.reload().unwrap();
        assert_eq!(dict.position().unwrap(), before);
        assert_eq!(dict.status().unwrap().loads, n);
        assert_eq!(texts(&dict), "a=2");
    }
    dict.set("b", "3").unwrap();
    assert_eq!(texts(&dict.clone()), "a=2 b=3");
}

#[test]
fn one_that_was_left_behind_reads_the_latest_dump() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(50);
    let late = place.open::<u64, u64>();
    for n in 0..200 {
        dict.set(&(n % 7), &n).unwrap();
    }
    assert_eq!(entries(&late), entries(&dict));
    assert_eq!(late.position().unwrap(), dict.position().unwrap());
    assert_eq!(late.status().unwrap().loads, 2, "not two hundred of them");
    // And it can go on.
    late.set(&0, &0).unwrap();
    assert_eq!(dict.get(&0).unwrap(), Some(0));
}
