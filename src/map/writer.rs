//! Which writer a thread is in each map that it changes.

use std::cell::{Cell, RefCell};

use crate::error::ParticipantError;
use crate::process;
use crate::segment::{Lease, Segment};

/// What a thread is in one map.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The attachment, by its number in this process.
    attachment: u64,
    /// The process: in a forked child it is another one.
    token: u64,
    writer: usize,
}

const NOBODY: Known = Known {
    attachment: 0,
    token: 0,
    writer: 0,
};

thread_local! {
    /// The map that this thread has changed last: what it needs to know for the next change.
    static LATEST: Cell<Known> = const { Cell::new(NOBODY) };
    /// All the maps that it has changed.
    static LEASES: RefCell<Leases> = const { RefCell::new(Leases(Vec::new())) };
}

struct Leases(Vec<(Known, Lease)>);

impl Drop for Leases {
    fn drop(&mut self) {
        // The destructor of another thread-local may still change the map: not by these leases.
        LATEST.set(NOBODY);
    }
}

/// A writer, as long as this is there.
#[derive(Debug)]
pub(super) struct Writer {
    number: usize,
    /// If it is the thread's for this one change only.
    _lease: Option<Lease>,
}

impl Writer {
    #[inline(always)]
    pub(super) fn number(&self) -> usize {
        self.number
    }

    #[inline(always)]
    fn kept(number: usize) -> Self {
        Self {
            number,
            _lease: None,
        }
    }
}

/// The calling thread as a writer of the segment; it stays the same one until it ends. The
/// first time it registers there, and `recover` is called for a slot whose writer is dead.
#[inline(always)]
pub(super) fn of_this_thread(
    segment: &Segment,
    attachment: u64,
    recover: impl Fn(usize),
) -> Result<Writer, ParticipantError> {
    let known = LATEST.get();
    if let Ok(token) = process::token() {
        if known.attachment == attachment && known.token == token {
            return Ok(Writer::kept(known.writer));
        }
    }
    look_up(segment, attachment, recover)
}

#[cold]
fn look_up(
    segment: &Segment,
    attachment: u64,
    recover: impl Fn(usize),
) -> Result<Writer, ParticipantError> {
    let token = process::token().map_err(|source| ParticipantError::Os {
        call: "mmap or madvise",
        source,
    })?;
    let is_this = |known: &Known| known.attachment == attachment && known.token == token;
    let found = LEASES.try_with(|leases| {
        let leases = leases.borrow();
        let mut known = leases.0.iter().map(|(known, _)| *known);
        known.find(is_this)
    });
    if let Ok(Some(known)) = found {
        LATEST.set(known);
        return Ok(Writer::kept(known.writer));
    }
    let lease = segment.lease(token, recover)?;
    let known = Known {
        attachment,
        token,
        writer: lease.slot(),
    };
    // The destructor of another thread-local may still change the map when the leases are gone: then by one
    // for each change.
    let mut lease = Some(lease);
    let _ = LEASES.try_with(|leases| {
        let leases = &mut leases.borrow_mut().0;
        leases.retain(|(known, lease)| known.token == token && !lease.is_over());
        leases.extend(lease.take().map(|lease| (known, lease)));
        LATEST.set(known);
    });
    Ok(Writer {
        number: known.writer,
        _lease: lease,
    })
}
