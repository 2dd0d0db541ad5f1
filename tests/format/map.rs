//! The body of a `SharedHashMap`.

use std::fs;

use forkmap::{SharedHashMap, Stored};

use crate::common::Name;
use crate::dict::mix;
use crate::{Bytes, number, table};

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
    let golden = include_bytes!("../golden/format-2-shared-hash-map.seg");
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
