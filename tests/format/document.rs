//! A `StreamDict` in its two files, as docs/FORMAT.md describes it, and read by nothing else.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

pub(crate) struct Words(pub(crate) Vec<u8>);

impl Words {
    pub(crate) fn word(&self, offset: u64) -> u64 {
        let offset = offset as usize;
        u64::from_le_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }

    fn slice(&self, offset: u64, len: u64) -> &[u8] {
        &self.0[offset as usize..(offset + len) as usize]
    }

    fn are_zero(&self, offset: u64, end: u64) {
        assert!(
            self.slice(offset, end - offset)
                .iter()
                .all(|&byte| byte == 0),
            "{offset} to {end}"
        );
    }

    fn geometry(&self, n: u64) -> u64 {
        self.word(80 + 8 * n)
    }
}

fn xxh3(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// What the tables of the page call a word, and where they put it, counted from `b`.
pub(crate) type Offsets = HashMap<String, u64>;

/// What a key holds: its stored value, or the id of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    Value(Vec<u8>),
    Map(u64),
}

/// By their ids, with their entries in their order. That of the root is 0.
type Maps = HashMap<u64, Vec<(Vec<u8>, Stored)>>;

/// A control, and the generation that it leads to.
pub(crate) struct Dictionary {
    pub(crate) control: Words,
    pub(crate) generation: Words,
    maps: Maps,
    pub(crate) records: u64,
}

/// The name of the generation that a control leads to.
pub(crate) fn generation_name(name: &str, control: &Words, offsets: &Offsets) -> String {
    let body = 1344 + 32 * control.word(144);
    let (instance, id) = (control.word(64), control.word(body + offsets["current"]));
    format!("{name}.{instance:016x}.{id:016x}")
}

impl Dictionary {
    /// One that nobody changes at this moment.
    pub(crate) fn read(dir: &Path, name: &str, offsets: &Offsets) -> Self {
        let file = |name: &str| Words(fs::read(dir.join(name)).unwrap());
        let control = file(name);
        let generation = file(&generation_name(name, &control, offsets));
        let mut dictionary = Self {
            control,
            generation,
            maps: HashMap::from([(0, Vec::new())]),
            records: 0,
        };
        dictionary.check_control(offsets);
        dictionary.read_generation(offsets);
        dictionary
    }

    /// The root, which has no maps in it.
    pub(crate) fn entries(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = self.maps[&0].iter().cloned();
        let value = |(key, node)| match node {
            Stored::Value(value) => (key, value),
            Stored::Map(_) => panic!("{key:?} holds a map"),
        };
        entries.map(value).collect()
    }

    /// The whole dictionary, of texts.
    pub(crate) fn text(&self) -> String {
        self.text_of(0)
    }

    fn text_of(&self, map: u64) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let entry = |(key, node): &(Vec<u8>, Stored)| {
            let node = match node {
                Stored::Value(value) => format!("{:?}", text(value)),
                Stored::Map(map) => self.text_of(*map),
            };
            format!("{:?}: {node}", text(key))
        };
        let entries: Vec<_> = self.maps[&map].iter().map(entry).collect();
        format!("{{{}}}", entries.join(", "))
    }

    fn check_control(&self, offsets: &Offsets) {
        let control = &self.control;
        assert_eq!((control.word(24), control.word(8)), (3, 2));
        let participants = control.word(144);
        let b = 1344 + 32 * participants;
        let end = b + 8 * (8 + 4 * participants);
        assert_eq!(control.word(16), end.next_multiple_of(4096));
        assert_eq!(control.0.len() as u64, control.word(16));
        (2..8).for_each(|n| assert_eq!(control.geometry(n), 0));
        assert_eq!(control.word(b + offsets["unlinked"]), 0);
        control.are_zero(b + 16, b + 64);
        control.are_zero(end, control.word(16));
        for slot in 0..participants {
            let row = b + 32 * slot;
            assert_eq!(control.word(row + offsets["candidate"]), 0);
            assert!(control.word(row + offsets["generation"]) <= self.generation.geometry(2));
            assert_eq!(control.word(row + offsets["records"] + 8), 0);
        }
    }

    fn read_generation(&mut self, offsets: &Offsets) {
        let generation = &self.generation;
        assert_eq!((generation.word(24), generation.word(144)), (4, 2));
        for same in [8, 32, 40, 48] {
            assert_eq!(generation.word(same), self.control.word(same));
        }
        let b = 1408;
        let [id, previous, number, words, dump_bytes] =
            [0, 1, 2, 3, 4].map(|n| generation.geometry(n));
        let body = 1344 + 32 * self.control.word(144);
        assert_eq!(id, self.control.word(body + offsets["current"]));
        assert_eq!(previous == 0, number == 1);
        let since = (generation.geometry(5), generation.geometry(6));
        assert!((1, 0) <= since && since <= (number, 0), "{since:?}");
        assert_eq!(generation.geometry(7), 0);
        generation.are_zero(256, b);
        let end = b + 8 * (words + 1 + dump_bytes.div_ceil(8));
        assert_eq!(generation.word(16), end.next_multiple_of(4096));
        assert_eq!(generation.0.len() as u64, generation.word(16));
        let least = 8 + self.control.geometry(0) / 8;
        assert!(words >= least && words >= 8 + dump_bytes.div_ceil(8));

        let dump = generation.slice(b + 8 * words + 8, dump_bytes);
        assert_eq!(generation.word(b + 8 * words), xxh3(dump));
        generation.are_zero(b + 8 * words + 8 + dump_bytes, generation.word(16));
        let mut maps = self.maps.clone();
        apply(&mut maps, 0, dump);
        assert_eq!(
            generation.word(b + offsets["next"]),
            0,
            "nothing is half done"
        );
        generation.are_zero(b + 32, b + offsets["arena"]);
        let used = generation.word(b + offsets["used"]);
        assert!(used <= words - 8);
        let (mut link, mut taken) = (generation.word(b + offsets["first"]), 0);
        while link != 0 && link != u64::MAX {
            assert!(link >= 8 && link < words);
            let at = b + 8 * link;
            let (len, checksum) = (
                generation.word(at + 8) >> 32,
                generation.word(at + 8) as u32,
            );
            let payload = generation.slice(at + 16, len);
            assert_eq!(xxh3(payload) as u32, checksum);
            apply(&mut maps, 0, payload);
            taken += 2 + len.div_ceil(8);
            self.records += 1;
            link = generation.word(at);
        }
        assert_eq!(link, 0, "it is not sealed");
        assert!(taken <= used && self.records <= (words - 8) / 2);
        generation.are_zero(b + 64 + 8 * used, b + 8 * words);
        self.maps = maps;
    }
}

/// Applies changes, which begin in the map `at`; and tells in which they end.
fn apply(maps: &mut Maps, mut at: u64, mut bytes: &[u8]) -> u64 {
    while !bytes.is_empty() {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (kind, k, v) = (number(0) >> 29, number(0) & ((1 << 29) - 1), number(4));
        let (key, rest) = bytes[8..].split_at(k as usize);
        let (value, rest) = rest.split_at(v as usize);
        bytes = rest;
        let id = || u64::from_le_bytes(value.try_into().unwrap());
        if kind == 5 {
            assert!(key.is_empty());
            at = id();
            continue;
        }
        let entries = maps.get_mut(&at).expect("the map is there");
        let there = entries.iter().position(|(there, _)| there == key);
        let mut put = |node| match there {
            Some(there) => Some(std::mem::replace(&mut entries[there].1, node)),
            None => {
                entries.push((key.to_vec(), node));
                None
            }
        };
        let old: Vec<_> = match kind {
            1 => put(Stored::Value(value.to_vec())).into_iter().collect(),
            2 => {
                assert!(value.is_empty());
                there.map(|at| entries.remove(at).1).into_iter().collect()
            }
            3 => {
                assert!(key.is_empty() && value.is_empty());
                entries.drain(..).map(|(_, node)| node).collect()
            }
            4 => {
                let old = put(Stored::Map(id()));
                assert!(maps.insert(id(), Vec::new()).is_none());
                old.into_iter().collect()
            }
            kind => panic!("no change is of kind {kind}"),
        };
        old.iter().for_each(|node| forget(maps, node));
    }
    at
}

/// With a map goes everything in it.
fn forget(maps: &mut Maps, node: &Stored) {
    if let Stored::Map(id) = node {
        let entries = maps.remove(id).unwrap();
        entries.iter().for_each(|(_, node)| forget(maps, node));
    }
}
