//! The edge `append`: each record is made in knowledge of all before it, and who sees it sees all of it.
#![cfg(loom)]

use forkmap::model::Access::{ReadOnly, ReadWrite};
use forkmap::model::death;
use forkmap::model::stream::log::Full;
use forkmap_loom_tests::stream::{Process, Shape, World, check_order, digits, is_prefix};
use forkmap_loom_tests::{BOTH, explore, join, spawn};

/// Two say something, in a world of that shape: what each of them knows then, and everybody in the end.
fn two_say(shape: Shape, said: [&'static [u64]; 2]) {
    let world = World::new(shape);
    let says = |slot: usize| {
        spawn(&world, move |world| {
            let mut process = Process::open(world, slot);
            for &digit in said[slot] {
                process.append(digit).expect("it is not unlinked");
            }
            process.history()
        })
    };
    let histories = join([0, 1].map(says));
    let mut all = said.concat();
    all.sort_unstable();
    check_order(&histories, world.check(2), &all);
}

#[test]
fn two_append_and_both_are_there_in_one_order() {
    explore("two append", None, 50, || {
        two_say(Shape::new(3, 1, 2), [&[1], &[2]]);
    });
    explore("two append, three records", None, 300, || {
        two_say(Shape::new(3, 1, 3), [&[1, 2], &[3]]);
    });
}

#[test]
fn three_append_and_all_are_there_in_one_order() {
    three_append("three append", Shape::new(4, 1, 3));
    three_append("three append, room for one", Shape::new(4, 3, 1));
}

fn three_append(name: &str, shape: Shape) {
    explore(name, Some(2), 1_000, move || {
        let world = World::new(shape);
        let says = |slot: usize| {
            spawn(&world, move |world| {
                let mut process = Process::open(world, slot);
                process.append(1 + slot as u64).expect("it is not unlinked");
                process.history()
            })
        };
        let histories = join([0, 1, 2].map(says));
        check_order(&histories, world.check(3), &[1, 2, 3]);
    });
}

#[test]
fn two_append_where_there_is_room_for_one() {
    explore("two append, room for one", None, 500, || {
        two_say(Shape::new(3, 4, 1), [&[1], &[2]]);
    });
    explore("two append, room for two of three", Some(4), 500, || {
        two_say(Shape::new(3, 4, 2), [&[1, 2], &[3]]);
    });
}

/// Behind the seal there is nothing; and what was not before it comes in the next generation.
#[test]
fn a_record_comes_before_the_seal_or_in_the_next_generation() {
    explore("append against seal", None, 200, || {
        let world = World::new(Shape::new(3, 2, 2));
        let appends = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            process.append(1).expect("it is not unlinked");
            process.history()
        });
        let seals = spawn(&world, |world| {
            let mut process = Process::open(world, 1);
            process.dump().expect("it is not unlinked");
            process.history()
        });
        let histories = join([appends, seals]);
        check_order(&histories, world.check(2), &[1]);
    });
}

/// Of the exchanges of one link exactly one wins.
#[test]
fn a_log_is_sealed_once() {
    explore("append against two seals", None, 10, || {
        let world = World::new(Shape::new(4, 1, 1));
        let appends = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            process.try_append(1).expect("it is not unlinked")
        });
        let seals = [1, 2].map(|slot| spawn(&world, move |w| Process::open(w, slot).end_log()));
        let [first, second] = join(seals);
        let [appended] = join([appends]);
        assert_eq!(
            [appended, first, second].iter().filter(|&&won| won).count(),
            1
        );
        check_order(&[], world.check(3), [1].get(..appended.into()).unwrap());
    });
}

#[test]
fn a_payload_of_two_words_is_seen_whole() {
    for access in BOTH {
        let name = format!("append against reader, {access:?}");
        explore(&name, None, 50, move || {
            let shape = Shape {
                payload: 2,
                ..Shape::new(3, 1, 2)
            };
            let world = World::new(shape);
            let appends = spawn(&world, |world| {
                let mut process = Process::open(world, 0);
                for digit in [1, 2] {
                    process.append(digit).expect("it is not unlinked");
                }
                process.history()
            });
            let reads = spawn(&world, move |world| {
                let mut process = Process::open_with(world, 1, access);
                let mut look = || process.look().expect("it is not unlinked");
                let (first, second) = (look(), look());
                assert!(is_prefix(first, second));
                second
            });
            let histories = join([appends, reads]);
            assert_eq!(histories[0], 0x12);
            check_order(&histories, world.check(2), &[1, 2]);
        });
    }
}

#[test]
fn what_was_told_is_there_for_all_who_look() {
    for access in BOTH {
        let name = format!("append, told to one who looks, {access:?}");
        explore(&name, Some(3), 300, move || {
            let world = World::new(Shape::new(3, 1, 1));
            let appends = spawn(&world, |world| {
                let mut process = Process::open(world, 0);
                for digit in [1, 2] {
                    process.append(digit).expect("it is not unlinked");
                    world.tell(process.history());
                }
            });
            let reads = spawn(&world, move |world| {
                let mut process = Process::open_with(world, 1, access);
                for _ in 0..2 {
                    let told = world.told();
                    let seen = process.look().expect("it is not unlinked");
                    assert!(is_prefix(told, seen), "{told:x}, but then {seen:x}");
                }
            });
            join([appends, reads]);
            assert_eq!(world.check(2), 0x12);
        });
    }
}

#[test]
fn who_only_reads_never_writes() {
    explore("read-only through a switch", Some(4), 1_000, || {
        let world = World::new(Shape::new(3, 2, 1));
        let appends = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            for digit in [1, 2, 3] {
                process.append(digit).expect("it is not unlinked");
            }
        });
        let reads = spawn(&world, |world| {
            let look = || {
                let mut process = Process::attach_with(world, 1, ReadOnly).expect("not unlinked");
                process.catch_up().expect("it is not unlinked");
                assert!(is_prefix(process.history(), 0x123), "{process:?}");
            };
            death::kill_before(0, look).expect("it writes");
        });
        join([appends, reads]);
        assert_eq!(world.check(2), 0x123);
    });
}

/// Each adds one to the last digit, in two steps that nobody comes between.
#[test]
fn of_two_who_add_nothing_is_lost() {
    for records in [1, 2] {
        let name = format!("two add, {records} in a log");
        explore(&name, Some(4), 1_000, move || {
            let world = World::new(Shape::new(3, 4, records));
            let adds = |slot: usize| {
                spawn(&world, move |world| {
                    let mut process = Process::open(world, slot);
                    for _ in 0..2 - slot {
                        let add = process.transact(|history| (history & 15) + 1);
                        add.expect("it is not unlinked");
                    }
                })
            };
            join([0, 1].map(adds));
            assert_eq!(world.check(2), 0x123);
        });
    }
}

#[test]
fn one_who_adds_sees_what_another_has_put() {
    explore("add against put", Some(4), 500, || {
        let world = World::new(Shape::new(3, 2, 2));
        let adds = spawn(&world, |world| {
            let mut process = Process::open(world, 0);
            let mut add = || process.transact(|history| (history & 15) + 1);
            (add().and_then(|()| add())).expect("it is not unlinked");
        });
        let puts = spawn(&world, |world| {
            let mut process = Process::open(world, 1);
            process.append(8).expect("it is not unlinked");
        });
        join([adds, puts]);
        let end = world.check(2);
        assert!([0x128, 0x189, 0x89A].contains(&end), "{end:x}");
    });
}

#[test]
fn room_is_given_out_once_and_never_beyond_the_end() {
    for records in [1, 2, 3] {
        let name = format!("three reserve, room for {records}");
        explore(&name, Some(3), 10, move || {
            let world = World::new(Shape::new(2, 1, records));
            let reserves = |_| {
                spawn(&world, |world| {
                    let log = world.first_log(ReadWrite);
                    let room = log.reserve(8).map(|room| format!("{room:?}"));
                    assert!(log.used_words() <= log.arena_words());
                    room
                })
            };
            let found = join([0, 1, 2].map(reserves));
            let mut rooms: Vec<_> = found.iter().flatten().collect();
            rooms.sort_unstable();
            rooms.dedup();
            assert_eq!(rooms.len(), records, "{found:?}");
        });
    }
}

#[test]
fn what_is_too_large_leaves_its_room_to_what_is_small() {
    explore("too large against small", None, 3, || {
        let world = World::new(Shape::new(1, 1, 1));
        let large = spawn(&world, |w| w.first_log(ReadWrite).reserve(24).err());
        let small = spawn(&world, |w| w.first_log(ReadWrite).reserve(8).err());
        assert_eq!(join([large, small]), [Some(Full), None]);
    });
}

/// Room that was reserved and not used is there for the next try.
#[test]
fn who_loses_does_not_lose_its_room() {
    explore("two append, room for exactly both", None, 50, || {
        let world = World::new(Shape::new(3, 1, 2));
        let appends = |slot: usize| {
            spawn(&world, move |world| {
                let mut process = Process::open(world, slot);
                process.append(1 + slot as u64).expect("it is not unlinked");
                process.generation()
            })
        };
        assert_eq!(join([0, 1].map(appends)), [1, 1]);
        assert_eq!(digits(world.check(2)).len(), 2);
    });
}
