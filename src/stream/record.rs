//! Changes in bytes: what the log and the dump are made of.
//!
//! ```text
//! change: key bytes:29 + kind:3 | value bytes:32 | key | value       little-endian
//! ```
//!
//! Each is made in one map: the root, until a change of the kind `AT` says which.

use crate::raw::stream::log::Damaged;

const PUT: u32 = 1;
const REMOVE: u32 = 2;
const CLEAR: u32 = 3;
const NEST: u32 = 4;
const AT: u32 = 5;

const HEADER_BYTES: usize = 8;
const KEY_BITS: u32 = 29;

/// Longest key in bytes.
pub(super) const LONGEST_KEY: usize = (1 << KEY_BITS) - 1;
/// Longest value in bytes.
pub(super) const LONGEST_VALUE: usize = u32::MAX as usize;

/// Names a map: that of the whole dictionary, or one that a key of another holds, for as long as it does and never
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct MapId(pub(super) u64);

impl MapId {
    pub(super) const ROOT: Self = Self(0);
    const BYTES: usize = 8;
}

/// One change of one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change<'b> {
    Put {
        key: &'b [u8],
        value: &'b [u8],
    },
    Remove {
        key: &'b [u8],
    },
    Clear,
    /// Gives a key an empty map.
    Nest {
        key: &'b [u8],
        map: MapId,
    },
}

/// Bytes that a put takes.
pub(super) fn put_bytes(key: usize, value: usize) -> usize {
    HEADER_BYTES + key + value
}

/// Bytes that it takes to nest a map and to go there.
pub(super) fn map_bytes(key: usize) -> usize {
    put_bytes(key, MapId::BYTES) + put_bytes(0, MapId::BYTES)
}

/// Changes, written one behind the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    at: MapId,
}

impl Writer {
    /// A change of `map`. Keys and values must not be longer than the longest.
    pub(super) fn write(&mut self, map: MapId, change: Change<'_>) {
        self.go_to(map);
        match change {
            Change::Put { key, value } => self.push(PUT, key, value),
            Change::Remove { key } => self.push(REMOVE, key, &[]),
            Change::Clear => self.push(CLEAR, &[], &[]),
            Change::Nest { key, map } => self.push(NEST, key, &map.0.to_le_bytes()),
        }
    }

    /// The next change is one of `map`.
    pub(super) fn go_to(&mut self, map: MapId) {
        if self.at != map {
            self.push(AT, &[], &map.0.to_le_bytes());
            self.at = map;
        }
    }

    fn push(&mut self, kind: u32, key: &[u8], value: &[u8]) {
        debug_assert!(key.len() <= LONGEST_KEY && value.len() <= LONGEST_VALUE);
        let out = &mut self.bytes;
        out.extend_from_slice(&(kind << KEY_BITS | key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what it has written, but not where that has led to.
    pub(super) fn drain(&mut self) {
        self.bytes.clear();
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            len: self.bytes.len(),
            at: self.at,
        }
    }

    /// Forgets what it has written since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.bytes.truncate(mark.len);
        self.at = mark.at;
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.at = MapId::ROOT;
    }
}

/// Where a writer has come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    len: usize,
    at: MapId,
}

/// The changes in some bytes, each with its map. After an error there are no more.
#[derive(Debug, Clone)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: MapId,
}

impl<'b> Reader<'b> {
    /// Those of a record.
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self::going_on(bytes, MapId::ROOT)
    }

    /// Those behind others, which have led there.
    pub(super) fn going_on(bytes: &'b [u8], at: MapId) -> Self {
        Self { bytes, at }
    }

    /// The map of the next change.
    pub(super) fn at(&self) -> MapId {
        self.at
    }

    /// The next one with its map; or none, of what only leads to another map.
    fn read(&mut self) -> Option<Option<(MapId, Change<'b>)>> {
        let (kind, key, value) = take(&mut self.bytes)?;
        let map = || value.try_into().ok().map(u64::from_le_bytes).map(MapId);
        let change = match kind {
            PUT => Change::Put { key, value },
            REMOVE if value.is_empty() => Change::Remove { key },
            CLEAR if key.is_empty() && value.is_empty() => Change::Clear,
            NEST => Change::Nest { key, map: map()? },
            AT if key.is_empty() => {
                self.at = map()?;
                return Some(None);
            }
            _ => return None,
        };
        Some(Some((self.at, change)))
    }
}

impl<'b> Iterator for Reader<'b> {
    type Item = Result<(MapId, Change<'b>), Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.bytes.is_empty() {
            match self.read() {
                Some(None) => {}
                Some(Some(change)) => return Some(Ok(change)),
                None => {
                    self.bytes = &[];
                    return Some(Err(Damaged));
                }
            }
        }
        None
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [(MapId, Change<'static>); 7] = [
        (
            MapId::ROOT,
            Change::Put {
                key: b"key",
                value: b"value",
            },
        ),
        (
            MapId::ROOT,
            Change::Nest {
                key: b"map",
                map: MapId(7),
            },
        ),
        (MapId(7), Change::Remove { key: b"key" }),
        (MapId(7), Change::Clear),
        (
            MapId(8),
            Change::Put {
                key: b"",
                value: b"",
            },
        ),
        (MapId::ROOT, Change::Clear),
        (MapId::ROOT, Change::Remove { key: b"" }),
    ];

    fn written() -> Writer {
        let mut writer = Writer::default();
        for (map, change) in CHANGES {
            writer.write(map, change);
        }
        writer
    }

    #[test]
    fn what_is_written_reads_back() {
        let writer = written();
        let read: Result<Vec<_>, _> = Reader::new(writer.bytes()).collect();
        assert_eq!(read.unwrap(), CHANGES);
    }

    #[test]
    fn it_goes_on_where_it_has_been_led_to() {
        let (mut writer, mut at, mut found) = (Writer::default(), MapId::ROOT, Vec::new());
        for (map, change) in CHANGES {
            writer.write(map, change);
            let mut reader = Reader::going_on(writer.bytes(), at);
            found.extend(
                reader
                    .by_ref()
                    .map(|change| format!("{:?}", change.unwrap())),
            );
            at = reader.at();
            writer.drain();
        }
        assert_eq!(found, CHANGES.map(|change| format!("{change:?}")));
    }

    #[test]
    fn it_takes_as_many_bytes_as_it_says() {
        let mut writer = Writer::default();
        let (key, value) = (b"key", b"value");
        writer.write(MapId::ROOT, Change::Put { key, value });
        assert_eq!(writer.bytes().len(), put_bytes(3, 5));
        let map = MapId(7);
        writer.clear();
        writer.write(MapId::ROOT, Change::Nest { key, map });
        writer.go_to(map);
        assert_eq!(writer.bytes().len(), map_bytes(3));
    }

    #[test]
    fn what_is_cut_short_is_damaged_or_ends_between_two() {
        let writer = written();
        let bytes = writer.bytes();
        for len in 0..bytes.len() {
            let found: Vec<_> = Reader::new(&bytes[..len]).collect();
            let part = &bytes[..whole(&bytes[..len])];
            assert_eq!(Reader::new(part).count(), found.iter().flatten().count());
            let whole = found.iter().filter(|change| change.is_ok()).count();
            let all = found.iter().flatten().eq(CHANGES[..whole].iter());
            assert!(all && found.len() <= whole + 1, "{len}: {found:?}");
        }
    }

    #[test]
    fn garbage_ends() {
        let mut bytes = written().bytes().to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                assert!(Reader::new(&bytes).count() <= bytes.len());
                bytes[at] ^= 1 << bit;
            }
        }
    }
}
