//! What can go wrong with a `StreamDict` that is attached.

use std::path::PathBuf;

use crate::error::{CodecError, CreateError, OpenError, ParticipantError, UnlinkError};
use crate::raw::stream::log::Damaged;
use crate::stream::generation::{BuildError, NameError};

/// Why an operation of a [`StreamDict`](crate::StreamDict) failed. It has changed nothing then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A key or a value has no stored form.
    #[error("the {what} cannot be encoded: {source}")]
    Encode {
        /// Which of them.
        what: &'static str,
        /// What the encoding said.
        source: CodecError,
    },
    /// What is stored stands for nothing that this program knows.
    #[error("the {what} cannot be decoded: {source}; has somebody else another type?")]
    Decode {
        /// Key or value.
        what: &'static str,
        /// What the encoding said.
        source: CodecError,
    },
    /// The stored form of a key, of a value or of a whole change is longer than its length can tell.
    #[error("the {what} has {bytes} bytes, and {limit} is the most; divide it")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// This handle was opened with `read_only(true)`.
    #[error("this handle was opened with read_only(true); open one for writing")]
    ReadOnly,
    /// With this change the dictionary would be larger than it may be. Smaller changes may still fit, and
    /// removals make room.
    #[error(
        "{need} bytes would be in use, and the budget is {budget}; remove something, or create the dictionary with a larger option budget"
    )]
    OverBudget {
        /// Bytes of all segments of the dictionary while the next generation follows this one.
        need: u64,
        /// Bytes that they may have.
        budget: u64,
    },
    /// The next generation could not be created, for want of room perhaps. Smaller changes may still fit.
    #[error("the next generation could not be created: {0}")]
    Create(#[source] CreateError),
    /// The dictionary was unlinked, and has come to where it would go on by name.
    #[error("the dictionary was unlinked; create it anew")]
    Unlinked,
    /// The file of the current generation is gone, although nobody has unlinked the dictionary.
    #[error(
        "the file of the current generation is gone: somebody has removed it; unlink the dictionary and create it anew"
    )]
    Lost,
    /// The dictionary has its name, and not where this process looks for it: another directory or file
    /// stands there now, perhaps only for this process (`chroot`, a mount namespace), or it was moved.
    /// Nobody else is concerned; and this handle works again when the dictionary stands there again.
    #[error(
        "the dictionary does not stand at {} any more, as this process sees it: its directory or its file was moved, or another one is mounted over it; open it again where it stands now, or let it be seen here again", path.display()
    )]
    Elsewhere {
        /// Where it stood.
        path: PathBuf,
    },
    /// The map that this handle leads to was removed from the one that it was in, or replaced.
    #[error(
        "the nested map was removed or replaced; ask the one that it was in for what is there now"
    )]
    Gone,
    /// The key holds a map, and not a value.
    #[error("the key holds a map and not a value; use nested, get_node or set_node")]
    IsMap,
    /// The key holds a value, and not a map.
    #[error("the key holds a value and not a map; use get, or remove it before")]
    IsValue,
    /// A map was to be nested too far below the root.
    #[error("maps can be nested {limit} levels deep, and no deeper")]
    TooDeep {
        /// How many levels below the root one may be.
        limit: usize,
    },
    /// A generation could not be opened.
    #[error("the current generation could not be opened: {0}")]
    Open(#[source] OpenError),
    /// What stands in the log is not what any version of this crate writes.
    #[error("the log is damaged; unlink the dictionary and create it anew")]
    Damaged,
    /// This thread holds a view of the dictionary, or is in a transaction on it.
    #[error(
        "this thread holds a view of the dictionary or is in a transaction on it; use that, or end it before"
    )]
    Reentrant,
    /// The closure has forked, and this is the child: the change is its parent's to make.
    #[error("the closure has forked, and this is the child; its parent makes the change")]
    Forked,
    /// The name could not be taken away when the last handle was closed.
    #[error("the dictionary could not be unlinked: {0}")]
    Unlink(#[source] UnlinkError),
    /// This process could not get an identity in the segment, which it takes to build a generation.
    #[error(transparent)]
    Participant(#[from] ParticipantError),
}

impl From<Damaged> for StreamError {
    fn from(Damaged: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<NameError> for StreamError {
    fn from(error: NameError) -> Self {
        match error {
            NameError::Open(error) => Self::Open(error),
            NameError::Create(error) => Self::Create(error),
            NameError::Elsewhere(path) => Self::Elsewhere { path },
        }
    }
}

impl From<BuildError> for StreamError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Create(error) => Self::Create(error),
            BuildError::Encode(source) => Self::Encode {
                what: "value",
                source,
            },
        }
    }
}
