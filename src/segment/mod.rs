//! Segments: named, anonymous or passed as descriptors; created whole, opened with suspicion.
//!
//! Knows bytes and the operating system, and nothing of what the words mean.

mod list;
mod name;
mod options;
mod pinned;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod memory;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[path = "linux.rs"]
mod os;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
#[path = "portable.rs"]
mod os;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use self::list::{SegmentContent, SegmentInfo, segments, segments_in};
use self::name::Place;
pub use self::options::Options;
pub(crate) use self::options::SegmentOptions;
use self::os::{Backing, DEFAULT_DIR};
pub(crate) use self::pinned::Pinned;
use crate::error::{CreateError, OpenError, OpenOrCreateError, ReplaceError, UnlinkError};
use crate::identity::{Identity, Kind};
use crate::process;
use crate::raw::header::{HEADER_BYTES, Header};
use crate::sync::{Access, Word};

/// How long `open_or_create` keeps trying while there is no room for a segment of its own: a rival
/// that is about to finish may be what takes the room.
const RIVAL_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait for another process that is taking the same name away.
pub(crate) const UNLINK_PATIENCE: Duration = Duration::from_secs(1);

/// An attached segment.
#[derive(Debug)]
pub(crate) struct Segment {
    backing: Backing,
    /// `None` for one without a name.
    place: Option<Place>,
    options: SegmentOptions,
    /// The process whose last handle takes the name away, if any does.
    unlinker: Option<u64>,
}

/// What a new segment is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) identity: Identity,
    pub(crate) bytes: u64,
    pub(crate) geometry: [u64; 8],
}

impl Plan {
    fn header(&self, options: &SegmentOptions) -> Result<Header, CreateError> {
        let unusable = |what: String| Err(CreateError::InvalidOption { what });
        if options.mode & !0o666 != 0 || options.mode & 0o600 != 0o600 {
            return unusable(format!(
                "mode {:#o} (it must be 0o600 plus any of 0o066)",
                options.mode
            ));
        }
        if options.read_only {
            return unusable("read_only(true) (nobody could ever write to it)".to_owned());
        }
        let random = || {
            process::random().map_err(|source| CreateError::Os {
                call: "getrandom",
                place: "memory".to_owned(),
                source,
            })
        };
        let seed = options.hash_seed.map_or_else(random, Ok)?;
        let instance = [random()?, random()?];
        Ok(Header::new(
            self.identity,
            self.bytes,
            self.geometry,
            seed,
            instance,
        ))
    }
}

impl Segment {
    pub(crate) fn create(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
    ) -> Result<Self, CreateError> {
        let place = Place::new(&options.dir, name)?;
        let backing = os::create(&place, options, &plan.header(options)?)?;
        Ok(Self::attached(backing, Some(place), options))
    }

    pub(crate) fn replace(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
    ) -> Result<Self, ReplaceError> {
        let place = Place::new(&options.dir, name).map_err(CreateError::from)?;
        let backing = os::replace(&place, options, &plan.header(options)?)?;
        Ok(Self::attached(backing, Some(place), options))
    }

    /// Creates under a random name.
    pub(crate) fn create_unique(
        options: &SegmentOptions,
        plan: &Plan,
    ) -> Result<Self, CreateError> {
        loop {
            let header = plan.header(options)?;
            let name = format!("forkmap-{:032x}", header.instance_id());
            let place = Place::new(&options.dir, &name)?;
            match os::create(&place, options, &header) {
                Err(CreateError::AlreadyExists { .. }) => {}
                made => return Ok(Self::attached(made?, Some(place), options)),
            }
        }
    }

    pub(crate) fn anonymous(options: &SegmentOptions, plan: &Plan) -> Result<Self, CreateError> {
        let backing = os::anonymous(options, &plan.header(options)?)?;
        Ok(Self::attached(backing, None, options))
    }

    pub(crate) fn open(
        name: &str,
        options: &SegmentOptions,
        wanted: Identity,
    ) -> Result<Self, OpenError> {
        let place = Place::new(&options.dir, name)?;
        let backing = os::open(&place, options)?;
        backing.header().expect(wanted)?;
        Ok(Self::attached(backing, Some(place), options))
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub(crate) fn from_fd(
        fd: OwnedFd,
        options: &SegmentOptions,
        wanted: Identity,
    ) -> Result<Self, OpenError> {
        let backing = os::from_fd(fd, options)?;
        backing.header().expect(wanted)?;
        Ok(Self::attached(backing, None, options))
    }

    /// Opens, or creates if there is nothing. Of many who call it at once, all get the same segment.
    ///
    /// Lock-free: each further turn means that another process has created or removed the segment
    /// in between; while there is no room, it waits for rivals for a second at most.
    pub(crate) fn open_or_create(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
    ) -> Result<Self, OpenOrCreateError> {
        let mut deadline = None;
        loop {
            match Self::open(name, options, plan.identity) {
                Err(OpenError::NotFound { .. }) => {}
                opened => return Ok(opened?),
            }
            match Self::create(name, options, plan) {
                Err(CreateError::AlreadyExists { .. }) => {}
                Err(error @ CreateError::NoSpace { .. }) => {
                    // A rival may hold the last pages for a segment that has no name yet. Random
                    // pauses, because two who each hold half of the room must not fail in step.
                    let now = Instant::now();
                    if now > *deadline.get_or_insert(now + RIVAL_PATIENCE) {
                        return Err(error.into());
                    }
                    let pause = process::random().map_or(1000, |random| random % 8192);
                    std::thread::sleep(Duration::from_micros(pause));
                }
                created => return Ok(created?),
            }
        }
    }

    /// Takes the name away from a segment of `kind`.
    pub(crate) fn unlink(
        name: &str,
        options: &SegmentOptions,
        kind: Kind,
    ) -> Result<(), UnlinkError> {
        let place = Place::new(&options.dir, name).map_err(OpenError::from)?;
        os::unlink(&place, options, UNLINK_PATIENCE, |header| {
            match header.kind() {
                Some(found) if found == kind => Ok(()),
                found => Err(OpenError::Kind {
                    found,
                    wanted: kind,
                }),
            }
        })
    }

    fn attached(backing: Backing, place: Option<Place>, options: &SegmentOptions) -> Self {
        let unlinker = (options.unlink_on_drop && place.is_some())
            .then(process::token)
            .flatten();
        Self {
            backing,
            place,
            options: options.clone(),
            unlinker,
        }
    }

    /// The words behind the header.
    pub(crate) fn body(&self) -> &[Word] {
        &self.backing.words()[HEADER_BYTES / size_of::<Word>()..]
    }

    /// This process's own copy of the header.
    pub(crate) fn header(&self) -> &Header {
        self.backing.header()
    }

    pub(crate) fn access(&self) -> Access {
        if self.options.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.place.as_ref().map(Place::name)
    }

    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.place.as_ref().map(Place::path)
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.backing.as_fd()
    }

    pub(crate) fn is_current(&self) -> bool {
        self.place
            .as_ref()
            .is_none_or(|place| self.backing.is_current(place))
    }

    /// Detaches, and tells whether taking the name away went well, if that was to be done.
    pub(crate) fn close(mut self) -> Result<(), UnlinkError> {
        self.unlink_if_due(UNLINK_PATIENCE)
    }

    fn unlink_if_due(&mut self, patience: Duration) -> Result<(), UnlinkError> {
        match (self.unlinker.take(), &self.place) {
            // Not in a forked child: the name is its creator's to take away.
            (Some(unlinker), Some(place)) if process::token() == Some(unlinker) => {
                os::unlink_own(place, &self.options, &self.backing, patience)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // A destructor has nobody to tell, and waits for nobody: if the lock that it needs is held,
        // another process is taking the name away from this very segment. `close` is there for those
        // who want to know.
        let _ = self.unlink_if_due(Duration::ZERO);
    }
}
