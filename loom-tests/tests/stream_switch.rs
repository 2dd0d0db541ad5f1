//! The edges `elect` and `unlink`: one generation follows another, nobody is led to one that is gone, and no
//! name is left over.
#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use forkmap::model::{Access, Word};
use forkmap_loom_tests::stream::{Process, Shape, Unlinked, World, check_order, is_prefix};
use forkmap_loom_tests::{BOTH, explore, join, spawn};

/// A world in which `said` was appended in the first generation, and its log has ended.
fn sealed(shape: Shape, said: &[u64]) -> Arc<World> {
    let world = World::new(shape);
    let mut process = Process::open(&world, 0);
    for &digit in said {
        assert_eq!(process.try_append(digit), Ok(true));
    }
    assert!(process.end_log());
    world
}

/// One writes something and then publishes it by `publish`: another one who is led there by `look` sees it.
fn lead(name: &str, publish: fn(&World), look: fn(&World, Access) -> u64) {
    for access in BOTH {
        explore(&format!("{name}, {access:?}"), None, 5, move || {
            let shared = Arc::new((World::new(Shape::new(1, 1, 1)), Word::new(0)));
            let publishes = spawn(&shared, move |(world, dump)| {
                // Relaxed: it is the word of the protocol that is to release it.
                dump.store(7, Relaxed);
                publish(world);
            });
            let looks = spawn(&shared, move |(world, dump)| {
                if look(world, access) == 2 {
                    assert_eq!(dump.load(Relaxed), 7, "not what was written");
                }
            });
            join([publishes, looks]);
        });
    }
}

#[test]
fn one_who_is_led_to_a_generation_sees_it_whole() {
    let elect = |world: &World| {
        let elected = world.first_log(Access::ReadWrite).elect(2);
        assert_eq!(elected, Ok(()));
    };
    let next = |world: &World, access| world.first_log(access).next_generation();
    lead("elect against next", elect, next);
    let advance = |world: &World| world.control(Access::ReadWrite).advance(1, 2);
    let current = |world: &World, access| world.control(access).current();
    lead("advance against current", advance, current);
}

/// So many build what follows a log that has ended: all come to one generation.
fn build<const N: usize>(name: &str, bound: Option<usize>, at_least: usize) {
    explore(name, bound, at_least, || {
        let world = sealed(Shape::new(N + 1, 1, 1), &[7]);
        let builds = |slot| {
            spawn(&world, move |world| {
                let mut process = Process::open(world, slot);
                process.catch_up().expect("it is not unlinked");
                process.build().expect("it is not unlinked");
                process.catch_up().expect("it is not unlinked");
                assert_eq!(process.history(), 7);
                process.generation()
            })
        };
        let ends = join(std::array::from_fn::<_, N, _>(builds));
        assert_eq!(ends, [world.control(Access::ReadWrite).current(); N]);
        assert_eq!(world.check(N), 7);
    });
}

#[test]
fn of_two_who_build_one_is_elected() {
    build::<2>("two build", None, 200);
}

#[test]
fn of_three_who_build_one_is_elected() {
    build::<3>("three build", Some(2), 200);
}

/// What found no room is the first record of the log that its writer stands for election with: so each log
/// that anybody begins is somebody's change, and nobody else's is lost with it.
#[test]
fn of_two_who_find_no_room_the_one_who_is_elected_has_made_its_change() {
    explore("two build with a change", None, 200, || {
        let world = sealed(Shape::new(3, 2, 1), &[7]);
        let tries = |slot: usize| {
            spawn(&world, move |world| {
                let mut process = Process::open(world, slot);
                process.catch_up().expect("it is not unlinked");
                let has_made = process.try_append(1 + slot as u64).expect("not unlinked");
                process.catch_up().expect("it is not unlinked");
                (has_made, process.history())
            })
        };
        let tried = join([0, 1].map(tries));
        // Both, if one came late, and found the next log full.
        let made = [1, 2].into_iter().zip(tried);
        let made = made.filter_map(|(digit, (has_made, _))| has_made.then_some(digit));
        let mut said: Vec<u64> = made.collect();
        assert!(!said.is_empty(), "a generation that is nobody's change");
        said.push(7);
        check_order(&tried.map(|(_, history)| history), world.check(2), &said);
    });
}

/// A builder that comes late finds that the next generation has ended already.
#[test]
fn a_late_builder_does_not_fork_the_history() {
    explore("build against two switches", Some(3), 1_000, || {
        let world = sealed(Shape::new(3, 2, 1), &[7]);
        let late = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            process.catch_up().expect("it is not unlinked");
            process.build().expect("it is not unlinked");
            process.append(1).expect("it is not unlinked");
            process.history()
        });
        let early = spawn(&world, |world| {
            let mut process = Process::open(world, 1);
            process.catch_up().expect("it is not unlinked");
            process.build().expect("it is not unlinked");
            process.catch_up().expect("it is not unlinked");
            process.dump().expect("it is not unlinked");
            process.history()
        });
        let histories = join([late, early]);
        check_order(&histories, world.check(2), &[1, 7]);
    });
}

/// One who reads in a generation that is long gone comes to a later one, and misses nothing.
#[test]
fn one_who_is_outrun_comes_to_a_later_generation() {
    for access in BOTH {
        let outrun = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&outrun);
        let name = format!("two switches against a follower, {access:?}");
        explore(&name, Some(3), 500, move || {
            let world = World::new(Shape::new(3, 2, 1));
            let switches = spawn(&world, |world| {
                let mut process = Process::open(world, 0);
                for digit in [1, 2, 3] {
                    process.append(digit).expect("it is not unlinked");
                    world.tell(process.history());
                }
            });
            let seen = Arc::clone(&seen);
            let follows = spawn(&world, move |world| {
                let mut process = Process::open_with(world, 1, access);
                let told = world.told();
                process.catch_up().expect("it is not unlinked");
                assert!(is_prefix(told, process.history()), "{process:?}");
                assert!(is_prefix(process.history(), 0x123), "{process:?}");
                seen.fetch_add(process.outrun, Relaxed);
            });
            join([switches, follows]);
            assert_eq!(world.check(2), 0x123);
        });
        assert_ne!(outrun.load(Relaxed), 0, "nobody was outrun");
    }
}

#[test]
fn one_who_attaches_during_a_switch_finds_everything() {
    for access in BOTH {
        for switches in [1, 2] {
            let name = format!("attach against {switches} switches, {access:?}");
            explore(&name, Some(3), 100, move || {
                let world = World::new(Shape::new(3, 2, 1));
                let switches = spawn(&world, move |world| {
                    let mut process = Process::open(world, 0);
                    for digit in 1..=1 + switches {
                        process.append(digit).expect("it is not unlinked");
                        world.tell(process.history());
                    }
                    process.history()
                });
                let attaches = spawn(&world, move |world| {
                    let told = world.told();
                    let process = Process::attach_with(world, 1, access);
                    let process = process.expect("it is not unlinked");
                    assert!(is_prefix(told, process.history()), "{process:?}");
                    process.history()
                });
                let [end, seen] = join([switches, attaches]);
                assert!(is_prefix(seen, end), "{seen:x}");
                assert_eq!(world.check(2), end);
            });
        }
    }
}

/// The follower leads newcomers on before it removes the name of where it was.
#[test]
fn one_who_attaches_while_others_follow_finds_everything() {
    explore("attach against follow", Some(3), 1_000, || {
        let world = sealed(Shape::new(4, 1, 1), &[7]);
        let builds = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            process.catch_up().expect("it is not unlinked");
            process.build().expect("it is not unlinked");
            process.history()
        });
        let follows = spawn(&world, |world| {
            let mut process = Process::open(world, 1);
            process.catch_up().expect("it is not unlinked");
            process.history()
        });
        let attaches = spawn(&world, |world| {
            let process = Process::attach(world, 2).expect("it is not unlinked");
            process.history()
        });
        assert_eq!(join([builds, follows, attaches]), [7; 3]);
        assert_eq!(world.check(3), 7);
    });
}

/// What one has found is what was current.
fn found(attached: Result<Process<'_>, Unlinked>, end: u64) {
    if let Ok(process) = attached {
        assert!(is_prefix(process.history(), end), "{process:?}");
    }
}

#[test]
fn one_who_attaches_while_it_is_unlinked_finds_it_or_is_told() {
    for access in BOTH {
        let name = format!("attach against unlink, {access:?}");
        explore(&name, None, 5, move || {
            let world = World::new(Shape::new(2, 1, 1));
            let unlinks = spawn(&world, |world| world.unlink_all());
            let attaches = spawn(&world, move |world| {
                found(Process::attach_with(world, 0, access), 0);
            });
            join([unlinks, attaches]);
            world.check_unlinked();
        });
        let name = format!("attach against unlink and switch, {access:?}");
        explore(&name, Some(2), 200, move || {
            let world = World::new(Shape::new(2, 1, 1));
            let unlinks = spawn(&world, |world| world.unlink_all());
            let switches = spawn(&world, |world| {
                let mut process = Process::open(world, 0);
                process.append(1).expect("there is room");
                let _ = process.append(2);
            });
            let attaches = spawn(&world, move |world| {
                found(Process::attach_with(world, 1, access), 0x12);
            });
            join([unlinks, switches, attaches]);
            world.check_unlinked();
        });
    }
}

/// Who names a generation and who unlinks: at least one sees the other.
#[test]
fn no_name_is_left_by_one_who_builds_while_it_is_unlinked() {
    explore("elect against unlink", None, 50, || {
        let world = sealed(Shape::new(1, 1, 1), &[7]);
        let unlinks = spawn(&world, |world| world.unlink_all());
        let builds = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            process.catch_up().expect("nobody can have been elected");
            if process.build().is_ok() {
                assert_eq!(process.generation(), 2);
            }
            assert_eq!(process.history(), 7);
        });
        join([unlinks, builds]);
        world.check_unlinked();
    });
    explore("two elect against unlink", Some(2), 200, || {
        let world = sealed(Shape::new(2, 1, 1), &[7]);
        let unlinks = spawn(&world, |world| world.unlink_all());
        let builds = |slot| {
            spawn(&world, move |world| {
                let mut process = Process::open(world, slot);
                if process.catch_up().is_ok() {
                    let _ = process.build();
                }
                assert_eq!(process.history(), 7);
            })
        };
        join([0, 1].map(builds));
        join([unlinks]);
        world.check_unlinked();
    });
}
