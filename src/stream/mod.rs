//! `StreamDict`: its handle, and what reads.

mod budget;
mod context;
mod entry;
mod error;
mod generation;
mod nested;
mod open;
mod record;
mod replica;
mod state;
mod status;
mod transaction;
mod tree;
mod turns;
mod view;
mod watch;
mod write;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Duration;

use self::budget::Budget;
use self::context::Context;
pub use self::entry::StreamEntry;
pub use self::error::StreamError;
use self::record::MapId;
use self::state::State;
pub use self::status::{Status, StreamParticipant};
pub use self::transaction::Transaction;
pub use self::tree::{Node, Tree, TreeIntoIter, TreeIter};
pub use self::view::{View, ViewIter, ViewNode};
pub use self::watch::{KeyChange, ValueChange, Watch, WatchEvent};
use crate::error::UnlinkError;
use crate::identity::Identity;
use crate::per_process::PerProcess;
use crate::raw::bell;
use crate::segment::{Segment, UNLINK_PATIENCE, attachment};
use crate::stored::Stored;
use crate::sync::Access;

/// A dictionary of any size in shared memory: keys and values of any length, as many as memory has room
/// for, read and changed by any number of processes at once.
///
/// **The price:** every process that has it open keeps a copy of all of it, and each change is copied into
/// each process. So it is for what is read far more often than it is written: configuration, caches,
/// registries.
///
/// **What you get for it:** a read is one atomic load and a look-up in the process's own memory. Any number of
/// changes of any keys happen at once or not at all ([`transaction`](Self::transaction)), without a lock. Keys
/// come in the order in which they were inserted, the same in every process. And nobody ever waits for a
/// process that is stopped or was killed, whatever it was doing.
///
/// # How it works
///
/// Changes are appended to a log in shared memory; each process reads on in it whenever it looks. When the log
/// is full, a writer copies the whole dictionary into a new file, the next *generation*, with an empty log
/// behind it, and the others go on there: who had read the old log to its end has everything already.
///
/// The dictionary is a directory entry of its name, a small segment, and one more file, that of the current
/// generation: `NAME.INSTANCE.ID`.
///
/// # Threads and forks
///
/// A handle can be shared by threads: clones of it share one copy, under a lock of this process, which is never held
/// while another process is waited for. (For one of its own a thread opens the dictionary again.) A forked child can
/// use the handles that it inherits; it has its own copy from then on, which costs no reading unless another thread
/// was looking at its parent's at that moment, or changing it: then the child keeps the memory of that generation as
/// long as it lives.
///
/// Encodings, `Clone`, `Drop` and closures may panic: what they were about is made whole or not at all.
///
/// # Values
///
/// A value in a copy stands for its stored bytes: one with interior mutability (an atomic, a `Cell`) that is changed
/// through a [`view`](Self::view) makes copies differ, and what differs may become the next dump. Values are compared
/// by their stored bytes, too: two `HashSet`s with the same content may differ in that.
///
/// # Memory
///
/// Shared: about twice the bytes of all keys and values, and while one generation follows another four times;
/// [`Options::budget`](crate::Options::budget) limits that. (If whoever was to begin a generation is stopped or killed
/// in the middle of it, several others may make one at once, of which one is used.) A process that does not look at the dictionary keeps
/// the generation that it has seen last from being freed: [`status`](Self::status) tells.
///
/// # Limits
///
/// Keys up to 512 MiB, values and single changes up to 4 GiB. Linux only. It cannot be anonymous.
pub struct StreamDict<K: ?Sized, V: Stored + ?Sized> {
    shared: Arc<Shared<V>>,
    /// The maps that lead to its own from the root, which is not one of them, with that.
    path: Vec<MapId>,
    keys: PhantomData<fn() -> *const K>,
}

/// What the clones of a handle share.
struct Shared<V: Stored + ?Sized> {
    segment: Segment,
    identity: Identity,
    locals: PerProcess<Local<V>>,
}

/// The replica of one process.
struct Local<V: Stored + ?Sized> {
    token: u64,
    /// `None` once a child has taken it over. Taken out by `drop`, and only there.
    state: Option<RwLock<Option<State<V>>>>,
}

impl<V: Stored + ?Sized> Local<V> {
    fn new(token: u64, state: State<V>) -> Self {
        let state = Some(RwLock::new(Some(state)));
        Self { token, state }
    }

    fn lock(&self) -> &RwLock<Option<State<V>>> {
        self.state.as_ref().expect("until it is dropped")
    }

    /// Takes the state over from a process that this one was forked from, if no thread of that was at it.
    fn take(&self) -> Option<State<V>> {
        self.lock().try_write().ok()?.take()
    }
}

impl<V: Stored + ?Sized> Drop for Local<V> {
    fn drop(&mut self) {
        let is_own = context::token().is_ok_and(|token| token == self.token);
        if !is_own && matches!(self.lock().try_write(), Err(TryLockError::WouldBlock)) {
            // A thread of the parent was changing it at the fork: what is there is half of something.
            std::mem::forget(self.state.take());
        }
    }
}

thread_local! {
    /// The dictionaries that this thread holds a view of, or is in a transaction on.
    static HELD: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Says that this thread is at a dictionary, as long as it is there. Not to be sent to another thread.
struct Held {
    number: u64,
    here: PhantomData<*const ()>,
}

impl Held {
    fn new(number: u64) -> Result<Self, StreamError> {
        HELD.with_borrow_mut(|held| {
            if held.contains(&number) {
                return Err(StreamError::Reentrant);
            }
            held.push(number);
            let here = PhantomData;
            Ok(Self { number, here })
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // (A thread that ends has nothing to remember.)
        let _ = HELD.try_with(|held| held.borrow_mut().retain(|&number| number != self.number));
    }
}

/// A position in the stream of changes: a cursor that any process understands.
///
/// Later ones are greater. That of the end of a generation and that of the start of the next mean the same,
/// and are not equal: ask [`StreamDict::is_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The number of the generation, from 1.
    pub generation: u64,
    /// How many records of its log come before.
    pub records: u64,
}

type ReadGuard<'a, V> = RwLockReadGuard<'a, Option<State<V>>>;
type WriteGuard<'a, V> = RwLockWriteGuard<'a, Option<State<V>>>;

fn of<V: Stored + ?Sized>(state: &Option<State<V>>) -> &State<V> {
    state.as_ref().expect("of this process")
}

impl<V: Stored + ?Sized> Shared<V> {
    fn new(segment: Segment, identity: Identity, state: State<V>) -> Self {
        let shared = Self {
            segment,
            identity,
            locals: PerProcess::new(),
        };
        // (If it fails here, every later call tells why.)
        if let Ok(token) = context::token() {
            shared.begin(token, state);
        }
        shared
    }

    /// Makes `state` that of this process, unless another thread has been faster: then that one's is as
    /// good.
    fn begin(&self, token: u64, state: State<V>) {
        let cx = self.context();
        if cx.control.access() == Access::ReadWrite {
            // For `status`; who cannot have an identity is not in it.
            let _ = cx.slot();
            state.tell(&cx);
        }
        let _ = self.locals.push(token, Local::new(token, state), true);
    }

    fn context_of(segment: &Segment, identity: Identity) -> Context<'_> {
        Context {
            segment,
            control: generation::control_of(segment),
            identity,
            budget: Budget::of(segment),
        }
    }

    fn context(&self) -> Context<'_> {
        Self::context_of(&self.segment, self.identity)
    }

    #[inline]
    fn local(&self) -> Result<&RwLock<Option<State<V>>>, StreamError> {
        let token = context::token()?;
        match self.locals.get(token) {
            Some(local) => Ok(local.lock()),
            None => self.new_local(token),
        }
    }

    /// That of a process that was forked.
    #[cold]
    fn new_local(&self, token: u64) -> Result<&RwLock<Option<State<V>>>, StreamError> {
        let cx = self.context();
        let state = match self.locals.inherited(token).and_then(Local::take) {
            Some(state) => state.inherited(),
            None => State::attach(&cx)?,
        };
        self.begin(token, state);
        let local = self.locals.get(token).expect("it was pushed");
        Ok(local.lock())
    }

    /// What this process has, with everything that was appended before this.
    #[inline]
    fn read(&self) -> Result<ReadGuard<'_, V>, StreamError> {
        let local = self.local()?;
        // (Poisoned by a panic in a closure, which changes nothing.)
        let state = local.read().unwrap_or_else(PoisonError::into_inner);
        if !of(&state).has_news() {
            return Ok(state);
        }
        drop(state);
        drop(self.write()?);
        // Other threads may have read on: that does no harm.
        Ok(local.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether another generation has begun after that one.
    fn has_left(&self, generation: u64) -> bool {
        let Some(state) = self.local().ok().and_then(|local| local.try_read().ok()) else {
            return false;
        };
        let state = of(&state);
        state.generation.facts().id != generation || state.generation.log().next_generation() != 0
    }

    /// The same, to change it.
    fn write(&self) -> Result<WriteGuard<'_, V>, StreamError> {
        let mut state = self
            .local()?
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let (fresh, cx) = (state.as_mut().expect("of this process"), self.context());
        let before = fresh.position();
        fresh.catch_up(&cx)?;
        if fresh.position() != before {
            fresh.tell(&cx);
        }
        Ok(state)
    }
}

impl<V: Stored + ?Sized> Shared<V> {
    fn unlink_if_due(&mut self, patience: Duration) -> Result<(), UnlinkError> {
        match self.segment.take_unlinker() {
            true => open::unlink(&self.segment, patience).map(drop),
            false => Ok(()),
        }
    }
}

impl<V: Stored + ?Sized> Drop for Shared<V> {
    fn drop(&mut self) {
        // A destructor has nobody to tell, and waits for nobody.
        let _ = self.unlink_if_due(Duration::ZERO);
    }
}

attachment!(impl [K: ?Sized, V: Stored + ?Sized] StreamDict<K, V>, shared.segment);

impl<K: ?Sized, V: Stored + ?Sized> Clone for StreamDict<K, V> {
    /// Another handle to the same attachment, with the same copy.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            path: self.path.clone(),
            keys: PhantomData,
        }
    }
}

impl<K: ?Sized, V: Stored + ?Sized> fmt::Debug for StreamDict<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamDict")
            .field("name", &self.shared.segment.name())
            .field("depth", &self.path.len())
            .finish_non_exhaustive()
    }
}

/// Reading. Each of these reads on in the log first, if there is anything: so it sees every change that was
/// complete before it began, by whatever process.
impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    fn from_shared(shared: Shared<V>) -> Self {
        Self {
            shared: Arc::new(shared),
            path: Vec::new(),
            keys: PhantomData,
        }
    }

    /// A view of what is there now: for many looks at plain-map speed, all at one state. Other threads of
    /// this process cannot read on while it is there, nor change anything; other processes can. (So two threads
    /// must not each hold a view of one dictionary while they change the other's.)
    ///
    /// Never waits for another process.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn view(&self) -> Result<View<'_, K, V>, StreamError> {
        let held = Held::new(self.shared.segment.number())?;
        View::new(self.shared.read()?, held, self.map())
    }

    /// A view of the whole dictionary.
    fn view_of_all(&self) -> Result<View<'_, K, V>, StreamError> {
        let held = Held::new(self.shared.segment.number())?;
        View::new(self.shared.read()?, held, MapId::ROOT)
    }

    fn map(&self) -> MapId {
        self.path.last().copied().unwrap_or_default()
    }

    /// The value of `key`, cloned; `None` if it is not there. [`StreamError::IsMap`] if it holds a map.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn get(&self, key: &K::Item) -> Result<Option<V::Owned>, StreamError>
    where
        V::Owned: Clone,
    {
        Ok(self.view()?.get(key)?.cloned())
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, StreamError> {
        self.view()?.contains_key(key)
    }

    /// Number of keys: those of maps in it do not count.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn len(&self) -> Result<usize, StreamError> {
        Ok(self.view()?.len())
    }

    /// Whether there is no key.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn is_empty(&self) -> Result<bool, StreamError> {
        Ok(self.view()?.is_empty())
    }

    /// How far the stream has come.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn position(&self) -> Result<Position, StreamError> {
        Ok(self.view_of_all()?.position())
    }

    /// Whether nothing has changed since `position`.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn is_at(&self, position: Position) -> Result<bool, StreamError> {
        Ok(self.view_of_all()?.is_at(position))
    }

    /// Waits until something has changed since `seen`, and returns the position by then; `None` if nothing
    /// has after `timeout`.
    ///
    /// Every change wakes those who wait. Blocking. If whoever made the change was killed before it had woken
    /// anybody, the waiter looks by itself after 50 ms; a handle opened with `read_only(true)` looks every 5 ms.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn wait_for_change(
        &self,
        seen: Position,
        timeout: Duration,
    ) -> Result<Option<Position>, StreamError> {
        let deadline = bell::after(timeout);
        let look = || match self.view_of_all() {
            Ok(view) if view.is_at(seen) => None,
            Ok(view) => Some(Ok(view.position())),
            Err(error) => Some(Err(error)),
        };
        let bell = self.shared.context().bell();
        let changed = bell::spin(look).or_else(|| match self.shared.segment.access() {
            Access::ReadWrite => bell.wait(look, deadline),
            Access::ReadOnly => bell.poll(look, deadline),
        });
        changed.transpose()
    }

    /// Drops this handle, and gives back what was in the dictionary, in the order in which the keys were
    /// inserted: collect it into whatever map you like.
    ///
    /// If it was the last one of the attachment, and the creator's, and
    /// [`unlink_on_drop`](crate::Options::unlink_on_drop) asked for that, the dictionary is unlinked.
    ///
    /// # Errors
    /// [`StreamError`]; [`StreamError::IsMap`] if a key holds a map (take the [`tree`](Self::tree) instead);
    /// [`StreamError::Unlink`] if nothing but that failed. The handle is gone then as well.
    #[expect(clippy::type_complexity, reason = "keys and values, and no more")]
    pub fn close(self) -> Result<Vec<(K::Owned, V::Owned)>, StreamError>
    where
        V::Owned: Clone,
    {
        let entries = || {
            let view = self.view()?;
            let cloned = |entry| {
                let (key, value): (K::Owned, &V::Owned) = entry?;
                Ok((key, value.clone()))
            };
            view.iter().map(cloned).collect()
        };
        let entries: Result<_, StreamError> = entries();
        let unlinked =
            Arc::into_inner(self.shared).map(|mut shared| shared.unlink_if_due(UNLINK_PATIENCE));
        let entries = entries?;
        unlinked.transpose().map_err(StreamError::Unlink)?;
        Ok(entries)
    }

    /// Reads the dump and the log of the current generation anew, and forgets what was there.
    ///
    /// # Errors
    /// [`StreamError`]; then what was there stays.
    pub fn reload(&self) -> Result<(), StreamError> {
        let _held = Held::new(self.shared.segment.number())?;
        let cx = self.shared.context();
        let mut state = self.shared.write()?;
        let mut fresh = State::attach(&cx)?;
        fresh.loads += of(&state).loads;
        *state = Some(fresh);
        Ok(())
    }
}
