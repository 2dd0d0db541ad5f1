//! Whether what a map answered can be explained: histories of its keys.
//!
//! A history is linearizable if its operations can be put in an order in which each gives the answer
//! that it gave, and none comes before one that had ended when it began (Herlihy and Wing). A map is if
//! each of its keys is, so one key at a time is looked at.
//!
//! Strictly: an operation that was killed took effect before its death or never. So its end is its
//! death, and its answer is unknown.

use crate::search::{Call, has_order};

/// What a thread asked of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Insert the value if the key is absent.
    Insert(u64),
    /// Set the value, and tell the old one.
    Put(u64),
    /// Set the value `to` if it is `from`, and tell what it was.
    Swap {
        /// The value to replace.
        from: u64,
        /// The value to put in its place.
        to: u64,
    },
    /// Remove the key, and tell the value that it had.
    Remove,
    /// Tell the value.
    Get,
}

/// What it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Whether the key was absent and is inserted now.
    Inserted(bool),
    /// The value before.
    Was(Option<u64>),
    /// That there was one, whichever: no answer of a map, but a question to a history.
    Present,
    /// No cell is free. (Nothing was done.)
    Full,
    /// Nothing: it was killed.
    Died,
}

/// One operation, from its call to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The number of the thread.
    pub thread: usize,
    /// The number of the key.
    pub key: usize,
    /// What was asked.
    pub op: Op,
    /// What was answered.
    pub answer: Answer,
    /// When it was called.
    pub start: usize,
    /// When the answer came, or death.
    pub end: usize,
    /// When nothing of it was left in the way: its end, or if it was killed, when it was recovered.
    pub settled: usize,
    /// How many cells it may have had in hand, one after the other.
    pub cells: usize,
}

impl Call for Record {
    type State = Option<u64>;

    fn span(&self) -> (usize, usize) {
        (self.start, self.end)
    }

    fn may_have_done_nothing(&self) -> bool {
        self.answer == Answer::Died
    }

    fn applied(&self, &state: &Option<u64>) -> Option<Option<u64>> {
        let (answer, next) = match self.op {
            Op::Insert(value) => (Answer::Inserted(state.is_none()), state.or(Some(value))),
            Op::Put(value) => (Answer::Was(state), Some(value)),
            Op::Swap { from, to } if state == Some(from) => (Answer::Was(state), Some(to)),
            Op::Remove => (Answer::Was(state), None),
            Op::Swap { .. } | Op::Get => (Answer::Was(state), state),
        };
        let fits = match self.answer {
            Answer::Died => true,
            Answer::Present => state.is_some(),
            Answer::Full => false,
            _ => self.answer == answer,
        };
        fits.then_some(next)
    }
}

/// A history without an explanation: what happened to one key, in the order of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inexplicable(pub Vec<Record>);

/// Looks for an order of each key's operations. Every key is absent at first.
pub fn explain(history: &[Record]) -> Result<(), Inexplicable> {
    let mut keys: Vec<_> = history.iter().map(|record| record.key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let of_key = history.iter().filter(|record| record.key == key).copied();
        let records: Vec<_> = of_key
            .filter(|record| record.answer != Answer::Full)
            .collect();
        if !has_order(&records, None) {
            let mut records = records;
            records.sort_by_key(|record| record.start);
            return Err(Inexplicable(records));
        }
    }
    Ok(())
}

/// Looks for an answer `Full` when there must have been a free cell.
///
/// It saw each of the cells taken at some instant between its start and its end. So each was the cell
/// of a key that was there when it started, or in the hands of somebody who did something meanwhile.
pub fn wrongly_full(history: &[Record], capacity: usize) -> Option<Record> {
    let full = |record: &&Record| record.answer == Answer::Full;
    let may_be_right = |full: &Record| {
        let overlap = |other: &&Record| {
            *other != full && other.start < full.end && other.settled > full.start
        };
        let in_hand = history.iter().filter(overlap).map(|other| other.cells);
        let mut keys: Vec<_> = history.iter().map(|record| record.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let keys = keys
            .into_iter()
            .filter(|&key| may_be_present(history, key, full.start));
        keys.count() + in_hand.sum::<usize>() >= capacity
    };
    let mut wrong = history
        .iter()
        .filter(full)
        .filter(|&full| !may_be_right(full));
    wrong.next().copied()
}

/// Whether the history allows that the key was there at this instant.
fn may_be_present(history: &[Record], key: usize, instant: usize) -> bool {
    // Between two stamps, so that it overlaps what was going on then and nothing else.
    let of_key = history.iter().filter(|record| record.key == key);
    let mut records: Vec<_> = of_key
        .filter(|record| record.answer != Answer::Full)
        .map(|record| Record {
            start: record.start * 2,
            end: record.end * 2,
            ..*record
        })
        .collect();
    records.push(Record {
        thread: usize::MAX,
        key,
        op: Op::Get,
        answer: Answer::Present,
        start: instant * 2,
        end: instant * 2 + 1,
        settled: instant * 2 + 1,
        cells: 0,
    });
    has_order(&records, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(op: Op, answer: Answer, start: usize, end: usize) -> Record {
        Record {
            thread: 0,
            key: 0,
            op,
            answer,
            start,
            end,
            settled: end,
            cells: 1,
        }
    }

    fn is_explained(history: &[Record]) -> bool {
        explain(history).is_ok()
    }

    const INSERTED: Answer = Answer::Inserted(true);
    const ABSENT: Answer = Answer::Was(None);

    #[test]
    fn one_after_the_other_each_sees_the_one_before() {
        let good = [
            record(Op::Get, ABSENT, 0, 1),
            record(Op::Insert(1), INSERTED, 2, 3),
            record(Op::Insert(2), Answer::Inserted(false), 4, 5),
            record(Op::Put(3), Answer::Was(Some(1)), 6, 7),
            record(Op::Swap { from: 1, to: 4 }, Answer::Was(Some(3)), 8, 9),
            record(Op::Swap { from: 3, to: 5 }, Answer::Was(Some(3)), 10, 11),
            record(Op::Remove, Answer::Was(Some(5)), 12, 13),
            record(Op::Remove, ABSENT, 14, 15),
        ];
        assert!(is_explained(&[]));
        for n in 0..good.len() {
            assert!(is_explained(&good[..=n]));
            // Each of these says something, so none can be left out and none answer something else.
            let mut bad = good[..=n].to_vec();
            bad[n].answer = match bad[n].answer {
                Answer::Inserted(inserted) => Answer::Inserted(!inserted),
                _ => Answer::Was(Some(9)),
            };
            assert!(!is_explained(&bad));
        }
        for n in [1, 3, 5, 6] {
            let mut bad = good.to_vec();
            bad.remove(n);
            assert!(!is_explained(&bad), "without {n}");
        }
    }

    #[test]
    fn who_overlap_come_in_any_order_and_others_do_not() {
        let with = |start, end| {
            is_explained(&[
                record(Op::Insert(1), INSERTED, 0, 3),
                record(Op::Get, ABSENT, start, end),
            ])
        };
        assert!(with(1, 2));
        assert!(with(2, 5));
        assert!(!with(4, 5));
    }

    #[test]
    fn two_readers_agree_on_the_order() {
        let reads = |first, second| {
            is_explained(&[
                record(Op::Insert(1), INSERTED, 0, 9),
                record(Op::Get, first, 1, 2),
                record(Op::Get, second, 3, 4),
            ])
        };
        let present = Answer::Was(Some(1));
        assert!(reads(ABSENT, present));
        assert!(reads(present, present));
        assert!(!reads(present, ABSENT));
    }

    #[test]
    fn two_who_swap_the_same_value_do_not_both_win() {
        let swap = |to, answer, start| record(Op::Swap { from: 1, to }, answer, start, 9);
        let first = record(Op::Insert(1), INSERTED, 0, 1);
        let won = Answer::Was(Some(1));
        assert!(!is_explained(&[first, swap(2, won, 2), swap(3, won, 3)]));
        let lost = Answer::Was(Some(2));
        assert!(is_explained(&[first, swap(2, won, 2), swap(3, lost, 3)]));
    }

    #[test]
    fn who_is_killed_takes_effect_before_death_or_never() {
        let reads = |first, second| {
            is_explained(&[
                record(Op::Insert(1), Answer::Died, 0, 3),
                record(Op::Get, first, 1, 2),
                record(Op::Get, second, 4, 5),
            ])
        };
        let present = Answer::Was(Some(1));
        assert!(reads(ABSENT, ABSENT));
        assert!(reads(ABSENT, present));
        assert!(reads(present, present));
        assert!(!reads(present, ABSENT));
        // Not later than its death.
        let late = |start| {
            is_explained(&[
                record(Op::Insert(1), Answer::Died, 0, 3),
                record(Op::Get, ABSENT, start, start + 1),
                record(Op::Get, present, start + 2, start + 3),
            ])
        };
        assert!(late(2));
        assert!(!late(4));
        // And not twice.
        assert!(!is_explained(&[
            record(Op::Put(1), Answer::Died, 0, 9),
            record(Op::Remove, present, 1, 2),
            record(Op::Remove, present, 3, 4),
        ]));
    }

    #[test]
    fn a_key_says_nothing_of_another() {
        let mut history = [
            record(Op::Insert(1), INSERTED, 0, 1),
            record(Op::Get, ABSENT, 2, 3),
        ];
        assert_eq!(explain(&history), Err(Inexplicable(history.to_vec())));
        history[1].key = 1;
        assert_eq!(explain(&history), Ok(()));
    }

    #[test]
    fn full_needs_as_many_cells_in_use_as_there_are() {
        let full = |start, end| {
            let mut full = record(Op::Insert(9), Answer::Full, start, end);
            full.key = 1;
            full
        };
        let mut history = vec![record(Op::Insert(1), INSERTED, 0, 1), full(2, 3)];
        assert_eq!(explain(&history), Ok(()));
        assert_eq!(wrongly_full(&history, 1), None);
        assert_eq!(wrongly_full(&history, 2), Some(history[1]));
        // Removed before; while it looked; by somebody who was killed then and recovered later.
        let present = Answer::Was(Some(1));
        history = vec![
            record(Op::Insert(1), INSERTED, 0, 1),
            record(Op::Remove, present, 2, 5),
            full(6, 7),
        ];
        assert_eq!(wrongly_full(&history, 1), Some(history[2]));
        history[1].end = 7;
        history[1].settled = 7;
        assert_eq!(wrongly_full(&history, 1), None);
        history[1].end = 5;
        assert_eq!(wrongly_full(&history, 1), None);
    }
}
