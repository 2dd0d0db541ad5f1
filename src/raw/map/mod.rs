//! The table of `SharedHashMap`: linear probing over cache lines, contents written in private and
//! published by one compare-exchange, cells that belong to somebody at every instant.
//!
//! ```text
//! words:  journals | lines | homes | full words of the hint | hint | cells
//! line:   8 bucket words            64 bytes, aligned
//! home:   home word | tags of the line
//! ```
//!
//! | module | what it knows |
//! |---|---|
//! | [`word`] | bits: of a bucket, a home, the owner of a cell, a journal's operation |
//! | [`cell`] | a key and a value in words, filled by one and read by many |
//! | [`tags`] | which buckets of a line may have a key |
//! | [`find`] | looking up and visiting: reads, which change nothing |
//! | [`insert`] | a new key: tentative word, commit on the home, live word; and helping with it |
//! | [`change`] | replacing a content and removing a key |
//! | [`pool`] | taking a cell that is free, and giving it back |
//! | [`journal`] | what a writer is about to do, for who comes after its death |
//! | [`recover`] | finishing or undoing what a dead writer was about to do |
//! | [`check`] | every invariant of a map at rest |
//!
//! `docs/DESIGN.md` tells why it is so, and why it is right.

mod cell;
mod change;
mod check;
mod find;
mod insert;
mod journal;
mod pool;
mod recover;
mod tags;
#[cfg(all(test, not(loom)))]
mod tests;
mod word;

pub use self::cell::{Cell, CellShape, Key, LONGEST_KEY};
pub use self::find::At;
use self::journal::Journal;
pub use self::pool::Full;
use self::word::{Bucket, Home, Owner, Publication, Split};
use super::bell::{Bell, Bells};
use super::hash::place;
use crate::sync::{Access, Word, load};

/// Buckets of a line as it ships: a cache line full. (At most so many: their tags fit into a word.)
pub const LINE_BUCKETS: usize = 8;

/// Most cells of a map: so many leave 28 bits for sequence numbers.
pub const MOST_CELLS: usize = 1 << 26;

/// What the size of a map follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Keys that fit, exactly.
    pub capacity: usize,
    /// Writers that fit.
    pub writers: usize,
    /// How a key and a value are laid out.
    pub shape: CellShape,
}

/// Where the parts of a table begin, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    lines: usize,
    full_words: usize,
    hint_words: usize,
    cells: usize,
    words: usize,
}

impl Geometry {
    /// Number of words that the table takes; `None` if there is no such table.
    pub fn words<const LINE: usize>(&self) -> Option<usize> {
        self.parts::<LINE>().map(|parts| parts.words)
    }

    fn parts<const LINE: usize>(&self) -> Option<Parts> {
        let cells = self.capacity.checked_add(self.writers)?;
        if self.capacity == 0 || self.writers == 0 || cells > MOST_CELLS {
            return None;
        }
        // Four of five buckets taken at most. (One more line than that, so that a full pass over a
        // table of few lines finds room for those who are about to insert in vain.)
        let lines = (cells * 5 / 4).div_ceil(LINE) + 1;
        let hint_words = cells.div_ceil(64);
        let full_words = hint_words.div_ceil(64);
        let words = lines * (LINE + 2) + self.writers * journal::WORDS + full_words + hint_words;
        let words = cells.checked_mul(self.shape.words())?.checked_add(words)?;
        Some(Parts {
            lines,
            full_words,
            hint_words,
            cells,
            words,
        })
    }
}

/// A table laid over borrowed words.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a, const LINE: usize = LINE_BUCKETS> {
    buckets: &'a [Word],
    homes: &'a [Word],
    line_count: usize,
    cells: &'a [Word],
    stride: usize,
    cell_count: usize,
    split: Split,
    shape: CellShape,
    capacity: usize,
    seed: u64,
    access: Access,
    journals: &'a [Word],
    full: &'a [Word],
    hint: &'a [Word],
    bells: Bells<'a>,
}

/// What is looked for, and where it is at home.
#[derive(Debug, Clone, Copy)]
pub struct Target<'k> {
    key: Key<'k>,
    home: usize,
    tag: u8,
}

impl<'a, const LINE: usize> Table<'a, LINE> {
    /// A view of exactly the words of a table of this geometry, which must be a possible one. Aligned
    /// to 64 bytes, or slower.
    pub fn new(
        words: &'a [Word],
        geometry: &Geometry,
        bells: Bells<'a>,
        seed: u64,
        access: Access,
    ) -> Self {
        let parts = geometry.parts::<LINE>().expect("the geometry was checked");
        let (journals, rest) = words.split_at(geometry.writers * journal::WORDS);
        let (buckets, rest) = rest.split_at(parts.lines * LINE);
        let (homes, rest) = rest.split_at(parts.lines * 2);
        let (full, rest) = rest.split_at(parts.full_words);
        let (hint, cells) = rest.split_at(parts.hint_words);
        Self {
            buckets,
            homes,
            line_count: parts.lines,
            cells,
            stride: geometry.shape.words(),
            cell_count: parts.cells,
            split: Split::new(parts.cells),
            shape: geometry.shape,
            capacity: geometry.capacity,
            seed,
            access,
            journals,
            full,
            hint,
            bells,
        }
    }

    /// Keys that fit, exactly.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Writers that fit.
    pub fn writers(&self) -> usize {
        self.journals.len() / journal::WORDS
    }

    /// How cells are laid out.
    #[inline(always)]
    pub fn shape(&self) -> &CellShape {
        &self.shape
    }

    /// What may be done with the words.
    #[inline(always)]
    pub fn access(&self) -> Access {
        self.access
    }

    /// The key of these bytes, as a thing to look for.
    #[inline(always)]
    pub fn target<'k>(&self, bytes: &'k [u8], one_word: bool) -> Target<'k> {
        let key = Key::new(bytes, self.seed, one_word);
        let hash = key.hash(self.seed);
        Target {
            key,
            home: self.home_of(hash),
            tag: Bucket::tag(hash),
        }
    }

    /// The bell that is rung when a key of this home changes.
    #[inline(always)]
    pub fn bell(&self, target: &Target<'_>) -> Bell<'a> {
        self.bells.nth(target.home)
    }

    #[inline(always)]
    fn home_of(&self, hash: u64) -> usize {
        place(hash, self.line_count)
    }

    #[inline(always)]
    fn home_word(&self, home: usize) -> &'a Word {
        &self.homes[home * 2]
    }

    #[inline(always)]
    fn load_home(&self, home: usize) -> Home {
        // SYNC(commit): SeqCst on pages that we may write, see `insert`.
        Home(load(self.home_word(home), self.access))
    }

    /// Number of lines.
    #[inline(always)]
    fn lines(&self) -> usize {
        self.line_count
    }

    /// The word with the tags of a line.
    #[inline(always)]
    fn tags_word(&self, line: usize) -> &'a Word {
        &self.homes[line * 2 + 1]
    }

    /// Bucket number `index`.
    #[inline(always)]
    fn bucket_word(&self, index: usize) -> &'a Word {
        &self.buckets[index]
    }

    #[inline(always)]
    fn load_bucket(&self, index: usize) -> Bucket {
        // SYNC(publish): SeqCst on pages that we may write, see `inspect`.
        Bucket(load(self.bucket_word(index), self.access))
    }

    /// The line so many behind `home`, around the end.
    #[inline(always)]
    fn line_after(&self, home: usize, lines: usize) -> usize {
        let line = home + lines;
        match line.checked_sub(self.line_count) {
            None => line,
            Some(line) => line,
        }
    }

    /// How many lines behind `home` bucket number `index` stands.
    #[inline(always)]
    fn distance(&self, home: usize, index: usize) -> usize {
        let line = index / LINE;
        match line.checked_sub(home) {
            Some(distance) => distance,
            None => line + self.line_count - home,
        }
    }

    /// What the home word calls bucket number `index`: how many buckets from its own line on, counted
    /// from 1.
    #[inline(always)]
    fn pending_of(&self, home: usize, index: usize) -> usize {
        self.distance(home, index) * LINE + index % LINE + 1
    }

    /// The bucket that the home word calls so.
    fn pending_index(&self, home: usize, pending: usize) -> usize {
        (home * LINE + pending - 1) % self.buckets.len()
    }

    /// How many lines behind its home a key may stand: all, as far as a home word can count them.
    #[inline(always)]
    fn farthest(&self) -> usize {
        (self.line_count - 1).min(0xFFFF / LINE - 1)
    }

    /// The cell of that number, if there is one.
    #[inline(always)]
    fn cell(&self, cell: usize) -> Option<Cell<'a>> {
        if cell >= self.cell_count {
            return None;
        }
        let words = &self.cells[cell * self.stride..][..self.stride];
        Some(Cell::new(words, self.shape))
    }

    /// Whose a cell is in a new map, in the form that its word is xored with: the pool's, and behind as
    /// many as keys fit one in the hands of each writer.
    #[inline(always)]
    fn first_owner(&self, cell: usize) -> u64 {
        match cell.checked_sub(self.capacity) {
            None => 0,
            Some(writer) => Owner::writer(writer, 0).0,
        }
    }

    fn journal(&self, writer: usize) -> Journal<'a> {
        Journal::new(
            self.journals[writer * journal::WORDS..][..journal::WORDS]
                .try_into()
                .expect("as many as were taken"),
            self.split.publication(self.capacity + writer, 0),
            self.access,
        )
    }
}
