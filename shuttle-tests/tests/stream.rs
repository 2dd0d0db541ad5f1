//! Random programs over the logs and the control of `StreamDict`: what `ci/shuttle.sh` runs, for half as long
//! as those over the map.
#![cfg(shuttle)]

use forkmap_shuttle_tests::run::{Order, run};
use forkmap_shuttle_tests::stream::Program;

#[test]
fn stream_programs_in_random_order() {
    run::<Program>(Order::Random, 50);
}

#[test]
fn stream_programs_by_priorities() {
    run::<Program>(Order::Priorities, 50);
}
