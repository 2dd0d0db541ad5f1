//! `SharedHashMap`, with keys and values of several types.

use std::borrow::Borrow;
use std::fs::File;

use forkmap::entry::Entry;
use forkmap::{Options, SharedHashMap, Stored};

use super::damage::{HEADER, LENGTH, Shape, damage_header, get, put, reseal};
use super::input::Input;
use super::{MOMENT, OPERATIONS, Outcome, memory, vandal};

const CAPACITIES: [usize; 3] = [1, 12, 70];
const WRITERS: [usize; 2] = [2, 4];
const SEED: u64 = 11;
/// Bytes of keys and values that vary in length.
const MOST: usize = 20;

/// What keys and values are made of.
trait Sample: Stored {
    fn sample(input: &mut Input<'_>) -> Self::Owned;

    /// Words in a cell.
    fn words(is_key: bool) -> usize {
        match Self::LENGTH {
            Some(8) if is_key => 1,
            Some(len) => len.div_ceil(8) + usize::from(is_key),
            None => 1 + MOST.div_ceil(8),
        }
    }
}

impl Sample for u64 {
    fn sample(input: &mut Input<'_>) -> u64 {
        input.about(20)
    }
}

impl Sample for str {
    fn sample(input: &mut Input<'_>) -> String {
        input.text(MOST)
    }
}

impl Sample for [u8] {
    fn sample(input: &mut Input<'_>) -> Vec<u8> {
        // Too long, now and then.
        input.bytes(MOST + 1)
    }
}

impl Sample for [u16; 6] {
    fn sample(input: &mut Input<'_>) -> Self {
        [u16::from(input.byte()); 6]
    }
}

impl Sample for () {
    fn sample(_: &mut Input<'_>) {}
}

/// Makes a map, damages it, and uses it.
pub fn run(data: &[u8]) -> Outcome {
    let input = &mut Input::new(data);
    let variant = u64::from(input.byte());
    match variant % 5 {
        0 => run_as::<u64, u64>(variant, input),
        1 => run_as::<str, str>(variant, input),
        2 => run_as::<[u16; 6], [u8]>(variant, input),
        3 => run_as::<[u8], ()>(variant, input),
        _ => run_as::<u64, [u16; 6]>(variant, input),
    }
}

fn options<K: Sample + ?Sized, V: Sample + ?Sized>() -> Options<SharedHashMap<K, V>> {
    SharedHashMap::options()
}

/// A map of some size with as many keys as it has seeds, of which it may have lost some.
fn make<K, V>(capacity: usize, writers: usize, keys: usize) -> SharedHashMap<K, V>
where
    K: Sample + ?Sized,
    V: Sample + ?Sized,
{
    let mut options = options::<K, V>();
    options
        .capacity(capacity as u64)
        .participants(writers as u64);
    if K::LENGTH.is_none() {
        options.key_bytes(MOST as u64);
    }
    if V::LENGTH.is_none() {
        options.value_bytes(MOST as u64);
    }
    let map = options.hash_seed(SEED).anonymous().unwrap();
    for n in 0..keys as u8 {
        // What `sample` makes of these bytes: short keys, as operations have them.
        let seed = [2 + n % 4, n, n / 3, n];
        let (key, value) = (
            K::sample(&mut Input::new(&seed)),
            V::sample(&mut Input::new(&seed)),
        );
        let _ = map.set(key.borrow(), value.borrow());
        if n % 5 == 4 {
            let _ = map.remove(key.borrow());
        }
    }
    map
}

fn run_as<K: Sample + ?Sized, V: Sample + ?Sized>(variant: u64, input: &mut Input<'_>) -> Outcome {
    let rest = variant as usize / 5;
    let (capacity, writers) = (CAPACITIES[rest % 3], WRITERS[rest / 3 % 2]);
    let keys = rest / 6 % 3 * capacity / 2;
    let mut bytes = memory::prepared(1000 + variant % 90, || {
        make::<K, V>(capacity, writers, keys)
    });
    let shape = shape(capacity, writers, K::words(true) + V::words(false) + 1);
    assert!(
        shape.parts[FIRST_CELL].end <= bytes.len(),
        "the shape is wrong"
    );
    for _ in 0..input.byte() % 4 {
        let edits = shape.damage(&bytes, input);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
    }
    if input.one_in(8) {
        damage_header(&mut bytes, input);
    }
    if input.one_in(32) {
        // Another length, which the header says too.
        let len = 4096 * (1 + input.below(5));
        bytes.resize(len, 0);
        put(&mut bytes, LENGTH, len as u64);
        reseal(&mut bytes);
    }
    let file = memory::file_of(&bytes);
    let read_only = input.one_in(8);
    let opened = options::<K, V>()
        .read_only(read_only)
        .from_fd(memory::fd(&file));
    let Ok(map) = opened else {
        return Outcome::REFUSED;
    };
    let capacity = map.capacity();
    let outcome = if input.one_in(16) {
        let edits = shape.damage(&bytes[..], input);
        vandal::beside(&file, &bytes, &edits, || play(&map, &file, &shape, input))
    } else {
        play(&map, &file, &shape, input)
    };
    assert_eq!(map.capacity(), capacity);
    outcome
}

/// The parts of a shape, in the order of docs/FORMAT.md.
const BELLS: usize = 0;
const REGISTER: usize = 1;
const JOURNALS: usize = 2;
const BUCKETS: usize = 3;
const HOMES: usize = 4;
const FULL: usize = 5;
const HINT: usize = 6;
const CELLS: usize = 7;
const FIRST_CELL: usize = 8;

fn shape(capacity: usize, writers: usize, cell_words: usize) -> Shape {
    let cells = capacity + writers;
    let lines = (cells * 5 / 4).div_ceil(8) + 1;
    let hint = cells.div_ceil(64);
    let words = [
        4 * writers,
        8 * writers,
        8 * lines,
        2 * lines,
        hint.div_ceil(64),
        hint,
    ];
    let mut parts: Vec<_> = std::iter::once(HEADER..1344).collect();
    for words in words {
        let start = parts[parts.len() - 1].end;
        parts.push(start..start + 8 * words);
    }
    let start = parts[HINT].end;
    parts.push(start..start + 8 * cells * cell_words);
    // The first one once more: small changes there meet each other.
    parts.push(start..start + 8 * cell_words);
    Shape { parts, plausible }
}

/// A word that could stand there, or nearly.
fn plausible(shape: &Shape, bytes: &[u8], offset: usize, input: &mut Input<'_>) -> u64 {
    let part = |n: usize| &shape.parts[n];
    let writers = part(JOURNALS).len() / 64;
    let lines = part(BUCKETS).len() / 64;
    let cell_bytes = part(FIRST_CELL).len();
    let cells = part(CELLS).len() / cell_bytes;
    let seq_bits = (54 - (cells - 1).ilog2() - 1).min(48);
    let of_part = |n: usize, input: &mut Input<'_>| {
        get(bytes, part(n).start + 8 * input.below(part(n).len() / 8))
    };
    let publication = |input: &mut Input<'_>| {
        let cell = input.about(cells) % (1 << (54 - seq_bits));
        (cell << seq_bits) | (input.about(4) % (1 << seq_bits))
    };
    let bucket = |input: &mut Input<'_>| {
        let tentative = u64::from(input.byte() % 2) << 54;
        let tag = of_part(BUCKETS, input) & 0xFF << 55;
        1 << 63 | tag | tentative | publication(input)
    };
    let tagged = |input: &mut Input<'_>| u64::from(input.byte() % 2) << 63 | publication(input);
    let part_of = (0..=CELLS).find(|&n| part(n).contains(&offset));
    let word = (offset - part(part_of.unwrap_or(0)).start) / 8;
    match part_of.unwrap_or(BELLS) {
        REGISTER => match word % 4 {
            0 => input.about(3),
            1 => input.about(3) << 32 | u64::from(std::process::id()),
            _ => input.word(),
        },
        JOURNALS => match word % 8 {
            0 => {
                let (home, index) = (input.about(lines), input.about(lines * 8));
                u64::from(input.byte()) << 62 | (home % (1 << 31)) << 31 | (index % (1 << 31))
            }
            1 if input.one_in(2) => of_part(BUCKETS, input),
            1 => bucket(input),
            _ => tagged(input),
        },
        BUCKETS if input.one_in(4) => of_part(BUCKETS, input),
        BUCKETS => bucket(input),
        // Version, length and what is pending; or tags.
        HOMES if word % 2 == 0 => {
            let (length, pending) = (input.about(lines + 1), input.about(8 * lines));
            input.about(3) << 32 | (length % (1 << 16)) << 16 | (pending % (1 << 16))
        }
        HOMES => of_part(HOMES, input),
        FULL | HINT => input.word(),
        CELLS => match word % (cell_bytes / 8) {
            0 => {
                let (writer, filled) = (input.about(writers + 2), input.byte() % 2);
                writer << 49 | u64::from(filled) << 48 | (input.about(4) % (1 << 48))
            }
            1 => of_part(CELLS, input) & !0xFFFF | input.about(MOST),
            _ => input.about(MOST),
        },
        _ => input.about(2),
    }
}

/// Every operation, with keys that were there and with others.
fn play<K, V>(
    map: &SharedHashMap<K, V>,
    file: &File,
    shape: &Shape,
    input: &mut Input<'_>,
) -> Outcome
where
    K: Sample + ?Sized,
    V: Sample + ?Sized,
{
    let mut out = Outcome::default();
    // (The header may say that there are more keys than in the shape.)
    let buckets = 2 * (map.capacity() + 4096);
    for _ in 0..OPERATIONS {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let (key, new) = (K::sample(input), V::sample(input));
        let (key, new) = (key.borrow(), new.borrow());
        match kind % 32 {
            0 => out.count(map.get(key)),
            1 => out.count(map.get_into(key, &mut V::sample(input))),
            2 => out.count(map.contains_key(key)),
            3 => out.count(map.insert(key, new)),
            4 | 5 => out.count(map.set(key, new)),
            6 => out.count(map.try_insert(key, new)),
            7 => out.count(map.get_or_insert_with(key, || V::sample(input))),
            8 => out.count(map.compare_exchange(key, V::sample(input).borrow(), new)),
            9 => out.count(map.update(key, |old| old.unwrap_or_else(|| V::sample(input)))),
            10 => out.count(map.fetch_update(key, |_| Some(V::sample(input)))),
            11 | 12 => out.count(map.remove(key)),
            13 => out.count(map.remove_if(key, |_| kind > 100)),
            14 => match map.entry(key) {
                Ok(Entry::Occupied(mut entry)) => {
                    out.count(entry.replace(new));
                    out.count(entry.remove());
                }
                Ok(Entry::Vacant(entry)) => out.count(entry.insert(new)),
                error => out.count(error),
            },
            15 => out.count(map.retain(|_, _| input.one_in(2))),
            16 => out.count(map.clear()),
            17 => {
                assert!(map.iter().count() <= buckets && map.keys().count() <= buckets);
                assert!(map.values().count() <= buckets && map.len() <= buckets);
                out.count(Ok::<_, ()>(map.is_empty()));
            }
            18 => out.count(Ok::<_, ()>(map.check())),
            19 => out.count(map.recover()),
            20 => out.count(map.stats()),
            21 => out.count(map.participants()),
            22 => {
                let seen = input.one_in(2).then_some(new);
                let _ = map.wait_for_change(key, seen, MOMENT);
            }
            23 => {
                // A peer that has it open as well.
                match options::<K, V>().from_fd(memory::fd(file)) {
                    Ok(other) => {
                        out.count(other.set(key, new));
                        out.count(map.remove(key));
                    }
                    error => out.count(error),
                }
            }
            _ => {
                let edits = shape.damage(&memory::read(file), input);
                edits.iter().for_each(|edit| edit.write(file));
            }
        }
    }
    out
}
