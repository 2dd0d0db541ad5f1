//! What the processes share: the control, the generations, and their names.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use forkmap::model::stream::control::Control;
use forkmap::model::stream::log::{self, Log};
use forkmap::model::stream::switch::{self, Generations};
use forkmap::model::{Access, Word};
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::digits::History;
pub(super) use super::digits::Replica;

/// Sizes of a world.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Records that one log has room for.
    pub records: usize,
    /// Words of a payload.
    pub payload: usize,
    /// Participants.
    pub slots: usize,
    /// Generations that each of them can build.
    pub builds: usize,
}

impl Shape {
    /// So many participants, each of which can build so many generations with so many records.
    pub fn new(slots: usize, builds: usize, records: usize) -> Self {
        Self {
            records,
            payload: 1,
            slots,
            builds,
        }
    }

    fn arena_words(self) -> usize {
        self.records * (log::RECORD_WORDS + self.payload)
    }
}

/// States of a name.
const NEVER: u64 = 0;
const THERE: u64 = 1;
const REMOVED: u64 = 2;

/// A generation that there is, or can be.
#[derive(Debug)]
struct Stored {
    previous: Word,
    dump: Word,
    log: Vec<Word>,
    name: Word,
}

/// A dictionary, and the directory in which its generations stand.
#[derive(Debug)]
pub struct World {
    pub(super) shape: Shape,
    control: Vec<Word>,
    /// That of id 1 comes first.
    stored: Vec<Stored>,
    /// How many generations each participant has built. (No word: nobody else looks at them.)
    built: Vec<AtomicUsize>,
    /// Something that has been said, as one process has told the others in another way.
    told: Word,
}

impl World {
    /// One whose first generation is empty.
    pub fn new(shape: Shape) -> Arc<Self> {
        let words = |n| (0..n).map(|_| Word::new(0)).collect::<Vec<_>>();
        let stored = (0..1 + shape.slots * shape.builds).map(|n| Stored {
            previous: Word::new(0),
            dump: Word::new(0),
            log: words(log::HEAD_WORDS + shape.arena_words()),
            name: Word::new(if n == 0 { THERE } else { NEVER }),
        });
        let world = Self {
            shape,
            control: words(Control::words(shape.slots)),
            stored: stored.collect(),
            built: (0..shape.slots).map(|_| AtomicUsize::new(0)).collect(),
            told: Word::new(0),
        };
        world.control(Access::ReadWrite).begin(1);
        Arc::new(world)
    }

    /// The control, as one sees it that has mapped it for `access`.
    pub fn control(&self, access: Access) -> Control<'_> {
        Control::new(&self.control, access)
    }

    /// Tells everybody what has been said.
    pub fn tell(&self, history: History) {
        self.told.store(history, Release);
    }

    /// What has been told.
    pub fn told(&self) -> History {
        self.told.load(Acquire)
    }

    /// The log of the first generation.
    pub fn first_log(&self, access: Access) -> Log<'_> {
        Log::new(&self.stored[0].log, access)
    }

    fn stored(&self, id: u64) -> &Stored {
        let n = usize::try_from(id).expect("a small id");
        &self.stored[n.checked_sub(1).expect("0 is no generation")]
    }

    /// The names that are there.
    pub fn names(&self) -> Vec<u64> {
        let ids = 1..=self.stored.len() as u64;
        ids.filter(|&id| self.stored(id).name.load(Acquire) == THERE)
            .collect()
    }

    /// Unlinks the dictionary, as `StreamDict::unlink` does.
    pub fn unlink_all(&self) {
        self.control(Access::ReadWrite).unlink();
        for id in 1..=self.stored.len() as u64 {
            // The system has one lock for who reads a directory and who makes a name in it: so of the two
            // the later one sees what the earlier one has done before.
            self.stored(id).name.fetch_add(0, AcqRel);
            self.files(Access::ReadWrite).unlink(id);
        }
    }

    /// Its names, for one that maps what it opens for `access`.
    pub(super) fn files(&self, access: Access) -> Files<'_> {
        Files {
            world: self,
            access,
        }
    }

    /// The id of what the participant of that slot builds next, which nothing else has or had.
    pub(super) fn take_id(&self, slot: usize) -> u64 {
        let builds = self.shape.builds as u64;
        let built = self.built[slot].fetch_add(1, Relaxed) as u64;
        assert!(built < builds, "a world with too few generations");
        2 + slot as u64 * builds + built
    }

    /// Writes generation `id`, which has no name yet.
    pub(super) fn build(
        &self,
        id: u64,
        previous: &Generation<'_>,
        dump: &Replica,
        _changes: &[u8],
    ) -> Generation<'_> {
        let stored = self.stored(id);
        // Relaxed: whatever leads to it must release them.
        stored.previous.store(previous.id, Relaxed);
        stored.dump.store(dump.history, Relaxed);
        self.files(Access::ReadWrite).generation(id)
    }

    /// A hint, which no model needs: logs have one size.
    pub(super) fn want(&self, _log: &Log<'_>, _changes: &[u8]) {}

    /// Whether somebody is elected behind this log while a builder waits: not at all, here.
    pub(super) fn is_elected_soon(&self, log: &Log<'_>) -> bool {
        log.next_generation() != 0
    }

    /// The models clean up by themselves: see [`clean`](Self::clean).
    pub(super) fn clean_all(&self) {}

    /// Whether the control's name was taken away by somebody who has not said so: nobody is killed there.
    pub(super) fn has_lost_its_name(&self) -> bool {
        false
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
            previous: stored.previous.load(Relaxed),
            dump: Replica {
                history: stored.dump.load(Relaxed),
                words: self.world.shape.payload,
            },
            log: Log::new(&stored.log, self.access),
        }
    }
}

impl<'a> Generations for Files<'a> {
    type Generation = Generation<'a>;
    type Error = Infallible;

    fn open(&self, id: u64) -> Result<Option<Generation<'a>>, Infallible> {
        // Acquire: who finds a name gone sees what its remover had done before.
        let is_there = self.world.stored(id).name.load(Acquire) == THERE;
        Ok(is_there.then(|| self.generation(id)))
    }

    fn unlink(&self, id: u64) {
        let name = &self.world.stored(id).name;
        // AcqRel: see `open`. One that is not there is left alone.
        let _ = name.compare_exchange(THERE, REMOVED, AcqRel, Acquire);
    }

    fn link(&self, generation: &Generation<'a>) -> Result<(), Infallible> {
        let name = &self.world.stored(generation.id).name;
        // Acquire: see `unlink_all`. And no Release: the system may give more, but the protocol is to be right
        // by what its own words release.
        let linked = name.compare_exchange(NEVER, THERE, Acquire, Acquire);
        assert_eq!(linked, Ok(NEVER), "a name comes back");
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
