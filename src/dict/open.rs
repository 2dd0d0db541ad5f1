//! How an `AtomicDict` comes to be: the verbs of its options.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use std::os::fd::OwnedFd;

use super::AtomicDict;
use crate::error::{
    CreateError, Mismatch, OpenError, OpenOrCreateError, ReplaceError, UnlinkError,
};
use crate::identity::{Identity, Kind, TypeShape};
use crate::raw::{counters, layout};
use crate::segment::{Options, Plan, Segment, SegmentOptions};

/// Number of keys that fit at least, unless the options say otherwise.
const DEFAULT_CAPACITY: u64 = 1024;

fn identity(options: &SegmentOptions) -> Identity {
    Identity {
        kind: Kind::AtomicDict,
        key: TypeShape::of::<u64>(),
        value: TypeShape::of::<u64>(),
        schema: options.schema,
    }
}

/// Length of a segment whose table has so many slots; `None` if that is more than a file or an
/// address can count.
fn segment_bytes(participants: u64, slots: u64) -> Option<u64> {
    layout::segment_bytes(participants, counters::words(slots)?)
}

impl Options<AtomicDict> {
    /// How many keys shall fit at least: 1,024 unless set.
    ///
    /// On attach, a segment with room for fewer is refused; unset, any will do.
    pub fn capacity(&mut self, keys: u64) -> &mut Self {
        self.capacity = Some(keys);
        self
    }

    /// How many bytes a segment of this capacity takes: 32 a key, 32 a participant and 1,360, in
    /// steps of 4,096.
    ///
    /// # Errors
    /// [`CreateError::TooLarge`]; [`CreateError::InvalidOption`].
    pub fn required_bytes(&self) -> Result<u64, CreateError> {
        Ok(self.plan()?.bytes)
    }

    fn plan(&self) -> Result<Plan, CreateError> {
        let capacity = self.capacity.unwrap_or(DEFAULT_CAPACITY);
        let participants = self.segment.participants()?;
        let sizes = counters::slots(capacity)
            .and_then(|slots| Some((slots, segment_bytes(participants, slots)?)));
        let (slots, bytes) = sizes.ok_or(CreateError::TooLarge { capacity })?;
        let geometry = [slots, 0, 0, 0, 0, 0, 0, 0];
        Ok(Plan {
            identity: identity(&self.segment),
            bytes,
            geometry,
            participants,
        })
    }

    /// Checks the geometry that the header gives, and takes it over once and for all.
    fn attach(&self, segment: Segment) -> Result<AtomicDict, OpenError> {
        let header = segment.header();
        let [slots, unused @ ..] = header.geometry;
        let bytes = segment_bytes(header.participants, slots);
        if slots == 0 || bytes != Some(header.bytes) || unused != [0; 7] {
            let what = "its length does not fit its number of slots";
            return Err(segment.mismatch(Mismatch::Damaged { what }));
        }
        if let Some(asked) = self.capacity.filter(|&asked| asked > slots) {
            return Err(segment.mismatch(Mismatch::TooSmall {
                found: slots,
                asked,
            }));
        }
        Ok(AtomicDict::new(segment))
    }

    /// Creates a dictionary under `name`, which must be free.
    ///
    /// Nobody ever sees it half made. All its pages are reserved, so that no later access can fail
    /// for want of memory.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create(&self, name: &str) -> Result<AtomicDict, CreateError> {
        Segment::create(name, &self.segment, &self.plan()?).map(AtomicDict::new)
    }

    /// Opens the dictionary of that name.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed.
    pub fn open(&self, name: &str) -> Result<AtomicDict, OpenError> {
        self.attach(Segment::open(name, &self.segment, identity(&self.segment))?)
    }

    /// Opens the dictionary of that name, or creates it if there is none. Any number of processes may
    /// call it at once: all get the same segment, also where there is only room for one. When there is
    /// no room, it is tried again for a second, up to three for a large one, and longer while the free
    /// room changes: another process may be about to finish the segment that takes it.
    ///
    /// # Errors
    /// [`OpenOrCreateError`].
    pub fn open_or_create(&self, name: &str) -> Result<AtomicDict, OpenOrCreateError> {
        Ok(self.attach(Segment::open_or_create(name, &self.segment, &self.plan()?)?)?)
    }

    /// Creates a dictionary under `name`, and takes the name away from the segment that has it.
    ///
    /// Who is attached to the old one keeps it; [`AtomicDict::is_current`] tells. These are two
    /// steps: for an instant in between there is nothing under the name. The new segment is complete
    /// before the old one goes, so there must be room for both.
    ///
    /// # Errors
    /// [`ReplaceError`]; the old segment stays.
    pub fn create_or_replace(&self, name: &str) -> Result<AtomicDict, ReplaceError> {
        let plan = self.plan().map_err(ReplaceError::from)?;
        Segment::replace(name, &self.segment, &plan).map(AtomicDict::new)
    }

    /// Creates a dictionary under a random name that nobody else has; [`AtomicDict::name`] tells it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create_unique(&self) -> Result<AtomicDict, CreateError> {
        Segment::create_unique(&self.segment, &self.plan()?).map(AtomicDict::new)
    }

    /// Creates a dictionary without a name: for the children that this process forks from now on, and
    /// for whom it hands the descriptor to (`as_fd`). It stands in no directory, it is gone with the
    /// last process that has it, and nobody can cut it short.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn anonymous(&self) -> Result<AtomicDict, CreateError> {
        Segment::anonymous(&self.segment, &self.plan()?).map(AtomicDict::new)
    }

    /// Opens the dictionary behind a descriptor that another process has handed over. Linux only.
    ///
    /// # Errors
    /// [`OpenError`]; the descriptor is closed then.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub fn from_fd(&self, fd: impl Into<OwnedFd>) -> Result<AtomicDict, OpenError> {
        self.attach(Segment::from_fd(
            fd.into(),
            &self.segment,
            identity(&self.segment),
        )?)
    }

    /// Takes the name away from the dictionary that has it. Who is attached keeps it; its memory is
    /// free when the last of them is gone.
    ///
    /// # Errors
    /// [`UnlinkError`].
    pub fn unlink(&self, name: &str) -> Result<(), UnlinkError> {
        Segment::unlink(name, &self.segment, Kind::AtomicDict)
    }
}

/// The verbs of [`Options`] with default options.
impl AtomicDict {
    /// How to create or open a dictionary in another way than the shortcuts below do.
    pub fn options() -> Options<Self> {
        Options::default()
    }

    /// Creates a dictionary for at least `capacity` keys under `name`, which must be free.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create(name: &str, capacity: u64) -> Result<Self, CreateError> {
        Self::options().capacity(capacity).create(name)
    }

    /// Opens the dictionary of that name.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::options().open(name)
    }

    /// Opens the dictionary of that name, or creates it with room for at least `capacity` keys.
    ///
    /// # Errors
    /// As [`Options::open_or_create`].
    pub fn open_or_create(name: &str, capacity: u64) -> Result<Self, OpenOrCreateError> {
        Self::options().capacity(capacity).open_or_create(name)
    }

    /// Creates a dictionary without a name, for forked children.
    ///
    /// # Errors
    /// As [`Options::anonymous`].
    pub fn anonymous(capacity: u64) -> Result<Self, CreateError> {
        Self::options().capacity(capacity).anonymous()
    }

    /// Takes the name away from the dictionary that has it.
    ///
    /// # Errors
    /// As [`Options::unlink`].
    pub fn unlink(name: &str) -> Result<(), UnlinkError> {
        Self::options().unlink(name)
    }
}
