//! What stands in the directory: two files for each dictionary, and nothing when it is gone.

use std::fs;

use forkmap::{CreateError, OpenError, StreamDict, StreamError, UnlinkError};

use crate::samples::{Place, texts};

const NOTHING: Vec<String> = Vec::new();

#[test]
fn a_dictionary_is_two_files_whatever_it_goes_through() {
    let place = Place::new();
    let dict = place.dict::<u64, u64>(100);
    let others: Vec<_> = (0..3).map(|_| place.open::<u64, u64>()).collect();
    let mut seen = std::collections::HashSet::new();
    for n in 0..200 {
        dict.set(&(n % 3), &n).unwrap();
        others[n as usize % 3].set(&9, &n).unwrap();
        assert_eq!(place.files().len(), 2);
        assert!(place.files()[0] == "dict");
        seen.insert(place.generation("dict"));
    }
    assert_eq!(
        seen.len() as u64,
        dict.position().unwrap().generation,
        "no name comes back"
    );
    let prefix = format!("dict.{:016x}.", (dict.instance_id() >> 64) as u64);
    assert!(seen.iter().all(|name| name.starts_with(&prefix)));
    drop((dict, others));
    assert_eq!(place.files().len(), 2, "it stays");
    drop(place.open::<u64, u64>());
    assert_eq!(place.files().len(), 2);
    place.options::<u64, u64>().unlink("dict").unwrap();
    assert_eq!(place.files(), NOTHING);
}

#[test]
fn what_cannot_be_created_leaves_nothing() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    dict.set("a", "1").unwrap();
    let options = place.options::<str, str>();
    let before = place.files();
    for _ in 0..3 {
        let error = options.create("dict").unwrap_err();
        assert!(
            matches!(error, CreateError::AlreadyExists { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("; open it with"));
        assert!(options.create_with("dict", [("a", "b")]).is_err());
        assert_eq!(place.files(), before);
    }
    assert_eq!(texts(&dict), "a=1");
    assert_eq!(
        options.open_or_create("dict").unwrap().instance_id(),
        dict.instance_id()
    );
}

#[test]
fn one_that_was_unlinked_goes_on_until_its_log_is_full() {
    let place = Place::new();
    let options = place.options::<str, str>();
    let dict = place.dict::<str, str>(1000);
    let other = place.open::<str, str>();
    dict.set("a", "1").unwrap();
    options.unlink("dict").unwrap();
    assert_eq!(place.files(), NOTHING);
    assert!(!dict.is_current());
    assert!(matches!(
        options.open("dict"),
        Err(OpenError::NotFound { .. })
    ));
    let missing = options.unlink("dict").unwrap_err();
    assert!(matches!(missing, UnlinkError::NotFound { .. }), "{missing}");
    other.set("b", "2").unwrap();
    assert_eq!(texts(&dict), "a=1 b=2");
    let error = (0..100).find_map(|n| dict.set("c", &n.to_string()).err());
    let error = error.expect("the log is full at some time");
    assert!(matches!(error, StreamError::Unlinked), "{error}");
    assert!(error.to_string().contains("; create it anew"));
    let all = texts(&dict);
    for dict in [&dict, &other] {
        assert!(matches!(dict.set("d", "x"), Err(StreamError::Unlinked)));
        assert!(matches!(dict.dump(), Err(StreamError::Unlinked)));
        assert!(matches!(dict.reload(), Err(StreamError::Unlinked)));
        assert_eq!(texts(dict), all, "reading goes on");
    }
    assert_eq!(place.files(), NOTHING);
    // A new one of that name is another.
    let new = options.create("dict").unwrap();
    assert_ne!(new.instance_id(), dict.instance_id());
    assert!(matches!(dict.set("d", "x"), Err(StreamError::Unlinked)));
    assert_eq!(texts(&new), "");
    drop((dict, other));
    assert_eq!(place.files().len(), 2);
}

#[test]
fn of_one_that_was_replaced_nothing_remains() {
    let place = Place::new();
    let options = place.options::<str, str>();
    let first = options.create_or_replace("dict").unwrap();
    first.set("a", "1").unwrap();
    let other = place.open::<str, str>();
    let mut latest = first.clone();
    for n in 0..5 {
        let replaced = options.create_or_replace("dict").unwrap();
        let files = place.files();
        assert_eq!(files.len(), 2, "{files:?}");
        let prefix = format!("dict.{:016x}.", (replaced.instance_id() >> 64) as u64);
        assert!(files[1].starts_with(&prefix));
        assert!(!latest.is_current() && replaced.is_current());
        assert_eq!(texts(&replaced), "");
        replaced.set("n", &n.to_string()).unwrap();
        latest = replaced;
    }
    assert_eq!(texts(&place.open()), "n=4");
    assert_eq!(texts(&other), "a=1", "who has the old one keeps it");
    other.set("b", "2").unwrap();
    assert_eq!(texts(&first), "a=1 b=2");
    assert!(matches!(first.dump(), Err(StreamError::Unlinked)));
    assert_eq!(place.files().len(), 2);
    drop((first, other));
    assert_eq!(texts(&latest), "n=4");
    // One of another type as well.
    let numbers = place.options::<u64, u64>().create_or_replace("dict");
    numbers.unwrap().set(&1, &1).unwrap();
    assert_eq!(place.files().len(), 2);
}

#[test]
fn the_creator_unlinks_with_its_last_handle_if_it_was_asked_to() {
    let place = Place::new();
    let mut options = place.options::<str, str>();
    let dict = options.unlink_on_drop(true).create("dict").unwrap();
    let opened = options.open("dict").unwrap();
    let clone = dict.clone();
    drop(opened);
    dict.dump().unwrap();
    drop(dict);
    assert_eq!(
        place.files().len(),
        2,
        "not who opened it, nor the first of two"
    );
    clone.dump().unwrap();
    drop(clone);
    assert_eq!(place.files(), NOTHING);
    // Not another that has the name by then.
    let dict = options.create("dict").unwrap();
    let other = place
        .options::<str, str>()
        .create_or_replace("dict")
        .unwrap();
    drop(dict);
    assert!(other.is_current());
    other.dump().unwrap();
    assert_eq!(place.files().len(), 2);
    // Nor what is there no more.
    let dict = options.create_or_replace("dict").unwrap();
    options.unlink("dict").unwrap();
    assert_eq!(dict.close().unwrap(), []);
    assert_eq!(place.files(), NOTHING);
}

#[test]
fn unique_names_are_unique() {
    let place = Place::new();
    let mut options = place.options::<str, str>();
    options.unlink_on_drop(true);
    let dicts: Vec<_> = (0..10).map(|_| options.create_unique().unwrap()).collect();
    let names: std::collections::HashSet<_> =
        dicts.iter().map(|dict| dict.name().unwrap()).collect();
    assert_eq!((names.len(), place.files().len()), (10, 20));
    for name in names {
        assert!(name.starts_with("forkmap-"));
        options.open(name).unwrap().set("a", name).unwrap();
    }
    assert!(
        dicts
            .iter()
            .all(|dict| dict.get("a").unwrap().as_deref() == dict.name())
    );
    drop(dicts);
    assert_eq!(place.files(), NOTHING);
}

/// A generation whose dictionary is gone, as a creator leaves it that is killed at the wrong time.
fn forsaken(place: &Place, name: &str) -> String {
    let options = place.options::<str, str>();
    let dict = options.create(name).unwrap();
    let generation = place.generations(name).pop().unwrap();
    let kept = fs::read(place.path().join(&generation)).unwrap();
    drop(dict);
    options.unlink(name).unwrap();
    fs::write(place.path().join(&generation), kept).unwrap();
    generation
}

#[test]
fn what_was_left_by_the_dead_is_collected() {
    let place = Place::new();
    let gc = |name: &str| StreamDict::<str, str>::gc(place.path(), name).unwrap();
    assert_eq!(gc("dict"), 0);
    let one = forsaken(&place, "dict");
    let two = format!("{}{}", &one[..one.len() - 16], "0".repeat(16));
    fs::copy(place.path().join(&one), place.path().join(two)).unwrap();
    let other = forsaken(&place, "other");
    assert_eq!(place.files().len(), 3);
    assert_eq!((gc("dict"), gc("dict")), (2, 0));
    assert_eq!(place.files(), [other]);
    // Not the generation of one that lives, nor what is none.
    let left = forsaken(&place, "dict");
    let dict = place.dict::<str, str>(100);
    assert!(
        !place.files().contains(&left),
        "creating one collects as well"
    );
    dict.set("a", "1").unwrap();
    let stranger = format!("dict.{}.{}", "0".repeat(16), "f".repeat(16));
    fs::write(place.path().join(&stranger), b"a text of somebody").unwrap();
    fs::write(place.path().join("dict.more"), b"another").unwrap();
    assert_eq!(gc("dict"), 0);
    fs::copy(place.path().join("dict"), place.path().join(&stranger)).unwrap();
    assert_eq!(gc("dict"), 0, "a control is no generation");
    assert_eq!(texts(&place.open()), "a=1");
    dict.dump().unwrap();
    assert_eq!(place.files().len(), 5, "{:?}", place.files());
    assert!(StreamDict::<str, str>::gc(place.path().join("missing"), "dict").is_err());
}

/// Has a generation stay when the next one begins, as if the system had not let it be removed.
fn dump_and_keep(place: &Place, dict: &StreamDict<str, str>) -> String {
    let generation = place.generation("dict");
    let kept = place.path().join("kept");
    fs::hard_link(place.path().join(&generation), &kept).unwrap();
    dict.dump().unwrap();
    fs::rename(kept, place.path().join(&generation)).unwrap();
    assert_eq!(place.files().len(), 3);
    generation
}

#[test]
fn a_generation_that_could_not_be_removed_goes_later() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    dict.set("a", "1").unwrap();
    let gc = || StreamDict::<str, str>::gc(place.path(), "dict").unwrap();
    // By the next one who enters the one after it.
    dump_and_keep(&place, &dict);
    let reader = place.open::<str, str>();
    assert_eq!(place.files().len(), 2);
    // By the next one who begins one.
    dump_and_keep(&place, &dict);
    dict.dump().unwrap();
    assert_eq!(place.files().len(), 2);
    // By who has read no further when others came since, perhaps the only one who may.
    assert_eq!(texts(&reader), "a=1");
    let first = dump_and_keep(&place, &dict);
    fs::rename(place.path().join(&first), place.path().join("kept")).unwrap();
    dict.dump().unwrap();
    fs::rename(place.path().join("kept"), place.path().join(&first)).unwrap();
    assert_eq!(place.files().len(), 3);
    assert_eq!(texts(&reader), "a=1");
    assert_eq!(place.files().len(), 2);
    // By who collects: and that does not take the current one, nor what cannot be read.
    dump_and_keep(&place, &dict);
    assert_eq!((gc(), gc()), (1, 0));
    let current = place.generation("dict");
    let other = format!("{}{}", &current[..current.len() - 16], "1".repeat(16));
    fs::copy(place.path().join(&current), place.path().join(&other)).unwrap();
    assert_eq!(gc(), 0);
    assert_eq!(place.files().len(), 3);
    assert_eq!(texts(&place.open()), "a=1");
}

#[test]
fn a_damaged_dictionary_can_be_unlinked_and_replaced() {
    let place = Place::new();
    let options = place.options::<str, str>();
    for replace in [false, true] {
        for damaged in [0, 10, 24, 80, 200, 255] {
            let dict = options.create("dict").unwrap();
            let mut bytes = fs::read(place.path().join("dict")).unwrap();
            drop(dict);
            bytes[damaged] ^= 4;
            fs::write(place.path().join("dict"), bytes).unwrap();
            assert!(options.open("dict").is_err());
            match (replace, damaged) {
                // What is none of ours is nobody's to remove.
                (_, 0) => {
                    assert!(options.unlink("dict").is_err());
                    assert!(options.create_or_replace("dict").is_err());
                    fs::remove_file(place.path().join("dict")).unwrap();
                    assert_eq!(StreamDict::<str, str>::gc(place.path(), "dict").unwrap(), 1);
                }
                (false, _) => options.unlink("dict").unwrap(),
                (true, _) => {
                    let new = options.create_or_replace("dict").unwrap();
                    new.set("a", "1").unwrap();
                    assert_eq!(place.files().len(), 2, "{damaged}");
                    options.unlink("dict").unwrap();
                }
            }
            assert_eq!(place.files(), NOTHING, "{damaged}");
        }
    }
}
