//! What the workers share, and how they count exactly once; the top of `main.rs` explains it.

use std::iter;

use bytemuck::{Pod, Zeroable};
use forkmap::{AtomicDict, Entry};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Result;
use crate::text::{Counts, Text, words};

/// Set in the keys of words, so that none of them is the number of a file or the cursor.
const WORD: u64 = 1 << 63;
const CURSOR: u64 = WORD - 1;
/// Set in the value of a file whose words are all in the dictionary.
const DONE: u64 = 1 << 63;

/// The value of a word at a place. Its two parts always change together.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Tally {
    count: u32,
    /// The file that was added last: its number plus 1.
    last: u32,
}

fn word_key(word: &[u8], place: usize) -> u64 {
    WORD | xxh3_64_with_seed(word, place as u64)
}

/// How many keys the words need, if this job can do them.
///
/// Two words with the same key would be counted as one. With hashes of 63 bits that does not happen
/// by chance, but it costs little to be sure.
pub fn word_keys(plain: &Counts<Box<[u8]>>, workers: usize) -> Result<usize> {
    if plain.values().any(|&n| n > u32::MAX.into()) {
        return Err("a word comes more than 4,294,967,295 times; count fewer files".into());
    }
    let keys = |place| plain.keys().map(move |word| word_key(word, place));
    let mut keys: Vec<u64> = (0..workers).flat_map(keys).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two words have the same hash; take another number of --workers".into());
    }
    Ok(keys.len())
}

/// What the workers share. They inherit it when they are forked.
pub struct Job<'a> {
    pub texts: &'a [Text],
    /// The values of the files, in the order of `texts`.
    files: Vec<Entry>,
    cursor: Entry,
    tallies: AtomicDict<Tally>,
}

impl<'a> Job<'a> {
    pub fn new(texts: &'a [Text], word_keys: usize) -> Result<Self> {
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

    /// The life of a worker.
    pub fn work(&self, place: usize) -> Result<()> {
        let mut worker = Worker {
            job: self,
            place,
            me: place as u64 + 1,
            buffer: Vec::new(),
            counts: Counts::default(),
        };
        worker.work()
    }

    /// The number of files that are done, and of the bytes in them.
    pub fn progress(&self) -> (u64, u64) {
        let states = self.files.iter().map(Entry::load);
        let done = self.texts.iter().zip(states);
        let done = done.filter(|(_, state)| state & DONE != 0);
        done.fold((0, 0), |(files, bytes), (text, _)| {
            (files + 1, bytes + text.bytes)
        })
    }

    /// How often all workers together met the word.
    pub fn count_of(&self, word: &[u8], workers: usize) -> u64 {
        let tallies = (0..workers).map(|place| self.tallies.load(word_key(word, place)));
        tallies.map(|tally| u64::from(tally.count)).sum()
    }

    /// How many words there are in the dictionary, whatever they are.
    pub fn total(&self) -> u64 {
        let tallies = self.tallies.iter().filter(|(key, _)| key & WORD != 0);
        tallies.map(|(_, tally)| u64::from(tally.count)).sum()
    }
}

/// One process, the only one at its place.
struct Worker<'a> {
    job: &'a Job<'a>,
    place: usize,
    me: u64,
    /// Kept from file to file.
    buffer: Vec<u8>,
    counts: Counts<u64>,
}

impl Worker<'_> {
    fn work(&mut self) -> Result<()> {
        let Job { files, cursor, .. } = self.job;
        // The file over which the one before me was killed.
        if let Some(file) = files.iter().position(|state| state.load() == self.me) {
            self.count(file)?;
        }
        let hints = iter::repeat_with(|| cursor.fetch_add(1) as usize);
        let hints = hints.take_while(|&file| file < files.len());
        for file in hints.chain(0..files.len()) {
            if files[file].compare_exchange(0, self.me).is_ok() {
                self.count(file)?;
            }
        }
        Ok(())
    }

    /// Adds the words of a file, except those that have been added from it already.
    fn count(&mut self, file: usize) -> Result<()> {
        for word in words(self.job.texts[file].read(&mut self.buffer)?) {
            *self.counts.entry(word_key(word, self.place)).or_default() += 1;
        }
        let last = file as u32 + 1;
        for (key, n) in self.counts.drain() {
            let add = |tally: Tally| {
                (tally.last != last).then(|| Tally {
                    count: tally.count + n as u32,
                    last,
                })
            };
            // The inner error says that the word was there already.
            let _ = self.job.tallies.fetch_update(key, add)?;
        }
        self.job.files[file].store(DONE | self.me);
        Ok(())
    }
}
