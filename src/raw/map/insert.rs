//! A new key: at most once, however many insert it at the same time.
//!
//! All who insert one key share its home, and commit by one compare-exchange on the home word, which they
//! have loaded *before* they looked for the key. Of two, the later one's exchange fails unless it has
//! loaded what the earlier one committed; and then it finds the key.
//!
//! Between its start and its commit an insert stands in the index as a tentative word, which nobody
//! counts. With the commit the home word names it, and it counts from then on; making it live, and
//! clearing the name, is done by whoever comes first.

use super::journal::Journal;
use super::tags::change;
use super::word::{Bucket, Home, Op};
use super::{At, Full, Publication, Table, Target};
use crate::sync::Ordering::{Relaxed, SeqCst};

impl<'a, const LINE: usize> Table<'a, LINE> {
    /// Inserts the key with this value, and tells whether it did: not if it is there.
    ///
    /// `writer` must be the caller's own, and so below.
    pub fn insert(&self, writer: usize, target: &Target<'_>, value: &[u8]) -> Result<bool, Full> {
        let journal = self.journal(writer);
        let taken = self.take_cell(writer, journal)?;
        let publication = self.fill(writer, taken, target, value);
        journal.set_fresh(Some(publication));
        let mut placed = None;
        let inserted = loop {
            // SYNC(commit): SeqCst, before the look for the key.
            let home = self.load_home(target.home);
            if home.pending() != 0 {
                self.help(target.home, home);
                continue;
            }
            if self.is_live(target, home) {
                break Ok(false);
            }
            let at = match placed {
                Some(at) => at,
                None => match self.place(target, publication, journal) {
                    Some(at) => at,
                    None => break Err(Full),
                },
            };
            placed = Some(at);
            let line = self.distance(target.home, at.index);
            let committed = home.next(home.len().max(line), self.pending_of(target.home, at.index));
            // SYNC(commit): SeqCst, pairs with itself and with all loads of the home: who sees it sees the
            // tentative word and its cell. The instant when the key is there.
            let commit =
                self.home_word(target.home)
                    .compare_exchange(home.0, committed.0, SeqCst, SeqCst);
            if commit.is_ok() {
                self.help(target.home, committed);
                break Ok(true);
            }
        };
        if inserted == Ok(true) {
            // In this order: without a fresh cell there is nothing to undo.
            journal.set_fresh(None);
            journal.end();
            self.bell(target).ring();
        } else {
            if let Some(at) = placed {
                // SYNC(publish): SeqCst, as every exchange of a bucket. It cannot fail: nobody else
                // touches a tentative word that was not committed.
                let word = self.bucket_word(at.index);
                let _ = word.compare_exchange(at.word.0, Bucket::FREE.0, SeqCst, SeqCst);
            }
            journal.end();
            self.give_back(publication);
            journal.set_fresh(None);
        }
        inserted
    }

    /// Whether the key stands live within the lines of its home.
    fn is_live(&self, target: &Target<'_>, home: Home) -> bool {
        let look = &mut |cell: super::Cell<'a>| cell.has_key(target.key).then_some(());
        // A tentative one that counts belongs to a later version of the home: our commit will fail.
        let found = self.find_within(target, Some(home.len()), look);
        found.is_some_and(|(at, ())| !at.word.is_tentative())
    }

    /// Puts a tentative word into the first free bucket from the home on.
    fn place(
        &self,
        target: &Target<'_>,
        publication: Publication,
        journal: Journal<'a>,
    ) -> Option<At> {
        let word = Bucket::tentative(target.tag, publication);
        for distance in 0..=self.farthest() {
            let line = self.line_after(target.home, distance);
            for index in line * LINE..(line + 1) * LINE {
                if !self.load_bucket(index).is_free() {
                    continue;
                }
                let home = target.home;
                journal.begin(Op::Insert { home, index });
                // SYNC(publish): SeqCst, pairs with the loads in `inspect`: who sees the word sees the
                // content of its cell.
                let bucket = self.bucket_word(index);
                if bucket
                    .compare_exchange(Bucket::FREE.0, word.0, SeqCst, SeqCst)
                    .is_ok()
                {
                    self.set_tag(line, index % LINE, target.tag);
                    return Some(At { index, word });
                }
            }
        }
        None
    }

    /// Gives a bucket its tag, by whoever has put a tentative word there.
    fn set_tag(&self, line: usize, bucket: usize, tag: u8) {
        let tags = self.tags_word(line);
        // Relaxed: nobody else changes this one of them meanwhile.
        let change = change(tags.load(Relaxed), bucket, tag);
        if change != 0 {
            // SYNC(tag): SeqCst, and before the commit: see `find_in`.
            tags.fetch_xor(change, SeqCst);
        }
    }

    /// Finishes the insert that `home` names: any number may do so, at any time.
    pub(super) fn help(&self, line: usize, home: Home) {
        let pending = home.pending();
        if pending == 0 {
            return;
        }
        let index = self.pending_index(line, pending);
        let word = self.load_bucket(index);
        if word.is_tentative() {
            // Not finished when the word was loaded, if the home is still the same: so it is that
            // insert's, and not one that was put there since.
            if self.load_home(line) != home {
                return;
            }
            // SYNC(publish): SeqCst, as every exchange of a bucket.
            let live = word.to_live().0;
            let _ = self
                .bucket_word(index)
                .compare_exchange(word.0, live, SeqCst, SeqCst);
        }
        // SYNC(commit): SeqCst, pairs with the loads of the home: who sees it sees the word live.
        let _ = self
            .home_word(line)
            .compare_exchange(home.0, home.finished().0, SeqCst, SeqCst);
    }
}
