//! How a segment is created or opened.

use std::marker::PhantomData;
use std::path::PathBuf;

use crate::error::CreateError;
use crate::raw::participants::MOST;

/// How to create or open a segment with a `T` in it, in the manner of [`std::fs::OpenOptions`]:
/// set what differs from the default, then call one of the verbs.
///
/// ```
/// use forkmap::AtomicDict;
///
/// let mut options = AtomicDict::options();
/// let dict = options.capacity(10_000).schema(7).anonymous()?;
/// # Ok::<(), forkmap::CreateError>(())
/// ```
///
/// | option | default |
/// |---|---|
/// | [`dir`](Self::dir) | the shared memory directory of the system, `/dev/shm` |
/// | [`mode`](Self::mode) | `0o600`: only the user who creates it |
/// | [`allow_owner`](Self::allow_owner) | nobody: only segments of the own user are opened |
/// | [`read_only`](Self::read_only) | `false` |
/// | [`unlink_on_drop`](Self::unlink_on_drop) | `false`: the segment stays |
/// | [`schema`](Self::schema) | 0 |
/// | [`hash_seed`](Self::hash_seed) | random for each segment |
/// | [`participants`](Self::participants) | 256; 128 for a [`SharedHashMap`](crate::SharedHashMap) |
/// | [`capacity`](Self::capacity) | 1,024 entries |
/// | `log_bytes`, of a [`StreamDict`](crate::StreamDict) | 65,536 |
/// | `budget`, of a [`StreamDict`](crate::StreamDict) | no limit |
/// | `key_bytes`, of a map with keys that vary in length | 256 |
/// | `value_bytes`, of a map with values that vary in length | 1,024 |
#[derive(Debug, Clone)]
pub struct Options<T> {
    pub(crate) segment: SegmentOptions,
    /// `None`: the default at creation, and anything on attach. So are those below.
    pub(crate) capacity: Option<u64>,
    pub(crate) key_bytes: Option<u64>,
    pub(crate) value_bytes: Option<u64>,
    pub(crate) log_bytes: Option<u64>,
    pub(crate) budget: Option<u64>,
    structure: PhantomData<fn() -> T>,
}

/// The options that concern a segment whatever is in it.
#[derive(Debug, Clone)]
pub(crate) struct SegmentOptions {
    pub(crate) dir: PathBuf,
    pub(crate) mode: u32,
    /// The group that a new file is given to, where this process may; `None`: as the system has it.
    #[cfg_attr(
        any(not(target_os = "linux"), feature = "portable"),
        expect(dead_code, reason = "the portable backend gives nothing away")
    )]
    pub(crate) group: Option<u32>,
    pub(crate) owners: Vec<u32>,
    pub(crate) read_only: bool,
    pub(crate) unlink_on_drop: bool,
    pub(crate) schema: u64,
    pub(crate) hash_seed: Option<u64>,
    /// `None`: the default at creation, and anything on attach.
    pub(crate) participants: Option<u64>,
}

/// How many participants fit unless the options say otherwise.
const DEFAULT_PARTICIPANTS: u64 = 256;

impl SegmentOptions {
    /// How many participants a new segment has room for.
    pub(crate) fn participants(&self) -> Result<u64, CreateError> {
        self.participants_or(DEFAULT_PARTICIPANTS)
    }

    /// The same, with another default.
    pub(crate) fn participants_or(&self, default: u64) -> Result<u64, CreateError> {
        let asked = self.participants.unwrap_or(default);
        if !(1..=MOST).contains(&asked) {
            let what = format!("participants({asked}) (it must be 1 to {MOST})");
            return Err(CreateError::InvalidOption { what });
        }
        // Two of them fill a cache line.
        Ok(asked.next_multiple_of(2))
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::from(super::DEFAULT_DIR),
            mode: 0o600,
            group: None,
            owners: Vec::new(),
            read_only: false,
            unlink_on_drop: false,
            schema: 0,
            hash_seed: None,
            participants: None,
        }
    }
}

impl<T> Default for Options<T> {
    fn default() -> Self {
        Self {
            segment: SegmentOptions::default(),
            capacity: None,
            key_bytes: None,
            value_bytes: None,
            log_bytes: None,
            budget: None,
            structure: PhantomData,
        }
    }
}

impl<T> Options<T> {
    /// The directory that holds the segment: a file of the segment's name stands there. (It has no
    /// meaning for the verbs that take no name.)
    ///
    /// Take a directory on a disk for a segment that survives a reboot, or one on a tmpfs of your
    /// own for more room, or for other rights, than `/dev/shm` gives. It must exist.
    ///
    /// A [`StreamDict`](crate::StreamDict) on a disk survives no power cut: it is not written out in any
    /// order. Whatever it seems to hold then, unlink it and create it anew.
    pub fn dir(&mut self, dir: impl Into<PathBuf>) -> &mut Self {
        self.segment.dir = dir.into();
        self
    }

    /// The permission bits of a new segment: `0o600` plus any of `0o066`. The umask does not narrow them.
    ///
    /// The files that belong to a [`StreamDict`](crate::StreamDict) get the same bits, whoever makes them, and
    /// its group, if that one may give it to them: as root, or as one of the group. If not, they have the group
    /// of that one's own, and the bits of the group are for that. (In a directory with the setgid bit they have
    /// the group of the directory.)
    ///
    /// Another user who is let in by these bits must also say
    /// [`allow_owner`](Self::allow_owner), because a segment can lie to those who open it.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.segment.mode = mode;
        self
    }

    /// Also open segments that belong to the user `uid`. Call it once for each user to be trusted.
    ///
    /// By default only segments of this process's effective user are opened: in a directory where
    /// all may write, anybody can put a file at a name before its rightful owner does.
    pub fn allow_owner(&mut self, uid: u32) -> &mut Self {
        self.segment.owners.push(uid);
        self
    }

    /// Attach for reading only. Needs no write permission, never stores into the segment, and every
    /// operation that would change something is an error. A new segment cannot be read-only.
    pub fn read_only(&mut self, yes: bool) -> &mut Self {
        self.segment.read_only = yes;
        self
    }

    /// Whether the segment loses its name again when its *creator* drops the last handle that shares
    /// this attachment.
    ///
    /// Bound to the process and the handle that create the segment: those who open it, and handles
    /// that forked children inherit, never take the name away, whatever this option says. Nor does
    /// the creator's, if the name leads to another segment by then. Processes that have the segment
    /// open keep it; its memory is free when the last of them is gone. A process that is killed runs
    /// no destructor: then the name stays.
    pub fn unlink_on_drop(&mut self, yes: bool) -> &mut Self {
        self.segment.unlink_on_drop = yes;
        self
    }

    /// A number of your own that says what keys and values mean. Written at creation; an attach that
    /// asks for another one is refused. Change it whenever the meaning changes.
    pub fn schema(&mut self, id: u64) -> &mut Self {
        self.segment.schema = id;
        self
    }

    /// The seed of the hash of a new segment, instead of a random one. On attach the segment's own
    /// is used. A seed that outsiders know lets them choose keys that collide.
    pub fn hash_seed(&mut self, seed: u64) -> &mut Self {
        self.segment.hash_seed = Some(seed);
        self
    }

    /// How many may have an identity in the segment at once: at least so many, up to 4,094, 32 bytes
    /// each. The kernel keeps their locks in a list, so with thousands of them taking
    /// part for the first time, and asking whether an owner lives, take a tenth of a millisecond.
    ///
    /// Who must have one is who leaves something behind by dying:
    ///
    /// - with an [`AtomicDict`](crate::AtomicDict), a process that holds a [`Lock`](crate::Lock), a permit of
    ///   a [`Semaphore`](crate::Semaphore), a seat at a [`Barrier`](crate::Barrier) or the turn of a
    ///   [`Once`](crate::Once). Operations on values need none. 256 unless set.
    /// - with a [`SharedHashMap`](crate::SharedHashMap), each *thread* that changes the map. Each takes room
    ///   for a key and a value more. 128 unless set.
    /// - with a [`StreamDict`](crate::StreamDict), a process that has it open for writing: it takes a place as
    ///   soon as it opens it, so that [`status`](crate::StreamDict::status) lists it, and needs it to begin a
    ///   generation. 256 unless set. One that opens it with `read_only(true)` takes none.
    ///
    ///   When all places are taken, opening still goes well, and reading, and changing until the log is full;
    ///   then a change is [`ParticipantError::TooMany`](crate::ParticipantError::TooMany), unless somebody else
    ///   begins the next generation. So let those who only read open it read-only.
    ///
    /// It gets one by itself (for each attachment that it uses so), and its place is free again when it ends,
    /// however it ends.
    ///
    /// On attach, a segment with room for fewer is refused; unset, any will do.
    pub fn participants(&mut self, count: u64) -> &mut Self {
        self.segment.participants = Some(count);
        self
    }
}
