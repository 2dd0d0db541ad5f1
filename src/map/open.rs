//! How a `SharedHashMap` comes to be.

use super::SharedHashMap;
use crate::error::{CreateError, Mismatch, OpenError};
use crate::identity::{Identity, Kind, TypeShape};
use crate::raw::layout;
use crate::raw::map::{CellShape, Geometry, LINE_BUCKETS, LONGEST_KEY, MOST_CELLS, Table};
use crate::segment::{Options, Plan, Segment, SegmentOptions, sealed, shortcuts};
use crate::stored::Stored;

/// Number of keys that fit, unless the options say otherwise; and so below.
const DEFAULT_CAPACITY: u64 = 1024;
const DEFAULT_KEY_BYTES: u64 = 256;
const DEFAULT_VALUE_BYTES: u64 = 1024;
const DEFAULT_WRITERS: u64 = 128;

/// Longest values. As long as a segment may be, in practice; and no sum of sizes overflows.
const LONGEST_VALUE: u64 = 1 << 40;

/// Types of varying length are marked so in the header.
fn varies(shape: TypeShape) -> bool {
    shape.size == u32::MAX
}

/// The geometry that the header gives: `None` if there is no such map.
fn geometry(words: [u64; 8], writers: u64, key: TypeShape, value: TypeShape) -> Option<Geometry> {
    let [capacity, key_bytes, value_bytes, 0, 0, 0, 0, 0] = words else {
        return None;
    };
    let fits = |shape: TypeShape, bytes, longest| match varies(shape) {
        true => bytes <= longest,
        false => bytes <= longest && bytes == u64::from(shape.size),
    };
    let possible = capacity <= MOST_CELLS as u64
        && fits(key, key_bytes, LONGEST_KEY as u64)
        && fits(value, value_bytes, LONGEST_VALUE);
    possible.then_some(Geometry {
        capacity: capacity as usize,
        writers: writers as usize,
        shape: CellShape {
            one_word_keys: !varies(key) && key_bytes == 8,
            key_bytes: key_bytes as usize,
            varying_values: varies(value),
            value_bytes: value_bytes as usize,
        },
    })
}

fn segment_bytes(geometry: &Geometry) -> Option<u64> {
    let words = geometry.words::<LINE_BUCKETS>()?;
    layout::segment_bytes(geometry.writers as u64, words as u64)
}

/// The table in a segment whose geometry was checked, or was planned by us.
pub(super) fn table(segment: &Segment) -> Table<'_> {
    let (header, layout) = (segment.header(), segment.layout());
    let [key, value] = [header.key, header.value].map(TypeShape::from_word);
    let geometry = geometry(header.geometry, header.participants, key, value)
        .filter(|geometry| geometry.words::<LINE_BUCKETS>().is_some())
        .expect("the geometry was checked");
    let words = geometry.words::<LINE_BUCKETS>().expect("as above");
    let (seed, access) = (header.hash_seed, segment.access());
    Table::new(&layout.body[..words], &geometry, layout.bells, seed, access)
}

fn writers(options: &SegmentOptions) -> Result<u64, CreateError> {
    options.participants_or(DEFAULT_WRITERS)
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Options<SharedHashMap<K, V>> {
    /// How many bytes a key may have in its stored form: 256 unless set, 65,535 at most. For keys that all
    /// have the same length it must be that, or unset.
    ///
    /// On attach, a segment with room for less is refused; unset, any will do.
    pub fn key_bytes(&mut self, bytes: u64) -> &mut Self {
        self.key_bytes = Some(bytes);
        self
    }

    /// How many bytes a value may have in its stored form: 1,024 unless set. For values that all have the
    /// same length it must be that, or unset.
    ///
    /// On attach, a segment with room for less is refused; unset, any will do.
    pub fn value_bytes(&mut self, bytes: u64) -> &mut Self {
        self.value_bytes = Some(bytes);
        self
    }
}

/// The limit of keys or values in a new map.
fn limit<T: Stored + ?Sized>(
    what: &'static str,
    asked: Option<u64>,
    default: u64,
    longest: u64,
) -> Result<u64, CreateError> {
    let fixed = T::LENGTH.map(|len| len as u64);
    let limit = asked.or(fixed).unwrap_or(default);
    let possible = match fixed {
        // Longer types than the header can tell apart from those that vary, or longer keys than their
        // length word can count.
        Some(len) => {
            len == limit && limit < u64::from(u32::MAX) && (limit <= longest || limit == 8)
        }
        None => limit <= longest,
    };
    if possible {
        return Ok(limit);
    }
    let must = match fixed {
        Some(len) => {
            format!("it must be {len}, which is what each of them has, and at most {longest}")
        }
        None => format!("it must be at most {longest}"),
    };
    Err(CreateError::InvalidOption {
        what: format!("{what}({limit}) ({must})"),
    })
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> sealed::Structure for SharedHashMap<K, V> {
    type Company = ();

    fn identity(options: &Options<Self>) -> Identity {
        Identity {
            kind: Kind::SharedHashMap,
            key: K::SHAPE,
            value: V::SHAPE,
            schema: options.segment.schema,
        }
    }

    fn plan(options: &Options<Self>) -> Result<Plan, CreateError> {
        let capacity = options.capacity.unwrap_or(DEFAULT_CAPACITY);
        let participants = writers(&options.segment)?;
        let longest = LONGEST_KEY as u64;
        let key = limit::<K>("key_bytes", options.key_bytes, DEFAULT_KEY_BYTES, longest)?;
        let value = limit::<V>(
            "value_bytes",
            options.value_bytes,
            DEFAULT_VALUE_BYTES,
            LONGEST_VALUE,
        )?;
        if capacity == 0 {
            let what = "capacity(0) (it must be 1 at least)".to_owned();
            return Err(CreateError::InvalidOption { what });
        }
        let words = [capacity, key, value, 0, 0, 0, 0, 0];
        let geometry = geometry(words, participants, K::SHAPE, V::SHAPE);
        let bytes = geometry.and_then(|geometry| segment_bytes(&geometry));
        Ok(Plan {
            identity: Self::identity(options),
            bytes: bytes.ok_or(CreateError::TooLarge { capacity })?,
            geometry: words,
            participants,
        })
    }

    fn begin(_: &Options<Self>, _: &Segment) -> Result<(), CreateError> {
        Ok(())
    }

    fn new(segment: Segment, (): ()) -> Self {
        Self::in_segment(segment)
    }

    fn attach(options: &Options<Self>, segment: Segment) -> Result<Self, OpenError> {
        let header = segment.header();
        let geometry = geometry(header.geometry, header.participants, K::SHAPE, V::SHAPE);
        let bytes = geometry.and_then(|geometry| segment_bytes(&geometry));
        if bytes != Some(header.bytes) {
            let what = "its length does not fit its numbers of keys, writers and bytes";
            return Err(segment.mismatch(Mismatch::Damaged { what }));
        }
        let [capacity, key, value, ..] = header.geometry;
        if let Some(asked) = options.capacity.filter(|&asked| asked > capacity) {
            let found = capacity;
            return Err(segment.mismatch(Mismatch::TooSmall { found, asked }));
        }
        for (what, found, asked) in [
            ("keys", key, options.key_bytes),
            ("values", value, options.value_bytes),
        ] {
            if let Some(asked) = asked.filter(|&asked| asked > found) {
                return Err(segment.mismatch(Mismatch::TooShort { what, found, asked }));
            }
        }
        Ok(Self::in_segment(segment))
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> SharedHashMap<K, V> {
    /// How to create or open a map in another way than the shortcuts below do.
    ///
    /// ```
    /// use forkmap::SharedHashMap;
    ///
    /// let sessions = SharedHashMap::<str, [u8]>::options()
    ///     .capacity(10_000)
    ///     .key_bytes(32)
    ///     .value_bytes(400)
    ///     .anonymous()?;
    /// # Ok::<(), forkmap::CreateError>(())
    /// ```
    pub fn options() -> Options<Self> {
        Options::default()
    }
}

shortcuts!(impl [K: Stored + ?Sized, V: Stored + ?Sized] SharedHashMap<K, V>, "map", "");
