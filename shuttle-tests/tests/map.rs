//! Random programs over the table of `SharedHashMap`: what `ci/shuttle.sh` runs.
#![cfg(shuttle)]

use forkmap_shuttle_tests::program::Program;
use forkmap_shuttle_tests::run::{Order, run};

#[test]
fn random_programs_in_random_order() {
    run::<Program>(Order::Random, 100);
}

#[test]
fn random_programs_by_priorities() {
    run::<Program>(Order::Priorities, 100);
}
