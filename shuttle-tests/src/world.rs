//! A table in memory of the model, and what threads do with it, written down.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use forkmap::model::bell::{self, Bells};
use forkmap::model::bytes::Bytes;
use forkmap::model::death::kill_before;
use forkmap::model::map::{At, Full, Table, Target};
use forkmap::model::{Access, Word};

use crate::history::{Answer, Op, Record, explain, wrongly_full};
use crate::program::{Kind, Program, SEED, Step};

/// No thread, but who stands by: before them, and after all of them.
pub const NOBODY: usize = usize::MAX;

/// Words of a journal.
const JOURNAL_WORDS: usize = 8;

/// A table, and what was done with it so far.
///
/// Nothing here is a word of the model but the words of the table, and the rights to recover. So no
/// other thread comes between an operation's last access and its record.
#[derive(Debug)]
pub struct World<const LINE: usize> {
    program: Program,
    words: Vec<Word>,
    mute: Vec<Word>,
    /// Whether a writer is dead and not recovered.
    dead: Vec<AtomicBool>,
    /// The right to recover a writer.
    rights: Vec<shuttle::sync::Mutex<()>>,
    clock: AtomicUsize,
    /// The number of the next value, so that no two are the same.
    next: AtomicUsize,
    records: Mutex<Vec<Record>>,
}

/// What a thread remembers of each key: the value that it has seen last, and where that stood if it could
/// be replaced there.
pub type Memory = Vec<Option<(u64, Option<At>)>>;

impl<const LINE: usize> World<LINE> {
    /// An empty table.
    pub fn new(program: &Program) -> Self {
        let zeros = |words: usize| (0..words).map(|_| Word::new(0)).collect();
        let geometry = &program.geometry;
        let mut words: Vec<Word> = zeros(geometry.words::<LINE>().expect("it is small"));
        // Behind the journals and the buckets: of each line the home, and the tags.
        let homes = geometry.writers * JOURNAL_WORDS + program.lines() * LINE;
        for line in 0..program.lines() {
            words[homes + 2 * line] = Word::new(program.first_home);
        }
        let world = Self {
            program: program.clone(),
            words,
            mute: zeros(bell::WORDS),
            dead: (0..geometry.writers)
                .map(|_| AtomicBool::new(false))
                .collect(),
            rights: (0..geometry.writers)
                .map(|_| shuttle::sync::Mutex::new(()))
                .collect(),
            clock: AtomicUsize::new(0),
            next: AtomicUsize::new(1),
            records: Mutex::new(Vec::new()),
        };
        let homes: usize = world.table().census().probe_lines.iter().sum();
        assert_eq!(homes, program.lines());
        world
    }

    /// A new thread's memory.
    pub fn memory(&self) -> Memory {
        vec![None; self.program.keys.len()]
    }

    fn view(&self, access: Access) -> Table<'_, LINE> {
        let bells = Bells::new(&self.mute).mute();
        Table::new(&self.words, &self.program.geometry, bells, SEED, access)
    }

    fn table(&self) -> Table<'_, LINE> {
        self.view(Access::ReadWrite)
    }

    fn target(&self, key: usize) -> Target<'_> {
        self.target_of(&self.program.keys[key])
    }

    fn target_of<'k>(&self, key: &'k [u8]) -> Target<'k> {
        let one_word = self.program.geometry.shape.one_word_keys;
        self.table().target(key, one_word)
    }

    fn stamp(&self) -> usize {
        self.clock.fetch_add(1, Relaxed)
    }

    fn write_down(&self, record: Record) {
        let mut records = self.records.lock().expect("nobody panics in here");
        records.push(record);
    }

    /// What was done so far.
    pub fn history(&self) -> Vec<Record> {
        self.records.lock().expect("nobody panics in here").clone()
    }

    /// The bytes of a value: two words that must match. It says whose it is, key and operation.
    fn value(&self, key: usize, number: u64) -> Vec<u8> {
        let value = (key as u64) << 32 | number;
        let mut bytes = Vec::from(value.to_le_bytes());
        bytes.extend(check_word(value).to_le_bytes());
        if self.program.geometry.shape.varying_values {
            bytes.resize(16 + number as usize % 5, number as u8);
        }
        bytes
    }

    /// The value that these bytes are, which must be whole and of this key.
    fn read(&self, key: usize, seen: &Seen) -> u64 {
        let word =
            |n: usize| u64::from_le_bytes(seen.bytes[n * 8..][..8].try_into().expect("eight"));
        let value = word(0);
        assert_eq!(word(1), check_word(value), "torn: {seen:x?}");
        assert_eq!(value >> 32, key as u64, "the value of another key");
        let number = value & 0xFFFF_FFFF;
        let bytes = self.value(key, number);
        assert_eq!(seen.bytes[..seen.len], bytes, "torn: {seen:x?}");
        number
    }

    /// Does one step as `writer`, who is killed before write number `fate` if it comes to that. Tells
    /// whether it lives.
    pub fn step(
        &self,
        writer: usize,
        step: Step,
        fate: Option<usize>,
        memory: &mut Memory,
    ) -> bool {
        let key = step.key;
        let number = self.next.fetch_add(1, Relaxed) as u64;
        let op = match step.kind {
            Kind::Get => return self.get(writer, key, Access::ReadWrite, memory),
            Kind::GetReadOnly => return self.get(writer, key, Access::ReadOnly, memory),
            Kind::Visit => return self.visit(writer),
            Kind::Insert => Op::Insert(number),
            Kind::Put => Op::Put(number),
            Kind::Swap => match memory[key] {
                Some((from, _)) => Op::Swap { from, to: number },
                None => Op::Put(number),
            },
            Kind::Remove => Op::Remove,
        };
        let cells = Cell::new(0);
        let at = Cell::new(memory[key].and_then(|(_, at)| at));
        let start = self.stamp();
        let act = || self.act(writer, key, op, number, &at, &cells);
        let answer = match fate {
            Some(write) => kill_before(write, act).unwrap_or(Answer::Died),
            None => act(),
        };
        let end = self.stamp();
        let died = answer == Answer::Died;
        let settled = if died { usize::MAX } else { end };
        self.write_down(Record {
            thread: writer,
            key,
            op,
            answer,
            start,
            end,
            settled,
            cells: cells.get(),
        });
        let value = match (op, answer) {
            (Op::Insert(to), Answer::Inserted(true)) | (Op::Put(to), Answer::Was(_)) => Some(to),
            (Op::Swap { from, to }, Answer::Was(Some(was))) if was == from => Some(to),
            (Op::Remove, Answer::Was(_)) => None,
            (_, Answer::Was(was)) => was,
            _ => memory[key].map(|(value, _)| value),
        };
        // (Who died may have looked at a later value than the one that is remembered.)
        let at = at.get().filter(|_| answer != Answer::Died);
        memory[key] = value.map(|value| (value, at));
        if died {
            self.dead[writer].store(true, Relaxed);
        }
        !died
    }

    /// `at` is where the value stands that the thread has seen last, if it knows.
    fn act(
        &self,
        writer: usize,
        key: usize,
        op: Op,
        number: u64,
        at: &Cell<Option<At>>,
        cells: &Cell<usize>,
    ) -> Answer {
        let (table, target) = (self.table(), self.target(key));
        let find = || {
            let found = table.find_live(&target, Seen::look);
            at.set(found.as_ref().map(|(at, _)| *at));
            found.map(|(at, seen)| (at, self.read(key, &seen)))
        };
        // What was found when it was committed and not live yet can be removed, too; and so can what an
        // iteration came by.
        let find_to_remove = || match number % 3 {
            0 => find(),
            1 => {
                let found = table.find(&target, Seen::look);
                found.map(|(at, seen)| (at, self.read(key, &seen)))
            }
            _ => {
                let name = &self.program.keys[key];
                let found = table.visit(0, |cell| {
                    let mut found = Vec::new();
                    cell.key().append_to(&mut found);
                    (found == *name).then(|| Seen::look(cell.value()))
                });
                found.map(|(at, seen)| (at, self.read(key, &seen)))
            }
        };
        let tries = || cells.set(cells.get() + 1);
        let insert = |number| {
            tries();
            at.set(None);
            table.insert(writer, &target, &self.value(key, number))
        };
        let replace = |old: At, number| {
            tries();
            at.set(table.replace(writer, &target, old, &self.value(key, number)));
            at.get().is_some()
        };
        let remove = |old: At| {
            tries();
            at.set(None);
            table.remove(writer, &target, old)
        };
        // Without looking again: it may have been gone for long.
        if let (Op::Swap { from, to }, Some(old)) = (op, at.get()) {
            if replace(old, to) {
                return Answer::Was(Some(from));
            }
        }
        loop {
            let answer = match op {
                Op::Insert(to) => return insert(to).map_or(Answer::Full, Answer::Inserted),
                Op::Put(to) => match find() {
                    Some((at, was)) => replace(at, to).then_some(Answer::Was(Some(was))),
                    None => match insert(to) {
                        Err(Full) => return Answer::Full,
                        Ok(inserted) => inserted.then_some(Answer::Was(None)),
                    },
                },
                Op::Swap { from, to } => match find() {
                    Some((at, was)) if was == from => {
                        replace(at, to).then_some(Answer::Was(Some(was)))
                    }
                    found => return Answer::Was(found.map(|(_, was)| was)),
                },
                Op::Remove => match find_to_remove() {
                    Some((at, was)) => remove(at).then_some(Answer::Was(Some(was))),
                    None => return Answer::Was(None),
                },
                Op::Get => return Answer::Was(find().map(|(_, was)| was)),
            };
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    fn get(&self, thread: usize, key: usize, access: Access, memory: &mut Memory) -> bool {
        let (table, target) = (self.view(access), self.target(key));
        let start = self.stamp();
        let found = table.find(&target, Seen::look);
        let end = self.stamp();
        let was = found.map(|(_, seen)| self.read(key, &seen));
        memory[key] = was.map(|value| (value, None));
        self.write_down(read(thread, key, was, start, end));
        true
    }

    /// Iterates. Each key that it comes by was there when it did; each that it does not was gone for an
    /// instant, or it would have stood in one bucket all the time.
    fn visit(&self, thread: usize) -> bool {
        let table = self.table();
        let first = self.stamp();
        let mut missed: Vec<_> = (0..self.program.keys.len()).collect();
        let mut from = 0;
        loop {
            let start = self.stamp();
            let found = table.visit(from, |cell| {
                let mut key = Vec::new();
                cell.key().append_to(&mut key);
                Some((key, Seen::look(cell.value())))
            });
            let Some((at, (name, seen))) = found else {
                break;
            };
            let end = self.stamp();
            let mut keys = self.program.keys.iter();
            let key = keys.position(|key| *key == name);
            let key = key.unwrap_or_else(|| panic!("no key: {name:x?}"));
            let was = self.read(key, &seen);
            self.write_down(read(thread, key, Some(was), start, end));
            missed.retain(|missed| *missed != key);
            from = at.next();
        }
        let last = self.stamp();
        for key in missed {
            self.write_down(read(thread, key, None, first, last));
        }
        true
    }

    /// A writer that is dead and not recovered, if there is one.
    pub fn dead(&self) -> Option<usize> {
        (0..self.dead.len()).find(|&writer| self.is_dead(writer))
    }

    /// Whether the writer is dead and not recovered.
    pub fn is_dead(&self, writer: usize) -> bool {
        self.dead[writer].load(Relaxed)
    }

    /// Recovers the writer, unless somebody else has; and is killed before write number `fate` if it
    /// comes to that.
    pub fn recover(&self, writer: usize, fate: Option<usize>) {
        let right = self.rights[writer].lock().expect("nobody panics in here");
        if self.is_dead(writer) {
            let recover = || self.table().recover(writer);
            if kill_before(fate.unwrap_or(usize::MAX), recover).is_some() {
                let now = self.stamp();
                let mut records = self.records.lock().expect("nobody panics in here");
                let of_dead = records.iter_mut().filter(|record| record.thread == writer);
                for record in of_dead.filter(|record| record.settled == usize::MAX) {
                    record.settled = now;
                }
                drop(records);
                self.dead[writer].store(false, Relaxed);
            }
        }
        drop(right);
    }

    /// All is said and done, and nobody is dead: every invariant, and what is there.
    pub fn check(&self) {
        let table = self.table();
        assert_eq!(table.check(), [], "at rest");
        let mut memory = self.memory();
        for key in 0..self.program.keys.len() {
            self.get(NOBODY, key, Access::ReadWrite, &mut memory);
        }
        self.visit(NOBODY);
        let history = self.history();
        if let Err(inexplicable) = explain(&history) {
            panic!("nothing explains {}", lines(&inexplicable.0));
        }
        if let Some(full) = wrongly_full(&history, table.capacity()) {
            panic!("wrongly full: {}", lines(&[full]));
        }

        // There is room for exactly as many as are missing, and for each once more when they are gone.
        let mut present = memory.iter().flatten().count();
        assert_eq!(table.census().keys, present);
        for round in 0..2 {
            let mut names = (0..).map(|n: u32| [n.to_le_bytes(), [0xFF - round; 4]].concat());
            let mut inserted = Vec::new();
            loop {
                let name = names.next().expect("there is no end to them");
                let writer = inserted.len() % table.writers();
                let value = self.value(0, 0);
                let name = &name[..self.program.geometry.shape.key_bytes];
                match table.insert(writer, &self.target_of(name), &value) {
                    Err(Full) => break,
                    Ok(is_new) => assert!(is_new, "a key that nobody knows is there"),
                }
                inserted.push(name.to_vec());
            }
            assert_eq!(present + inserted.len(), table.capacity(), "full too early");
            if round == 0 {
                let known = self.program.keys.iter().enumerate();
                let known = known.filter(|(key, _)| memory[*key].is_some());
                let names = inserted.iter().chain(known.map(|(_, name)| name));
                for name in names {
                    let target = self.target_of(name);
                    let (at, ()) = table.find_live(&target, |_| ()).expect("it is there");
                    assert!(table.remove(0, &target, at), "nobody else is there");
                }
                present = 0;
                assert_eq!(table.check(), [], "empty");
            }
        }
        assert_eq!(table.check(), [], "full");
    }
}

fn check_word(value: u64) -> u64 {
    !value.rotate_left(17)
}

fn read(thread: usize, key: usize, was: Option<u64>, start: usize, end: usize) -> Record {
    Record {
        thread,
        key,
        op: Op::Get,
        answer: Answer::Was(was),
        start,
        end,
        settled: end,
        cells: 0,
    }
}

/// Records, one a line.
pub fn lines(records: &[Record]) -> String {
    records
        .iter()
        .map(|record| format!("\n{record:?}"))
        .collect()
}

/// The bytes of a value as a look saw them, perhaps while they were being overwritten.
#[derive(Debug)]
struct Seen {
    bytes: [u8; 20],
    len: usize,
}

impl Seen {
    fn look(value: Bytes<'_>) -> Self {
        let mut seen = Self {
            bytes: [0; 20],
            len: value.len(),
        };
        let len = value.len().min(seen.bytes.len());
        value.copy_to(&mut seen.bytes[..len]);
        seen
    }
}
