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
    use super::{CreateError, Identity, OpenError, Options, Plan, Segment};

    /// What the verbs need to know of a structure.
    pub(crate) trait Structure: Sized {
        /// What must be equal on attach.
        fn identity(options: &Options<Self>) -> Identity;

        /// What a new segment is to be.
        fn plan(options: &Options<Self>) -> Result<Plan, CreateError>;

        /// Checks the geometry that the header gives, and what the options ask for.
        fn check(options: &Options<Self>, segment: &Segment) -> Result<(), OpenError>;

        /// The structure in a segment whose geometry was checked, or was planned by us.
        fn new(segment: Segment) -> Self;
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

    fn attach(&self, segment: Segment) -> Result<T, OpenError> {
        T::check(self, &segment)?;
        Ok(T::new(segment))
    }

    /// Creates a structure under `name`, which must be free.
    ///
    /// Nobody ever sees it half made. All its pages are reserved, so that no later access can fail
    /// for want of memory.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create(&self, name: &str) -> Result<T, CreateError> {
        Segment::create(name, &self.segment, &T::plan(self)?).map(T::new)
    }

    /// Opens the structure of that name.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed.
    pub fn open(&self, name: &str) -> Result<T, OpenError> {
        self.attach(Segment::open(name, &self.segment, T::identity(self))?)
    }

    /// Opens the structure of that name, or creates it if there is none. Any number of processes may
    /// call it at once: all get the same segment, also where there is only room for one. When there is
    /// no room, it is tried again for a second, up to three for a large one, and longer while the free
    /// room changes: another process may be about to finish the segment that takes it.
    ///
    /// # Errors
    /// [`OpenOrCreateError`].
    pub fn open_or_create(&self, name: &str) -> Result<T, OpenOrCreateError> {
        Ok(self.attach(Segment::open_or_create(
            name,
            &self.segment,
            &T::plan(self)?,
        )?)?)
    }

    /// Creates a structure under `name`, and takes the name away from the segment that has it.
    ///
    /// Who is attached to the old one keeps it; `is_current` tells. These are two
    /// steps: for an instant in between there is nothing under the name. The new segment is complete
    /// before the old one goes, so there must be room for both.
    ///
    /// # Errors
    /// [`ReplaceError`]; the old segment stays.
    pub fn create_or_replace(&self, name: &str) -> Result<T, ReplaceError> {
        let plan = T::plan(self).map_err(ReplaceError::from)?;
        Segment::replace(name, &self.segment, &plan).map(T::new)
    }

    /// Creates a structure under a random name that nobody else has; its `name` tells it.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create_unique(&self) -> Result<T, CreateError> {
        Segment::create_unique(&self.segment, &T::plan(self)?).map(T::new)
    }

    /// Creates a structure without a name: for the children that this process forks from now on, and
    /// for whom it hands the descriptor to (`as_fd`). It stands in no directory, it is gone with the
    /// last process that has it, and nobody can cut it short.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn anonymous(&self) -> Result<T, CreateError> {
        Segment::anonymous(&self.segment, &T::plan(self)?).map(T::new)
    }

    /// Opens the structure behind a descriptor that another process has handed over. Linux only.
    ///
    /// # Errors
    /// [`OpenError`]; the descriptor is closed then.
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub fn from_fd(&self, fd: impl Into<OwnedFd>) -> Result<T, OpenError> {
        self.attach(Segment::from_fd(
            fd.into(),
            &self.segment,
            T::identity(self),
        )?)
    }

    /// Takes the name away from the structure that has it. Who is attached keeps it; its memory is
    /// free when the last of them is gone.
    ///
    /// # Errors
    /// [`UnlinkError`].
    pub fn unlink(&self, name: &str) -> Result<(), UnlinkError> {
        Segment::unlink(name, &self.segment, T::identity(self).kind)
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
