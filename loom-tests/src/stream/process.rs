//! What a process does: the loops of `src/stream/state.rs`, without the waiting.

use std::convert::Infallible;
use std::fmt;

use forkmap::model::Access;
use forkmap::model::stream::control::Control;
use forkmap::model::stream::log::{Next, Room, Tail};
use forkmap::model::stream::switch::{self, Lost};

use super::world::{Digit, Files, Generation, History, World};

/// The dictionary was unlinked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unlinked;

fn unlinked(lost: Lost<Infallible>) -> Unlinked {
    match lost {
        Lost::Unlinked => Unlinked,
        Lost::Gone => panic!("the name of the current generation is gone"),
        Lost::Failed(never) => match never {},
    }
}

/// A process that has the dictionary open.
pub struct Process<'a> {
    world: &'a World,
    access: Access,
    slot: usize,
    generation: Generation<'a>,
    history: History,
    tail: Tail,
    records: u64,
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
        let control = world.control(access);
        let generation = switch::attach(&control, &world.files(access)).map_err(unlinked)?;
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
            generation,
            history: generation.dump,
            tail: Tail::EMPTY,
            records: 0,
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

    /// Everything that it has read.
    pub fn history(&self) -> History {
        self.history
    }

    /// The generation that it is in.
    pub fn generation(&self) -> u64 {
        self.generation.id
    }

    fn apply(&mut self, payload: &[u8]) {
        self.history = self.history << 4 | digit_of(payload, self.world.shape.payload);
    }

    /// Reads everything that was appended before this, if anything was: what is known then.
    pub fn look(&mut self) -> Result<History, Unlinked> {
        let log = self.generation.log;
        let has_news = match self.sealed {
            false => log.has_news(self.tail),
            true => log.next_generation() != 0,
        };
        if has_news {
            self.catch_up()?;
        }
        Ok(self.history)
    }

    /// Reads everything that was appended before this.
    pub fn catch_up(&mut self) -> Result<(), Unlinked> {
        loop {
            if self.sealed {
                let followed = switch::follow(&self.control(), &self.files(), &self.generation);
                match followed.map_err(unlinked)? {
                    switch::Followed::NotYet => return Ok(()),
                    followed => self.go_on(followed),
                }
            }
            let log = self.generation.log;
            match log.next(self.tail).expect("a log of this protocol") {
                Next::Nothing => return Ok(()),
                Next::Sealed => self.sealed = true,
                Next::Record(record) => {
                    assert!(
                        self.records < (log.arena_words() / 2) as u64,
                        "a log without an end"
                    );
                    let mut payload = Vec::new();
                    record.read(&mut payload).expect("a whole record");
                    self.apply(&payload);
                    (self.tail, self.records) = (record.tail(), self.records + 1);
                }
            }
        }
    }

    fn go_on(&mut self, followed: switch::Followed<Generation<'a>>) {
        self.generation = match followed {
            switch::Followed::NotYet => return,
            switch::Followed::Next(next) => {
                assert_eq!(next.previous, self.generation.id, "of another history");
                assert_eq!(next.dump, self.history, "not what the last one ended with");
                next
            }
            switch::Followed::Later(later) => {
                self.history = later.dump;
                self.outrun += 1;
                later
            }
        };
        (self.tail, self.records, self.sealed, self.room) = (Tail::EMPTY, 0, false, None);
    }

    /// Appends a digit.
    pub fn append(&mut self, digit: Digit) -> Result<(), Unlinked> {
        self.transact(|_| digit)
    }

    /// Appends what `f` makes of everything that was there before.
    pub fn transact(&mut self, f: impl Fn(History) -> Digit) -> Result<(), Unlinked> {
        while !self.try_append(f(self.history))? {
            self.catch_up()?;
        }
        Ok(())
    }

    /// Appends a digit if there was nothing to read: whether it did.
    pub fn try_append(&mut self, digit: Digit) -> Result<bool, Unlinked> {
        if self.sealed {
            self.build()?;
            return Ok(false);
        }
        let log = self.generation.log;
        let payload = payload_of(digit, self.world.shape.payload);
        let kept = self.room.take();
        let Some(room) = kept.or_else(|| log.reserve(payload.len()).ok()) else {
            self.seal()?;
            return Ok(false);
        };
        let Some(tail) = log.append(self.tail, &room, &payload) else {
            self.room = Some(room);
            return Ok(false);
        };
        (self.tail, self.records) = (tail, self.records + 1);
        self.apply(&payload);
        Ok(true)
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
        if self.end_log() {
            self.stand()?;
        }
        Ok(())
    }

    /// Ends the log if there was nothing to read.
    pub fn end_log(&mut self) -> bool {
        self.sealed = self.generation.log.seal(self.tail);
        self.sealed
    }

    /// Begins the next log if this one has ended, unless somebody has.
    pub fn build(&mut self) -> Result<(), Unlinked> {
        if self.sealed && self.generation.log.next_generation() == 0 {
            self.stand()?;
        }
        Ok(())
    }

    fn stand(&mut self) -> Result<(), Unlinked> {
        let id = self.world.take_id(self.slot);
        let candidate = self.world.build(id, self.generation.id, self.history);
        let control = self.control();
        let row = control.row(self.slot);
        let elected = switch::elect(&control, &self.files(), row, &self.generation, candidate);
        self.go_on(elected.map_err(unlinked)?);
        Ok(())
    }
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("slot", &self.slot)
            .field("generation", &self.generation.id)
            .field("history", &format_args!("{:x}", self.history))
            .finish_non_exhaustive()
    }
}

/// The words of a payload, of which each differs from the others.
fn words_of(digit: Digit, words: usize) -> impl Iterator<Item = u64> {
    (0..words as u64).map(move |n| digit << (8 * n) | n)
}

pub(super) fn payload_of(digit: Digit, words: usize) -> Vec<u8> {
    words_of(digit, words).flat_map(u64::to_le_bytes).collect()
}

fn digit_of(payload: &[u8], words: usize) -> Digit {
    let first = payload.first_chunk().expect("one word at least");
    let digit = u64::from_le_bytes(*first);
    assert_eq!(payload, payload_of(digit, words), "torn");
    assert!((1..16).contains(&digit), "never appended");
    digit
}

impl World {
    /// Removes what the participant of that slot has left, which is dead.
    pub fn clean(&self, slot: usize) {
        let control = self.control(Access::ReadWrite);
        let Ok(()) = switch::clean(&control, &self.files(Access::ReadWrite), control.row(slot));
    }

    /// At rest, when nobody has died, one name is there, and [`check_after_deaths`](Self::check_after_deaths)
    /// finds nothing. What has been said is returned.
    pub fn check(&self, slot: usize) -> History {
        let current = self.control(Access::ReadWrite).current();
        assert_eq!(self.names(), [current], "the names that are left");
        self.check_after_deaths(slot)
    }

    /// At rest, and with everybody who died cleaned up after: one who comes last, by way of `slot`, finds one
    /// name, and the same after a switch.
    pub fn check_after_deaths(&self, slot: usize) -> History {
        let mut last = Process::attach(self, slot).expect("it is not unlinked");
        let history = last.history();
        self.check_names(&last);
        last.dump().expect("it is not unlinked");
        self.check_names(&last);
        assert_eq!(last.history(), history, "a switch changes something");
        let fresh = Process::attach(self, slot).expect("it is not unlinked");
        assert_eq!(fresh.history(), history, "the last dump is another");
        history
    }

    /// At rest, after it was unlinked: no name is left, and nobody is led to one.
    pub fn check_unlinked(&self) {
        assert_eq!(self.names(), [], "the names that are left");
        assert_eq!(Process::attach(self, 0).err(), Some(Unlinked));
        self.check_rows();
    }

    fn check_names(&self, last: &Process<'_>) {
        assert_eq!(
            self.names(),
            [last.generation.id],
            "the names that are left"
        );
        self.check_rows();
    }

    fn check_rows(&self) {
        let control = self.control(Access::ReadWrite);
        for slot in 0..self.shape.slots {
            assert_eq!(control.row(slot).candidate(), 0, "slot {slot}");
        }
    }
}

/// Everybody who has read one of `histories` goes on to `end`, which has these digits, in whatever order.
pub fn check_order(histories: &[History], end: History, said: &[Digit]) {
    for &history in histories {
        assert!(
            is_prefix(history, end),
            "{history:x}, but {end:x} in the end"
        );
    }
    let mut found = digits(end);
    found.sort_unstable();
    assert_eq!(found, said, "{end:x}");
}

/// Whether somebody who has read all of `early` goes on to `late`.
pub fn is_prefix(early: History, late: History) -> bool {
    let later = (0..16).map(|digits| late.checked_shr(4 * digits).unwrap_or(0));
    let mut later = later.take_while(|&history| history != 0);
    early == 0 || later.any(|history| history == early)
}

/// The digits of a history, in their order.
pub fn digits(history: History) -> Vec<Digit> {
    let digits = (0..16).rev().map(|n| history >> (4 * n) & 15);
    digits.skip_while(|&digit| digit == 0).collect()
}
