//! Random programs.

use forkmap::model::hash::{hash_bytes, place, unmix};
use forkmap::model::map::{CellShape, Geometry};

use crate::random::Random;

/// The seed of every table.
pub const SEED: u64 = 0x5EED;

/// What a thread does next. What value it uses, and which it expects, is seen when it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Insert if absent.
    Insert,
    /// Insert or replace.
    Put,
    /// Replace what this thread has seen last, if it is still there.
    Swap,
    /// Remove.
    Remove,
    /// Look it up.
    Get,
    /// The same on pages mapped for reading.
    GetReadOnly,
    /// Iterate over all keys.
    Visit,
}

/// One step of a thread, with the number of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub kind: Kind,
    /// With which key.
    pub key: usize,
}

/// A table, and what threads do with it.
#[derive(Debug, Clone)]
pub struct Program {
    /// Buckets of a line: 1 or 2.
    pub line: usize,
    /// Cells and how they are laid out.
    pub geometry: Geometry,
    /// The bytes of the keys. Mostly of one home and one tag, all of them.
    pub keys: Vec<Vec<u8>>,
    /// What all homes begin with: a version, at times just before it starts again at 0.
    pub first_home: u64,
    /// Done before the threads start.
    pub before: Vec<Step>,
    /// What each thread does.
    pub threads: Vec<Vec<Step>>,
}

const NUMBERS: CellShape = CellShape {
    one_word_keys: true,
    key_bytes: 8,
    varying_values: false,
    value_bytes: 16,
};

const STRINGS: CellShape = CellShape {
    one_word_keys: false,
    key_bytes: 7,
    varying_values: true,
    value_bytes: 20,
};

impl Program {
    /// How many lines the table has. (`World::new` holds this to the table itself.)
    pub fn lines(&self) -> usize {
        lines(self.line, &self.geometry)
    }
}

fn lines(line: usize, geometry: &Geometry) -> usize {
    ((geometry.capacity + geometry.writers) * 5 / 4).div_ceil(line) + 1
}

impl Program {
    /// The program of this seed.
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed, 0);
        // In a short one the few instants that matter are met more often.
        let is_short = random.percent(50);
        let threads = [2, 2, 3, 3, 3, 4][random.below(6)];
        let line = 1 + random.below(2);
        let shape = match random.percent(15) {
            true => STRINGS,
            false => NUMBERS,
        };
        let geometry = Geometry {
            capacity: 1 + random.below(3),
            writers: threads,
            shape,
        };
        let keys = 1 + random.below(3);
        let before = match random.below(3) {
            0 => Vec::new(),
            1 => steps(random, Role::Any, keys, 3),
            _ => (0..keys)
                .map(|key| Step {
                    kind: Kind::Insert,
                    key,
                })
                .collect(),
        };
        let most = if is_short { 3 } else { 7 - threads };
        let names = names(random, keys, line, &geometry);
        let mut thread = |_| {
            let role = [Role::Any, Role::Any, Role::Churner, Role::Reader][random.below(4)];
            steps(random, role, keys, most)
        };
        Self {
            line,
            geometry,
            keys: names,
            before,
            threads: (0..threads).map(&mut thread).collect(),
            first_home: [0, u64::MAX - 1, u64::MAX][random.below(3)] << 32,
        }
    }
}

/// What a thread is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Any,
    /// Inserts and removes in turn.
    Churner,
    Reader,
}

/// As many steps as `most`, or fewer.
fn steps(random: &mut Random, role: Role, keys: usize, most: usize) -> Vec<Step> {
    let steps = 1 + random.below(most);
    let first = random.below(2);
    let step = |n: usize| {
        let kind = match (role, random.below(32)) {
            (Role::Churner, 0..16) if (n + first) % 2 == 0 => Kind::Insert,
            (Role::Churner, _) if (n + first) % 2 == 0 => Kind::Put,
            (Role::Churner, _) | (Role::Any, 17..25) => Kind::Remove,
            (Role::Any, 0..6) => Kind::Insert,
            (Role::Any, 6..12) => Kind::Put,
            (Role::Any, 12..17) => Kind::Swap,
            (Role::Any, 25..28) | (Role::Reader, 0..16) => Kind::Get,
            (Role::Any, 28..30) | (Role::Reader, 16..26) => Kind::GetReadOnly,
            (Role::Any | Role::Reader, _) => Kind::Visit,
        };
        let key = random.below(keys);
        Step { kind, key }
    };
    (0..steps).map(step).collect()
}

/// So many keys of one home and one tag. At times the last one is of the home behind it, or the second of
/// another tag.
fn names(random: &mut Random, keys: usize, line: usize, geometry: &Geometry) -> Vec<Vec<u8>> {
    let lines = lines(line, geometry);
    let home = random.below(lines);
    let other = if random.percent(20) { 1 } else { 0 };
    let home = |key: usize| match key + 1 == keys {
        true => (home + other) % lines,
        false => home,
    };
    let first_tag = 1 + random.next() % 0xFF;
    let other_tag = if random.percent(40) {
        0xFF ^ first_tag | 1
    } else {
        first_tag
    };
    let tag = |key: usize| match key % 2 {
        0 => first_tag,
        _ => other_tag,
    };
    if geometry.shape.one_word_keys {
        let hash = |key| {
            let first = (home(key) as u128) << 64;
            let first = first.div_ceil(lines as u128) as u64 & !0xFF_FFFF;
            (first + (1 << 24)) | tag(key) << 16 | (key as u64 + 1)
        };
        let hashes: Vec<u64> = (0..keys).map(hash).collect();
        let is_at_home = |(key, hash): (usize, &u64)| place(*hash, lines) == home(key);
        assert!(hashes.iter().enumerate().all(is_at_home));
        let words = hashes.iter().map(|hash| unmix(*hash, SEED));
        return words.map(|word| word.to_le_bytes().to_vec()).collect();
    }
    let mut names = Vec::new();
    let mut candidates = 0_u32..;
    for key in 0..keys {
        // Of another length each.
        let name = |n: u32| n.to_le_bytes().repeat(2)[..5 + key].to_vec();
        let fits = |name: &Vec<u8>| {
            let hash = hash_bytes(name, SEED) & !0xFFFF;
            place(hash, lines) == home(key) && hash >> 16 & 0xFF == tag(key)
        };
        names.extend(candidates.by_ref().map(name).find(fits));
    }
    names
}
