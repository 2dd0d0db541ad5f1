//! The edge `pool`: a cell belongs to one at every instant, and who needs one finds one.
#![cfg(loom)]

use forkmap_loom_tests::map::Step::{Insert, Remove};
use forkmap_loom_tests::map::{FIRST_SPREAD, Key, Scene, Step, actor, explore_scene};

const A: Key = 0;
const B: Key = 1;
const C: Key = 2;
const E: Key = 4;

/// Keys for all cells of one word of the hint but one.
const MOST: [(usize, Step); 63] = {
    let mut steps = [(0, Insert(FIRST_SPREAD, 1)); 63];
    let mut n = 1;
    while n < 63 {
        steps[n] = (0, Insert(FIRST_SPREAD + n as Key, 1));
        n += 1;
    }
    steps
};

/// Keys for all of them.
const ALL: [(usize, Step); 64] = {
    let mut steps = [(0, Insert(A, 1)); 64];
    let mut n = 0;
    while n < 63 {
        steps[n + 1] = MOST[n];
        n += 1;
    }
    steps[63] = (0, Insert(E, 1));
    steps
};

#[test]
fn the_last_cell_goes_to_one() {
    let scene = Scene::new(&[], [actor(0, &[Insert(A, 1)]), actor(1, &[Insert(B, 2)])]);
    let scene = scene.sized(1, 2).tight().ends_with(1);
    explore_scene("the last cell, two inserters", Some(4), 80, &scene);
}

#[test]
fn a_cell_that_comes_back_is_found() {
    let scene = Scene::new(
        &[(0, Insert(A, 1))],
        [
            actor(0, &[Remove(A)]),
            actor(1, &[Insert(B, 3), Insert(B, 4)]),
        ],
    );
    explore_scene(
        "a cell that comes back",
        Some(4),
        100,
        &scene.sized(1, 2).tight(),
    );
    let scene = Scene::new(
        &[(0, Insert(A, 1))],
        [
            actor(0, &[Remove(A), Insert(B, 2)]),
            actor(1, &[Insert(C, 3)]),
        ],
    );
    explore_scene(
        "a cell that comes back, beside a free one",
        Some(3),
        1_500,
        &scene.sized(2, 2).tight(),
    );
    let scene = Scene::new(
        &[(0, Insert(A, 1)), (0, Insert(B, 1))],
        [
            actor(0, &[Remove(A)]),
            actor(1, &[Remove(B)]),
            actor(2, &[Insert(C, 3)]),
        ],
    );
    explore_scene(
        "two cells that come back",
        Some(2),
        4_000,
        &scene.sized(2, 3).tight(),
    );
}

/// One has the cell and gives it back between the other's look at its owner and at its bit.
#[test]
fn a_cell_lost_to_another_stays_visible() {
    let scene = Scene::new(
        &[(0, Insert(A, 1))],
        [actor(0, &[Insert(B, 2)]), actor(1, &[Insert(A, 3)])],
    );
    let scene = scene.sized(3, 2).ends_with(2);
    explore_scene("a cell lost to another", Some(3), 100, &scene);
}

#[test]
fn a_closed_word_of_the_hint_is_opened() {
    let scene = Scene::new(
        &ALL,
        [actor(0, &[Remove(A), Remove(E)]), actor(1, &[Insert(B, 3)])],
    );
    explore_scene(
        "a word of the hint closed and opened",
        Some(3),
        50,
        &scene.sized(64, 2).tight(),
    );
    let scene = Scene::new(
        &MOST,
        [actor(0, &[Insert(A, 1)]), actor(1, &[Insert(B, 3)])],
    );
    explore_scene(
        "a word of the hint closed by two",
        Some(3),
        50,
        &scene.sized(64, 2).tight().ends_with(64),
    );
}
