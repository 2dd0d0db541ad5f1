//! Random programs.

use crate::random::Random;

/// What a thread does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Give a key a value.
    Put,
    /// Remove a key.
    Remove,
    /// Change two keys at once.
    Move,
    /// Change all keys at once.
    PutAll,
    /// Read everything.
    Read,
    /// The same on pages mapped for reading.
    ReadOnly,
    /// Begin a new generation.
    Dump,
    /// Open it anew, and read everything.
    Attach,
    /// Unlink it.
    Unlink,
}

/// One step of a thread, with the numbers of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub kind: Kind,
    /// With which key.
    pub key: usize,
    /// And which other one.
    pub other: usize,
}

/// Sizes of a dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Keys that there can be.
    pub keys: usize,
    /// Participants: one for each thread, and one who comes last.
    pub slots: usize,
    /// Words of a log at least.
    pub words: usize,
    /// Whether a log is longer than that when somebody has found no room.
    pub is_ample: bool,
    /// How often a builder looks whether somebody else is elected before it builds.
    pub patience: usize,
}

/// A dictionary, and what threads do with it.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its sizes.
    pub shape: Shape,
    /// Done before the threads start.
    pub before: Vec<Step>,
    /// What each thread does.
    pub threads: Vec<Vec<Step>>,
    /// In so many of a hundred executions a thread is stopped.
    pub stops: usize,
}

/// What a thread is for.
#[derive(Debug, Clone, Copy)]
enum Role {
    Any,
    Writer,
    Switcher,
    Reader,
}

impl Role {
    fn kinds(self) -> &'static [Kind] {
        use Kind::{Attach, Dump, Move, Put, PutAll, Read, ReadOnly, Remove};
        match self {
            Role::Any => &[
                Put, Put, Put, Remove, Move, PutAll, Read, ReadOnly, Dump, Attach,
            ],
            Role::Writer => &[Put, Put, Remove, Move, Move, PutAll],
            Role::Switcher => &[Dump, Dump, Put, PutAll, Attach],
            Role::Reader => &[Read, ReadOnly, ReadOnly, Attach, Put],
        }
    }
}

impl Program {
    /// The program of this seed.
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed, 0);
        let threads = [2, 2, 3, 3][random.below(4)];
        let shape = Shape {
            keys: 2 + random.below(2),
            slots: threads + 1,
            // From one record on.
            words: [4, 4, 5, 8, 12, 16][random.below(6)],
            is_ample: random.percent(30),
            patience: [0, 1, 4][random.below(3)],
        };
        let before = random.below(4);
        let before = steps(random, Role::Writer, shape.keys, before);
        // In a short one the few instants that matter are met more often.
        let most = if random.percent(50) { 2 } else { 8 - threads };
        let mut thread = |_| {
            let role = [Role::Any, Role::Writer, Role::Switcher, Role::Reader][random.below(4)];
            let count = 1 + random.below(most);
            steps(random, role, shape.keys, count)
        };
        let mut threads: Vec<_> = (0..threads).map(&mut thread).collect();
        if random.percent(12) {
            let thread = random.below(threads.len());
            let last = threads[thread].last_mut().expect("one step at least");
            last.kind = Kind::Unlink;
        }
        Self {
            shape,
            before,
            threads,
            stops: [0, 40][random.below(2)],
        }
    }

    /// Whether anybody unlinks the dictionary.
    pub fn unlinks(&self) -> bool {
        let mut steps = self.threads.iter().flatten();
        steps.any(|step| step.kind == Kind::Unlink)
    }
}

fn steps(random: &mut Random, role: Role, keys: usize, count: usize) -> Vec<Step> {
    let kinds = role.kinds();
    let step = |_| {
        let key = random.below(keys);
        Step {
            kind: kinds[random.below(kinds.len())],
            key,
            other: (key + 1 + random.below(keys - 1)) % keys,
        }
    };
    (0..count).map(step).collect()
}
