//! The hash of a `u64` key: a bijection, keyed by the seed of the segment.
//!
//! A bijection needs no second comparison: equal hashes are equal keys, and the key can be computed
//! back. The shape (xor-shift by half a word, multiply, twice) and the multiplier are those of the mixer
//! known as `degski64`; the seed enters before *and* between the rounds, so that keys that collide
//! under one seed need not collide under another. It is part of the segment format: `docs/FORMAT.md`
//! has test vectors.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const MULTIPLIER: u64 = 0xD6E8_FEB8_6659_FD93;
/// `MULTIPLIER * INVERSE == 1` modulo 2^64.
const INVERSE: u64 = 0xCFEE_444D_8B59_A89B;
const _: () = assert!(MULTIPLIER.wrapping_mul(INVERSE) == 1);

/// Mixes `key` under `seed`. A bijection of `key` for each seed.
#[inline]
pub fn mix(key: u64, seed: u64) -> u64 {
    let mut x = key ^ seed;
    x ^= x >> 32;
    x = x.wrapping_mul(MULTIPLIER) ^ seed.rotate_left(32);
    x ^= x >> 32;
    x.wrapping_mul(MULTIPLIER)
}

/// The key that [`mix`] maps to `hash` under `seed`.
#[inline]
pub fn unmix(hash: u64, seed: u64) -> u64 {
    let mut x = hash.wrapping_mul(INVERSE);
    x ^= x >> 32;
    x = (x ^ seed.rotate_left(32)).wrapping_mul(INVERSE);
    x ^= x >> 32;
    x ^ seed
}

/// The hash of any other key, by its bytes as they stand in the segment: XXH3 with 64 bits, under the
/// seed.
#[inline(always)]
pub fn hash_bytes(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Maps a hash to one of `n` places by its high bits (multiply-shift): `n` need not be a power of
/// two. The result is below `n` for every `n > 0`.
#[inline]
pub fn place(hash: u64, n: usize) -> usize {
    ((u128::from(hash) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_undone_by_unmixing() {
        let mut x = 1u64;
        for seed in [0, 1, u64::MAX, 0x0123_4567_89AB_CDEF] {
            for key in [0, 1, 2, u64::MAX, 1 << 63] {
                assert_eq!(unmix(mix(key, seed), seed), key);
            }
            for _ in 0..1000 {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                assert_eq!(unmix(mix(x, seed), seed), x);
                assert_eq!(mix(unmix(x, seed), seed), x);
            }
        }
    }

    /// Each flipped bit of the key flips each of the 32 high bits of the hash, those that choose
    /// the place, in 40 to 60 % of all keys.
    #[test]
    fn every_bit_of_the_key_reaches_every_high_bit_of_the_hash() {
        let seed = 0x5EED;
        let n = if cfg!(miri) { 0 } else { 4000 };
        for bit in 0..64 {
            let mut flips = [0u32; 64];
            for i in 0..n {
                let key = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let change = mix(key, seed) ^ mix(key ^ (1 << bit), seed);
                for (out, count) in flips.iter_mut().enumerate() {
                    *count += (change >> out & 1) as u32;
                }
            }
            for (out, &count) in flips.iter().enumerate().skip(32) {
                assert!(
                    count * 10 >= n * 4 && count * 10 <= n * 6,
                    "key bit {bit} flips hash bit {out} in {count} of {n}"
                );
            }
        }
    }

    #[test]
    fn places_are_in_range_and_spread() {
        assert_eq!(place(u64::MAX, 1), 0);
        assert_eq!(place(u64::MAX, usize::MAX), usize::MAX - 1);
        assert_eq!(place(0, 7), 0);
        let mut seen = [0u32; 7];
        for key in 0..7000 {
            seen[place(mix(key, 3), 7)] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}
