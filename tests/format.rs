//! The format is what `docs/FORMAT.md` says, byte for byte: this file knows it from there alone.

#![cfg(not(feature = "portable"))]

mod common;
#[path = "stream/document.rs"]
mod document;

use std::fs;

use common::Name;
use document::{Dictionary, Offsets, Words, generation_name};
use forkmap::{AtomicDict, Mismatch, OpenError, SharedHashMap, Stored, StreamDict, StreamError};

const FORMAT: &str = include_str!("../docs/FORMAT.md");

/// The rows of the table under a heading of the document, as cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = FORMAT
        .split(heading)
        .nth(1)
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("---"));
    let cells = |row: &str| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.skip(1).map(cells).collect()
}

fn number(text: &str) -> u64 {
    let text = text.trim_matches('`').replace(['_', ','], "");
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Where the body starts, with as many participants as fit by default.
fn body() -> u64 {
    1344 + 32 * 256
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn word(&self, offset: u64) -> u64 {
        let offset = offset as usize;
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }
}

#[test]
fn a_new_segment_has_every_field_where_the_document_puts_it() {
    let name = Name::new("format");
    let mut options = AtomicDict::options();
    let dict = options
        .capacity(1)
        .schema(0x5C)
        .hash_seed(0x5EED)
        .create(&name)
        .unwrap();
    dict.store(7, 70).unwrap();
    let bytes = Bytes(fs::read(name.path()).unwrap());
    let rows = table("## The header");
    let field = |name: &str| {
        let row = rows.iter().find(|row| row[1] == format!("`{name}`"));
        number(&row.unwrap_or_else(|| panic!("{name} is not in the document"))[0])
    };
    assert_eq!(&bytes.0[..8], b"\x89FKMAP\r\n");
    assert_eq!(bytes.word(field("version")), 2);
    assert_eq!(bytes.word(field("bytes")), bytes.0.len() as u64);
    assert_eq!(bytes.word(field("kind")), 1);
    assert_eq!(bytes.word(field("key")), 8 << 32 | 8);
    assert_eq!(bytes.word(field("value")), 8 << 32 | 8);
    assert_eq!(bytes.word(field("schema")), 0x5C);
    assert_eq!(bytes.word(field("hash_seed")), 0x5EED);
    let instance = u128::from(bytes.word(field("instance"))) << 64
        | u128::from(bytes.word(field("instance") + 8));
    assert_eq!(instance, dict.instance_id());
    let slots = dict.capacity() as u64;
    assert_eq!(bytes.word(field("geometry")), slots);
    assert_eq!(bytes.word(field("participants")), 256);
    let unused = (field("geometry") + 8..field("participants"))
        .chain(field("reserved")..field("checksum"))
        .chain(256..body());
    for zero in unused.step_by(8) {
        assert_eq!(bytes.word(zero), 0, "at {zero}");
    }
    let checksum = field("checksum");
    assert_eq!(checksum, 248);
    assert_eq!(
        bytes.word(checksum),
        xxhash_rust::xxh3::xxh3_64(&bytes.0[..checksum as usize])
    );

    // The one key: its hash is in the slot that the document's arithmetic names.
    let hash = mix(7, 0x5EED);
    let slot = ((u128::from(hash) * u128::from(slots)) >> 64) as u64;
    for i in 0..=slots {
        let at = body() + 16 * i;
        let expected = if i == slot { (hash, 70) } else { (0, 0) };
        assert_eq!((bytes.word(at), bytes.word(at + 8)), expected, "slot {i}");
    }
}

/// The hash, written a second time from the words of the document.
fn mix(key: u64, seed: u64) -> u64 {
    let m = 0xD6E8_FEB8_6659_FD93;
    let a = key ^ seed;
    let b = (a ^ (a >> 32)).wrapping_mul(m) ^ seed.rotate_left(32);
    (b ^ (b >> 32)).wrapping_mul(m)
}

#[test]
fn the_test_vectors_of_the_hash_hold() {
    let rows = table("## The hash of a key of eight bytes");
    assert!(rows.len() >= 6);
    for row in rows {
        let (seed, key, hash) = (number(&row[0]), number(&row[1]), number(&row[2]));
        assert_eq!(
            mix(key, seed),
            hash,
            "the document's own arithmetic, {row:?}"
        );
        // And the crate's: the hash word of the one key of a dictionary with that seed.
        let dict = AtomicDict::options()
            .capacity(1)
            .hash_seed(seed)
            .anonymous()
            .unwrap();
        dict.store(key, 1).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&dict)
            .try_clone_to_owned()
            .unwrap();
        let mut bytes = vec![0; dict.bytes() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&fs::File::from(fd), &mut bytes, 0).unwrap();
        let bytes = Bytes(bytes);
        let found: Vec<u64> = (0..8)
            .map(|i| bytes.word(body() + 16 * i))
            .filter(|&w| w != 0)
            .collect();
        assert_eq!(found, [hash], "{row:?}");
    }
}

#[test]
fn a_segment_of_format_1_is_refused_by_name() {
    let name = Name::new("golden-1");
    let golden = include_bytes!("golden/format-1-atomic-dict.seg");
    fs::write(name.path(), golden).unwrap();
    let error = AtomicDict::options().schema(0xF0).open(&name).unwrap_err();
    assert!(matches!(
        error,
        OpenError::Mismatch {
            mismatch: Mismatch::Version { found: 1, ours: 2 },
            ..
        }
    ));
}

/// A segment as format 2 has always been: it opens for as long as this crate reads format 2, and a
/// change of any byte's meaning must come with another version.
#[test]
fn a_segment_of_format_2_still_opens() {
    let name = Name::new("golden-2");
    let golden = include_bytes!("golden/format-2-atomic-dict.seg");
    fs::write(name.path(), golden).unwrap();
    let dict = AtomicDict::options().schema(0xF0).open(&name).unwrap();
    assert_eq!(dict.capacity(), 20);
    let mut pairs: Vec<_> = dict.iter().collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [(0, 10), (1, 11), (42, 52), (u64::MAX, 9)]);
    assert_eq!(dict.fetch_add(42, 1), Ok(52));
}

/// A number of bytes that all have, or the most of those that vary.
#[derive(Clone, Copy)]
enum Length {
    Fixed(u64),
    UpTo(u64),
}

impl Length {
    /// By the words of the header that tell of it.
    fn of(shape: u64, bytes: u64) -> Self {
        match shape >> 32 {
            0xFFFF_FFFF => Self::UpTo(bytes),
            size => {
                assert_eq!(size, bytes);
                Self::Fixed(bytes)
            }
        }
    }
}

/// A map at rest, as the document describes it, read by nothing else: its header, and where its parts
/// stand.
struct Map<'b> {
    bytes: &'b Bytes,
    seed: u64,
    keys: u64,
    writers: u64,
    key: Length,
    value: Length,
    lines: u64,
    cell_words: u64,
    journals: u64,
    buckets: u64,
    homes: u64,
    full: u64,
    hint: u64,
    cells: u64,
    end: u64,
}

impl<'b> Map<'b> {
    fn new(bytes: &'b Bytes) -> Self {
        let (keys, writers) = (bytes.word(80), bytes.word(144));
        let key = Length::of(bytes.word(32), bytes.word(88));
        let value = Length::of(bytes.word(40), bytes.word(96));
        let cells = keys + writers;
        let lines = (5 * cells / 4).div_ceil(8) + 1;
        let hint_words = cells.div_ceil(64);
        let full_words = hint_words.div_ceil(64);
        let key_words = match key {
            Length::Fixed(8) => 1,
            Length::Fixed(k) | Length::UpTo(k) => 1 + k.div_ceil(8),
        };
        let value_words = match value {
            Length::Fixed(v) => v.div_ceil(8),
            Length::UpTo(v) => 1 + v.div_ceil(8),
        };
        let cell_words = 1 + key_words + value_words;
        let journals = 1344 + 32 * writers;
        let buckets = journals + 64 * writers;
        let homes = buckets + 64 * lines;
        let full = homes + 16 * lines;
        let hint = full + 8 * full_words;
        let first_cell = hint + 8 * hint_words;
        Self {
            bytes,
            seed: bytes.word(56),
            keys,
            writers,
            key,
            value,
            lines,
            cell_words,
            journals,
            buckets,
            homes,
            full,
            hint,
            cells: first_cell,
            end: first_cell + 8 * cells * cell_words,
        }
    }

    fn string(&self, offset: u64, len: u64) -> Vec<u8> {
        let last = offset + len.next_multiple_of(8);
        assert!(
            self.bytes.0[(offset + len) as usize..last as usize]
                .iter()
                .all(|&b| b == 0)
        );
        self.bytes.0[offset as usize..(offset + len) as usize].to_vec()
    }

    /// The hash and the bytes of the key in a cell, and where its value stands.
    fn key(&self, cell: u64) -> (u64, Vec<u8>, u64) {
        let first = self.bytes.word(cell + 8);
        let most = match self.key {
            Length::Fixed(8) => {
                return (mix(first, self.seed), self.string(cell + 8, 8), cell + 16);
            }
            Length::Fixed(k) | Length::UpTo(k) => k,
        };
        let len = first & 0xFFFF;
        let key = self.string(cell + 16, len);
        match self.key {
            Length::Fixed(k) => assert_eq!(len, k),
            Length::UpTo(k) => assert!(len <= k),
        }
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&key, self.seed) >> 16 << 16;
        assert_eq!(first, hash | len);
        (hash, key, cell + 16 + most.next_multiple_of(8))
    }

    fn value(&self, offset: u64) -> Vec<u8> {
        match self.value {
            Length::Fixed(v) => self.string(offset, v),
            Length::UpTo(v) => {
                let len = self.bytes.word(offset);
                assert!(len <= v);
                self.string(offset + 8, len)
            }
        }
    }

    /// All keys and values, sorted; and everything else is as in a map at rest.
    fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let cells = self.keys + self.writers;
        let seq_bits = (54 - (64 - (cells - 1).leading_zeros())).min(48);
        let cell_of = |publication: u64| (publication & ((1 << 54) - 1)) >> seq_bits;
        let seq_of = |publication: u64| publication & ((1 << seq_bits) - 1);
        let owner = |cell: u64| {
            let new = cell
                .checked_sub(self.keys)
                .map_or(0, |writer| (writer + 1) << 49);
            self.bytes.word(self.cells + 8 * cell * self.cell_words) ^ new
        };
        let mut who = vec![0; cells as usize];
        let mut farthest = vec![0; self.lines as usize];
        let mut entries = Vec::new();
        for index in 0..8 * self.lines {
            let word = self.bytes.word(self.buckets + 8 * index);
            if word >> 63 == 0 {
                assert_eq!(word, 0);
                continue;
            }
            assert_eq!(word >> 54 & 1, 0, "tentative");
            let cell = cell_of(word);
            who[cell as usize] += 1;
            assert_eq!(owner(cell) >> 48 & 1, 1, "filled");
            assert!(
                (1..=self.writers).contains(&(owner(cell) >> 49)),
                "by a writer"
            );
            assert_eq!(owner(cell) & ((1 << 48) - 1), seq_of(word));
            let (hash, key, value) = self.key(self.cells + 8 * cell * self.cell_words);
            let tag = (hash >> 16 & 0xFF).max(1);
            assert_eq!(word >> 55 & 0xFF, tag);
            let tags = self.bytes.word(self.homes + 16 * (index / 8) + 8);
            assert_eq!(tags >> (8 * (index % 8)) & 0xFF, tag);
            let home = ((u128::from(hash) * u128::from(self.lines)) >> 64) as u64;
            let distance = (index / 8 + self.lines - home) % self.lines;
            let far = &mut farthest[home as usize];
            *far = distance.max(*far);
            entries.push((key, self.value(value)));
        }
        for (home, &farthest) in (0..).zip(&farthest) {
            let word = self.bytes.word(self.homes + 16 * home);
            assert_eq!(word & 0xFFFF, 0, "pending");
            assert_eq!(word >> 16 & 0xFFFF, farthest);
            assert!(farthest <= 8190);
        }
        for writer in 0..self.writers {
            let journal = |word: u64| self.bytes.word(self.journals + 64 * writer + 8 * word);
            let spare = match journal(2) {
                0 => self.keys + writer,
                spare => {
                    assert_eq!(spare >> 63, 1);
                    cell_of(spare)
                }
            };
            assert_eq!(owner(spare) >> 49, writer + 1);
            who[spare as usize] += 1;
            assert_eq!(journal(0) | journal(3), 0, "nothing is half done");
            assert_eq!(journal(4) | journal(5) | journal(6) | journal(7), 0);
        }
        for (cell, who) in (0..).zip(who) {
            let is_free = owner(cell) >> 49 == 0;
            assert_eq!(who + u64::from(is_free), 1, "one has cell {cell}");
            let bit = self.bytes.word(self.hint + cell / 64 * 8) >> (cell % 64) & 1;
            assert!(!is_free || bit == 0, "a free cell can be found");
        }
        for word in 0..cells.div_ceil(64) {
            let all = self.bytes.word(self.hint + 8 * word) == u64::MAX;
            let full = self.bytes.word(self.full + word / 64 * 8) >> (word % 64) & 1;
            assert!(full == 0 || all, "word {word} of the hint is hidden");
        }
        let rest = &self.bytes.0[self.end as usize..];
        assert!(rest.len() < 4096 && rest.iter().all(|&byte| byte == 0));
        entries.sort();
        entries
    }
}

/// Does some of everything to a map, and compares what it holds with what the document makes of its bytes.
fn a_map_is_as_documented<K, V>(limits: [u64; 2], keys: &[K::Owned], values: &[V::Owned])
where
    K: Stored<Owned: Sync> + ?Sized,
    V: Stored<Owned: Sync> + ?Sized,
{
    let name = Name::new("map-format");
    let mut options = SharedHashMap::<K, V>::options();
    options
        .capacity(keys.len() as u64)
        .participants(4)
        .hash_seed(0x5EED);
    let [key_bytes, value_bytes] = limits;
    options.key_bytes(key_bytes).value_bytes(value_bytes);
    let map = options.create(&name).unwrap();
    assert_eq!(map.bytes(), options.required_bytes().unwrap());
    let key = |n: usize| std::borrow::Borrow::<K::Item>::borrow(&keys[n % keys.len()]);
    let value = |n: usize| std::borrow::Borrow::<V::Item>::borrow(&values[n % values.len()]);
    let look = |inserted: usize| {
        let bytes = Bytes(fs::read(name.path()).unwrap());
        assert_eq!(bytes.word(24), 2);
        assert_eq!(
            [bytes.word(80), bytes.word(88), bytes.word(96)],
            [keys.len() as u64, key_bytes, value_bytes,]
        );
        let document = Map::new(&bytes);
        assert_eq!(document.end.next_multiple_of(4096), bytes.0.len() as u64);
        let stored = |key: &K::Owned, value: &V::Owned| {
            let key = std::borrow::Borrow::<K::Item>::borrow(key);
            let value = std::borrow::Borrow::<V::Item>::borrow(value);
            let (key, value) = (K::encode(key).unwrap(), V::encode(value).unwrap());
            (key.as_ref().to_vec(), value.as_ref().to_vec())
        };
        let entries = map.iter().map(|entry| entry.unwrap());
        let mut entries: Vec<_> = entries.map(|(key, value)| stored(&key, &value)).collect();
        entries.sort();
        assert_eq!(entries.len(), inserted);
        assert_eq!(document.entries(), entries);
    };
    look(0);
    let some = keys.len() - 2;
    for n in 0..some {
        map.insert(key(n), value(n)).unwrap();
    }
    look(some);
    for n in 0..some {
        map.insert(key(n), value(n + 1)).unwrap();
    }
    map.remove(key(1)).unwrap();
    map.insert(key(some), value(0)).unwrap();
    look(some);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            map.set(key(0), value(2)).unwrap();
            map.insert(key(1), value(1)).unwrap();
            map.remove(key(2)).unwrap();
        });
    });
    look(some);
    map.clear().unwrap();
    look(0);
}

#[test]
fn a_map_has_every_word_where_the_document_puts_it() {
    let texts = |count: usize| -> Vec<String> {
        (0..count)
            .map(|n| "text".repeat(6)[..n % 21].to_owned() + &n.to_string())
            .collect()
    };
    let words: Vec<u64> = (0..200).map(|n| u64::MAX / 200 * n).collect();
    let odd: Vec<[u8; 12]> = (0..30).map(|n| [n; 12]).collect();
    let bytes: Vec<Vec<u8>> = (0..12).map(|n| vec![n; usize::from(n)]).collect();
    a_map_is_as_documented::<str, str>([24, 24], &texts(20), &texts(20));
    a_map_is_as_documented::<u64, u64>([8, 8], &words, &words);
    a_map_is_as_documented::<u64, [u8]>([8, 40], &words, &bytes);
    a_map_is_as_documented::<[u8; 12], ()>([12, 0], &odd, &[()]);
    a_map_is_as_documented::<[u8], [u8; 12]>([11, 12], &bytes, &odd);
    a_map_is_as_documented::<u8, u64>([1, 8], &[0, 1, 254, 255], &words);
    // Enough for more than one word of the upper hint.
    let many: Vec<u64> = (0..5000).map(|n| n * n).collect();
    a_map_is_as_documented::<u64, u64>([8, 8], &many, &words);
}

#[test]
fn the_test_vectors_of_the_hash_of_other_keys_hold() {
    let rows = table("## The hash of other keys");
    assert!(rows.len() >= 6);
    for row in rows {
        let (seed, key, hash) = (number(&row[0]), row[1].trim_matches('`'), number(&row[2]));
        assert_eq!(
            xxhash_rust::xxh3::xxh3_64_with_seed(key.as_bytes(), seed),
            hash
        );
        // And the crate's: the first word of the one key of a map with that seed.
        let name = Name::new("map-hash");
        let mut options = SharedHashMap::<str, ()>::options();
        options.capacity(1).participants(2).hash_seed(seed);
        options.create(&name).unwrap().set(key, &()).unwrap();
        let bytes = Bytes(fs::read(name.path()).unwrap());
        let map = Map::new(&bytes);
        assert_eq!(map.entries(), [(key.as_bytes().to_vec(), vec![])]);
        let found = (0..3).map(|cell| bytes.word(map.cells + 8 * (cell * map.cell_words + 1)));
        let expected = hash & !0xFFFF | key.len() as u64;
        assert!(found.into_iter().any(|word| word == expected), "{row:?}");
    }
}

/// As for the dictionary above: a map as format 2 has always been.
#[test]
fn a_map_of_format_2_still_opens() {
    let golden = include_bytes!("golden/format-2-shared-hash-map.seg");
    let there = [
        ("", "nothing"),
        ("a", ""),
        ("key", "another value"),
        ("ümläüt", "ß"),
    ];
    let bytes = Bytes(golden.to_vec());
    let stored = there.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()));
    assert_eq!(Map::new(&bytes).entries(), stored);

    let name = Name::new("golden-map");
    fs::write(name.path(), golden).unwrap();
    let map = SharedHashMap::<str, str>::options()
        .schema(0xF0)
        .open(&name)
        .unwrap();
    assert_eq!(
        (map.capacity(), map.key_bytes(), map.value_bytes()),
        (6, 9, 16)
    );
    let mut entries: Vec<_> = map.iter().map(Result::unwrap).collect();
    entries.sort();
    assert!(
        entries
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .eq(there)
    );
    assert_eq!((map.check(), map.get("gone").unwrap()), (vec![], None));
    assert_eq!(
        map.insert("key", "new").unwrap().as_deref(),
        Some("another value")
    );
    for key in ["5", "6"] {
        assert!(map.try_insert(key, "").unwrap());
    }
    assert!(map.try_insert("7", "").is_err());
    assert_eq!(map.check(), Vec::<String>::new());
}

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
    let control = include_bytes!("golden/format-2-stream-dict.seg");
    let generation = include_bytes!("golden/format-2-stream-generation.seg");
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
