//! A barrier that breaks when a party dies, instead of waiting for it.
//!
//! ```text
//! keys:   state | seat 0 | ... | seat n-1
//! state:  round (40 bits) | resets (23 bits) | broken (1 bit)
//! seat:   participant (40 bits) | the low 24 bits of the number of rounds it has arrived at
//! ```
//!
//! A party arrives by writing the number of the next round into its seat. A round is complete when
//! all seats have that number, and whoever sees it says so in the state, by one compare-exchange. Who
//! gives up, or finds that a party it waits for is dead, breaks the barrier, by one compare-exchange of
//! the same word. So each round is either complete for all or broken for all.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Me, entries};
use crate::dict::{AtomicDict, Entry};
use crate::error::{InsertError, ParticipantError};
use crate::raw::bell;
use crate::raw::participants::ParticipantId;

const SEAT_ROUND_BITS: u32 = 24;
const SEAT_ROUNDS: u64 = 1 << SEAT_ROUND_BITS;

/// A seat of `id` that has arrived at `round`.
fn seat(id: ParticipantId, round: u64) -> u64 {
    (id.bits() << SEAT_ROUND_BITS) | (round % SEAT_ROUNDS)
}

/// The state word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    round: u64,
    resets: u64,
    broken: bool,
}

impl State {
    const RESET_BITS: u32 = 23;

    fn of(word: u64) -> Self {
        Self {
            round: word >> (Self::RESET_BITS + 1),
            resets: word >> 1 & ((1 << Self::RESET_BITS) - 1),
            broken: word & 1 != 0,
        }
    }

    /// How many rounds have begun since, by completion or reset; only the low bits.
    fn rounds_since(self, start: Self) -> u64 {
        self.round.wrapping_sub(start.round) % (1 << Self::RESET_BITS)
    }

    /// How many of them by a reset; only the low bits.
    fn resets_since(self, start: Self) -> u64 {
        self.resets.wrapping_sub(start.resets) % (1 << Self::RESET_BITS)
    }

    /// The word, with numbers that begin anew when their bits are used up.
    fn word(self) -> u64 {
        let resets = self.resets % (1 << Self::RESET_BITS);
        self.round << (Self::RESET_BITS + 1) | resets << 1 | u64::from(self.broken)
    }
}

/// A place where processes wait until all of them have come, again and again, on some keys of an
/// [`AtomicDict`].
///
/// It blocks by nature: a stopped party holds up the others. But a party that *dies* does not, and
/// neither does one that is late for somebody's timeout: then the barrier *breaks*, and all who wait,
/// and all who come to wait after that, get an error until somebody calls [`reset`](Self::reset).
///
/// A barrier has a fixed number of seats. Each party first takes one ([`join`](Self::join)), so that
/// its death is noticed also while it is somewhere else. A seat that nobody has taken is waited for.
///
/// The keys belong to the barrier: the first one and one a seat behind it. All who name the same keys,
/// and as many of them, share it.
///
/// # After a break
///
/// One process, a survivor or a coordinator, calls [`reset`](Self::reset) when it is clear who goes on.
/// Those who were waiting have got the error and wait again; replacements of the dead call
/// [`join`](Self::join), which is an error until then. [`BarrierWaitResult::round`] tells which round
/// was passed, so that all can agree on where they are. **A party that was not waiting between break and
/// reset does not learn of either**: if that matters, let it look at
/// [`is_broken`](Self::is_broken) and compare rounds.
///
/// ```
/// use forkmap::{AtomicDict, Barrier};
///
/// let dict = AtomicDict::anonymous(100)?;
/// let barrier = Barrier::new(&dict, 50, 2)?;              // the keys 50, 51 and 52
///
/// let other = barrier.clone();
/// let worker = std::thread::spawn(move || {
///     let mut party = other.join()?;                      // in a forked worker, more likely
///     party.wait().map(|met| met.is_leader())
/// });
/// let mut party = barrier.join()?;
/// let leader = party.wait()?.is_leader();
/// assert!(leader != worker.join().unwrap()?);             // one of the two
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Barrier {
    state: Entry,
    seats: Arc<[Entry]>,
}

impl Barrier {
    /// The barrier with so many parties on the `parties` + 1 keys from `first_key` on.
    ///
    /// # Errors
    /// [`InsertError::TooManyKeys`]; those of [`AtomicDict::entry`], and some of the keys may have got
    /// slots then.
    pub fn new<V>(
        dict: &AtomicDict<V>,
        first_key: u64,
        parties: usize,
    ) -> Result<Self, InsertError> {
        let mut entries = entries(dict, first_key, parties.saturating_add(1))?;
        let seats = entries.split_off(1).into();
        let state = entries.remove(0);
        Ok(Self { state, seats })
    }

    /// Takes a seat.
    ///
    /// # Errors
    /// [`BarrierError::Full`]; [`BarrierError::Broken`], also if a party is found dead now;
    /// [`BarrierError::Participant`].
    pub fn join(&self) -> Result<Party, BarrierError> {
        let me = Me::new(self.state.segment())?;
        loop {
            let state = self.state();
            if state.broken {
                return Err(BarrierError::Broken);
            }
            let fresh = seat(me.owner.id(), state.round);
            let free = self
                .seats
                .iter()
                .position(|seat| seat.compare_exchange(0, fresh).is_ok());
            if let Some(n) = free {
                let barrier = self.clone();
                let panicking = std::thread::panicking();
                return Ok(Party {
                    barrier,
                    n,
                    me,
                    panicking,
                });
            }
            // Not simply taken over: those who count on the dead one are to know.
            if !self.any_dead(|_| true)? {
                return Err(BarrierError::Full {
                    parties: self.seats.len(),
                });
            }
            self.break_at(state);
        }
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Makes a broken barrier whole: the next round begins, and the seats of the dead are free. Who
    /// waits at this moment, the barrier being whole, gets [`BarrierError::Broken`].
    ///
    /// To be called by one process, when those who go on are known; in a named segment also before the
    /// first one joins, because a former run may have left dead parties behind.
    ///
    /// # Errors
    /// [`BarrierError::Participant`].
    pub fn reset(&self) -> Result<(), BarrierError> {
        for seat in self.seats.iter() {
            let word = seat.load();
            if self.is_dead(word)? {
                // If it fails, it belongs to somebody else by now.
                let _ = seat.compare_exchange(word, 0);
            }
        }
        let next = |word| {
            let State { round, resets, .. } = State::of(word);
            let (round, resets) = (round + 1, resets + 1);
            Some(
                State {
                    round,
                    resets,
                    broken: false,
                }
                .word(),
            )
        };
        let _ = self.state.fetch_update(next);
        Ok(())
    }

    fn state(&self) -> State {
        State::of(self.state.load())
    }

    /// Breaks the barrier, unless it has got on from `state` meanwhile.
    fn break_at(&self, state: State) {
        let broken = State {
            broken: true,
            ..state
        };
        let _ = self.state.compare_exchange(state.word(), broken.word());
    }

    /// Whether the word of a seat is that of somebody who is dead.
    fn is_dead(&self, seat: u64) -> Result<bool, ParticipantError> {
        let id = ParticipantId::from_bits(seat >> SEAT_ROUND_BITS);
        Ok(seat != 0 && !self.state.segment().is_alive(id)?)
    }

    /// Whether anybody is dead whose seat passes `filter`.
    fn any_dead(&self, filter: impl Fn(u64) -> bool) -> Result<bool, ParticipantError> {
        for seat in self.seats.iter() {
            let word = seat.load();
            if filter(word) && self.is_dead(word)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A seat at a [`Barrier`]. Dropping it frees the seat for another party; the others wait for that
/// one then. If it is dropped by a panic, the barrier breaks, as it does when the process dies.
///
/// A forked child does not have the seat of its parent: it takes one of its own.
#[derive(Debug)]
#[must_use = "the seat is given back as soon as it is dropped"]
pub struct Party {
    barrier: Barrier,
    n: usize,
    me: Me,
    /// Whether this thread was unwinding already when it took the seat.
    panicking: bool,
}

impl Party {
    /// Waits until all parties wait, as long as it takes.
    ///
    /// What each party did before is visible to all after that.
    ///
    /// # Errors
    /// [`BarrierError::Broken`]; [`BarrierError::Inherited`]; [`BarrierError::Participant`].
    pub fn wait(&mut self) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(None)
    }

    /// Waits until all parties wait. After `timeout` it breaks the barrier, for all.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`BarrierError::TimedOut`]. After any error of either the barrier
    /// is broken, but for [`BarrierError::Inherited`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<BarrierWaitResult, BarrierError> {
        self.wait_until(bell::after(timeout))
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<BarrierWaitResult, BarrierError> {
        if !self.me.is_here() {
            return Err(BarrierError::Inherited);
        }
        let barrier = &self.barrier;
        let start = barrier.state();
        if start.broken {
            return Err(BarrierError::Broken);
        }
        let arrived = seat(self.me.owner.id(), start.round + 1);
        barrier.seats[self.n].store(arrived);
        let look = || self.look(start, false).transpose();
        let mut look_again = || self.look(start, true).transpose();
        let bell = barrier.state.value().bell();
        let met = look()
            .or_else(|| bell::spin(look))
            .or_else(|| bell.wait(&mut look_again, deadline));
        let error = match met {
            None => BarrierError::TimedOut,
            // It has arrived and cannot take that back, so the others must not count on it.
            Some(Err(error @ BarrierError::Participant(_))) => error,
            Some(met) => return met,
        };
        barrier.break_at(start);
        // Unless the last one has come just now.
        match look() {
            Some(Ok(met)) => Ok(met),
            _ => Err(error),
        }
    }

    /// What has become of the round that began with `start`; `None` if it still goes on.
    fn look(
        &self,
        start: State,
        at_the_living: bool,
    ) -> Result<Option<BarrierWaitResult>, BarrierError> {
        let barrier = &self.barrier;
        let arrived = (start.round + 1) % SEAT_ROUNDS;
        let met = |is_leader| BarrierWaitResult {
            round: start.round,
            is_leader,
        };
        let is_late = |word: u64| word == 0 || word % SEAT_ROUNDS != arrived;
        loop {
            let state = barrier.state();
            if state != start {
                // Without this party only one more round can be complete, the one that it has
                // arrived at. All other steps were resets.
                return if state.rounds_since(start) != state.resets_since(start) {
                    Ok(Some(met(false)))
                } else {
                    Err(BarrierError::Broken)
                };
            }
            if !barrier.seats.iter().any(|seat| is_late(seat.load())) {
                let next = State {
                    round: start.round + 1,
                    ..start
                };
                if barrier
                    .state
                    .compare_exchange(start.word(), next.word())
                    .is_ok()
                {
                    return Ok(Some(met(true)));
                }
            } else if at_the_living && barrier.any_dead(is_late)? {
                barrier.break_at(start);
            } else {
                return Ok(None);
            }
        }
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        if self.me.is_here() {
            if std::thread::panicking() && !self.panicking {
                self.barrier.break_at(self.barrier.state());
            }
            self.barrier.seats[self.n].store(0);
        }
    }
}

/// How a [`Barrier`] was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierWaitResult {
    round: u64,
    is_leader: bool,
}

impl BarrierWaitResult {
    /// Whether this party is the one of this round that is to do what only one should do. (If it died
    /// when it had just said that the round is complete, there is none.)
    pub fn is_leader(&self) -> bool {
        self.is_leader
    }

    /// The number of the round that was passed: the same for all parties, one more each time, and one
    /// more for each [`reset`](Barrier::reset). From 0, in 40 bits.
    pub fn round(&self) -> u64 {
        self.round
    }
}

/// Why a [`Barrier`] was not joined or not passed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// A party has died or panicked, or was late for a timeout. The error is the same for all.
    #[error(
        "the barrier is broken: a party died, panicked or came too late; see who goes on, then call reset"
    )]
    Broken,
    /// Not all parties came in time, so the barrier was broken.
    #[error("not all parties came in time, so the barrier was broken for all; call reset to go on")]
    TimedOut,
    /// All seats belong to the living.
    #[error(
        "all {parties} seats belong to living parties; make the barrier with more, or drop one"
    )]
    Full {
        /// Number of seats.
        parties: usize,
    },
    /// This process was forked from the one that has the seat.
    #[error("the seat is the parent's, from whom this process was forked; join anew in the child")]
    Inherited,
    /// This process could not register, or not learn whether another one lives.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl From<BarrierError> for io::Error {
    fn from(error: BarrierError) -> Self {
        let kind = match error {
            BarrierError::Participant(error) => return error.into(),
            BarrierError::Broken => io::ErrorKind::ConnectionAborted,
            BarrierError::TimedOut => io::ErrorKind::TimedOut,
            BarrierError::Full { .. } => io::ErrorKind::QuotaExceeded,
            BarrierError::Inherited => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}
