//! The words of a segment: the one place that names an atomic type.
//!
//! Everything that processes share is an array of 64-bit words. Under `cfg(loom)` a word is one of
//! loom's atomics (with `cfg(shuttle)` as well, of shuttle's), so that the models explore the very
//! algorithms that ship.

pub mod futex;

#[cfg(loom)]
pub mod model;

pub use self::imp::{Ordering, Word, fence};
#[cfg(loom)]
use self::model as imp;

#[cfg(not(loom))]
mod imp {
    pub use std::sync::atomic::{Ordering, fence};

    /// A 64-bit word that any number of processes read and change at once.
    #[expect(
        clippy::disallowed_types,
        reason = "this is the facade that the lint points to"
    )]
    pub type Word = atomic::Atomic<u64>;

    // Without lock-freedom the `atomic` crate could not serve two processes at all; and a word must
    // be laid over eight bytes of a mapping exactly.
    const _: () = assert!(Word::is_lock_free());
    const _: () = assert!(size_of::<Word>() == 8 && align_of::<Word>() == 8);
}

use Ordering::{Acquire, Relaxed, SeqCst};

/// What this process may do with the pages under a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mapped for reading and writing.
    ReadWrite,
    /// Mapped with `PROT_READ`: any store, even a failed compare-exchange, would be a SIGSEGV.
    ReadOnly,
}

/// Begins a look: the [`load`]s from here to [`after_read`] are sequentially consistent, in the form
/// that the pages allow.
///
/// Rust promises only *relaxed* loads to work on read-only pages (`std::sync::atomic`, "Atomic
/// accesses to read-only memory"), so there the order comes from fences: around all loads of one look,
/// and behind each of them. (Two functions and not one around a closure: a closure would become a call, with the view
/// passed through memory, which costs as much as the look.)
#[inline]
pub fn before_read(access: Access) {
    if access == Access::ReadOnly {
        // SeqCst: the loads see at least every SeqCst store that precedes this fence in the total
        // order.
        fence(SeqCst);
    }
}

/// Ends a look that [`before_read`] began.
#[inline]
pub fn after_read(access: Access) {
    if access == Access::ReadOnly {
        // SeqCst: it acquires what the writers of the loaded words released, and keeps two looks of
        // one thread in the total order.
        fence(SeqCst);
    }
}

/// Stands between a store and a load of another word, both SeqCst, that must not both be missed by
/// their counterparts: nothing, but a fence for loom, which takes SeqCst accesses for acquire and
/// release only. (Miri checks the orderings that ship.)
#[inline(always)]
pub fn store_then_load() {
    #[cfg(loom)]
    fence(SeqCst);
}

/// A load between [`before_read`] and [`after_read`].
#[inline]
pub fn load(word: &Word, access: Access) -> u64 {
    match access {
        // SeqCst: one total order over all words of the segment, so that of two processes that
        // each change one key and then look at the other's, at least one sees the other.
        Access::ReadWrite => word.load(SeqCst),
        Access::ReadOnly => {
            let loaded = word.load(Relaxed);
            // Acquire: a look that hangs on several words loads them one after the other.
            fence(Acquire);
            loaded
        }
    }
}
