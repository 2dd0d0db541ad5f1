//! Scenes: scripts that a few threads play on one tiny map, and what must be true of each performance.
//!
//! A performance is right if
//! - nobody has seen a torn value, or one of another key;
//! - there is an order of all operations, the same for all who took part, in which each had the outcome
//!   that it had, and which keeps every "this ended before that began" that a process can know of. An
//!   operation during which its process was killed stands in it too, or nowhere: but if it does, then
//!   before everything that began after the death;
//! - in the end [`Table::check`] finds nothing.

mod explore;
mod history;
mod play;
mod stage;

use forkmap::model::Access;
use forkmap::model::map::{CellShape, Geometry};

pub use self::explore::{explore_deaths, explore_recoverers, explore_scene};

/// A key. The first four have one home, the last line of the map, and one tag; the next four the same
/// with the first line. The others are spread.
pub type Key = u8;
/// What is stored under it.
pub type Value = u8;

/// One operation of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Looks a key up.
    Get(Key),
    /// Inserts a key if it is not there.
    Insert(Key, Value),
    /// Gives a key another value if it is there.
    Replace(Key, Value),
    /// Removes a key if it is there.
    Remove(Key),
    /// Looks a key up and gives it another value, unless it has changed since; and tries that once more,
    /// where it was found the first time.
    Insist(Key, Value),
    /// Looks at every key.
    Visit,
    /// Tells that what comes before has happened.
    Tell,
    /// Goes on only if that was told.
    IfTold,
    /// Recovers this writer, which is dead.
    Recover(usize),
}
use Step::{Get, IfTold, Insert, Insist, Recover, Remove, Replace, Tell, Visit};

/// One thread of a scene.
#[derive(Debug, Clone, Copy)]
pub struct Actor {
    /// Its number as a writer.
    pub writer: usize,
    /// What it may do to the words in its look-ups.
    pub looks: Access,
    /// What it does until it dies, if it does.
    pub life: &'static [Step],
    /// What somebody else does after its death, or after its life.
    pub afterwards: &'static [Step],
}

/// One who lives.
pub const fn actor(writer: usize, life: &'static [Step]) -> Actor {
    Actor {
        writer,
        looks: Access::ReadWrite,
        life,
        afterwards: &[],
    }
}

/// One who only looks.
pub const fn reader(looks: Access, life: &'static [Step]) -> Actor {
    Actor {
        writer: usize::MAX,
        looks,
        life,
        afterwards: &[],
    }
}

/// One who is killed, sooner or later.
pub const fn mortal(writer: usize, life: &'static [Step], afterwards: &'static [Step]) -> Actor {
    Actor {
        writer,
        looks: Access::ReadWrite,
        life,
        afterwards,
    }
}

/// A map, and what happens to it.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Keys that fit.
    pub capacity: usize,
    /// Writers that fit.
    pub writers: usize,
    /// What has been done before the threads start, and by which writer.
    pub before: &'static [(usize, Step)],
    /// The threads.
    pub actors: Vec<Actor>,
    /// Whether an insert may find the map full.
    pub may_be_full: bool,
    /// How many keys there are in the end, if that is known.
    pub keys_at_end: Option<usize>,
}

impl Scene {
    /// A map for two keys and two writers.
    pub fn new<const N: usize>(before: &'static [(usize, Step)], actors: [Actor; N]) -> Self {
        Self {
            capacity: 2,
            writers: 2,
            before,
            actors: actors.to_vec(),
            may_be_full: false,
            keys_at_end: None,
        }
    }

    /// The same in another map.
    pub fn sized(self, capacity: usize, writers: usize) -> Self {
        Self {
            capacity,
            writers,
            ..self
        }
    }

    /// The same where there may be no room.
    pub fn tight(self) -> Self {
        Self {
            may_be_full: true,
            ..self
        }
    }

    /// The same with so many keys in the end.
    pub fn ends_with(self, keys: usize) -> Self {
        Self {
            keys_at_end: Some(keys),
            ..self
        }
    }

    /// The same with the threads in the opposite order: loom starts with the first.
    fn reversed(mut self) -> Self {
        self.actors.reverse();
        self
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            capacity: self.capacity,
            writers: self.writers,
            shape: CellShape {
                one_word_keys: true,
                key_bytes: 8,
                varying_values: false,
                value_bytes: 16,
            },
        }
    }

    /// How many are killed: the writers from 0 on.
    fn mortals(&self) -> usize {
        let mortals = self
            .actors
            .iter()
            .filter(|actor| !actor.afterwards.is_empty());
        mortals.count()
    }

    /// The keys that the scene is about.
    fn keys(&self) -> Vec<Key> {
        let lives = self.actors.iter().map(|actor| actor.life);
        let mut keys: Vec<_> = lives.flatten().filter_map(|step| step.key()).collect();
        keys.extend(self.before.iter().filter_map(|(_, step)| step.key()));
        keys.retain(|&key| key < FIRST_SPREAD);
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// The first of the keys that a scene is not about, but filled up with.
pub const FIRST_SPREAD: Key = 8;

impl Step {
    fn key(self) -> Option<Key> {
        match self {
            Get(key) | Insert(key, _) | Replace(key, _) | Remove(key) | Insist(key, _) => Some(key),
            Visit | Tell | IfTold | Recover(_) => None,
        }
    }
}
