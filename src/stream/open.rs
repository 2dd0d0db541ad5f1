//! How a `StreamDict` comes to be, and how it goes.

use std::borrow::Borrow;
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::budget::Budget;
use super::context;
use super::error::StreamError;
use super::generation::{self, BuildError, Facts, Generation, Names, control_of};
use super::record::{MapId, Writer};
use super::replica::Replica;
use super::state::State;
use super::transaction::Transaction;
use super::{Position, Shared, StreamDict, Tree};
use crate::error::{CreateError, Mismatch, OpenError, OpenOrCreateError, UnlinkError};
use crate::identity::{Identity, Kind};
use crate::raw::layout;
use crate::raw::stream::control::Control;
use crate::raw::stream::log;
use crate::raw::stream::switch::{self, Generations};
use crate::segment::{
    Options, Place, Plan, Segment, SegmentOptions, UNLINK_PATIENCE, companions, sealed,
};
use crate::stored::Stored;

/// Bytes of a log at least, unless the options say otherwise.
const DEFAULT_LOG_BYTES: u64 = 64 << 10;

/// The first generation of a dictionary whose control has no name yet.
pub(crate) struct First<V: Stored + ?Sized> {
    generation: Option<Generation>,
    replica: Replica<V>,
    place: Place,
}

impl<V: Stored + ?Sized> Drop for First<V> {
    fn drop(&mut self) {
        if self.generation.take().is_some() {
            // The control has got no name, so nobody has been led to it.
            companions::remove(&self.place);
        }
    }
}

impl<V: Stored + ?Sized> First<V> {
    /// Makes it, with `replica` in its dump, for a control that nobody else can see.
    fn new(
        control: &Segment,
        identity: Identity,
        replica: Replica<V>,
    ) -> Result<Self, CreateError> {
        let Some(own) = control.place() else {
            let what = "a StreamDict cannot be anonymous: its generations follow one another by name; use create_unique, with unlink_on_drop(true) perhaps".to_owned();
            return Err(CreateError::NotSupported { what });
        };
        let options = control.companion_options();
        // What creators have left that died here.
        let _ = companions::remove_forsaken(own, &options, Kind::StreamGeneration);
        let dump_bytes = replica.dump_bytes() as u64;
        let (budget, id) = (Budget::of(control), random()?);
        let facts = |words: u64| Facts {
            id,
            previous: 0,
            number: 1,
            log_words: log::HEAD_WORDS as u64 + words,
            dump_bytes,
            since: Position {
                generation: 1,
                records: 0,
            },
        };
        let least = budget.least_words();
        let reserve = |words: u64| {
            let facts = facts(words);
            let too_large = || CreateError::TooLarge { capacity: words };
            let bytes = facts.segment_bytes().ok_or_else(too_large)?;
            if let Err(StreamError::OverBudget { need, budget }) = budget.allow(bytes, dump_bytes) {
                let what = format!("budget({budget}) (it must be {need} at least)");
                return Err(CreateError::InvalidOption { what });
            }
            let place = control.companion(id).expect("it has a place");
            let blank = Segment::blank(&place, &options, bytes)?;
            Ok((facts, place, blank))
        };
        let (facts, place, blank) =
            reserve(least.max(dump_bytes.div_ceil(8))).or_else(|_| reserve(least))?;
        let generation = Generation::build(control, identity, blank, facts, &replica);
        let generation = generation.map_err(|error| match error {
            BuildError::Create(error) => error,
            BuildError::Encode(source) => CreateError::InvalidOption {
                what: format!("values that cannot be encoded ({source})"),
            },
        })?;
        control_of(control).begin(facts.id);
        // Until the control has its name: else who finds this without a control removes it.
        generation.segment().hold()?;
        generation.segment().publish()?;
        Ok(Self {
            generation: Some(generation),
            replica,
            place,
        })
    }
}

fn random() -> Result<u64, CreateError> {
    context::random().map_err(|error| CreateError::Os {
        call: "getrandom",
        place: "memory".to_owned(),
        source: io::Error::other(error),
    })
}

/// Whether a control is as long as its number of participants says.
fn is_whole(control: &Segment) -> bool {
    segment_bytes(control.header().participants) == Some(control.header().bytes)
}

fn segment_bytes(participants: u64) -> Option<u64> {
    layout::segment_bytes(participants, Control::words(participants as usize) as u64)
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Options<StreamDict<K, V>> {
    /// How many bytes the log of a generation has at least: 65,536 unless set. It has as many as the dump
    /// in front of it, if that is more, and is as long as the longest change.
    ///
    /// The log of a small dictionary that is written often should be longer: each time it is full, the
    /// whole dictionary is copied.
    pub fn log_bytes(&mut self, bytes: u64) -> &mut Self {
        self.log_bytes = Some(bytes);
        self
    }

    /// How many bytes of shared memory the dictionary may take, with both generations while one follows
    /// the other: no limit unless set. A change is [`StreamError::OverBudget`], and does not happen, if two
    /// generations of what it leaves behind would not fit, each with a log of
    /// [`log_bytes`](Self::log_bytes). So a dictionary that may hold `n` bytes of keys and values needs about
    /// `2 * (n + log_bytes)`; with less than twice that it is copied more often than it would be.
    ///
    /// Changes that make it no larger always find room, if their keys and values have fewer bytes than
    /// `log_bytes`, or than 400: what is full can be emptied. (Memory that the file system does not have is another matter: see
    /// [`StreamError::Create`].)
    pub fn budget(&mut self, bytes: u64) -> &mut Self {
        self.budget = Some(bytes);
        self
    }

    /// Creates a dictionary under `name`, which must be free, with these entries: nobody ever sees it
    /// without them.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create_with<Q: Borrow<K::Item>, T: Borrow<V::Item>>(
        &self,
        name: &str,
        entries: impl IntoIterator<Item = (Q, T)>,
    ) -> Result<StreamDict<K, V>, CreateError> {
        self.create_filled(name, |all| {
            entries.into_iter().try_for_each(|(key, value)| {
                all.forget();
                all.set(key.borrow(), value.borrow())
            })
        })
    }

    /// The same, of values and maps.
    ///
    /// # Errors
    /// [`CreateError`]; nothing is left over.
    pub fn create_with_tree(
        &self,
        name: &str,
        tree: &Tree<K::Owned, V::Owned>,
    ) -> Result<StreamDict<K, V>, CreateError>
    where
        K: Stored<Owned: Eq + Hash>,
        V: Stored<Owned: Clone>,
    {
        self.create_filled(name, |all| {
            tree.iter().try_for_each(|(key, node)| {
                all.forget();
                all.set_node(key.borrow(), node)
            })
        })
    }

    fn create_filled(
        &self,
        name: &str,
        fill: impl FnOnce(&mut Transaction<'_, K, V>) -> Result<(), StreamError>,
    ) -> Result<StreamDict<K, V>, CreateError> {
        let (mut replica, mut change, mut undo) =
            (Replica::default(), Writer::default(), Vec::new());
        let all = Transaction::new(&mut replica, &mut change, &mut undo, MapId::ROOT);
        if let Err(error) = all.and_then(|mut all| fill(&mut all)) {
            let what = format!("entries that cannot be stored ({error})");
            return Err(CreateError::InvalidOption { what });
        }
        let plan = sealed::Structure::plan(self)?;
        let begin = |control: &Segment| First::new(control, plan.identity, replica);
        let (segment, first) = Segment::create(name, &self.segment, &plan, begin)?;
        Ok(sealed::Structure::new(segment, first))
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> sealed::Structure for StreamDict<K, V> {
    type Company = First<V>;

    fn identity(options: &Options<Self>) -> Identity {
        Identity {
            kind: Kind::StreamDict,
            key: K::SHAPE,
            value: V::SHAPE,
            schema: options.segment.schema,
        }
    }

    fn plan(options: &Options<Self>) -> Result<Plan, CreateError> {
        if cfg!(any(not(target_os = "linux"), feature = "portable")) {
            let what = "a StreamDict needs Linux, and a build without the feature portable";
            return Err(CreateError::NotSupported { what: what.into() });
        }
        let participants = options.segment.participants()?;
        let invalid = |what: String| Err(CreateError::InvalidOption { what });
        if let Some(capacity) = options.capacity {
            return invalid(format!(
                "capacity({capacity}) (a StreamDict has none; the option budget limits its memory)"
            ));
        }
        let log_bytes = options.log_bytes.unwrap_or(DEFAULT_LOG_BYTES);
        if log_bytes > 1 << 48 {
            return invalid(format!("log_bytes({log_bytes}) (no machine has so many)"));
        }
        let budget = options.budget.unwrap_or(u64::MAX);
        Ok(Plan {
            identity: Self::identity(options),
            bytes: segment_bytes(participants).expect("a small segment"),
            geometry: [log_bytes, budget, 0, 0, 0, 0, 0, 0],
            participants,
        })
    }

    fn whole(plan: &Plan) -> u64 {
        let [log_bytes, ..] = plan.geometry;
        let first = generation::segment_bytes(log::HEAD_WORDS as u64 + log_bytes / 8, 0);
        plan.bytes + first.unwrap_or(0)
    }

    fn begin(options: &Options<Self>, segment: &Segment) -> Result<First<V>, CreateError> {
        First::new(segment, Self::identity(options), Replica::default())
    }

    fn new(segment: Segment, mut first: First<V>) -> Self {
        let generation = first.generation.take().expect("until it is dropped");
        generation.segment().let_go();
        if let Some(place) = segment.place() {
            // Those of a dictionary that had the name before.
            let options = segment.companion_options();
            let _ = companions::remove_forsaken(place, &options, Kind::StreamGeneration);
        }
        let state = State::new(generation, std::mem::take(&mut first.replica));
        let identity = identity_in(&segment);
        Self::from_shared(Shared::new(segment, identity, state))
    }

    fn attach(_: &Options<Self>, segment: Segment) -> Result<Self, OpenError> {
        let damaged = |what| Err(segment.mismatch(Mismatch::Damaged { what }));
        if segment.place().is_none() {
            let what = "a StreamDict has no use for a descriptor, because its generations follow one another by name; open it by its name";
            return Err(OpenError::NotSupported { what: what.into() });
        }
        let [_, _, 0, 0, 0, 0, 0, 0] = segment.header().geometry else {
            return damaged("its geometry has words that mean nothing");
        };
        if !is_whole(&segment) {
            return damaged("its length does not fit its number of participants");
        }
        let identity = identity_in(&segment);
        let state = match State::attach(&Shared::<V>::context_of(&segment, identity)) {
            Ok(state) => state,
            Err(StreamError::Unlinked) => {
                let path = segment.path().unwrap_or_default();
                return Err(OpenError::NotFound { path });
            }
            Err(StreamError::Elsewhere { path }) => return Err(OpenError::NotFound { path }),
            Err(StreamError::Open(error)) => return Err(error),
            Err(StreamError::Lost) => {
                return damaged("the file of its current generation is gone");
            }
            Err(StreamError::Participant(crate::ParticipantError::Os { call, source })) => {
                let place = segment.path().unwrap_or_default().display().to_string();
                return Err(OpenError::Os {
                    call,
                    place,
                    source,
                });
            }
            Err(_) => return damaged("the log of its current generation is damaged"),
        };
        Ok(Self::from_shared(Shared::new(segment, identity, state)))
    }

    fn unlink(options: &Options<Self>, name: &str) -> Result<(), UnlinkError> {
        let options = SegmentOptions {
            read_only: false,
            ..options.segment.clone()
        };
        loop {
            let control = match Segment::open_of_kind(name, &options, Kind::StreamDict) {
                Ok(control) if is_whole(&control) => control,
                Err(OpenError::NotFound { path }) => return Err(UnlinkError::NotFound { path }),
                // What cannot be opened can still be removed, and then what belongs to it is forsaken.
                Ok(_) | Err(_) => {
                    Segment::unlink(name, &options, Kind::StreamDict)?;
                    let place = Place::new(&options.dir, name).map_err(OpenError::from)?;
                    let kind = Kind::StreamGeneration;
                    let _ = companions::remove_forsaken(&place, &options, kind);
                    return Ok(());
                }
            };
            // (If it has been replaced since, once more.)
            if unlink(&control, UNLINK_PATIENCE)? {
                return Ok(());
            }
        }
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    /// How to create or open a dictionary in another way than the shortcuts below do.
    pub fn options() -> Options<Self> {
        Options::default()
    }

    /// Creates a dictionary under `name`, which must be free.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create(name: &str) -> Result<Self, CreateError> {
        Self::options().create(name)
    }

    /// Creates a dictionary under `name`, which must be free, with these entries.
    ///
    /// # Errors
    /// As [`Options::create_with`].
    pub fn create_with<Q: Borrow<K::Item>, T: Borrow<V::Item>>(
        name: &str,
        entries: impl IntoIterator<Item = (Q, T)>,
    ) -> Result<Self, CreateError> {
        Self::options().create_with(name, entries)
    }

    /// Creates a dictionary under `name`, which must be free, with these values and maps.
    ///
    /// # Errors
    /// As [`Options::create_with_tree`].
    pub fn create_with_tree(
        name: &str,
        tree: &Tree<K::Owned, V::Owned>,
    ) -> Result<Self, CreateError>
    where
        K: Stored<Owned: Eq + Hash>,
        V: Stored<Owned: Clone>,
    {
        Self::options().create_with_tree(name, tree)
    }

    /// Opens the dictionary of that name.
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(name: &str) -> Result<Self, OpenError> {
        Self::options().open(name)
    }

    /// Opens the dictionary of that name, or creates it.
    ///
    /// # Errors
    /// As [`Options::open_or_create`].
    pub fn open_or_create(name: &str) -> Result<Self, OpenOrCreateError> {
        Self::options().open_or_create(name)
    }

    /// Takes the name away from the dictionary that has it, and removes its generations. Who has it open can go on
    /// until the log is full: from then on a change is [`StreamError::Unlinked`]. Reading goes on, but for who has
    /// not come as far as the last generation.
    ///
    /// # Errors
    /// As [`Options::unlink`].
    pub fn unlink(name: &str) -> Result<(), UnlinkError> {
        Self::options().unlink(name)
    }

    /// Removes what processes have left that were killed while they created or unlinked a dictionary of
    /// that name in that directory, and tells how many files that were. (Creating one does it too.)
    ///
    /// And the files of earlier generations of the dictionary that has the name. Each goes as the next one
    /// begins, unless the system does not let it.
    ///
    /// # Errors
    /// When the name is none, or the directory cannot be read.
    pub fn gc(dir: impl AsRef<Path>, name: &str) -> io::Result<usize> {
        let mut options = Self::options();
        options.dir(dir.as_ref());
        let place = Place::new(&options.segment.dir, name).map_err(io::Error::other)?;
        let kind = Kind::StreamGeneration;
        let forsaken = companions::remove_forsaken(&place, &options.segment, kind)?;
        Ok(forsaken + remove_outdated(name, &options.segment).unwrap_or(0))
    }
}

/// Removes the generations of the dictionary of that name that came before the current one, and tells how many
/// had a name still. `None` if there is no dictionary.
fn remove_outdated(name: &str, options: &SegmentOptions) -> Option<usize> {
    let options = SegmentOptions {
        read_only: true,
        ..options.clone()
    };
    let control = Segment::open_of_kind(name, &options, Kind::StreamDict).ok();
    let control = control.filter(is_whole)?;
    let identity = control.header().identity()?;
    let names = Names {
        control: &control,
        identity,
    };
    let current = switch::attach(&control_of(&control), &names).ok()?;
    // Who builds one of an earlier number has lost, or will. (And one of a later number may have won.)
    let is_outdated = |generation: Generation| generation.facts().number < current.facts().number;
    let removed = companions::of(&control).ok()?.into_iter();
    let removed = removed.filter(|(id, place)| {
        let found = names.open(*id).ok().flatten();
        found.is_some_and(is_outdated) && companions::remove(place)
    });
    Some(removed.count())
}

/// Takes the name away from a dictionary, if it still has it, and removes its generations. Waits so long
/// for somebody else who is at that.
pub(super) fn unlink(control: &Segment, patience: Duration) -> Result<bool, UnlinkError> {
    // In this order: from here on nobody finds it; from the second line on nobody names a generation, or
    // removes its name again; and what was named before that is found in the directory.
    let unlinked = control.unlink_this(patience)?;
    if unlinked {
        let all = control_of(control);
        all.unlink();
        if companions::remove_all(control).is_err() {
            // The directory cannot be read: then at least the one that is there nearly always.
            if let Some(place) = control.companion(all.current()) {
                companions::remove(&place);
            }
        }
    }
    Ok(unlinked)
}

/// The identity that a checked header gives.
fn identity_in(segment: &Segment) -> Identity {
    segment.header().identity().expect("it was checked")
}
