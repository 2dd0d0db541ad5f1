//! Random programs over the table of `SharedHashMap`: what `ci/shuttle.sh` runs.
#![cfg(shuttle)]

use forkmap_shuttle_tests::run::{Order, run};

#[test]
fn random_programs_in_random_order() {
    run(Order::Random);
}

#[test]
fn random_programs_by_priorities() {
    run(Order::Priorities);
}
