//! Code of the user that panics while a change is on its way into a replica.

use std::borrow::Borrow;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use forkmap::{CodecError, Stored, StreamDict, StreamError, TypeShape};

use crate::damage::patient;
use crate::samples::{Place, entries};

thread_local! {
    /// How many values this thread still decodes, or drops, before it panics once.
    static DECODES: Cell<u32> = const { Cell::new(u32::MAX) };
    static DROPS: Cell<u32> = const { Cell::new(u32::MAX) };
    /// What a value looks into when it is dropped.
    static HOME: Cell<Option<&'static Dict>> = const { Cell::new(None) };
}

fn count_down(left: &'static std::thread::LocalKey<Cell<u32>>) {
    match left.get() {
        u32::MAX => {}
        0 => {
            left.set(u32::MAX);
            panic!("once");
        }
        more => left.set(more - 1),
    }
}

type Dict = StreamDict<str, Fragile>;

struct Fragile;

#[derive(Debug, Clone, PartialEq)]
struct Value(u64);

impl Borrow<u64> for Value {
    fn borrow(&self) -> &u64 {
        &self.0
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        if let Some(home) = HOME.take() {
            let _ = home.get("a");
            HOME.set(Some(home));
        }
        if !std::thread::panicking() {
            count_down(&DROPS);
        }
    }
}

impl Stored for Fragile {
    type Item = u64;
    type Owned = Value;
    type Image = Vec<u8>;
    type Encoded<'i> = [u8; 8];
    const LENGTH: Option<usize> = Some(8);
    const SHAPE: TypeShape = TypeShape::of::<u64>();
    fn encode(item: &u64) -> Result<[u8; 8], CodecError> {
        Ok(item.to_le_bytes())
    }
    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        image.resize(len, 0);
        image
    }
    fn decode(image: Vec<u8>) -> Result<Value, CodecError> {
        count_down(&DECODES);
        Ok(Value(u64::from_le_bytes(image[..].try_into()?)))
    }
}

fn content(dict: &Dict) -> Vec<(String, u64)> {
    let entries = entries(dict).into_iter();
    entries.map(|(key, value)| (key, value.0)).collect()
}

/// Whether it panics at the `nth` time, and ends all the same.
fn breaks(left: &'static std::thread::LocalKey<Cell<u32>>, nth: u32, call: impl FnOnce()) -> bool {
    left.set(nth);
    let panicked = catch_unwind(AssertUnwindSafe(call)).is_err();
    left.set(u32::MAX);
    panicked
}

/// Wherever it panics: the change is there as a whole or not at all, for all the same, before a dump and after.
#[test]
fn a_panic_anywhere_leaves_all_or_nothing() {
    let mut panics = 0;
    for log_bytes in [4096, 16] {
        for counted in [&DECODES, &DROPS] {
            for nth in 0..24 {
                let place = Place::new();
                let one = place.dict::<str, Fragile>(log_bytes);
                let there = [("a", &1), ("b", &10), ("c", &100)];
                one.extend(there).unwrap();
                let two = place.open::<str, Fragile>();
                let change = || {
                    let done = one.transaction(|tx| {
                        tx.set("a", &2)?;
                        tx.remove("b")?;
                        tx.set("d", &4)?;
                        tx.set("b", &20)
                    });
                    done.unwrap();
                };
                panics += u32::from(breaks(counted, nth, change));
                let before = there.map(|(key, value)| (key.to_owned(), *value)).to_vec();
                let after = [("a", 2), ("c", 100), ("d", 4), ("b", 20)];
                let after = after.map(|(key, value)| (key.to_owned(), value)).to_vec();
                let seen = content(&one);
                assert!(seen == before || seen == after, "{nth}: {seen:?}");
                assert_eq!(content(&two), seen, "{nth}");
                one.dump().unwrap();
                let three = place.open::<str, Fragile>();
                assert!(
                    [&one, &two, &three]
                        .iter()
                        .all(|dict| content(dict) == seen)
                );
                three.set("e", &5).unwrap();
                assert_eq!(content(&one).len(), seen.len() + 1);
            }
        }
    }
    assert!(panics > 10, "{panics}");
}

#[test]
fn a_panic_while_reading_on_loses_nothing_and_changes_no_order() {
    for nth in 0..4 {
        let place = Place::new();
        let one = place.dict::<str, Fragile>(4096);
        let two = place.open::<str, Fragile>();
        one.set("b", &1).unwrap();
        two.len().unwrap();
        let change = |tx: &mut forkmap::Transaction<'_, str, Fragile>| {
            tx.remove("b")?;
            tx.set("b", &2)?;
            tx.set("c", &3)?;
            tx.set("d", &4)
        };
        one.transaction::<_, StreamError>(change).unwrap();
        let panicked = breaks(&DECODES, nth, || drop(two.len()));
        assert_eq!(panicked, nth < 3);
        assert_eq!(content(&two), content(&one));
        two.set("e", &5).unwrap();
        assert_eq!(content(&one).len(), 4);
    }
}

/// A destructor that looks into the dictionary that drops it.
#[test]
fn a_destructor_that_comes_back_waits_for_nobody() {
    let seen = patient(|| {
        let place = Place::new();
        let dict: &'static Dict = Box::leak(Box::new(place.dict::<str, Fragile>(4096)));
        let other = place.open::<str, Fragile>();
        other.set("a", &7).unwrap();
        assert_eq!(dict.len().unwrap(), 1);
        other.set("a", &8).unwrap();
        HOME.set(Some(dict));
        let seen = dict.get("a").unwrap().map(|value| value.0);
        dict.set("a", &9).unwrap();
        let last = dict.remove("a").unwrap().map(|value| value.0);
        HOME.set(None);
        (seen, last)
    });
    assert_eq!(seen, (Some(8), Some(9)));
}
