//! The first 256 bytes of every segment: what it is, and whether it is ours to open.
//!
//! Written once, before anybody can see the segment, and never changed. `docs/FORMAT.md` lists every
//! byte; `tests/format` holds that page and this struct to each other.

use bytemuck::{Pod, Zeroable};
use memoffset::span_of;
use xxhash_rust::xxh3::xxh3_64;

use super::participants;
use crate::error::Mismatch;
use crate::identity::{Identity, Kind, TypeShape};

/// The first word. Its bytes are those of `"\x89FKMAP\r\n"`: the high bit catches seven-bit channels
/// and the line end catches newline conversion (the idea is PNG's), and read on a machine of the
/// other byte order the word is reversed.
pub const MAGIC: u64 = u64::from_le_bytes(*b"\x89FKMAP\r\n");

/// The version of the segment format, raised with every change of any byte's meaning. It has nothing
/// to do with the version of the crate.
pub const FORMAT_VERSION: u64 = 2;

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// Segments are whole numbers of this many bytes, on machines of every page size.
pub const GRAIN: u64 = 4096;

/// The header as it stands in the segment: 32 little-endian words.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Header {
    pub magic: u64,
    pub version: u64,
    pub bytes: u64,
    pub kind: u64,
    pub key: u64,
    pub value: u64,
    pub schema: u64,
    pub hash_seed: u64,
    pub instance: [u64; 2],
    pub geometry: [u64; 8],
    pub participants: u64,
    pub reserved: [u64; 12],
    pub checksum: u64,
}

const _: () = assert!(size_of::<Header>() == 256 && align_of::<Header>() == 8);

impl Header {
    /// The header of a new segment of `bytes` bytes with room for so many participants.
    pub fn new(
        identity: Identity,
        bytes: u64,
        geometry: [u64; 8],
        participants: u64,
        hash_seed: u64,
        instance: [u64; 2],
    ) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: FORMAT_VERSION,
            bytes,
            kind: identity.kind.code(),
            key: identity.key.word(),
            value: identity.value.word(),
            schema: identity.schema,
            hash_seed,
            instance,
            geometry,
            participants,
            ..Self::zeroed()
        };
        header.checksum = header.computed_checksum();
        header
    }

    fn computed_checksum(&self) -> u64 {
        xxh3_64(&bytemuck::bytes_of(self)[span_of!(Header, magic..checksum)])
    }

    /// Reads the header of a segment of `found_bytes` bytes from its first bytes, and checks all that
    /// can be told without knowing what the caller expects.
    pub fn decode(start: &[u8], found_bytes: u64) -> Result<Self, Mismatch> {
        let magic = start
            .get(span_of!(Header, magic))
            .map(bytemuck::pod_read_unaligned::<u64>);
        match magic {
            Some(MAGIC) => {}
            Some(other) if other == MAGIC.swap_bytes() => return Err(Mismatch::ByteOrder),
            _ => return Err(Mismatch::NotASegment),
        }
        let Some(start) = start.get(..HEADER_BYTES) else {
            return Err(Mismatch::Length {
                expected: HEADER_BYTES as u64,
                found: found_bytes,
            });
        };
        let header: Self = bytemuck::pod_read_unaligned(start);
        if header.version != FORMAT_VERSION {
            return Err(Mismatch::Version {
                found: header.version,
                ours: FORMAT_VERSION,
            });
        }
        if header.checksum != header.computed_checksum() {
            return Err(Mismatch::Damaged {
                what: "the checksum of the header does not match it",
            });
        }
        if header.bytes % GRAIN != 0 {
            return Err(Mismatch::Damaged {
                what: "its length is not a whole number of 4,096 bytes",
            });
        }
        if header.bytes != found_bytes {
            return Err(Mismatch::Length {
                expected: header.bytes,
                found: found_bytes,
            });
        }
        if !(1..=participants::MOST).contains(&header.participants) {
            return Err(Mismatch::Damaged {
                what: "no segment has so many participants",
            });
        }
        if header.reserved != [0; 12] {
            return Err(Mismatch::Damaged {
                what: "reserved words of the header are not zero",
            });
        }
        Ok(header)
    }

    /// The random number of this creation of the segment.
    pub fn instance_id(&self) -> u128 {
        u128::from(self.instance[0]) << 64 | u128::from(self.instance[1])
    }

    /// Which structure the segment holds, if this version knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_code(self.kind)
    }

    /// What a checked header says that the segment is for; `None` if this version does not know its kind.
    pub fn identity(&self) -> Option<Identity> {
        Some(Identity {
            kind: self.kind()?,
            key: TypeShape::from_word(self.key),
            value: TypeShape::from_word(self.value),
            schema: self.schema,
        })
    }

    /// Whether the segment is what the caller takes it for.
    pub fn expect(&self, wanted: Identity) -> Result<(), Mismatch> {
        if self.kind != wanted.kind.code() {
            return Err(Mismatch::Kind {
                found: self.kind(),
                wanted: wanted.kind,
            });
        }
        for (what, found, wanted) in [
            ("keys", self.key, wanted.key),
            ("values", self.value, wanted.value),
        ] {
            let found = TypeShape::from_word(found);
            if found != wanted {
                return Err(Mismatch::Types {
                    what,
                    found,
                    wanted,
                });
            }
        }
        if self.schema != wanted.schema {
            return Err(Mismatch::Schema {
                found: self.schema,
                wanted: wanted.schema,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Identity = Identity {
        kind: Kind::AtomicDict,
        key: TypeShape { size: 8, align: 8 },
        value: TypeShape { size: 8, align: 8 },
        schema: 5,
    };

    fn header() -> Header {
        Header::new(ME, 8192, [4, 0, 0, 0, 0, 0, 0, 0], 16, 7, [1, 2])
    }

    #[test]
    fn a_header_reads_back() {
        let header = header();
        let read = Header::decode(bytemuck::bytes_of(&header), 8192).unwrap();
        assert_eq!(read, header);
        read.expect(ME).unwrap();
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let mut bytes = bytemuck::bytes_of(&header()).to_vec();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bytes, 8192).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn each_refusal_tells_both_sides() {
        let good = header();
        let decode = |change: fn(&mut Header), reseal: bool| {
            let mut header = good;
            change(&mut header);
            if reseal {
                header.checksum = header.computed_checksum();
            }
            let read = Header::decode(bytemuck::bytes_of(&header), 8192);
            read.and_then(|header| header.expect(ME))
                .unwrap_err()
                .to_string()
        };
        assert!(decode(|h| h.magic = h.magic.swap_bytes(), false).contains("byte order"));
        assert!(decode(|h| h.magic = 0, false).contains("not a forkmap segment"));
        let text = decode(|h| h.version = 99, false);
        assert!(text.contains("99") && text.contains('2'), "{text}");
        let text = decode(|h| h.bytes = 4096, true);
        assert!(text.contains("4096") && text.contains("8192"), "{text}");
        assert!(decode(|h| h.kind = 77, true).contains("AtomicDict"));
        let text = decode(|h| h.value = TypeShape { size: 4, align: 2 }.word(), true);
        assert!(
            text.contains("4 bytes aligned to 2") && text.contains("8 bytes"),
            "{text}"
        );
        let text = decode(|h| h.schema = 6, true);
        assert!(text.contains('6') && text.contains('5'), "{text}");
        assert!(decode(|h| h.reserved[3] = 1, true).contains("reserved"));
    }
}
