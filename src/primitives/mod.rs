//! What blocks, and notices the dead: locks, semaphores, barriers and onces, on the values of an
//! [`AtomicDict`].
//!
//! Each is a few words that name their owners. Nothing else in the crate depends on them.

mod barrier;
mod lock;
mod once;
mod semaphore;

pub use self::barrier::{Barrier, BarrierError, BarrierWaitResult, Party};
pub use self::lock::{Lock, LockError, LockGuard};
pub use self::once::{Once, OnceError};
pub use self::semaphore::{AcquireError, Permit, Semaphore};

use crate::dict::{AtomicDict, Entry};
use crate::error::{InsertError, ParticipantError};
use crate::process;
use crate::raw::lock::Holder;
use crate::raw::owner::Owner;
use crate::segment::Segment;

/// The thread that asks: as an owner, and with the process that it belongs to, because a forked child
/// has copies of its parent's guards.
#[derive(Debug, Clone, Copy)]
struct Me {
    owner: Owner,
    token: u64,
}

impl Me {
    /// Registers this process in the segment if it is not yet.
    #[inline]
    fn new(segment: &Segment) -> Result<Self, ParticipantError> {
        let token = process::token().map_err(|source| ParticipantError::Os {
            call: "mmap, madvise or getrandom",
            source,
        })?;
        let owner = Owner::new(segment.participant(token)?, process::thread_id(token));
        Ok(Self { owner, token })
    }

    /// Whether this is still the process that became the owner, and not a forked child of it.
    fn is_here(&self) -> bool {
        process::token().is_ok_and(|token| token == self.token)
    }

    /// What has become of an owner that was found.
    fn judge(&self, owner: Owner, segment: &Segment) -> Result<Holder, ParticipantError> {
        let (mine, other) = (self.owner, owner);
        if other.thread() == mine.thread()
            && (other.id() == mine.id() || segment.is_this_process(other.id()))
        {
            return Ok(Holder::Myself);
        }
        Ok(match segment.is_alive(other.id())? {
            true => Holder::Alive,
            false => Holder::Dead,
        })
    }
}

/// The values of `count` keys from `first` on. Asks for the room first, so that a mistyped number does
/// not use up the whole dictionary.
fn entries<V>(dict: &AtomicDict<V>, first: u64, count: usize) -> Result<Vec<Entry>, InsertError> {
    let (dict, capacity) = (dict.cast(), dict.capacity());
    let last = first.checked_add((count as u64).saturating_sub(1));
    if count > capacity || last.is_none() {
        return Err(InsertError::TooManyKeys {
            first,
            count,
            capacity,
        });
    }
    (0..count as u64).map(|n| dict.entry(first + n)).collect()
}

/// For an error text: " (process 7)", or nothing if that is not known.
fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
