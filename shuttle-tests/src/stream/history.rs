//! What is done with a dictionary, and whether its answers can be explained.
//!
//! Each operation tells everything that was there at its instant; so it is the whole dictionary that must be
//! linearizable, and not each key by itself.

use crate::search::{Call, has_order};

/// What a process knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replica {
    /// The value of each key.
    pub values: Vec<Option<u64>>,
    /// How many changes it has seen: so one that is seen twice is noticed, whatever it says.
    pub changes: u64,
}

impl Replica {
    /// One without keys, of so many.
    pub fn new(keys: usize) -> Self {
        Self {
            values: vec![None; keys],
            changes: 0,
        }
    }

    /// Does what a record says.
    pub fn apply(&mut self, record: &[u8]) {
        for change in record.chunks(CHANGE_BYTES) {
            let (key, number) = change.split_first().expect("one byte at least");
            let number = u64::from_le_bytes(number.try_into().expect("a whole change"));
            self.values[usize::from(*key)] = (number != 0).then_some(number);
        }
        self.changes += 1;
    }
}

/// A key, and its new value; 0: it is removed.
const CHANGE_BYTES: usize = 9;

fn write(record: &mut Vec<u8>, key: usize, value: Option<u64>) {
    record.push(key as u8);
    record.extend(value.unwrap_or(0).to_le_bytes());
}

/// What is asked of a dictionary. Values are never 0, and no two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Give a key a value.
    Put {
        /// Which one.
        key: usize,
        /// Its value.
        to: u64,
    },
    /// Remove a key, if it is there.
    Remove {
        /// Which one.
        key: usize,
    },
    /// Give one key the value that another one has, and that one a new value: both at once.
    Move {
        /// The key that has the value, and gets a new one.
        from: usize,
        /// The key that gets it.
        to: usize,
        /// The new value.
        new: u64,
    },
    /// Give all keys values, from this one on.
    PutAll {
        /// The value of the first key.
        first: u64,
    },
    /// Nothing, but tell what is there.
    Read,
}

impl Op {
    /// The record that does it to what is there: empty, if there is nothing to do.
    pub fn record(self, replica: &Replica) -> Vec<u8> {
        let mut record = Vec::new();
        match self {
            Op::Put { key, to } => write(&mut record, key, Some(to)),
            Op::Remove { key } if replica.values[key].is_some() => write(&mut record, key, None),
            Op::Move { from, to, new } => {
                write(&mut record, to, replica.values[from]);
                write(&mut record, from, Some(new));
            }
            Op::PutAll { first } => {
                for key in 0..replica.values.len() {
                    write(&mut record, key, Some(first + key as u64));
                }
            }
            Op::Remove { .. } | Op::Read => {}
        }
        record
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This was there before.
    Was(Replica),
    /// It was killed.
    Died,
}

/// One operation, from its call to its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of the thread.
    pub thread: usize,
    /// What was asked.
    pub op: Op,
    /// What was answered.
    pub answer: Answer,
    /// When it was called.
    pub start: usize,
    /// When the answer came, or death.
    pub end: usize,
}

impl Call for Record {
    type State = Replica;

    fn span(&self) -> (usize, usize) {
        (self.start, self.end)
    }

    fn may_have_done_nothing(&self) -> bool {
        self.answer == Answer::Died
    }

    fn applied(&self, state: &Replica) -> Option<Replica> {
        if let Answer::Was(was) = &self.answer
            && was != state
        {
            return None;
        }
        let mut state = state.clone();
        let record = self.op.record(&state);
        if !record.is_empty() {
            state.apply(&record);
        }
        Some(state)
    }
}

/// Whether there is an order of all operations that explains their answers. No key is there at first.
pub fn is_explained(history: &[Record], keys: usize) -> bool {
    has_order(history, Replica::new(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(op: Op, was: Option<(&[Option<u64>], u64)>, start: usize, end: usize) -> Record {
        let answer = was.map_or(Answer::Died, |(values, changes)| {
            let values = values.to_vec();
            Answer::Was(Replica { values, changes })
        });
        Record {
            thread: 0,
            op,
            answer,
            start,
            end,
        }
    }

    const EMPTY: &[Option<u64>] = &[None, None];
    const PUT: Op = Op::Put { key: 0, to: 1 };
    const MOVE: Op = Op::Move {
        from: 0,
        to: 1,
        new: 2,
    };

    #[test]
    fn one_after_the_other_each_sees_all_that_came_before() {
        let good = [
            record(PUT, Some((EMPTY, 0)), 0, 1),
            record(MOVE, Some((&[Some(1), None], 1)), 2, 3),
            record(Op::Remove { key: 0 }, Some((&[Some(2), Some(1)], 2)), 4, 5),
            // It is gone already: no change.
            record(Op::Remove { key: 0 }, Some((&[None, Some(1)], 3)), 6, 7),
            record(Op::PutAll { first: 8 }, Some((&[None, Some(1)], 3)), 8, 9),
            record(Op::Read, Some((&[Some(8), Some(9)], 4)), 10, 11),
        ];
        for n in 0..=good.len() {
            assert!(is_explained(&good[..n], 2));
        }
        for n in [0, 1, 2, 4] {
            let mut bad = good.to_vec();
            bad.remove(n);
            assert!(!is_explained(&bad, 2), "without {n}");
            // Done twice.
            bad.insert(n, good[n].clone());
            bad.insert(n, good[n].clone());
            assert!(!is_explained(&bad, 2), "{n} twice");
        }
    }

    #[test]
    fn two_keys_of_one_transaction_are_never_seen_apart() {
        let with = |values: &[Option<u64>], changes| {
            is_explained(
                &[
                    record(PUT, Some((EMPTY, 0)), 0, 1),
                    record(MOVE, None, 2, 9),
                    record(Op::Read, Some((values, changes)), 3, 4),
                ],
                2,
            )
        };
        assert!(with(&[Some(1), None], 1) && with(&[Some(2), Some(1)], 2));
        assert!(!with(&[Some(2), None], 2) && !with(&[Some(1), Some(1)], 2));
    }

    #[test]
    fn who_is_killed_takes_effect_before_death_or_never() {
        let reads = |start, first, second| {
            let read = |start, is_there: bool| {
                let seen: (&[_], _) = if is_there {
                    (&[Some(1), None], 1)
                } else {
                    (EMPTY, 0)
                };
                record(Op::Read, Some(seen), start, start + 1)
            };
            let died = record(PUT, None, 0, 3);
            is_explained(&[died, read(start, first), read(5, second)], 2)
        };
        assert!(reads(1, false, true) && reads(1, true, true) && reads(1, false, false));
        assert!(!reads(1, true, false) && !reads(4, false, true));
    }
}
