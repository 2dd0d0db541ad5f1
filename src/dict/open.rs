//! How an `AtomicDict` comes to be.

use super::AtomicDict;
use crate::error::{CreateError, Mismatch, OpenError};
use crate::identity::{Identity, Kind, TypeShape};
use crate::raw::{counters, layout};
use crate::segment::{Options, Plan, Segment, sealed, shortcuts};

/// Number of keys that fit at least, unless the options say otherwise.
const DEFAULT_CAPACITY: u64 = 1024;

/// Length of a segment whose table has so many slots; `None` if that is more than a file or an
/// address can count.
fn segment_bytes(participants: u64, slots: u64) -> Option<u64> {
    layout::segment_bytes(participants, counters::words(slots)?)
}

impl sealed::Structure for AtomicDict {
    type Company = ();

    fn identity(options: &Options<Self>) -> Identity {
        Identity {
            kind: Kind::AtomicDict,
            key: TypeShape::of::<u64>(),
            value: TypeShape::of::<u64>(),
            schema: options.segment.schema,
        }
    }

    fn plan(options: &Options<Self>) -> Result<Plan, CreateError> {
        let capacity = options.capacity.unwrap_or(DEFAULT_CAPACITY);
        let participants = options.segment.participants()?;
        let sizes = counters::slots(capacity)
            .and_then(|slots| Some((slots, segment_bytes(participants, slots)?)));
        let (slots, bytes) = sizes.ok_or(CreateError::TooLarge { capacity })?;
        Ok(Plan {
            identity: Self::identity(options),
            bytes,
            geometry: [slots, 0, 0, 0, 0, 0, 0, 0],
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
        let [slots, unused @ ..] = header.geometry;
        let bytes = segment_bytes(header.participants, slots);
        if slots == 0 || bytes != Some(header.bytes) || unused != [0; 7] {
            let what = "its length does not fit its number of slots";
            return Err(segment.mismatch(Mismatch::Damaged { what }));
        }
        match options.capacity.filter(|&asked| asked > slots) {
            Some(asked) => Err(segment.mismatch(Mismatch::TooSmall {
                found: slots,
                asked,
            })),
            None => Ok(Self::in_segment(segment)),
        }
    }
}

impl AtomicDict {
    /// How to create or open a dictionary in another way than the shortcuts below do.
    pub fn options() -> Options<Self> {
        Options::default()
    }
}

shortcuts!(impl [] AtomicDict, "dictionary", "at least ");
