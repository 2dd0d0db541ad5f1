//! Damage: which words of a segment become what.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::input::Input;

/// Where things stand in a header, as docs/FORMAT.md says, in bytes.
pub(super) const LENGTH: usize = 16;
pub(super) const GEOMETRY: usize = 80;
pub(super) const PARTICIPANTS: usize = 144;
pub(super) const CHECKSUM: usize = 248;
pub(super) const HEADER: usize = 256;

pub(super) fn put(bytes: &mut [u8], offset: usize, word: u64) {
    bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
}

/// A word; 0 behind the end of a segment that was made shorter.
pub(super) fn get(bytes: &[u8], offset: usize) -> u64 {
    let word = bytes.get(offset..offset + 8);
    word.map_or(0, |word| u64::from_le_bytes(word.try_into().unwrap()))
}

/// Makes the checksum of the header right again, as somebody would who means harm.
pub(super) fn reseal(bytes: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..CHECKSUM]);
    put(bytes, CHECKSUM, checksum);
}

/// Bytes that are written over others.
pub(super) struct Edit {
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

impl Edit {
    fn word(offset: usize, word: u64) -> Self {
        let bytes = word.to_le_bytes().to_vec();
        Self { offset, bytes }
    }

    pub(super) fn apply(&self, bytes: &mut [u8]) {
        bytes[self.offset..][..self.bytes.len()].copy_from_slice(&self.bytes);
    }

    /// In place: the length stays, and those who have it mapped see it at once.
    pub(super) fn write(&self, file: &File) {
        file.write_all_at(&self.bytes, self.offset as u64).unwrap();
    }
}

/// What a segment of some structure looks like to who damages it.
pub(super) struct Shape {
    /// Its parts behind the header, in bytes.
    pub(super) parts: Vec<Range<usize>>,
    /// Words that could stand at an offset, or nearly.
    pub(super) plausible: fn(&Shape, &[u8], usize, &mut Input<'_>) -> u64,
}

impl Shape {
    fn offset(&self, input: &mut Input<'_>) -> (usize, Range<usize>) {
        let part = input.below(self.parts.len());
        let part = self.parts[part].clone();
        (part.start + 8 * input.below(part.len() / 8), part)
    }

    /// Some damage behind the header of these bytes.
    pub(super) fn damage(&self, bytes: &[u8], input: &mut Input<'_>) -> Vec<Edit> {
        let mut edits = Vec::new();
        match input.byte() % 10 {
            0 => {
                // A range of words: at random, of one word, or copied from elsewhere.
                let (start, part) = self.offset(input);
                let len = (8 * (1 + input.below(64))).min(part.end - start);
                let mut range = vec![0; len];
                match input.byte() % 3 {
                    0 => {
                        let mut seed = u64::from_le_bytes(input.take()) | 1;
                        range.fill_with(|| {
                            seed ^= seed << 13;
                            seed ^= seed >> 7;
                            seed ^= seed << 17;
                            seed as u8
                        });
                    }
                    1 => {
                        let word = input.word().to_le_bytes();
                        range
                            .chunks_mut(8)
                            .for_each(|chunk| chunk.copy_from_slice(&word));
                    }
                    _ => {
                        let from = 8 * input.below(bytes.len().saturating_sub(len) / 8 + 1);
                        let found = &bytes[from..];
                        let len = len.min(found.len());
                        range[..len].copy_from_slice(&found[..len]);
                    }
                }
                edits.push(Edit {
                    offset: start,
                    bytes: range,
                });
            }
            1 => {
                // A part of plausible words.
                let part = input.below(self.parts.len());
                let words = self.parts[part].clone().step_by(8).take(48);
                for offset in words {
                    let word = (self.plausible)(self, bytes, offset, input);
                    edits.push(Edit::word(offset, word));
                }
            }
            kind => {
                for _ in 0..=input.byte() % 8 {
                    let (offset, part) = self.offset(input);
                    let word = match kind {
                        2 | 3 => get(bytes, offset) ^ 1 << (input.byte() % 64),
                        4 => input.word(),
                        5 => get(bytes, part.start + 8 * input.below(part.len() / 8)),
                        6 => get(bytes, offset).wrapping_add(input.pick(&[1, u64::MAX])),
                        _ => (self.plausible)(self, bytes, offset, input),
                    };
                    edits.push(Edit::word(offset, word));
                }
            }
        }
        edits
    }
}

/// Damages the header of a segment: the checksum as a rule tells, or is made to fit.
pub(super) fn damage_header(bytes: &mut [u8], input: &mut Input<'_>) {
    let offset = match input.byte() % 4 {
        0 => 8 * input.below(HEADER / 8),
        1 => PARTICIPANTS,
        _ => GEOMETRY + 8 * input.below(8),
    };
    let word = match input.byte() % 4 {
        0 => get(bytes, offset) ^ 1 << (input.byte() % 64),
        1 => get(bytes, offset).wrapping_add(input.pick(&[1, 2, u64::MAX, u64::MAX - 1])),
        2 => input.about(2000),
        _ => input.word(),
    };
    put(bytes, offset, word);
    if !input.one_in(8) {
        reseal(bytes);
    }
}
