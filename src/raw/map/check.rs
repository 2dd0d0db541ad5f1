//! Every invariant of a map at rest: what the tests ask after each death.

use std::collections::HashMap;
use std::fmt;

use super::Bucket;
use super::Table;
use super::tags::tag_of;
use super::word::{Op, Owner};
use crate::sync::load;

/// What stands in a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Keys.
    pub keys: usize,
    /// Cells that are free.
    pub free_cells: usize,
    /// How many keys a look-up finds in the first line that it looks at, in the second, and so on.
    pub distances: Vec<usize>,
    /// How many lines a look-up of an absent key passes: how many homes have one, two, and so on.
    pub probe_lines: Vec<usize>,
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw(pub String);

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn count(counts: &mut Vec<usize>, n: usize) {
    if counts.len() <= n {
        counts.resize(n + 1, 0);
    }
    counts[n] += 1;
}

impl<const LINE: usize> Table<'_, LINE> {
    /// Counts what is there, in one pass over the index. While others change the map it is no state that
    /// the map ever had; a key that stays is counted once.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        let mut from = 0;
        while let Some((at, home)) =
            self.visit(from, |cell| Some(self.home_of(cell.hash(self.seed))))
        {
            census.keys += 1;
            count(&mut census.distances, self.distance(home, at.index));
            from = at.next();
        }
        for home in 0..self.lines() {
            count(
                &mut census.probe_lines,
                self.load_home(home).len().min(self.farthest()),
            );
        }
        let owners = (0..self.cell_count).filter_map(|cell| self.owner(cell));
        census.free_cells = owners.filter(|owner| owner.is_pool()).count();
        census
    }

    /// Looks for broken invariants. To be called when nobody changes the map and no dead writer waits to be
    /// recovered; else what it finds may mean nothing.
    pub fn check(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut flaw = |text: String| flaws.push(Flaw(text));
        // Who has each cell: a bucket, a writer or the pool.
        let mut held = vec![0_u32; self.cell_count];
        let mut keys = HashMap::new();
        let mut farthest = vec![0; self.lines()];
        for index in 0..self.buckets.len() {
            let word = self.load_bucket(index);
            if word.is_free() {
                if word.0 != 0 {
                    flaw(format!("bucket {index} is free and not zero"));
                }
                continue;
            }
            if word.is_tentative() {
                flaw(format!("bucket {index} is tentative"));
            }
            let (number, seq) = (
                self.split.cell(word.publication()),
                self.split.seq(word.publication()),
            );
            let (Some(cell), Some(owner)) = (self.cell(number), self.owner(number)) else {
                flaw(format!(
                    "bucket {index} names cell {number}, which does not exist"
                ));
                continue;
            };
            held[number] += 1;
            if !owner.is_filled() || owner.is_pool() || owner.seq() != seq {
                flaw(format!(
                    "bucket {index} names content {seq} of cell {number}, which is {owner:?}"
                ));
            }
            let hash = cell.hash(self.seed);
            let (home, mut key) = (self.home_of(hash), Vec::new());
            let tag = Bucket::tag(hash);
            let tags = load(self.tags_word(index / LINE), self.access);
            if !word.has(tag) || tag_of(tags, index % LINE) != tag {
                flaw(format!(
                    "bucket {index} has the tag of another key than its own"
                ));
            }
            cell.key().append_to(&mut key);
            if let Some(other) = keys.insert(key, index) {
                flaw(format!("one key stands in buckets {other} and {index}"));
            }
            farthest[home] = farthest[home].max(self.distance(home, index));
        }
        for (home, farthest) in farthest.into_iter().enumerate() {
            let word = self.load_home(home);
            if word.len() != farthest {
                flaw(format!(
                    "home {home} says {} lines, and it is {farthest}",
                    word.len()
                ));
            }
            if word.pending() != 0 {
                flaw(format!("home {home} names an insert that is not finished"));
            }
        }
        for writer in 0..self.writers() {
            let journal = self.journal(writer);
            if journal.op() != Op::None || journal.fresh().is_some() {
                flaw(format!("the journal of writer {writer} is not empty"));
            }
            let spare = self.split.cell(journal.spare());
            match self.owner(spare) {
                Some(owner) if owner.is_writer(writer) => held[spare] += 1,
                owner => flaw(format!(
                    "writer {writer} has cell {spare} in hand, which is {owner:?}"
                )),
            }
        }
        let mut free = 0;
        for (cell, held) in held.into_iter().enumerate() {
            let is_free = self.owner(cell).is_some_and(Owner::is_pool);
            free += usize::from(is_free);
            if held + u32::from(is_free) != 1 {
                flaw(format!(
                    "{held} have cell {cell}, which is {:?}",
                    self.owner(cell)
                ));
            }
            if is_free && self.is_hidden(cell) {
                flaw(format!(
                    "cell {cell} is free, and the hint says that it is not"
                ));
            }
        }
        if keys.len() + free != self.capacity {
            flaw(format!(
                "{} keys and {free} free cells are not {}",
                keys.len(),
                self.capacity
            ));
        }
        flaws
    }
}
