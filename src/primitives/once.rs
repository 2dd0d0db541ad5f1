//! Doing something once among all processes.

use std::io;
use std::time::{Duration, Instant};

use super::{Me, shown};
use crate::dict::{AtomicDict, Entry};
use crate::error::{InsertError, ParticipantError};
use crate::raw::bell;
use crate::raw::lock::Holder;
use crate::raw::owner::Owner;

/// The word of one that is complete. It names nobody: no table has so many slots.
const COMPLETE: u64 = u64::MAX;

/// Something that is to be done once, by one of the processes, on one key of an [`AtomicDict`].
///
/// It blocks by nature: while one process is at it, the others wait, also if that one is stopped. If
/// it *dies* or panics, the next one tries. So `f` runs **to its end exactly once, as far as anybody
/// else can tell**, but it may have been begun before: it can find traces of an earlier attempt. (One
/// that dies after the last step of `f` and before that is noted is an attempt as well.)
///
/// An `f` that fails can panic: that passes on, and the next caller tries. (A process that calls `exit`
/// in `f` counts as dead.)
///
/// The key belongs to the `Once`; all who name the same key of the same dictionary share it. To do it
/// anew, store 0 there while nobody is at it.
///
/// ```
/// use forkmap::{AtomicDict, Once};
///
/// let dict = AtomicDict::anonymous(100)?;
/// let tables = Once::new(&dict, 0)?;
/// for _ in 0..3 {
///     tables.call_once(|| _ = dict.fetch_add(1, 1).unwrap())?;
/// }
/// assert_eq!(dict.load(1), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Once {
    entry: Entry,
}

impl Once {
    /// The `Once` on `key`.
    ///
    /// # Errors
    /// Those of [`AtomicDict::entry`].
    pub fn new<V>(dict: &AtomicDict<V>, key: u64) -> Result<Self, InsertError> {
        let entry = dict.cast().entry(key)?;
        Ok(Self { entry })
    }

    /// Whether it has been done. Wait-free; what was done is visible to who gets `true`.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.entry.load() == COMPLETE
    }

    /// Calls `f`, unless it has been done; waits while another process or thread is at it.
    ///
    /// # Errors
    /// [`OnceError::Reentrant`]; [`OnceError::Inherited`]; [`OnceError::Overwritten`];
    /// [`OnceError::Participant`].
    pub fn call_once(&self, f: impl FnOnce()) -> Result<(), OnceError> {
        self.call_until(f, None)
    }

    /// As [`call_once`](Self::call_once), but waits for others no longer than `timeout`.
    ///
    /// # Errors
    /// As [`call_once`](Self::call_once), and [`OnceError::Running`].
    pub fn call_once_timeout(&self, f: impl FnOnce(), timeout: Duration) -> Result<(), OnceError> {
        self.call_until(f, bell::after(timeout))
    }

    fn call_until(&self, f: impl FnOnce(), deadline: Option<Instant>) -> Result<(), OnceError> {
        if self.is_completed() {
            return Ok(());
        }
        let (segment, value) = (self.entry.segment(), self.entry.value());
        let me = Me::new(segment)?;
        // Whether the turn is ours; `None`: somebody is at it.
        let turn = || -> Result<Option<bool>, OnceError> {
            let word = value.load();
            if word == COMPLETE {
                return Ok(Some(false));
            }
            let at_it = Owner::of(word).map(|owner| me.judge(owner, segment));
            match at_it.transpose()? {
                Some(Holder::Alive) => Ok(None),
                Some(Holder::Myself) => Err(OnceError::Reentrant),
                Some(Holder::Dead) | None => {
                    let taken = value.compare_exchange(word, me.owner.word());
                    Ok(taken.ok().map(|_| true))
                }
            }
        };
        let look = || turn().transpose();
        match look().or_else(|| value.bell().wait(look, deadline)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => return Ok(()),
            Some(Err(error)) => return Err(error),
            None => {
                let owner = Owner::of(value.load());
                let table = segment.layout().participants;
                let pid = owner.and_then(|owner| table.pid(owner.id()));
                return Err(OnceError::Running { pid });
            }
        }
        let turn = Turn { once: self, me };
        f();
        let done = turn.pass_on(COMPLETE);
        std::mem::forget(turn);
        done
    }
}

/// The turn to do it, given up by a panic.
struct Turn<'a> {
    once: &'a Once,
    me: Me,
}

impl Turn<'_> {
    fn pass_on(&self, next: u64) -> Result<(), OnceError> {
        // A child that `f` has forked is not the one whose turn it is.
        if !self.me.is_here() {
            return Err(OnceError::Inherited);
        }
        let entry = &self.once.entry;
        match entry.compare_exchange(self.me.owner.word(), next) {
            Ok(_) => Ok(()),
            Err(_) => Err(OnceError::Overwritten),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // What else was stored there stands.
        let _ = self.pass_on(0);
    }
}

/// Why a [`Once`] was neither found complete nor completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnceError {
    /// A living process, or another thread of this one, is still at it.
    #[error(
        "somebody else{} is still at it; try again, wait longer, or see why it does not get done",
        shown(*.pid)
    )]
    Running {
        /// Its pid, as it sees it itself, if it is known.
        pid: Option<u32>,
    },
    /// The thread that asks is at it: `f` has called the `Once` that it runs in.
    #[error("this thread is at it already: the closure calls the Once that it runs in")]
    Reentrant,
    /// This process was forked by `f`, and has come back from it: the turn is its parent's.
    #[error(
        "this process was forked inside the closure, and the turn is its parent's; leave the child by exit"
    )]
    Inherited,
    /// The closure has run, and its end could not be noted: something else has stored a value under the
    /// key meanwhile.
    #[error(
        "somebody has changed the value of the key while the closure ran; leave the key to the Once alone"
    )]
    Overwritten,
    /// This process could not register, or not learn whether another one lives.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl From<OnceError> for io::Error {
    fn from(error: OnceError) -> Self {
        let kind = match error {
            OnceError::Participant(error) => return error.into(),
            OnceError::Running { .. } => io::ErrorKind::WouldBlock,
            OnceError::Reentrant => io::ErrorKind::Deadlock,
            OnceError::Inherited => io::ErrorKind::InvalidInput,
            OnceError::Overwritten => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
