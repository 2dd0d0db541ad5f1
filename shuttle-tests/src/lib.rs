//! Random programs over the table of `SharedHashMap`, under shuttle's random schedules: see
//! `README.md`, and `ci/shuttle.sh`, which runs them.
//!
//! Without `--cfg loom --cfg shuttle` only the judge of histories is built.

pub mod history;

#[cfg(shuttle)]
pub mod program;
#[cfg(shuttle)]
pub mod run;
#[cfg(shuttle)]
pub mod world;
