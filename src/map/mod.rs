//! `SharedHashMap`: its handle, and what reads.

pub mod entry;
pub mod iter;
mod maintain;
mod open;
mod wait;
mod write;
mod writer;
// The last one, so that its many methods come last in the documentation.
mod integers;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use self::maintain::Stats;
pub use self::wait::WaitError;
use crate::error::{CodecError, ReadError};
use crate::raw::bytes::Bytes;
use crate::raw::map::{Table, Target};
use crate::segment::{Pinned, Segment, View, alone, attachment};
use crate::stored::Stored;

/// A hash map of fixed capacity in shared memory: keys and values up to a fixed size, inserted, replaced
/// and removed by any number of processes at once, without a lock.
///
/// **The price:** how many keys fit, and how long keys and values may be, is fixed at creation, and all
/// of that memory is taken then.
///
/// **What you get for it:** nobody ever waits for anybody. A process that is killed or stopped at any
/// instruction delays no other one; what it was doing has happened, or it has not; no value is ever torn,
/// and no room is lost. The room of a removed key can be used at once, by any key, and look-ups are as
/// fast after a million removals as before.
///
/// # Keys and values
///
/// Plain data, text, bytes, or (with the feature `serde`) any type that serde knows: see [`Stored`]. They
/// are handed in by reference and come out as copies: [`get`](Self::get) returns what was the value at one
/// instant, whole. For a set, take `()` as the value.
///
/// # Limits
///
/// Exactly [`capacity`](Self::capacity) keys. One more is [`WriteError::Full`](crate::WriteError::Full),
/// and changes nothing; reading, replacing and removing go on. (If other processes are inserting or removing
/// at that moment, or were stopped in the middle of it, some of the last cells may be in their hands: near the
/// brim a map that is being changed may be full a few keys early.) Up to 67 million keys. Keys that vary in
/// length have at most 65,535 bytes.
///
/// Every thread that changes the map is a *writer*, and there is room for 128 of them at once
/// unless [`Options::participants`](crate::Options::participants) says otherwise. A thread becomes one by
/// its first change, which costs some system calls. When it ends, its place is kept for the next thread of its
/// process that needs one, and when the process ends, however it ends, for any other; so what counts is how
/// many threads of each process have changed the map at once.
/// One too many is [`WriteError::Writer`](crate::WriteError::Writer). Reading needs nothing of the kind.
///
/// # Progress
///
/// | operations | progress |
/// |---|---|
/// | `get get_into contains_key iter keys values len is_empty` | lock-free, and they never write to shared memory: a look-up begins anew only when the key it looks at has changed meanwhile |
/// | `insert set try_insert get_or_insert_with compare_exchange update fetch_update fetch_add… remove remove_if`, entries | lock-free: an attempt fails only because another operation took effect |
/// | `retain clear` | as one `remove` a key |
/// | `wait_for_change` | blocking |
/// | the first change of each thread (and again after a fork), `recover`, and an insert that finds the map full | system calls. Only if all places of writers seem taken, tried again for 50 ms |
///
/// # Memory ordering
///
/// Linearizable, over all keys and all processes: there is one order of all operations that everybody
/// agrees on and that contradicts no clock; and what a process did before a change is visible to whoever
/// sees the change. *Strictly* so: an operation that was killed took effect before its death, or never.
/// What visits many keys ([`iter`](Self::iter), [`len`](Self::len), [`retain`](Self::retain),
/// [`clear`](Self::clear)) does so one after the other, and is no single instant.
///
/// # Death
///
/// A writer that dies leaves at most two cells behind, apart from those of keys, and perhaps an entry of
/// the index that does not count. Others are not disturbed by that, and it is put in order when a new
/// writer takes the dead one's place, before the map is said to be full, and by
/// [`recover`](Self::recover). (Not while somebody else is at it, and was stopped; nor where this process may
/// not open the segment again.) What keeps a dead writer alive for longer, a child that was forked at the
/// very instant of its first change, keeps those two cells for as long: see [`forking`](crate::forking).
///
/// # Threads, forks, signals
///
/// Handles are `Send`, `Sync` and `Clone`; clones share one attachment. A forked child uses the handles
/// that it inherits as they are, and becomes a writer of its own when it first changes something. Closures
/// that are handed in may use the map, and fork. Reading may be done in a signal handler where the types allow
/// it; changing may not, nor may a handler that interrupts a change fork a child that returns from it.
///
/// # Sequence numbers
///
/// Each content of a cell has a number of at least 28 bits (43 in a map of a thousand keys), by which a
/// stopped process learns that the world has moved on. Were it stopped in the middle of an operation while
/// one cell is refilled exactly a multiple of 2^28 times, of which each takes 50 ns at least, and were the
/// very same cell then published in the same bucket again, it would take the new content for the old one. An
/// [`entry`] that is kept for long is such a process.
///
/// # Examples
///
/// ```
/// use forkmap::SharedHashMap;
///
/// let ages = SharedHashMap::<str, u32>::anonymous(1000)?;   // fork now, and the children share it
/// assert_eq!(ages.insert("ada", &36)?, None);               // the previous value, as in std
/// assert_eq!(ages.get("ada")?, Some(36));
/// ages.fetch_add("ada", 1)?;                                // by many at once: none is lost
/// assert_eq!(ages.remove("ada")?, Some(37));
/// assert!(ages.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedHashMap<K: ?Sized, V: ?Sized> {
    table: Pinned<TableView>,
    /// The attachment, as `Segment::number` says.
    number: u64,
    types: PhantomData<fn(&K, &V)>,
}

enum TableView {}

impl View for TableView {
    type Of<'a> = Table<'a>;
}

impl<K: ?Sized, V: ?Sized> Clone for SharedHashMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            table: self.table.clone(),
            number: self.number,
            types: PhantomData,
        }
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for SharedHashMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedHashMap")
            .field("name", &self.name())
            .field("instance", &format_args!("{:032x}", self.instance_id()))
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

attachment!(impl [K: ?Sized, V: ?Sized] SharedHashMap<K, V>, table.segment());
alone!(impl [K: ?Sized, V: ?Sized] SharedHashMap<K, V>);

impl<K: ?Sized, V: ?Sized> SharedHashMap<K, V> {
    fn in_segment(segment: Segment) -> Self {
        let number = segment.number();
        let table = Pinned::new(Arc::new(segment), |segment| open::table(segment));
        Self {
            table,
            number,
            types: PhantomData,
        }
    }

    #[inline(always)]
    fn table(&self) -> &Table<'_> {
        self.table.get()
    }

    /// Number of keys that fit, exactly.
    pub fn capacity(&self) -> usize {
        self.table().capacity()
    }

    /// Most bytes of a key.
    pub fn key_bytes(&self) -> usize {
        self.table().shape().key_bytes
    }

    /// Most bytes of a value.
    pub fn value_bytes(&self) -> usize {
        self.table().shape().value_bytes
    }

    /// Number of keys. Visits the whole index: a microsecond for a thousand keys, a millisecond for a
    /// million.
    ///
    /// Exact when nobody changes the map. Else each key that is there all the time is counted once, and one
    /// that comes or goes meanwhile at most once.
    pub fn len(&self) -> usize {
        iter::count(self.table(), usize::MAX)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        iter::count(self.table(), 1) == 0
    }
}

/// Copies the bytes of a value to where it is decoded. (Not by returning them: a value of some size would be
/// moved from one place to the next on its way out, each of which costs as much as the look-up.)
#[inline(always)]
fn copy<V: Stored + ?Sized>(value: Bytes<'_>, image: &mut V::Image) {
    let out = V::room(image, value.len());
    // (An encoding of somebody else's may offer more room than was asked for.)
    let len = out.len().min(value.len());
    value.copy_to(&mut out[..len]);
}

fn unreadable(source: CodecError) -> ReadError {
    ReadError::Decode { source }
}

/// Reading.
impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    /// What to look for; `None` if no such key can be there.
    #[inline(always)]
    fn target<'k>(&self, key: &'k [u8]) -> Option<Target<'k>> {
        let table = self.table();
        let fits = fits::<K>(key, table.shape().key_bytes);
        fits.then(|| table.target(key, K::LENGTH == Some(8)))
    }

    #[inline(always)]
    fn look<R>(
        &self,
        key: &K::Item,
        look: impl FnMut(Bytes<'_>) -> R,
    ) -> Result<Option<R>, ReadError> {
        let key = K::encode(key).map_err(|source| ReadError::Encode { source })?;
        let Some(target) = self.target(key.as_ref()) else {
            return Ok(None);
        };
        Ok(self.table().find(&target, look).map(|(_, seen)| seen))
    }

    /// The value of `key`, or `None` if it is not there. (A key that is too long is not there.)
    ///
    /// # Errors
    /// [`ReadError`]: for plain data, none.
    // Always: as a function of its own it would read the handle anew each time, and pass the result through
    // memory, which costs as much as the look-up.
    #[inline(always)]
    pub fn get(&self, key: &K::Item) -> Result<Option<V::Owned>, ReadError> {
        let mut image = V::Image::default();
        match self.look(key, |value| copy::<V>(value, &mut image))? {
            Some(()) => V::decode(image).map(Some).map_err(unreadable),
            None => Ok(None),
        }
    }

    /// As [`get`](Self::get), into `out`, whose memory is used again if it is a `String` or a `Vec`: tells
    /// whether the key is there. If it is not, or cannot be read, nobody knows what is in `out`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// ```
    /// # use forkmap::SharedHashMap;
    /// let map = SharedHashMap::<u64, [u8]>::anonymous(10)?;
    /// map.insert(&1, b"one")?;
    /// let mut buffer = Vec::new();
    /// assert!(map.get_into(&1, &mut buffer)?);
    /// assert_eq!(buffer, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_into(&self, key: &K::Item, out: &mut V::Owned) -> Result<bool, ReadError> {
        let mut image = V::reuse(out);
        let found = self.look(key, |value| copy::<V>(value, &mut image))?;
        if found.is_none() {
            return Ok(false);
        }
        *out = V::decode(image).map_err(unreadable)?;
        Ok(true)
    }

    /// Whether `key` is there.
    ///
    /// # Errors
    /// [`ReadError::Encode`].
    #[inline]
    pub fn contains_key(&self, key: &K::Item) -> Result<bool, ReadError> {
        Ok(self.look(key, |_| ())?.is_some())
    }
}

/// Whether the stored form of a key or a value fits.
#[inline(always)]
fn fits<T: Stored + ?Sized>(bytes: &[u8], limit: usize) -> bool {
    match T::LENGTH {
        Some(len) => bytes.len() == len,
        None => bytes.len() <= limit,
    }
}
