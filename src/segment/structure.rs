//! The verbs of the options: how a structure of any kind comes to be.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use std::os::fd::OwnedFd;

use super::{Options, Plan, Segment};
use crate::error::{CreateError, OpenError, OpenOrCreateError, ReplaceError, UnlinkError};
use crate::identity::Identity;

/// What a segment can hold: [`AtomicDict`](crate::AtomicDict) and
/// [`SharedHashMap`](crate::SharedHashMap). Not to be implemented elsewhere.
#[expect(
    private_bounds,
    reason = "that is what keeps others from implementing it"
)]
pub trait Structure: sealed::Structure {}

impl<T: sealed::Structure> Structure for T {}

pub(crate) mod sealed {
    use super::{CreateError, Identity, OpenError, Options, Plan, Segment, UnlinkError};

    /// What the verbs need to know of a structure.
    pub(crate) trait Structure: Sized {
        /// What belongs to a new segment without being in it.
        type Company;

        /// What must be equal on attach.
        fn identity(options: &Options<Self>) -> Identity;

        /// What a new segment is to be.
        fn plan(options: &Options<Self>) -> Result<Plan, CreateError>;

        /// Bytes of a new one, with all that belongs to it.
        fn whole(plan: &Plan) -> u64 {
            plan.bytes
        }

        /// Makes that, and whatever else is to be done before anybody can see the segment.
        fn begin(options: &Options<Self>, segment: &Segment) -> Result<Self::Company, CreateError>;

        /// The structure in a segment that was just created.
        fn new(segment: Segment, company: Self::Company) -> Self;

        /// The structure in a segment that has the right identity, if the geometry that its header gives
        /// is possible, and what the options ask for.
        fn attach(options: &Options<Self>, segment: Segment) -> Result<Self, OpenError>;

        /// Takes the name away from one.
        fn unlink(options: &Options<Self>, name: &str) -> Result<(), UnlinkError> {
            Segment::unlink(name, &options.segment, Self::identity(options).kind)
        }
    }
}

impl<T: Structure> Options<T> {
    /// How many keys shall fit: at least so many in an [`AtomicDict`](crate::AtomicDict), exactly so many
    /// in a [`SharedHashMap`](crate::SharedHashMap). 1,024 unless set.
    ///
    /// On attach, a segment with room for fewer is refused; unset, any will do.
    pub fn capacity(&mut self, keys: u64) -> &mut Self {
        self.capacity = Some(keys);
        self
    }

    /// How many bytes a segment with these options takes.
    ///
    /// For an [`AtomicDict`](crate::AtomicDict) 32 a key, 32 a participant and 1,360, in steps of 4,096.
    /// For a [`SharedHashMap`](crate::SharedHashMap) about 20 a key and what the key and the value take,
    /// in whole words; the same for each participant, and 96 more.
    ///
    /// # Errors
    /// [`CreateError::TooLarge`]; [`CreateError::InvalidOption`].
    pub fn required_bytes(&self) -> Result<u64, CreateError> {
        Ok(T::plan(self)?.bytes)
    }

    /// Creates a structure under `name`, which must be free.
    ///
    /// Nobody ever sees it half made. All its pages are reserved, so that no later access can fail
    /// for want of memory.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create(&self, name: &str) -> Result<T, CreateError> {
        let begin = |segment: &Segment| T::begin(self, segment);
        let (segment, company) = Segment::create(name, &self.segment, &T::plan(self)?, begin)?;
        Ok(T::new(segment, company))
    }

    /// Opens the structure of that name.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed.
    pub fn open(&self, name: &str) -> Result<T, OpenError> {
        T::attach(self, Segment::open(name, &self.segment, T::identity(self))?)
    }

    /// Opens the structure of that name, or creates it if there is none. Any number of processes may
    /// call it at once: all get the same segment, also where there is only room for one. When there is
    /// no room, it is tried again for a second, up to three for a large one, and longer while the free
    /// room changes: another process may be about to finish the segment that takes it.
    ///
    /// # Errors
    /// [`OpenOrCreateError`].
    pub fn open_or_create(&self, name: &str) -> Result<T, OpenOrCreateError> {
        let plan = T::plan(self)?;
        let begin = |segment: &Segment| T::begin(self, segment);
        loop {
            let bytes = T::whole(&plan);
            let segment = Segment::open_or_create(name, &self.segment, &plan, bytes, begin)?;
            match segment {
                (segment, Some(company)) => return Ok(T::new(segment, company)),
                (segment, None) => match T::attach(self, segment) {
                    // Unlinked between the two.
                    Err(OpenError::NotFound { .. }) => {}
                    attached => return Ok(attached?),
                },
            }
        }
    }

    /// Creates a structure under `name`, and takes the name away from the segment that has it.
    ///
    /// Who is attached to the old one keeps it; `is_current` tells. These are two
    /// steps: for an instant in between there is nothing under the name. The new segment is complete
    /// before the old one goes, so there must be room for both.
    ///
    /// # Errors
    /// [`ReplaceError`]; the old segment stays. (Unless the system refuses the new one its name when the old
    /// one has just lost it: then there is nothing under the name.)
    pub fn create_or_replace(&self, name: &str) -> Result<T, ReplaceError> {
        let plan = T::plan(self).map_err(ReplaceError::from)?;
        let begin = |segment: &Segment| T::begin(self, segment);
        let (segment, company) = Segment::replace(name, &self.segment, &plan, begin)?;
        Ok(T::new(segment, company))
    }

    /// Creates a structure under a random name that nobody else has; its `name` tells it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create_unique(&self) -> Result<T, CreateError> {
        let begin = |segment: &Segment| T::begin(self, segment);
        let (segment, company) = Segment::create_unique(&self.segment, &T::plan(self)?, begin)?;
        Ok(T::new(segment, company))
    }

    /// Creates a structure without a name: for the children that this process forks from now on, and
    /// for whom it hands the descriptor to (`as_fd`). It stands in no directory, it is gone with the
    /// last process that has it, and nobody can cut it short.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn anonymous(&self) -> Result<T, CreateError> {
        let segment = Segment::anonymous(&self.segment, &T::plan(self)?)?;
        let company = T::begin(self, &segment)?;
        Ok(T::new(segment, company))
    }

    /// Opens the structure behind a descriptor that another process has handed over. Linux only.
    ///
    /// # Errors
    /// [`OpenError`]; the descriptor is closed then.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub fn from_fd(&self, fd: impl Into<OwnedFd>) -> Result<T, OpenError> {
        T::attach(
            self,
            Segment::from_fd(fd.into(), &self.segment, T::identity(self))?,
        )
    }

    /// Takes the name away from the structure that has it. Who is attached keeps it; its memory is
    /// free when the last of them is gone.
    ///
    /// # Errors
    /// [`UnlinkError`].
    pub fn unlink(&self, name: &str) -> Result<(), UnlinkError> {
        T::unlink(self, name)
    }
}

/// The verbs of [`Options`] with default options, for a structure that goes by the name `$thing` and fits
/// `$fits` so many keys.
macro_rules! shortcuts {
    (impl [$($generics:tt)*] $structure:ty, $thing:literal, $fits:literal) => {
        /// The verbs of [`Options`](crate::Options) with default options.
        impl<$($generics)*> $structure {
            #[doc = concat!("Creates a ", $thing, " for ", $fits, "`capacity` keys under `name`, which must be free.")]
            ///
            /// # Errors
            /// As [`Options::create`](crate::Options::create).
            pub fn create(name: &str, capacity: u64) -> Result<Self, crate::CreateError> {
                Self::options().capacity(capacity).create(name)
            }

            #[doc = concat!("Opens the ", $thing, " of that name.")]
            ///
            /// # Errors
            /// As [`Options::open`](crate::Options::open).
            pub fn open(name: &str) -> Result<Self, crate::OpenError> {
                Self::options().open(name)
            }

            #[doc = concat!("Opens the ", $thing, " of that name, or creates it with room for ", $fits, "`capacity` keys.")]
            ///
            /// # Errors
            /// As [`Options::open_or_create`](crate::Options::open_or_create).
            pub fn open_or_create(
                name: &str,
                capacity: u64,
            ) -> Result<Self, crate::OpenOrCreateError> {
                Self::options().capacity(capacity).open_or_create(name)
            }

            #[doc = concat!("Creates a ", $thing, " for ", $fits, "`capacity` keys without a name, for forked children.")]
            ///
            /// # Errors
            /// As [`Options::anonymous`](crate::Options::anonymous).
            pub fn anonymous(capacity: u64) -> Result<Self, crate::CreateError> {
                Self::options().capacity(capacity).anonymous()
            }

            #[doc = concat!("Takes the name away from the ", $thing, " that has it.")]
            ///
            /// # Errors
            /// As [`Options::unlink`](crate::Options::unlink).
            pub fn unlink(name: &str) -> Result<(), crate::UnlinkError> {
                Self::options().unlink(name)
            }
        }
    };
}
pub(crate) use shortcuts;
