//! Nested maps in the hands of those who mean harm, and of code that panics: records that no version writes, and
//! values that come to nothing half-way.

use std::borrow::Borrow;
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use forkmap::{
    CodecError, Stored, StreamDict, StreamError, Transaction, Tree, TypeShape, WatchEvent,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::damage::{FIRST_LINK, LOG, USED, put, record};
use crate::samples::Place;

const KEYS: [&str; 3] = ["a", "b", "c"];

/// Puts a change behind others, as docs/FORMAT.md says.
fn change(out: &mut Vec<u8>, kind: u32, key: &str, value: &[u8]) {
    out.extend((kind << 29 | key.len() as u32).to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(key.as_bytes());
    out.extend(value);
}

/// Any change, of maps that may be there or not, twice, or within each other.
fn any_change(out: &mut Vec<u8>, rng: &mut SmallRng) {
    let key = KEYS[rng.random_range(0..3)];
    let id = rng.random_range(0..6_u64).to_le_bytes();
    match rng.random_range(0..14) {
        0..3 => change(out, 1, key, &rng.random_range(0..100_u64).to_le_bytes()),
        3 => change(out, 2, key, b""),
        4 if rng.random_range(0..4) == 0 => change(out, 3, "", b""),
        5..9 => change(out, 4, key, &id),
        9 if rng.random_range(0..9) == 0 => change(out, 4, key, &id[..rng.random_range(0..8)]),
        10 if rng.random_range(0..9) == 0 => change(out, rng.random_range(6..8), key, &id),
        _ => change(out, 5, "", &id),
    }
}

#[test]
fn records_of_maps_that_nobody_writes_are_damage_or_harmless() {
    let base = rand::rng().random::<u64>();
    let (mut whole, mut damaged, mut refused) = (0, 0, 0);
    for seed in (0..1500).map(|n| base.wrapping_add(n)) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let place = Place::new();
        drop(place.dict::<str, u64>(4096));
        let path = place.path().join(place.generation("dict"));
        let mut bytes = fs::read(&path).unwrap();
        // {"a": {"b": {"c": 9}}, "b": {}}, and perhaps something else.
        let mut first = Vec::new();
        for (key, id) in [("a", 1_u64), ("b", 3)] {
            change(&mut first, 4, key, &id.to_le_bytes());
        }
        change(&mut first, 5, "", &1_u64.to_le_bytes());
        change(&mut first, 4, "b", &2_u64.to_le_bytes());
        change(&mut first, 5, "", &2_u64.to_le_bytes());
        change(&mut first, 1, "c", &9_u64.to_le_bytes());
        (0..rng.random_range(0..3)).for_each(|_| any_change(&mut first, &mut rng));
        let mut second = Vec::new();
        (0..rng.random_range(1..12)).for_each(|_| any_change(&mut second, &mut rng));
        let link = 8 + 2 + first.len().div_ceil(8) as u64;
        let at = LOG + 8 * link as usize;
        put(&mut bytes, LOG + FIRST_LINK, 8);
        put(&mut bytes, LOG + USED, 400);
        record(&mut bytes, LOG + 64, 0, &first);
        record(&mut bytes, at, 0, &second);
        fs::write(&path, &bytes).unwrap();
        let Ok(dict) = place.options::<str, u64>().open("dict") else {
            refused += 1;
            continue;
        };
        let down = |path: &[&str]| {
            let down = |dict: StreamDict<str, u64>, key: &&str| dict.get_nested(key).ok().flatten();
            path.iter().try_fold(dict.clone(), down)
        };
        let maps: Vec<_> = [&[][..], &["a"], &["a", "b"], &["b"]]
            .into_iter()
            .filter_map(down)
            .collect();
        let watches = maps.iter().flat_map(|map| {
            [map.watch(), map.watch_key("b"), map.watch_prefix("a")].map(Result::unwrap)
        });
        let mut watches: Vec<_> = watches.collect();
        // Behind those who have it open.
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&link.to_le_bytes(), (LOG + 64) as u64)
            .unwrap();
        for watch in &mut watches {
            let ends = (0..500).any(|_| !matches!(watch.next_within(Duration::ZERO), Ok(Some(_))));
            assert!(ends, "seed {seed}");
            let _ = watch.next_within(Duration::ZERO);
        }
        let shown = |dict: &StreamDict<str, u64>| dict.view().map(|view| format!("{view:?}"));
        let now = match shown(&dict) {
            Ok(now) => now,
            Err(StreamError::Damaged) => {
                damaged += 1;
                assert!(dict.set("x", &1).is_err() && dict.dump().is_err());
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        // What it is, it is for all, whatever is done with it.
        whole += 1;
        for map in &maps {
            match map.set("q", &1) {
                Ok(()) => assert_eq!(map.remove("q").unwrap(), Some(1)),
                Err(error) => assert!(matches!(error, StreamError::Gone), "seed {seed}: {error}"),
            }
        }
        let taken_back = dict.transaction(|tx| {
            tx.clear();
            Err::<(), _>(StreamError::Forked)
        });
        assert!(taken_back.is_err());
        assert_eq!(shown(&dict).unwrap(), now, "seed {seed}");
        dict.dump().unwrap();
        assert_eq!(shown(&place.open()).unwrap(), now, "seed {seed}");
        dict.clear().unwrap();
        assert!(place.open::<str, u64>().is_empty().unwrap());
    }
    println!("seed {base}: {whole} whole, {damaged} damaged, {refused} refused");
    assert!(whole > 100 && damaged > 100 && refused > 20);
}

/// Each by itself, in a log that is right but for that.
#[test]
fn records_that_no_version_writes_are_refused() {
    let id = |id: u64| id.to_le_bytes();
    let nest = |out: &mut Vec<u8>, key: &str, map: u64| change(out, 4, key, &id(map));
    let at = |out: &mut Vec<u8>, map: u64| change(out, 5, "", &id(map));
    let chain = |out: &mut Vec<u8>, levels: u64| {
        for map in 1..=levels {
            nest(out, "x", map);
            at(out, map);
        }
    };
    type Write<'a> = &'a dyn Fn(&mut Vec<u8>);
    let right: [Write<'_>; 3] = [
        &|out| chain(out, 128),
        &|out| {
            nest(out, "a", 1);
            nest(out, "a", 2);
            nest(out, "b", 1);
        },
        &|out| at(out, 0),
    ];
    let wrong: [Write<'_>; 9] = [
        &|out| chain(out, 129),
        // Of a map that is not there, not any more, or not yet.
        &|out| {
            at(out, 7);
            change(out, 1, "a", &id(1));
        },
        &|out| {
            nest(out, "a", 7);
            change(out, 2, "a", b"");
            at(out, 7);
            change(out, 3, "", b"");
        },
        // Under an id that another one has.
        &|out| nest(out, "a", 0),
        &|out| {
            nest(out, "a", 1);
            nest(out, "b", 1);
        },
        &|out| {
            nest(out, "a", 1);
            at(out, 1);
            nest(out, "a", 1);
        },
        &|out| change(out, 4, "a", &[1; 7]),
        &|out| change(out, 5, "a", &id(0)),
        &|out| change(out, 6, "", b""),
    ];
    let opened = |write: Write<'_>| {
        let place = Place::new();
        drop(place.dict::<str, u64>(1 << 14));
        let path = place.path().join(place.generation("dict"));
        let mut bytes = fs::read(&path).unwrap();
        let mut payload = Vec::new();
        write(&mut payload);
        put(&mut bytes, LOG + FIRST_LINK, 8);
        put(&mut bytes, LOG + USED, 1000);
        record(&mut bytes, LOG + 64, 0, &payload);
        fs::write(&path, &bytes).unwrap();
        place.options::<str, u64>().open("dict").map(drop)
    };
    for write in right {
        opened(write).unwrap();
    }
    for (n, write) in wrong.into_iter().enumerate() {
        let refused = opened(write).unwrap_err();
        assert!(refused.to_string().contains("damaged"), "{n}: {refused}");
    }
}

thread_local! {
    /// How many times code of the user is still called in this thread before it panics once.
    static CALLS: Cell<u32> = const { Cell::new(u32::MAX) };
}

fn called() {
    match CALLS.get() {
        u32::MAX => {}
        _ if std::thread::panicking() => {}
        0 => {
            CALLS.set(u32::MAX);
            panic!("once");
        }
        more => CALLS.set(more - 1),
    }
}

struct Fragile;

struct Value(u64);

impl Clone for Value {
    fn clone(&self) -> Self {
        called();
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        called();
    }
}

impl Borrow<u64> for Value {
    fn borrow(&self) -> &u64 {
        &self.0
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
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
        called();
        Ok(item.to_le_bytes())
    }

    fn room(image: &mut Vec<u8>, len: usize) -> &mut [u8] {
        image.resize(len, 0);
        image
    }

    fn decode(image: Vec<u8>) -> Result<Value, CodecError> {
        called();
        Ok(Value(u64::from_le_bytes(image[..].try_into()?)))
    }
}

/// Some changes on some levels.
fn some_changes(
    tx: &mut Transaction<'_, str, Fragile>,
    rng: &mut SmallRng,
    deeper: u32,
) -> Result<(), StreamError> {
    for _ in 0..rng.random_range(1..5) {
        let key = KEYS[rng.random_range(0..3)];
        match rng.random_range(0..10) {
            0..3 => tx.set(key, &rng.random_range(0..100))?,
            3 => _ = tx.remove(key)?,
            4..7 if deeper > 0 => match tx.nested(key) {
                Ok(mut nested) => some_changes(&mut nested, rng, deeper - 1)?,
                Err(error) => assert!(matches!(error, StreamError::IsValue)),
            },
            7 => {
                if let Some(node) = tx.get_node(KEYS[rng.random_range(0..3)])? {
                    let done = tx.set_node(key, &node);
                    assert!(matches!(done, Ok(()) | Err(StreamError::TooDeep { .. })));
                }
            }
            8 if rng.random_range(0..5) == 0 => tx.clear(),
            _ => drop(tx.remove_node(key)?),
        }
    }
    Ok(())
}

/// As another program sees it, all or nothing has happened, to every copy the same.
#[test]
fn a_panic_on_any_level_tears_nothing() {
    let base = rand::rng().random::<u64>();
    println!("seed {base}");
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&"once") {
            loud(info);
        }
    }));
    let (mut outside, mut inside) = (0, 0);
    for seed in (0..40).map(|n| base.wrapping_add(n)) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let place = Place::new();
        let dicts = [place.dict::<str, Fragile>(512), place.open()];
        let plain = place.open::<str, u64>();
        let (mut copy, mut watch) = (Tree::new(), plain.watch().unwrap());
        let shown = |dict: &StreamDict<str, Fragile>| format!("{:?}", dict.view().unwrap());
        for _ in 0..50 {
            let before = shown(&dicts[0]);
            let after = RefCell::new(before.clone());
            let dict = &dicts[rng.random_range(0..2)];
            let (fails, twice) = (rng.random_range(0..4) == 0, rng.random::<bool>());
            CALLS.set(rng.random_range(0..60));
            let transaction = || {
                dict.transaction(|tx| {
                    if twice {
                        // One that the closure gets over.
                        let changes = AssertUnwindSafe(|| some_changes(tx, &mut rng, 3));
                        let changed = catch_unwind(changes);
                        inside += u32::from(changed.is_err());
                    }
                    some_changes(tx, &mut rng, 3)?;
                    let left = CALLS.replace(u32::MAX);
                    *after.borrow_mut() = format!("{tx:?}");
                    CALLS.set(left);
                    match fails {
                        true => Err(StreamError::Forked),
                        false => Ok(()),
                    }
                })
            };
            let done = catch_unwind(AssertUnwindSafe(transaction));
            CALLS.set(u32::MAX);
            let (now, after) = (shown(&dicts[0]), after.into_inner());
            match done {
                Ok(Ok(())) => assert_eq!(now, after),
                Ok(Err(error)) => {
                    assert!(fails, "{error}");
                    assert_eq!(now, before);
                }
                Err(_) => {
                    outside += 1;
                    assert!(now == before || now == after);
                }
            }
            dicts[0].dump().unwrap();
            assert_eq!(shown(&dicts[1]), now);
            assert_eq!(format!("{:?}", plain.view().unwrap()), now);
            assert_eq!(shown(&place.open()), now);
            while let Some(event) = watch.next_within(Duration::ZERO).unwrap() {
                let changes = match event {
                    WatchEvent::Changed { change, .. } => vec![change],
                    WatchEvent::Lagged => Vec::new(),
                    WatchEvent::Resync { changes, .. } => changes,
                };
                for change in changes {
                    assert!(copy.apply(change));
                }
            }
            assert_eq!(plain.view().unwrap(), copy);
        }
    }
    println!("{outside} panics outside, {inside} inside");
    assert!(outside > 100 && inside > 30);
}
