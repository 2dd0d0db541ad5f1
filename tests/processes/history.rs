//! Whether what many processes were told of single keys can be explained, by a history of any length: each answer fits
//! one order of the calls, and that fits the times at which they were made.
//!
//! Every value is written once, so each answer names the call that it depends on, and no search is needed. A value and
//! those that were written over it one after the other are a *run*: it begins where there was no value, or with one
//! whose writer was killed and so told nobody what was there before, and it ends with a removal, or nobody knows how.
//!
//! - Within a run the order is known: it fits the times, or it does not.
//! - Two runs of a key come one after the other. From the first end of a call of a run to the last start of one it
//!   certainly goes on (its *zone*): no two zones meet, no run has to fit into the zone of another, and nobody is told in
//!   the middle of one that there is nothing (after Gibbons and Korach, "Testing shared memories", 1997).
//! - An end that nobody knows is the doing of one who was killed: there are no more of those than there were dead, and
//!   until one of them came the run goes on.
//!
//! Strictly: a call whose caller was killed took effect before that or never. So it ends with the death.

use std::collections::HashMap;

use libtest_mimic::Trial;

use crate::test;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Tell the value.
    Get,
    /// Give the key this value, and tell what it had.
    Put(u64),
    /// Remove the key, and tell what it had.
    Remove,
}

/// One call on one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) op: Op,
    /// The value that was there; unless the caller was killed.
    pub(crate) told: Option<Option<u64>>,
    pub(crate) start: u64,
    /// When it was told, or killed.
    pub(crate) end: u64,
}

/// What cannot be explained, and by which calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) &'static str, pub(crate) Vec<Call>);

/// What there is to know of one value.
#[derive(Default)]
struct Value {
    writer: Option<Call>,
    readers: Vec<Call>,
    /// Who has put another one in its place, or removed it.
    next: Option<Call>,
}

impl Value {
    /// Whether it was written for certain. (If nobody has seen it, its writer may have been killed before.)
    fn is_there(&self) -> bool {
        let is_seen = self.next.is_some() || !self.readers.is_empty();
        is_seen || self.writer.is_some_and(|writer| writer.told.is_some())
    }
}

/// What certainly goes on from `first_end` to `last_start`, if that comes later.
#[derive(Debug, Clone, Copy)]
struct Zone {
    first_end: u64,
    last_start: u64,
    begins_with: Call,
}

impl Zone {
    fn add(&mut self, call: &Call) {
        self.first_end = self.first_end.min(call.end);
        self.last_start = self.last_start.max(call.start);
    }

    fn is_certain(&self) -> bool {
        self.first_end < self.last_start
    }
}

/// Explains all calls of one key, which has no value at first.
pub(crate) fn explain(calls: &[Call]) -> Result<(), Wrong> {
    let mut values: HashMap<u64, Value> = HashMap::new();
    for &call in calls {
        if let Op::Put(value) = call.op {
            let writer = &mut values.entry(value).or_default().writer;
            assert!(writer.is_none(), "{value} is written twice");
            *writer = Some(call);
        }
        let Some(Some(told)) = call.told else {
            continue;
        };
        let value = values.entry(told).or_default();
        match call.op {
            Op::Get => value.readers.push(call),
            Op::Put(_) | Op::Remove => {
                if let Some(other) = value.next.replace(call) {
                    return Err(Wrong(
                        "two have taken the same value's place",
                        vec![other, call],
                    ));
                }
            }
        }
    }
    // How many values are still in no run.
    let is_there = |value: &&Value| value.is_there();
    let mut left = values.values().filter(is_there).count();
    let (mut zones, mut open) = (Vec::new(), 0);
    let takers = calls
        .iter()
        .filter(|call| call.told.is_none() && call.op != Op::Get);
    for value in values.values() {
        let Some(writer) = value.writer else {
            let calls = value.readers.iter().chain(&value.next).copied().collect();
            return Err(Wrong("nobody has written that value", calls));
        };
        if value.is_there() && writer.told.is_none_or(|told| told.is_none()) {
            let (mut zone, len, is_closed) = run(&values, writer)?;
            left -= len;
            if !is_closed {
                // It goes on at least until somebody came who has not told what he took; if nobody did, for ever.
                let later = takers.clone().filter(|taker| taker.end >= zone.last_start);
                let first = later.map(|taker| taker.start).min().unwrap_or(u64::MAX);
                zone.last_start = zone.last_start.max(first);
                open += 1;
            }
            zones.push(zone);
        }
    }
    if left > 0 {
        return Err(Wrong("values in a circle", Vec::new()));
    }
    zones.sort_unstable_by_key(|zone| zone.first_end);
    let (certain, other): (Vec<_>, Vec<_>) = zones.into_iter().partition(Zone::is_certain);
    if let Some(two) = certain
        .windows(2)
        .find(|two| two[1].first_end < two[0].last_start)
    {
        let calls = vec![two[0].begins_with, two[1].begins_with];
        return Err(Wrong("two values at the same time", calls));
    }
    // (They are apart, so they are in order by their ends as well.)
    let covers = |start: u64, end: u64| {
        let at = certain.partition_point(|zone| zone.last_start <= end);
        let zone = certain.get(at).filter(|zone| zone.first_end < start);
        zone.map(|zone| zone.begins_with)
    };
    for zone in other {
        if let Some(there) = covers(zone.last_start, zone.first_end) {
            return Err(Wrong(
                "a value within the time of another",
                vec![there, zone.begins_with],
            ));
        }
    }
    for call in calls.iter().filter(|call| call.told == Some(None)) {
        if let Some(there) = covers(call.start, call.end) {
            return Err(Wrong(
                "nothing, where there was a value",
                vec![there, *call],
            ));
        }
    }
    match open > 1 + takers.count() {
        true => Err(Wrong(
            "more values are gone than anybody has taken",
            Vec::new(),
        )),
        false => Ok(()),
    }
}

/// Puts one run in order, from its first writer on: its zone, how many values it has, and whether somebody is known to
/// have ended it.
fn run(values: &HashMap<u64, Value>, first: Call) -> Result<(Zone, usize, bool), Wrong> {
    let mut zone = Zone {
        first_end: first.end,
        last_start: first.start,
        begins_with: first,
    };
    // The earliest instant at which the next call can have taken effect.
    let (mut at, mut writer) = (0, first);
    for len in 0.. {
        zone.add(&writer);
        let after = |call: &Call, at: u64| match at.max(call.start) {
            at if at > call.end => Err(Wrong("too late for what came before", vec![writer, *call])),
            at => Ok(at),
        };
        at = after(&writer, at)?;
        let Op::Put(written) = writer.op else {
            return Ok((zone, len, true));
        };
        let value = &values[&written];
        let mut last = at;
        for reader in &value.readers {
            zone.add(reader);
            last = last.max(after(reader, at)?);
        }
        at = last;
        match value.next {
            Some(next) => writer = next,
            None => return Ok((zone, len + 1, false)),
        }
    }
    unreachable!("each value is in one place of one run")
}

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("history_what_can_be_is_explained", good),
        test("history_what_cannot_be_is_not", bad),
        test("history_is_judged_as_by_trying_all_orders", as_by_search),
    ]
}

fn call(op: Op, told: Option<u64>, start: u64, end: u64) -> Call {
    let told = Some(told);
    Call {
        op,
        told,
        start,
        end,
    }
}

fn dead(op: Op, start: u64, end: u64) -> Call {
    let told = None;
    Call {
        op,
        told,
        start,
        end,
    }
}

fn good() {
    use Op::{Get, Put, Remove};
    let histories: &[&[Call]] = &[
        &[],
        &[
            call(Put(1), None, 1, 4),
            call(Get, None, 2, 3),
            call(Get, Some(1), 2, 3),
        ],
        &[
            call(Put(1), None, 1, 2),
            call(Put(2), Some(1), 3, 4),
            call(Remove, Some(2), 5, 6),
            call(Put(3), None, 7, 8),
        ],
        // Each of these two can be the first.
        &[
            call(Put(1), Some(2), 1, 9),
            call(Put(2), None, 1, 9),
            call(Get, Some(1), 3, 9),
        ],
        &[
            dead(Put(1), 1, 5),
            call(Get, Some(1), 2, 3),
            call(Get, None, 9, 10),
            dead(Remove, 6, 7),
        ],
        &[dead(Put(1), 1, 5), call(Get, None, 6, 7)],
        &[
            call(Put(1), None, 1, 2),
            dead(Put(2), 3, 4),
            call(Put(3), Some(2), 5, 6),
        ],
    ];
    for history in histories {
        assert_eq!(explain(history), Ok(()), "{history:?}");
    }
}

fn bad() {
    use Op::{Get, Put, Remove};
    let histories: &[(&str, &[Call])] = &[
        (
            "circle",
            &[call(Put(1), Some(2), 1, 9), call(Put(2), Some(1), 1, 9)],
        ),
        ("nobody has written", &[call(Get, Some(1), 1, 2)]),
        (
            "same value's place",
            &[
                call(Put(1), None, 1, 2),
                call(Put(2), Some(1), 3, 9),
                call(Remove, Some(1), 3, 9),
            ],
        ),
        // Read before it is written, or after it is gone.
        (
            "too late",
            &[call(Get, Some(1), 1, 2), call(Put(1), None, 3, 4)],
        ),
        (
            "too late",
            &[
                call(Put(1), None, 1, 2),
                call(Remove, Some(1), 3, 4),
                call(Get, Some(1), 5, 6),
            ],
        ),
        (
            "too late",
            &[
                call(Put(1), None, 1, 2),
                call(Put(2), Some(1), 3, 4),
                call(Get, Some(2), 5, 6),
                call(Get, Some(1), 7, 8),
            ],
        ),
        (
            "nothing, where",
            &[
                call(Put(1), None, 1, 2),
                call(Get, None, 3, 4),
                call(Get, Some(1), 5, 6),
            ],
        ),
        (
            "same time",
            &[
                call(Put(1), None, 1, 2),
                call(Put(2), None, 3, 4),
                call(Get, Some(1), 5, 6),
                call(Get, Some(2), 7, 8),
            ],
        ),
        (
            "within the time",
            &[
                call(Put(1), None, 1, 2),
                call(Put(2), None, 3, 9),
                call(Remove, Some(2), 4, 9),
                call(Get, Some(1), 10, 11),
            ],
        ),
        // Nobody has taken it.
        (
            "same time",
            &[call(Put(1), None, 1, 2), call(Put(2), None, 3, 4)],
        ),
        (
            "nothing, where",
            &[call(Put(1), None, 1, 2), call(Get, None, 3, 4)],
        ),
        (
            "more values",
            &[
                call(Put(1), None, 3, 4),
                call(Put(2), None, 5, 6),
                call(Put(3), None, 7, 8),
                dead(Remove, 1, 9),
            ],
        ),
        // It took effect after its death.
        (
            "too late",
            &[dead(Put(1), 2, 3), call(Put(2), Some(1), 0, 1)],
        ),
        (
            "nothing, where",
            &[
                dead(Put(1), 1, 2),
                call(Get, None, 3, 4),
                call(Get, Some(1), 5, 6),
            ],
        ),
    ];
    for (why, history) in histories {
        let Wrong(found, _) = explain(history).expect_err(why);
        assert!(found.contains(why), "{found}: {history:?}");
    }
}

/// Whether there is any order at all: tries them one by one.
fn has_order(calls: &[Call], done: u32, state: Option<u64>) -> bool {
    let left = || (0..calls.len()).filter(|n| done & 1 << n == 0);
    let Some(first_end) = left().map(|n| calls[n].end).min() else {
        return true;
    };
    left().filter(|&n| calls[n].start <= first_end).any(|n| {
        let (call, done) = (&calls[n], done | 1 << n);
        let after = match call.op {
            Op::Get => state,
            Op::Put(value) => Some(value),
            Op::Remove => None,
        };
        let fits = call.told.is_none_or(|told| told == state);
        let never = call.told.is_none() && has_order(calls, done, state);
        never || fits && has_order(calls, done, after)
    })
}

/// Random histories of few calls, of which some are right.
fn as_by_search() {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut found = [0; 2];
    for _ in 0..if cfg!(debug_assertions) {
        60_000
    } else {
        400_000
    } {
        // As it was, at instants in the order of their numbers; and then perhaps something else was told.
        let (mut state, mut calls) = (None, Vec::new());
        for n in 1..=rng.random_range(1..7_u64) {
            let op = [Op::Get, Op::Put(n), Op::Put(n), Op::Remove][rng.random_range(0..4)];
            let told = state;
            state = match op {
                Op::Get => state,
                Op::Put(value) => Some(value),
                Op::Remove => None,
            };
            let start = (10 * n).saturating_sub(rng.random_range(1..25));
            let end = 10 * n + rng.random_range(1..25);
            let is_told = rng.random_range(0..8) > 0;
            calls.push(match is_told {
                true => call(op, told, start, end),
                false => dead(op, start, end),
            });
        }
        // What is there in the end.
        calls.push(call(Op::Get, state, 200, 201));
        if rng.random::<bool>() {
            let n = rng.random_range(0..calls.len());
            if calls[n].told.is_some() {
                let told = rng.random_range(0..calls.len() as u64);
                calls[n].told = Some((told > 0).then_some(told));
            }
        }
        let is_right = has_order(&calls, 0, None);
        found[usize::from(is_right)] += 1;
        let judged = explain(&calls);
        // What is right is never called wrong.
        assert!(!is_right || judged.is_ok(), "{judged:?}: {calls:?}");
        // Of what is wrong only that may pass which the dead can be blamed for.
        let nobody_died = calls.iter().all(|call| call.told.is_some());
        assert!(is_right || judged.is_err() || !nobody_died, "{calls:?}");
    }
    println!("{} right, {} wrong", found[1], found[0]);
    assert!(found.iter().all(|&found| found > 1000));
}
