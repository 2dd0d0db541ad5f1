// Of two definitions of a link, the first one counts: here the page of the documentation, and in the
// file itself the file.
#![doc = "[design]: crate::design\n[forking]: crate::forking\n[format]: crate::format\n[reliability]: crate::reliability\n\n"]
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    loom,
    allow(
        dead_code,
        missing_docs,
        clippy::len_without_is_empty,
        reason = "a build for the models reaches `raw` by way of `model`, and nothing else"
    )
)]

#[cfg(not(target_endian = "little"))]
compile_error!("forkmap's segments are little-endian; this target is not supported");
#[cfg(not(unix))]
compile_error!("forkmap is for Unix: Linux, and others by way of the portable backend");
#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!("forkmap needs 64-bit addresses and 64-bit atomics");

// Layers, from the bottom: each module imports only from those above it in this list.
#[allow(unreachable_pub, reason = "the models reach them under cfg(loom)")]
mod sync;

mod identity;

mod error;

#[allow(unreachable_pub, reason = "the models reach them under cfg(loom)")]
mod raw;

#[cfg(not(loom))]
mod per_process;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod segment;

#[cfg(not(loom))]
mod dict;

#[cfg(not(loom))]
mod stored;

#[cfg(not(loom))]
mod map;

#[cfg(not(loom))]
mod stream;

#[cfg(not(loom))]
mod primitives;

pub use error::{
    CodecError, CreateError, InsertError, InvalidName, Mismatch, OpenError, OpenOrCreateError,
    ParticipantError, ReadError, ReplaceError, UnlinkError, WriteError,
};
pub use identity::{Kind, TypeShape};

#[cfg(not(loom))]
pub use dict::{AtomicDict, Entry, Iter, Keys};
#[cfg(not(loom))]
pub use map::{SharedHashMap, Stats, WaitError, entry, iter};
#[cfg(not(loom))]
pub use primitives::{
    AcquireError, Barrier, BarrierError, BarrierWaitResult, Lock, LockError, LockGuard, Once,
    OnceError, Party, Permit, Semaphore,
};
#[cfg(not(loom))]
pub use segment::{
    Options, Participant, SegmentContent, SegmentInfo, Structure, segments, segments_in,
};
#[cfg(all(not(loom), feature = "serde"))]
pub use stored::Serde;
#[cfg(not(loom))]
pub use stored::Stored;
#[cfg(not(loom))]
pub use stream::{
    KeyChange, Node, Position, Status, StreamDict, StreamEntry, StreamError, StreamParticipant,
    Transaction, Tree, TreeIntoIter, TreeIter, ValueChange, View, ViewIter, ViewNode, Watch,
    WatchEvent,
};

#[cfg(any(doc, doctest))]
#[doc = "[format]: crate::format\n\n"]
#[doc = include_str!("../docs/DESIGN.md")]
pub mod design {}
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/FORKING.md")]
pub mod forking {}
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/FORMAT.md")]
pub mod format {}
#[cfg(any(doc, doctest))]
#[doc = "[design]: crate::design\n\n"]
#[doc = include_str!("../docs/RELIABILITY.md")]
pub mod reliability {}

/// The algorithms over words on the heap, for the models in `loom-tests`. Not there in a normal
/// build.
#[cfg(loom)]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod model {
    pub use crate::raw::{
        bell, bytes, counters, hash, lock, map, owner, participants, stream, value,
    };
    pub use crate::sync::model::death;
    pub use crate::sync::{Access, Word, futex};
}
