//! What can go wrong, one enum an operation. Each text ends with what to do about it, but for
//! unforeseen failures of the system, which say what failed.

use std::io;
use std::path::PathBuf;

use crate::identity::{Kind, TypeShape};

/// A name that cannot be the name of a segment.
///
/// A name is 1 to 200 of the characters `A-Z a-z 0-9 . _ -`, the first one a letter, a digit or `_`.
/// It is checked before any system call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} cannot name a segment: {problem}; take 1 to 200 of A-Z a-z 0-9 . _ -, the first one a letter, a digit or _"
)]
pub struct InvalidName {
    /// The name as it was given.
    pub name: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Why a segment could not be created. Nothing is left over of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The name is outside the alphabet or too long.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// An option makes no sense for a new segment.
    #[error("cannot create a segment with {what}; change that option")]
    InvalidOption {
        /// The option and its value.
        what: String,
    },
    /// Something has that name already.
    #[error("{} exists already; open it with open or open_or_create, or start afresh with create_or_replace", path.display())]
    AlreadyExists {
        /// Where.
        path: PathBuf,
    },
    /// More bytes than an address or a file can count.
    #[error(
        "a capacity of {capacity} is more than a segment can hold on this machine; ask for less"
    )]
    TooLarge {
        /// The capacity that was asked for.
        capacity: u64,
    },
    /// The pages cannot be reserved. They are reserved at creation so that no later access can fail.
    #[error(
        "no room for {need} bytes in {place}{}; ask for a smaller capacity, remove segments that nobody needs (forkmap::segments lists them), or put the segment elsewhere with the option dir",
        free.map_or(String::new(), |free| format!(", where {free} are free"))
    )]
    NoSpace {
        /// Bytes that the segment needs.
        need: u64,
        /// Bytes that were free when it was tried, if that is what was lacking and is known.
        free: Option<u64>,
        /// The directory, or whose memory.
        place: String,
    },
    /// The directory for the segment does not exist.
    #[error("there is no directory {dir:?}; create it, or name another one with the option dir")]
    NoDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// This process may not create files there.
    #[error("no permission to create a segment at {}; check the rights of the directory, or name another one with the option dir", path.display())]
    PermissionDenied {
        /// Where.
        path: PathBuf,
    },
    /// The file system of the directory is mounted read-only.
    #[error("{} is on a read-only file system; name another directory with the option dir", path.display())]
    ReadOnlyFilesystem {
        /// Where.
        path: PathBuf,
    },
    /// The system or the file system lacks something that creation needs.
    #[error("{what}")]
    NotSupported {
        /// What is lacking, and where.
        what: String,
    },
    /// Any other failure of a system call.
    #[error("{call} failed for {place}: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// The path, or "memory".
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a segment could not be opened. Nothing about it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is outside the alphabet or too long.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Nothing has that name.
    #[error("there is no segment at {}; create it first, or use open_or_create", path.display())]
    NotFound {
        /// Where.
        path: PathBuf,
    },
    /// This process may not open it, at least not for writing.
    #[error("no permission to open {}; ask its owner for a wider mode, or, if it is only to be read, open it with read_only(true)", path.display())]
    PermissionDenied {
        /// Where.
        path: PathBuf,
    },
    /// A symbolic link, directory, FIFO, socket or device stands there.
    #[error(
        "{place} is a {found}, not a regular file; choose another name, or remove it if you know what it is"
    )]
    NotAFile {
        /// Where.
        place: String,
        /// What stands there.
        found: &'static str,
    },
    /// It belongs to a user whose segments the options do not allow.
    #[error(
        "{place} belongs to user {owner}, and this process runs as user {ours}; if you trust that user, say allow_owner({owner})"
    )]
    ForeignOwner {
        /// Where.
        place: String,
        /// The user id of the owner.
        owner: u32,
        /// The effective user id of this process.
        ours: u32,
    },
    /// It is not what the caller takes it for.
    #[error("{place}: {mismatch}")]
    Mismatch {
        /// Where.
        place: String,
        /// What is wrong, with both sides.
        mismatch: Mismatch,
    },
    /// Its creator has not finished, and died or was stopped in between (portable backend only).
    #[error("{} was never finished: its creator died or was stopped; remove it with unlink, or replace it with create_or_replace", path.display())]
    NotReady {
        /// Where.
        path: PathBuf,
    },
    /// The system lacks something that the options ask for.
    #[error("{what}")]
    NotSupported {
        /// What is lacking.
        what: String,
    },
    /// Any other failure of a system call.
    #[error("{call} failed for {place}: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// The path, or "descriptor".
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

/// How a segment differs from what is expected of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// It does not start as a segment does.
    #[error(
        "this is not a forkmap segment, its first bytes are others; choose another one, or delete the file if you know what it is"
    )]
    NotASegment,
    /// It was made on a machine of the other byte order.
    #[error(
        "the segment was made on a machine of the other byte order; make it afresh on this one"
    )]
    ByteOrder,
    /// It has another format version.
    #[error(
        "the segment has format version {found} and this crate reads version {ours}; let all programs that share it use the same release of forkmap, or make it afresh"
    )]
    Version {
        /// The version in the segment.
        found: u64,
        /// The version that this crate reads.
        ours: u64,
    },
    /// It is shorter or longer than its header says.
    #[error(
        "the segment should have {expected} bytes and has {found}: it was cut or overwritten; make it afresh with create_or_replace"
    )]
    Length {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// Its header contradicts itself.
    #[error("the segment is damaged: {what}; make it afresh with create_or_replace")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// It holds another structure.
    #[error("the segment holds {}, not {wanted:?}; open it as what it is, or choose another name", found.map_or("a structure that this crate does not know".to_string(), |kind| format!("{kind:?}")))]
    Kind {
        /// What it holds, if this crate knows it.
        found: Option<Kind>,
        /// What was asked for.
        wanted: Kind,
    },
    /// Its keys or values have another size or alignment.
    #[error(
        "the {what} in the segment have {found}, those asked for {wanted}; open it with the types that it was created with"
    )]
    Types {
        /// "keys" or "values".
        what: &'static str,
        /// The shape in the segment.
        found: TypeShape,
        /// The shape asked for.
        wanted: TypeShape,
    },
    /// It was created with another schema id.
    #[error(
        "the segment has schema {found:#x}, this program asks for {wanted:#x}; open it with the schema that it was created with"
    )]
    Schema {
        /// The id in the segment.
        found: u64,
        /// The id asked for.
        wanted: u64,
    },
    /// It has room for fewer participants than the options ask for.
    #[error(
        "the segment has room for {found} participants, and room for {asked} was asked for; ask for less, or replace it with create_or_replace"
    )]
    TooFewParticipants {
        /// Participants that fit.
        found: u64,
        /// Participants asked for.
        asked: u64,
    },
    /// It has room for shorter keys or values than the options ask for.
    #[error(
        "the segment has room for {what} of {found} bytes, and room for {asked} was asked for; ask for less, or replace it with create_or_replace"
    )]
    TooShort {
        /// "keys" or "values".
        what: &'static str,
        /// Bytes that fit.
        found: u64,
        /// Bytes asked for.
        asked: u64,
    },
    /// It holds fewer entries than the options ask for.
    #[error(
        "the segment has room for {found} entries, and room for {asked} was asked for; ask for less, or replace it with create_or_replace"
    )]
    TooSmall {
        /// Entries that fit.
        found: u64,
        /// Entries asked for.
        asked: u64,
    },
}

/// Why `open_or_create` could do neither.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenOrCreateError {
    /// There is a segment, and it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is none, and it cannot be created.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Why a segment's name could not be taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnlinkError {
    /// Nothing has that name.
    #[error("there is no segment at {}: nothing to remove", path.display())]
    NotFound {
        /// Where.
        path: PathBuf,
    },
    /// It could not be opened to see whether it is a segment, or is none that the options allow.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another process has held the lock of those who take the name away for more than a second:
    /// it was stopped in between, or it means to hold others up (who may read the file can).
    #[error("another process holds the lock for removing {} for more than a second, perhaps because it is stopped; try again, or find it (fuser) and let it go on", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// This process may not remove files there.
    #[error("no permission to remove {}: it takes the right to write it and its directory, and in one with the sticky bit only its owner can", path.display())]
    PermissionDenied {
        /// Where.
        path: PathBuf,
    },
    /// Any other failure of a system call.
    #[error("{call} failed for {}: {source}", path.display())]
    Os {
        /// The system call.
        call: &'static str,
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why `create_or_replace` failed. The old segment, if there was one, still has its name, unless
/// another process took the name away or took it for itself meanwhile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// The new segment could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The old one could not be taken away.
    #[error(transparent)]
    Unlink(#[from] UnlinkError),
}

/// What an encoding says when it fails.
pub type CodecError = Box<dyn std::error::Error + Send + Sync>;

/// Why something could not be read from a map.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The key cannot be encoded.
    #[error("the key cannot be encoded: {source}; look into its Serialize")]
    Encode {
        /// What the encoding said.
        source: CodecError,
    },
    /// The bytes in the map are none of the type: another program takes them for something else, or they
    /// are damaged.
    #[error(
        "the bytes in the map cannot be decoded: {source}; do all programs use the same types? a schema id keeps those apart that do not"
    )]
    Decode {
        /// What the encoding said.
        source: CodecError,
    },
}

/// Why a map could not be changed. It is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// No room for one more key. Reading, replacing and removing work as before.
    ///
    /// Exact when no other process is about to insert or remove; one that is may have the last cell in
    /// hand for an instant.
    #[error(
        "the map is full, all {capacity} entries are taken; remove some, or create it with a larger capacity"
    )]
    Full {
        /// Keys that fit.
        capacity: usize,
    },
    /// The key has more bytes than a key may have.
    #[error(
        "the key has {bytes} bytes, and the map has room for {limit}; create it with a larger key_bytes"
    )]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// The value has more bytes than a value may have.
    #[error(
        "the value has {bytes} bytes, and the map has room for {limit}; create it with a larger value_bytes"
    )]
    ValueTooLong {
        /// Bytes of the value.
        bytes: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// The handle was opened with `read_only(true)`.
    #[error("the map was opened read-only; open it without read_only to change it")]
    ReadOnly,
    /// This thread could not become a writer of the map.
    #[error(transparent)]
    Writer(#[from] ParticipantError),
    /// The key or the value cannot be encoded.
    #[error("the {what} cannot be encoded: {source}; look into its Serialize")]
    Encode {
        /// "key" or "value".
        what: &'static str,
        /// What the encoding said.
        source: CodecError,
    },
    /// The bytes in the map are none of the type, as in [`ReadError::Decode`].
    #[error(
        "the bytes in the map cannot be decoded: {source}; do all programs use the same types? a schema id keeps those apart that do not"
    )]
    Decode {
        /// What the encoding said.
        source: CodecError,
    },
}

/// Why this process could not become a participant of a segment, or learn of another one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParticipantError {
    /// As many as fit have an identity in the segment: each attachment of a living process that has
    /// used what blocks. (Or some are just coming or going, and have been for 50 ms.)
    #[error(
        "the segment has room for {limit} participants, and as many live; end some, or create it with a larger option participants"
    )]
    TooMany {
        /// How many fit.
        limit: usize,
    },
    /// This process may not open the segment a second time, as it must for that: it was attached with
    /// rights that the process has given up since (`setuid`), or by a descriptor from another user.
    #[error(
        "this process may not open the segment again, which an identity in it takes; attach as the user that it runs as now, or create the segment with a wider mode"
    )]
    NotPermitted,
    /// The program has closed the segment's descriptor behind the handle's back, and no name leads to
    /// the segment, which must be opened once more: to register, or to learn whether another one lives. Or
    /// another thread of it has closed descriptors in the middle of that.
    #[error(
        "the descriptor of the segment was closed by somebody else; try again, and if no name leads to the segment, attach again and leave that descriptor open"
    )]
    DescriptorClosed,
    /// This handle is attached for reading only.
    #[error("this handle was opened with read_only(true); open one for writing")]
    ReadOnly,
    /// The segment backend of this system has no identities.
    #[error(
        "locks, semaphores, barriers and onces need Linux, and a build without the feature portable"
    )]
    NotSupported,
    /// Any other failure of a system call.
    #[error("{call} failed: {source}")]
    Os {
        /// The system call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a key could not be given a slot. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// All slots belong to other keys. Keys that are there already work as ever.
    #[error(
        "all {capacity} slots belong to other keys (a dictionary has at least as many as its capacity asked for); create it with a larger capacity"
    )]
    Full {
        /// Number of keys that fit.
        capacity: usize,
    },
    /// More keys in a row are asked for than the dictionary has, or than there are.
    #[error(
        "{count} keys from {first} on are needed, and the dictionary has room for {capacity} (and no key is above 2^64 - 1); create it with a larger capacity"
    )]
    TooManyKeys {
        /// The first of them.
        first: u64,
        /// Their number.
        count: usize,
        /// Number of keys that fit.
        capacity: usize,
    },
    /// This handle is attached for reading only.
    #[error("this handle was opened with read_only(true); open one for writing to change values")]
    ReadOnly,
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> Self {
        use CreateError::*;
        let kind = match &error {
            InvalidName(_) | InvalidOption { .. } | TooLarge { .. } => io::ErrorKind::InvalidInput,
            AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            NoSpace { .. } => io::ErrorKind::StorageFull,
            NoDirectory { .. } => io::ErrorKind::NotFound,
            PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
            ReadOnlyFilesystem { .. } => io::ErrorKind::ReadOnlyFilesystem,
            NotSupported { .. } => io::ErrorKind::Unsupported,
            Os { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        use OpenError::*;
        let kind = match &error {
            InvalidName(_) => io::ErrorKind::InvalidInput,
            NotFound { .. } => io::ErrorKind::NotFound,
            PermissionDenied { .. } | ForeignOwner { .. } => io::ErrorKind::PermissionDenied,
            NotReady { .. } => io::ErrorKind::TimedOut,
            NotSupported { .. } => io::ErrorKind::Unsupported,
            Os { source, .. } => source.kind(),
            NotAFile { .. } | Mismatch { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl From<OpenOrCreateError> for io::Error {
    fn from(error: OpenOrCreateError) -> Self {
        match error {
            OpenOrCreateError::Open(error) => error.into(),
            OpenOrCreateError::Create(error) => error.into(),
        }
    }
}

impl From<UnlinkError> for io::Error {
    fn from(error: UnlinkError) -> Self {
        let kind = match error {
            UnlinkError::Open(error) => return error.into(),
            UnlinkError::NotFound { .. } => io::ErrorKind::NotFound,
            UnlinkError::Busy { .. } => io::ErrorKind::ResourceBusy,
            UnlinkError::PermissionDenied { .. } => io::ErrorKind::PermissionDenied,
            UnlinkError::Os { ref source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

impl From<ReplaceError> for io::Error {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Create(error) => error.into(),
            ReplaceError::Unlink(error) => error.into(),
        }
    }
}

impl From<InsertError> for io::Error {
    fn from(error: InsertError) -> Self {
        let kind = match error {
            InsertError::Full { .. } => io::ErrorKind::StorageFull,
            InsertError::TooManyKeys { .. } => io::ErrorKind::InvalidInput,
            InsertError::ReadOnly => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::Encode { .. } => io::ErrorKind::InvalidInput,
            ReadError::Decode { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::Full { .. } => io::ErrorKind::StorageFull,
            WriteError::KeyTooLong { .. }
            | WriteError::ValueTooLong { .. }
            | WriteError::Encode { .. } => io::ErrorKind::InvalidInput,
            WriteError::ReadOnly => io::ErrorKind::PermissionDenied,
            WriteError::Writer(error) => return error.into(),
            WriteError::Decode { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

impl From<ParticipantError> for io::Error {
    fn from(error: ParticipantError) -> Self {
        use ParticipantError::*;
        let kind = match &error {
            TooMany { .. } => io::ErrorKind::QuotaExceeded,
            NotPermitted | ReadOnly => io::ErrorKind::PermissionDenied,
            DescriptorClosed => io::ErrorKind::NotFound,
            NotSupported => io::ErrorKind::Unsupported,
            Os { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}
