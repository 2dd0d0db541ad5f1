//! The edge `claim`: keys enter the table once, and who sees a key sees what came before it.
#![cfg(loom)]

use forkmap::model::Access;
use forkmap::model::counters::{Claimed, Full};
use forkmap_loom_tests::{BOTH, Table, explore, join, key, spawn, zero_key};

#[test]
fn one_key_claimed_by_two_is_one_key() {
    explore("one key, two claimers", None, 10, || {
        let table = Table::new(2);
        let a = key(2, 0, 0);
        let slots = join([0, 1].map(|_| spawn(&table, move |table| table.view().claim(a))));
        assert_eq!(slots, [Ok(0), Ok(0)]);
        table.check(&[a]);
    });
}

/// The path starts at the last slot, so the second key of it stands at the first.
#[test]
fn two_keys_of_one_home_get_two_slots() {
    explore("two keys of one home", None, 12, || {
        let table = Table::new(2);
        let keys = [0, 1].map(|n| key(2, 1, n));
        let slots = join(keys.map(|key| {
            spawn(&table, move |table| {
                let slot = table.view().claim(key).unwrap();
                assert_eq!(table.view().find(key), Some(slot));
                slot
            })
        }));
        assert!(slots == [0, 1] || slots == [1, 0], "{slots:?}");
        table.check(&keys);
    });
}

#[test]
fn three_keys_of_one_home_get_three_slots() {
    explore("three keys of one home", None, 8_000, || {
        let table = Table::new(3);
        let keys = [0, 1, 2].map(|n| key(3, 1, n));
        let mut slots =
            join(keys.map(|key| spawn(&table, move |table| table.view().claim(key).unwrap())));
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2]);
        table.check(&keys);
    });
}

/// The other key of the path may push the shared one along, but cannot come between its claimers.
#[test]
fn one_key_claimed_by_two_while_its_path_grows_is_one_key() {
    explore("one key, two claimers, path grows", None, 2_500, || {
        let table = Table::new(3);
        let [first, a, b] = [0, 1, 2].map(|n| key(3, 1, n));
        table.claim(first);
        let slots =
            join([a, b, a].map(|key| spawn(&table, move |table| table.view().claim(key).unwrap())));
        assert_eq!(slots[0], slots[2]);
        assert_ne!(slots[0], slots[1]);
        table.check(&[first, a, b]);
    });
}

#[test]
fn the_last_free_slot_goes_to_one_key() {
    explore("the last free slot", None, 10, || {
        let table = Table::new(2);
        let [first, a, b] = [0, 1, 2].map(|n| key(2, 1, n));
        table.claim(first);
        let slots = join([a, b].map(|key| spawn(&table, move |table| table.view().claim(key))));
        let winner = match slots {
            [Ok(0), Err(Full)] => a,
            [Err(Full), Ok(0)] => b,
            other => panic!("{other:?}"),
        };
        table.check(&[first, winner]);
    });
}

/// Full means: the key was not there, and there was no room. Two claimers of one key cannot be told
/// different things about that.
#[test]
fn the_last_free_slot_goes_to_one_key_for_all_who_claim_it() {
    explore("the last free slot, one key twice", None, 1_000, || {
        let table = Table::new(1);
        let [a, b] = [0, 1].map(|n| key(1, 0, n));
        let slots = join([a, b, a].map(|key| spawn(&table, move |table| table.view().claim(key))));
        let winner = match slots {
            [Ok(0), Err(Full), Ok(0)] => a,
            [Err(Full), Ok(0), Err(Full)] => b,
            other => panic!("{other:?}"),
        };
        table.check(&[winner]);
    });
}

#[test]
fn the_key_whose_hash_is_zero_is_claimed_once_and_takes_no_room() {
    explore("the key of hash 0", None, 200, || {
        let table = Table::new(1);
        let (zero, other) = (zero_key(), key(1, 0, 0));
        let slots = join([zero, other, zero].map(|key| {
            spawn(&table, move |table| {
                let slot = table.view().claim(key).unwrap();
                table.value(slot).fetch_add(1);
                slot
            })
        }));
        assert_eq!(slots, [1, 0, 1]);
        assert_eq!(table.value(1).load(), 2);
        table.check(&[zero, other]);
    });
}

/// Keys that were there before are found at any time, where they were; the new one from some
/// moment on, in the one place where it then stays; one that nobody claims is missed, also at the
/// end of a full table.
#[test]
fn a_look_up_sees_each_key_from_its_claim_on() {
    for access in BOTH {
        explore(
            &format!("look-up while the path grows, {access:?}"),
            None,
            20,
            move || {
                let table = Table::new(3);
                let [first, second, a, b] = [0, 1, 2, 3].map(|n| key(3, 1, n));
                table.claim(first);
                table.claim(second);
                let claimer = spawn(&table, move |table| {
                    table.view().claim(a).unwrap();
                });
                let reader = spawn(&table, move |table| {
                    let table = table.view_with(access);
                    let early = table.find(a);
                    assert_eq!(table.find(first), Some(1));
                    assert_eq!(table.find(second), Some(2));
                    assert_eq!(table.find(b), None);
                    let late = table.find(a);
                    assert!(matches!(
                        (early, late),
                        (None, None | Some(0)) | (Some(0), Some(0))
                    ));
                });
                join([claimer, reader]);
            },
        );
    }
}

/// The claimer of `a` says so by a flag, while another claimer may push `a` one slot further.
#[test]
fn a_miss_means_that_the_key_was_not_claimed() {
    for access in BOTH {
        explore(
            &format!("a miss is exact, {access:?}"),
            None,
            3_000,
            move || {
                let table = Table::new(3);
                let [flag, a, b] = [0, 1, 2].map(|n| key(3, 1, n));
                table.claim(flag);
                let claim_a = spawn(&table, move |table| {
                    let slot = table.view().claim(a).unwrap();
                    table.claim(flag).store(1);
                    Some(slot)
                });
                let claim_b = spawn(&table, move |table| {
                    table.claim(b);
                    None
                });
                let look = spawn(&table, move |table| {
                    let table = table.view_with(access);
                    let told = table.get(flag) == Some(1);
                    let found = table.find(a);
                    assert!(found.is_some() || !told, "missed a claimed key");
                    found
                });
                let [claimed, _, found] = join([claim_a, claim_b, look]);
                assert!(found.is_none() || found == claimed);
            },
        );
    }
}

/// One thread more than can be explored to the end.
#[test]
fn a_look_up_among_three_claimers_finds_a_key_in_one_place() {
    explore("look-up among three claimers", Some(4), 100_000, || {
        let table = Table::new(2);
        let [a, b] = [0, 1].map(|n| key(2, 1, n));
        let claimers =
            [a, b, a].map(|key| spawn(&table, move |table| table.view().claim(key).ok()));
        let reader = spawn(&table, move |table| {
            [0, 1].map(|_| table.view_with(Access::ReadOnly).find(a))
        });
        let [first, _, second] = join(claimers);
        let [[early, late]] = join([reader]);
        assert_eq!(first, second);
        assert!(early.is_none() || early == first);
        assert!(late == first || late.is_none() && early.is_none());
        table.check(&[a, b]);
    });
}

#[test]
fn iteration_sees_each_key_once() {
    for access in BOTH {
        explore(&format!("iteration, {access:?}"), None, 1_000, move || {
            let table = Table::new(3);
            let [first, a, b] = [0, 1, 2].map(|n| key(3, 1, n));
            table.claim(first);
            let claimers = [a, b].map(|key| {
                spawn(&table, move |table| {
                    table.claim(key);
                })
            });
            let reader = spawn(&table, move |table| {
                let table = table.view_with(access);
                let mut seen = Vec::new();
                let mut from = 0;
                while let Some(Claimed { slot, key, .. }) = table.next(from) {
                    assert!([first, a, b].contains(&key) && !seen.contains(&key));
                    seen.push(key);
                    from = slot + 1;
                }
                assert!(seen.contains(&first));
            });
            join(claimers);
            join([reader]);
        });
    }
}

/// Of two keys that one process claims in turn, nobody finds the second without the first.
#[test]
fn keys_appear_in_the_order_of_their_claims() {
    for access in BOTH {
        explore(&format!("two in turn, {access:?}"), None, 8, move || {
            let table = Table::new(3);
            let [first, second] = [0, 2].map(|home| key(3, home, 0));
            let writer = spawn(&table, move |table| {
                table.claim(first);
                table.claim(second);
            });
            let reader = spawn(&table, move |table| {
                let table = table.view_with(access);
                let late = table.find(second);
                assert!(late.is_none() || table.find(first).is_some());
            });
            join([writer, reader]);
        });
    }
}

/// A writer stores data and then claims `flag`. A reader that `meets` the flag must see the data.
fn stored_before_claimed(
    name: &str,
    flag: u64,
    meets: impl Fn(&Table) -> bool + Copy + Send + Sync + 'static,
) {
    explore(&format!("store, then claim; {name}"), None, 8, move || {
        let table = Table::new(3);
        table.claim(key(3, 1, 0));
        let writer = spawn(&table, move |table| {
            table.value(1).store(7);
            table.claim(flag);
        });
        let reader = spawn(&table, move |table| {
            // Without the fences of a read-only look: they must not help out here.
            assert!(!meets(table) || table.value(1).load() == 7);
        });
        join([writer, reader]);
    });
}

#[test]
fn who_finds_a_key_sees_what_came_before_it() {
    for access in BOTH {
        for (name, flag) in [
            ("find", key(3, 1, 1)),
            ("find the key of hash 0", zero_key()),
        ] {
            stored_before_claimed(&format!("{name}, {access:?}"), flag, move |table| {
                table.view_with(access).find(flag).is_some()
            });
        }
    }
}

#[test]
fn who_iterates_over_a_key_sees_what_came_before_it() {
    for access in BOTH {
        stored_before_claimed(
            &format!("iterate, {access:?}"),
            key(3, 1, 1),
            move |table| table.view_with(access).next(2).is_some(),
        );
    }
}

/// A claimer that finds its first slot taken, by its look or by its compare-exchange.
#[test]
fn who_makes_way_for_a_key_sees_what_came_before_it() {
    stored_before_claimed("claim another key", key(3, 1, 1), |table| {
        table.view().claim(key(3, 1, 2)) == Ok(0)
    });
}
