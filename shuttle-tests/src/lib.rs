//! Random programs over the table of `SharedHashMap` and the logs of `StreamDict`, under shuttle's random
//! schedules: see `README.md`, and `ci/shuttle.sh`, which runs them.
//!
//! Without `--cfg loom --cfg shuttle` only the judges of histories are built.

pub mod history;
pub mod search;
pub mod stream;

#[cfg(shuttle)]
pub mod play;
#[cfg(shuttle)]
pub mod program;
#[cfg(shuttle)]
pub mod random;
#[cfg(shuttle)]
pub mod run;
#[cfg(shuttle)]
pub mod world;
