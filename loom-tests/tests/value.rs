//! The edge `value`: who reads a value sees what came before it, and no update is lost.
#![cfg(loom)]

use forkmap::model::value::{Value, add_up_to};
use forkmap_loom_tests::{BOTH, Table, explore, join, key, spawn};

type Change = fn(Value<'_>);
type Look = fn(Value<'_>) -> u64;

/// Every operation that changes a value of 2.
const CHANGES: [(&str, Change); 11] = [
    ("store", |flag| flag.store(1)),
    ("swap", |flag| _ = flag.swap(1)),
    ("compare_exchange", |flag| _ = flag.compare_exchange(2, 1)),
    ("fetch_add", |flag| _ = flag.fetch_add(1)),
    ("fetch_sub", |flag| _ = flag.fetch_sub(1)),
    ("fetch_and", |flag| _ = flag.fetch_and(1)),
    ("fetch_or", |flag| _ = flag.fetch_or(1)),
    ("fetch_xor", |flag| _ = flag.fetch_xor(1)),
    ("fetch_min", |flag| _ = flag.fetch_min(1)),
    ("fetch_max", |flag| _ = flag.fetch_max(3)),
    ("fetch_update", |flag| _ = flag.fetch_update(|_| Some(1))),
];

/// Every operation that tells whether a value is still 2 (or 1).
const LOOKS: [(&str, Look); 12] = [
    ("load", |flag| flag.load()),
    ("swap", |flag| flag.swap(9)),
    ("compare_exchange won", |flag| {
        flag.compare_exchange(1, 9).unwrap_or_else(|n| n)
    }),
    ("compare_exchange lost", |flag| {
        flag.compare_exchange(2, 9).unwrap_or_else(|n| n)
    }),
    ("fetch_add", |flag| flag.fetch_add(9)),
    ("fetch_sub", |flag| flag.fetch_sub(9)),
    ("fetch_and", |flag| flag.fetch_and(9)),
    ("fetch_or", |flag| flag.fetch_or(9)),
    ("fetch_xor", |flag| flag.fetch_xor(9)),
    ("fetch_min", |flag| flag.fetch_min(9)),
    ("fetch_max", |flag| flag.fetch_max(9)),
    ("fetch_update refused", |flag| {
        flag.fetch_update(|_| None).unwrap_err()
    }),
];

/// A writer stores data under one key and then changes the value of another, the flag, from 2. A
/// reader that sees it changed must see the data.
fn message(
    name: &str,
    change: Change,
    look: impl Fn(&Table) -> u64 + Copy + Send + Sync + 'static,
) {
    explore(name, None, 5, move || {
        let table = Table::new(2);
        table.claim(key(2, 0, 0));
        table.claim(key(2, 1, 0)).store(2);
        let writer = spawn(&table, move |table| {
            table.value(0).store(7);
            change(table.value(1));
        });
        let reader = spawn(&table, move |table| {
            // Without the fences of a read-only look: they must not help out here.
            assert!(look(table) == 2 || table.value(0).load() == 7);
        });
        join([writer, reader]);
    });
}

#[test]
fn whatever_changes_the_flag_hands_on_the_data() {
    for (name, change) in CHANGES {
        message(&format!("data, then {name}"), change, |table| {
            table.value(1).load()
        });
    }
}

#[test]
fn whatever_sees_the_flag_changed_sees_the_data() {
    let raise: Change = |flag| flag.store(1);
    for (name, look) in LOOKS {
        message(&format!("{name}, then data"), raise, move |table| {
            look(table.value(1))
        });
    }
    for access in BOTH {
        message(
            &format!("get, then data, {access:?}"),
            raise,
            move |table| table.view_with(access).get(key(2, 1, 0)).unwrap(),
        );
        message(
            &format!("iteration, then data, {access:?}"),
            raise,
            move |table| table.view_with(access).next(1).unwrap().value,
        );
    }
}

/// Key and value are two words, but never tell two stories: not there, then 0, then 1, then 2.
#[test]
fn a_value_never_goes_back_while_it_only_grows() {
    for access in BOTH {
        explore(
            &format!("get while it grows, {access:?}"),
            Some(4),
            8_000,
            move || {
                let table = Table::new(1);
                let key = key(1, 0, 0);
                let writers = [0, 1].map(|_| {
                    spawn(&table, move |table| {
                        table.claim(key).fetch_add(1);
                    })
                });
                let reader = spawn(&table, move |table| {
                    let [early, late] = [0, 1].map(|_| table.view_with(access).get(key));
                    assert!(early <= late, "{early:?}, then {late:?}");
                });
                join(writers);
                join([reader]);
            },
        );
    }
}

/// Two threads run `update` on one new key: what each got, and the value in the end.
fn twice(
    name: &str,
    update: impl Fn(Value<'_>, u64) -> Option<u64> + Copy + Send + Sync + 'static,
    check: impl Fn([Option<u64>; 2], u64) -> bool + Send + Sync + 'static,
) {
    explore(name, None, 25, move || {
        let table = Table::new(2);
        let key = key(2, 1, 0);
        let got = join([1, 2].map(|n| spawn(&table, move |table| update(table.claim(key), n))));
        let end = table.value(1).load();
        assert!(check(got, end), "got {got:?}, in the end {end}");
    });
}

#[test]
fn additions_to_a_new_key_add_up() {
    twice(
        "two add to a new key",
        |value, n| Some(value.fetch_add(n)),
        |got, end| end == 3 && (got == [Some(0), Some(1)] || got == [Some(2), Some(0)]),
    );
}

#[test]
fn one_of_two_compare_exchanges_on_a_new_key_wins() {
    twice(
        "two compare_exchange a new key",
        |value, n| value.compare_exchange(0, n).ok(),
        |got, end| matches!((got, end), ([Some(0), None], 1) | ([None, Some(0)], 2)),
    );
}

#[test]
fn bounded_additions_stop_at_the_ceiling() {
    twice(
        "two add up to 2",
        |value, n| value.fetch_update(|old| add_up_to(old, n, 2)).ok(),
        |got, end| matches!((got, end), ([Some(0), None], 1) | ([None, Some(0)], 2)),
    );
}

#[test]
fn each_value_swapped_in_is_swapped_out_once() {
    twice(
        "two swap a new key",
        |value, n| Some(value.swap(n)),
        |got, end| {
            matches!(
                (got, end),
                ([Some(0), Some(1)], 2) | ([Some(2), Some(0)], 1)
            )
        },
    );
}
