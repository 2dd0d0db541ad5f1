//! `AtomicDict`: its handle, and the operations by key.

mod entry;
mod integers;
mod iter;
mod open;
mod wait;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;

pub use self::entry::Entry;
pub use self::iter::{Iter, Keys};
use crate::error::InsertError;
use crate::raw::counters::{self, Counters, Full};
use crate::raw::value::Value;
use crate::segment::{Pinned, Segment, View, alone, attachment};
use crate::sync::Access;

/// A map from `u64` to atomic 64-bit values, shared by processes.
///
/// **The price:** the number of keys is fixed at creation, and a key, once it has a slot, keeps it
/// for the life of the segment. There is no `remove` and no `clear`.
///
/// **What you get for it:** [`fetch_add`](Self::fetch_add), [`store`](Self::store) and
/// [`swap`](Self::swap) on a key that is there are one look-up, one machine instruction, and a look
/// whether anybody waits for it; an [`Entry`] skips the look-up. A process that is killed or stopped at any instruction delays nobody
/// and leaves nothing half done: one word decides everything.
///
/// # Values and slots
///
/// Every one of the 2^64 keys conceptually exists, with the value 0, from the start. What is limited
/// is how many can have *a slot*, which a key gets by the first operation that would change its
/// value. Look-ups never claim a slot: [`load`](Self::load) answers 0 for a key that has none,
/// [`get`](Self::get) answers `None`.
///
/// All keys and all values are ordinary ones, 0 and [`u64::MAX`] included. [`cast`](Self::cast)
/// gives a view with values of another type of eight bytes.
///
/// # Limits
///
/// Room for at least the capacity asked for, and for exactly [`capacity`](Self::capacity) keys
/// (about twice that, to keep look-ups short). One more is [`InsertError::Full`] and changes
/// nothing; looking up a key that is not there then visits every slot. 16 bytes a slot; see
/// [`Options::required_bytes`](crate::Options::required_bytes).
///
/// # Progress
///
/// | operations | progress |
/// |---|---|
/// | finding the slot of a key, claiming one | wait-free: at most `capacity()` steps, each one instruction (as below) |
/// | `load get contains_key store swap fetch_add fetch_sub compare_exchange` | wait-free: the look-up and one instruction (x86-64, and AArch64 with LSE); those that change something then load one flag, and make a system call (`futex`) if somebody waits |
/// | `fetch_and fetch_or fetch_xor fetch_min fetch_max fetch_update fetch_add_bounded fetch_sub_bounded` | lock-free: the look-up and a compare-exchange loop, which turns only when another operation on the same value took effect. (`fetch_and`, `fetch_or`, `fetch_xor` whose result is not used may become one instruction on x86-64; AArch64 with LSE has all but the last three in one) |
/// | `wait_while wait_until`, with a timeout or without | blocking |
/// | `len is_empty iter keys` | wait-free, visits all slots |
/// | attaching, closing | system calls |
///
/// # Memory ordering
///
/// Every operation on keys and values is sequentially consistent, over all keys of the segment and
/// all processes: there is one order of all of them that everybody agrees on, and what a process did
/// before a change is visible to whoever sees the change. There is no `Ordering` argument.
/// The exceptions are [`len`](Self::len) and [`is_empty`](Self::is_empty), which promise a count and
/// no order.
///
/// # Threads, forks, signals
///
/// Handles are `Send`, `Sync` and `Clone`; clones share one attachment. A forked child uses the
/// handles that it inherits as they are; dropping them there takes nothing from the parent. The
/// operations on keys, values and entries take no lock and do not allocate (cloning and dropping a
/// handle may free memory): they may be called in a signal handler, and in the child of a process
/// that had threads when it forked.
///
/// An attachment costs one mapping and one descriptor (close-on-exec), whatever the number of clones
/// and entries, and one page more once the process takes part in what blocks ([`Lock`](crate::Lock) and
/// its like). The descriptor may be closed behind its back: only handing it over needs it, and, in a
/// segment without a name, what blocks. (Not while another thread takes part in that for the first time:
/// it may be told [`DescriptorClosed`](crate::ParticipantError::DescriptorClosed), and has to try again.)
///
/// # Examples
///
/// ```
/// use forkmap::AtomicDict;
///
/// let hits = AtomicDict::anonymous(1000)?;      // fork now, and the children share it
/// assert_eq!(hits.fetch_add(42, 1)?, 0);        // the previous value, as in std
/// assert_eq!(hits.load(42), 1);
/// assert_eq!(hits.get(43), None);               // looking does not insert
///
/// let entry = hits.entry(42)?;                  // resolved once
/// entry.fetch_add(1);
/// assert_eq!(entry.load(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AtomicDict<V = u64> {
    table: Pinned<TableView>,
    value: PhantomData<fn() -> V>,
}

enum TableView {}

impl View for TableView {
    type Of<'a> = Counters<'a>;
}

impl<V> Clone for AtomicDict<V> {
    fn clone(&self) -> Self {
        Self {
            table: self.table.clone(),
            value: PhantomData,
        }
    }
}

impl<V> fmt::Debug for AtomicDict<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicDict")
            .field("name", &self.name())
            .field("instance", &format_args!("{:032x}", self.instance_id()))
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl AtomicDict {
    /// The dictionary in a segment whose geometry was checked, or was planned by us.
    fn in_segment(segment: Segment) -> Self {
        let table = Pinned::new(Arc::new(segment), |segment| {
            let (header, layout) = (segment.header(), segment.layout());
            let words = counters::words(header.geometry[0]).expect("the geometry was checked");
            let words = &layout.body[..words as usize];
            let (seed, access) = (header.hash_seed, segment.access());
            Counters::new(words, layout.bells, seed, access)
        });
        Self {
            table,
            value: PhantomData,
        }
    }
}

impl<V> AtomicDict<V> {
    #[inline]
    fn counters(&self) -> Counters<'_> {
        *self.table.get()
    }

    /// Number of keys that fit, exactly: that many different keys always get a slot, and the next one
    /// is [`InsertError::Full`].
    ///
    /// One key is outside the count. The key that the seed of the segment happens to hash to 0 has a
    /// slot to itself: it always fits, and takes no room from the others.
    pub fn capacity(&self) -> usize {
        self.counters().slots()
    }

    /// Number of keys that have a slot. Visits all slots.
    ///
    /// A key that had a slot before the call is counted, and one that gets its slot after the call is
    /// not; those that get it meanwhile may be.
    pub fn len(&self) -> usize {
        self.counters().len()
    }

    /// Whether no key has a slot.
    pub fn is_empty(&self) -> bool {
        self.counters().next(0).is_none()
    }

    /// The same dictionary with values of another type.
    ///
    /// The bits of a value stay what they are: a key without a slot has the `T` of eight zero bytes.
    /// Use a [`schema`](crate::Options::schema) to keep programs apart that would read the same
    /// values as different types.
    ///
    /// `T` is any plain-data type of eight bytes; for another size the call does not compile.
    ///
    /// ```
    /// use forkmap::AtomicDict;
    ///
    /// let temperatures = AtomicDict::anonymous(10)?.cast::<f64>();
    /// temperatures.store(7, 36.6)?;
    /// assert_eq!(temperatures.load(7), 36.6);
    /// assert_eq!(temperatures.load(8), 0.0);
    ///
    /// let balance = AtomicDict::anonymous(10)?.cast::<i64>();
    /// balance.fetch_add(1, -5)?;
    /// assert_eq!(balance.load(1), -5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// ```compile_fail
    /// # use forkmap::AtomicDict;
    /// let narrow = AtomicDict::anonymous(10).unwrap().cast::<u32>();
    /// ```
    pub fn cast<T: Pod>(&self) -> AtomicDict<T> {
        const { assert!(size_of::<T>() == 8, "a value is eight bytes") };
        AtomicDict {
            table: self.table.clone(),
            value: PhantomData,
        }
    }
}

attachment!(impl [V] AtomicDict<V>, table.segment());
alone!(impl [V] AtomicDict<V>);

/// Operations by key, on values of any type.
///
/// Each finds the slot of the key first. Where the same key is used again and again, resolve it once
/// with [`entry`](Self::entry).
impl<V: Pod> AtomicDict<V> {
    #[inline]
    fn writable(&self) -> Result<Counters<'_>, InsertError> {
        match self.counters().access() {
            Access::ReadWrite => Ok(self.counters()),
            Access::ReadOnly => Err(InsertError::ReadOnly),
        }
    }

    #[inline(always)]
    fn claim_slot(&self, key: u64) -> Result<usize, InsertError> {
        self.writable()?
            .claim(key)
            .map_err(|Full| InsertError::Full {
                capacity: self.capacity(),
            })
    }

    /// The value of `key`, which has a slot now.
    #[inline(always)]
    fn claim(&self, key: u64) -> Result<Value<'_>, InsertError> {
        self.claim_slot(key).map(|slot| self.counters().value(slot))
    }

    /// Whether `key` has a slot.
    #[inline]
    pub fn contains_key(&self, key: u64) -> bool {
        self.counters().find(key).is_some()
    }

    /// The value of `key`, or `None` if it has no slot. Does not give it one.
    #[inline]
    pub fn get(&self, key: u64) -> Option<V> {
        self.counters().get(key).map(value_of)
    }

    /// The value of `key`, zero if it has no slot. Does not give it one.
    #[inline]
    pub fn load(&self, key: u64) -> V {
        let found = self.counters().get(key);
        found.map_or_else(V::zeroed, value_of)
    }

    /// A handle to the value of `key`, which gets a slot if it has none.
    ///
    /// # Errors
    /// [`InsertError::Full`] if there is no slot left; [`InsertError::ReadOnly`].
    #[inline]
    pub fn entry(&self, key: u64) -> Result<Entry<V>, InsertError> {
        let slot = self.claim_slot(key)?;
        Ok(Entry::new(
            self.table.map(|_, table| table.value(slot).word()),
        ))
    }

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// [`InsertError::Full`] if `key` has no slot and there is none left; [`InsertError::ReadOnly`].
    #[inline]
    pub fn store(&self, key: u64, value: V) -> Result<(), InsertError> {
        self.claim(key).map(|slot| slot.store(word_of(value)))
    }

    /// Sets the value of `key` and returns the previous one.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    #[inline]
    pub fn swap(&self, key: u64, value: V) -> Result<V, InsertError> {
        self.claim(key)
            .map(|slot| value_of(slot.swap(word_of(value))))
    }

    /// Sets the value of `key` to `new` if it is `current`: then `Ok(Ok(current))`, else
    /// `Ok(Err(found))` and nothing is changed; a key without a slot gets none by failing.
    /// Values are compared by their bits.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    ///
    /// ```
    /// # use forkmap::AtomicDict;
    /// let jobs = AtomicDict::anonymous(10)?;
    /// let me = 7;
    /// assert_eq!(jobs.compare_exchange(1, 0, me)?, Ok(0));     // job 1 is mine
    /// assert_eq!(jobs.compare_exchange(1, 0, 8)?, Err(me));    // nobody else can take it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "cas")]
    #[inline]
    pub fn compare_exchange(
        &self,
        key: u64,
        current: V,
        new: V,
    ) -> Result<Result<V, V>, InsertError> {
        let counters = self.writable()?;
        let (current, new) = (word_of(current), word_of(new));
        let slot = match counters.find(key) {
            Some(slot) => slot,
            None if current != 0 => return Ok(Err(V::zeroed())),
            None => self.claim_slot(key)?,
        };
        let done = counters.value(slot).compare_exchange(current, new);
        Ok(done.map(value_of).map_err(value_of))
    }

    /// Replaces the value of `key` by `f` of it, unless that is `None`: then `Ok(Ok(previous))`, else
    /// `Ok(Err(found))` and nothing is changed; a key without a slot gets none by that.
    ///
    /// `f` is called again whenever another operation changed the value meanwhile. If it panics,
    /// nothing is changed. Lock-free.
    ///
    /// # Errors
    /// The outer ones, as [`store`](Self::store).
    #[inline]
    pub fn fetch_update(
        &self,
        key: u64,
        mut f: impl FnMut(V) -> Option<V>,
    ) -> Result<Result<V, V>, InsertError> {
        let counters = self.writable()?;
        let slot = match counters.find(key) {
            Some(slot) => slot,
            None => {
                let Some(new) = f(V::zeroed()) else {
                    return Ok(Err(V::zeroed()));
                };
                let slot = self.claim_slot(key)?;
                let value = counters.value(slot);
                // What `f` has given for 0 is good, unless somebody was faster.
                match value.compare_exchange(0, word_of(new)) {
                    Ok(_) => return Ok(Ok(V::zeroed())),
                    Err(_) => slot,
                }
            }
        };
        let value = counters.value(slot);
        let done = value.fetch_update(|word| f(value_of(word)).map(word_of));
        Ok(done.map(value_of).map_err(value_of))
    }

    /// The keys that have a slot, with their values, in no particular order.
    ///
    /// Weakly consistent: a key that had its slot before the iterator was made is seen exactly once,
    /// one that gets it meanwhile at most once. Each value is loaded when its key is reached. Ends
    /// after [`capacity`](Self::capacity) + 1 steps at the latest.
    pub fn iter(&self) -> Iter<'_, V> {
        Iter::new(self.counters())
    }

    /// The keys that have a slot, as [`iter`](Self::iter) visits them.
    pub fn keys(&self) -> Keys<'_, V> {
        Keys::new(self.iter())
    }
}

impl<'a, V: Pod> IntoIterator for &'a AtomicDict<V> {
    type Item = (u64, V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Iter<'a, V> {
        self.iter()
    }
}

#[inline]
fn word_of<V: Pod>(value: V) -> u64 {
    bytemuck::must_cast(value)
}

#[inline]
fn value_of<V: Pod>(word: u64) -> V {
    bytemuck::must_cast(word)
}
