//! `StreamDict` in one process: every operation at every edge of its arguments, beside a model, with
//! encodings that fail, and with files that were damaged.

#![cfg(not(feature = "portable"))]

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod budget;
mod changes;
mod damage;
mod encodings;
mod found;
mod hostile;
mod leftovers;
mod links;
mod model;
mod nested;
mod nested_hostile;
mod nested_model;
mod operations;
mod order;
mod panics;
mod places;
mod reentry;
mod samples;
mod threads;
mod waiting;
mod watch;
