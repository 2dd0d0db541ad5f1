//! Segments that come to be, and that are opened.

use std::path::Path;

use forkmap::{AtomicDict, CreateError, OpenError, ReplaceError, UnlinkError};

use crate::bench::scenario::{Failure, NAME, Outcome, Place, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// Capacities by which to tell whose segment it is. The victim's is enough for nobody else, and that
/// of the others for the victim: who asks for more than there is gets an error.
const VICTIM: u64 = 1000;
const OTHERS: u64 = 1500;
/// What the others ask for of a segment that may be the victim's.
const ENOUGH: u64 = 1200;

/// The answer of one who has given up because another one was in its way.
pub(super) const BUSY: u64 = 99;

/// What rivals do about a name.
pub(super) const RIVALS: &[&str] = &[
    "create",
    "open_or_create",
    "create_or_replace",
    "open",
    "unlink",
];

/// One of those, as a number: how that went. A segment that it makes is for so many keys.
pub(super) fn compete(place: &Place, name: &str, capacity: u64) -> Result<u64, Failure> {
    let mut options = place.options();
    options.capacity(capacity);
    Ok(match name {
        "create" => match options.create(NAME) {
            Ok(_) => 1,
            Err(CreateError::AlreadyExists { .. }) => 0,
            Err(error) => return Err(error.into()),
        },
        "open_or_create" => options.open_or_create(NAME)?.capacity() as u64,
        "create_or_replace" => match options.create_or_replace(NAME) {
            Ok(_) => 1,
            Err(ReplaceError::Unlink(UnlinkError::Busy { .. })) => BUSY,
            Err(error) => return Err(error.into()),
        },
        "open" => place.find()?.map_or(0, |dict| dict.capacity() as u64),
        "unlink" => unlinked(options.unlink(NAME))?,
        other => return Err(format!("no rival does `{other}`").into()),
    })
}

/// Whether a name was taken away.
pub(super) fn unlinked(done: Result<(), UnlinkError>) -> Result<u64, Failure> {
    match done {
        Ok(()) => Ok(1),
        Err(UnlinkError::NotFound { .. }) => Ok(0),
        Err(UnlinkError::Busy { .. }) => Ok(BUSY),
        Err(error) => Err(error.into()),
    }
}

/// What is under the name after two operations, and, where the two steps of a replacement are nobody's business, what
/// they gave back.
pub(super) fn outcome(
    place: &Place,
    answers: [Option<u64>; 2],
    replaces: bool,
) -> Result<Outcome, Failure> {
    ensure!(answers != [Some(BUSY); 2], "both have given up");
    let found = place.find()?.map(|dict| {
        let pairs: Vec<_> = dict.iter().collect();
        (dict.capacity(), pairs)
    });
    let is_busy = answers.contains(&Some(BUSY));
    let answers = if replaces { [None; 2] } else { answers };
    // And all can still have the name, and take it away.
    let options = place.options();
    options.create_or_replace(NAME)?.fetch_add(1, 1)?;
    options.unlink(NAME)?;
    Ok(match is_busy {
        true => Outcome::Busy,
        false => Outcome::Told(format!("{answers:?} {found:?}")),
    })
}

/// Slots of a segment of that capacity.
fn slots(capacity: u64) -> usize {
    2 * capacity as usize
}

/// Adds to a key, which must have `before`.
fn add(dict: &AtomicDict, before: u64, n: u64) -> Result<(), Failure> {
    let found = dict.fetch_add(1, n)?;
    ensure!(found == before, "the value is {found}, not {before}");
    Ok(())
}

/// A segment that the victim makes.
struct Creation {
    place: Place,
    op: fn(&Place) -> Result<u64, Failure>,
    answer: Option<u64>,
}

/// Creation under a name that must be free.
pub(crate) fn create(dir: &Path) -> Made {
    // The others may be faster.
    creation(dir, |place| compete(place, "create", VICTIM))
}

/// Creation unless it is there.
pub(crate) fn open_or_create(dir: &Path) -> Made {
    creation(dir, |place| compete(place, "open_or_create", VICTIM))
}

fn creation(dir: &Path, op: fn(&Place) -> Result<u64, Failure>) -> Made {
    let place = Place::new(dir);
    let answer = None;
    Ok(Box::new(Creation { place, op, answer }))
}

impl Creation {
    /// Whether a segment is the victim's. If not, it must be that of the others.
    fn is_victims(dict: &AtomicDict) -> Result<bool, Failure> {
        let found = dict.capacity();
        let victims = found == slots(VICTIM);
        ensure!(
            victims || found == slots(OTHERS),
            "a segment of {found} slots"
        );
        Ok(victims)
    }
}

impl Scenario for Creation {
    fn op(&mut self) -> Result<(), Failure> {
        self.answer = Some((self.op)(&self.place)?);
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let mut options = self.place.options();
        let (dict, done) = match self.place.find()? {
            Some(dict) => {
                ensure!(Self::is_victims(&dict)?, "a segment that nobody has made");
                ensure!(dict.is_empty(), "a new segment is not empty");
                (options.capacity(ENOUGH).open_or_create(NAME)?, true)
            }
            None => (options.capacity(OTHERS).open_or_create(NAME)?, false),
        };
        ensure!(Self::is_victims(&dict)? == done, "the name changed hands");
        add(&dict, 0, 10)?;
        Ok(Seen::done(done))
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        let dict = self.place.open()?;
        add(&dict, 10, 1000)?;
        let taken = self.place.options().create(NAME);
        ensure!(
            matches!(taken, Err(CreateError::AlreadyExists { .. })),
            "a name was given twice: {taken:?}"
        );
        Ok(Seen::done(Self::is_victims(&dict)?))
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        let dict = self.place.open()?;
        add(&dict, 1010, 1)?;
        // Resumed, it found the name taken, or had given it before.
        let victims = Self::is_victims(&dict)?;
        ensure!(Some(victims) == scene.seen.done, "the name changed hands");
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(compete(&self.place, name, ENOUGH)?);
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        outcome(&self.place, answers, rival == "create_or_replace")
    }
}

/// A segment that the victim opens.
struct Opening {
    place: Place,
    dict: AtomicDict,
    answer: Option<u64>,
}

/// Opening a segment, which leaves no trace.
pub(crate) fn open(dir: &Path) -> Made {
    let place = Place::new(dir);
    let dict = place.create(VICTIM)?;
    let answer = None;
    Ok(Box::new(Opening {
        place,
        dict,
        answer,
    }))
}

impl Scenario for Opening {
    fn op(&mut self) -> Result<(), Failure> {
        // An option that concerns creators only.
        self.answer = match self.place.options().unlink_on_drop(true).open(NAME) {
            Ok(dict) => Some(dict.capacity() as u64),
            Err(OpenError::NotFound { .. }) => Some(0),
            Err(error) => return Err(error.into()),
        };
        Ok(())
    }

    fn answer(&self) -> Option<u64> {
        self.answer
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        add(&self.dict, 0, 10)?;
        Ok(Seen::NOTHING)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        add(&self.place.open()?, 10, 1000)?;
        Ok(Seen::NOTHING)
    }

    fn finish(&self, scene: Scene) -> Result<Seen, Failure> {
        add(&self.dict, 1010, 1)?;
        ensure!(self.dict.is_current(), "the name is gone");
        let slots = scene.answer.unwrap_or(self.dict.capacity() as u64);
        ensure!(slots == self.dict.capacity() as u64, "{slots} slots");
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        RIVALS
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        self.answer = Some(compete(&self.place, name, VICTIM - 100)?);
        Ok(())
    }

    fn outcome(&self, rival: &str, answers: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        outcome(&self.place, answers, rival == "create_or_replace")
    }
}
