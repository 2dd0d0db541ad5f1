//! Looking at the state of a map, and putting it in order.

use super::SharedHashMap;
use crate::error::ParticipantError;

/// What [`SharedHashMap::stats`] tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Keys.
    pub len: usize,
    /// Keys that fit.
    pub capacity: usize,
    /// Cells that are free: `capacity - len` when nobody changes the map and the dead are recovered.
    pub free: usize,
    /// Cache lines of the index that a look-up of a key that is there passes, on average.
    pub hit_lines: f64,
    /// The same for 99 of 100 keys, at most.
    pub hit_lines_p99: usize,
    /// Cache lines that a look-up of a key that is not there passes, on average.
    pub miss_lines: f64,
    /// The same for 99 of 100 keys, at most.
    pub miss_lines_p99: usize,
    /// The same for any key, at most.
    pub miss_lines_max: usize,
    /// Writers that fit, and so threads that change the map at once.
    pub writer_limit: usize,
    /// Places of writers that processes have which live: as many as threads of theirs have changed the map at
    /// once.
    pub writers: usize,
    /// Writers that have died and were not recovered yet.
    pub dead_writers: usize,
}

/// Mean, percentile 99 and maximum of `1 + index`, which was counted so often.
fn summary(counts: &[usize]) -> (f64, usize, usize) {
    let total: usize = counts.iter().sum();
    let sum: usize = counts
        .iter()
        .enumerate()
        .map(|(n, count)| (n + 1) * count)
        .sum();
    let mut passed = 0;
    let p99 = counts.iter().position(|count| {
        passed += count;
        passed * 100 >= total * 99
    });
    let mean = if total == 0 {
        0.0
    } else {
        sum as f64 / total as f64
    };
    (mean, p99.map_or(0, |n| n + 1), counts.len())
}

impl<K: ?Sized, V: ?Sized> SharedHashMap<K, V> {
    /// Counts keys, free cells, the lengths of look-ups, and writers. Visits everything: for tools, and to
    /// choose a capacity by.
    ///
    /// While others change the map it is no state that the map ever had.
    ///
    /// # Errors
    /// [`ParticipantError`], where it cannot be told who lives.
    pub fn stats(&self) -> Result<Stats, ParticipantError> {
        let (table, census) = (self.table(), self.table().census());
        let writers = self.participants()?;
        let alive = writers.iter().filter(|writer| writer.is_alive).count();
        let (hit_lines, hit_lines_p99, _) = summary(&census.distances);
        let (miss_lines, miss_lines_p99, miss_lines_max) = summary(&census.probe_lines);
        Ok(Stats {
            len: census.keys,
            capacity: table.capacity(),
            free: census.free_cells,
            hit_lines,
            hit_lines_p99,
            miss_lines,
            miss_lines_p99,
            miss_lines_max,
            writer_limit: table.writers(),
            writers: alive,
            dead_writers: writers.len() - alive,
        })
    }

    /// Puts in order what dead writers have left, and tells how many they were. (It is also done whenever
    /// a thread takes the place of a dead writer, and before the map is said to be full.)
    ///
    /// # Errors
    /// [`ParticipantError`], where it cannot be told who is dead.
    pub fn recover(&self) -> Result<usize, ParticipantError> {
        let table = self.table();
        self.table.segment().recover(|slot| table.recover(slot))
    }

    /// Checks every invariant of the map: each key once and where it is found, each cell with one owner,
    /// nothing half done. What it finds is told in words; an empty list is a map in order.
    ///
    /// For a map at rest: when somebody changes it, or when dead writers were not [recovered](Self::recover),
    /// what it tells may mean nothing. Visits everything, and takes memory for a table of the keys.
    pub fn check(&self) -> Vec<String> {
        let flaws = self.table().check();
        flaws.into_iter().map(|flaw| flaw.to_string()).collect()
    }
}
