//! Changes in bytes: what the log and the dump are made of.
//!
//! ```text
//! change: key bytes:30 + kind:2 | value bytes:32 | key | value       little-endian
//! ```

use crate::raw::stream::log::Damaged;

const PUT: u32 = 1;
const REMOVE: u32 = 2;
const CLEAR: u32 = 3;

const HEADER_BYTES: usize = 8;
const KEY_BITS: u32 = 30;

/// Longest key in bytes.
pub(super) const LONGEST_KEY: usize = (1 << KEY_BITS) - 1;
/// Longest value in bytes.
pub(super) const LONGEST_VALUE: usize = u32::MAX as usize;

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'b> {
    Put { key: &'b [u8], value: &'b [u8] },
    Remove { key: &'b [u8] },
    Clear,
}

/// Bytes that a put takes.
pub(super) fn put_bytes(key: usize, value: usize) -> usize {
    HEADER_BYTES + key + value
}

/// Puts a change behind `out`. Keys and values must not be longer than the longest.
pub(super) fn write(out: &mut Vec<u8>, change: Change<'_>) {
    let (kind, key, value): (_, &[u8], &[u8]) = match change {
        Change::Put { key, value } => (PUT, key, value),
        Change::Remove { key } => (REMOVE, key, &[]),
        Change::Clear => (CLEAR, &[], &[]),
    };
    debug_assert!(key.len() <= LONGEST_KEY && value.len() <= LONGEST_VALUE);
    out.extend_from_slice(&(kind << KEY_BITS | key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// The changes in `bytes`, in their order. After an error there are no more.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = Result<Change<'_>, Damaged>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let change = first(&mut bytes);
        if change.is_none() {
            bytes = &[];
        }
        Some(change.ok_or(Damaged))
    })
}

/// How many of `bytes` are whole changes, at their start.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    loop {
        let mut behind = rest;
        if take(&mut behind).is_none() {
            return bytes.len() - rest.len();
        }
        rest = behind;
    }
}

/// Takes the first change off `bytes`: its kind, its key and its value.
fn take<'b>(bytes: &mut &'b [u8]) -> Option<(u32, &'b [u8], &'b [u8])> {
    let mut take = |len| {
        let (taken, rest) = bytes.split_at_checked(len)?;
        *bytes = rest;
        Some(taken)
    };
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
    let (kind, value) = (word(take(4)?)?, word(take(4)?)? as usize);
    let (kind, key) = (kind >> KEY_BITS, kind as usize & LONGEST_KEY);
    Some((kind, take(key)?, take(value)?))
}

/// The same, as a change.
fn first<'b>(bytes: &mut &'b [u8]) -> Option<Change<'b>> {
    let (kind, key, value) = take(bytes)?;
    match kind {
        PUT => Some(Change::Put { key, value }),
        REMOVE if value.is_empty() => Some(Change::Remove { key }),
        CLEAR if key.is_empty() && value.is_empty() => Some(Change::Clear),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change<'static>; 5] = [
        Change::Put {
            key: b"key",
            value: b"value",
        },
        Change::Remove { key: b"key" },
        Change::Clear,
        Change::Put {
            key: b"",
            value: b"",
        },
        Change::Remove { key: b"" },
    ];

    fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        CHANGES.iter().for_each(|&change| write(&mut bytes, change));
        bytes
    }

    #[test]
    fn what_is_written_reads_back() {
        let bytes = written();
        let read: Result<Vec<_>, _> = read(&bytes).collect();
        assert_eq!(read.unwrap(), CHANGES);
        assert_eq!(put_bytes(3, 5), HEADER_BYTES + 8);
    }

    #[test]
    fn what_is_cut_short_is_damaged_or_ends_between_two() {
        let bytes = written();
        for len in 0..bytes.len() {
            let found: Vec<_> = read(&bytes[..len]).collect();
            let part = &bytes[..whole(&bytes[..len])];
            assert_eq!(read(part).count(), found.iter().flatten().count());
            let whole = found.iter().filter(|change| change.is_ok()).count();
            let all = found.iter().flatten().eq(CHANGES[..whole].iter());
            assert!(all && found.len() <= whole + 1, "{len}: {found:?}");
        }
    }

    #[test]
    fn garbage_ends() {
        let mut bytes = written();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(read(&bytes).count() <= bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
    }
}
