//! Looking up and visiting. Nothing here writes to the segment.

use super::cell::Cell;
use super::tags::matches;
use super::word::{Bucket, Owner};
use super::{Table, Target};
use crate::raw::bytes::Bytes;
use crate::sync::{
    Ordering::{Acquire, Relaxed},
    Word, after_read, before_read, fence, load,
};

/// Where a key stood, and which content it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub(super) index: usize,
    pub(super) word: Bucket,
}

impl<'a, const LINE: usize> Table<'a, LINE> {
    /// What `look` makes of the value of the key, if it is there.
    ///
    /// `look` may be called more than once, on bytes that are being overwritten while it looks: only
    /// what it returned last is returned.
    #[inline(always)]
    pub fn find<R>(
        &self,
        target: &Target<'_>,
        mut look: impl FnMut(Bytes<'a>) -> R,
    ) -> Option<(At, R)> {
        before_read(self.access);
        let found = self.find_within(target, None, &mut |cell| {
            cell.has_key(target.key).then(|| look(cell.value()))
        });
        after_read(self.access);
        found
    }

    /// What `look` makes of a cell in the home's own line or in one of `len` behind it: as many as the home
    /// says, if that is not known, and then it is asked only if need be.
    // One loop, and nothing of it apart: what `look` refers to stays in registers then.
    #[inline(always)]
    pub(super) fn find_within<R>(
        &self,
        target: &Target<'_>,
        len: Option<usize>,
        look: &mut impl FnMut(Cell<'a>) -> Option<R>,
    ) -> Option<(At, R)> {
        let (mut line, mut left) = (target.home, len);
        loop {
            let found = self.find_in(target, line, look);
            if found.is_some() {
                return found;
            }
            // A key that is there all the time stands in one bucket all the time, and within `len` lines
            // of its home: so it is passed here, or it was gone for an instant, or not there yet.
            let len = left.unwrap_or_else(|| self.load_home(target.home).len());
            left = Some(len.min(self.farthest()).checked_sub(1)?);
            line = self.line_after(line, 1);
        }
    }

    #[inline(always)]
    fn find_in<R>(
        &self,
        target: &Target<'_>,
        line: usize,
        look: &mut impl FnMut(Cell<'a>) -> Option<R>,
    ) -> Option<(At, R)> {
        // SYNC(tag): SeqCst on pages that we may write, pairs with the exchange in `place`: a key that was
        // committed before has its tag there.
        let tags = load(self.tags_word(line), self.access);
        let candidates = matches(tags, target.tag, LINE);
        if candidates.is_empty() {
            return None;
        }
        // Relaxed, for nothing but the cache. Which bucket it is, is known only when the tags have come;
        // but that there is one, a processor guesses, and so brings the line and the tags at once. Where
        // look-ups mostly miss, it guesses that too, and the line is left alone.
        #[cfg(not(loom))]
        self.bucket_word(line * LINE).load(Relaxed);
        for bucket in candidates {
            let found = self.inspect(line * LINE + bucket, Some(target), look);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// What `look` makes of the cell that bucket `index` names, as of one instant: `None` if the bucket
    /// does not count, or not for `target`, or `look` says so.
    #[inline(always)]
    pub(super) fn inspect<R>(
        &self,
        index: usize,
        target: Option<&Target<'_>>,
        look: &mut impl FnMut(Cell<'a>) -> Option<R>,
    ) -> Option<(At, R)> {
        let mut word = self.load_bucket(index);
        loop {
            if word.is_free() || target.is_some_and(|target| !word.has(target.tag)) {
                return None;
            }
            let cell = self.cell(self.split.cell(word.publication()))?;
            if word.is_tentative() {
                // (That of a garbage key, if the cell is being filled anew: then the word has changed.)
                let home = match target {
                    Some(target) => target.home,
                    None => self.home_of(cell.hash(self.seed)),
                };
                match self.counts(index, word, home) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(now) => {
                        word = now;
                        continue;
                    }
                }
            }
            let seen = look(cell);
            // SYNC(refill): Acquire, pairs with the Release fence in `Cell::fill`: if any word that was
            // read was of a later content, then the loads below see that the bucket has another word, and
            // the cell another number.
            fence(Acquire);
            // Relaxed: ordered by the fence.
            let now = Bucket(self.bucket_word(index).load(Relaxed));
            if now == word
                || word.is_tentative() && now == word.to_live()
                || self.still_has(cell.owner(), word)
            {
                return seen.map(|seen| (At { index, word }, seen));
            }
            word = self.load_bucket(index);
        }
    }

    /// Whether the tentative `word` in bucket `index` counts: from the instant on when its home says so.
    /// It stood in the bucket before and after the home was read, so it did then. If it does not count and
    /// is not there any more, what is there instead.
    #[cold]
    fn counts(&self, index: usize, word: Bucket, home: usize) -> Result<bool, Bucket> {
        if self.load_home(home).pending() == self.pending_of(home, index) {
            return Ok(true);
        }
        let now = self.load_bucket(index);
        if now == word { Ok(false) } else { Err(now) }
    }

    /// Whether a cell still has the content that `word` named when it was loaded.
    #[cold]
    fn still_has(&self, owner: &Word, word: Bucket) -> bool {
        let number = self.split.cell(word.publication());
        // Relaxed: ordered by the fence before.
        let owner = Owner(owner.load(Relaxed) ^ self.first_owner(number));
        !word.is_tentative() && owner.seq() == self.split.seq(word.publication())
    }

    /// The first bucket from number `from` on that counts and of which `look` makes something.
    pub fn visit<R>(
        &self,
        from: usize,
        mut look: impl FnMut(Cell<'a>) -> Option<R>,
    ) -> Option<(At, R)> {
        before_read(self.access);
        let mut indices = from..self.buckets.len();
        let found = indices.find_map(|index| self.inspect(index, None, &mut look));
        after_read(self.access);
        found
    }
}

impl At {
    /// The number of the bucket behind it.
    pub fn next(self) -> usize {
        self.index + 1
    }
}
