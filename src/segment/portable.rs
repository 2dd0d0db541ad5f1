//! Segments on other systems, by way of the `shared_memory` crate: POSIX shared memory objects.
//!
//! What it cannot do, it refuses: other directories, modes and owners, read-only attach, anonymous
//! segments. What it does less well than `linux` is listed in `docs/DESIGN.md`: a half-made
//! segment has its name already, so the first word of the header is stored last, and who opens waits
//! for it for a second; pages are not reserved; taking a name away is not atomic.

#![allow(unsafe_code)]

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use shared_memory::{Shmem, ShmemConf, ShmemError};

use super::name::Place;
use super::options::SegmentOptions;
use super::{Participant, Segment, UNLINK_PATIENCE};
use crate::error::{CreateError, Mismatch, OpenError, ParticipantError, ReplaceError, UnlinkError};
use crate::identity::Kind;
use crate::raw::header::{HEADER_BYTES, Header};
use crate::raw::participants::ParticipantId;
use crate::sync::{Ordering, Word};

/// Where Linux shows shared memory objects; elsewhere there is no such place.
pub(crate) const DEFAULT_DIR: &str = "/dev/shm";

/// How long to wait for the creator of a segment that is not complete yet.
const CREATOR_PATIENCE: Duration = Duration::from_secs(1);

/// A mapped segment.
pub(crate) struct Backing {
    shared: Shmem,
    header: Header,
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backing")
            .field("os_id", &self.shared.get_os_id())
            .finish_non_exhaustive()
    }
}

// SAFETY: what `Shmem` holds is a pointer to the mapping, a descriptor and names; none of them
// belongs to a thread, and `&Backing` reads them only.
unsafe impl Send for Backing {}
// SAFETY: as above; the words themselves are atomics.
unsafe impl Sync for Backing {}

impl Backing {
    pub(crate) fn words(&self) -> &[Word] {
        &words_of(&self.shared)[..self.header.bytes as usize / size_of::<Word>()]
    }

    /// What all of them have here.
    pub(crate) fn mode(&self) -> u32 {
        0o600
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// As [`mode`](Self::mode): nobody can choose it.
    pub(crate) fn group(&self) -> u32 {
        rustix::process::getegid().as_raw()
    }

    /// Not to be told here, where nothing has companions.
    pub(crate) fn has_lost(&self) -> io::Result<bool> {
        Ok(false)
    }

    pub(crate) fn is_at(&self, place: &Place) -> io::Result<bool> {
        let is_this = |there: Self| there.header.instance == self.header.instance;
        Ok(try_open(place).is_ok_and(is_this))
    }
}

fn words_of(shared: &Shmem) -> &[Word] {
    let words = shared.len() / size_of::<Word>();
    // SAFETY: the mapping starts at a page and has `len` bytes, for as long as `shared` lives. Any
    // bytes are a valid `Word`, and all parties access them as atomics.
    unsafe { std::slice::from_raw_parts(shared.as_ptr().cast::<Word>(), words) }
}

/// The name that the system knows the object by. macOS allows 31 bytes, so a long name is hashed
/// there.
fn os_id(place: &Place) -> String {
    let name = place.name();
    if cfg!(target_os = "linux") || name.len() <= 30 {
        format!("/{name}")
    } else {
        format!(
            "/fk{:028x}",
            xxhash_rust::xxh3::xxh3_128(name.as_bytes()) >> 16
        )
    }
}

/// What the options ask for and this backend has not.
fn unsupported(place: &Place, options: &SegmentOptions) -> Option<String> {
    let default = SegmentOptions::default();
    let what = if place.dir() != Path::new(DEFAULT_DIR) {
        "another directory"
    } else if options.mode != default.mode {
        "another mode than 0o600"
    } else if !options.owners.is_empty() {
        "segments of other users"
    } else if options.read_only {
        "read-only attach"
    } else {
        return None;
    };
    Some(format!(
        "the portable backend has no {what}; leave that option at its default"
    ))
}

/// Builds a segment under a free name. Nobody can open it before [`publish`].
pub(crate) fn build(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, CreateError> {
    if let Some(what) = unsupported(place, options) {
        return Err(CreateError::NotSupported { what });
    }
    let os_error = |call, errno: u32| CreateError::Os {
        call,
        place: place.name().to_owned(),
        source: io::Error::from_raw_os_error(errno as i32),
    };
    let made = ShmemConf::new()
        .os_id(os_id(place))
        .size(header.bytes as usize)
        .create();
    let mut shared = made.map_err(|error| match error {
        ShmemError::MappingIdExists => CreateError::AlreadyExists { path: place.path() },
        ShmemError::MapCreateFailed(errno)
            if Errno::from_raw_os_error(errno as i32) == Errno::ACCESS =>
        {
            CreateError::PermissionDenied { path: place.path() }
        }
        ShmemError::MapCreateFailed(errno) => os_error("shm_open", errno),
        ShmemError::UnknownOsError(errno) => os_error("ftruncate or mmap", errno),
        other => CreateError::Os {
            call: "shm_open",
            place: place.name().to_owned(),
            source: io::Error::other(other.to_string()),
        },
    })?;
    // At once: its owner would take the name away by name, in a forked child too, whoever has it
    // by then.
    shared.set_owner(false);
    let source: &[u64; HEADER_BYTES / 8] = bytemuck::cast_ref(header);
    for (word, value) in words_of(&shared).iter().zip(source).skip(1) {
        // Relaxed: published by the next store.
        word.store(*value, Ordering::Relaxed);
    }
    Ok(Backing {
        shared,
        header: *header,
    })
}

/// Lets others open it.
pub(crate) fn publish(backing: &Backing, _: &Place) -> Result<(), CreateError> {
    // SYNC(ready): Release, pairs with the Acquire load in `try_open`: who sees the first word sees
    // the whole header, and all that was written behind it until now.
    words_of(&backing.shared)[0].store(backing.header.magic, Ordering::Release);
    Ok(())
}

/// There are no companions here.
pub(crate) fn publish_beside(
    backing: &Backing,
    place: &Place,
    _: &Backing,
    _: &Place,
) -> Result<bool, CreateError> {
    publish(backing, place).map(|()| true)
}

/// As [`publish`]: the name was taken away from others before.
pub(crate) fn publish_over(
    backing: &Backing,
    place: &Place,
    _: &SegmentOptions,
) -> Result<(), ReplaceError> {
    Ok(publish(backing, place)?)
}

/// Builds a segment, and takes the name away from whatever segment has it.
pub(crate) fn build_over(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, ReplaceError> {
    loop {
        match build(place, options, header) {
            Err(CreateError::AlreadyExists { .. }) => {}
            created => return Ok(created?),
        }
        match unlink(place, options, UNLINK_PATIENCE, |_| Ok(())) {
            Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// There are none here.
#[derive(Debug)]
pub(crate) enum Blank {}

impl Blank {
    pub(crate) fn finish(self, _: &Header) -> Result<Backing, CreateError> {
        match self {}
    }
}

pub(crate) fn blank(_: &Place, _: &SegmentOptions, _: u64) -> Result<Blank, CreateError> {
    let what = "the portable backend has no segments that get their name later".to_owned();
    Err(CreateError::NotSupported { what })
}

pub(crate) fn anonymous(_: &SegmentOptions, _: &Header) -> Result<Backing, CreateError> {
    let what = "the portable backend has no anonymous segments; use create_unique, whose handle forked children inherit just as well".to_owned();
    Err(CreateError::NotSupported { what })
}

pub(crate) fn open(place: &Place, options: &SegmentOptions) -> Result<Backing, OpenError> {
    if let Some(what) = unsupported(place, options) {
        return Err(OpenError::NotSupported { what });
    }
    let deadline = Instant::now() + CREATOR_PATIENCE;
    loop {
        match try_open(place) {
            Err(OpenError::NotReady { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened,
        }
    }
}

fn try_open(place: &Place) -> Result<Backing, OpenError> {
    let path = || place.path();
    let opened = ShmemConf::new().os_id(os_id(place)).open();
    let shared = opened.map_err(|error| {
        let errno = match error {
            ShmemError::MapOpenFailed(errno) | ShmemError::UnknownOsError(errno) => errno as i32,
            _ => 0,
        };
        match Errno::from_raw_os_error(errno) {
            Errno::NOENT => OpenError::NotFound { path: path() },
            // No length yet: `mmap` refuses to map nothing.
            Errno::INVAL => OpenError::NotReady { path: path() },
            Errno::ACCESS | Errno::PERM => OpenError::PermissionDenied { path: path() },
            _ => OpenError::Os {
                call: "shm_open",
                place: place.name().to_owned(),
                source: io::Error::other(error.to_string()),
            },
        }
    })?;
    let words = words_of(&shared);
    // SYNC(ready): Acquire, pairs with the Release store in `create`.
    let magic = words.first().map_or(0, |word| word.load(Ordering::Acquire));
    if magic == 0 {
        return Err(OpenError::NotReady { path: path() });
    }
    let mut start = [0u64; HEADER_BYTES / 8];
    for (value, word) in start.iter_mut().zip(words) {
        // Relaxed: ordered by the load above.
        *value = word.load(Ordering::Relaxed);
    }
    start[0] = magic;
    let found = shared.len() as u64;
    let start = &bytemuck::cast_slice(&start)[..HEADER_BYTES.min(shared.len())];
    // Some systems round the length up to pages.
    let header = match Header::decode(start, found) {
        Err(Mismatch::Length { expected, found }) if expected < found => {
            Header::decode(start, expected)
        }
        decoded => decoded,
    };
    let mismatch = |mismatch| OpenError::Mismatch {
        place: place.name().to_owned(),
        mismatch,
    };
    let header = header.map_err(mismatch)?;
    Ok(Backing { shared, header })
}

pub(crate) fn unlink(
    place: &Place,
    options: &SegmentOptions,
    _: Duration,
    check: impl Fn(&Header) -> Result<(), Mismatch>,
) -> Result<(), UnlinkError> {
    let mismatch = |mismatch| OpenError::Mismatch {
        place: place.name().to_owned(),
        mismatch,
    };
    match open(place, options) {
        Ok(backing) => check(&backing.header).map_err(mismatch)?,
        Err(OpenError::Mismatch { mismatch: what, .. }) if what != Mismatch::NotASegment => {}
        Err(OpenError::NotReady { .. }) => {}
        Err(OpenError::NotFound { path }) => return Err(UnlinkError::NotFound { path }),
        Err(error) => return Err(error.into()),
    }
    unlink_name(place)
}

pub(crate) fn unlink_own(
    place: &Place,
    _: &SegmentOptions,
    backing: &Backing,
    _: Duration,
) -> Result<bool, UnlinkError> {
    if backing.is_at(place).is_ok_and(|is_there| is_there) {
        unlink_name(place).map(|()| true)
    } else {
        Ok(false)
    }
}

fn unlink_name(place: &Place) -> Result<(), UnlinkError> {
    let path = place.path();
    rustix::shm::unlink(os_id(place)).map_err(|errno| match errno {
        Errno::NOENT => UnlinkError::NotFound { path },
        Errno::ACCESS | Errno::PERM => UnlinkError::PermissionDenied { path },
        _ => UnlinkError::Os {
            call: "shm_unlink",
            path,
            source: errno.into(),
        },
    })
}

/// There are no companions here.
pub(crate) fn hold(_: &Backing) -> io::Result<bool> {
    Ok(false)
}

pub(crate) fn let_go(_: &Backing) {}

pub(crate) fn is_forsaken(_: &Place, _: &SegmentOptions, _: Kind) -> bool {
    false
}

pub(crate) fn remove(_: &Place) -> bool {
    false
}

/// What nobody has here.
#[derive(Debug)]
pub(crate) enum Lease {}

impl Lease {
    pub(crate) fn slot(&self) -> usize {
        match *self {}
    }

    pub(crate) fn is_over(&self) -> bool {
        match *self {}
    }
}

/// No identities here: there are no locks on bytes that end with their holder.
impl Segment {
    pub(crate) fn participant(&self, _: u64) -> Result<ParticipantId, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(crate) fn slot(&self) -> Option<usize> {
        None
    }

    pub(crate) fn participant_after(
        &self,
        _: u64,
        _: impl Fn(usize),
    ) -> Result<ParticipantId, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(crate) fn lease(&self, _: u64, _: impl Fn(usize)) -> Result<Lease, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(crate) fn recover(&self, _: impl Fn(usize)) -> Result<usize, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(crate) fn is_alive(&self, _: ParticipantId) -> Result<bool, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(crate) fn is_this_process(&self, _: ParticipantId) -> bool {
        false
    }

    pub(crate) fn participants(&self) -> Result<Vec<Participant>, ParticipantError> {
        Err(ParticipantError::NotSupported)
    }

    pub(super) fn leave(&self) {}
}
