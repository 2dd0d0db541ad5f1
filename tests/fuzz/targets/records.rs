//! Generations of a `StreamDict`, written by hand as docs/FORMAT.md says; or nearly.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::damage::{GEOMETRY, HEADER, LENGTH, get, put, reseal};
use super::input::Input;
use super::memory;

/// Where things stand in a generation, in bytes: its log,
pub(super) const LOG: usize = 1408;
/// and behind that.
pub(super) const USED: usize = 0;
pub(super) const NEXT: usize = 8;
pub(super) const FIRST: usize = 24;

pub(super) const HEAD_WORDS: usize = 8;
pub(super) const SEAL: u64 = u64::MAX;

pub(super) const KEYS: [&str; 4] = ["a", "b", "c", ""];

const PUT: u32 = 1;
const REMOVE: u32 = 2;
const CLEAR: u32 = 3;
const NEST: u32 = 4;
const AT: u32 = 5;

fn change(out: &mut Vec<u8>, kind: u32, key: &[u8], value: &[u8]) {
    out.extend((kind << 29 | key.len() as u32).to_le_bytes());
    out.extend((value.len() as u32).to_le_bytes());
    out.extend(key);
    out.extend(value);
}

/// Any change, of maps that may be there or not, twice, or within each other.
fn any_change(out: &mut Vec<u8>, input: &mut Input<'_>) {
    let kind = input.byte();
    let key = KEYS[usize::from(kind >> 6)].as_bytes();
    let id = input.about(6).to_le_bytes();
    match kind % 16 {
        0..4 => change(out, PUT, key, &input.bytes(20)),
        4 => change(out, PUT, &input.bytes(20), b"v"),
        5 => change(out, REMOVE, key, b""),
        6 if input.one_in(4) => change(out, CLEAR, b"", b""),
        7 => change(out, NEST, key, &id[..input.below(9)]),
        8 => change(out, u32::from(input.byte() % 8), key, &id),
        9..12 => change(out, NEST, key, &id),
        _ => change(out, AT, b"", &id),
    }
}

/// What every dictionary begins with: `{"a": {"b": {}}, "b": {}}`, of the maps 1 to 3, and a value.
pub(super) fn beginning() -> Vec<u8> {
    let mut out = Vec::new();
    let nest = |out: &mut Vec<u8>, key: &str, id: u64| {
        change(out, NEST, key.as_bytes(), &id.to_le_bytes());
    };
    change(&mut out, PUT, b"c", b"value");
    nest(&mut out, "a", 1);
    nest(&mut out, "b", 3);
    change(&mut out, AT, b"", &1_u64.to_le_bytes());
    nest(&mut out, "b", 2);
    out
}

/// Changes that anybody could make of that.
pub(super) fn tame_changes(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=input.byte() % 4 {
        let map = input.below(4) as u64;
        change(&mut out, AT, b"", &map.to_le_bytes());
        match input.byte() % 4 {
            0 => change(&mut out, REMOVE, b"c", b""),
            1 => change(&mut out, PUT, b"", &input.bytes(20)),
            _ => change(&mut out, PUT, b"c", &input.bytes(20)),
        }
    }
    out
}

/// Some changes. They need not be whole, nor make sense.
pub(super) fn wild_changes(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    if input.one_in(32) {
        // Level below level, from a map on that there may be.
        for id in 100..100 + input.below(150) as u64 {
            change(&mut out, NEST, b"a", &id.to_le_bytes());
            change(&mut out, AT, b"", &id.to_le_bytes());
        }
    }
    for _ in 0..input.byte() % 8 {
        any_change(&mut out, input);
    }
    if input.one_in(16) && !out.is_empty() {
        match input.byte() % 4 {
            0 => out.truncate(input.below(out.len())),
            1 => out.extend(input.take::<5>()),
            _ => {
                let at = input.below(out.len());
                out[at] ^= 1 << (input.byte() % 8);
            }
        }
    }
    out
}

/// A record with the right checksum, in whole words.
pub(super) fn record(link: u64, payload: &[u8]) -> Vec<u8> {
    let checksum = xxhash_rust::xxh3::xxh3_64(payload) & 0xFFFF_FFFF;
    let mut out = link.to_le_bytes().to_vec();
    out.extend(((payload.len() as u64) << 32 | checksum).to_le_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

/// What a generation is to be.
pub(super) struct Plan {
    pub(super) id: u64,
    pub(super) previous: u64,
    pub(super) number: u64,
    /// What its last link says.
    pub(super) end: u64,
    /// The generation that follows.
    pub(super) next: u64,
}

impl Plan {
    /// A generation with that header but for its geometry, with a dump and with records.
    pub(super) fn write(&self, header: &[u8], input: &mut Input<'_>) -> Vec<u8> {
        let dump = match self.previous {
            0 if input.one_in(16) => wild_changes(input),
            0 => beginning(),
            _ => Vec::new(),
        };
        let count = input.byte() % 4;
        let payload = |_| match input.one_in(16) {
            true => wild_changes(input),
            false => tame_changes(input),
        };
        let mut payloads: Vec<_> = (0..count).map(payload).collect();
        payloads.retain(|payload| payload.len() < 1 << 13);
        let words = payloads.iter().map(|payload| 2 + payload.len().div_ceil(8));
        let used = words.sum::<usize>();
        let log_words = HEAD_WORDS + used + input.pick(&[0, 3, 20, 200]);
        let dump_start = LOG + 8 * (log_words + 1);
        let len = (dump_start + dump.len().next_multiple_of(8)).next_multiple_of(4096);

        let mut bytes = header[..HEADER].to_vec();
        bytes.resize(len, 0);
        put(&mut bytes, LENGTH, len as u64);
        let geometry = [
            self.id,
            self.previous,
            self.number,
            log_words as u64,
            dump.len() as u64,
            self.number.max(2) - 1,
            0,
            0,
        ];
        for (n, word) in geometry.into_iter().enumerate() {
            put(&mut bytes, GEOMETRY + 8 * n, word);
        }
        reseal(&mut bytes);
        put(&mut bytes, LOG + USED, used as u64);
        put(&mut bytes, LOG + NEXT, self.next);
        let (mut link, mut at) = (LOG + FIRST, HEAD_WORDS);
        for payload in payloads {
            put(&mut bytes, link, at as u64);
            link = LOG + 8 * at;
            let record = record(0, &payload);
            bytes[link..][..record.len()].copy_from_slice(&record);
            at += record.len() / 8;
        }
        put(&mut bytes, link, self.end);
        put(
            &mut bytes,
            dump_start - 8,
            xxhash_rust::xxh3::xxh3_64(&dump),
        );
        bytes[dump_start..][..dump.len()].copy_from_slice(&dump);
        bytes
    }
}

/// Appends a record to a generation that others have open, at the end of its log or somewhere else.
pub(super) fn append(file: &File, input: &mut Input<'_>) {
    let bytes = memory::read(file);
    let words = (bytes.len() - LOG) / 8;
    let word = |n: usize| get(&bytes, LOG + 8 * n);
    let mut tail = FIRST / 8;
    for _ in 0..64 {
        match word(tail) as usize {
            0 => break,
            next if next < words => tail = next,
            _ => break,
        }
    }
    let used = (word(USED / 8) as usize).min(words);
    let at = match input.byte() % 8 {
        0 => input.below(words),
        _ => HEAD_WORDS + used,
    };
    let link = match input.byte() % 8 {
        0 => SEAL,
        1 => input.about(words),
        _ => 0,
    };
    let record = match input.one_in(4) {
        true => record(link, &wild_changes(input)),
        false => record(link, &tame_changes(input)),
    };
    if LOG + 8 * at + record.len() > bytes.len() {
        return;
    }
    let write = |bytes: &[u8], n: usize| file.write_all_at(bytes, (LOG + 8 * n) as u64).unwrap();
    write(&record, at);
    write(&((used + record.len() / 8) as u64).to_le_bytes(), USED / 8);
    write(&(at as u64).to_le_bytes(), tail);
}
