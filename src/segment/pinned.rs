//! References into a segment that keep it attached.

#![allow(unsafe_code)]

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Segment;

/// A counted reference to a part of a segment: as long as one of these is there, the segment stays
/// mapped, so a handle is one pointer away from its words.
#[derive(Debug)]
pub(crate) struct Pinned<T: ?Sized> {
    segment: Arc<Segment>,
    target: NonNull<T>,
}

// SAFETY: it is a shared reference to a `T` together with an `Arc`, both of which may go to and be
// used from other threads under these bounds (`Segment` is `Send + Sync`).
unsafe impl<T: ?Sized + Sync> Send for Pinned<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Pinned<T> {}

impl<T: ?Sized> Pinned<T> {
    /// Pins what `project` picks. For any lifetime, so it can only pick from the segment, or what
    /// lives for ever.
    pub(crate) fn new(
        segment: Arc<Segment>,
        project: impl for<'a> FnOnce(&'a Segment) -> &'a T,
    ) -> Self {
        let target = NonNull::from(project(&segment));
        Self { segment, target }
    }

    /// Pins a part of what is pinned.
    #[inline]
    pub(crate) fn map<U: ?Sized>(&self, project: impl for<'a> FnOnce(&'a T) -> &'a U) -> Pinned<U> {
        Pinned {
            segment: Arc::clone(&self.segment),
            target: NonNull::from(project(self)),
        }
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The segment, if this is the last reference to it.
    pub(crate) fn into_segment(self) -> Option<Segment> {
        Arc::into_inner(self.segment)
    }
}

impl<T: ?Sized> Deref for Pinned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `target` came from a reference into the segment or to something that lives for
        // ever (`new`, `map`). The segment is neither moved nor unmapped while `self.segment`
        // counts, and hands out shared references only.
        unsafe { self.target.as_ref() }
    }
}

impl<T: ?Sized> Clone for Pinned<T> {
    fn clone(&self) -> Self {
        Self {
            segment: Arc::clone(&self.segment),
            target: self.target,
        }
    }
}
