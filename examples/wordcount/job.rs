//! What the workers share, and how they count exactly once; the top of `main.rs` explains it.

use std::iter;

use bytemuck::{bytes_of, bytes_of_mut};
use forkmap::{AtomicDict, Entry, SharedHashMap};

use crate::Result;
use crate::text::{Counts, LONGEST_WORD, Text, words};

/// The key of the cursor among the numbers of files.
const CURSOR: u64 = u64::MAX;
/// Set in the value of a file whose words are all counted.
const DONE: u64 = 1 << 63;

/// The value of a file that the worker at `place` has taken.
fn taken_by(place: usize) -> u64 {
    place as u64 + 1
}

/// The value of a word: how often it was met, and for each place the file that was added last, its number
/// plus 1. All of it changes together.
struct Tally(Vec<u8>);

impl Tally {
    fn bytes(places: usize) -> usize {
        size_of::<u64>() + places * size_of::<u32>()
    }

    fn new(places: usize) -> Self {
        Self(vec![0; Self::bytes(places)])
    }

    fn count(&self) -> u64 {
        let mut count = 0_u64;
        bytes_of_mut(&mut count).copy_from_slice(&self.0[..8]);
        count
    }

    /// Adds `n` words of the file, if it was not added at this place already.
    fn add(&mut self, n: u64, file: usize, place: usize) {
        let count = self.count() + n;
        let last = file as u32 + 1;
        let (counted, lasts) = self.0.split_at_mut(8);
        let noted = &mut lasts[4 * place..][..4];
        if noted != bytes_of(&last) {
            noted.copy_from_slice(bytes_of(&last));
            counted.copy_from_slice(bytes_of(&count));
        }
    }
}

/// What the workers share. They inherit it when they are forked.
pub(crate) struct Job<'a> {
    pub(crate) texts: &'a [Text],
    places: usize,
    /// The values of the files, in the order of `texts`.
    files: Vec<Entry>,
    cursor: Entry,
    tallies: SharedHashMap<[u8], [u8]>,
}

impl<'a> Job<'a> {
    /// A job for so many places, with room for so many different words.
    pub(crate) fn new(texts: &'a [Text], places: usize, distinct: usize) -> Result<Self> {
        if texts.len() >= u32::MAX as usize {
            return Err("more than 4,294,967,294 files; count fewer".into());
        }
        let dict = AtomicDict::anonymous(texts.len() as u64 + 1)?;
        let files = (0..texts.len() as u64).map(|file| dict.entry(file));
        let tallies = SharedHashMap::options()
            .capacity(distinct.max(1) as u64)
            .key_bytes(LONGEST_WORD as u64)
            .value_bytes(Tally::bytes(places) as u64)
            // One for each worker, and for those that were killed and not replaced yet.
            .participants(2 * places as u64)
            .anonymous()?;
        Ok(Self {
            texts,
            places,
            files: files.collect::<Result<_, _>>()?,
            cursor: dict.entry(CURSOR)?,
            tallies,
        })
    }

    /// The life of a worker, the only process at its place.
    pub(crate) fn work(&self, place: usize) -> Result<()> {
        let me = taken_by(place);
        let mut buffer = Vec::new();
        // The file over which the one before me was killed.
        if let Some(file) = self.files.iter().position(|state| state.load() == me) {
            self.count(file, place, &mut buffer)?;
        }
        let all = 0..self.files.len();
        let hints = iter::repeat_with(|| self.cursor.fetch_add(1) as usize);
        let hints = hints.take_while(|file| all.contains(file));
        for file in hints.chain(all.clone()) {
            if self.files[file].compare_exchange(0, me).is_ok() {
                self.count(file, place, &mut buffer)?;
            }
        }
        Ok(())
    }

    /// Adds the words of a file, except those that have been added from it already.
    fn count(&self, file: usize, place: usize, buffer: &mut Vec<u8>) -> Result<()> {
        let mut counts = Counts::default();
        for word in words(self.texts[file].read(buffer)?) {
            *counts.entry(word).or_default() += 1;
        }
        for (word, n) in counts {
            self.tallies.update(word, |old| {
                let mut tally = old.map_or_else(|| Tally::new(self.places), Tally);
                tally.add(n, file, place);
                tally.0
            })?;
        }
        self.files[file].store(DONE | taken_by(place));
        Ok(())
    }

    /// The number of files that are done, and of the bytes in them.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let states = self.files.iter().map(Entry::load);
        let done = self.texts.iter().zip(states);
        let done = done.filter(|(_, state)| state & DONE != 0);
        done.fold((0, 0), |(files, bytes), (text, _)| {
            (files + 1, bytes + text.bytes)
        })
    }

    /// The words, and how often all workers together met them.
    pub(crate) fn counts(&self) -> Result<Vec<(Vec<u8>, u64)>> {
        let entries = self.tallies.iter();
        let counts =
            entries.map(|entry| Ok(entry.map(|(word, tally)| (word, Tally(tally).count()))?));
        counts.collect()
    }
}
