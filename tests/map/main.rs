//! `SharedHashMap` in one process: every operation, with keys and values of every kind, at every edge of
//! its arguments; and maps that were damaged.

#![cfg(not(feature = "portable"))]

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod capacity;
mod damage;
mod model;
mod operations;
mod samples;
mod waiting;
