//! A dictionary, as whoever reads on in it or changes it sees it.

use super::budget::Budget;
use super::error::StreamError;
use super::generation::{Generation, NameError, Names};
use crate::identity::Identity;
use crate::process;
use crate::raw::bell::Bell;
use crate::raw::stream::control::{Control, Row};
use crate::raw::stream::switch::{self, Generations, Lost};
use crate::segment::Segment;
use crate::sync::Access;

/// A dictionary, as everything here sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) segment: &'a Segment,
    pub(super) control: Control<'a>,
    pub(super) identity: Identity,
    pub(super) budget: Budget,
}

impl<'a> Context<'a> {
    pub(super) fn names(&self) -> Names<'a> {
        Names {
            control: self.segment,
            identity: self.identity,
        }
    }

    /// Whether its name was taken away.
    pub(super) fn is_unlinked(&self) -> bool {
        self.control.is_unlinked() || self.segment.has_lost_its_name()
    }

    /// The bell that is rung whenever the log has grown.
    pub(super) fn bell(&self) -> Bell<'a> {
        self.segment.bells().nth(0)
    }

    /// This process's slot.
    pub(super) fn slot(&self) -> Result<usize, StreamError> {
        let token = token()?;
        let id = self
            .segment
            .participant_after(token, |slot| self.clean(slot))?;
        Ok(id.slot)
    }

    /// Removes what a dead participant was building. (If it cannot be told whether that has won, it stays,
    /// until the next one in that slot asks.)
    pub(super) fn clean(&self, slot: usize) {
        let row = self.control.row(slot);
        let _ = switch::clean(&self.control, &self.names(), row);
        row.set_building(false);
    }

    fn rows(&self) -> impl Iterator<Item = Row<'a>> {
        let control = self.control;
        (0..self.segment.layout().participants.slots()).map(move |slot| control.row(slot))
    }

    /// Whether somebody is about to begin a generation, as far as that is known.
    pub(super) fn is_being_built(&self) -> bool {
        self.rows().any(|row| row.is_building())
    }

    /// The same for all that are dead.
    pub(super) fn clean_all(&self) {
        // Who lives and builds costs a few system calls. That is rare.
        let mut rows = self.rows();
        if rows.any(|row| row.candidate() != 0 || row.is_building()) {
            let _ = self.segment.recover(|slot| self.clean(slot));
        }
    }

    /// Removes the name of a generation that others have followed.
    pub(super) fn forget(&self, outdated: &Generation) {
        if self.control.access() == Access::ReadWrite {
            self.names().unlink(outdated.facts().id);
        }
    }

    /// Why there is no way on.
    pub(super) fn lost(&self, lost: Lost<NameError>) -> StreamError {
        match lost {
            // Who has unlinked it was killed before it could say so.
            Lost::Gone if self.segment.has_lost_its_name() => StreamError::Unlinked,
            Lost::Unlinked => StreamError::Unlinked,
            Lost::Gone => StreamError::Lost,
            Lost::Failed(error) => error.into(),
        }
    }
}

pub(super) fn token() -> Result<u64, StreamError> {
    process::token().map_err(|source| {
        StreamError::Participant(crate::ParticipantError::Os {
            call: "mmap or madvise",
            source,
        })
    })
}

/// An id that no generation has or had.
pub(super) fn random() -> Result<u64, StreamError> {
    let drawn = process::random().map_err(|source| {
        StreamError::Participant(crate::ParticipantError::Os {
            call: "getrandom",
            source,
        })
    })?;
    // 0 is none.
    Ok(drawn.max(1))
}
