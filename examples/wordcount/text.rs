//! Files, words, and counting them with one process.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;
use xxhash_rust::xxh3::xxh3_64;

use crate::Result;

/// A file as it was when the program began.
pub(crate) struct Text {
    path: PathBuf,
    pub(crate) bytes: u64,
    hash: u64,
}

impl Text {
    /// Reads the file again. One that is no longer the same would spoil the comparison.
    pub(crate) fn read<'a>(&self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        read(&self.path, buffer)?;
        if xxh3_64(buffer) != self.hash {
            let path = self.path.display();
            return Err(format!("{path} has changed meanwhile; try again when it rests").into());
        }
        Ok(buffer)
    }
}

fn read(path: &Path, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    File::open(path)
        .and_then(|mut file| file.read_to_end(buffer))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(())
}

/// The regular files among `paths` and in the directories among them. A symbolic link is followed
/// if it is one of `paths`, and passed over elsewhere.
pub(crate) fn list(paths: &[PathBuf]) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    let mut buffer = Vec::new();
    for found in paths.iter().flat_map(WalkDir::new) {
        let found = found?;
        if !found.file_type().is_file() {
            continue;
        }
        let path = found.into_path();
        read(&path, &mut buffer)?;
        texts.push(Text {
            path,
            bytes: buffer.len() as u64,
            hash: xxh3_64(&buffer),
        });
    }
    // A long one taken last would keep one worker busy while the others have nothing left to do.
    texts.sort_by_key(|text| Reverse(text.bytes));
    Ok(texts)
}

/// Whether a byte belongs to a word. Looking it up takes a sixth off the time of a run.
const IN_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = byte == b'_' as usize || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Bytes of the longest word. What is longer is data that somebody has put into a source.
pub(crate) const LONGEST_WORD: usize = 64;

/// A word is a run of ASCII letters, digits and `_` that does not begin with a digit. Case counts.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| !IN_WORD[usize::from(byte)])
        .filter(|word| word.first().is_some_and(|byte| !byte.is_ascii_digit()))
        .filter(|word| word.len() <= LONGEST_WORD)
}

/// How often each word was met.
pub(crate) type Counts<K> = HashMap<K, u64, BuildHasherDefault<WordHasher>>;

/// Hashes a word by XXH3.
#[derive(Default)]
pub(crate) struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, word: &[u8]) {
        self.0 = xxh3_64(word);
    }

    /// The length of a word, which its bytes tell already.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the workers are compared with: one process and an ordinary map.
pub(crate) fn count_plainly(texts: &[Text]) -> Result<Counts<Box<[u8]>>> {
    let mut counts = Counts::default();
    let mut buffer = Vec::new();
    for text in texts {
        for word in words(text.read(&mut buffer)?) {
            match counts.get_mut(word) {
                Some(n) => *n += 1,
                None => drop(counts.insert(word.into(), 1)),
            }
        }
    }
    Ok(counts)
}
