//! Segments that come to be, and that are opened.

use std::path::Path;

use forkmap::{AtomicDict, CreateError};

use crate::bench::scenario::{Failure, NAME, Place, Scenario, Scene, Seen, ensure};

type Made = Result<Box<dyn Scenario>, Failure>;

/// Capacities by which to tell whose segment it is. The victim's is enough for nobody else, and that
/// of the others for the victim: who asks for more than there is gets an error.
const VICTIM: u64 = 1000;
const OTHERS: u64 = 1500;
/// What the others ask for of a segment that may be the victim's.
const ENOUGH: u64 = 1200;

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
    op: fn(&Place) -> Result<(), Failure>,
}

/// Creation under a name that must be free.
pub(crate) fn create(dir: &Path) -> Made {
    let op = |place: &Place| match place.options().capacity(VICTIM).create(NAME) {
        // The others were faster.
        Ok(_) | Err(CreateError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    };
    let place = Place::new(dir);
    Ok(Box::new(Creation { place, op }))
}

/// Creation unless it is there.
pub(crate) fn open_or_create(dir: &Path) -> Made {
    let op = |place: &Place| {
        place.options().capacity(VICTIM).open_or_create(NAME)?;
        Ok(())
    };
    let place = Place::new(dir);
    Ok(Box::new(Creation { place, op }))
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
        (self.op)(&self.place)
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
}

/// A segment that the victim opens.
struct Opening {
    place: Place,
    dict: AtomicDict,
}

/// Opening a segment, which leaves no trace.
pub(crate) fn open(dir: &Path) -> Made {
    let place = Place::new(dir);
    let dict = place.create(VICTIM)?;
    Ok(Box::new(Opening { place, dict }))
}

impl Scenario for Opening {
    fn op(&mut self) -> Result<(), Failure> {
        // An option that concerns creators only.
        let dict = self.place.options().unlink_on_drop(true).open(NAME)?;
        ensure!(
            dict.instance_id() == self.dict.instance_id(),
            "another segment"
        );
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        add(&self.dict, 0, 10)?;
        Ok(Seen::NOTHING)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        add(&self.place.open()?, 10, 1000)?;
        Ok(Seen::NOTHING)
    }

    fn finish(&self, _: Scene) -> Result<Seen, Failure> {
        add(&self.dict, 1010, 1)?;
        ensure!(self.dict.is_current(), "the name is gone");
        Ok(Seen::NOTHING)
    }
}
