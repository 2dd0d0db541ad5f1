//! The log of one generation: a chain of records.
//!
//! ```text
//! words:   used | next | wanted | first link | 0 0 0 0 | arena
//! record:  link | len:32 | checksum:32 | payload
//! link:    0 the end  |  all ones: sealed  |  the word number of the record that follows
//! ```
//!
//! A record is written in private, and becomes part of the log when the link at the end is exchanged
//! for its number. Who does that has read everything before: so each record is made in knowledge of all
//! that comes before it, and nothing is ever appended to a state that its writer has not seen.
//!
//! Room for records is given out by a counter, and never twice. Who dies in between leaves a hole that
//! nobody looks at, until the generation goes.

use xxhash_rust::xxh3::xxh3_64;

use crate::raw::bytes::{Bytes, store};
use crate::sync::{
    Access,
    Ordering::{Relaxed, SeqCst},
    Word, load,
};

/// Number of words in front of the arena.
pub const HEAD_WORDS: usize = 8;
const USED: usize = 0;
const NEXT: usize = 1;
const WANTED: usize = 2;
const FIRST: usize = 3;

/// Number of words in front of the payload of a record.
pub const RECORD_WORDS: usize = 2;

/// Most bytes of a payload: what its length can count.
pub const LONGEST_PAYLOAD: usize = u32::MAX as usize;

const SEAL: u64 = u64::MAX;

/// Number of words that a record with so many bytes takes.
pub fn record_words(payload: usize) -> usize {
    RECORD_WORDS + payload.div_ceil(8)
}

/// Where the log ended when somebody had read all of it: the link that was 0 then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail(usize);

impl Tail {
    /// That of an empty log.
    pub const EMPTY: Self = Self(FIRST);
}

/// What stands behind a tail.
#[derive(Debug, Clone, Copy)]
pub enum Next<'a> {
    /// Nothing yet.
    Nothing,
    /// Nothing, for ever: it goes on in the next generation.
    Sealed,
    /// A record.
    Record(Record<'a>),
}

/// A record that is part of the log.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    tail: Tail,
    checksum: u32,
    payload: Bytes<'a>,
}

/// The log is not one that this protocol makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged;

impl Record<'_> {
    /// The tail behind it.
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// How many words it takes.
    pub fn words(&self) -> usize {
        record_words(self.payload.len())
    }

    /// Copies the payload to the end of `out`, and checks it.
    pub fn read(&self, out: &mut Vec<u8>) -> Result<(), Damaged> {
        let start = out.len();
        // (Longer than memory: nobody can have written that.)
        self.payload.try_append_to(out).map_err(|_| Damaged)?;
        match checksum(&out[start..]) == self.checksum {
            true => Ok(()),
            false => Err(Damaged),
        }
    }
}

fn checksum(payload: &[u8]) -> u32 {
    xxh3_64(payload) as u32
}

/// Room for a record, which nobody else has.
#[derive(Debug)]
pub struct Room {
    at: usize,
    words: usize,
}

impl Room {
    /// Whether a payload of so many bytes fits.
    pub fn fits(&self, payload: usize) -> bool {
        record_words(payload) <= self.words
    }
}

/// No room is left for a record of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The log of one generation.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    words: &'a [Word],
    access: Access,
}

impl<'a> Log<'a> {
    /// A view of exactly the words of a log, [`HEAD_WORDS`] at least. One of zeros is empty.
    pub fn new(words: &'a [Word], access: Access) -> Self {
        Self { words, access }
    }

    /// Words for records.
    pub fn arena_words(&self) -> usize {
        self.words.len() - HEAD_WORDS
    }

    /// Words that were given out for records.
    pub fn used_words(&self) -> usize {
        // Relaxed: a figure for people.
        (self.words[USED].load(Relaxed) as usize).min(self.arena_words())
    }

    /// Whether something stands behind `tail`: one load.
    #[inline(always)]
    pub fn has_news(&self, tail: Tail) -> bool {
        // SYNC(append): SeqCst on pages that we may write, pairs with the exchange in `append`.
        load(&self.words[tail.0], self.access) != 0
    }

    /// What stands behind `tail`.
    pub fn next(&self, tail: Tail) -> Result<Next<'a>, Damaged> {
        // SYNC(append): SeqCst on pages that we may write, pairs with the exchange in `append`: who sees
        // the link sees the record.
        let at = match load(&self.words[tail.0], self.access) {
            0 => return Ok(Next::Nothing),
            SEAL => return Ok(Next::Sealed),
            at => usize::try_from(at).map_err(|_| Damaged)?,
        };
        let in_arena = at >= HEAD_WORDS && at < self.words.len();
        let record = self.words.get(at..).filter(|_| in_arena).ok_or(Damaged)?;
        let header = record.get(1).ok_or(Damaged)?.load(Relaxed);
        let (len, checksum) = ((header >> 32) as usize, header as u32);
        let payload = record.get(RECORD_WORDS..record_words(len)).ok_or(Damaged)?;
        Ok(Next::Record(Record {
            tail: Tail(at),
            checksum,
            payload: Bytes::new(payload, len),
        }))
    }

    /// Takes room for a payload of so many bytes. Never more than there is: what is too large for this log
    /// leaves its room to smaller ones.
    pub fn reserve(&self, payload: usize) -> Result<Room, Full> {
        let words = record_words(payload);
        // Relaxed: one counter, which gives each word to one; nobody has touched them before.
        let mut used = self.words[USED].load(Relaxed);
        loop {
            let after = usize::try_from(used)
                .ok()
                .and_then(|used| used.checked_add(words))
                .filter(|&after| after <= self.arena_words())
                .ok_or(Full)?;
            match self.words[USED].compare_exchange(used, after as u64, Relaxed, Relaxed) {
                Ok(_) => {
                    let at = HEAD_WORDS + after - words;
                    return Ok(Room { at, words });
                }
                Err(now) => used = now,
            }
        }
    }

    /// Appends a record if nothing stands behind `tail` yet: the tail behind it. `room` must fit, and come
    /// from this log; it is used up then, and only then.
    pub fn append(&self, tail: Tail, room: &Room, payload: &[u8]) -> Option<Tail> {
        debug_assert!(room.fits(payload.len()));
        let record = &self.words[room.at..][..room.words];
        // Relaxed, all of it: the exchange below releases them.
        record[1].store(
            (payload.len() as u64) << 32 | u64::from(checksum(payload)),
            Relaxed,
        );
        store(&record[RECORD_WORDS..], payload);
        // SYNC(append): SeqCst, pairs with the loads of links: who sees the record sees all of it. The
        // instant when it happens.
        self.words[tail.0]
            .compare_exchange(0, room.at as u64, SeqCst, SeqCst)
            .ok()
            .map(|_| Tail(room.at))
    }

    /// Ends the log, if nothing stands behind `tail` yet.
    pub fn seal(&self, tail: Tail) -> bool {
        // SYNC(append): SeqCst, as every exchange of a link.
        self.words[tail.0]
            .compare_exchange(0, SEAL, SeqCst, SeqCst)
            .is_ok()
    }

    /// The id of the generation that follows, once that is decided; else 0.
    pub fn next_generation(&self) -> u64 {
        // SYNC(elect): SeqCst on pages that we may write, pairs with the exchange in `elect`.
        load(&self.words[NEXT], self.access)
    }

    /// Makes `id` the generation that follows, unless another one is.
    pub fn elect(&self, id: u64) -> Result<(), u64> {
        // SYNC(elect): SeqCst, pairs with the loads of who follows: it sees the dump whole.
        self.words[NEXT]
            .compare_exchange(0, id, SeqCst, SeqCst)
            .map(|_| ())
    }

    /// Words that a record needs which found no room: a hint for the next generation.
    pub fn want(&self, words: usize) {
        // Relaxed: a hint.
        self.words[WANTED].fetch_max(words as u64, Relaxed);
    }

    /// The most that was wanted. (Not to be trusted: anybody may have written it.)
    pub fn wanted(&self) -> usize {
        // Relaxed: a hint.
        usize::try_from(self.words[WANTED].load(Relaxed)).unwrap_or(usize::MAX)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn heap(arena: usize) -> Vec<Word> {
        (0..HEAD_WORDS + arena).map(|_| Word::new(0)).collect()
    }

    fn log(words: &[Word]) -> Log<'_> {
        Log::new(words, Access::ReadWrite)
    }

    /// All payloads, and the tail behind them.
    fn read_all(log: &Log<'_>) -> (Vec<Vec<u8>>, Tail) {
        let (mut found, mut tail) = (Vec::new(), Tail::EMPTY);
        while let Next::Record(record) = log.next(tail).unwrap() {
            let mut payload = Vec::new();
            record.read(&mut payload).unwrap();
            found.push(payload);
            tail = record.tail();
        }
        (found, tail)
    }

    #[test]
    fn what_was_appended_is_read_in_its_order() {
        let words = heap(100);
        let log = log(&words);
        let payloads: [&[u8]; 4] = [b"", b"1", b"12345678", b"123456789"];
        let mut tail = Tail::EMPTY;
        for payload in payloads {
            assert!(!log.has_news(tail));
            let room = log.reserve(payload.len()).unwrap();
            tail = log.append(tail, &room, payload).unwrap();
        }
        let (found, end) = read_all(&log);
        assert_eq!((found, end), (payloads.map(<[u8]>::to_vec).to_vec(), tail));
        assert_eq!(log.used_words(), 2 + 3 + 3 + 4);
        assert!(log.seal(tail) && !log.seal(tail));
        assert!(matches!(log.next(tail), Ok(Next::Sealed)));
    }

    #[test]
    fn who_has_not_read_everything_appends_nothing() {
        let words = heap(100);
        let log = log(&words);
        let rooms = [log.reserve(8).unwrap(), log.reserve(8).unwrap()];
        let tail = log.append(Tail::EMPTY, &rooms[0], b"first").unwrap();
        assert_eq!(log.append(Tail::EMPTY, &rooms[1], b"late"), None);
        assert!(!log.seal(Tail::EMPTY));
        // With the same room, once it has.
        assert!(log.append(tail, &rooms[1], b"now").is_some());
        let (found, _) = read_all(&log);
        assert_eq!(found, [b"first".to_vec(), b"now".to_vec()]);
        assert_eq!(log.elect(7), Ok(()));
        assert_eq!((log.elect(8), log.next_generation()), (Err(7), 7));
    }

    #[test]
    fn room_is_given_out_to_the_last_word_and_no_further() {
        let words = heap(10);
        let log = log(&words);
        assert!(log.reserve(100).is_err(), "too large for it");
        assert!(log.reserve(8 * 5).is_ok());
        assert!(log.reserve(8 * 2).is_err(), "one word too many");
        assert!(log.reserve(8).is_ok());
        assert_eq!(log.reserve(0).map(drop), Err(Full));
        assert_eq!(log.used_words(), 10);
        words[USED].store(u64::MAX, Relaxed);
        assert!(log.reserve(0).is_err() && log.used_words() == 10, "garbage");
    }

    #[test]
    fn what_is_no_record_is_damaged() {
        let words = heap(10);
        let log = log(&words);
        let end = words.len() as u64;
        for link in [1, 7, end, end + 1, SEAL - 1, 1 << 40] {
            words[FIRST].store(link, Relaxed);
            assert!(log.next(Tail::EMPTY).is_err(), "{link}");
        }
        // Its header is outside, or its payload is.
        words[FIRST].store(end - 1, Relaxed);
        assert!(log.next(Tail::EMPTY).is_err());
        words[FIRST].store(8, Relaxed);
        for len in [8 * 8 + 1, 1 << 31, u64::from(u32::MAX)] {
            words[9].store(len << 32, Relaxed);
            assert!(log.next(Tail::EMPTY).is_err(), "{len}");
        }
        words[9].store(8 << 32 | 1, Relaxed);
        let Ok(Next::Record(record)) = log.next(Tail::EMPTY) else {
            panic!("a record");
        };
        assert_eq!(record.read(&mut Vec::new()), Err(Damaged), "its checksum");
    }

    /// Each adds to the sum of all that it has read: so each record is the sum of all before it, and one.
    #[test]
    fn racing_appenders_build_on_each_other() {
        let each = if cfg!(miri) { 4 } else { 500 };
        let words = heap(2 * each * 4);
        let log = log(&words);
        let append = || {
            let (mut tail, mut last) = (Tail::EMPTY, 0);
            let mut room = None;
            for _ in 0..each {
                loop {
                    while let Next::Record(record) = log.next(tail).unwrap() {
                        let mut payload = Vec::new();
                        record.read(&mut payload).unwrap();
                        last = u64::from_le_bytes(payload.try_into().unwrap());
                        tail = record.tail();
                    }
                    let own = room.take().unwrap_or_else(|| log.reserve(8).unwrap());
                    match log.append(tail, &own, &(last + 1).to_le_bytes()) {
                        Some(behind) => {
                            (tail, last) = (behind, last + 1);
                            break;
                        }
                        None => room = Some(own),
                    }
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(append);
            append();
        });
        let (found, _) = read_all(&log);
        let expected = (1..=2 * each as u64).map(|n| n.to_le_bytes().to_vec());
        assert!(found.into_iter().eq(expected));
    }
}
