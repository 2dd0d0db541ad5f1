//! What a process does: the loops of `src/stream/state.rs`, without the waiting. The random programs of
//! shuttle-tests take them from here, too, for another world.

use std::convert::Infallible;
use std::fmt;

use forkmap::model::Access;
use forkmap::model::stream::control::Control;
use forkmap::model::stream::log::{Next, Room, Tail, record_words};
use forkmap::model::stream::switch::{self, Lost};

use super::world::{Files, Generation, Replica, World};

/// The dictionary was unlinked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlinked;

/// A process that has the dictionary open.
pub struct Process<'a> {
    world: &'a World,
    access: Access,
    slot: usize,
    generation: Generation<'a>,
    replica: Replica,
    tail: Tail,
    /// Words of the records that it has read.
    words: usize,
    sealed: bool,
    room: Option<Room>,
    /// How often it came to a later generation than the next one.
    pub outrun: usize,
}

impl<'a> Process<'a> {
    /// One that reads and writes, and has read everything.
    pub fn attach(world: &'a World, slot: usize) -> Result<Self, Unlinked> {
        Self::attach_with(world, slot, Access::ReadWrite)
    }

    /// One that may do `access`, and has read everything.
    pub fn attach_with(world: &'a World, slot: usize, access: Access) -> Result<Self, Unlinked> {
        if access == Access::ReadWrite {
            world.clean_all();
        }
        let attached = switch::attach(&world.control(access), &world.files(access));
        let generation = attached.map_err(|lost| why(world, lost))?;
        let mut process = Self::begin(world, slot, access, generation);
        process.catch_up()?;
        Ok(process)
    }

    /// One that has had the first generation open from the start, and has read nothing.
    pub fn open(world: &'a World, slot: usize) -> Self {
        Self::open_with(world, slot, Access::ReadWrite)
    }

    /// The same for one that may do `access`.
    pub fn open_with(world: &'a World, slot: usize, access: Access) -> Self {
        Self::begin(world, slot, access, world.files(access).generation(1))
    }

    fn begin(world: &'a World, slot: usize, access: Access, generation: Generation<'a>) -> Self {
        Self {
            world,
            access,
            slot,
            replica: generation.dump.clone(),
            generation,
            tail: Tail::EMPTY,
            words: 0,
            sealed: false,
            room: None,
            outrun: 0,
        }
    }

    fn control(&self) -> Control<'a> {
        self.world.control(self.access)
    }

    fn files(&self) -> Files<'a> {
        self.world.files(self.access)
    }

    /// What it has read.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The generation that it is in.
    pub fn generation(&self) -> u64 {
        self.generation.id
    }

    /// Reads everything that was appended before this, if anything was: what is known then.
    pub fn read(&mut self) -> Result<&Replica, Unlinked> {
        let log = self.generation.log;
        let has_news = match self.sealed {
            false => log.has_news(self.tail),
            true => log.next_generation() != 0,
        };
        if has_news {
            self.catch_up()?;
        }
        Ok(&self.replica)
    }

    /// Reads everything that was appended before this.
    pub fn catch_up(&mut self) -> Result<(), Unlinked> {
        loop {
            if self.sealed {
                let followed = switch::follow(&self.control(), &self.files(), &self.generation);
                match followed.map_err(|lost| why(self.world, lost))? {
                    switch::Followed::NotYet => return Ok(()),
                    followed => self.go_on(followed),
                }
            }
            let log = self.generation.log;
            match log.next(self.tail).expect("a log of this protocol") {
                Next::Nothing => return Ok(()),
                Next::Sealed => self.sealed = true,
                Next::Record(record) => {
                    self.words += record.words();
                    assert!(self.words <= log.arena_words(), "a log without an end");
                    let mut changes = Vec::new();
                    record.read(&mut changes).expect("a whole record");
                    self.replica.apply(&changes);
                    self.tail = record.tail();
                }
            }
        }
    }

    fn go_on(&mut self, followed: switch::Followed<Generation<'a>>) {
        self.generation = match followed {
            switch::Followed::NotYet => return,
            switch::Followed::Next(next) => {
                assert_eq!(next.previous, self.generation.id, "of another history");
                assert_eq!(next.dump, self.replica, "not what the last one ended with");
                next
            }
            switch::Followed::Later(later) => {
                self.replica = later.dump.clone();
                self.outrun += 1;
                later
            }
        };
        (self.tail, self.words, self.sealed, self.room) = (Tail::EMPTY, 0, false, None);
    }

    /// Appends `changes` if there was nothing to read: whether it did.
    pub fn try_change(&mut self, changes: &[u8]) -> Result<bool, Unlinked> {
        if self.sealed {
            return self.build_with(changes);
        }
        let log = self.generation.log;
        let kept = self.room.take().filter(|room| room.fits(changes.len()));
        let Some(room) = kept.or_else(|| log.reserve(changes.len()).ok()) else {
            return self.seal_with(changes);
        };
        let Some(tail) = log.append(self.tail, &room, changes) else {
            self.room = Some(room);
            return Ok(false);
        };
        self.apply(tail, changes);
        Ok(true)
    }

    /// What it has appended itself.
    fn apply(&mut self, tail: Tail, changes: &[u8]) {
        self.tail = tail;
        self.words += record_words(changes.len());
        self.replica.apply(changes);
    }

    /// Goes on to another generation, which it builds if nobody else does.
    pub fn dump(&mut self) -> Result<(), Unlinked> {
        let before = self.generation.id;
        while self.generation.id == before {
            match self.sealed {
                true => self.build()?,
                false => self.seal()?,
            }
            self.catch_up()?;
        }
        Ok(())
    }

    /// Ends the log if there was nothing to read, and begins the next one.
    pub fn seal(&mut self) -> Result<(), Unlinked> {
        self.seal_with(&[]).map(drop)
    }

    /// Begins the next log if this one has ended, unless somebody has.
    pub fn build(&mut self) -> Result<(), Unlinked> {
        self.build_with(&[]).map(drop)
    }

    /// Ends the log if there was nothing to read.
    pub fn end_log(&mut self) -> bool {
        self.sealed = self.generation.log.seal(self.tail);
        self.sealed
    }

    fn seal_with(&mut self, changes: &[u8]) -> Result<bool, Unlinked> {
        self.world.want(&self.generation.log, changes);
        self.world.clean_all();
        match self.end_log() {
            true => self.stand(changes),
            false => Ok(false),
        }
    }

    fn build_with(&mut self, changes: &[u8]) -> Result<bool, Unlinked> {
        let log = self.generation.log;
        self.world.want(&log, changes);
        if !self.sealed || self.world.is_elected_soon(&log) {
            return Ok(false);
        }
        self.world.clean_all();
        self.stand(changes)
    }

    /// Stands for election with what it has read, which is all, and with `changes` as the first record of the
    /// new log: whether they were made.
    fn stand(&mut self, changes: &[u8]) -> Result<bool, Unlinked> {
        let id = self.world.take_id(self.slot);
        let candidate = self
            .world
            .build(id, &self.generation, &self.replica, changes);
        let mut first = None;
        if !changes.is_empty() {
            let room = candidate.log.reserve(changes.len());
            let room = room.expect("it was made for this record");
            first = candidate.log.append(Tail::EMPTY, &room, changes);
        }
        let control = self.control();
        let row = control.row(self.slot);
        let elected = switch::elect(&control, &self.files(), row, &self.generation, candidate);
        self.go_on(elected.map_err(|lost| why(self.world, lost))?);
        let first = first.filter(|_| self.generation.id == id);
        if let Some(tail) = first {
            self.apply(tail, changes);
        }
        Ok(first.is_some())
    }
}

fn why(world: &World, lost: Lost<Infallible>) -> Unlinked {
    match lost {
        Lost::Gone if world.has_lost_its_name() => Unlinked,
        Lost::Unlinked => Unlinked,
        Lost::Gone => panic!("the name of the current generation is gone"),
        Lost::Failed(never) => match never {},
    }
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("slot", &self.slot)
            .field("generation", &self.generation.id)
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}
