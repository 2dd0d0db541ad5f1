//! Which buckets of a line may have a key: the tags of all, in one word.
//!
//! A tag is eight bits of the hash. That of a bucket is written by the insert that has put its tentative
//! word there, before it commits; and nobody else writes it until the bucket was free again. So each
//! bucket that counts has the tag of its key. One that is free has whatever was there last, which costs a
//! look in vain now and then, and saves a removal from writing it.

/// A set of the buckets of a line.
#[derive(Debug, Clone, Copy)]
pub struct Matches(u64);

impl Matches {
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let bucket = self.0.trailing_zeros() as usize / 8;
        self.0 &= self.0.wrapping_sub(1);
        (bucket < 8).then_some(bucket)
    }
}

const LOW_BITS: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = LOW_BITS << 7;

/// The buckets with that tag, of the first `buckets` of a line; perhaps some others, but only behind one
/// that has it.
#[inline(always)]
pub fn matches(tags: u64, tag: u8, buckets: usize) -> Matches {
    // A byte of this is zero where the tag is the same; taking one from it borrows into its high bit.
    // (Mycroft's trick. The borrow may run on into the next byte.)
    let difference = tags ^ (LOW_BITS * u64::from(tag));
    let zero = difference.wrapping_sub(LOW_BITS) & !difference & HIGH_BITS;
    Matches(zero & (u64::MAX >> (64 - 8 * buckets)))
}

/// The tag of a bucket.
pub fn tag_of(tags: u64, bucket: usize) -> u8 {
    (tags >> (8 * bucket)) as u8
}

/// What has to be xored to `tags` so that the bucket has that tag.
#[inline(always)]
pub fn change(tags: u64, bucket: usize, tag: u8) -> u64 {
    u64::from(tag_of(tags, bucket) ^ tag) << (8 * bucket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::hash::mix;

    #[test]
    fn every_bucket_with_the_tag_is_found() {
        for n in 0..if cfg!(miri) { 50 } else { 20_000 } {
            // Few different tags, so that there are some of each kind side by side.
            let tags = (mix(n, 1) & (LOW_BITS * 0x81)) | ((n & 3) * LOW_BITS);
            for tag in [0, 1, 2, 3, 0x80, 0x81, 0xFF, tags as u8] {
                for buckets in 1..=8 {
                    let found: Vec<_> = matches(tags, tag, buckets).collect();
                    let first = (0..buckets).find(|&bucket| tag_of(tags, bucket) == tag);
                    assert_eq!(found.first().copied(), first, "{tags:x} {tag:x}");
                    for bucket in (0..buckets).filter(|&bucket| tag_of(tags, bucket) == tag) {
                        assert!(found.contains(&bucket), "{tags:x} {tag:x} {bucket}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_change_touches_one_tag() {
        let tags = 0x1122_3344_5566_7788;
        assert_eq!(tags ^ change(tags, 0, 0xAA), 0x1122_3344_5566_77AA);
        assert_eq!(tags ^ change(tags, 7, 0), 0x0022_3344_5566_7788);
    }
}
