//! What the workers share, and how they count exactly once; the top of `main.rs` explains it.

use std::iter;

use bytemuck::{Pod, Zeroable};
use forkmap::{AtomicDict, Entry};
use xxhash_rust::xxh3::xxh3_64;

use crate::Result;
use crate::text::{Counts, Text, words};

/// Set in the keys of words, so that none of them is the number of a file or the cursor.
const WORD: u64 = 1 << 63;
const CURSOR: u64 = WORD - 1;
/// Set in the value of a file whose words are all in the dictionary.
const DONE: u64 = 1 << 63;

/// The value of a file that the worker at `place` has taken.
fn taken_by(place: usize) -> u64 {
    place as u64 + 1
}

/// The value of a word at a place. Its two parts always change together.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Tally {
    count: u32,
    /// The file that was added last: its number plus 1.
    last: u32,
}

/// The hash of a word is mixed with a hash of the place. (The place as the seed of XXH3 would not do:
/// seeds as close as 0 and 1 give some pairs of short words the same hash.)
fn word_key(word: &[u8], place: usize) -> u64 {
    WORD | (xxh3_64(word) ^ xxh3_64(&place.to_le_bytes()))
}

/// How many keys the words need, if this job can do them.
///
/// Two words with the same key would be counted as one. With hashes of 63 bits that does not happen
/// by chance, but it costs little to be sure.
pub(crate) fn word_keys(plain: &Counts<Box<[u8]>>, workers: usize) -> Result<usize> {
    if plain.values().any(|&n| n > u32::MAX.into()) {
        return Err("a word comes more than 4,294,967,295 times; count fewer files".into());
    }
    let keys = |place| plain.keys().map(move |word| word_key(word, place));
    let mut keys: Vec<u64> = (0..workers).flat_map(keys).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(
            "two words have the same hash of 63 bits; this program cannot count them".into(),
        );
    }
    Ok(keys.len())
}

/// What the workers share. They inherit it when they are forked.
pub(crate) struct Job<'a> {
    pub(crate) texts: &'a [Text],
    /// The values of the files, in the order of `texts`.
    files: Vec<Entry>,
    cursor: Entry,
    tallies: AtomicDict<Tally>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(texts: &'a [Text], word_keys: usize) -> Result<Self> {
        if texts.len() >= u32::MAX as usize {
            return Err("more than 4,294,967,294 files; count fewer".into());
        }
        let dict = AtomicDict::anonymous((word_keys + texts.len() + 1) as u64)?;
        let files = (0..texts.len() as u64).map(|file| dict.entry(file));
        Ok(Self {
            texts,
            files: files.collect::<Result<_, _>>()?,
            cursor: dict.entry(CURSOR)?,
            tallies: dict.cast(),
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
            *counts.entry(word_key(word, place)).or_default() += 1;
        }
        let last = file as u32 + 1;
        for (key, n) in counts {
            let add = |tally: Tally| {
                (tally.last != last).then(|| Tally {
                    count: tally.count + n as u32,
                    last,
                })
            };
            // The inner error says that the word was there already.
            let _ = self.tallies.fetch_update(key, add)?;
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

    /// How often all workers together met the word.
    pub(crate) fn count_of(&self, word: &[u8], workers: usize) -> u64 {
        let tallies = (0..workers).map(|place| self.tallies.load(word_key(word, place)));
        tallies.map(|tally| u64::from(tally.count)).sum()
    }

    /// How many words there are in the dictionary, whatever they are.
    pub(crate) fn total(&self) -> u64 {
        let tallies = self.tallies.iter().filter(|(key, _)| key & WORD != 0);
        tallies.map(|(_, tally)| u64::from(tally.count)).sum()
    }
}
