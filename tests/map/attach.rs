//! Options, and what is refused: each with an error that says what to do.

use std::time::Duration;

use forkmap::entry::Entry;
use forkmap::{
    AtomicDict, CreateError, Kind, Mismatch, OpenError, OpenOrCreateError, Options,
    ParticipantError, SharedHashMap, Stored, TypeShape, UnlinkError, WriteError, segments,
};

use crate::common::Name;
use crate::samples::Odd;

/// What is wrong, and the text of it, which must give advice.
fn mismatch<T: std::fmt::Debug>(opened: Result<T, OpenError>) -> Mismatch {
    let error = opened.unwrap_err();
    let text = error.to_string();
    let advice = [
        "; open it",
        "; ask for less, or replace it",
        "; make it afresh",
    ];
    assert!(advice.iter().any(|advice| text.contains(advice)), "{text}");
    let OpenError::Mismatch { mismatch, .. } = error else {
        panic!("{text}");
    };
    mismatch
}

#[test]
fn defaults_are_those_of_the_manual() {
    let map = SharedHashMap::<str, str>::options().anonymous().unwrap();
    assert_eq!(
        (map.capacity(), map.key_bytes(), map.value_bytes()),
        (1024, 256, 1024)
    );
    assert_eq!(map.stats().unwrap().writer_limit, 128);
    let map = SharedHashMap::<Odd, u16>::options().anonymous().unwrap();
    assert_eq!(
        (map.capacity(), map.key_bytes(), map.value_bytes()),
        (1024, 12, 2)
    );
    // Lengths that are fixed may be said, if they are right.
    let map = SharedHashMap::<Odd, u16>::options()
        .key_bytes(12)
        .value_bytes(2)
        .anonymous();
    assert_eq!(map.unwrap().key_bytes(), 12);
    let map = SharedHashMap::<str, ()>::options()
        .participants(1)
        .anonymous()
        .unwrap();
    assert!((1..=2).contains(&map.stats().unwrap().writer_limit));
}

#[test]
fn the_required_bytes_are_told_beforehand() {
    fn told<K: Stored + ?Sized, V: Stored + ?Sized>(options: &Options<SharedHashMap<K, V>>) -> u64 {
        let bytes = options.required_bytes().unwrap();
        assert_eq!(options.anonymous().unwrap().bytes(), bytes);
        assert_eq!(bytes % 4096, 0);
        bytes
    }
    for capacity in [1, 2, 7, 64, 1000, 100_000] {
        let bytes = told(
            SharedHashMap::<u64, u64>::options()
                .capacity(capacity)
                .participants(2),
        );
        // As the manual says: 20 a key, and 24 for what they are; the same for a participant.
        let about = capacity * 44 + 2 * (44 + 96) + 1344;
        assert!(
            bytes >= capacity * 24 && bytes <= about * 21 / 20 + 4096 + 300,
            "{bytes} {about}"
        );
        told(
            SharedHashMap::<str, [u8]>::options()
                .capacity(capacity)
                .key_bytes(9),
        );
        told(
            SharedHashMap::<[u8; 3], ()>::options()
                .capacity(capacity)
                .participants(4094),
        );
    }
    let mut options = SharedHashMap::<[u8], [u8]>::options();
    options.capacity(1).key_bytes(0).value_bytes(0);
    let bare = told(&options);
    assert!(told(options.value_bytes(1_000_000)) > bare + 128_000_000);
}

#[test]
fn impossible_options_are_refused_before_anything_is_made() {
    let name = Name::new("map-options");
    let refused = |error: CreateError, what: &str| {
        let text = error.to_string();
        assert!(matches!(error, CreateError::InvalidOption { .. }), "{text}");
        assert!(
            text.contains(what) && text.contains("; change that option"),
            "{text}"
        );
        assert!(!name.exists());
    };
    let words = SharedHashMap::<u64, u64>::options;
    let texts = SharedHashMap::<str, str>::options;
    refused(
        words().capacity(0).create(&name).unwrap_err(),
        "capacity(0) (it must be 1",
    );
    refused(
        words().key_bytes(9).create(&name).unwrap_err(),
        "key_bytes(9) (it must be 8",
    );
    refused(
        words().key_bytes(0).create(&name).unwrap_err(),
        "key_bytes(0) (it must be 8",
    );
    refused(
        words().value_bytes(7).anonymous().unwrap_err(),
        "value_bytes(7) (it must be 8",
    );
    refused(
        texts().key_bytes(70_000).create(&name).unwrap_err(),
        "it must be at most 65535",
    );
    refused(
        texts().key_bytes(65_536).required_bytes().unwrap_err(),
        "it must be at most 65535",
    );
    refused(
        texts().key_bytes(u64::MAX).create_unique().unwrap_err(),
        "at most 65535",
    );
    refused(
        texts().value_bytes(u64::MAX).create(&name).unwrap_err(),
        "it must be at most",
    );
    refused(
        texts().participants(0).create(&name).unwrap_err(),
        "1 to 4094",
    );
    refused(
        texts().participants(4095).create(&name).unwrap_err(),
        "1 to 4094",
    );
    refused(
        texts().read_only(true).create(&name).unwrap_err(),
        "read_only(true)",
    );
    let long = SharedHashMap::<[u8; 65_536], ()>::anonymous(1).unwrap_err();
    refused(long, "at most 65535");
    let error = texts().capacity(0).open_or_create(&name).unwrap_err();
    assert!(matches!(
        error,
        OpenOrCreateError::Create(CreateError::InvalidOption { .. })
    ));

    for capacity in [
        u64::MAX,
        u64::MAX / 2,
        1 << 62,
        1 << 50,
        1 << 40,
        1 << 32,
        (1 << 26) - 1,
    ] {
        let error = words().capacity(capacity).create(&name).unwrap_err();
        let CreateError::TooLarge { capacity: told } = error else {
            panic!("{capacity}: {error}");
        };
        assert_eq!(told, capacity);
        assert!(error.to_string().contains("; ask for less"), "{error}");
    }
    let error = texts()
        .capacity(1 << 25)
        .value_bytes(1 << 40)
        .anonymous()
        .unwrap_err();
    assert!(matches!(error, CreateError::TooLarge { .. }), "{error}");
    // Can be counted, and is more than any machine has.
    let mut options = texts();
    options.capacity(1 << 20).value_bytes(1 << 40);
    let need = options.required_bytes().unwrap();
    let error = options.create(&name).unwrap_err();
    assert!(
        matches!(error, CreateError::NoSpace { need: told, .. } if told == need),
        "{error}"
    );
    assert!(!name.exists());
}

#[test]
fn a_map_is_no_dict_and_a_dict_is_no_map() {
    let name = Name::new("map-kind");
    let map = SharedHashMap::<u64, u64>::create(&name, 10).unwrap();
    let found = mismatch(AtomicDict::open(&name));
    let wanted = Kind::AtomicDict;
    assert_eq!(
        found,
        Mismatch::Kind {
            found: Some(Kind::SharedHashMap),
            wanted
        }
    );
    assert!(AtomicDict::open_or_create(&name, 10).is_err());
    assert!(matches!(
        AtomicDict::unlink(&name),
        Err(UnlinkError::Open(_))
    ));
    assert!(map.is_current());
    let listed = segments().unwrap();
    let listed = listed
        .into_iter()
        .find(|segment| segment.path == name.path());
    assert_eq!(
        listed.unwrap().content.unwrap().kind,
        Some(Kind::SharedHashMap)
    );
    SharedHashMap::<str, str>::unlink(&name).unwrap();

    let dict = AtomicDict::create(&name, 10).unwrap();
    dict.store(1, 1).unwrap();
    let found = mismatch(SharedHashMap::<u64, u64>::open(&name));
    let wanted = Kind::SharedHashMap;
    assert_eq!(
        found,
        Mismatch::Kind {
            found: Some(Kind::AtomicDict),
            wanted
        }
    );
    assert!(SharedHashMap::<u64, u64>::unlink(&name).is_err());
    assert!(dict.is_current() && dict.load(1) == 1);
    // Who says so takes the name away from whatever segment has it.
    SharedHashMap::<u64, u64>::options()
        .create_or_replace(&name)
        .unwrap();
    assert!(!dict.is_current() && SharedHashMap::<u64, u64>::open(&name).unwrap().is_empty());
}

#[test]
fn other_types_than_those_of_the_map_are_refused() {
    fn open<K: Stored + ?Sized, V: Stored + ?Sized>(name: &Name) -> Mismatch {
        mismatch(SharedHashMap::<K, V>::open(name))
    }
    let name = Name::new("map-types");
    let map = SharedHashMap::<u64, str>::create(&name, 10).unwrap();
    map.insert(&1, "one").unwrap();
    let (word, text) = (TypeShape { size: 8, align: 8 }, TypeShape::varying(1));
    let types = |what, found, wanted| Mismatch::Types {
        what,
        found,
        wanted,
    };
    let signed = SharedHashMap::<i64, str>::open(&name).unwrap();
    assert_eq!(
        signed.get(&1).unwrap().as_deref(),
        Some("one"),
        "the shape is all there is"
    );
    assert_eq!(
        open::<u32, str>(&name),
        types("keys", word, TypeShape { size: 4, align: 4 })
    );
    assert_eq!(
        open::<[u8; 8], str>(&name),
        types("keys", word, TypeShape { size: 8, align: 1 })
    );
    assert_eq!(open::<str, str>(&name), types("keys", word, text));
    let bytes = TypeShape::varying(2);
    assert_eq!(open::<u64, [u8]>(&name), types("values", text, bytes));
    assert_eq!(open::<u64, u64>(&name), types("values", text, word));
    assert_eq!(
        open::<u64, ()>(&name),
        types("values", text, TypeShape { size: 0, align: 1 })
    );
    let error = SharedHashMap::<u64, [u8]>::open(&name)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("have text (str), those asked for bytes of any length ([u8]); open it"),
        "{error}"
    );
    #[cfg(feature = "serde")]
    {
        use forkmap::Serde;
        let serde = TypeShape::varying(3);
        assert_eq!(
            open::<u64, Serde<String>>(&name),
            types("values", text, serde)
        );
    }
    let error = SharedHashMap::<u64, [u8]>::open_or_create(&name, 10).unwrap_err();
    assert!(matches!(
        error,
        OpenOrCreateError::Open(OpenError::Mismatch { .. })
    ));
}

#[test]
fn less_room_than_asked_for_is_refused() {
    let name = Name::new("map-room");
    let mut options = SharedHashMap::<str, [u8]>::options();
    options
        .capacity(10)
        .key_bytes(20)
        .value_bytes(30)
        .participants(4)
        .schema(0xA);
    let map = options.create(&name).unwrap();
    assert_eq!(
        options.open(&name).unwrap().instance_id(),
        map.instance_id()
    );
    type Asked = Options<SharedHashMap<str, [u8]>>;
    let asking = |ask: fn(&mut Asked) -> &mut Asked| {
        let mut options = SharedHashMap::options();
        options.schema(0xA);
        ask(&mut options);
        let by_open = mismatch(options.open(&name));
        match options.open_or_create(&name).unwrap_err() {
            OpenOrCreateError::Open(error) => assert_eq!(mismatch::<()>(Err(error)), by_open),
            error => panic!("{error}"),
        }
        by_open
    };
    let found = asking(|options| options.capacity(11));
    assert_eq!(
        found,
        Mismatch::TooSmall {
            found: 10,
            asked: 11
        }
    );
    let found = asking(|options| options.key_bytes(21));
    assert_eq!(
        found,
        Mismatch::TooShort {
            what: "keys",
            found: 20,
            asked: 21
        }
    );
    let found = asking(|options| options.value_bytes(31));
    assert_eq!(
        found,
        Mismatch::TooShort {
            what: "values",
            found: 30,
            asked: 31
        }
    );
    let found = asking(|options| options.participants(5));
    assert_eq!(found, Mismatch::TooFewParticipants { found: 4, asked: 5 });
    let found = asking(|options| options.schema(0xB));
    assert_eq!(
        found,
        Mismatch::Schema {
            found: 0xA,
            wanted: 0xB
        }
    );
    let text = Mismatch::TooShort {
        what: "keys",
        found: 20,
        asked: 21,
    }
    .to_string();
    assert!(
        text.contains("room for keys of 20 bytes, and room for 21"),
        "{text}"
    );
    // Less is enough, and nothing said is anything.
    let mut less = SharedHashMap::<str, [u8]>::options();
    less.capacity(1)
        .key_bytes(1)
        .value_bytes(0)
        .participants(1)
        .schema(0xA);
    let opened = less.open(&name).unwrap();
    assert_eq!(
        (opened.capacity(), opened.key_bytes(), opened.value_bytes()),
        (10, 20, 30)
    );
    assert_eq!(
        SharedHashMap::<str, [u8]>::options()
            .schema(0xA)
            .open(&name)
            .unwrap()
            .len(),
        0
    );
}

/// FS2.
#[test]
fn a_read_only_handle_reads_and_refuses_to_change() {
    let name = Name::new("map-read-only");
    let map = SharedHashMap::<str, u32>::create(&name, 4).unwrap();
    map.insert("a", &1).unwrap();
    let reader = SharedHashMap::<str, u32>::options()
        .read_only(true)
        .open(&name)
        .unwrap();
    assert!(reader.is_read_only() && !map.is_read_only());
    let long = "k".repeat(300);
    for key in ["a", "b", &long] {
        let refused = [
            reader.insert(key, &2).map(|_| ()),
            reader.set(key, &2),
            reader.try_insert(key, &2).map(|_| ()),
            reader.get_or_insert_with(key, || 2).map(|_| ()),
            reader.compare_exchange(key, &1, &2).map(|_| ()),
            reader.update(key, |_| 2).map(|_| ()),
            reader.fetch_update(key, |_| None).map(|_| ()),
            reader.fetch_add(key, 1).map(|_| ()),
            reader.fetch_sub(key, 1).map(|_| ()),
            reader.fetch_and(key, 1).map(|_| ()),
            reader.fetch_or(key, 1).map(|_| ()),
            reader.fetch_xor(key, 1).map(|_| ()),
            reader.fetch_min(key, 1).map(|_| ()),
            reader.fetch_max(key, 1).map(|_| ()),
            reader.remove(key).map(|_| ()),
            reader.remove_if(key, |_| false).map(|_| ()),
            reader.entry(key).map(|_| ()),
            reader.retain(|_, _| true),
            reader.clear(),
        ];
        for (n, refused) in refused.into_iter().enumerate() {
            let error = refused.unwrap_err();
            assert!(
                matches!(error, WriteError::ReadOnly),
                "operation {n}: {error}"
            );
            assert!(
                error.to_string().contains("; open it without read_only"),
                "{error}"
            );
        }
    }
    assert!(matches!(reader.recover(), Err(ParticipantError::ReadOnly)));
    assert_eq!(reader.get("a").unwrap(), Some(1));
    map.update("a", |old| old.unwrap() + 1).unwrap();
    map.insert("b", &20).unwrap();
    let mut value = 0;
    assert!(reader.get_into("a", &mut value).unwrap() && value == 2);
    assert!(reader.contains_key("b").unwrap() && !reader.contains_key("c").unwrap());
    let mut all: Vec<_> = reader.iter().map(Result::unwrap).collect();
    all.sort_unstable();
    assert_eq!(all, [("a".into(), 2), ("b".into(), 20)]);
    assert_eq!((reader.keys().count(), reader.values().count()), (2, 2));
    assert_eq!(
        (reader.len(), reader.is_empty(), reader.capacity()),
        (2, false, 4)
    );
    assert_eq!(reader.check(), Vec::<String>::new());
    let stats = reader.stats().unwrap();
    assert_eq!((stats.len, stats.free, stats.writers), (2, 2, 1));
    let there = reader
        .wait_for_change("a", Some(&1), Duration::ZERO)
        .unwrap();
    assert_eq!(there, Some(2));
    assert_eq!(reader.participants().unwrap().len(), 1, "a reader is none");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours: Vec<_> = maps.lines().filter(|line| line.ends_with(&*name)).collect();
    assert!(ours.len() == 1 && ours[0].contains(" r--s "), "{ours:?}");
    let refused = SharedHashMap::<str, u32>::options()
        .read_only(true)
        .anonymous();
    assert!(matches!(refused, Err(CreateError::InvalidOption { .. })));
}

/// Each text ends with what to do.
#[test]
fn every_error_says_what_to_do() {
    let map = SharedHashMap::<str, str>::options()
        .capacity(1)
        .key_bytes(2)
        .value_bytes(2)
        .anonymous()
        .unwrap();
    map.insert("a", "b").unwrap();
    let errors = [
        (map.set("b", "b"), "all 1 entries are taken; remove some"),
        (
            map.set("abc", "b"),
            "has 3 bytes, and the map has room for 2; create it with a larger key",
        ),
        (
            map.set("a", "bbbb"),
            "has 4 bytes, and the map has room for 2; create it with a larger value",
        ),
    ];
    for (error, advice) in errors {
        let text = error.as_ref().unwrap_err().to_string();
        assert!(text.contains(advice), "{text}");
        let kind = std::io::Error::from(error.unwrap_err()).kind();
        let kinds = [
            std::io::ErrorKind::StorageFull,
            std::io::ErrorKind::InvalidInput,
        ];
        assert!(kinds.contains(&kind), "{kind}");
    }
    let Entry::Vacant(entry) = map.entry("b").unwrap() else {
        panic!("it is there");
    };
    let text = entry.insert("b").unwrap_err().to_string();
    assert!(text.contains("; remove some"), "{text}");
}
