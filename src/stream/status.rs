//! What there is to know of a `StreamDict`.

use super::{Position, StreamDict, StreamError};
use crate::stored::Stored;

/// What [`StreamDict::status`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How far the stream has come.
    pub position: Position,
    /// Number of keys, in all maps.
    pub len: usize,
    /// Bytes of the dump that the current generation began with.
    pub dump_bytes: u64,
    /// Bytes of the log of the current generation.
    pub log_bytes: u64,
    /// How many of them are taken. (Some by changes that lost against another.)
    pub log_used: u64,
    /// How many generations were begun after the first.
    pub dumps: u64,
    /// How many dumps this process has read.
    pub loads: u64,
    /// Bytes of the segments of the dictionary, as they are named now.
    pub memory: u64,
    /// What all of them may take.
    pub budget: u64,
    /// The processes that have it open for writing, as far as there is room for them.
    pub participants: Vec<StreamParticipant>,
}

/// A process that has a [`StreamDict`] open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamParticipant {
    /// Its process id, as it sees it itself.
    pub pid: u32,
    /// Whether it lives, by the kernel's account.
    pub is_alive: bool,
    /// How far it has read. One that lives keeps the memory of that generation.
    pub position: Position,
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    /// How things stand with the whole dictionary. Some system calls for each participant.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn status(&self) -> Result<Status, StreamError> {
        let cx = self.shared.context();
        let participants = cx.segment.participants()?.into_iter().map(|one| {
            let (generation, records) = cx.control.row(one.slot).position();
            StreamParticipant {
                pid: one.pid,
                is_alive: one.is_alive,
                position: Position {
                    generation,
                    records,
                },
            }
        });
        let participants = participants.collect();
        let view = self.view_of_all()?;
        let state = view.state();
        let log = state.generation.log();
        Ok(Status {
            position: state.position(),
            len: state.replica.len(),
            dump_bytes: state.generation.facts().dump_bytes,
            log_bytes: log.arena_words() as u64 * 8,
            log_used: log.used_words() as u64 * 8,
            dumps: state.generation.facts().number.saturating_sub(1),
            loads: state.loads,
            memory: state.generation.bytes() + cx.segment.header().bytes,
            budget: cx.budget.bytes,
            participants,
        })
    }
}
