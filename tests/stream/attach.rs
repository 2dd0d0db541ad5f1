//! Options, and what is refused: each with an error that says what to do.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use forkmap::{
    AtomicDict, CreateError, Kind, Mismatch, OpenError, OpenOrCreateError, Position, SharedHashMap,
    Stored, StreamDict, StreamError, TypeShape, UnlinkError, segments_in,
};

use crate::common::Name;
use crate::samples::{Json, Lie, Odd, Place, texts};

/// What is wrong, and the text of it, which must give advice.
fn mismatch<T: std::fmt::Debug>(opened: Result<T, OpenError>) -> Mismatch {
    let error = opened.unwrap_err();
    let text = error.to_string();
    let advice = ["; open it", "; ask for less", "; make it afresh"];
    assert!(advice.iter().any(|advice| text.contains(advice)), "{text}");
    let OpenError::Mismatch { mismatch, .. } = error else {
        panic!("{text}");
    };
    mismatch
}

fn refused<T: std::fmt::Debug>(created: Result<T, CreateError>, what: &str) {
    let error = created.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CreateError::InvalidOption { .. }), "{text}");
    assert!(
        text.contains(what) && text.contains("; change that option"),
        "{text}"
    );
}

#[test]
fn defaults_are_those_of_the_manual() {
    let place = Place::new();
    let mut options = StreamDict::<str, str>::options();
    let dict = options.dir(place.path()).create("dict").unwrap();
    let status = dict.status().unwrap();
    assert_eq!((status.log_bytes, status.budget), (65_536, u64::MAX));
    assert_eq!((status.dumps, status.loads, status.log_used), (0, 0, 0));
    assert_eq!(
        status.position,
        Position {
            generation: 1,
            records: 0
        }
    );
    assert_eq!(dict.bytes(), options.required_bytes().unwrap());
    let generation = place.path().join(place.generation("dict"));
    let bytes = generation.metadata().unwrap().len();
    assert_eq!(status.memory, dict.bytes() + bytes);
    let [one] = &status.participants[..] else {
        panic!("{:?}", status.participants);
    };
    assert!(one.is_alive && one.pid == std::process::id() && one.position == status.position);
    assert_eq!(
        (dict.name(), dict.is_read_only(), dict.is_current()),
        (Some("dict"), false, true)
    );
    assert_eq!(dict.path(), Some(place.path().join("dict")));
    assert_eq!(dict.participants().unwrap().len(), 1);
}

#[test]
fn the_shortcuts_do_what_the_options_do() {
    let name = Name::new("stream-shortcuts");
    let dict = StreamDict::<str, u64>::create(&name).unwrap();
    assert!(StreamDict::<str, u64>::create(&name).is_err());
    dict.set("a", &1).unwrap();
    for opened in [
        StreamDict::<str, u64>::open(&name).unwrap(),
        StreamDict::<str, u64>::open_or_create(&name).unwrap(),
    ] {
        assert_eq!(opened.get("a").unwrap(), Some(1));
        assert_eq!(opened.instance_id(), dict.instance_id());
    }
    StreamDict::<str, u64>::unlink(&name).unwrap();
    assert!(matches!(
        StreamDict::<str, u64>::open(&name),
        Err(OpenError::NotFound { .. })
    ));
    let again = StreamDict::create_with(&name, [("b", 2_u64)]);
    let again: StreamDict<str, u64> = again.unwrap();
    assert_eq!(again.get("b").unwrap(), Some(2));
    assert_eq!(StreamDict::<str, u64>::gc("/dev/shm", &name).unwrap(), 0);
    StreamDict::<str, u64>::unlink(&name).unwrap();
}

#[test]
fn options_that_make_no_sense_are_refused_before_anything_is_made() {
    let place = Place::new();
    let options = || place.options::<str, str>();
    refused(
        options().capacity(10).create("a"),
        "capacity(10) (a StreamDict has none",
    );
    refused(
        options().capacity(0).create_unique(),
        "the option budget limits its memory",
    );
    refused(
        options().log_bytes((1 << 48) + 1).create("a"),
        "no machine has so many",
    );
    refused(options().log_bytes(u64::MAX).required_bytes(), "log_bytes");
    refused(options().participants(0).create("a"), "1 to 4094");
    refused(options().participants(4095).create("a"), "1 to 4094");
    refused(options().read_only(true).create("a"), "read_only(true)");
    refused(options().mode(0o700).create("a"), "mode 0o700");
    refused(options().budget(0).create("a"), "budget(0) (it must be");
    refused(
        options().budget(8191).log_bytes(0).create_unique(),
        "budget(8191)",
    );
    let capacity = options().capacity(1).open_or_create("a").unwrap_err();
    assert!(matches!(
        capacity,
        OpenOrCreateError::Create(CreateError::InvalidOption { .. })
    ));
    refused(
        options().budget(9).create_with("a", [("a", "b")]),
        "budget(9)",
    );
    let large = options().log_bytes(1 << 48).create("a").unwrap_err();
    assert!(matches!(large, CreateError::NoSpace { .. }), "{large}");
    let nowhere = options()
        .dir(place.path().join("missing"))
        .create("a")
        .unwrap_err();
    assert!(
        matches!(nowhere, CreateError::NoDirectory { .. }),
        "{nowhere}"
    );
    assert_eq!(place.files(), Vec::<String>::new());
}

#[test]
fn an_anonymous_one_is_refused_with_what_to_do_instead() {
    let error = StreamDict::<str, str>::options().anonymous().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CreateError::NotSupported { .. }), "{text}");
    assert!(
        text.contains("cannot be anonymous") && text.contains("create_unique"),
        "{text}"
    );
}

#[test]
fn another_structure_is_refused() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(100);
    let mut atomic = AtomicDict::options();
    atomic.dir(place.path());
    let found = Some(Kind::StreamDict);
    let wanted = Kind::AtomicDict;
    assert_eq!(
        mismatch(atomic.open("dict")),
        Mismatch::Kind { found, wanted }
    );
    assert!(matches!(atomic.unlink("dict"), Err(UnlinkError::Open(_))));
    let mut map = SharedHashMap::<u64, u64>::options();
    assert!(map.dir(place.path()).open("dict").is_err());
    drop(atomic.create("atomic").unwrap());
    let options = place.options::<u64, u64>();
    let wanted = Kind::StreamDict;
    let found = Some(Kind::AtomicDict);
    assert_eq!(
        mismatch(options.open("atomic")),
        Mismatch::Kind { found, wanted }
    );
    assert!(options.open_or_create("atomic").is_err());
    // A generation is no dictionary by itself.
    let generation = place.generation("dict");
    let found = Some(Kind::StreamGeneration);
    assert_eq!(
        mismatch(options.open(&generation)),
        Mismatch::Kind { found, wanted }
    );
    let listed = segments_in(place.path()).unwrap();
    let kinds = listed
        .iter()
        .map(|one| one.content.as_ref().unwrap().kind.unwrap());
    let kinds: Vec<_> = kinds.collect();
    assert_eq!(
        kinds,
        [Kind::AtomicDict, Kind::StreamDict, Kind::StreamGeneration]
    );
    assert_eq!(
        listed[1].content.as_ref().unwrap().instance_id,
        dict.instance_id()
    );
}

#[test]
fn other_types_codes_and_schemas_are_refused() {
    let place = Place::new();
    let mut options = place.options::<str, Json>();
    let dict = options.schema(7).create("dict").unwrap();
    fn open<K: Stored + ?Sized, V: Stored + ?Sized>(
        place: &Place,
        schema: u64,
    ) -> Result<StreamDict<K, V>, OpenError> {
        place.options::<K, V>().schema(schema).open("dict")
    }
    let is = |mismatch: Mismatch, what: &str, found: TypeShape, wanted: TypeShape| {
        let Mismatch::Types {
            what: told,
            found: f,
            wanted: w,
        } = mismatch
        else {
            panic!("{mismatch}");
        };
        assert_eq!((told, f, w), (what, found, wanted));
    };
    let (text, own) = (TypeShape::varying(1), TypeShape::varying(1001));
    is(
        mismatch(open::<[u8], Json>(&place, 7)),
        "keys",
        text,
        TypeShape::varying(2),
    );
    is(
        mismatch(open::<u64, Json>(&place, 7)),
        "keys",
        text,
        TypeShape::of::<u64>(),
    );
    is(mismatch(open::<str, str>(&place, 7)), "values", own, text);
    is(
        mismatch(open::<str, Odd>(&place, 7)),
        "values",
        own,
        TypeShape::of::<Odd>(),
    );
    let schemas = Mismatch::Schema {
        found: 7,
        wanted: 8,
    };
    assert_eq!(mismatch(open::<str, Json>(&place, 8)), schemas);
    #[cfg(feature = "serde")]
    {
        let serde = mismatch(open::<str, forkmap::Serde<u64>>(&place, 7));
        is(serde, "values", own, TypeShape::varying(3));
    }
    // Who claims the same shape is believed.
    assert!(open::<Lie, Json>(&place, 7).is_ok());
    let replaced = place
        .options::<str, str>()
        .open_or_create("dict")
        .unwrap_err();
    assert!(matches!(
        replaced,
        OpenOrCreateError::Open(OpenError::Mismatch { .. })
    ));
    assert!(dict.is_current());
}

#[test]
fn room_for_participants_is_asked_for() {
    let place = Place::new();
    let dict = place
        .options::<str, str>()
        .participants(3)
        .create("dict")
        .unwrap();
    let open = |asked| place.options::<str, str>().participants(asked).open("dict");
    assert!(open(1).is_ok() && open(4).is_ok(), "an even number");
    let few = Mismatch::TooFewParticipants { found: 4, asked: 5 };
    assert_eq!(mismatch(open(5)), few);
    // Of more attachments than there is room for, the rest read, and write what needs no dump.
    let all: Vec<_> = (0..6)
        .map(|_| {
            place
                .options::<str, str>()
                .participants(1)
                .open("dict")
                .unwrap()
        })
        .collect();
    assert_eq!(dict.status().unwrap().participants.len(), 4);
    for (n, one) in all.iter().enumerate() {
        one.set("a", &n.to_string()).unwrap();
    }
    assert_eq!(dict.get("a").unwrap().as_deref(), Some("5"));
    let refused = all[5].dump().unwrap_err();
    assert!(matches!(refused, StreamError::Participant(_)), "{refused}");
    assert!(refused.to_string().contains("participants"), "{refused}");
    assert_eq!(all[5].get("a").unwrap().as_deref(), Some("5"));
    drop(dict);
    all[5].dump().unwrap();
}

#[test]
fn a_read_only_handle_changes_nothing() {
    let place = Place::new();
    let dict = place.dict::<str, str>(200);
    dict.set("a", "1").unwrap();
    let reader = place
        .options::<str, str>()
        .read_only(true)
        .open("dict")
        .unwrap();
    assert!(reader.is_read_only() && !dict.is_read_only());
    let read_only = |result: Result<(), StreamError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, StreamError::ReadOnly), "{error}");
        assert!(error.to_string().contains("open one for writing"));
    };
    let here = reader.position().unwrap();
    read_only(reader.set("a", "2"));
    read_only(reader.insert("a", "2").map(drop));
    read_only(reader.remove("a").map(drop));
    read_only(reader.clear());
    read_only(reader.dump());
    read_only(reader.extend([("a", "2")]));
    read_only(reader.fetch_update("a", |_| None::<String>).map(drop));
    read_only(reader.compare_exchange("a", Some("1"), None).map(drop));
    read_only(reader.get_or_insert_with("b", String::new).map(drop));
    read_only(reader.transaction(|tx| tx.set("a", "2")));
    read_only(reader.append_if(here, |tx| tx.set("a", "2")).map(drop));
    read_only(reader.entry("b").unwrap().or_insert("2").map(drop));
    assert!(dict.is_at(here).unwrap());
    // And it sees all there is.
    for n in 0..100 {
        dict.set(&(n % 9).to_string(), &n.to_string()).unwrap();
        assert_eq!(texts(&reader), texts(&dict));
    }
    reader.reload().unwrap();
    let (status, all) = (reader.status().unwrap(), dict.status().unwrap());
    assert_eq!(status.position, all.position);
    assert_eq!(status.participants.len(), 1, "it takes no place");
    let seen = reader.position().unwrap();
    let waited = reader.wait_for_change(seen, Duration::from_millis(10));
    assert_eq!(waited.unwrap(), None);
    assert_eq!(reader.close().unwrap().len(), 10);
    // Not even where nobody may write.
    for file in place.files() {
        let rights = std::fs::Permissions::from_mode(0o400);
        std::fs::set_permissions(place.path().join(file), rights).unwrap();
    }
    let reader = place.options::<str, str>().read_only(true).open("dict");
    assert_eq!(texts(&reader.unwrap()), texts(&dict));
}

#[test]
fn generations_have_the_mode_of_their_dictionary() {
    let place = Place::new();
    let dict = place
        .options::<str, str>()
        .mode(0o640)
        .create("dict")
        .unwrap();
    let other = place.open::<str, str>();
    let modes = || {
        let mode = |file| {
            place
                .path()
                .join(file)
                .metadata()
                .unwrap()
                .permissions()
                .mode()
        };
        let modes = place.files().into_iter().map(|file| mode(file) & 0o777);
        modes.collect::<Vec<_>>()
    };
    assert_eq!(modes(), [0o640; 2]);
    dict.dump().unwrap();
    assert_eq!(modes(), [0o640; 2]);
    other.dump().unwrap();
    assert_eq!(modes(), [0o640; 2], "of one who has asked for no mode too");
}

#[test]
fn names_are_checked_and_may_be_long() {
    let place = Place::new();
    let options = place.options::<str, str>();
    for bad in ["", "a/b", "..", ".hidden", &"a".repeat(201)] {
        assert!(
            matches!(options.create(bad), Err(CreateError::InvalidName(_))),
            "{bad}"
        );
        assert!(matches!(options.open(bad), Err(OpenError::InvalidName(_))));
        assert!(options.unlink(bad).is_err() && options.create_or_replace(bad).is_err());
        assert!(StreamDict::<str, str>::gc(place.path(), bad).is_err());
    }
    let longest = "n".repeat(200);
    let dict = options.create(&longest).unwrap();
    for n in 0..5 {
        dict.set("a", &n.to_string()).unwrap();
        dict.dump().unwrap();
    }
    assert_eq!(texts(&options.open(&longest).unwrap()), "a=4");
    assert_eq!(place.generations(&longest).len(), 1);
    drop(options.create_or_replace(&longest).unwrap());
    options.unlink(&longest).unwrap();
    assert_eq!(place.files(), Vec::<String>::new());
}
