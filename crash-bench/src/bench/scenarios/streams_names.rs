//! What two processes do about the name of a stream dictionary at the same time.

use forkmap::{CreateError, ReplaceError, StreamError, UnlinkError};

use super::streams::{Dict, Site, entries};
use crate::bench::scenario::{Failure, NAME, Outcome, ensure};

/// A key of theirs, and the length of their logs.
pub(super) const KEY: u64 = 5;
const OF_RIVAL: u64 = 2000;

/// What rivals do about a name.
pub(super) const RIVALS: &[&str] = &[
    "create",
    "open_or_create",
    "create_or_replace",
    "change",
    "dump",
    "unlink",
    "gc",
];

/// Answers: nothing was there; it was done; it has been unlinked; another one was in its way.
pub(super) const NOTHING: u64 = 0;
pub(super) const DONE: u64 = 1;
pub(super) const UNLINKED: u64 = 2;
pub(super) const BUSY: u64 = 99;

/// Does one of those: how that went.
pub(super) fn compete(site: &Site, name: &str) -> Result<u64, Failure> {
    let options = site.with_log(OF_RIVAL).options();
    let change = |change: fn(&Dict) -> Result<(), StreamError>| match site.find()? {
        None => Ok(NOTHING),
        Some(dict) => or_unlinked(change(&dict)),
    };
    match name {
        "create" => Ok(unless_there(options.create(NAME))?.map_or(NOTHING, |_| DONE)),
        "open_or_create" => Ok(options.open_or_create(NAME)?.status()?.log_bytes),
        "create_or_replace" => match options.create_or_replace(NAME) {
            Ok(_) => Ok(DONE),
            Err(ReplaceError::Unlink(UnlinkError::Busy { .. })) => Ok(BUSY),
            Err(error) => Err(error.into()),
        },
        "change" => change(|dict| dict.set(&KEY, &5000)),
        "dump" => change(Dict::dump),
        "unlink" => unlinked(options.unlink(NAME)),
        // What somebody has in hand is not removed.
        "gc" => site.gc().map(|_| DONE),
        other => Err(format!("no rival does `{other}`").into()),
    }
}

pub(super) fn or_unlinked(done: Result<(), StreamError>) -> Result<u64, Failure> {
    match done {
        Ok(()) => Ok(DONE),
        Err(StreamError::Unlinked) => Ok(UNLINKED),
        Err(error) => Err(error.into()),
    }
}

/// Whether the name was taken away; the others may have done it before.
pub(super) fn unlinked(done: Result<(), UnlinkError>) -> Result<u64, Failure> {
    match done {
        Ok(()) => Ok(DONE),
        Err(UnlinkError::NotFound { .. }) => Ok(NOTHING),
        Err(UnlinkError::Busy { .. }) => Ok(BUSY),
        Err(error) => Err(error.into()),
    }
}

/// What is under the name after two operations; and what they gave back, if both are done at one instant. Nobody is
/// at anything, so nothing may be left over.
pub(super) fn outcome(
    site: &Site,
    answers: [Option<u64>; 2],
    at_once: bool,
) -> Result<Outcome, Failure> {
    ensure!(answers != [Some(BUSY); 2], "both have given up");
    let is_busy = answers.contains(&Some(BUSY));
    let answers = if at_once { answers } else { [None; 2] };
    let found = match site.find()? {
        None => {
            site.is_empty()?;
            None
        }
        Some(dict) => {
            site.is_tidy(0)?;
            let entries = entries(&dict)?;
            site.is_whole(&[&dict], &entries)?;
            Some((dict.status()?.log_bytes, entries.0))
        }
    };
    Ok(match is_busy {
        true => Outcome::Busy,
        false => Outcome::Told(format!("{answers:?} {found:?}")),
    })
}

/// Whether a rival does what it does at one instant, if the name may be taken away before the end of that.
pub(super) fn is_at_once(rival: &str) -> bool {
    !["create_or_replace", "change", "dump"].contains(&rival)
}

/// A creation, where others may have been faster.
pub(super) fn unless_there(made: Result<Dict, CreateError>) -> Result<Option<Dict>, Failure> {
    match made {
        Err(CreateError::AlreadyExists { .. }) => Ok(None),
        made => Ok(Some(made?)),
    }
}
