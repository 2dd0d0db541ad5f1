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

    /// Takes a slot for the holder of `locks`; `None` if all belong to the living, or are being taken
    /// or left at this instant.
    ///
    /// First one that nobody has had or that was left, then one whose participant is dead: its pid
    /// is what the next owner of its lock is told.
    ///
    /// `recover` is called for a slot before it changes hands: what its latest participant left there is
    /// to be put in order, for that is dead, or has left. Nobody else is called for that slot meanwhile;
    /// but it may be called again, if this process dies in between.
    pub fn register(
        &self,
        pid: u32,
        token: u64,
        locks: &impl ByteLocks,
        recover: impl Fn(usize),
    ) -> io::Result<Option<ParticipantId>> {
        for dead in [false, true] {
            for slot in 0..self.slots() {
                let taken = self.record(slot).is_some_and(|record| record.pid.is_some());
                if taken == dead {
                    if let Some(id) = self.register_in(slot, pid, token, locks, &recover)? {
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
        recover: &impl Fn(usize),
    ) -> io::Result<Option<ParticipantId>> {
        if !locks.try_lock(right(slot))? {
            return Ok(None);
        }
        let registered = self.enter(slot, pid, token, locks, recover);
        locks.unlock(right(slot))?;
        registered
    }

    /// Calls `recover` for the slots whose participants are dead, as [`register`](Self::register) does,
    /// and tells how many they were. Those that somebody else is seeing to at this instant are left out.
    pub fn recover(&self, locks: &impl ByteLocks, recover: impl Fn(usize)) -> io::Result<usize> {
        let mut recovered = 0;
        let dead = |slot| -> io::Result<Option<ParticipantId>> {
            match self.record(slot) {
                Some(Record { id, pid: Some(_) }) if !self.is_alive(id, locks)? => Ok(Some(id)),
                _ => Ok(None),
            }
        };
        for slot in 0..self.slots() {
            if dead(slot)?.is_none() || !locks.try_lock(right(slot))? {
                continue;
            }
            // Looked at now that it cannot change.
            let still = dead(slot);
            if let Ok(Some(id)) = still {
                recover(slot);
                // So that it is not done again.
                self.leave(id);
                recovered += 1;
            }
            locks.unlock(right(slot))?;
            still?;
        }
        Ok(recovered)
    }

    /// To be called with the right to `slot`.
    fn enter(
        &self,
        slot: usize,
        pid: u32,
        token: u64,
        locks: &impl ByteLocks,
        recover: &impl Fn(usize),
    ) -> io::Result<Option<ParticipantId>> {
        // Looked at now that it cannot change: somebody may have come and died since.
        let incarnation = self.incarnation(slot);
        let predecessor = ParticipantId { slot, incarnation };
        if self.is_alive(predecessor, locks)? {
            return Ok(None);
        }
        recover(slot);
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

    /// Says that `id` leaves of its own accord; it must still be alive (or the caller have the right to
    /// its slot).
    pub fn leave(&self, id: ParticipantId) {
        // SYNC(register): SeqCst, see `load`. While it still lives, so nobody takes the slot meanwhile.
        self.word(id.slot, 2).store(0, SeqCst);
        self.word(id.slot, 1).store(id.incarnation << 32, SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::hash::mix;
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::thread;

    /// The kernel's locks on bytes: who holds which.
    #[derive(Default)]
    struct Kernel(Mutex<BTreeMap<u64, u32>>);

    /// The locks of one holder.
    struct Description<'a>(&'a Kernel, u32);

    impl ByteLocks for Description<'_> {
        fn try_lock(&self, byte: u64) -> io::Result<bool> {
            let Self(kernel, me) = *self;
            Ok(*kernel.0.lock().unwrap().entry(byte).or_insert(me) == me)
        }

        fn unlock(&self, byte: u64) -> io::Result<()> {
            let Self(kernel, me) = *self;
            assert_eq!(kernel.0.lock().unwrap().remove(&byte), Some(me));
            Ok(())
        }

        fn is_locked(&self, byte: u64) -> io::Result<bool> {
            let Self(kernel, me) = *self;
            let holder = kernel.0.lock().unwrap().get(&byte).copied();
            Ok(holder.is_some_and(|holder| holder != me))
        }
    }

    impl Kernel {
        /// Registers number `n`, whose pid and token are that as well.
        fn register(&self, words: &[Word], n: u32) -> Option<ParticipantId> {
            let table = Participants::new(words, Access::ReadWrite);
            let locks = Description(self, n);
            table.register(n, u64::from(n), &locks, |_| ()).unwrap()
        }

        /// What it does when a holder dies.
        fn bury(&self, n: u32) {
            self.0.lock().unwrap().retain(|_, holder| *holder != n);
        }
    }

    fn heap(slots: usize) -> Vec<Word> {
        (0..slots * RECORD_WORDS).map(|_| Word::new(0)).collect()
    }

    #[test]
    fn an_identity_is_taken_apart_as_it_was_put_together() {
        for slot in [0, 1, MOST as usize - 1] {
            for incarnation in [0, 1, INCARNATIONS - 1] {
                let id = ParticipantId { slot, incarnation };
                assert_eq!(ParticipantId::from_bits(id.bits()), id);
                assert!(id.bits() < 1 << 40);
                // Offsets that the kernel takes, and those of lives and of rights apart.
                assert!(right(slot) < life(id) && life(id) < i64::MAX as u64);
            }
        }
        assert!(right(MOST as usize) < 1 << 61);
    }

    #[test]
    fn slots_are_used_again_and_incarnations_are_not() {
        let (kernel, words) = (Kernel::default(), heap(2));
        let table = Participants::new(&words, Access::ReadWrite);
        let ids = [1, 2, 3].map(|n| kernel.register(&words, n));
        let [Some(first), Some(second), None] = ids else {
            panic!("{ids:?}");
        };
        assert_eq!((first.slot, second.slot), (0, 1));

        kernel.bury(1);
        let stranger = Description(&kernel, 99);
        assert!(!table.is_alive(first, &stranger).unwrap());
        let third = kernel.register(&words, 3).unwrap();
        assert_eq!((third.slot, third.incarnation), (0, first.incarnation + 1));
        assert!(!table.is_alive(first, &stranger).unwrap());
        assert!(table.is_alive(third, &stranger).unwrap());
        assert_eq!((table.pid(first), table.pid(third)), (None, Some(3)));
        assert!(table.belongs(third, 3) && !table.belongs(first, 3));

        table.leave(second);
        assert_eq!((table.pid(second), table.belongs(second, 2)), (None, false));
        // Still alive: its slot is not free yet.
        assert_eq!(kernel.register(&words, 4), None);
        kernel.bury(2);
        let fourth = kernel.register(&words, 4).unwrap();
        assert_eq!((fourth.slot, fourth.incarnation), (1, 2));
    }

    /// One that left before one that died: the latter may still be of interest.
    #[test]
    fn a_slot_that_was_left_comes_before_one_of_a_dead() {
        let (kernel, words) = (Kernel::default(), heap(2));
        let ids = [1, 2].map(|n| kernel.register(&words, n).unwrap());
        Participants::new(&words, Access::ReadWrite).leave(ids[1]);
        kernel.bury(1);
        kernel.bury(2);
        let slots = [3, 4].map(|n| kernel.register(&words, n).unwrap().slot);
        assert_eq!(slots, [1, 0]);
    }

    #[test]
    fn after_the_last_incarnation_comes_the_first() {
        for (latest, next) in [
            (0, 1),
            (INCARNATIONS - 2, INCARNATIONS - 1),
            (INCARNATIONS - 1, 1),
            // Nothing but garbage has more bits.
            (INCARNATIONS, 1),
            (u64::MAX, 1),
        ] {
            let (kernel, words) = (Kernel::default(), heap(1));
            words[0].store(latest, SeqCst);
            let id = kernel.register(&words, 7).unwrap();
            assert_eq!((id.slot, id.incarnation), (0, next));
            let table = Participants::new(&words, Access::ReadWrite);
            assert_eq!(table.record(0), Some(Record { id, pid: Some(7) }));
        }
    }

    /// Records that no table of ours would hold, and somebody who locks what it likes: registering
    /// ends, and never gives an identity that somebody else lives by.
    #[test]
    fn a_table_of_garbage_gives_nobody_the_life_of_another() {
        let slots = 4;
        for seed in 0..if cfg!(miri) { 3 } else { 30 } {
            let (kernel, words) = (Kernel::default(), heap(slots));
            for (n, word) in words.iter().enumerate() {
                word.store(mix(n as u64, seed), SeqCst);
            }
            let table = Participants::new(&words, Access::ReadWrite);
            let hostile = Description(&kernel, 1);
            let mut taken = Vec::new();
            for slot in 0..slots {
                let incarnation = table.incarnation(slot);
                let next = incarnation % (INCARNATIONS - 1) + 1;
                // A bit each: the latest one lives, the next one does already, somebody registers.
                let choice = mix(slot as u64, seed + 1000);
                for (bit, incarnation) in [(1, incarnation), (2, next)] {
                    let id = ParticipantId { slot, incarnation };
                    if choice & bit != 0 {
                        assert!(hostile.try_lock(life(id)).unwrap());
                        taken.push(id);
                    }
                }
                if choice & 4 != 0 {
                    assert!(hostile.try_lock(right(slot)).unwrap());
                }
            }
            for n in 2..8 {
                if let Some(id) = kernel.register(&words, n) {
                    assert!(!taken.contains(&id), "{id:?}, seed {seed}");
                    assert_eq!(table.pid(id), Some(n));
                    taken.push(id);
                }
            }
        }
    }

    #[test]
    fn no_slot_of_the_table_is_nobody() {
        let (kernel, words) = (Kernel::default(), heap(1));
        let table = Participants::new(&words, Access::ReadWrite);
        let id = ParticipantId::from_bits(u64::MAX >> 24);
        assert!(!table.is_alive(id, &Description(&kernel, 1)).unwrap());
        assert_eq!((table.pid(id), table.belongs(id, 0)), (None, false));
        assert_eq!(table.record(0), None);
    }

    #[test]
    fn threads_that_register_and_die_never_share_an_identity() {
        let (threads, rounds) = if cfg!(miri) { (3, 2) } else { (4, 500) };
        let (kernel, words) = (Kernel::default(), heap(2));
        let mut ids: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|t| {
                    let (kernel, words) = (&kernel, &words);
                    let table = Participants::new(words, Access::ReadWrite);
                    scope.spawn(move || {
                        let mut ids = Vec::new();
                        for n in 0..rounds {
                            let number = 1 + t * rounds + n;
                            if let Some(id) = kernel.register(words, number) {
                                assert_eq!(table.pid(id), Some(number));
                                assert!(table.belongs(id, u64::from(number)));
                                if n % 2 == 0 {
                                    table.leave(id);
                                }
                                ids.push(id.bits());
                            }
                            kernel.bury(number);
                        }
                        ids
                    })
                })
                .collect();
            let ids = threads.into_iter().flat_map(|t| t.join().unwrap());
            ids.collect()
        });
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "an identity was given twice");
        assert!(count > 0);
    }
}
