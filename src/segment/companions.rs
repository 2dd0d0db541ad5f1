//! Companions: segments that belong to another one, and stand beside it.
//!
//! Their names are made of its name, the random number of its creation and a random number of their own:
//! no name ever comes back. One whose owner is gone is *forsaken*, and anybody may remove it.

use std::io;

use super::list::names_in;
use super::name::Place;
use super::{Segment, SegmentOptions, os};
use crate::error::{CreateError, OpenError};
use crate::identity::Kind;
use crate::raw::header::Header;

/// The part of an instance id that names bear.
fn instance(header: &Header) -> u64 {
    header.instance[0]
}

fn suffix(instance: u64, id: u64) -> String {
    format!("{instance:016x}.{id:016x}")
}

/// The instance that a name of a companion of `owner` bears, and its own number; `None` if it is no such name.
fn parse(owner: &str, name: &str) -> Option<(u64, u64)> {
    let (instance, id) = name
        .strip_prefix(owner)?
        .strip_prefix('.')?
        .split_once('.')?;
    let number = |digits: &str| {
        let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        let is_one = digits.len() == 16 && digits.bytes().all(is_hex);
        is_one.then(|| u64::from_str_radix(digits, 16).ok())?
    };
    Some((number(instance)?, number(id)?))
}

/// The companions that stand beside `owner`: the instances that they belong to, and their numbers.
fn all(owner: &Place) -> io::Result<Vec<(u64, u64)>> {
    let names = names_in(owner.dir())?.into_iter();
    let parsed = names.filter_map(|name| parse(owner.name(), name.to_str()?));
    Ok(parsed.collect())
}

/// Removes a companion whatever it is, and tells whether it had a name to lose.
pub(crate) fn remove(place: &Place) -> bool {
    os::remove(place)
}

/// The companions of this segment that stand beside it, or beside where it stood: their numbers and places.
pub(crate) fn of(owner: &Segment) -> io::Result<Vec<(u64, Place)>> {
    let found = owner.place().map_or(Ok(Vec::new()), all)?.into_iter();
    let own = found.filter(|(of, _)| *of == instance(owner.header()));
    Ok(own
        .filter_map(|(_, id)| Some((id, owner.companion(id)?)))
        .collect())
}

/// Removes the names of all companions of this segment, which has lost its own.
pub(crate) fn remove_all(owner: &Segment) -> io::Result<()> {
    of(owner)?.iter().for_each(|(_, place)| _ = remove(place));
    Ok(())
}

/// Removes those companions of `kind` beside `owner` that nobody holds and that do not belong to the
/// segment that stands there: what was left by creators that died, and by segments that were unlinked.
pub(crate) fn remove_forsaken(
    owner: &Place,
    options: &SegmentOptions,
    kind: Kind,
) -> io::Result<usize> {
    let mut removed = 0;
    for (of, id) in all(owner)? {
        let companion = owner.beside(&suffix(of, id));
        // In this order: who creates an owner holds its companion until the owner has its name.
        if os::is_forsaken(&companion, options, kind) && !is_instance(owner, options, of) {
            removed += usize::from(remove(&companion));
        }
    }
    Ok(removed)
}

/// Whether the segment of that name may be the one whose companions bear that number.
fn is_instance(owner: &Place, options: &SegmentOptions, of: u64) -> bool {
    let options = SegmentOptions {
        read_only: true,
        ..options.clone()
    };
    match os::open(owner, &options) {
        Ok(backing) => instance(backing.header()) == of,
        Err(OpenError::NotFound { .. }) => false,
        // Who knows.
        Err(_) => true,
    }
}

impl Segment {
    /// Where the companion of that number stands; `None` beside a segment that has no name.
    pub(crate) fn companion(&self, id: u64) -> Option<Place> {
        let place = self.place()?;
        Some(place.beside(&suffix(instance(self.header()), id)))
    }

    /// Gives this companion its name, in the very directory in which its owner stands. `false`, and no
    /// name, if that does not stand where this process looks for it.
    pub(crate) fn publish_beside(&self, owner: &Self) -> Result<bool, CreateError> {
        match (&self.place, &owner.place) {
            (Some(place), Some(of)) => os::publish_beside(&self.backing, place, &owner.backing, of),
            _ => Ok(true),
        }
    }

    /// Holds this companion until [`let_go`](Self::let_go).
    pub(crate) fn hold(&self) -> Result<(), CreateError> {
        os::hold(&self.backing)
            .map(drop)
            .map_err(|source| CreateError::Os {
                call: "fcntl(F_OFD_SETLK)",
                place: self
                    .path()
                    .map_or_else(String::new, |path| path.display().to_string()),
                source,
            })
    }

    pub(crate) fn let_go(&self) {
        os::let_go(&self.backing);
    }
}
