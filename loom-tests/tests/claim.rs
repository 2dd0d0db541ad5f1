//! The edge `claim`: keys enter the table once, and who sees a key sees what came before it.
#![cfg(loom)]

use forkmap::model::counters::Full;
use forkmap_loom_tests::{BOTH, Table, explore, join, key, spawn, zero_key};

#[test]
fn one_key_claimed_by_two_is_one_key() {
    explore("one key, two claimers", None, 1, || {
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
    explore("two keys of one home", None, 1, || {
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
    explore("three keys of one home", None, 1, || {
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
    explore("one key, two claimers, path grows", None, 1, || {
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
    explore("the last free slot", None, 1, || {
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
    explore("the last free slot, one key twice", None, 1, || {
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
    explore("the key of hash 0", None, 1, || {
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
            1,
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

/// Some path is longer for whoever looks than for whoever claimed: the look-up has to walk it all.
#[test]
fn a_miss_means_that_the_key_was_not_claimed() {
    for access in BOTH {
        explore(
            &format!("a miss is exact, {access:?}"),
            None,
            1,
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
                    let told = table.value(1).load_with(access) == 1;
                    let found = table.view_with(access).find(a);
                    assert!(found.is_some() || !told, "missed a claimed key");
                    found
                });
                let [claimed, _, found] = join([claim_a, claim_b, look]);
                assert!(found.is_none() || found == claimed);
            },
        );
    }
}

#[test]
fn iteration_sees_each_key_once() {
    for access in BOTH {
        explore(&format!("iteration, {access:?}"), None, 1, move || {
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
                while let Some((slot, key)) = table.next_claimed(from) {
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

/// Whoever meets a key may rely on what its claimer did before: by a look-up, by iteration, or as
/// the claimer of another key that found the slot taken, by its look or by its compare-exchange.
#[test]
fn who_meets_a_key_sees_what_came_before_it() {
    let [data, flag, other] = [0, 1, 2].map(|n| key(3, 1, n));
    let meets_after = |name: &str, flag, meets: Meets| {
        explore(&format!("claim after store, {name}"), None, 1, move || {
            let table = Table::new(3);
            table.claim(data);
            let writer = spawn(&table, move |table| {
                table.value(1).store(7);
                table.claim(flag);
            });
            let reader = spawn(&table, move |table| {
                // Loaded without the fences of a read-only view: they must not help out here.
                assert!(!meets(table, flag) || table.value(1).load() == 7);
            });
            join([writer, reader]);
        });
    };
    for access in BOTH {
        let find = Box::new(move |t: &Table, key| t.view_with(access).find(key).is_some());
    }
}
