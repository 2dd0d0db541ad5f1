//! What happened, and whether it makes sense.

use std::fmt;

use super::Step::{self, Get, Insert, Replace};
use super::{FIRST_SPREAD, Value};

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// What was there before.
    Was(Option<Value>),
    /// Whether a key was inserted.
    Inserted(bool),
    /// No room.
    Full,
    /// Its process was killed during it.
    Killed,
}
use Outcome::{Inserted, Killed, Was};

/// An operation that has ended.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) step: Step,
    pub(super) outcome: Outcome,
    /// The events that had ended when it began, as far as a process can know, one bit each.
    pub(super) after: u64,
}

/// All that happened, and what was told.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) events: Vec<Event>,
    pub(super) told: u64,
}

/// A map, as the operations are meant to be: the keys that the scene is about.
pub(super) type Model = [Option<Value>; FIRST_SPREAD as usize];

/// What `model` is after an operation with that outcome, in each way that there is.
pub(super) fn after(model: &Model, step: Step, outcome: Outcome) -> Vec<Model> {
    let key = usize::from(step.key().expect("an operation on a key"));
    let (was, is) = match step {
        Get(_) => (model[key], model[key]),
        Insert(_, value) => (model[key], model[key].or(Some(value))),
        Replace(_, value) => (model[key], model[key].map(|_| value)),
        _ => (model[key], None),
    };
    let mut changed = *model;
    changed[key] = is;
    match outcome {
        Killed => vec![*model, changed],
        // At the brim others may have had the last cells in hand.
        Outcome::Full => vec![*model],
        Inserted(inserted) if inserted == was.is_none() => vec![changed],
        Was(value) if value == was => vec![changed],
        _ => Vec::new(),
    }
}

/// Whether some order of the events that are not yet `done` is a history of `model`.
pub(super) fn is_explained(events: &[Event], done: u64, model: &Model) -> bool {
    let mut open = (0..events.len()).filter(|n| done >> n & 1 == 0).peekable();
    if open.peek().is_none() {
        return true;
    }
    open.filter(|&n| events[n].after & !done == 0).any(|n| {
        let next = after(model, events[n].step, events[n].outcome);
        next.iter()
            .any(|model| is_explained(events, done | 1 << n, model))
    })
}

/// For who has to find out what went wrong.
pub(super) struct Events<'a>(pub(super) &'a [Event]);

impl fmt::Display for Events<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, event) in self.0.iter().enumerate() {
            let Event {
                step,
                outcome,
                after,
            } = event;
            let after: Vec<_> = (0..64).filter(|n| after >> n & 1 == 1).collect();
            write!(f, "\n  {n}: {step:?} -> {outcome:?}, after {after:?}")?;
        }
        Ok(())
    }
}
