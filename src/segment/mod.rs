//! Segments: named, anonymous or passed as descriptors; created whole, opened with suspicion.
//!
//! Knows bytes and the operating system, and nothing of what the words mean.

mod attachment;
pub(crate) mod companions;
mod list;
mod name;
mod options;
mod pinned;
mod structure;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[path = "linux/mod.rs"]
mod os;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
#[path = "portable.rs"]
mod os;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) use self::attachment::{alone, attachment};
pub use self::list::{SegmentContent, SegmentInfo, segments, segments_in};
pub(crate) use self::name::Place;
pub use self::options::Options;
pub(crate) use self::options::SegmentOptions;
use self::os::{Backing, DEFAULT_DIR};
pub(crate) use self::os::{Blank, Lease};
pub(crate) use self::pinned::{Pinned, View};
pub use self::structure::Structure;
pub(crate) use self::structure::{sealed, shortcuts};
use crate::error::{
    CreateError, Mismatch, OpenError, OpenOrCreateError, ReplaceError, UnlinkError,
};
use crate::identity::{Identity, Kind};
use crate::process;
use crate::raw::bell::{self, Bells};
use crate::raw::header::{HEADER_BYTES, Header};
use crate::raw::layout::Layout;
use crate::sync::{Access, Word};

/// How long to wait for another process that is taking the same name away.
pub(crate) const UNLINK_PATIENCE: Duration = Duration::from_secs(1);

/// An attached segment.
#[derive(Debug)]
pub(crate) struct Segment {
    backing: Backing,
    /// `None` for one without a name.
    place: Option<Place>,
    options: SegmentOptions,
    /// The process that created it and whose last handle takes the name away, if any does.
    unlinker: Option<u64>,
    /// Which of the attachments of this process and of those that it was forked from.
    number: u64,
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    memberships: os::Memberships,
}

/// A process that has an identity in a segment, as
/// [`AtomicDict::participants`](crate::AtomicDict::participants) lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Participant {
    /// Its place in the table, from 0.
    pub slot: usize,
    /// Its process id, as it sees it itself: in another pid namespace the number means another one.
    pub pid: u32,
    /// Whether it lives, by the kernel's account. What a dead one held is given to the next who asks.
    pub is_alive: bool,
}

/// What a new segment is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) identity: Identity,
    pub(crate) bytes: u64,
    pub(crate) geometry: [u64; 8],
    pub(crate) participants: u64,
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
        let seed = options.hash_seed.map_or_else(random, Ok)?;
        let instance = [random()?, random()?];
        Ok(Header::new(
            self.identity,
            self.bytes,
            self.geometry,
            self.participants,
            seed,
            instance,
        ))
    }
}

fn random() -> Result<u64, CreateError> {
    process::random().map_err(|source| CreateError::Os {
        call: "getrandom",
        place: "memory".to_owned(),
        source,
    })
}

/// Who is to take the name away again. Asked before anything is made, so that a policy that cannot be
/// kept is an error and leaves nothing.
fn unlinker(options: &SegmentOptions) -> Result<Option<u64>, CreateError> {
    options
        .unlink_on_drop
        .then(process::token)
        .transpose()
        .map_err(|source| CreateError::Os {
            call: "mmap or madvise",
            place: "memory".to_owned(),
            source,
        })
}

/// The patience of an `open_or_create` for which there is no room. A rival that is about to finish
/// may be what takes the room; and of several who each hold a part of it, one must get the rest.
struct Rivals {
    since: Instant,
    /// Since when the free room has been what it is.
    quiet: Instant,
    free: u64,
    turns: u32,
}

impl Rivals {
    /// While nobody else takes or gives back room.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// Bytes that can be reserved in a second at the very least.
    const SLOWEST: u64 = 256 << 20;
    /// The longest that a rival's reservation is waited for, however large it is said to be.
    const LONGEST: f64 = 2.0;

    fn new() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            quiet: now,
            free: 0,
            turns: 0,
        }
    }

    /// Waits a while for rivals. `false` if there seems to be none, or none that gets anywhere.
    fn wait(&mut self, free: Option<u64>, bytes: u64) -> bool {
        let now = Instant::now();
        // Not by a little: on a busy machine the free memory always changes a little.
        let free = free.unwrap_or(0);
        if free.abs_diff(self.free) > bytes / 64 {
            (self.free, self.quiet) = (free, now);
        }
        // Ten may have to take turns, and a rival's pause can be as long as one reservation.
        let reserving =
            Duration::from_secs_f64((bytes as f64 / Self::SLOWEST as f64).min(Self::LONGEST));
        if now - self.quiet > Self::PATIENCE + reserving
            || now - self.since > Self::PATIENCE + 20 * reserving
        {
            return false;
        }
        // Pauses that are random, and grow until they are as long as a rival may need: else all who
        // hold a part of the room give it back and take it again in step.
        self.turns += 1;
        let longest =
            Duration::from_millis(2 << self.turns.min(20)).min(Self::PATIENCE / 4 + reserving);
        let random = process::random().unwrap_or(u64::MAX / 2) as f64 / u64::MAX as f64;
        std::thread::sleep(longest.mul_f64(random));
        true
    }
}

impl Segment {
    fn new(
        backing: Backing,
        place: Option<Place>,
        options: &SegmentOptions,
        unlinker: Option<u64>,
    ) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        Self {
            backing,
            place,
            options: options.clone(),
            unlinker,
            // Relaxed: they are to differ, and nothing else.
            number: NUMBER.fetch_add(1, Ordering::Relaxed) as u64,
            #[cfg(all(target_os = "linux", not(feature = "portable")))]
            memberships: os::Memberships::default(),
        }
    }

    /// This segment, if it is what the caller takes it for.
    fn expect(self, wanted: Identity) -> Result<Self, OpenError> {
        let found = self.header().participants;
        let mismatch = match (self.header().expect(wanted), self.options.participants) {
            (Err(mismatch), _) => mismatch,
            (Ok(()), Some(asked)) if asked > found => Mismatch::TooFewParticipants { found, asked },
            _ => return Ok(self),
        };
        Err(self.mismatch(mismatch))
    }

    /// Creates under a free name. Before anybody else can see the segment, `prepare` may do what it likes
    /// with it.
    pub(crate) fn create<T>(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
        prepare: impl FnOnce(&Self) -> Result<T, CreateError>,
    ) -> Result<(Self, T), CreateError> {
        let place = Place::new(&options.dir, name)?;
        let (header, unlinker) = (plan.header(options)?, unlinker(options)?);
        let backing = os::build(&place, options, &header)?;
        let segment = Self::new(backing, Some(place.clone()), options, unlinker);
        let prepared = prepare(&segment)?;
        os::publish(&segment.backing, &place)?;
        Ok((segment, prepared))
    }

    /// As [`create`](Self::create), under a name that another segment may have.
    pub(crate) fn replace<T>(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
        prepare: impl FnOnce(&Self) -> Result<T, CreateError>,
    ) -> Result<(Self, T), ReplaceError> {
        let place = Place::new(&options.dir, name).map_err(CreateError::from)?;
        let (header, unlinker) = (plan.header(options)?, unlinker(options)?);
        // The new one is complete before the old one goes: if there is no room for both, the old stays.
        let backing = os::build_over(&place, options, &header)?;
        let segment = Self::new(backing, Some(place.clone()), options, unlinker);
        let prepared = prepare(&segment)?;
        os::publish_over(&segment.backing, &place, options)?;
        Ok((segment, prepared))
    }

    /// Reserves the pages of a segment that is to stand at `place` some time.
    pub(crate) fn blank(
        place: &Place,
        options: &SegmentOptions,
        bytes: u64,
    ) -> Result<Blank, CreateError> {
        os::blank(place, options, bytes)
    }

    /// Makes a segment of reserved pages, which must be as many as the plan says. It has no name yet.
    pub(crate) fn from_blank(
        blank: Blank,
        place: Place,
        options: &SegmentOptions,
        plan: &Plan,
    ) -> Result<Self, CreateError> {
        let backing = blank.finish(&plan.header(options)?)?;
        Ok(Self::new(backing, Some(place), options, None))
    }

    /// Gives a segment its name that has none yet.
    pub(crate) fn publish(&self) -> Result<(), CreateError> {
        match &self.place {
            Some(place) => os::publish(&self.backing, place),
            None => Ok(()),
        }
    }

    /// Creates under a random name.
    pub(crate) fn create_unique<T>(
        options: &SegmentOptions,
        plan: &Plan,
        prepare: impl Fn(&Self) -> Result<T, CreateError>,
    ) -> Result<(Self, T), CreateError> {
        loop {
            let name = format!("forkmap-{:016x}{:016x}", random()?, random()?);
            match Self::create(&name, options, plan, &prepare) {
                Err(CreateError::AlreadyExists { .. }) => {}
                created => return created,
            }
        }
    }

    pub(crate) fn anonymous(options: &SegmentOptions, plan: &Plan) -> Result<Self, CreateError> {
        let backing = os::anonymous(options, &plan.header(options)?)?;
        Ok(Self::new(backing, None, options, None))
    }

    pub(crate) fn open(
        name: &str,
        options: &SegmentOptions,
        wanted: Identity,
    ) -> Result<Self, OpenError> {
        Self::open_at(Place::new(&options.dir, name)?, options, wanted)
    }

    /// Opens whatever segment of `kind` has that name.
    pub(crate) fn open_of_kind(
        name: &str,
        options: &SegmentOptions,
        kind: Kind,
    ) -> Result<Self, OpenError> {
        let place = Place::new(&options.dir, name)?;
        let backing = os::open(&place, options)?;
        let segment = Self::new(backing, Some(place), options, None);
        match segment.header().kind() {
            Some(found) if found == kind => Ok(segment),
            found => Err(segment.mismatch(Mismatch::Kind {
                found,
                wanted: kind,
            })),
        }
    }

    /// Takes the name away from this segment, and tells whether it had it.
    pub(crate) fn unlink_this(&self, patience: Duration) -> Result<bool, UnlinkError> {
        match &self.place {
            Some(place) => os::unlink_own(place, &self.options, &self.backing, patience),
            None => Ok(false),
        }
    }

    pub(crate) fn open_at(
        place: Place,
        options: &SegmentOptions,
        wanted: Identity,
    ) -> Result<Self, OpenError> {
        let backing = os::open(&place, options)?;
        Self::new(backing, Some(place), options, None).expect(wanted)
    }

    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    pub(crate) fn from_fd(
        fd: OwnedFd,
        options: &SegmentOptions,
        wanted: Identity,
    ) -> Result<Self, OpenError> {
        let backing = os::from_fd(fd, options)?;
        Self::new(backing, None, options, None).expect(wanted)
    }

    /// Opens, or creates if there is nothing. Of many who call it at once, all get the same segment.
    ///
    /// Lock-free while there is room: each further turn means that another process has created or
    /// removed the segment in between.
    ///
    /// With what `prepare` made, if it was created. With that it takes so many `bytes`: rivals may hold as
    /// many.
    pub(crate) fn open_or_create<T>(
        name: &str,
        options: &SegmentOptions,
        plan: &Plan,
        bytes: u64,
        prepare: impl Fn(&Self) -> Result<T, CreateError>,
    ) -> Result<(Self, Option<T>), OpenOrCreateError> {
        let mut rivals = Rivals::new();
        loop {
            match Self::open(name, options, plan.identity) {
                Err(OpenError::NotFound { .. }) => {}
                opened => return Ok((opened?, None)),
            }
            match Self::create(name, options, plan, &prepare) {
                Err(CreateError::AlreadyExists { .. }) => {}
                Err(CreateError::NoSpace { free, .. }) if rivals.wait(free, bytes) => {}
                created => return Ok(created.map(|(segment, made)| (segment, Some(made)))?),
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
                found => Err(Mismatch::Kind {
                    found,
                    wanted: kind,
                }),
            }
        })
    }

    /// What to say of this segment if it is not what was wanted.
    pub(crate) fn mismatch(&self, mismatch: Mismatch) -> OpenError {
        let place = self.path().map_or_else(
            || "the descriptor".to_owned(),
            |path| path.display().to_string(),
        );
        OpenError::Mismatch { place, mismatch }
    }

    /// The bells alone, without a look at anything else.
    #[inline(always)]
    pub(crate) fn bells(&self) -> Bells<'_> {
        let start = HEADER_BYTES / size_of::<Word>();
        Bells::new(&self.backing.words()[start..start + bell::WORDS])
    }

    /// What stands behind the header.
    pub(crate) fn layout(&self) -> Layout<'_> {
        let words = &self.backing.words()[HEADER_BYTES / size_of::<Word>()..];
        Layout::new(words, self.header().participants, self.access())
    }

    /// This process's own copy of the header.
    pub(crate) fn header(&self) -> &Header {
        self.backing.header()
    }

    /// A number that no other attachment of this process has or had.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn access(&self) -> Access {
        if self.options.read_only {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        }
    }

    /// How a segment that belongs to this one is created and opened: as this one was, and with its mode
    /// and its group.
    pub(crate) fn companion_options(&self) -> SegmentOptions {
        SegmentOptions {
            mode: self.backing.mode() & 0o066 | 0o600,
            group: Some(self.backing.group()),
            participants: None,
            unlink_on_drop: false,
            ..self.options.clone()
        }
    }

    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
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
            .is_none_or(|place| self.backing.is_at(place).unwrap_or(false))
    }

    /// Whether it had a name and has none any more, wherever one looks from. (Not if that cannot be told.)
    pub(crate) fn has_lost_its_name(&self) -> bool {
        self.place.is_some() && self.backing.has_lost().unwrap_or(false)
    }

    /// Whether it has a name, and not where this process looks for it: another directory stands there, in
    /// the root or the mount namespace of this process perhaps, or it was moved. (Or it has none, and its
    /// descriptor, which could tell, was closed behind our back.)
    pub(crate) fn is_elsewhere(&self) -> Result<bool, OpenError> {
        let Some(place) = &self.place else {
            return Ok(false);
        };
        let failed = |call| {
            move |source| OpenError::Os {
                call,
                place: place.path().display().to_string(),
                source,
            }
        };
        match self.backing.is_at(place) {
            Ok(true) => Ok(false),
            Ok(false) => Ok(!self.backing.has_lost().map_err(failed("fstat"))?),
            Err(_) if self.has_lost_its_name() => Ok(false),
            Err(error) => Err(failed("stat")(error)),
        }
    }

    /// Detaches, and tells whether taking the name away went well, if that was to be done.
    pub(crate) fn close(mut self) -> Result<(), UnlinkError> {
        self.unlink_if_due(UNLINK_PATIENCE)
    }

    /// Whether this process was to take the name away when it detaches. It is not any more.
    pub(crate) fn take_unlinker(&mut self) -> bool {
        // Not in a forked child: the name is its creator's to take away.
        let own = process::token().ok();
        self.unlinker
            .take()
            .is_some_and(|unlinker| Some(unlinker) == own)
    }

    fn unlink_if_due(&mut self, patience: Duration) -> Result<(), UnlinkError> {
        let is_unlinker = self.take_unlinker();
        match &self.place {
            Some(place) if is_unlinker => {
                os::unlink_own(place, &self.options, &self.backing, patience).map(drop)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.leave();
        // A destructor has nobody to tell, and waits for nobody: if the lock that it needs is held,
        // another process is taking the name away from this very segment. `close` is there for those
        // who want to know.
        let _ = self.unlink_if_due(Duration::ZERO);
    }
}
