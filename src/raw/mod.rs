//! The algorithms, over borrowed words. No operating system and no unsafe code below this line:
//! a view cannot tell a mapping from a vector, so loom, Miri and the unit tests run what ships.
//!
//! | module | what it knows |
//! |---|---|
//! | [`counters`] | the table of `AtomicDict`: linear probing, keys claimed by one compare-exchange |
//! | [`value`] | one word as a value: the atomic operations and their ordering |
//! | [`header`] | the first 256 bytes of every segment: identity, and its check on attach |
//! | [`hash`] | the mixing of keys, part of the format |

pub mod counters;
pub mod hash;
pub mod header;
pub mod value;
