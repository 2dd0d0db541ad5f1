//! Generations as segments: a log, and behind it the dump that it goes on from.
//!
//! ```text
//! geometry: id | the one before | number | words of the log | bytes of the dump | since: generation, records | 0
//! body:     log | checksum of the dump | dump
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::Position;
use super::record::{self, MapId, Reader};
use super::replica::{Replica, Scope};
use crate::error::{CodecError, CreateError, Mismatch, OpenError};
use crate::identity::{Identity, Kind};
use crate::raw::bytes::{Bytes, store};
use crate::raw::layout;
use crate::raw::stream::control::Control;
use crate::raw::stream::log::{self, Damaged, Log};
use crate::raw::stream::switch;
use crate::segment::{Blank, Pinned, Plan, Segment, View, companions};
use crate::stored::Stored;
use crate::sync::{Ordering::Relaxed, Word};

/// Participants of a generation: none ever registers there, and a segment has two at least.
const PARTICIPANTS: u64 = 2;

/// The control that stands in a segment.
pub(super) fn control_of(segment: &Segment) -> Control<'_> {
    let layout = segment.layout();
    let words = Control::words(layout.participants.slots());
    Control::new(&layout.body[..words], segment.access())
}

/// An attached generation.
#[derive(Debug)]
pub(super) struct Generation {
    log: Pinned<LogView>,
    facts: Facts,
}

struct LogView;

impl View for LogView {
    type Of<'a> = Log<'a>;
}

/// What a generation says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) id: u64,
    pub(super) previous: u64,
    /// Which it is, from 1.
    pub(super) number: u64,
    pub(super) log_words: u64,
    pub(super) dump_bytes: u64,
    /// The earliest position at which everything was as it is in the dump.
    pub(super) since: Position,
}

impl Facts {
    fn geometry(self) -> [u64; 8] {
        let Self {
            id,
            previous,
            number,
            log_words,
            dump_bytes,
            since,
        } = self;
        [
            id,
            previous,
            number,
            log_words,
            dump_bytes,
            since.generation,
            since.records,
            0,
        ]
    }

    fn from_geometry(geometry: [u64; 8]) -> Option<Self> {
        let [
            id,
            previous,
            number,
            log_words,
            dump_bytes,
            generation,
            records,
            0,
        ] = geometry
        else {
            return None;
        };
        Some(Self {
            id,
            previous,
            number,
            log_words,
            dump_bytes,
            since: Position {
                generation,
                records,
            },
        })
    }

    /// Bytes of the segment; `None` if there is no such generation.
    pub(super) fn segment_bytes(&self) -> Option<u64> {
        segment_bytes(self.log_words, self.dump_bytes)
            .filter(|_| self.log_words >= log::HEAD_WORDS as u64)
    }

    fn plan(&self, identity: Identity, bytes: u64) -> Plan {
        Plan {
            identity: identity_of_generation(identity),
            bytes,
            geometry: self.geometry(),
            participants: PARTICIPANTS,
        }
    }
}

/// Bytes of a generation; `None` if that is more than an address can count.
pub(super) fn segment_bytes(log_words: u64, dump_bytes: u64) -> Option<u64> {
    let dump_words = 1 + dump_bytes.div_ceil(8);
    layout::segment_bytes(PARTICIPANTS, log_words.checked_add(dump_words)?)
}

/// That of the generations of a dictionary with that identity.
fn identity_of_generation(control: Identity) -> Identity {
    Identity {
        kind: Kind::StreamGeneration,
        ..control
    }
}

/// Why the dump of a generation could not be written.
#[derive(Debug)]
pub(super) enum BuildError {
    Create(CreateError),
    /// A value cannot be encoded any more.
    Encode(CodecError),
}

impl Generation {
    /// One whose facts were checked.
    fn new(segment: Segment, facts: Facts) -> Self {
        let log = Pinned::new(Arc::new(segment), |segment| {
            let words = &segment.layout().body[..facts.log_words as usize];
            Log::new(words, segment.access())
        });
        Self { log, facts }
    }

    /// Makes a generation of reserved pages, with what the replica has as its dump. It has no name yet.
    pub(super) fn build<V: Stored + ?Sized>(
        control: &Segment,
        identity: Identity,
        blank: Blank,
        facts: Facts,
        replica: &Replica<V>,
    ) -> Result<Self, BuildError> {
        let place = control.companion(facts.id).expect("a control has a name");
        let bytes = facts.segment_bytes().expect("it was reserved");
        let plan = facts.plan(identity, bytes);
        let segment = Segment::from_blank(blank, place, &control.companion_options(), &plan);
        let segment = segment.map_err(BuildError::Create)?;
        let generation = Self::new(segment, facts);
        let mut dump = DumpWriter::new(generation.dump_area());
        let written = replica.dump(|piece| dump.write(piece));
        written
            .and_then(|()| dump.finish(facts.dump_bytes as usize))
            .map_err(BuildError::Encode)?;
        Ok(generation)
    }

    /// Opens that of a name; `None` if nothing has it.
    fn open(control: &Segment, identity: Identity, id: u64) -> Result<Option<Self>, OpenError> {
        let place = control.companion(id).expect("a control has a name");
        let wanted = identity_of_generation(identity);
        let segment = match Segment::open_at(place, &control.companion_options(), wanted) {
            Err(OpenError::NotFound { .. }) => return Ok(None),
            opened => opened?,
        };
        let facts = Some(segment.header().geometry)
            .filter(|_| segment.header().participants == PARTICIPANTS)
            .and_then(Facts::from_geometry)
            .filter(|facts| {
                facts.id == id && facts.segment_bytes() == Some(segment.header().bytes)
            });
        match facts {
            Some(facts) => Ok(Some(Self::new(segment, facts))),
            None => {
                let what = "its length does not fit what it says of its log and its dump";
                Err(segment.mismatch(Mismatch::Damaged { what }))
            }
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes of the segment.
    pub(super) fn bytes(&self) -> u64 {
        self.segment().header().bytes
    }

    pub(super) fn segment(&self) -> &Segment {
        self.log.segment()
    }

    /// Words that a record needs which found no room here, at most as many as this log has twice: anybody
    /// may have written it.
    pub(super) fn wanted(&self) -> usize {
        let log = self.log();
        log.wanted().min(2 * log.arena_words())
    }

    #[inline(always)]
    pub(super) fn log(&self) -> &Log<'_> {
        self.log.get()
    }

    fn dump_area(&self) -> &[Word] {
        let words = &self.segment().layout().body[self.facts.log_words as usize..];
        &words[..1 + (self.facts.dump_bytes as usize).div_ceil(8)]
    }

    /// What it begins with.
    pub(super) fn load<V: Stored + ?Sized>(&self, scope: &Scope) -> Result<Replica<V>, OpenError> {
        let (checksum, words) = self.dump_area().split_first().expect("one word at least");
        let dump = Bytes::new(words, self.facts.dump_bytes as usize);
        // Piece by piece: all at once would need as much memory again as the replica.
        let (mut hash, mut piece) = (Xxh3::new(), Vec::new());
        dump.pieces().for_each(|bytes| {
            piece.clear();
            bytes.append_to(&mut piece);
            hash.update(&piece);
        });
        // Relaxed: whoever has found the generation has come by way of an exchange that released it.
        let is_whole = checksum.load(Relaxed) == hash.digest();
        let (mut replica, mut pending) = (Replica::within(scope.clone()), Vec::new());
        let mut at = MapId::ROOT;
        let mut apply = |bytes: Bytes<'_>| {
            // (A value may be longer than memory, if somebody says so.)
            bytes.try_append_to(&mut pending).map_err(|_| Damaged)?;
            let whole = record::whole(&pending);
            let mut changes = Reader::going_on(&pending[..whole], at);
            replica.apply(&mut changes, |_, _, _| {})?;
            at = changes.at();
            pending.drain(..whole);
            Ok::<_, Damaged>(())
        };
        let is_applied = is_whole && dump.pieces().try_for_each(&mut apply).is_ok();
        match is_applied && pending.is_empty() {
            true => Ok(replica),
            false => {
                let what = "its dump is not what it was when it was written";
                Err(self.segment().mismatch(Mismatch::Damaged { what }))
            }
        }
    }
}

impl switch::Generation for Generation {
    fn id(&self) -> u64 {
        self.facts.id
    }

    fn previous(&self) -> u64 {
        self.facts.previous
    }

    fn log(&self) -> Log<'_> {
        *Generation::log(self)
    }
}

/// The names of the generations of one dictionary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) control: &'a Segment,
    pub(super) identity: Identity,
}

/// Why a generation could not be opened, or not get its name.
#[derive(Debug)]
pub(super) enum NameError {
    Open(OpenError),
    Create(CreateError),
    /// The dictionary does not stand where this process looks for it.
    Elsewhere(PathBuf),
}

impl Names<'_> {
    /// Fails if the dictionary has its name, and not where this process looks for it. Then neither are its
    /// generations there, nor is this the place to name one.
    pub(super) fn check_place(&self) -> Result<(), NameError> {
        if control_of(self.control).is_unlinked() {
            return Ok(());
        }
        match self.control.is_elsewhere() {
            Ok(false) => Ok(()),
            Ok(true) => Err(self.elsewhere()),
            Err(error) => Err(NameError::Open(error)),
        }
    }

    fn elsewhere(&self) -> NameError {
        NameError::Elsewhere(self.control.path().unwrap_or_default())
    }
}

impl switch::Generations for Names<'_> {
    type Generation = Generation;
    type Error = NameError;

    fn open(&self, id: u64) -> Result<Option<Generation>, NameError> {
        let found = Generation::open(self.control, self.identity, id).map_err(NameError::Open)?;
        if found.is_none() {
            self.check_place()?;
        }
        Ok(found)
    }

    fn unlink(&self, id: u64) {
        if let Some(place) = self.control.companion(id) {
            companions::remove(&place);
        }
    }

    fn link(&self, generation: &Generation) -> Result<(), NameError> {
        let published = generation.segment().publish_beside(self.control);
        let is_named = published.map_err(NameError::Create)?;
        let control = control_of(self.control);
        // Who takes the name of the control away says so there as well; but it may have been killed in
        // between, or have replaced the file without looking at it. (That the name leads nowhere says
        // nothing of the kind: where a name leads may be this process's own affair.)
        if self.control.has_lost_its_name() {
            control.unlink();
        }
        match is_named || control.is_unlinked() {
            true => Ok(()),
            false => Err(self.elsewhere()),
        }
    }
}

/// Writes a dump, word by word, from pieces of any length.
struct DumpWriter<'a> {
    words: &'a [Word],
    at: usize,
    pending: Vec<u8>,
    hash: Xxh3,
    bytes: usize,
}

impl<'a> DumpWriter<'a> {
    /// Bytes that are collected before they are stored: whole words.
    const BATCH: usize = 1 << 16;

    fn new(words: &'a [Word]) -> Self {
        Self {
            words,
            at: 1,
            pending: Vec::with_capacity(Self::BATCH),
            hash: Xxh3::new(),
            bytes: 0,
        }
    }

    fn write(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        self.hash.update(piece);
        let mut rest = piece;
        while self.pending.len() + rest.len() >= Self::BATCH {
            let (now, later) = rest.split_at(Self::BATCH - self.pending.len());
            self.pending.extend_from_slice(now);
            self.store();
            rest = later;
        }
        self.pending.extend_from_slice(rest);
    }

    fn store(&mut self) {
        // (What does not fit is found out in the end.)
        store(self.words.get(self.at..).unwrap_or_default(), &self.pending);
        self.at += self.pending.len().div_ceil(8);
        self.pending.clear();
    }

    fn finish(mut self, expected: usize) -> Result<(), CodecError> {
        self.store();
        if self.bytes != expected {
            return Err("a value has another length than when it was decoded".into());
        }
        // Relaxed: published with the generation.
        self.words[0].store(self.hash.digest(), Relaxed);
        Ok(())
    }
}
