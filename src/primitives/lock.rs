//! A lock whose dead owner is noticed.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use super::{Me, shown};
use crate::dict::{AtomicDict, Entry};
use crate::error::{InsertError, ParticipantError};
use crate::raw::bell;
use crate::raw::lock::{Holder, LockWord, NotTaken};
use crate::raw::owner::Owner;

type Judge<'a> = dyn Fn(Owner) -> Result<Holder, ParticipantError> + 'a;
type Taken = Result<Option<Owner>, NotTaken<ParticipantError>>;

/// A lock between processes, on one key of an [`AtomicDict`].
///
/// It blocks by nature: while its owner lives, nobody else gets it, and an owner that is *stopped*
/// keeps it. But an owner that *dies* is noticed: the next one gets the lock after about 50 ms at the
/// latest, and is told that the lock is poisoned, as by a [`std::sync::Mutex`] whose owner has
/// panicked. It stays poisoned until somebody has mended what it guards and says so with
/// [`clear_poison`](LockGuard::clear_poison). An owner that panics poisons it too, and so does one that
/// calls `exit` or `exec` with the lock, because neither runs destructors.
///
/// Whether an owner is alive is the kernel's answer and no guess from a pid or a clock: a stopped or
/// slow owner is never robbed, and neither pid reuse nor a zombie keeps a dead one alive.
/// [`force_unlock`](Self::force_unlock) is for those who know better.
///
/// # Use
///
/// The key is the lock's: its value says who has it. (Other operations on the key break the lock,
/// though not memory.) All who take the same key of the same dictionary share one lock, as do clones.
/// A process is registered in the segment with its first lock there: see
/// [`Options::participants`](crate::Options::participants).
///
/// It is not re-entrant: a thread that asks for what it has gets an error. It is not fair: a
/// newcomer may overtake those who sleep. A waiter looks a hundred times, then sleeps; unlocking wakes
/// one.
///
/// Not for signal handlers. A forked child does not own what its parent owns: a guard that it
/// inherits does nothing there, and it can wait for its parent's lock as anybody else. The page
/// [forking](crate::forking) has what can make a dead owner look alive (a fork by another thread in the
/// middle of registering).
///
/// Taking a free lock and giving it back is one compare-exchange each, sequentially consistent: what
/// one owner did is visible to the next.
///
/// ```
/// use forkmap::{AtomicDict, Lock};
///
/// let dict = AtomicDict::anonymous(100)?;
/// let lock = Lock::new(&dict, 0)?;          // before or after the fork
///
/// let guard = lock.lock()?;
/// dict.store(1, dict.load(1) + 1)?;         // nobody else is here
/// drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// With owners that may die:
///
/// ```
/// # use forkmap::{AtomicDict, Lock, LockError};
/// # let dict = AtomicDict::anonymous(100)?;
/// # let lock = Lock::new(&dict, 0)?;
/// let mut guard = lock.lock().or_else(LockError::into_guard)?;
/// if guard.is_poisoned() {
///     // ... look at what the lock guards, and mend what the dead owner left half done ...
///     guard.clear_poison();
/// }
/// # drop(guard);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lock {
    entry: Entry,
}

impl Lock {
    /// The lock on `key`. It is free if nobody has used it yet.
    ///
    /// # Errors
    /// Those of [`AtomicDict::entry`].
    pub fn new<V>(dict: &AtomicDict<V>, key: u64) -> Result<Self, InsertError> {
        let entry = dict.cast().entry(key)?;
        Ok(Self { entry })
    }

    /// Takes the lock, and waits for it as long as it takes.
    ///
    /// # Errors
    /// [`LockError::Poisoned`], with the lock in it; [`LockError::Reentrant`];
    /// [`LockError::Participant`].
    pub fn lock(&self) -> Result<LockGuard, LockError> {
        self.take(|word, me, judge| word.lock(me, None, judge))
    }

    /// Takes the lock, and waits for it no longer than `timeout`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::Held`].
    pub fn lock_timeout(&self, timeout: Duration) -> Result<LockGuard, LockError> {
        let deadline = bell::after(timeout);
        self.take(|word, me, judge| word.lock(me, deadline, judge))
    }

    /// Takes the lock if it is free or its owner is dead. Does not wait.
    ///
    /// # Errors
    /// As [`lock`](Self::lock), and [`LockError::Held`].
    pub fn try_lock(&self) -> Result<LockGuard, LockError> {
        self.take(|word, me, judge| word.try_lock(me, judge))
    }

    fn take(
        &self,
        take: impl FnOnce(LockWord<'_>, Owner, &Judge<'_>) -> Taken,
    ) -> Result<LockGuard, LockError> {
        let segment = self.entry.segment();
        let me = Me::new(segment)?;
        let judge = |owner| me.judge(owner, segment);
        let poisoned_by =
            take(self.word(), me.owner, &judge).map_err(|not_taken| match not_taken {
                NotTaken::Held(owner) => LockError::Held {
                    pid: self.pid(owner),
                },
                NotTaken::ByMyself => LockError::Reentrant,
                NotTaken::Unknown(error) => error.into(),
            })?;
        let guard = LockGuard {
            lock: self.clone(),
            me,
            poisoned_by,
            panicking: std::thread::panicking(),
            not_send: PhantomData,
        };
        if guard.is_poisoned() {
            Err(LockError::Poisoned(guard))
        } else {
            Ok(guard)
        }
    }

    /// The process that has the lock, as it sees its own pid; `None` if nobody has it, or if it is not
    /// known any more who that was. The owner may be dead: then the lock is the next one's.
    pub fn owner_pid(&self) -> Option<u32> {
        self.word().owner().and_then(|owner| self.pid(owner))
    }

    /// Whether somebody has the lock, dead or alive.
    pub fn is_locked(&self) -> bool {
        self.word().owner().is_some()
    }

    /// Takes the lock away from its owner, alive or dead, and leaves it free and poisoned. Tells whether
    /// anybody had it.
    ///
    /// For the one case that the kernel's account gets wrong, and for owners that will never go on: a
    /// stopped or hanging process that nobody can or will kill. **If the owner does go on, two are in
    /// the critical section at once.** Its guard then gives nothing back (unless the same thread has
    /// taken the lock anew by then: it should drop the old guard first).
    pub fn force_unlock(&self) -> bool {
        self.word().break_open().is_some()
    }

    fn word(&self) -> LockWord<'_> {
        LockWord::new(self.entry.value().word())
    }

    fn pid(&self, owner: Owner) -> Option<u32> {
        self.entry.segment().layout().participants.pid(owner.id())
    }
}

/// The lock is yours until this is dropped.
///
/// It keeps the segment attached. A thread cannot hand it to another one. If it is leaked
/// ([`std::mem::forget`]), the process keeps the lock until it ends.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct LockGuard {
    lock: Lock,
    me: Me,
    poisoned_by: Option<Owner>,
    /// Whether this thread was unwinding already when it took the lock.
    panicking: bool,
    /// The word names the thread.
    not_send: PhantomData<*const ()>,
}

impl LockGuard {
    /// Whether an owner died or panicked with the lock, and nobody has cleared that since.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned_by.is_some()
    }

    /// The process that died or panicked with the lock, if the lock is poisoned and it is still known
    /// who that was: until it leaves the segment, or its place in the table is another one's.
    pub fn poisoned_by(&self) -> Option<u32> {
        self.poisoned_by.and_then(|owner| self.lock.pid(owner))
    }

    /// Says that what the lock guards is in order again. Without this it is given back poisoned.
    pub fn clear_poison(&mut self) {
        self.poisoned_by = None;
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        // A forked child drops copies of what is its parent's.
        if self.me.is_here() {
            if std::thread::panicking() && !self.panicking {
                self.poisoned_by = Some(self.me.owner);
            }
            self.lock.word().unlock(self.me.owner, self.poisoned_by);
        }
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("is_poisoned", &self.is_poisoned())
            .finish_non_exhaustive()
    }
}

/// Why a [`Lock`] was not taken, or not in good order.
///
/// It can hold the lock's guard, so it is not `Send`. Where an error must be, as with `anyhow`, make it
/// a [`std::io::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock *was* taken, and its last owner died or panicked with it, or was robbed of it by
    /// [`Lock::force_unlock`]: what it guards may be half changed. Go on with the guard, see [`into_guard`](Self::into_guard). Dropping the error, as `?`
    /// does, gives the lock back, poisoned still.
    #[error(
        "the last owner of the lock{} died, panicked or was forced to give it up: mend what it guards, then call clear_poison on the guard in this error (into_guard)",
        shown(.0.poisoned_by())
    )]
    Poisoned(LockGuard),
    /// A living process has it, or another thread of this one.
    #[error(
        "somebody else{} has the lock; try again, wait longer, or see why it is not given back",
        shown(*.pid)
    )]
    Held {
        /// Its pid, as it sees it itself, if it is known.
        pid: Option<u32>,
    },
    /// The thread that asks has it already.
    #[error("this thread has the lock already; drop the guard first")]
    Reentrant,
    /// This process could not register, or not learn whether the owner lives.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl LockError {
    /// The lock, if it was taken although poisoned, for those who know how to mend what it guards.
    ///
    /// # Errors
    /// The other ones as they are.
    pub fn into_guard(self) -> Result<LockGuard, Self> {
        match self {
            Self::Poisoned(guard) => Ok(guard),
            other => Err(other),
        }
    }
}

/// Gives back the lock that is in [`LockError::Poisoned`], poisoned.
impl From<LockError> for io::Error {
    fn from(error: LockError) -> Self {
        let kind = match error {
            LockError::Participant(error) => return error.into(),
            LockError::Poisoned(_) => io::ErrorKind::Other,
            LockError::Held { .. } => io::ErrorKind::WouldBlock,
            LockError::Reentrant => io::ErrorKind::Deadlock,
        };
        io::Error::new(kind, error.to_string())
    }
}
