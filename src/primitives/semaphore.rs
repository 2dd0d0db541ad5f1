//! Permits that come back when their holders die.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Me, entries};
use crate::dict::{AtomicDict, Entry};
use crate::error::{InsertError, ParticipantError};
use crate::raw::bell::{self, Bell, LONGEST_SLEEP};
use crate::raw::lock::{Holder, LockWord, NotTaken};
use crate::raw::owner::Owner;

/// A number of permits that processes share: at most so many do something at once.
///
/// It blocks by nature, while all permits are with living processes, stopped ones included. A permit
/// whose holder *dies* comes back: the next one gets it after about 50 ms at the latest. (There is
/// nothing to be told: a permit guards no data. Take a [`Lock`](crate::Lock) for that.)
///
/// Each permit is a key of the dictionary, whose value names its holder, so the count is exact whoever
/// is killed when. The keys from the first one on belong to the semaphore; all who name the same keys,
/// and as many of them, share it. Taking and giving back is one compare-exchange each, after a look at
/// each permit in turn; meant for tens or hundreds of them. It is not fair: a newcomer may overtake
/// those who sleep. A waiter looks a hundred times, then sleeps; giving a permit back wakes all.
///
/// ```
/// use forkmap::{AtomicDict, Semaphore};
///
/// let dict = AtomicDict::anonymous(100)?;
/// let connections = Semaphore::new(&dict, 1000, 2)?;      // the keys 1000 and 1001
///
/// let first = connections.acquire()?;
/// let second = connections.acquire()?;
/// assert!(connections.try_acquire().is_err());
/// drop(first);
/// assert_eq!(connections.available_permits(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Semaphore {
    permits: Arc<[Entry]>,
}

impl Semaphore {
    /// The semaphore on the `permits` keys from `first_key` on. All are free if nobody has used them
    /// yet. One without any permits is never waited for: it refuses at once.
    ///
    /// # Errors
    /// [`InsertError::TooManyKeys`]; those of [`AtomicDict::entry`], and some of the keys may have got
    /// slots then.
    pub fn new<V>(
        dict: &AtomicDict<V>,
        first_key: u64,
        permits: usize,
    ) -> Result<Self, InsertError> {
        let permits = entries(dict, first_key, permits)?.into();
        Ok(Self { permits })
    }

    /// Takes a permit, and waits for one as long as it takes.
    ///
    /// # Errors
    /// [`AcquireError::Participant`].
    pub fn acquire(&self) -> Result<Permit, AcquireError> {
        self.acquire_until(None)
    }

    /// Takes a permit, and waits for one no longer than `timeout`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`AcquireError::NoPermits`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit, AcquireError> {
        self.acquire_until(bell::after(timeout))
    }

    /// Takes a permit that is free or whose holder is dead. Does not wait.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`AcquireError::NoPermits`].
    pub fn try_acquire(&self) -> Result<Permit, AcquireError> {
        let first = self.permits.first().ok_or(AcquireError::NoPermits)?;
        let me = Me::new(first.segment())?;
        if let Some(permit) = self.take_free(me)? {
            return Ok(permit);
        }
        self.take_free_or_dead(me)?.ok_or(AcquireError::NoPermits)
    }

    fn acquire_until(&self, deadline: Option<Instant>) -> Result<Permit, AcquireError> {
        let Some(first) = self.permits.first() else {
            return Err(AcquireError::NoPermits);
        };
        let me = Me::new(first.segment())?;
        let free = || self.take_free(me).transpose();
        // The kernel is asked about each holder, so not at every ring.
        let mut asked = None;
        let free_or_dead = || {
            if let Some(taken) = free() {
                return Some(taken);
            }
            if asked.is_some_and(|asked: Instant| asked.elapsed() < LONGEST_SLEEP) {
                return None;
            }
            asked = Some(Instant::now());
            self.take_free_or_dead(me).transpose()
        };
        let taken = free()
            .or_else(|| bell::spin(free))
            .or_else(|| self.bell().wait(free_or_dead, deadline));
        match taken {
            None => Err(AcquireError::NoPermits),
            Some(taken) => Ok(taken?),
        }
    }

    fn take_free(&self, me: Me) -> Result<Option<Permit>, ParticipantError> {
        self.take(me, &|_| Ok(Holder::Alive))
    }

    fn take_free_or_dead(&self, me: Me) -> Result<Option<Permit>, ParticipantError> {
        let judge = |owner: Owner| {
            Ok(match self.permits[0].segment().is_alive(owner.id())? {
                true => Holder::Alive,
                false => Holder::Dead,
            })
        };
        self.take(me, &judge)
    }

    /// The first permit that can be had.
    fn take(
        &self,
        me: Me,
        judge: &impl Fn(Owner) -> Result<Holder, ParticipantError>,
    ) -> Result<Option<Permit>, ParticipantError> {
        for (n, entry) in self.permits.iter().enumerate() {
            match LockWord::new(entry.value().word()).try_lock(me.owner, judge) {
                Ok(_) => {
                    let semaphore = self.clone();
                    return Ok(Some(Permit { semaphore, n, me }));
                }
                Err(NotTaken::Held(_) | NotTaken::ByMyself) => {}
                Err(NotTaken::Unknown(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Number of permits that nobody has at this moment. Those of the dead are not among them: each is
    /// taken over by somebody who asks for a permit when no other is free.
    pub fn available_permits(&self) -> usize {
        let words = self
            .permits
            .iter()
            .map(|entry| LockWord::new(entry.value().word()));
        words.filter(|word| word.owner().is_none()).count()
    }

    /// All who wait for any of the permits wait at the bell of the first.
    fn bell(&self) -> Bell<'_> {
        self.permits[0].value().bell()
    }
}

/// A permit of a [`Semaphore`], given back when it is dropped. Any thread of the process may drop it.
///
/// A forked child does not have the permits of its parent: dropping an inherited one does nothing.
#[derive(Debug)]
#[must_use = "the permit is given back as soon as it is dropped"]
pub struct Permit {
    semaphore: Semaphore,
    n: usize,
    me: Me,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.me.is_here() {
            let word = LockWord::new(self.semaphore.permits[self.n].value().word());
            word.unlock(self.me.owner, None);
            self.semaphore.bell().ring();
        }
    }
}

/// Why no permit of a [`Semaphore`] was taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// Living processes have them all.
    #[error(
        "living processes have all permits; try again, or wait longer (or there are none: see new)"
    )]
    NoPermits,
    /// This process could not register, or not learn whether a holder lives.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl From<AcquireError> for io::Error {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Participant(error) => error.into(),
            AcquireError::NoPermits => io::Error::new(io::ErrorKind::WouldBlock, error),
        }
    }
}
