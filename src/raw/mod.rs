//! The algorithms, over borrowed words. No operating system and no unsafe code below this line:
//! a view cannot tell a mapping from a vector, so loom, Miri and the unit tests run what ships.
//!
//! | module | what it knows |
//! |---|---|
//! | [`counters`] | the table of `AtomicDict`: linear probing, keys claimed by one compare-exchange |
//! | [`map`] | the table of `SharedHashMap`: wide values behind one word, keys that can be removed |
//! | [`stream`] | the log of `StreamDict`, and how one generation of it follows another |
//! | [`value`] | one word as a value: the atomic operations and their ordering |
//! | [`lock`] | one word as a lock that is told when its owner is dead |
//! | [`owner`] | the word that says which thread of which participant owns something |
//! | [`bell`] | waiting for values to change |
//! | [`participants`] | who has an identity in the segment, under locks that the kernel drops |
//! | [`layout`] | what stands where behind the header |
//! | [`bytes`] | bytes that stand in words |
//! | [`header`] | the first 256 bytes of every segment: identity, and its check on attach |
//! | [`hash`] | the mixing of keys, part of the format |

pub mod bell;
pub mod bytes;
pub mod counters;
pub mod hash;
pub mod header;
pub mod layout;
pub mod lock;
pub mod map;
pub mod owner;
#[cfg_attr(
    any(not(target_os = "linux"), feature = "portable"),
    allow(dead_code, reason = "there are no byte locks to register under")
)]
pub mod participants;
pub mod stream;
pub mod value;
