//! How far a process has come: its replica, and what it does to read on and to append.

use std::fmt;

use super::Position;
use super::context::{Context, random};
use super::error::StreamError;
use super::generation::{BuildError, Facts, Generation};
use super::record::{Change, MapId, Reader, Writer};
use super::replica::{Replica, Scope, Undo};
use super::transaction::Transaction;
use crate::raw::stream::control::Row;
use crate::raw::stream::log::{self, LONGEST_PAYLOAD, Next, Room, Tail, record_words};
use crate::raw::stream::switch::{self, Followed};
use crate::segment::{Blank, Segment};
use crate::stored::Stored;
use crate::sync::Access;

/// What came of appending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    Done,
    /// Somebody else has appended something.
    TooLate,
    /// The next generation has to begin.
    NoRoom,
}

/// Says, as long as it is there, that this process is about to begin a generation.
struct Building<'a>(Row<'a>);

impl<'a> Building<'a> {
    fn begin(cx: &Context<'a>) -> Result<Self, StreamError> {
        let row = cx.control.row(cx.slot()?);
        row.set_building(true);
        Ok(Self(row))
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.set_building(false);
    }
}

/// What a step in the stream changes.
pub(super) enum Seen<'s, V: Stored + ?Sized> {
    /// One change of a map, of the record at this position.
    Change {
        before: &'s Replica<V>,
        map: MapId,
        change: Change<'s>,
    },
    /// What came in between is gone.
    Leap {
        before: &'s Replica<V>,
        after: &'s Replica<V>,
    },
}

/// How far a process has come.
pub(super) struct State<V: Stored + ?Sized> {
    pub(super) generation: Generation,
    pub(super) replica: Replica<V>,
    tail: Tail,
    pub(super) records: u64,
    /// Words of the records.
    words: usize,
    /// Whether the log ends here.
    sealed: bool,
    /// Whether the replica is being changed: if so and nobody is at it, somebody's code has panicked on the way,
    /// and nobody knows what is there.
    pub(super) torn: bool,
    /// What takes the changes of a transaction back.
    undo: Vec<(MapId, Undo<V>)>,
    /// Room in the log that was not used yet.
    room: Option<Room>,
    buffer: Vec<u8>,
    /// How many dumps were read.
    pub(super) loads: u64,
}

impl<V: Stored + ?Sized> State<V> {
    /// One who begins with the dump of a generation, which is `replica`.
    pub(super) fn new(generation: Generation, replica: Replica<V>) -> Self {
        Self {
            generation,
            replica,
            tail: Tail::EMPTY,
            records: 0,
            words: 0,
            sealed: false,
            torn: false,
            undo: Vec::new(),
            room: None,
            buffer: Vec::new(),
            loads: 0,
        }
    }

    /// One who begins with what is current.
    pub(super) fn attach(cx: &Context<'_>) -> Result<Self, StreamError> {
        let mut state = Self::attach_within(cx, &Scope::default())?;
        state.catch_up(cx)?;
        Ok(state)
    }

    /// One who begins with the dump of what is current, of the keys in `scope`.
    pub(super) fn attach_within(cx: &Context<'_>, scope: &Scope) -> Result<Self, StreamError> {
        if cx.control.access() == Access::ReadWrite {
            cx.clean_all();
        }
        let generation = switch::attach(&cx.control, &cx.names()).map_err(|lost| cx.lost(lost))?;
        let replica = generation.load(scope).map_err(StreamError::Open)?;
        let mut state = Self::new(generation, replica);
        state.loads = 1;
        Ok(state)
    }

    /// The same in a forked child: what the parent has reserved is the parent's.
    pub(super) fn inherited(self) -> Self {
        Self { room: None, ..self }
    }

    /// Whether there may be anything to read: one load.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        let log = self.generation.log();
        match self.sealed {
            false => log.has_news(self.tail) || self.torn,
            true => log.next_generation() != 0 || self.torn,
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            generation: self.generation.facts().number,
            records: self.records,
        }
    }

    /// The earliest position since which nothing has changed.
    pub(super) fn since(&self) -> Position {
        match self.records {
            0 => self.generation.facts().since,
            _ => self.position(),
        }
    }

    /// Whether nothing has changed since `position`.
    pub(super) fn is_at(&self, position: Position) -> bool {
        let since = self.since();
        let now = self.position();
        // Or it is the start of a generation between them.
        let is_between = since < position && position < now && position.records == 0;
        position == now || position == since || is_between
    }

    /// Reads everything that was appended before this.
    pub(super) fn catch_up(&mut self, cx: &Context<'_>) -> Result<(), StreamError> {
        if self.torn {
            let fresh = Self::attach(cx)?;
            let loads = self.loads + fresh.loads;
            *self = Self { loads, ..fresh };
        }
        while self.step(cx, |_| {})? {}
        Ok(())
    }

    /// Reads the next record, or goes on to the next generation, if there is one: whether it did. Shows to `see`
    /// what that changes.
    pub(super) fn step(
        &mut self,
        cx: &Context<'_>,
        mut see: impl FnMut(Seen<'_, V>),
    ) -> Result<bool, StreamError> {
        if self.torn {
            // (Who has looked before has mended it, but for a log that tears it again and again.)
            return Err(StreamError::Damaged);
        }
        if self.sealed {
            let followed = switch::follow(&cx.control, &cx.names(), &self.generation);
            return self.go_on(cx, followed.map_err(|lost| cx.lost(lost))?, see);
        }
        let log = self.generation.log();
        match log.next(self.tail)? {
            Next::Nothing => return Ok(false),
            Next::Sealed => self.sealed = true,
            Next::Record(record) => {
                let words = self.words + record.words();
                if words > log.arena_words() {
                    // It goes round in circles.
                    return Err(StreamError::Damaged);
                }
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.clear();
                record.read(&mut buffer)?;
                let tail = record.tail();
                self.apply(&buffer, |before, map, change| {
                    see(Seen::Change {
                        before,
                        map,
                        change,
                    })
                })?;
                (self.tail, self.records) = (tail, self.records + 1);
                (self.words, self.buffer) = (words, buffer);
            }
        }
        Ok(true)
    }

    /// Tells how far it has come, for `status`, if this process has an identity.
    pub(super) fn tell(&self, cx: &Context<'_>) {
        if let Some(slot) = cx.segment.slot() {
            let position = self.position();
            let row = cx.control.row(slot);
            row.set_position(position.generation, position.records);
        }
    }

    fn go_on(
        &mut self,
        cx: &Context<'_>,
        followed: Followed<Generation>,
        mut see: impl FnMut(Seen<'_, V>),
    ) -> Result<bool, StreamError> {
        match followed {
            Followed::NotYet => return Ok(false),
            Followed::Next(next) => {
                let facts = self.generation.facts();
                if (next.facts().previous, next.facts().number)
                    != (facts.id, facts.number.wrapping_add(1))
                {
                    return Err(StreamError::Damaged);
                }
                self.generation = next;
            }
            Followed::Later(later) => {
                if later.facts().number <= self.generation.facts().number {
                    // It leads back to where it came from.
                    return Err(StreamError::Damaged);
                }
                let after = later
                    .load(self.replica.scope())
                    .map_err(StreamError::Open)?;
                self.loads += 1;
                // Once more: perhaps only its builder may remove it (the sticky bit), and is it this process.
                cx.forget(&self.generation);
                self.generation = later;
                see(Seen::Leap {
                    before: &self.replica,
                    after: &after,
                });
                self.replica = after;
            }
        }
        (self.tail, self.records, self.words) = (Tail::EMPTY, 0, 0);
        (self.sealed, self.room) = (false, None);
        // What one large change has needed.
        self.buffer = Vec::new();
        self.replica.shrink();
        Ok(true)
    }

    fn apply(
        &mut self,
        changes: &[u8],
        see: impl FnMut(&Replica<V>, MapId, Change<'_>),
    ) -> Result<(), StreamError> {
        self.torn = true;
        self.replica.apply(&mut Reader::new(changes), see)?;
        self.torn = false;
        Ok(())
    }

    /// Has `f` change a map of the replica, and puts what it does into `changes`. To be kept or taken back.
    pub(super) fn change<K: Stored + ?Sized, R, E: From<StreamError>>(
        &mut self,
        map: MapId,
        changes: &mut Writer,
        f: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut transaction = Transaction::new(&mut self.replica, changes, &mut self.undo, map)?;
        self.torn = true;
        let done = f(&mut transaction);
        if done.is_err() {
            self.take_back();
        }
        done
    }

    /// Makes the replica what it was before the change.
    pub(super) fn take_back(&mut self) {
        while let Some((map, undo)) = self.undo.pop() {
            self.replica.undo(map, undo);
        }
        self.torn = false;
    }

    /// Leaves the replica as it is.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
        self.torn = false;
    }

    /// Appends `changes`, which the replica has already, if nothing was appended since the last look. To be called
    /// only when all was read.
    pub(super) fn append(
        &mut self,
        cx: &Context<'_>,
        changes: &[u8],
    ) -> Result<Appended, StreamError> {
        if changes.len() > LONGEST_PAYLOAD {
            return Err(StreamError::TooLong {
                what: "change",
                bytes: changes.len(),
                limit: LONGEST_PAYLOAD,
            });
        }
        if self.sealed {
            return Ok(Appended::NoRoom);
        }
        let dump_bytes = self.replica.dump_bytes() as u64;
        if cx
            .budget
            .allow(self.generation.bytes(), dump_bytes)
            .is_err()
        {
            // Perhaps in a generation with a shorter log.
            return Ok(Appended::NoRoom);
        }
        let log = self.generation.log();
        let kept = self.room.take().filter(|room| room.fits(changes.len()));
        let Some(room) = kept.or_else(|| log.reserve(changes.len()).ok()) else {
            return Ok(Appended::NoRoom);
        };
        let Some(tail) = log.append(self.tail, &room, changes) else {
            self.room = Some(room);
            return Ok(Appended::TooLate);
        };
        (self.tail, self.records) = (tail, self.records + 1);
        self.words += record_words(changes.len());
        self.keep();
        cx.bell().ring();
        self.tell(cx);
        Ok(Appended::Done)
    }

    /// Reserves the pages of a generation that goes on from what was read, and has room for a record
    /// with `changes`, after which a dump will have `dump_bytes_then`.
    fn reserve_next(
        &self,
        cx: &Context<'_>,
        changes: &[u8],
        dump_bytes_then: usize,
    ) -> Result<(Facts, Blank), StreamError> {
        let before = self.generation.facts();
        let dump_bytes = self.replica.dump_bytes() as u64;
        let id = random()?;
        let record = record_words(changes.len()) as u64;
        let least = cx.budget.least_words().max(record);
        // As long as the dump, so that what is copied is no more than what was written; and for who has
        // found no room. Shorter, if there is no room for that.
        let ample = least
            .max(dump_bytes.div_ceil(8))
            .max(self.generation.wanted() as u64);
        let reserve = |words: u64| {
            let facts = Facts {
                id,
                previous: before.id,
                number: before.number.wrapping_add(1),
                log_words: log::HEAD_WORDS as u64 + words,
                dump_bytes,
                since: self.since(),
            };
            let bytes = facts.segment_bytes().unwrap_or(u64::MAX);
            cx.budget.allow(bytes, dump_bytes_then as u64)?;
            cx.budget.fit([self.generation.bytes(), bytes])?;
            let place = cx.segment.companion(id).expect("a control has a name");
            let options = cx.segment.companion_options();
            let blank = Segment::blank(&place, &options, bytes).map_err(StreamError::Create)?;
            Ok((facts, blank))
        };
        reserve(ample).or_else(|_| reserve(least))
    }

    /// The generation whose log is sealed, if this process has read it to its end.
    pub(super) fn sealed(&self) -> Option<u64> {
        self.sealed.then(|| self.generation.facts().id)
    }

    /// Begins the next generation, with `changes` in its log: whether they were made. The replica does not have
    /// them yet, and `dump_bytes` is what it will have with them. Everything that can fail for want of room
    /// fails before the log is sealed.
    pub(super) fn begin(
        &mut self,
        cx: &Context<'_>,
        changes: &[u8],
        dump_bytes: usize,
    ) -> Result<bool, StreamError> {
        if cx.is_unlinked() {
            return Err(StreamError::Unlinked);
        }
        cx.names().check_place()?;
        cx.clean_all();
        // Once more: it is not sure that the name of the one before could be removed.
        switch::enter(&cx.control, &cx.names(), &self.generation);
        let _building = Building::begin(cx)?;
        let log = self.generation.log();
        let next = self.reserve_next(cx, changes, dump_bytes);
        if self.has_news() {
            // Somebody else has been faster: perhaps that is why there was no room.
            return Ok(false);
        }
        let (facts, blank) = next?;
        log.want(record_words(changes.len()));
        if !self.sealed && !log.seal(self.tail) {
            return Ok(false);
        }
        self.sealed = true;
        self.stand(cx, facts, blank, changes)
    }

    /// Stands for election with what this process has read, which is all, and with `changes` as the first
    /// record of the new log: whether they were made. So every generation that somebody begins because he has
    /// found no room is somebody's change: however large the records are, writers do not take each other's room
    /// in turns for ever.
    fn stand(
        &mut self,
        cx: &Context<'_>,
        facts: Facts,
        blank: Blank,
        changes: &[u8],
    ) -> Result<bool, StreamError> {
        let slot = cx.slot()?;
        let row = cx.control.row(slot);
        if row.candidate() != 0 {
            // Of the last one in this slot: it could not be told whether that has won.
            cx.clean(slot);
        }
        let built = Generation::build(cx.segment, cx.identity, blank, facts, &self.replica);
        // A value that was changed where it stands: what was written is in the log and the dump before.
        self.torn = matches!(built, Err(BuildError::Encode(_)));
        let built = built?;
        let mut first = None;
        if !changes.is_empty() {
            let room = built.log().reserve(changes.len());
            let room = room.expect("it was made for this record");
            first = built.log().append(Tail::EMPTY, &room, changes);
        }
        let followed = switch::elect(&cx.control, &cx.names(), row, &self.generation, built);
        self.go_on(cx, followed.map_err(|lost| cx.lost(lost))?, |_| {})?;
        let has_won = self.generation.facts().id == facts.id;
        if let (true, Some(tail)) = (has_won, first) {
            (self.tail, self.records, self.words) = (tail, 1, record_words(changes.len()));
            self.apply(changes, |_, _, _| {})?;
        }
        cx.bell().ring();
        self.tell(cx);
        Ok(has_won && first.is_some())
    }
}

impl<V: Stored + ?Sized> fmt::Debug for State<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("position", &self.position())
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}
