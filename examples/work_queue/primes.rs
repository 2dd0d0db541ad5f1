//! The work, and a faster way to the same to check it.

use std::ops::Range;

/// How many numbers an item has.
const NUMBERS: u32 = 5_000;

pub(crate) fn numbers(item: usize) -> Range<u32> {
    let first = item as u32 * NUMBERS;
    first..first + NUMBERS
}

/// The slow way, to have some work.
pub(crate) fn is_prime(n: u32) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= n {
        if n % divisor == 0 {
            return false;
        }
        divisor += 1;
    }
    n >= 2
}

/// For each number below `end` whether it is a prime.
pub(crate) fn sieve(end: usize) -> Vec<bool> {
    let mut prime = vec![true; end];
    prime.iter_mut().take(2).for_each(|prime| *prime = false);
    for n in (2..end).take_while(|n| n * n < end) {
        if prime[n] {
            (n * n..end).step_by(n).for_each(|m| prime[m] = false);
        }
    }
    prime
}
