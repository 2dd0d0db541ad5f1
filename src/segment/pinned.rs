//! Views of the words of a segment that keep it attached.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::transmute_copy;
use std::sync::Arc;

use super::Segment;

/// What to look at the words of a segment through: one type for each lifetime of theirs.
pub(crate) trait View: 'static {
    /// References to words, and plain numbers: nothing that a shorter lifetime could be put into
    /// (covariant).
    type Of<'a>: Copy + Send + Sync + fmt::Debug;
}

/// A view together with a counted reference to its segment: as long as one of these is there, the
/// segment stays mapped. So a handle needs no look into the segment to find its words.
pub(crate) struct Pinned<V: View> {
    segment: Arc<Segment>,
    /// Never handed out as it stands: its lifetime is not true.
    view: V::Of<'static>,
}

impl<V: View> Pinned<V> {
    /// Pins what `look` makes of the segment. For any lifetime, so it can only be made of the segment,
    /// or of what lives for ever.
    pub(crate) fn new(
        segment: Arc<Segment>,
        look: impl for<'a> FnOnce(&'a Segment) -> V::Of<'a>,
    ) -> Self {
        let view = look(&segment);
        // SAFETY: one type but for its lifetime, and `Copy`. What it leads to is neither moved nor
        // unmapped while `self.segment` counts, and `get` lends it for no longer than `self`.
        let view = unsafe { transmute_copy::<V::Of<'_>, V::Of<'static>>(&view) };
        Self { segment, view }
    }

    /// The view. (Where it stands: one of many words would take as long to copy as a look-up.)
    #[inline(always)]
    pub(crate) fn get(&self) -> &V::Of<'_> {
        // SAFETY: one type but for its lifetime, of which nothing but what is borrowed from `self` is
        // lent here. The segment is there as long as `self`.
        unsafe { &*(&raw const self.view).cast::<V::Of<'_>>() }
    }

    /// Pins what `look` makes of the view. (The segment goes with it because a closure for every
    /// lifetime needs an argument that names the lifetime outright.)
    #[inline]
    pub(crate) fn map<U: View>(
        &self,
        look: impl for<'a> FnOnce(&'a Segment, V::Of<'a>) -> U::Of<'a>,
    ) -> Pinned<U> {
        let view = look(&self.segment, *self.get());
        // SAFETY: as in `new`.
        let view = unsafe { transmute_copy::<U::Of<'_>, U::Of<'static>>(&view) };
        Pinned {
            segment: Arc::clone(&self.segment),
            view,
        }
    }

    #[inline(always)]
    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The segment, if this is the last reference to it.
    pub(crate) fn into_segment(self) -> Option<Segment> {
        Arc::into_inner(self.segment)
    }
}

impl<V: View> Clone for Pinned<V> {
    fn clone(&self) -> Self {
        Self {
            segment: Arc::clone(&self.segment),
            view: self.view,
        }
    }
}

impl<V: View> fmt::Debug for Pinned<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned")
            .field("view", self.get())
            .finish_non_exhaustive()
    }
}
