//! What the processes share: the control, the generations, their names, and who is dead; and what was done.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use forkmap::model::stream::control::Control;
use forkmap::model::stream::log::{self, Log, record_words};
use forkmap::model::stream::switch::{self, Generations};
use forkmap::model::{Access, Word};
use shuttle::sync::atomic::Ordering::SeqCst;

pub(super) use super::history::Replica;
use super::history::{Answer, Op, Record};
use super::program::Shape;

/// More generations than any program builds.
const GENERATIONS: usize = 1000;

/// States of a name.
const NEVER: u64 = 0;
const THERE: u64 = 1;
const REMOVED: u64 = 2;

/// A generation.
#[derive(Debug)]
struct Stored {
    previous: u64,
    dump: Replica,
    log: Vec<Word>,
    name: Word,
}

/// A dictionary, the directory in which its generations stand, and what was done with it so far.
///
/// Words of the model are those of the control and of the logs, and all names: each access to one may be the
/// last one before another thread goes on, or before death.
#[derive(Debug)]
pub struct World {
    pub(super) shape: Shape,
    control: Vec<Word>,
    /// The control's own name.
    name: Word,
    /// That of id 1 comes first.
    stored: Vec<OnceLock<Stored>>,
    built: AtomicUsize,
    /// Who is dead, and nobody has its slot.
    dead: Vec<AtomicBool>,
    /// Whether somebody has the right to a slot whose participant is dead.
    rights: Vec<AtomicBool>,
    /// Whether somebody has unlinked it, and was not killed meanwhile.
    unlinked: AtomicBool,
    clock: AtomicUsize,
    records: Mutex<Vec<Record>>,
}

fn zeros(words: usize) -> Vec<Word> {
    (0..words).map(|_| Word::new(0)).collect()
}

impl World {
    /// One whose first generation is empty.
    pub fn new(shape: Shape) -> Self {
        let flags = || (0..shape.slots).map(|_| AtomicBool::new(false)).collect();
        let world = Self {
            shape,
            control: zeros(Control::words(shape.slots)),
            name: Word::new(THERE),
            stored: (0..GENERATIONS).map(|_| OnceLock::new()).collect(),
            built: AtomicUsize::new(0),
            dead: flags(),
            rights: flags(),
            unlinked: AtomicBool::new(false),
            clock: AtomicUsize::new(0),
            records: Mutex::new(Vec::new()),
        };
        let id = world.take_id(0);
        let first = Replica::new(shape.keys);
        world.store(id, 0, first, shape.words, THERE);
        world.control(Access::ReadWrite).begin(id);
        world
    }

    /// The control, as one sees it that has mapped it for `access`.
    pub fn control(&self, access: Access) -> Control<'_> {
        Control::new(&self.control, access)
    }

    /// Its names, for one that maps what it opens for `access`.
    pub(super) fn files(&self, access: Access) -> Files<'_> {
        Files {
            world: self,
            access,
        }
    }

    fn stored(&self, id: u64) -> &Stored {
        let stored = &self.stored[id as usize - 1];
        stored.get().expect("nobody is led to what was never built")
    }

    fn store(&self, id: u64, previous: u64, dump: Replica, words: usize, name: u64) {
        let stored = Stored {
            previous,
            dump,
            log: zeros(log::HEAD_WORDS + words),
            name: Word::new(name),
        };
        let place = &self.stored[id as usize - 1];
        place.set(stored).expect("ids are not drawn twice");
    }

    /// The id of what is built next, which nothing else has or had.
    pub(super) fn take_id(&self, _slot: usize) -> u64 {
        1 + self.built.fetch_add(1, Relaxed) as u64
    }

    /// Writes generation `id`, which has no name yet.
    pub(super) fn build(
        &self,
        id: u64,
        previous: &Generation<'_>,
        dump: &Replica,
        changes: &[u8],
    ) -> Generation<'_> {
        let least = self.shape.words.max(record_words(changes.len()));
        let wanted = previous.log.wanted().min(2 * previous.log.arena_words());
        let words = match self.shape.is_ample {
            true => least.max(wanted),
            false => least,
        };
        self.store(id, previous.id, dump.clone(), words, NEVER);
        self.files(Access::ReadWrite).generation(id)
    }

    /// Says that a record found no room.
    pub(super) fn want(&self, log: &Log<'_>, changes: &[u8]) {
        log.want(record_words(changes.len()));
    }

    /// Whether somebody is elected behind this log while a builder waits.
    pub(super) fn is_elected_soon(&self, log: &Log<'_>) -> bool {
        (0..=self.shape.patience).any(|_| log.next_generation() != 0)
    }

    /// The names that are there.
    pub fn names(&self) -> Vec<u64> {
        let ids = 1..=self.built.load(Relaxed) as u64;
        let built = ids.filter(|&id| self.stored[id as usize - 1].get().is_some());
        built
            .filter(|&id| self.stored(id).name.load(SeqCst) == THERE)
            .collect()
    }

    /// Unlinks the dictionary, as `StreamDict::unlink` does.
    pub fn unlink_all(&self) {
        self.name.store(REMOVED, SeqCst);
        self.control(Access::ReadWrite).unlink();
        for id in self.names() {
            self.files(Access::ReadWrite).unlink(id);
        }
        self.unlinked.store(true, Relaxed);
    }

    /// Whether that was done, or begun.
    pub fn is_unlinked(&self) -> bool {
        self.has_lost_its_name()
    }

    /// Whether it was done to the end.
    pub fn all_was_unlinked(&self) -> bool {
        self.unlinked.load(Relaxed)
    }

    /// Whether its name was taken away, by somebody who may have been killed before it could say so.
    pub(super) fn has_lost_its_name(&self) -> bool {
        self.name.load(SeqCst) == REMOVED
    }
}

/// Deaths.
impl World {
    /// The participant of that slot was killed.
    pub fn bury(&self, slot: usize) {
        self.dead[slot].store(true, Relaxed);
    }

    /// Those who are dead.
    pub fn dead(&self) -> Vec<usize> {
        let slots = 0..self.dead.len();
        slots.filter(|&n| self.dead[n].load(Relaxed)).collect()
    }

    /// Does something by the right to the slot of a dead participant, unless somebody else has that, or it is
    /// not dead. Nobody waits for it: one who has it may be stopped.
    fn by_right(&self, slot: usize, f: impl FnOnce()) -> bool {
        if self.rights[slot].swap(true, Relaxed) {
            return false;
        }
        // Whoever dies gives it back.
        let _right = Right(&self.rights[slot]);
        let is_dead = self.dead[slot].load(Relaxed);
        if is_dead {
            f();
        }
        is_dead
    }

    fn clean(&self, slot: usize) {
        let control = self.control(Access::ReadWrite);
        let Ok(()) = switch::clean(&control, &self.files(Access::ReadWrite), control.row(slot));
    }

    /// Removes what dead participants have left.
    pub(super) fn clean_all(&self) {
        let control = self.control(Access::ReadWrite);
        let mut rows = (0..self.shape.slots).map(|slot| control.row(slot));
        if rows.any(|row| row.candidate() != 0) {
            for slot in self.dead() {
                self.by_right(slot, || self.clean(slot));
            }
        }
    }

    /// Takes the slot of a dead participant: whether it is free for the next one.
    pub fn take_slot(&self, slot: usize) -> bool {
        self.by_right(slot, || {
            self.clean(slot);
            self.dead[slot].store(false, Relaxed);
        })
    }
}

struct Right<'a>(&'a AtomicBool);

impl Drop for Right<'_> {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// Histories.
impl World {
    /// An instant.
    pub fn stamp(&self) -> usize {
        self.clock.fetch_add(1, Relaxed)
    }

    /// A number that nothing else has, and so many behind it.
    pub fn numbers(&self, count: usize) -> u64 {
        1 + self.clock.fetch_add(count, Relaxed) as u64
    }

    /// Something that was asked at `start` is answered.
    pub fn write_down(&self, thread: usize, op: Op, answer: Answer, start: usize) {
        let record = Record {
            thread,
            op,
            answer,
            start,
            end: self.stamp(),
        };
        let mut records = self.records.lock().expect("nobody panics in here");
        records.push(record);
    }

    /// What was done so far.
    pub fn history(&self) -> Vec<Record> {
        self.records.lock().expect("nobody panics in here").clone()
    }

    /// How many generations have followed one another, and how many were built.
    pub fn generations(&self) -> (usize, usize) {
        let access = Access::ReadWrite;
        let mut id = self.control(access).current();
        let mut count = 0;
        while id != 0 {
            (id, count) = (self.stored(id).previous, count + 1);
        }
        (count, self.built.load(Relaxed))
    }
}

/// The names of a world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    world: &'a World,
    access: Access,
}

impl<'a> Files<'a> {
    /// Maps a generation, whatever its name.
    pub(super) fn generation(self, id: u64) -> Generation<'a> {
        let stored = self.world.stored(id);
        Generation {
            id,
            previous: stored.previous,
            dump: stored.dump.clone(),
            log: Log::new(&stored.log, self.access),
        }
    }
}

impl<'a> Generations for Files<'a> {
    type Generation = Generation<'a>;
    type Error = Infallible;

    fn open(&self, id: u64) -> Result<Option<Generation<'a>>, Infallible> {
        let is_there = self.world.stored(id).name.load(SeqCst) == THERE;
        Ok(is_there.then(|| self.generation(id)))
    }

    fn unlink(&self, id: u64) {
        let name = &self.world.stored(id).name;
        // One that is not there is left alone.
        let _ = name.compare_exchange(THERE, REMOVED, SeqCst, SeqCst);
    }

    fn link(&self, generation: &Generation<'a>) -> Result<(), Infallible> {
        let name = &self.world.stored(generation.id).name;
        let linked = name.compare_exchange(NEVER, THERE, SeqCst, SeqCst);
        assert_eq!(linked, Ok(NEVER), "a name comes back");
        if self.world.has_lost_its_name() {
            self.world.control(Access::ReadWrite).unlink();
        }
        Ok(())
    }
}

/// An open generation.
#[derive(Debug, Clone)]
pub(super) struct Generation<'a> {
    pub(super) id: u64,
    pub(super) previous: u64,
    pub(super) dump: Replica,
    pub(super) log: Log<'a>,
}

impl switch::Generation for Generation<'_> {
    fn id(&self) -> u64 {
        self.id
    }

    fn previous(&self) -> u64 {
        self.previous
    }

    fn log(&self) -> Log<'_> {
        self.log
    }
}
