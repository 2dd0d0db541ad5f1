//! How much shared memory a dictionary may take: so that removing works however full it is.
//!
//! A change is allowed only if the generation that it leaves behind, and the next one with the shortest log,
//! fit into the budget together; and two with the shortest log as well. Then there is always a way on: the
//! next generation of the same content, or of less, fits beside this one, and has a way on itself.

use super::StreamError;
use super::generation::segment_bytes;
use crate::raw::stream::log;
use crate::segment::Segment;

/// Words of a record that finds room in the next generation however short logs may be: those of a removal
/// have as few.
const SHORT_RECORD_WORDS: u64 = 64;

/// What all segments of a dictionary may take together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// In bytes; all ones for as much as there is.
    pub(super) bytes: u64,
    /// What the control takes of it.
    pub(super) control: u64,
    /// Bytes of a log at least.
    pub(super) log_bytes: u64,
}

impl Budget {
    /// That of the dictionary whose control this is.
    pub(super) fn of(control: &Segment) -> Self {
        let [log_bytes, bytes, ..] = control.header().geometry;
        Self {
            bytes,
            control: control.header().bytes,
            log_bytes,
        }
    }

    /// Words of the shortest log.
    pub(super) fn least_words(&self) -> u64 {
        self.log_bytes / 8
    }

    /// Refuses a content of so many bytes in a generation of `generation` bytes.
    pub(super) fn allow(&self, generation: u64, dump_bytes: u64) -> Result<(), StreamError> {
        let words = log::HEAD_WORDS as u64 + self.least_words().max(SHORT_RECORD_WORDS);
        // (More than an address can count is more than any budget, but for none at all.)
        let next = segment_bytes(words, dump_bytes).unwrap_or(u64::MAX);
        self.fit([generation.max(next), next])
    }

    /// Refuses segments that do not fit together.
    pub(super) fn fit(&self, segments: [u64; 2]) -> Result<(), StreamError> {
        let need = segments
            .iter()
            .fold(self.control, |need, &bytes| need.saturating_add(bytes));
        match need <= self.bytes {
            true => Ok(()),
            false => Err(StreamError::OverBudget {
                need,
                budget: self.bytes,
            }),
        }
    }
}
