//! New segments whose counters are about to begin anew, as after 2^28 participants in each place, 2^32 inserts of each
//! home and 2^48 fillings of each cell. (What stands where is told in `docs/FORMAT.md`.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::bench::scenario::{Failure, ensure};

/// The last incarnation of a participant.
const LAST_INCARNATION: u64 = (1 << 28) - 1;

/// The version of a home and the sequence number of a cell, each with two to come.
const VERSION: u64 = 0xFFFF_FFFE;
const SEQUENCE: u64 = (1 << 48) - 2;

/// The file of a segment, by words.
struct Words(File);

impl Words {
    fn of(path: &Path) -> Result<Self, Failure> {
        Ok(Self(File::options().read(true).write(true).open(path)?))
    }

    fn get(&self, offset: u64) -> Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, offset)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Every such word is 0 in a new segment.
    fn set(&self, offset: u64, word: u64) -> Result<(), Failure> {
        let found = self.get(offset)?;
        ensure!(found == 0, "at {offset} stands {found:#x}");
        Ok(self.0.write_all_at(&word.to_le_bytes(), offset)?)
    }
}

/// Makes the next participant of each place the first one again.
pub(super) fn participants(path: &Path) -> Result<(), Failure> {
    let words = Words::of(path)?;
    for i in 0..words.get(144)? {
        words.set(1344 + 32 * i, LAST_INCARNATION)?;
    }
    Ok(())
}

/// The same, and all counters of a map from numbers to numbers.
pub(super) fn map(path: &Path) -> Result<(), Failure> {
    participants(path)?;
    let words = Words::of(path)?;
    let (keys, writers) = (words.get(80)?, words.get(144)?);
    let cells = keys + writers;
    let lines = (5 * cells / 4).div_ceil(8) + 1;
    let hint_words = cells.div_ceil(64);
    let journals = 1344 + 32 * writers;
    let homes = journals + 64 * writers + 64 * lines;
    let first_cell = homes + 16 * lines + 8 * (hint_words + hint_words.div_ceil(64));
    let sequence_bits = 48.min(54 - (cells - 1).checked_ilog2().map_or(0, |log| log + 1));
    for i in 0..lines {
        words.set(homes + 16 * i, VERSION << 32)?;
    }
    for i in 0..cells {
        words.set(first_cell + 24 * i, SEQUENCE)?;
    }
    for i in 0..writers {
        let cell = (keys + i) << sequence_bits;
        let sequence = SEQUENCE & ((1 << sequence_bits) - 1);
        words.set(journals + 64 * i + 16, 1 << 63 | cell | sequence)?;
    }
    Ok(())
}
