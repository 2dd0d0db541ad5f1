//! Participants: who holds an identity in a segment, and whether it still lives.
//!
//! ```text
//! record: incarnation | incarnation << 32 + pid | token | 0
//! ```
//!
//! A participant is a *slot* of this table and an *incarnation*: how many have had the slot before.
//! Together they are 40 bits that fit into an owner word ([`owner`](super::owner)), and that no later
//! participant has: a slot is used again, an incarnation is not.
//!
//! The table says who is who, and nothing of who is alive. For that each participant holds a lock on
//! *a byte of its own*, which the kernel drops when it dies: [`life`]. A lock on a byte of the slot
//! would not do: the next participant of that slot would keep its dead predecessor alive.
//!
//! Slots change hands under another such lock, [`right`]: while it is held, nobody else can register
//! in that slot, so the next incarnation is known, and its byte is taken before anybody can have seen
//! it in use. A process that dies at any point of this loses both locks, and the slot stays with whom
//! it was. One that is *stopped* there keeps others from that one slot: they take another.

use std::io;

use crate::sync::{
    Access,
    Ordering::{Relaxed, SeqCst},
    Word,
};

/// Number of words of a record.
pub const RECORD_WORDS: usize = 4;

/// Most slots that a table can have. Even, and one less than 12 bits can count, so that a word of all
/// ones names nobody.
pub const MOST: u64 = 4094;

/// Incarnations are counted in so many bits, from 1.
pub const INCARNATION_BITS: u32 = 28;
const INCARNATIONS: u64 = 1 << INCARNATION_BITS;

/// A participant: a slot, and which of its holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParticipantId {
    pub slot: usize,
    pub incarnation: u64,
}

impl ParticipantId {
    /// Both in 40 bits.
    pub fn bits(self) -> u64 {
        (self.slot as u64) << INCARNATION_BITS | self.incarnation
    }

    /// From 40 bits.
    pub fn from_bits(bits: u64) -> Self {
        Self {
            slot: (bits >> INCARNATION_BITS) as usize,
            incarnation: bits % INCARNATIONS,
        }
    }
}

/// The byte that is locked as long as `id` lives. (Far behind the end of any file.)
pub fn life(id: ParticipantId) -> u64 {
    1 << 61 | id.bits()
}

/// The byte that is locked by who gives `slot` a new participant.
pub fn right(slot: usize) -> u64 {
    1 << 60 | slot as u64
}

/// Locks on bytes of a segment, held by whoever this stands for, and dropped by the kernel when that
/// dies.
pub trait ByteLocks {
    /// Takes the lock if nobody else has it, and tells whether it did. Never waits.
    fn try_lock(&self, byte: u64) -> io::Result<bool>;
    /// Gives it back.
    fn unlock(&self, byte: u64) -> io::Result<()>;
    /// Whether somebody else has it.
    fn is_locked(&self, byte: u64) -> io::Result<bool>;
}

/// What a record says of the slot's latest participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub id: ParticipantId,
    /// `None` once it has left, and for the instant before it has written it.
    pub pid: Option<u32>,
}

/// The table.
#[derive(Debug, Clone, Copy)]
pub struct Participants<'a> {
    words: &'a [Word],
    access: Access,
}

impl<'a> Participants<'a> {
    /// A view of exactly the words of a table.
    pub fn new(words: &'a [Word], access: Access) -> Self {
        Self { words, access }
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.words.len() / RECORD_WORDS
    }

    fn word(&self, slot: usize, word: usize) -> &'a Word {
        &self.words[slot * RECORD_WORDS + word]
    }

    fn load(&self, slot: usize, word: usize) -> u64 {
        let order = match self.access {
            // SYNC(register): SeqCst, pairs with the stores in `enter`. Acquire would do: who has
            // seen an identity somewhere finds its record.
            Access::ReadWrite => SeqCst,
            // Relaxed: read-only pages, and what is read there is for a listing.
            Access::ReadOnly => Relaxed,
        };
        self.word(slot, word).load(order)
    }

    fn incarnation(&self, slot: usize) -> u64 {
        self.load(slot, 0) % INCARNATIONS
    }

    /// The latest participant of `slot`, if it ever had one.
    pub fn record(&self, slot: usize) -> Option<Record> {
        let incarnation = self.incarnation(slot);
        let id = ParticipantId { slot, incarnation };
        let pid = self.pid(id);
        (incarnation != 0).then_some(Record { id, pid })
    }

    /// The pid that `id` has, or had when it died, as it sees it itself.
    pub fn pid(&self, id: ParticipantId) -> Option<u32> {
        if id.slot >= self.slots() {
            return None;
        }
        let word = self.load(id.slot, 1);
        (word >> 32 == id.incarnation && word as u32 != 0).then_some(word as u32)
    }

    /// Whether `id` belongs to the process that has `token`, perhaps by way of another attachment.
    pub fn belongs(&self, id: ParticipantId, token: u64) -> bool {
        id.slot < self.slots()
            && self.load(id.slot, 2) == token
            && self.incarnation(id.slot) == id.incarnation
    }

    /// Whether `id` is alive: whether somebody else than the holder of `locks` holds its byte.
    pub fn is_alive(&self, id: ParticipantId, locks: &impl ByteLocks) -> io::Result<bool> {
        Ok(id.slot < self.slots() && locks.is_locked(life(id))?)
    }

    /// Takes a slot for the holder of `locks`; `None` if all belong to the living.
    ///
    /// First one that nobody has had or that was left, then one whose participant is dead.
    pub fn register(
        &self,
        pid: u32,
        token: u64,
        locks: &impl ByteLocks,
    ) -> io::Result<Option<ParticipantId>> {
        for dead in [false, true] {
            for slot in 0..self.slots() {
                let taken = self.record(slot).is_some_and(|record| record.pid.is_some());
                if taken == dead {
                    if let Some(id) = self.register_in(slot, pid, token, locks)? {
                        return Ok(Some(id));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes `slot`, unless its participant is alive or somebody else is taking it.
    pub fn register_in(
        &self,
        slot: usize,
        pid: u32,
        token: u64,
        locks: &impl ByteLocks,
    ) -> io::Result<Option<ParticipantId>> {
        if !locks.try_lock(right(slot))? {
            return Ok(None);
        }
        let registered = self.enter(slot, pid, token, locks);
        locks.unlock(right(slot))?;
        registered
    }

    /// To be called with the right to `slot`.
    fn enter(
        &self,
        slot: usize,
        pid: u32,
        token: u64,
        locks: &impl ByteLocks,
    ) -> io::Result<Option<ParticipantId>> {
        // Looked at now that it cannot change: somebody may have come and died since.
        let incarnation = self.incarnation(slot);
        let predecessor = ParticipantId { slot, incarnation };
        if self.is_alive(predecessor, locks)? {
            return Ok(None);
        }
        let incarnation = (incarnation % (INCARNATIONS - 1)) + 1;
        let id = ParticipantId { slot, incarnation };
        // Before it stands anywhere: whoever finds it in a word finds it alive.
        if !locks.try_lock(life(id))? {
            return Ok(None);
        }
        // SYNC(register): SeqCst, see `load`. The number first: until then the other two are those
        // of the predecessor, which is not who it was any more.
        self.word(slot, 0).store(incarnation, SeqCst);
        self.word(slot, 1)
            .store(incarnation << 32 | u64::from(pid), SeqCst);
        self.word(slot, 2).store(token, SeqCst);
        Ok(Some(id))
    }

    /// Says that `id` leaves of its own accord; it must still be alive.
    pub fn leave(&self, id: ParticipantId) {
        // SYNC(register): SeqCst, see `load`. The token first: a process must not take a later
        // participant of this slot for itself.
        self.word(id.slot, 2).store(0, SeqCst);
        self.word(id.slot, 1).store(id.incarnation << 32, SeqCst);
    }
}
