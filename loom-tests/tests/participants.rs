//! The edge `register`: an identity belongs to one, who is alive when it is seen, and never again to
//! anybody else.
#![cfg(loom)]

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use forkmap::model::participants::{ByteLocks, ParticipantId, Participants, RECORD_WORDS};
use forkmap::model::participants::{life, right};
use forkmap::model::{Access, Word};
use forkmap_loom_tests::{BOTH, explore, join, spawn};
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Incarnations of a slot that a model may reach.
const INCARNATIONS: u64 = 4;

/// A segment, to those who register in it: the table, and the kernel's locks on bytes.
#[derive(Debug)]
struct Segment {
    words: Vec<Word>,
    /// Each with the number of its holder, 0 for none. They order nothing but what is done under the
    /// lock of one byte; the kernel, which has one lock for all locks of a file, orders more.
    bytes: Vec<(u64, Word)>,
    /// Where an identity is published, as it is in the word of a lock.
    found: Word,
}

/// An open file description of it, which holds locks. Numbered from 1, as process and token are.
#[derive(Debug)]
struct Description<'a> {
    segment: &'a Segment,
    number: u64,
    /// Calls of the kernel that are left until it dies or stops.
    calls: Cell<usize>,
    end: End,
}

/// What ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The kernel drops its locks, the older ones first or last.
    Dies {
        older_first: bool,
    },
    Stops,
}

const DEATHS: [End; 2] = [
    End::Dies { older_first: true },
    End::Dies { older_first: false },
];

fn id(slot: usize, incarnation: u64) -> ParticipantId {
    ParticipantId { slot, incarnation }
}

fn pid(number: u64) -> u32 {
    100 + number as u32
}

impl Segment {
    fn new(slots: usize) -> Arc<Self> {
        let lives = |slot| (1..=INCARNATIONS).map(move |incarnation| life(id(slot, incarnation)));
        // Who comes first may ask for the life of number 0, which nobody has.
        let bytes = |slot| lives(slot).chain([right(slot), life(id(slot, 0))]);
        let bytes = (0..slots).flat_map(bytes);
        Arc::new(Self {
            words: (0..slots * RECORD_WORDS).map(|_| Word::new(0)).collect(),
            bytes: bytes.map(|byte| (byte, Word::new(0))).collect(),
            found: Word::new(0),
        })
    }

    /// Its first participant of slot 0 is number 9, and has died with its identity.
    fn with_a_dead_one(slots: usize) -> Arc<Self> {
        let segment = Self::new(slots);
        assert_eq!(segment.register(9), Some(id(0, 1)));
        segment.drop_locks(9, true);
        segment
    }

    fn table(&self) -> Participants<'_> {
        self.table_with(Access::ReadWrite)
    }

    fn table_with(&self, access: Access) -> Participants<'_> {
        Participants::new(&self.words, access)
    }

    fn word(&self, byte: u64) -> &Word {
        let found = self.bytes.iter().find(|(b, _)| *b == byte);
        &found.expect("a byte of this segment").1
    }

    /// Number `number`, who lives.
    fn open(&self, number: u64) -> Description<'_> {
        self.open_until(number, usize::MAX, End::Stops)
    }

    /// Number `number`, who meets its end at its kernel call number `calls`, from 0 on.
    fn open_until(&self, number: u64, calls: usize, end: End) -> Description<'_> {
        Description {
            segment: self,
            number,
            calls: Cell::new(calls),
            end,
        }
    }

    fn register(&self, number: u64) -> Option<ParticipantId> {
        self.open(number).register().expect("it lives")
    }

    /// What the kernel does when the last reference to description `number` goes.
    fn drop_locks(&self, number: u64, older_first: bool) {
        // Rights are taken before lives, and stand behind them in a slot.
        let drop_lock = |(_, word): &(u64, Word)| {
            if word.load(Relaxed) == number {
                word.store(0, Release);
            }
        };
        if older_first {
            self.bytes.iter().rev().for_each(drop_lock);
        } else {
            self.bytes.iter().for_each(drop_lock);
        }
    }

    /// Number `number` goes of its own accord.
    fn leave(&self, number: u64, id: ParticipantId) {
        self.table().leave(id);
        self.drop_locks(number, true);
    }

    /// Whether somebody holds the byte of `id`.
    fn is_alive(&self, id: ParticipantId) -> bool {
        self.open(1000).is_locked(life(id)).expect("it lives")
    }

    /// At rest: `number` lives as `id`, by all accounts.
    fn check(&self, number: u64, id: ParticipantId) {
        let table = self.table();
        assert!(self.is_alive(id));
        assert_eq!(table.pid(id), Some(pid(number)));
        assert!(table.belongs(id, number));
        assert_eq!(self.word(life(id)).load(Relaxed), number);
    }
}

impl Description<'_> {
    fn register(&self) -> io::Result<Option<ParticipantId>> {
        let table = self.segment.table();
        table.register(pid(self.number), self.number, self, |_| ())
    }

    /// Begins a kernel call.
    fn call(&self) -> io::Result<()> {
        match self.calls.get() {
            0 => {
                if let End::Dies { older_first } = self.end {
                    self.segment.drop_locks(self.number, older_first);
                }
                Err(io::Error::other("gone"))
            }
            calls => {
                self.calls.set(calls - 1);
                Ok(())
            }
        }
    }
}

impl ByteLocks for Description<'_> {
    fn try_lock(&self, byte: u64) -> io::Result<bool> {
        self.call()?;
        let word = self.segment.word(byte);
        let taken = word.compare_exchange(0, self.number, AcqRel, Acquire);
        Ok(taken.is_ok() || taken == Err(self.number))
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        self.call()?;
        let word = self.segment.word(byte);
        assert_eq!(word.load(Relaxed), self.number);
        word.store(0, Release);
        Ok(())
    }

    fn is_locked(&self, byte: u64) -> io::Result<bool> {
        self.call()?;
        let holder = self.segment.word(byte).load(Acquire);
        Ok(holder != 0 && holder != self.number)
    }
}

/// At least the number of kernel calls of a registration in one slot: looks whether its participant
/// lives, the right, the life, and the right given back.
const CALLS: usize = 5;

#[test]
fn one_slot_goes_to_one_of_two() {
    explore("two register, one slot", None, 50, || {
        let segment = Segment::new(1);
        let ids = join([1, 2].map(|n| spawn(&segment, move |segment| segment.register(n))));
        match ids {
            [Some(one), None] => segment.check(1, one),
            [None, Some(one)] => segment.check(2, one),
            other => panic!("{other:?}"),
        }
        assert!(ids.contains(&Some(id(0, 1))));
        assert_eq!(segment.word(right(0)).load(Relaxed), 0);
    });
}

#[test]
fn two_slots_go_to_two() {
    explore("two register, two slots", None, 50, || {
        let segment = Segment::new(2);
        let ids = join([1, 2].map(|n| spawn(&segment, move |segment| segment.register(n))));
        let [one, two] = ids.map(|id| id.expect("there is room for both"));
        assert_ne!(one.slot, two.slot);
        segment.check(1, one);
        segment.check(2, two);
    });
}

#[test]
fn of_three_for_two_slots_two_get_one_each() {
    explore("three register, two slots", Some(2), 1_000, || {
        let segment = Segment::new(2);
        let ids = join([1, 2, 3].map(|n| spawn(&segment, move |segment| segment.register(n))));
        let mut slots = [false; 2];
        for (n, id) in (1..).zip(ids) {
            if let Some(id) = id {
                assert!(!std::mem::replace(&mut slots[id.slot], true), "{ids:?}");
                segment.check(n, id);
            }
        }
        assert_eq!(slots, [true; 2]);
    });
}

#[test]
fn the_slot_of_a_dead_one_goes_to_one_of_two() {
    explore("two register, the slot of a dead one", None, 20, || {
        let segment = Segment::with_a_dead_one(1);
        let ids = join([1, 2].map(|n| spawn(&segment, move |segment| segment.register(n))));
        match ids {
            [Some(one), None] => segment.check(1, one),
            [None, Some(one)] => segment.check(2, one),
            other => panic!("{other:?}"),
        }
        assert!(ids.contains(&Some(id(0, 2))));
        // The dead one stays dead, and who it was is forgotten.
        assert!(!segment.is_alive(id(0, 1)));
        assert_eq!(segment.table().pid(id(0, 1)), None);
        assert!(!segment.table().belongs(id(0, 1), 9));
    });
}

/// Who looks at it all the while: an old identity never looks alive again, and has its own pid or
/// none.
#[test]
fn a_dead_identity_never_comes_alive() {
    for access in BOTH {
        explore(
            &format!("register over a dead one, {access:?}"),
            None,
            10,
            move || {
                let segment = Segment::with_a_dead_one(1);
                let newcomer = spawn(&segment, |segment| {
                    assert_eq!(segment.register(1), Some(id(0, 2)));
                });
                let observer = spawn(&segment, move |segment| {
                    let table = segment.table_with(access);
                    for _ in 0..2 {
                        assert!(!segment.is_alive(id(0, 1)));
                        assert!(matches!(table.pid(id(0, 1)), None | Some(109)));
                        assert!(matches!(table.pid(id(0, 2)), None | Some(101)));
                        // Another thread of the newcomer asks. (Not on read-only pages, where
                        // nobody asks.)
                        let read_only = access == Access::ReadOnly;
                        assert!(read_only || !table.belongs(id(0, 1), 1));
                    }
                });
                join([newcomer, observer]);
            },
        );
    }
}

/// Whoever finds an identity, in the table or in some other word, finds it alive, and finds its
/// record.
#[test]
fn whoever_finds_an_identity_finds_it_alive() {
    for (state, incarnation) in [("a new slot", 1), ("a dead one's slot", 2)] {
        explore(&format!("find in {state}"), None, 50, move || {
            let segment = match incarnation {
                1 => Segment::new(1),
                _ => Segment::with_a_dead_one(1),
            };
            let newcomer = spawn(&segment, |segment| {
                let id = segment.register(1).unwrap();
                segment.found.store(id.bits(), Release);
            });
            let observer = spawn(&segment, move |segment| {
                let table = segment.table();
                let found = segment.found.load(Acquire);
                if found != 0 {
                    let found = ParticipantId::from_bits(found);
                    segment.check(1, found);
                    assert!(!table.belongs(found, 9), "taken for its predecessor");
                    assert_eq!(table.record(0).unwrap().id, found);
                }
                let id = id(0, incarnation);
                if let Some(record) = table.record(0).filter(|record| record.id == id) {
                    assert!(segment.is_alive(record.id));
                    assert!(matches!(record.pid, None | Some(101)));
                }
            });
            join([newcomer, observer]);
        });
    }
}

#[test]
fn a_full_table_stays_as_it_is() {
    explore("two register in a full table", None, 2, || {
        let segment = Segment::new(1);
        let living = segment.register(9).unwrap();
        let ids = join([1, 2].map(|n| spawn(&segment, move |segment| segment.register(n))));
        assert_eq!(ids, [None, None]);
        segment.check(9, living);
    });
}

/// One leaves while another comes: that one gets the slot or is refused, and who left does not take
/// the newcomer for itself.
#[test]
fn who_has_left_makes_room() {
    for slots in [1, 2] {
        explore(
            &format!("leave against register, {slots} slots"),
            None,
            20,
            move || {
                let segment = Segment::new(slots);
                let old = segment.register(9).unwrap();
                assert_eq!(old, id(0, 1));
                let leaver = spawn(&segment, move |segment| {
                    segment.leave(9, old);
                    // The same process, by way of another attachment, lists the table.
                    let table = segment.table();
                    let listed = table.record(0).expect("it had one");
                    assert!(!table.belongs(listed.id, 9));
                    None
                });
                let newcomer = spawn(&segment, |segment| segment.register(1));
                let [_, new] = join([leaver, newcomer]);
                match new {
                    None => assert_eq!(slots, 1),
                    Some(new) => {
                        assert!(new == id(0, 2) || new == id(1, 1), "{new:?}");
                        segment.check(1, new);
                    }
                }
                assert!(!segment.is_alive(old));
                // Whoever comes now gets a slot, unless it is the only one and taken.
                let late = segment.register(2);
                assert_eq!(late.is_some(), slots == 2 || new.is_none());
            },
        );
    }
}

/// One dies at one of its kernel calls: the other gets a slot in any case if there are two, and after
/// that there is room for who comes next.
#[test]
fn a_registrant_that_dies_takes_no_slot_with_it() {
    for slots in [1, 2] {
        for end in DEATHS {
            for calls in 0..=CALLS {
                explore(
                    &format!(
                        "register against one that dies at call {calls}, {slots} slots, {end:?}"
                    ),
                    Some(3),
                    2,
                    move || {
                        let segment = Segment::with_a_dead_one(slots);
                        let dying = spawn(&segment, move |segment| {
                            let dying = segment.open_until(8, calls, end);
                            let result = dying.register();
                            // At the latest now.
                            if let End::Dies { older_first } = end {
                                segment.drop_locks(8, older_first);
                            }
                            result.ok().flatten()
                        });
                        let other = spawn(&segment, |segment| segment.register(1));
                        let [old, new] = join([dying, other]);
                        if let Some(new) = new {
                            segment.check(1, new);
                        }
                        assert!(new.is_some() || slots == 1, "refused for a dead one");
                        assert!(old.is_none_or(|old| !segment.is_alive(old) && Some(old) != new));
                        for slot in 0..slots {
                            assert_eq!(segment.word(right(slot)).load(Relaxed), 0);
                        }
                        // All slots but that of the other one are there for the next.
                        let next = segment.register(2);
                        assert_eq!(next.is_some(), slots == 2 || new.is_none());
                        if let Some(next) = next {
                            segment.check(2, next);
                            assert!(Some(next) != new && Some(next) != old);
                        }
                    },
                );
            }
        }
    }
}

/// One dies between two of its stores. (By hand: nothing in the algorithm can be made to end there.)
#[test]
fn a_record_that_is_half_written_belongs_to_nobody() {
    for end in DEATHS {
        for stores in 0..=3 {
            let name = format!("register against one that dies after {stores} stores, {end:?}");
            explore(&name, Some(4), 2, move || {
                let segment = Segment::with_a_dead_one(1);
                let dying = spawn(&segment, move |segment| {
                    let dying = segment.open(8);
                    if !dying.try_lock(right(0)).unwrap() {
                        return None;
                    }
                    let incarnation = segment.table().record(0).unwrap().id.incarnation;
                    if dying.is_locked(life(id(0, incarnation))).unwrap() {
                        dying.unlock(right(0)).unwrap();
                        return None;
                    }
                    let id = id(0, incarnation + 1);
                    assert!(dying.try_lock(life(id)).unwrap());
                    let record = [id.incarnation, id.incarnation << 32 | u64::from(pid(8)), 8];
                    for (word, value) in segment.words.iter().zip(record).take(stores) {
                        word.store(value, Release);
                    }
                    if let End::Dies { older_first } = end {
                        segment.drop_locks(8, older_first);
                    }
                    (stores > 0).then_some(id)
                });
                let other = spawn(&segment, |segment| segment.register(1));
                let [old, new] = join([dying, other]);
                if let Some(new) = new {
                    segment.check(1, new);
                    assert_ne!(Some(new), old);
                }
                assert!(old.is_none_or(|old| !segment.is_alive(old)));
                let next = segment.register(2);
                assert!(next.is_some() != new.is_some());
                for id in [old, Some(id(0, 1))].into_iter().flatten() {
                    assert!(!segment.is_alive(id));
                    assert!(!segment.table().belongs(id, 8));
                }
            });
        }
    }
}

/// One is stopped at one of its kernel calls, and never goes on: the other takes another slot, or
/// none if there is none, but does not wait.
#[test]
fn a_registrant_that_stops_is_in_the_way_of_one_slot_only() {
    for slots in [1, 2] {
        for calls in 0..=CALLS {
            explore(
                &format!("register against one that stops at call {calls}, {slots} slots"),
                Some(4),
                2,
                move || {
                    let segment = Segment::with_a_dead_one(slots);
                    let stops = spawn(&segment, move |segment| {
                        let stopped = segment.open_until(8, calls, End::Stops);
                        stopped.register().ok().flatten()
                    });
                    let other = spawn(&segment, |segment| segment.register(1));
                    let [stopped, new] = join([stops, other]);
                    match new {
                        Some(new) => {
                            assert_ne!(Some(new), stopped);
                            segment.check(1, new);
                        }
                        None => assert_eq!(slots, 1, "one slot is left"),
                    }
                    // What the stopped one has got, it keeps.
                    if let Some(stopped) = stopped {
                        segment.check(8, stopped);
                    }
                },
            );
        }
    }
}
