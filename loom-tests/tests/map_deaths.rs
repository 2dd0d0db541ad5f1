//! Writers of a map that are killed before each of their writes, and recovered while others go on.
//!
//! What was killed has happened before its death or never: so says whoever looks after it.
#![cfg(loom)]

use forkmap_loom_tests::BOTH;
use forkmap_loom_tests::map::Step::{Get, Insert, Insist, Recover, Remove, Replace};
use forkmap_loom_tests::map::{Actor, Key, Scene, Step, actor, explore_deaths, mortal, reader};

/// Keys of one home and of one tag.
const A: Key = 0;
const B: Key = 1;
const C: Key = 2;

/// After the death of writer 0 somebody else looks, and recovers it.
const WAKE: &[Step] = &[Get(A), Recover(0)];
/// And the next one of that number goes on.
const HEIR: &[Step] = &[Get(A), Recover(0), Get(A), Replace(A, 8), Insert(B, 9)];

const NOTHING: &[(usize, Step)] = &[];
const A_IS_THERE: &[(usize, Step)] = &[(1, Insert(A, 1))];
/// In the second line, where there is one bucket a line.
const A_IS_FAR: &[(usize, Step)] = &[(1, Insert(B, 1)), (1, Insert(A, 1))];

type Before = &'static [(usize, Step)];
type Steps = &'static [Step];

fn against(name: &str, at_least: usize, before: Before, life: Steps, others: &[Actor]) {
    let scene = |&other| Scene::new(before, [mortal(0, life, WAKE), other]).sized(3, 2);
    let scenes: Vec<_> = others.iter().map(scene).collect();
    explore_deaths(name, Some(2), at_least, &scenes);
}

#[test]
fn a_writer_dies_alone() {
    let scene = |before, life| Scene::new(before, [mortal(0, life, HEIR)]).sized(4, 2);
    let scenes = [
        scene(NOTHING, &[Insert(A, 2)]),
        scene(A_IS_THERE, &[Insert(A, 2)]),
        scene(A_IS_THERE, &[Replace(A, 2), Replace(A, 3)]),
        scene(A_IS_THERE, &[Remove(A), Insert(C, 2), Insert(A, 3)]),
        scene(A_IS_FAR, &[Remove(A)]),
    ];
    explore_deaths("death in every operation", None, 100, &scenes);
}

#[test]
fn a_writer_dies_inserting() {
    against(
        "death in insert",
        30_000,
        NOTHING,
        &[Insert(A, 2)],
        &[
            actor(1, &[Insert(A, 3)]),
            actor(1, &[Insert(B, 3)]),
            actor(1, &[Replace(A, 3), Replace(A, 4)]),
            actor(1, &[Remove(A), Insert(B, 3)]),
        ],
    );
}

#[test]
fn a_writer_dies_inserting_a_key_that_is_there() {
    against(
        "death in insert in vain",
        9_000,
        A_IS_THERE,
        &[Insert(A, 2)],
        &[actor(1, &[Remove(A), Insert(A, 3)])],
    );
}

#[test]
fn a_writer_dies_replacing() {
    against(
        "death in replace",
        60_000,
        A_IS_THERE,
        &[Replace(A, 2)],
        &[
            actor(1, &[Remove(A)]),
            actor(1, &[Replace(A, 3), Replace(A, 4)]),
            actor(1, &[Remove(A), Insert(A, 3)]),
        ],
    );
}

#[test]
fn a_writer_dies_removing() {
    against(
        "death in remove",
        20_000,
        A_IS_THERE,
        &[Remove(A)],
        &[
            actor(1, &[Insert(A, 3)]),
            actor(1, &[Remove(A)]),
            actor(1, &[Replace(A, 3), Replace(A, 4)]),
        ],
    );
    against(
        "death in remove from afar",
        4_000,
        A_IS_FAR,
        &[Remove(A)],
        &[actor(1, &[Insert(C, 3)]), actor(1, &[Remove(B)])],
    );
}

/// The other one tries a second time to replace what is gone, with its cell filled anew: that the first
/// filling is not in the cell any more does not mean that it was published.
#[test]
fn a_writer_dies_removing_what_another_insists_on() {
    let scene = Scene::new(
        A_IS_THERE,
        [mortal(0, &[Remove(A)], WAKE), actor(1, &[Insist(A, 3)])],
    );
    explore_deaths(
        "death in remove, another one insists",
        Some(3),
        10_000,
        &[scene.sized(3, 2)],
    );
}

#[test]
fn a_writer_dies_under_a_reader() {
    for looks in BOTH {
        let get = [reader(looks, &[Get(A), Get(A)])];
        against(
            "death in insert under a reader",
            800,
            NOTHING,
            &[Insert(A, 2)],
            &get,
        );
        against(
            "death in replace under a reader",
            300,
            A_IS_THERE,
            &[Replace(A, 2)],
            &get,
        );
        against(
            "death in remove under a reader",
            100,
            A_IS_THERE,
            &[Remove(A)],
            &get,
        );
    }
}

/// The reader takes the home for one that names A's bucket, where B stands by now and does not count.
#[test]
fn a_writer_dies_inserting_where_another_key_was() {
    let scene = Scene::new(
        NOTHING,
        [
            mortal(0, &[Insert(A, 1), Remove(A), Insert(B, 2)], WAKE),
            reader(BOTH[0], &[Get(B), Get(B)]),
        ],
    );
    explore_deaths("death where another key was", Some(3), 25_000, &[scene]);
}

/// Both give the cell back, and both take it again: the late one of two clears its bit a second time.
#[test]
fn a_writer_dies_removing_and_its_cell_is_taken() {
    let scene = Scene::new(
        A_IS_THERE,
        [
            mortal(0, &[Remove(A)], &[Recover(0), Insert(B, 2)]),
            actor(1, &[Remove(A), Insert(C, 3)]),
        ],
    );
    explore_deaths(
        "death in remove, the cell is taken",
        Some(2),
        40_000,
        &[scene.sized(3, 2)],
    );
}
