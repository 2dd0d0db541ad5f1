//! The edges `publish`, `refill`, `tag` and `commit`: what look-ups see while others change the map, and
//! that a key is there once. Nobody is killed here.
#![cfg(loom)]

use forkmap_loom_tests::BOTH;
use forkmap_loom_tests::map::Step::{Get, IfTold, Insert, Remove, Replace, Tell, Visit};
use forkmap_loom_tests::map::{Key, Scene, Step, actor, explore_scene, reader};

/// Keys of one home, the last line, and of one tag.
const A: Key = 0;
const B: Key = 1;
const C: Key = 2;
const D: Key = 3;
/// One of another home, the first line, where the others overflow to.
const E: Key = 4;

const A_IS_THERE: &[(usize, Step)] = &[(0, Insert(A, 1))];

#[test]
fn a_value_replaced_twice_is_never_torn() {
    for looks in BOTH {
        let replacer = actor(0, &[Replace(A, 2), Replace(A, 3)]);
        let scene = Scene::new(A_IS_THERE, [replacer, reader(looks, &[Get(A)])]);
        explore_scene("replace twice, get", Some(4), 2_500, &scene);
        let scene = Scene::new(A_IS_THERE, [replacer, reader(looks, &[Get(A), Get(A)])]);
        explore_scene("replace twice, get twice", Some(2), 900, &scene);
    }
}

#[test]
fn a_cell_that_goes_to_another_key_is_not_taken_for_it() {
    for looks in BOTH {
        let changer = actor(0, &[Remove(A), Insert(B, 2)]);
        let scene = Scene::new(A_IS_THERE, [changer, reader(looks, &[Get(A), Get(B)])]);
        let scene = scene.sized(1, 1);
        explore_scene("remove, insert another, get both", Some(3), 2_000, &scene);
    }
}

#[test]
fn a_pass_over_the_map_sees_each_key_once() {
    for looks in BOTH {
        let scene = Scene::new(
            &[(0, Insert(A, 1)), (0, Insert(E, 1))],
            [
                actor(0, &[Replace(A, 2), Insert(B, 3), Replace(A, 4)]),
                reader(looks, &[Visit]),
            ],
        );
        explore_scene("visit", Some(2), 400, &scene.sized(3, 1));
    }
}

#[test]
fn a_key_inserted_by_two_is_there_once() {
    let scene = Scene::new(
        &[],
        [
            actor(0, &[Insert(A, 1), Get(A)]),
            actor(1, &[Insert(A, 2), Get(A)]),
        ],
    );
    explore_scene("one key, two inserters", Some(4), 10_000, &scene);
}

#[test]
fn a_key_inserted_by_three_is_there_once() {
    let scene = Scene::new(
        &[],
        [
            actor(0, &[Insert(A, 1)]),
            actor(1, &[Insert(A, 2)]),
            actor(2, &[Insert(A, 3)]),
        ],
    );
    explore_scene(
        "one key, three inserters",
        Some(1),
        1_000,
        &scene.sized(3, 3),
    );
}

#[test]
fn two_keys_of_one_home_are_both_there() {
    let scene = Scene::new(
        &[],
        [
            actor(0, &[Insert(A, 1), Get(B)]),
            actor(1, &[Insert(B, 2), Get(A)]),
        ],
    );
    explore_scene("two keys of one home", Some(3), 1_500, &scene);
}

#[test]
fn a_key_that_moves_is_there_once() {
    let scene = Scene::new(
        A_IS_THERE,
        [
            actor(0, &[Remove(A), Insert(A, 2)]),
            actor(1, &[Insert(B, 3)]),
            actor(2, &[Insert(A, 4)]),
        ],
    );
    explore_scene("insert against a move", Some(2), 8_000, &scene.sized(3, 3));
    let scene = Scene::new(
        A_IS_THERE,
        [
            actor(0, &[Remove(A), Insert(B, 3), Insert(A, 2)]),
            actor(1, &[Insert(A, 4)]),
        ],
    );
    explore_scene(
        "insert against a move far away",
        Some(3),
        2_000,
        &scene.sized(3, 2),
    );
}

/// Whatever the number of buckets a line, B stands in the second line that a look-up passes, or behind.
const B_IS_FAR: &[(usize, Step)] = &[
    (0, Insert(A, 1)),
    (0, Insert(D, 1)),
    (0, Insert(E, 1)),
    (0, Insert(B, 1)),
];

#[test]
fn a_home_raised_while_it_is_lowered_hides_no_key() {
    let lower = actor(0, &[Remove(B)]);
    let scene = Scene::new(B_IS_FAR, [lower, actor(1, &[Insert(C, 3), Get(C)])]);
    explore_scene("raise against lower", Some(3), 100, &scene.sized(5, 2));
    let raise = actor(1, &[Insert(C, 3)]);
    for looks in BOTH {
        let scene = Scene::new(B_IS_FAR, [lower, raise, reader(looks, &[Get(C), Get(C)])]);
        explore_scene("raise, lower and get", Some(1), 100, &scene.sized(5, 2));
    }
}

/// B and C both far away.
const TWO_ARE_FAR: &[(usize, Step)] = &[
    (0, Insert(A, 1)),
    (0, Insert(D, 1)),
    (0, Insert(B, 1)),
    (0, Insert(C, 1)),
];

#[test]
fn a_home_lowered_by_two_is_as_low_as_it_can_be() {
    let scene = Scene::new(
        TWO_ARE_FAR,
        [actor(0, &[Remove(B)]), actor(1, &[Remove(C)])],
    );
    explore_scene("two lower", Some(4), 60, &scene.sized(4, 2));
}

#[test]
fn a_key_that_stays_is_found_while_its_home_changes() {
    for looks in BOTH {
        let scene = Scene::new(
            TWO_ARE_FAR,
            [
                actor(0, &[Remove(B), Insert(B, 2)]),
                reader(looks, &[Get(C), Get(B)]),
            ],
        );
        explore_scene(
            "lower and raise under a reader",
            Some(3),
            1_000,
            &scene.sized(4, 1),
        );
    }
}

#[test]
fn a_late_helper_finishes_nothing_else() {
    let busy = actor(0, &[Insert(A, 1), Remove(A), Insert(B, 2)]);
    let scene = Scene::new(&[], [busy, actor(1, &[Insert(C, 3)])]);
    explore_scene("a late helper", Some(3), 5_000, &scene.sized(3, 2));
    let scene = Scene::new(&[], [busy, actor(1, &[Insert(B, 3)])]);
    explore_scene(
        "a late helper of a rival",
        Some(3),
        4_000,
        &scene.sized(3, 2),
    );
}

#[test]
fn a_home_names_a_bucket_for_one_key() {
    let scene = Scene::new(
        &[],
        [
            actor(0, &[Insert(A, 1)]),
            actor(1, &[Remove(A)]),
            actor(2, &[Insert(C, 3)]),
        ],
    );
    explore_scene(
        "a bucket named for another key",
        Some(2),
        3_000,
        &scene.sized(3, 3),
    );
    let scene = Scene::new(
        &[],
        [
            actor(0, &[Insert(A, 1), Insert(C, 2)]),
            actor(1, &[Remove(A)]),
        ],
    );
    explore_scene(
        "a home that names another bucket by now",
        Some(3),
        200,
        &scene.sized(3, 2),
    );
}

#[test]
fn who_is_told_of_a_new_key_finds_it() {
    for looks in BOTH {
        let scene = Scene::new(
            &[],
            [
                actor(0, &[Insert(A, 1)]),
                reader(looks, &[Get(A), Tell]),
                reader(looks, &[IfTold, Get(A)]),
            ],
        );
        explore_scene("who is told of a new key", Some(3), 2_000, &scene);
    }
}

#[test]
fn a_key_that_comes_and_goes_does_so_once() {
    for looks in BOTH {
        let scene = Scene::new(
            &[(0, Insert(B, 1))],
            [
                actor(0, &[Insert(A, 1), Remove(A)]),
                reader(looks, &[Get(A), Get(A)]),
            ],
        );
        explore_scene("a key that comes and goes", Some(3), 100, &scene);
    }
}

#[test]
fn a_key_replaced_while_it_is_removed_is_there_or_not() {
    let scene = Scene::new(
        A_IS_THERE,
        [
            actor(0, &[Replace(A, 2), Get(A)]),
            actor(1, &[Remove(A), Insert(A, 3)]),
        ],
    );
    explore_scene("replace against remove and insert", Some(4), 1_000, &scene);
    let scene = Scene::new(
        A_IS_THERE,
        [
            actor(0, &[Replace(A, 2)]),
            actor(1, &[Replace(A, 3)]),
            actor(2, &[Remove(A)]),
        ],
    );
    explore_scene(
        "replace, replace and remove",
        Some(2),
        1_000,
        &scene.sized(2, 3),
    );
}

#[test]
fn a_new_key_is_replaced_and_removed_as_soon_as_it_is_seen() {
    let insert = actor(0, &[Insert(A, 1)]);
    let scene = Scene::new(&[], [insert, actor(1, &[Replace(A, 2), Remove(A)])]);
    explore_scene("replace and remove against insert", Some(4), 250, &scene);
    let scene = Scene::new(&[], [insert, actor(1, &[Get(A), Replace(A, 2), Get(A)])]);
    explore_scene("replacing what was seen", Some(4), 400, &scene);
}
