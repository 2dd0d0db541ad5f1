//! Who begins the next generation: whoever finds the log full; the others leave it to him for a while.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::error::StreamError;
use super::state::State;
use super::{Shared, of};
use crate::error::CreateError;
use crate::process;
use crate::stored::Stored;

/// How long a writer that finds the log sealed leaves the next generation to the one who sealed it, before
/// it builds one itself: a while, and as long as copying the dump may take. So nobody waits longer than the
/// same work takes.
const PATIENCE: Duration = Duration::from_millis(2);
const PATIENCE_PER_MIB: Duration = Duration::from_millis(2);

/// How often it waits so long, if somebody else is at it meanwhile.
const WAITS: u32 = 4;

/// How long one who finds no room for a generation tries again, besides: others may have the generation before
/// in hand who are about to read on, or, which is known, the next one that they are about to begin.
const ROOM_PATIENCE: Duration = Duration::from_millis(50);
const RIVALS_PATIENCE: Duration = Duration::from_secs(1);
/// How many times as long at most, if others begin one each time.
const LONGEST: u32 = 20;

/// What a writer remembers between two attempts.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The sealed generation that it has waited at.
    waited: Option<u64>,
    /// Since when it has found no room.
    in_vain: Option<InVain>,
}

/// When a writer has found no room for the next generation.
#[derive(Debug)]
struct InVain {
    /// For the first time.
    first: Instant,
    /// For the first time in the generation where it is now.
    latest: Instant,
    generation: u64,
}

impl Turns {
    /// Whether it is on this writer to begin the next generation: it finds the log full, or has left it to
    /// others for long enough.
    pub(super) fn is_ours<V: Stored + ?Sized>(&self, state: &State<V>) -> bool {
        let sealed = state.sealed();
        sealed.is_none() || self.waited == sealed
    }

    /// Ends an attempt, of which `error` came, at a log that is sealed or not. Waits where another process is
    /// about to begin the next generation; as long as that may take, and no longer.
    pub(super) fn end<V: Stored + ?Sized>(
        &mut self,
        shared: &Shared<V>,
        sealed: Option<u64>,
        error: Option<StreamError>,
    ) -> Result<(), StreamError> {
        if error.is_none() {
            if sealed.is_none() || self.waited == sealed {
                return Ok(());
            }
            self.waited = sealed;
        }
        let (generation, patience) = {
            let state = shared.local()?.read();
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let state = of(&state);
            let mebibytes = (state.replica.dump_bytes() >> 20) as u32;
            let patience = PATIENCE + PATIENCE_PER_MIB * mebibytes;
            (state.generation.facts().id, patience)
        };
        let cx = shared.context();
        if let Some(error) = error {
            let StreamError::Create(CreateError::NoSpace { .. }) = error else {
                return Err(error);
            };
            let now = Instant::now();
            let most = match cx.is_being_built() {
                true => RIVALS_PATIENCE + 4 * patience,
                false => ROOM_PATIENCE + 4 * patience,
            };
            let in_vain = self.in_vain.get_or_insert(InVain {
                first: now,
                latest: now,
                generation,
            });
            if in_vain.generation != generation {
                (in_vain.latest, in_vain.generation) = (now, generation);
            }
            if now - in_vain.latest > most || now - in_vain.first > LONGEST * most {
                return Err(error);
            }
        }
        for _ in 0..WAITS {
            // By chance, or all build at once, each with as much memory as one needs.
            let chance = process::random().unwrap_or(0) as f64 / u64::MAX as f64;
            let deadline = Instant::now() + patience + patience.mul_f64(2.0 * chance);
            let has_begun = || shared.has_left(generation).then_some(());
            let has_begun = cx.bell().wait(has_begun, Some(deadline)).is_some();
            if has_begun || !cx.is_being_built() {
                break;
            }
        }
        Ok(())
    }
}
