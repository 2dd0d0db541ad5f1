//! The words of a segment: the one place that names an atomic type.
//!
//! Everything that processes share is an array of 64-bit words. Under `cfg(loom)` a word is loom's
//! atomic, so that the models explore the very algorithms that ship.

pub use self::imp::{Ordering, Word, fence};

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

#[cfg(loom)]
mod imp {
    pub use loom::sync::atomic::{AtomicU64 as Word, Ordering, fence};
}

use Ordering::{Relaxed, SeqCst};

/// What this process may do with the pages under a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Mapped for reading and writing.
    ReadWrite,
    /// Mapped with `PROT_READ`: any store, even a failed compare-exchange, would be a SIGSEGV.
    ReadOnly,
}

/// A sequentially consistent load, in the form that the pages under `word` allow.
///
/// Rust promises only *relaxed* loads to work on read-only pages (`std::sync::atomic`, "Atomic
/// accesses to read-only memory"). So a read-only view gets the same order from fences.
#[inline]
pub fn load(word: &Word, access: Access) -> u64 {
    match access {
        // SeqCst: one total order over all words of the segment, so that of two processes that
        // each change one key and then look at the other's, at least one sees the other.
        Access::ReadWrite => word.load(SeqCst),
        Access::ReadOnly => {
            // SeqCst fence before: this load sees at least every SeqCst store that precedes the
            // fence in the total order. SeqCst fence after: it acquires what the word's writer
            // released, and keeps two loads of one thread in the total order.
            fence(SeqCst);
            let value = word.load(Relaxed);
            fence(SeqCst);
            value
        }
    }
}
