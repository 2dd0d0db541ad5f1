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

/// How often one who finds no room for a generation tries again, if it may be that others hold it who are
/// about to begin one as well.
const ATTEMPTS: u32 = 5;
/// The same, if each time somebody has begun one.
const ATTEMPTS_IN_ALL: u32 = 50;

/// What a writer remembers between two attempts.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The sealed generation that it has waited at.
    waited: Option<u64>,
    /// How often it has found no room, in a row and in all.
    in_vain: u32,
    in_vain_in_all: u32,
}

impl Turns {
    /// Whether it is on this writer to begin the next generation: it finds the log full, or has left it to
    /// others for long enough.
    pub(super) fn is_ours<V: Stored + ?Sized>(&self, state: &State<V>) -> bool {
        state
            .sealed()
            .is_none_or(|sealed| self.waited == Some(sealed))
    }

    /// Ends an attempt, of which `error` came, at a log that is sealed or not. Waits where another process is
    /// about to begin the next generation; as long as that may take, and no longer.
    pub(super) fn end<V: Stored + ?Sized>(
        &mut self,
        shared: &Shared<V>,
        sealed: Option<u64>,
        error: Option<StreamError>,
    ) -> Result<(), StreamError> {
        match error {
            Some(StreamError::Create(CreateError::NoSpace { .. }))
                if self.in_vain < ATTEMPTS && self.in_vain_in_all < ATTEMPTS_IN_ALL =>
            {
                self.in_vain += 1;
                self.in_vain_in_all += 1;
            }
            Some(error) => return Err(error),
            None if sealed.is_none() || self.waited == sealed => return Ok(()),
            None => self.waited = sealed,
        }
        let (generation, patience) = {
            let state = shared.local()?.read();
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let state = of(&state);
            let mebibytes = (state.replica.dump_bytes() >> 20) as u32;
            let patience = PATIENCE + PATIENCE_PER_MIB * mebibytes;
            (state.generation.facts().id, patience)
        };
        // By chance, or all build at once, each with as much memory as one needs.
        let chance = process::random().unwrap_or(0) as f64 / u64::MAX as f64;
        let deadline = Instant::now() + patience + patience.mul_f64(2.0 * chance);
        let moved_on = || shared.has_left(generation).then_some(());
        if shared
            .context()
            .bell()
            .wait(moved_on, Some(deadline))
            .is_some()
        {
            self.in_vain = 0;
        }
        Ok(())
    }
}
