//! What a scenario is.

use std::path::{Path, PathBuf};

use forkmap::{AtomicDict, Options};

/// Why something that had to work did not.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Fails with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}
pub(crate) use ensure;

/// One operation under test, as it stands before anybody is forked: the value of this type holds the
/// handles that all inherit.
pub(crate) trait Scenario {
    /// What the victim does first; no points are in here.
    fn enter(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The operation, done by the victim. Also runs while the others have done their part, if the
    /// victim was stopped in it.
    fn op(&mut self) -> Result<(), Failure>;

    /// What the operation gave back, as a number: asked of who has come to the end of it.
    fn answer(&self) -> Option<u64> {
        None
    }

    /// What there is then as this one sees it, as a number.
    fn view(&self) -> Option<u64> {
        None
    }

    /// A process that was attached before: goes on working, and tells what it saw of the operation.
    fn peer(&self, scene: Scene) -> Result<Seen, Failure>;

    /// A process that comes later, and knows only the name. `scene.seen` is what the peer saw.
    fn newcomer(&self, scene: Scene) -> Result<Seen, Failure>;

    /// The last look: the victim is dead, went on to its end, or went on and was killed.
    fn finish(&self, scene: Scene) -> Result<Seen, Failure>;

    /// The operations that a rival may do while the victim is at its own, by name.
    fn rivals(&self) -> &'static [&'static str] {
        &[]
    }

    /// What the rival does first, instead of `enter`.
    fn enter_as_rival(&mut self) -> Result<(), Failure> {
        self.enter()
    }

    /// The rival's operation, which `answer` is about then.
    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        Err(format!("no rival does `{name}`").into())
    }

    /// The last look where nobody else was there but the victim and a rival: all that can be told of both operations
    /// afterwards, with what they gave back. It must be what is told when the one comes after the other; so
    /// what may be in between is not to be in it.
    fn outcome(&self, _rival: &str, _answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        Err("no rival".into())
    }
}

/// What is told of two operations.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// In words.
    Told(String),
    /// One gave up because the other one was in its way.
    Busy,
}

/// What there is by the account of a process that has come to the end of its operation.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Account {
    /// What the operation gave back.
    pub(crate) answer: Option<u64>,
    /// What there is.
    pub(crate) view: Option<u64>,
}

/// Makes a scenario in a directory that is empty and its own.
pub(crate) type Make = fn(&Path) -> Result<Box<dyn Scenario>, Failure>;

/// What happens to the victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was killed.
    Killed,
    /// It is stopped; at the last look it has gone on and ended well.
    Stopped,
    /// At the last look: it was stopped, has gone on, and was killed before its end. (Those before are told
    /// that it is stopped.)
    KilledLater,
}

/// What a check is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    /// What happened to the victim.
    pub(crate) fate: Fate,
    /// What those before this check have seen.
    pub(crate) seen: Seen,
    /// At the last look: what the operation of a victim that has gone on gave back.
    pub(crate) answer: Option<u64>,
    /// And what the victim has seen then.
    pub(crate) view: Option<u64>,
}

impl Scene {
    /// At the last look: whether the victim has gone on to its end.
    pub(crate) fn resumed(self) -> bool {
        self.fate == Fate::Stopped
    }

    /// At the last look: whether the victim has gone on and was killed. If it had not happened before, the
    /// operation may have happened since then, or not.
    pub(crate) fn killed_later(self) -> bool {
        self.fate == Fate::KilledLater
    }
}

/// What a check has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// Whether the operation has happened, if that can be told.
    pub(crate) done: Option<bool>,
    /// Whether another operation gave up because the stopped victim was in its way.
    pub(crate) busy: bool,
}

impl Seen {
    /// Nothing that tells whether the operation has happened.
    pub(crate) const NOTHING: Self = Self {
        done: None,
        busy: false,
    };

    /// Whether the operation has happened.
    pub(crate) fn done(done: bool) -> Self {
        Self {
            done: Some(done),
            busy: false,
        }
    }

    /// As a short word, for a report.
    pub(crate) fn to_word(self) -> String {
        let done = match self.done {
            None => '?',
            Some(false) => '0',
            Some(true) => '1',
        };
        format!("{done}{}", u8::from(self.busy))
    }

    /// Back from a report.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        let mut chars = word.chars();
        let done = match chars.next()? {
            '?' => None,
            digit => Some(digit == '1'),
        };
        Some(Self {
            done,
            busy: chars.next()? == '1',
        })
    }
}

/// The one name that scenarios use.
pub(crate) const NAME: &str = "map";

/// The directory of a scenario.
#[derive(Debug, Clone)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// A scenario's place is the directory that it is given.
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_path_buf())
    }

    /// Options for that directory, with a fixed seed: the same slots each time.
    pub(crate) fn options(&self) -> Options<AtomicDict> {
        let mut options = AtomicDict::options();
        options.dir(&self.0).hash_seed(0x5EED);
        options
    }

    /// Creates the segment.
    pub(crate) fn create(&self, capacity: u64) -> Result<AtomicDict, Failure> {
        Ok(self.options().capacity(capacity).create(NAME)?)
    }

    /// Opens the segment.
    pub(crate) fn open(&self) -> Result<AtomicDict, Failure> {
        Ok(self.options().open(NAME)?)
    }

    /// Opens the segment, if the name is there.
    pub(crate) fn find(&self) -> Result<Option<AtomicDict>, Failure> {
        match self.options().open(NAME) {
            Ok(dict) => Ok(Some(dict)),
            Err(forkmap::OpenError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
