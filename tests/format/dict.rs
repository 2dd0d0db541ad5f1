//! The header of every segment, and the body of an `AtomicDict`.

use std::fs;

use forkmap::{AtomicDict, Mismatch, OpenError};

use crate::common::Name;
use crate::{Bytes, number, table};

/// Where the body starts, with as many participants as fit by default.
fn body() -> u64 {
    1344 + 32 * 256
}

#[test]
fn a_new_segment_has_every_field_where_the_document_puts_it() {
    let name = Name::new("format");
    let mut options = AtomicDict::options();
    let dict = options
        .capacity(1)
        .schema(0x5C)
        .hash_seed(0x5EED)
        .create(&name)
        .unwrap();
    dict.store(7, 70).unwrap();
    let bytes = Bytes(fs::read(name.path()).unwrap());
    let rows = table("## The header");
    let field = |name: &str| {
        let row = rows.iter().find(|row| row[1] == format!("`{name}`"));
        number(&row.unwrap_or_else(|| panic!("{name} is not in the document"))[0])
    };
    assert_eq!(&bytes.0[..8], b"\x89FKMAP\r\n");
    assert_eq!(bytes.word(field("version")), 2);
    assert_eq!(bytes.word(field("bytes")), bytes.0.len() as u64);
    assert_eq!(bytes.word(field("kind")), 1);
    assert_eq!(bytes.word(field("key")), 8 << 32 | 8);
    assert_eq!(bytes.word(field("value")), 8 << 32 | 8);
    assert_eq!(bytes.word(field("schema")), 0x5C);
    assert_eq!(bytes.word(field("hash_seed")), 0x5EED);
    let instance = u128::from(bytes.word(field("instance"))) << 64
        | u128::from(bytes.word(field("instance") + 8));
    assert_eq!(instance, dict.instance_id());
    let slots = dict.capacity() as u64;
    assert_eq!(bytes.word(field("geometry")), slots);
    assert_eq!(bytes.word(field("participants")), 256);
    let unused = (field("geometry") + 8..field("participants"))
        .chain(field("reserved")..field("checksum"))
        .chain(256..body());
    for zero in unused.step_by(8) {
        assert_eq!(bytes.word(zero), 0, "at {zero}");
    }
    let checksum = field("checksum");
    assert_eq!(checksum, 248);
    assert_eq!(
        bytes.word(checksum),
        xxhash_rust::xxh3::xxh3_64(&bytes.0[..checksum as usize])
    );

    // The one key: its hash is in the slot that the document's arithmetic names.
    let hash = mix(7, 0x5EED);
    let slot = ((u128::from(hash) * u128::from(slots)) >> 64) as u64;
    for i in 0..=slots {
        let at = body() + 16 * i;
        let expected = if i == slot { (hash, 70) } else { (0, 0) };
        assert_eq!((bytes.word(at), bytes.word(at + 8)), expected, "slot {i}");
    }
}

/// The hash, written a second time from the words of the document.
pub(crate) fn mix(key: u64, seed: u64) -> u64 {
    let m = 0xD6E8_FEB8_6659_FD93;
    let a = key ^ seed;
    let b = (a ^ (a >> 32)).wrapping_mul(m) ^ seed.rotate_left(32);
    (b ^ (b >> 32)).wrapping_mul(m)
}

#[test]
fn the_test_vectors_of_the_hash_hold() {
    let rows = table("## The hash of a key of eight bytes");
    assert!(rows.len() >= 6);
    for row in rows {
        let (seed, key, hash) = (number(&row[0]), number(&row[1]), number(&row[2]));
        assert_eq!(
            mix(key, seed),
            hash,
            "the document's own arithmetic, {row:?}"
        );
        // And the crate's: the hash word of the one key of a dictionary with that seed.
        let dict = AtomicDict::options()
            .capacity(1)
            .hash_seed(seed)
            .anonymous()
            .unwrap();
        dict.store(key, 1).unwrap();
        let fd = std::os::fd::AsFd::as_fd(&dict)
            .try_clone_to_owned()
            .unwrap();
        let mut bytes = vec![0; dict.bytes() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&fs::File::from(fd), &mut bytes, 0).unwrap();
        let bytes = Bytes(bytes);
        let found: Vec<u64> = (0..8)
            .map(|i| bytes.word(body() + 16 * i))
            .filter(|&w| w != 0)
            .collect();
        assert_eq!(found, [hash], "{row:?}");
    }
}

#[test]
fn a_segment_of_format_1_is_refused_by_name() {
    let name = Name::new("golden-1");
    let golden = include_bytes!("../golden/format-1-atomic-dict.seg");
    fs::write(name.path(), golden).unwrap();
    let error = AtomicDict::options().schema(0xF0).open(&name).unwrap_err();
    assert!(matches!(
        error,
        OpenError::Mismatch {
            mismatch: Mismatch::Version { found: 1, ours: 2 },
            ..
        }
    ));
}

/// A segment as format 2 has always been: it opens for as long as this crate reads format 2, and a
/// change of any byte's meaning must come with another version.
#[test]
fn a_segment_of_format_2_still_opens() {
    let name = Name::new("golden-2");
    let golden = include_bytes!("../golden/format-2-atomic-dict.seg");
    fs::write(name.path(), golden).unwrap();
    let dict = AtomicDict::options().schema(0xF0).open(&name).unwrap();
    assert_eq!(dict.capacity(), 20);
    let mut pairs: Vec<_> = dict.iter().collect();
    pairs.sort_unstable();
    assert_eq!(pairs, [(0, 10), (1, 11), (42, 52), (u64::MAX, 9)]);
    assert_eq!(dict.fetch_add(42, 1), Ok(52));
}
