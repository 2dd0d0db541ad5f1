//! `StreamDict` in words: the log of one generation, and how one generation follows another.
//!
//! | module | what it knows |
//! |---|---|
//! | [`log`] | a chain of records that grows at its end by one compare-exchange, until it is sealed |
//! | [`control`] | which generation is current, and what each participant is building |
//! | [`switch`] | from a sealed generation to the next: election, following, cleaning up |

pub mod control;
pub mod log;
pub mod switch;
