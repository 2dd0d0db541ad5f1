//! What attacks have found once.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use forkmap::{CodecError, OpenError, Position, Stored, StreamDict, StreamError, TypeShape};

use crate::damage::{FIRST_LINK, LOG, NEXT, patient, put, reseal};
use crate::hostile::{Victim, is_damaged};
use crate::samples::{Deaf, Place, texts};

// from_fd panics: "a control has a name" (generation.rs, Generation::open).
#[test]
fn a_descriptor_is_refused_with_what_to_do_instead() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(dict.path().unwrap())
        .unwrap();
    let error = StreamDict::<str, str>::options().from_fd(file).unwrap_err();
    assert!(matches!(error, OpenError::NotSupported { .. }), "{error}");
    assert!(error.to_string().contains("open it by its name"), "{error}");
}

// A generation whose header says another number of participants: a slice out of range in Generation::new.
#[test]
fn a_generation_with_other_participants_is_refused() {
    let victim = Victim::new();
    for bad in [1, 3, 500, 4094] {
        is_damaged(
            victim.with(&[(144, bad)], false),
            &format!("{bad} participants"),
        );
    }
}

// unlink (and create_or_replace) of a control that is shorter than its participants: split_at in Layout::new.
#[test]
fn a_control_that_is_too_short_for_its_participants_can_be_unlinked() {
    for replace in [false, true] {
        let victim = Victim::new();
        let mut control = victim.control.clone();
        put(&mut control, 144, 4094);
        reseal(&mut control);
        victim.write("dict", &control);
        let options = victim.place.options::<str, str>();
        assert!(options.open("dict").is_err());
        if replace {
            drop(options.create_or_replace("dict").unwrap());
            assert_eq!(victim.place.files().len(), 2);
        }
        options.unlink("dict").unwrap();
        assert_eq!(victim.place.files(), Vec::<String>::new());
    }
}

// Read-only: sealed, and the next one has no name: attach, follow, attach, ... for ever (catch_up).
#[test]
fn a_reader_notices_that_what_follows_is_missing() {
    let victim = Victim::new();
    let words = [(LOG + FIRST_LINK, u64::MAX), (LOG + NEXT, 77)];
    is_damaged(victim.with(&words, true), "nothing follows");
}

// A circle of one long record: as many rounds as short records would fit, each reading all of it.
#[test]
fn a_circle_of_a_long_record_is_noticed_soon() {
    let place = Place::new();
    let dict = place.dict::<[u8], [u8]>(8 << 20);
    dict.set(b"a", &vec![0; 7 << 20]).unwrap();
    drop(dict);
    let path = place.path().join(place.generation("dict"));
    let mut bytes = fs::read(&path).unwrap();
    put(&mut bytes, LOG + 64, 8);
    fs::write(&path, bytes).unwrap();
    let options = place.options::<[u8], [u8]>();
    assert!(patient(move || options.open("dict")).is_err());
}

// A value in another form than this program's encoding gives it: no dump any more, so no write, not even
//    the removal of that key; and the log was sealed already, which leaves the others to wait.
struct NoBlanks;

impl Stored for NoBlanks {
    type Item = str;
    type Owned = String;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];
    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = <str as Stored>::SHAPE;
    fn encode(item: &str) -> Result<&[u8], CodecError> {
        Ok(item.as_bytes())
    }
    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        image.resize(len, 0);
        image
    }
    fn decode(image: Vec<u8>) -> Result<String, CodecError> {
        Ok(String::from_utf8(image)?.replace(' ', ""))
    }
}

#[test]
fn a_value_in_another_form_hinders_nobody() {
    let place = Place::new();
    let dict = place.dict::<str, str>(64);
    let other = place.open::<str, NoBlanks>();
    dict.set("k", "{ 1: 2 }").unwrap();
    assert_eq!(other.get("k").unwrap().as_deref(), Some("{1:2}"));
    for _ in 0..10 {
        other.set("x", "1").unwrap();
    }
    other.dump().unwrap();
    assert_eq!(
        dict.get("k").unwrap().as_deref(),
        Some("{ 1: 2 }"),
        "byte for byte"
    );
    other.remove("k").unwrap();
    assert_eq!(texts(&dict), "x=1");
}

// Two dumps with nothing in between: is_at said that something had changed.
#[test]
fn nothing_has_changed_after_any_number_of_dumps() {
    let place = Place::new();
    let dict = place.dict::<str, str>(100);
    let other = place.open::<str, str>();
    let mut seen = vec![dict.position().unwrap()];
    dict.dump().unwrap();
    dict.dump().unwrap();
    seen.push(dict.position().unwrap());
    assert!(seen.iter().all(|&seen| other.is_at(seen).unwrap()));
    dict.set("a", "1").unwrap();
    assert!(!seen.iter().any(|&seen| other.is_at(seen).unwrap()));
    let here = dict.position().unwrap();
    for dumps in 1..4 {
        dict.dump().unwrap();
        let attached = place.open::<str, str>();
        for dict in [&dict, &other, &attached] {
            assert!(dict.is_at(here).unwrap(), "{dumps}");
            assert!(!seen.iter().any(|&seen| dict.is_at(seen).unwrap()));
            let waited = dict.wait_for_change(here, Duration::from_millis(10));
            assert_eq!(waited.unwrap(), None);
        }
    }
    // What never was a position is none.
    let Position {
        generation,
        records,
    } = here;
    assert!(
        !dict
            .is_at(Position {
                generation,
                records: records + 1
            })
            .unwrap()
    );
    assert!(
        !dict
            .is_at(Position {
                generation: generation + 1,
                records: 1
            })
            .unwrap()
    );
    assert_eq!(
        dict.append_if(here, |tx| tx.set("a", "2")).unwrap(),
        Some(())
    );
    assert_eq!(dict.append_if(here, |tx| tx.set("a", "3")).unwrap(), None);
}

thread_local! {
    static ECHOING: RefCell<Option<StreamDict<str, Echoing>>> = const { RefCell::new(None) };
}

struct Echoing;

/// Its clone changes the dictionary that it is cloned from.
#[derive(Debug, PartialEq)]
struct Echo(String);

impl Clone for Echo {
    fn clone(&self) -> Self {
        ECHOING.with_borrow(|dict| {
            let set = dict.as_ref().expect("it is there").set("echo", "");
            assert!(matches!(set, Err(StreamError::Reentrant)), "{set:?}");
        });
        Self(self.0.clone())
    }
}

impl Borrow<str> for Echo {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Stored for Echoing {
    type Item = str;
    type Owned = Echo;
    type Image = Vec<u8>;
    type Encoded<'i> = &'i [u8];
    const LENGTH: Option<usize> = None;
    const SHAPE: TypeShape = <str as Stored>::SHAPE;
    fn encode(item: &str) -> Result<&[u8], CodecError> {
        Ok(item.as_bytes())
    }
    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        image.resize(len, 0);
        image
    }
    fn decode(image: Vec<u8>) -> Result<Echo, CodecError> {
        Ok(Echo(String::from_utf8(image)?))
    }
}

// get: a `Clone` that came back waited for its own thread.
#[test]
fn a_clone_that_comes_back_is_told_so() {
    let place = Place::new();
    let dict = place.dict::<str, Echoing>(1000);
    dict.set("a", "1").unwrap();
    ECHOING.set(Some(dict.clone()));
    assert_eq!(dict.get("a").unwrap(), Some(Echo("1".into())));
    let previous = dict.insert("a", "2").unwrap();
    assert_eq!(previous, Some(Echo("1".into())));
    ECHOING.set(None);
    assert_eq!(dict.len().unwrap(), 1);
}

// create_with: what could not be read back was stored.
#[test]
fn nothing_is_created_with_what_cannot_be_read_back() {
    let place = Place::new();
    let options = place.options::<str, Deaf>();
    let entries = [("a", &b"calm"[..]), ("b", b"loud!")];
    let error = options.create_with("dict", entries).unwrap_err();
    assert!(error.to_string().contains("too loud"), "{error}");
    assert_eq!(place.files(), Vec::<String>::new());
    let dict = options.create_with("dict", entries[..1].to_vec()).unwrap();
    assert_eq!(dict.len().unwrap(), 1);
}
