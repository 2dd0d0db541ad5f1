//! Hostile memory: functions that make a structure of some bytes, damage it, and use it.
//!
//! The bytes decide everything: what is made, which words are damaged and how, and which operations run. Any value
//! may come out, and any typed error; a panic, a crash, a loop without end or an allocation of absurd size is a bug.
//! `cargo test` runs these functions with random bytes, and so does `fuzz/` with a fuzzer.

#![allow(dead_code, unreachable_pub, reason = "each user takes its part")]

mod damage;
pub mod dict;
mod input;
pub mod map;
mod memory;
mod records;
pub mod stream;
mod vandal;

use std::time::Duration;

/// What came of one run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// Whether it was refused when it was opened.
    pub refused: bool,
    pub operations: u32,
    /// Operations that gave an error.
    pub errors: u32,
}

impl Outcome {
    const REFUSED: Self = Self {
        refused: true,
        operations: 0,
        errors: 0,
    };

    fn count<T, E>(&mut self, result: Result<T, E>) {
        self.operations += 1;
        self.errors += u32::from(result.is_err());
    }
}

/// What blocks waits so long at most: it looks, and gives up.
const MOMENT: Duration = Duration::from_micros(1);

/// Operations of a run at most.
const OPERATIONS: usize = 40;
