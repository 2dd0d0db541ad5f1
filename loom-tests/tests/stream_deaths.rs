//! The edge `candidate`: builders that are killed before each of their writes, and cleaned up after while
//! others go on. Nothing is lost, and no name is left.
#![cfg(loom)]

use std::sync::Arc;

use forkmap_loom_tests::deaths::{Deaths, explore_deaths};
use forkmap_loom_tests::stream::{Process, Shape, World, check_order, digits, is_prefix};
use forkmap_loom_tests::{join, spawn};

/// The participants: who is killed, who cleans up after it, who does neither, and who comes last.
const MORTAL: usize = 0;
const HEIR: usize = 1;
const OTHER: usize = 2;
const LAST: usize = 3;

/// A world in which the first log is full: 7 was said there.
fn full(builds: usize) -> Arc<World> {
    let world = World::new(Shape::new(4, builds, 1));
    assert_eq!(Process::open(&world, MORTAL).try_append(7), Ok(true));
    world
}

/// The same, and the log has ended.
fn sealed(builds: usize) -> Arc<World> {
    let world = full(builds);
    let mut process = Process::attach(&world, MORTAL).expect("it is not unlinked");
    assert!(process.end_log());
    world
}

/// Cleans up after the mortal one. One who does is killed too, and the next one does it again.
fn clean(world: &World, deaths: &Deaths) {
    if deaths.kill(1, || world.clean(MORTAL)).is_none() {
        world.clean(MORTAL);
    }
}

fn append(world: &World, slot: usize, digit: u64) -> u64 {
    let mut process = Process::attach(world, slot).expect("it is not unlinked");
    process.append(digit).expect("it is not unlinked");
    world.tell(process.history());
    process.history()
}

fn switch(world: &World, slot: usize) -> u64 {
    let mut process = Process::attach(world, slot).expect("it is not unlinked");
    process.dump().expect("it is not unlinked");
    process.history()
}

/// What was said in the end, if 1 was perhaps not.
fn check(world: &World, histories: &[u64], survived: bool, said: &[u64]) {
    let end = world.check_after_deaths(LAST);
    let is_there = digits(end).contains(&1);
    assert!(is_there || !survived);
    let mut said = said.to_vec();
    if is_there {
        said.insert(0, 1);
    }
    check_order(histories, end, &said);
}

#[test]
fn one_who_appends_dies_and_the_next_one_goes_on() {
    explore_deaths("death in append, alone", None, 10, 2, |deaths| {
        let world = full(2);
        let survived = deaths.kill(0, || append(&world, MORTAL, 1));
        let told = world.told();
        clean(&world, deaths);
        let heir = append(&world, HEIR, 2);
        check(&world, &[told, heir], survived.is_some(), &[2, 7]);
    });
}

/// The mortal one finds no room to append in while `others` does something as well; and its heir does something
/// after it.
fn dies_appending(
    name: &str,
    bound: usize,
    at_least: usize,
    heirs: fn(&World) -> u64,
    others: fn(&World) -> u64,
    said: &'static [u64],
) {
    explore_deaths(name, Some(bound), at_least, 1, move |deaths| {
        let world = full(4);
        let deaths = Arc::clone(deaths);
        let mortal = spawn(&world, move |world| {
            let survived = deaths.kill(0, || append(world, MORTAL, 1));
            let told = world.told();
            clean(world, &deaths);
            let heir = heirs(world);
            assert!(is_prefix(told, heir), "{told:x}, but then {heir:x}");
            assert!(is_prefix(survived.unwrap_or(0), heir));
            (heir, survived.is_some())
        });
        let other = spawn(&world, move |world| (others(world), true));
        let [(heir, survived), (other, _)] = join([mortal, other]);
        check(&world, &[heir, other], survived, said);
    });
}

fn look(world: &World, slot: usize) -> u64 {
    let process = Process::attach(world, slot).expect("it is not unlinked");
    process.history()
}

#[test]
fn one_who_appends_dies_while_another_appends() {
    let (looks, appends) = (|w: &World| look(w, HEIR), |w: &World| append(w, OTHER, 2));
    dies_appending(
        "death in append, another appends",
        3,
        3_000,
        looks,
        appends,
        &[2, 7],
    );
    let heir = |w: &World| append(w, HEIR, 3);
    dies_appending(
        "death in append, two others append",
        2,
        1_000,
        heir,
        appends,
        &[2, 3, 7],
    );
}

/// The mortal one builds what follows a log that has ended, while `others` does something as well.
fn dies_building(
    name: &str,
    bound: usize,
    at_least: usize,
    mortals: usize,
    others: fn(&World) -> u64,
    said: &'static [u64],
) {
    explore_deaths(name, Some(bound), at_least, mortals, move |deaths| {
        let world = sealed(3);
        let deaths = Arc::clone(deaths);
        let mortal = spawn(&world, move |world| {
            deaths.kill(0, || {
                let mut process = Process::attach(world, MORTAL).expect("it is not unlinked");
                process.build().expect("it is not unlinked");
            });
            clean(world, &deaths);
            0
        });
        let other = spawn(&world, others);
        let histories = join([mortal, other]);
        check(&world, &histories, false, said);
    });
}

#[test]
fn one_who_builds_dies_while_another_builds() {
    let others = |world: &World| {
        let mut process = Process::attach(world, OTHER).expect("it is not unlinked");
        process.build().expect("it is not unlinked");
        process.catch_up().expect("it is not unlinked");
        process.history()
    };
    dies_building("death in build against build", 3, 1_000, 1, others, &[7]);
}

#[test]
fn one_who_builds_dies_while_another_follows() {
    let others = |world: &World| {
        let process = Process::attach(world, OTHER).expect("it is not unlinked");
        process.history()
    };
    dies_building("death in build against follow", 4, 200, 1, others, &[7]);
}

/// The next generation ends too before anybody cleans up.
#[test]
fn one_who_builds_dies_while_others_go_far() {
    let others = |world: &World| {
        let first = switch(world, OTHER);
        assert_eq!(append(world, HEIR, 2), first << 4 | 2);
        switch(world, HEIR)
    };
    dies_building(
        "death in build against two switches",
        3,
        1_000,
        1,
        others,
        &[2, 7],
    );
}

#[test]
fn who_cleans_up_after_one_who_built_dies_too() {
    let others = |world: &World| append(world, OTHER, 2);
    dies_building("death in build and in clean", 3, 1_000, 2, others, &[2, 7]);
}

#[test]
fn two_who_build_both_die() {
    explore_deaths("death of two in build", Some(3), 3_000, 2, |deaths| {
        let world = sealed(1);
        let builds = |slot: usize| {
            let deaths = Arc::clone(deaths);
            spawn(&world, move |world| {
                deaths.kill(slot, || {
                    let mut process = Process::attach(world, slot).expect("it is not unlinked");
                    process.build().expect("it is not unlinked");
                });
                world.clean(slot);
            })
        };
        join([0, 1].map(builds));
        check(&world, &[], false, &[7]);
    });
}

/// Who is killed before it has looked again leaves no name of a dictionary that is unlinked.
#[test]
fn one_who_builds_dies_while_it_is_unlinked() {
    explore_deaths("death in build against unlink", None, 100, 1, |deaths| {
        let world = sealed(1);
        let deaths = Arc::clone(deaths);
        let unlinks = spawn(&world, |world| world.unlink_all());
        let mortal = spawn(&world, move |world| {
            deaths.kill(0, || {
                if let Ok(mut process) = Process::attach(world, MORTAL) {
                    let _ = process.build();
                }
            });
            world.clean(MORTAL);
        });
        join([unlinks, mortal]);
        world.check_unlinked();
    });
}
