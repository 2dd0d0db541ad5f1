//! Recoverers of dead writers of a map that are killed as well; and two dead at once.
#![cfg(loom)]

use forkmap_loom_tests::map::Step::{Get, Insert, Recover, Remove, Replace};
use forkmap_loom_tests::map::{
    Key, Scene, Step, actor, explore_deaths, explore_recoverers, mortal,
};

/// Keys of one home and of one tag.
const A: Key = 0;
const B: Key = 1;

const WAKE: &[Step] = &[Get(A), Recover(0)];
const SECOND_WAKE: &[Step] = &[Get(A), Recover(1)];
const HEIR: &[Step] = &[Recover(0), Get(A), Replace(A, 8)];

const NOTHING: &[(usize, Step)] = &[];
const A_IS_THERE: &[(usize, Step)] = &[(1, Insert(A, 1))];

#[test]
fn a_writer_dies_alone_and_is_recovered_twice() {
    let scene = |before, life| Scene::new(before, [mortal(0, life, HEIR)]).sized(3, 2);
    let scenes = [
        scene(NOTHING, &[Insert(A, 2)]),
        scene(A_IS_THERE, &[Insert(A, 2)]),
        scene(A_IS_THERE, &[Replace(A, 2), Replace(A, 3)]),
        scene(A_IS_THERE, &[Remove(A), Insert(B, 2), Insert(A, 3)]),
    ];
    explore_recoverers(
        "every operation, recovered twice, alone",
        None,
        300,
        &scenes,
    );
}

#[test]
fn a_recoverer_dies_while_another_writes() {
    let scene =
        |before, life, other| Scene::new(before, [mortal(0, life, WAKE), other]).sized(3, 2);
    let scenes = [
        scene(NOTHING, &[Insert(A, 2)], actor(1, &[Insert(B, 3)])),
        scene(NOTHING, &[Insert(A, 2)], actor(1, &[Remove(A)])),
        scene(A_IS_THERE, &[Replace(A, 2)], actor(1, &[Remove(A)])),
        scene(A_IS_THERE, &[Replace(A, 2)], actor(1, &[Replace(A, 3)])),
        scene(A_IS_THERE, &[Remove(A)], actor(1, &[Replace(A, 3)])),
        scene(A_IS_THERE, &[Remove(A)], actor(1, &[Insert(A, 3)])),
    ];
    explore_recoverers("recovered twice", Some(1), 20_000, &scenes);
}

#[test]
fn two_writers_die() {
    let scene = |before, life, second| {
        let actors = [mortal(0, life, WAKE), mortal(1, second, SECOND_WAKE)];
        Scene::new(before, actors).sized(3, 2)
    };
    let scenes = [
        scene(NOTHING, &[Insert(A, 2)], &[Remove(A)]),
        scene(A_IS_THERE, &[Replace(A, 2)], &[Remove(A)]),
        scene(A_IS_THERE, &[Replace(A, 2)], &[Replace(A, 3)]),
        scene(A_IS_THERE, &[Remove(A)], &[Remove(A)]),
    ];
    explore_deaths("two dead", Some(1), 15_000, &scenes);
}
