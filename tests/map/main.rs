//! `SharedHashMap` in one process: every operation, with keys and values of every kind, at every edge of
//! its arguments; and maps that were damaged.

#![cfg(not(feature = "portable"))]

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod capacity;
mod closures;
mod damage;
mod handles;
mod model;
mod operations;
mod samples;
mod threads;
mod waiting;
