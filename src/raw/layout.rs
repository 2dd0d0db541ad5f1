//! What stands where behind the header: bells, then participants, then the body of the structure.

use super::bell::{self, Bells};
use super::header::{GRAIN, HEADER_BYTES};
use super::participants::{self, Participants};
use crate::sync::{Access, Word};

/// The parts of a segment behind its header.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    pub bells: Bells<'a>,
    pub participants: Participants<'a>,
    /// What is left: the structure's own.
    pub body: &'a [Word],
}

impl<'a> Layout<'a> {
    /// The parts of `words`, which are those behind the header of a segment with room for so many
    /// participants, at least as many as [`segment_bytes`] asks for.
    pub fn new(words: &'a [Word], participants: u64, access: Access) -> Self {
        let (bells, rest) = words.split_at(bell::WORDS);
        let (records, body) = rest.split_at(participants as usize * participants::RECORD_WORDS);
        Self {
            bells: Bells::new(bells),
            participants: Participants::new(records, access),
            body,
        }
    }
}

/// Length of a segment whose structure takes so many words; `None` if that is more than a file or an
/// address can count.
pub fn segment_bytes(participants: u64, body_words: u64) -> Option<u64> {
    let records = participants.checked_mul(participants::RECORD_WORDS as u64)?;
    let words = (bell::WORDS as u64).checked_add(records)?;
    let bytes = words
        .checked_add(body_words)?
        .checked_mul(size_of::<Word>() as u64)?
        .checked_add(HEADER_BYTES as u64)?
        .checked_next_multiple_of(GRAIN)?;
    (bytes <= isize::MAX as u64).then_some(bytes)
}
