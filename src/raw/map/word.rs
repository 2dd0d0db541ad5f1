//! The words of the index and the headers of cells: how their bits are put together and taken apart.
//!
//! ```text
//! home    version:32 | len:16 | pending:16
//! bucket  occupied:1 | tag:8 | tentative:1 | cell | seq        54 bits for the last two
//! header  owner:15 | filled:1 | 0.. | seq
//! op      kind:2 | home line:31 | bucket:31
//! ```

/// Bits of a bucket word that name its publication: the cell and the sequence number of its content.
pub const PUBLICATION_BITS: u32 = 54;
const PUBLICATION: u64 = (1 << PUBLICATION_BITS) - 1;

const OCCUPIED: u64 = 1 << 63;
const TENTATIVE: u64 = 1 << 54;

const TAG: u64 = 0xFF << 55;

/// Where the bits of a publication are divided: sequence numbers below, cells above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    pub seq_bits: u32,
}

impl Split {
    /// As many bits for sequence numbers as numbers below `cells` leave, and as the owner of a cell has
    /// room for.
    pub const fn new(cells: usize) -> Self {
        let left = PUBLICATION_BITS - (usize::BITS - (cells - 1).leading_zeros());
        let seq_bits = if left < SEQ_BITS { left } else { SEQ_BITS };
        Self { seq_bits }
    }

    #[inline(always)]
    pub fn publication(self, cell: usize, seq: u64) -> Publication {
        Publication((cell as u64) << self.seq_bits | seq)
    }

    #[inline(always)]
    pub fn cell(self, publication: Publication) -> usize {
        (publication.0 >> self.seq_bits) as usize
    }

    #[inline(always)]
    pub fn seq(self, publication: Publication) -> u64 {
        publication.0 & self.seq_mask()
    }

    /// The sequence number after `seq`. It starts again at 0 behind the last one.
    #[inline(always)]
    pub fn after(self, seq: u64) -> u64 {
        (seq + 1) & self.seq_mask()
    }

    #[inline(always)]
    pub fn seq_mask(self) -> u64 {
        (1 << self.seq_bits) - 1
    }
}

/// One content of one cell. What it names never changes, and it stands in at most one bucket, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publication(pub u64);

impl Publication {
    /// From a word that holds it, whatever else that holds.
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        Self(word & PUBLICATION)
    }
}

/// The word of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket(pub u64);

impl Bucket {
    pub const FREE: Self = Self(0);

    /// A word for a key with that tag.
    #[inline(always)]
    pub fn live(tag: u8, publication: Publication) -> Self {
        Self(OCCUPIED | u64::from(tag) << 55 | publication.0)
    }

    /// The same before it counts.
    #[inline(always)]
    pub fn tentative(tag: u8, publication: Publication) -> Self {
        Self(Self::live(tag, publication).0 | TENTATIVE)
    }

    /// The tag of keys of this hash: other bits of it than those that choose the home. Not 0, which is
    /// that of buckets that were never used.
    #[inline(always)]
    pub fn tag(hash: u64) -> u8 {
        ((hash >> 16) as u8).max(1)
    }

    #[inline(always)]
    pub fn is_free(self) -> bool {
        self.0 & OCCUPIED == 0
    }

    #[inline(always)]
    pub fn is_tentative(self) -> bool {
        self.0 & TENTATIVE != 0
    }

    #[inline(always)]
    pub fn has(self, tag: u8) -> bool {
        self.0 & (OCCUPIED | TAG) == Self::live(tag, Publication(0)).0
    }

    /// What a tentative word becomes when it counts.
    #[inline(always)]
    pub fn to_live(self) -> Self {
        Self(self.0 & !TENTATIVE)
    }

    #[inline(always)]
    pub fn publication(self) -> Publication {
        Publication::from_word(self.0)
    }
}

/// The word of a home: a line, as that which keys prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home(pub u64);

impl Home {
    /// How many lines beyond this one may hold keys whose home it is.
    #[inline(always)]
    pub fn len(self) -> usize {
        (self.0 >> 16 & 0xFFFF) as usize
    }

    /// The insert that has been decided and may not be finished: its bucket, counted from 1 from the home's
    /// own line on; 0 if there is none.
    #[inline(always)]
    pub fn pending(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }

    /// A later version of it.
    #[inline(always)]
    pub fn next(self, len: usize, pending: usize) -> Self {
        let version = (self.0 >> 32).wrapping_add(1) << 32;
        Self(version | (len as u64) << 16 | pending as u64)
    }

    /// The same, with the insert finished.
    #[inline(always)]
    pub fn finished(self) -> Self {
        Self(self.0 & !0xFFFF)
    }
}

/// Whose a cell is, and which content it has.
///
/// In the segment it stands as the exclusive or with what it is in a new map, so that a segment of
/// zeros is an empty map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(pub u64);

const SEQ_BITS: u32 = 48;
const FILLED: u64 = 1 << SEQ_BITS;

impl Owner {
    /// Nobody's: the next insert may take it.
    #[inline(always)]
    pub fn pool(seq: u64) -> Self {
        Self(seq)
    }

    /// In the hands of the writer of that number, who may do with it what it likes.
    #[inline(always)]
    pub fn writer(writer: usize, seq: u64) -> Self {
        Self((writer as u64 + 1) << 49 | seq)
    }

    /// As it left the hands of the writer who filled it: in the index, or about to be.
    #[inline(always)]
    pub fn filled(writer: usize, seq: u64) -> Self {
        Self(Self::writer(writer, seq).0 | FILLED)
    }

    #[inline(always)]
    pub fn is_pool(self) -> bool {
        self.0 >> 49 == 0
    }

    #[inline(always)]
    pub fn is_writer(self, writer: usize) -> bool {
        self.0 >> 49 == writer as u64 + 1
    }

    #[inline(always)]
    pub fn is_filled(self) -> bool {
        self.0 & FILLED != 0
    }

    #[inline(always)]
    pub fn seq(self) -> u64 {
        self.0 & (FILLED - 1)
    }
}

/// What a writer is about to do, in its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    None,
    Insert { home: usize, index: usize },
    Replace { index: usize },
    Remove { home: usize, index: usize },
}

const PLACE: u64 = (1 << 31) - 1;

impl Op {
    #[inline(always)]
    pub fn word(self) -> u64 {
        let word =
            |kind: u64, home: usize, index: usize| kind << 62 | (home as u64) << 31 | index as u64;
        match self {
            Self::None => 0,
            Self::Insert { home, index } => word(1, home, index),
            Self::Replace { index } => word(2, 0, index),
            Self::Remove { home, index } => word(3, home, index),
        }
    }

    /// Whether it may take the word out of that bucket.
    pub fn takes_from(self, bucket: usize) -> bool {
        match self {
            Self::Replace { index } | Self::Remove { index, .. } => index == bucket,
            Self::None | Self::Insert { .. } => false,
        }
    }

    pub fn from_word(word: u64) -> Self {
        let home = (word >> 31 & PLACE) as usize;
        let index = (word & PLACE) as usize;
        match word >> 62 {
            0 => Self::None,
            1 => Self::Insert { home, index },
            2 => Self::Replace { index },
            _ => Self::Remove { home, index },
        }
    }
}
