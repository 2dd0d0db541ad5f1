//! After a writer's death: what it was about to do is finished or undone, and its cells are accounted
//! for again.
//!
//! One process at a time recovers a writer, holding the right to its slot, and may itself die anywhere
//! here: the next one starts again. Nobody waits for it, because nothing that a dead writer leaves is in
//! the way of others: cells that nobody else uses, a tentative word that does not count or that anybody
//! can finish, a home that says "look farther" than need be.

use super::Table;
use super::word::{Bucket, Op, Owner, Publication};
use crate::sync::Ordering::SeqCst;

impl<const LINE: usize> Table<'_, LINE> {
    /// Recovers the writer, which must be dead, by whoever holds the right to its slot.
    pub fn recover(&self, writer: usize) {
        let journal = self.journal(writer);
        let (op, old, spare, fresh) = (
            self.op(writer),
            journal.old(),
            journal.spare(),
            journal.fresh(),
        );
        match op {
            Op::None => {}
            Op::Insert { home, index } => {
                if let Some(fresh) = fresh {
                    self.undo(home, index, fresh);
                    self.finish(home, index);
                    if self.was_published(writer, fresh, index) {
                        journal.set_fresh(None);
                    }
                }
            }
            Op::Replace { index } => {
                // (Otherwise it has the old one in hand already.)
                if spare != old.publication() && self.was_published(writer, spare, index) {
                    self.claim(writer, old.publication());
                    journal.set_spare(old.publication());
                }
            }
            Op::Remove { home, index } => {
                if self.load_bucket(index) != old && !self.has_replacer(writer, index, old) {
                    self.retire(old.publication());
                }
                self.lower(home, usize::MAX);
            }
        }
        // What is left is to give back a cell that never was in the index, whoever does it.
        journal.end();
        if let Some(fresh) = journal.fresh() {
            let cell = self.split.cell(fresh);
            match self.owner(cell) {
                Some(owner) if owner.is_writer(writer) => self.give_back(fresh),
                Some(owner) if owner.is_pool() => self.clear_hint(cell),
                _ => {}
            }
        }
        journal.set_fresh(None);
    }

    /// What the writer was about to do, at places that exist.
    fn op(&self, writer: usize) -> Op {
        let home = |home: usize| home % self.lines();
        let index = |index: usize| index % self.buckets.len();
        match self.journal(writer).op() {
            Op::None => Op::None,
            Op::Insert { home: h, index: i } => Op::Insert {
                home: home(h),
                index: index(i),
            },
            Op::Replace { index: i } => Op::Replace { index: index(i) },
            Op::Remove { home: h, index: i } => Op::Remove {
                home: home(h),
                index: index(i),
            },
        }
    }

    /// Takes the dead writer's tentative word out of the bucket, unless it was committed: then it is made
    /// live.
    fn undo(&self, home: usize, index: usize, fresh: Publication) {
        loop {
            let word = self.load_bucket(index);
            if !word.is_tentative() || word.publication() != fresh {
                return;
            }
            let home_word = self.load_home(home);
            if home_word.pending() == self.pending_of(home, index) {
                self.help(home, home_word);
            } else {
                // SYNC(publish): SeqCst, as every exchange of a bucket.
                let free = Bucket::FREE.0;
                let _ = self
                    .bucket_word(index)
                    .compare_exchange(word.0, free, SeqCst, SeqCst);
            }
        }
    }

    /// Whether a content that `writer` has filled got into bucket `index`. Definitive once it is dead, or as long
    /// as its journal says the same.
    ///
    /// If it did, then it is still there; or somebody has taken it out, and wrote that it would into its
    /// journal before; and struck that out only after it had changed the owner of the cell. So in this
    /// order.
    fn was_published(&self, writer: usize, publication: Publication, index: usize) -> bool {
        let word = self.load_bucket(index);
        if !word.is_free() && word.publication() == publication {
            return true;
        }
        let mut others = (0..self.writers()).filter(|&other| other != writer);
        let takes_it_out = |other| {
            let journal = self.journal(other);
            journal.op().takes_from(index) && journal.old().publication() == publication
        };
        if others.any(takes_it_out) {
            return true;
        }
        let seq = self.split.seq(publication);
        self.owner(self.split.cell(publication)) != Some(Owner::filled(writer, seq))
    }

    /// Whether another writer has replaced `old`, which stands in the bucket no more, and has not taken
    /// its cell in hand yet, as it will.
    fn has_replacer(&self, writer: usize, index: usize, old: Bucket) -> bool {
        let others = (0..self.writers()).filter(|&other| other != writer);
        others.into_iter().any(|other| {
            let journal = self.journal(other);
            let is_about_to = || journal.op() == Op::Replace { index } && journal.old() == old;
            // It may live, and lose, and try once more to replace what is gone, with its spare filled
            // anew: then that is what it was not published for. So all is asked twice.
            is_about_to() && {
                let spare = journal.spare();
                let published =
                    spare == old.publication() || self.was_published(other, spare, index);
                published && is_about_to() && journal.spare() == spare
            }
        })
    }
}
