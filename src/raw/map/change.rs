//! Replacing a content, and removing a key.
//!
//! Both take a word out of its bucket by one compare-exchange, for good: a word names one content of one
//! cell, and never comes back. Who wins that exchange has the old cell to dispose of.

use super::word::{Bucket, Home, Op, Owner};
use super::{At, Publication, Table, Target};
use crate::raw::bytes::Bytes;
use crate::sync::{
    Ordering::{Release, SeqCst},
    store_then_load,
};

impl<'a, const LINE: usize> Table<'a, LINE> {
    /// As [`find`](Self::find), for a writer: what it finds is finished, and can be changed.
    #[inline(always)]
    pub fn find_live<R>(
        &self,
        target: &Target<'_>,
        mut look: impl FnMut(Bytes<'a>) -> R,
    ) -> Option<(At, R)> {
        loop {
            match self.find(target, &mut look) {
                Some((at, _)) if at.word.is_tentative() => {
                    self.help(target.home, self.load_home(target.home));
                }
                found => return found,
            }
        }
    }

    /// The content after the one that `publication` names, in a cell that the writer has in hand.
    #[inline(always)]
    pub(super) fn fill(
        &self,
        writer: usize,
        publication: Publication,
        target: &Target<'_>,
        value: &[u8],
    ) -> Publication {
        let number = self.split.cell(publication);
        let Some(cell) = self.cell(number) else {
            // Garbage in the journal. What is published then is garbage, and found out as such.
            return publication;
        };
        // SYNC(pool): nobody else changes the owner of a cell in hand.
        let owner = Owner(cell.owner().load(SeqCst) ^ self.first_owner(number));
        let seq = self.split.after(owner.seq());
        let header = self.owner_word(number, Owner::filled(writer, seq));
        cell.fill(header, target.key, value);
        self.split.publication(number, seq)
    }

    /// Gives the key another value, if it still stands where it was found and has the content that it had
    /// then: where it stands with the new one.
    #[inline(always)]
    pub fn replace(&self, writer: usize, target: &Target<'_>, at: At, value: &[u8]) -> Option<At> {
        debug_assert!(!at.word.is_tentative());
        let journal = self.journal(writer);
        let spare = self.fill(writer, journal.spare(), target, value);
        journal.set_spare(spare);
        journal.set_old(at.word);
        journal.begin(Op::Replace { index: at.index });
        let live = Bucket::live(target.tag, spare);
        // SYNC(publish): SeqCst, pairs with the loads in `inspect`: who sees the word sees the content of
        // its cell. The instant when the value changes.
        let bucket = self.bucket_word(at.index);
        let replaced = bucket
            .compare_exchange(at.word.0, live.0, SeqCst, SeqCst)
            .is_ok();
        if replaced {
            self.claim(writer, at.word.publication());
            journal.set_spare(at.word.publication());
        }
        journal.end();
        if replaced {
            self.bell(target).ring();
        }
        let index = at.index;
        replaced.then_some(At { index, word: live })
    }

    /// Takes a cell in hand that the writer has replaced in the index.
    #[inline(always)]
    pub(super) fn claim(&self, writer: usize, old: Publication) {
        let number = self.split.cell(old);
        if let Some(cell) = self.cell(number) {
            let mine = Owner::writer(writer, self.split.seq(old));
            // SYNC(pool): Release, pairs with the loads of owners in `recover`: who sees it sees the
            // journal before. No exchange: this cell is nobody else's to dispose of.
            let mine = self.owner_word(number, mine);
            cell.owner().store(mine, Release);
        }
    }

    /// Removes the key, if it still stands where it was found and has the content that it had then; and
    /// tells whether it did.
    pub fn remove(&self, writer: usize, target: &Target<'_>, at: At) -> bool {
        let journal = self.journal(writer);
        self.finish(target.home, at.index);
        // If it was found when it was committed and not live yet, it is live now.
        let old = at.word.to_live();
        journal.set_old(old);
        let (home, index) = (target.home, at.index);
        journal.begin(Op::Remove { home, index });
        // SYNC(publish): SeqCst, as every exchange of a bucket. The instant when the key is gone.
        let bucket = self.bucket_word(index);
        let removed = bucket
            .compare_exchange(old.0, Bucket::FREE.0, SeqCst, SeqCst)
            .is_ok();
        if removed {
            self.retire(old.publication());
            self.lower(home, self.distance(home, index));
        }
        journal.end();
        if removed {
            self.bell(target).ring();
        }
        removed
    }

    /// Finishes the insert of the live word in bucket `index`, if the home still names it: else a later
    /// tentative word in that bucket would pass for committed. (To be called after that word was loaded:
    /// then the home cannot come to name it any more.)
    pub(super) fn finish(&self, home: usize, index: usize) {
        loop {
            let word = self.load_home(home);
            if word.pending() != self.pending_of(home, index) {
                return;
            }
            self.help(home, word);
        }
    }

    /// Takes back how far keys of this home may stand, after one was removed `distance` lines behind it.
    pub(super) fn lower(&self, home: usize, distance: usize) {
        loop {
            // SYNC(commit): SeqCst, pairs with itself: of two removers, each of which has changed a bucket
            // or the home and then looks at the other, at least one sees the other's change.
            store_then_load();
            let word = self.load_home(home);
            if word.len() == 0 || word.len() > distance {
                return;
            }
            if word.pending() != 0 {
                self.help(home, word);
                continue;
            }
            let len = self.last_line(home, word);
            if len == word.len() {
                return;
            }
            // SYNC(commit): SeqCst. It fails if any insert was committed since the home was loaded; so
            // what was looked at above was all there is.
            let lower = word.next(len, 0);
            let _ = self
                .home_word(home)
                .compare_exchange(word.0, lower.0, SeqCst, SeqCst);
            // And once more: another remover may have looked when the last key was still there.
        }
    }

    /// The last line that has a live word of this home.
    fn last_line(&self, home: usize, word: Home) -> usize {
        let lines = (1..=word.len().min(self.farthest())).rev();
        let has_one = |distance: &usize| {
            let line = self.line_after(home, *distance);
            let mut indices = line * LINE..(line + 1) * LINE;
            indices.any(|index| {
                let is_of = &mut |cell: super::Cell<'_>| {
                    (self.home_of(cell.hash(self.seed)) == home).then_some(())
                };
                self.inspect(index, None, is_of).is_some()
            })
        };
        lines.into_iter().find(has_one).unwrap_or(0)
    }
}
