//! The table of `AtomicDict`: linear probing over `(hash, value)` slots, claimed once, never freed.
//!
//! ```text
//! words:  hash 0 | value 0 | hash 1 | value 1 | ... | hash n-1 | value n-1 | mark | value
//!         `------ slot 0 ---'                        `-- slot n-1 --------'  `-- slot n --'
//! ```
//!
//! A hash word is 0 while its slot is free, and after that the hash of its key for ever. The hash is
//! a bijection, so it stands for the key. One key hashes to 0 itself: it has slot `n` to itself,
//! where any other word than 0 is the mark that it was claimed.
//!
//! *Each key at most once.* A key is claimed in the first free slot of its probe path, by one
//! compare-exchange from 0. Hash words never change again, so a slot that was found taken by another
//! key stays taken by it: two claimers of one key meet at the same slot, and the loser of that
//! compare-exchange looks at the slot once more before it goes on.
//!
//! *A miss is exact.* A look-up that stops at a free slot has passed only slots that belong to other
//! keys for ever; had the key been claimed before that load, it would stand in one of them.
//!
//! *Wait-free.* A look-up visits at most `n` slots, and a claim loses at most one compare-exchange
//! a slot. Nothing here can be half done: a process that dies has claimed a key or has not.

use super::bell::Bells;
use super::hash::{mix, place, unmix};
use super::value::Value;
use crate::sync::{
    Access,
    Ordering::{Relaxed, SeqCst},
    Word, after_read, before_read, load,
};

/// Why a key could not be claimed: every slot belongs to another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Number of words that a table of `slots` slots takes; `None` if that cannot be counted.
pub fn words(slots: u64) -> Option<u64> {
    slots.checked_add(1)?.checked_mul(2)
}

/// Number of slots for a dictionary that must hold `capacity` keys.
///
/// Twice the capacity: at half load a hit looks at 1.5 slots on average and a miss at 2.5 (Knuth,
/// TAOCP 3, 6.4), and four slots share a cache line. At least one line.
pub fn slots(capacity: u64) -> Option<u64> {
    capacity
        .checked_mul(2)?
        .checked_next_multiple_of(4)
        .map(|slots| slots.max(4))
}

/// A claimed slot as it was when it was visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    pub slot: usize,
    pub key: u64,
    pub value: u64,
}

/// A table laid over borrowed words.
#[derive(Debug, Clone, Copy)]
pub struct Counters<'a> {
    words: &'a [Word],
    slots: usize,
    seed: u64,
    access: Access,
    bells: Bells<'a>,
}

// The look-up is always inlined, here and in `AtomicDict`: the compiler makes it a function as soon as
// a program has a few calls of it, and then reads the handle anew and passes the result through memory.
impl<'a> Counters<'a> {
    /// A view of exactly the words of a table, as [`words`] counts them for at least one slot.
    #[inline]
    pub fn new(words: &'a [Word], bells: Bells<'a>, seed: u64, access: Access) -> Self {
        debug_assert!(words.len() >= 4 && words.len() % 2 == 0);
        Self {
            words,
            slots: words.len() / 2 - 1,
            seed,
            access,
            bells,
        }
    }

    /// Number of slots that any key may claim.
    #[inline]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The value in `slot`, which is at most [`slots`](Self::slots). The words must be mapped for
    /// writing.
    #[inline(always)]
    pub fn value(&self, slot: usize) -> Value<'a> {
        let word = self.value_word(slot);
        Value::new(word, self.bells.of(word))
    }

    #[inline]
    fn value_word(&self, slot: usize) -> &'a Word {
        &self.words[2 * slot + 1]
    }

    /// The bells that are rung when values change and when keys get slots.
    #[inline]
    pub fn bells(&self) -> Bells<'a> {
        self.bells
    }

    /// What may be done with the words.
    #[inline]
    pub fn access(&self) -> Access {
        self.access
    }

    #[inline]
    fn hash_word(&self, slot: usize) -> &'a Word {
        &self.words[2 * slot]
    }

    #[inline]
    fn after(&self, slot: usize) -> usize {
        if slot + 1 == self.slots { 0 } else { slot + 1 }
    }

    /// The slot of `key`, if it was claimed.
    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<usize> {
        before_read(self.access);
        let slot = self.search(key);
        after_read(self.access);
        slot
    }

    /// The value of `key`, if it was claimed.
    #[inline(always)]
    pub fn get(&self, key: u64) -> Option<u64> {
        before_read(self.access);
        // SYNC(value): SeqCst, see `Value`.
        let value = self
            .search(key)
            .map(|slot| load(self.value_word(slot), self.access));
        after_read(self.access);
        value
    }

    /// To be called between [`before_read`] and [`after_read`].
    #[inline(always)]
    fn search(&self, key: u64) -> Option<usize> {
        let hash = mix(key, self.seed);
        if hash == 0 {
            // SYNC(claim): SeqCst, as below.
            return (load(self.hash_word(self.slots), self.access) != 0).then_some(self.slots);
        }
        let mut slot = place(hash, self.slots);
        for _ in 0..self.slots {
            // SYNC(claim): SeqCst, pairs with the compare-exchange in `claim`: a process that
            // claims x and then misses y, and one that claims y and then misses x, exclude each
            // other. (Acquire would let both miss; the unit test below shows it under Miri.)
            let found = load(self.hash_word(slot), self.access);
            if found == hash {
                return Some(slot);
            }
            if found == 0 {
                return None;
            }
            slot = self.after(slot);
        }
        None
    }

    /// The slot of `key`, claimed now if it was not. The words must be mapped for writing.
    #[inline(always)]
    pub fn claim(&self, key: u64) -> Result<usize, Full> {
        debug_assert_eq!(self.access, Access::ReadWrite);
        let hash = mix(key, self.seed);
        if hash == 0 {
            self.claim_at(self.slots, 1);
            return Ok(self.slots);
        }
        let mut slot = place(hash, self.slots);
        for _ in 0..self.slots {
            if self.claim_at(slot, hash) {
                return Ok(slot);
            }
            slot = self.after(slot);
        }
        Err(Full)
    }

    /// Whether `slot` belongs to `hash`; if it was free, it does now.
    #[inline(always)]
    fn claim_at(&self, slot: usize, hash: u64) -> bool {
        let word = self.hash_word(slot);
        // Looked at before it is exchanged: a compare-exchange takes the cache line from everybody
        // else even when it fails.
        // SYNC(claim): SeqCst, see `search`.
        let mut found = word.load(SeqCst);
        if found == 0 {
            // SYNC(claim): SeqCst on success, see `search`; on failure the word read is what a load
            // would have read.
            found = match word.compare_exchange(0, hash, SeqCst, SeqCst) {
                Ok(_) => {
                    self.bells.new_key().ring();
                    hash
                }
                Err(winner) => winner,
            };
        }
        found == hash
    }

    /// The first claimed slot from `from` on, in the order of the table.
    #[inline]
    pub fn next(&self, from: usize) -> Option<Claimed> {
        before_read(self.access);
        let next = (from..=self.slots).find_map(|slot| {
            // SYNC(claim): SeqCst, see `search`.
            let hash = match load(self.hash_word(slot), self.access) {
                0 => return None,
                _ if slot == self.slots => 0,
                hash => hash,
            };
            // SYNC(value): SeqCst, see `Value`.
            let value = load(self.value_word(slot), self.access);
            Some(Claimed {
                slot,
                key: unmix(hash, self.seed),
                value,
            })
        });
        after_read(self.access);
        next
    }

    /// Number of claimed slots, by counting them.
    pub fn len(&self) -> usize {
        // Relaxed: a word of its own each, and the sum is a snapshot of no single instant anyhow.
        (0..=self.slots)
            .filter(|&slot| self.hash_word(slot).load(Relaxed) != 0)
            .count()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::bell;
    use std::sync::{Barrier, LazyLock};
    use std::thread;

    fn heap(slots: u64) -> Vec<Word> {
        (0..words(slots).unwrap()).map(|_| Word::new(0)).collect()
    }

    fn view(words: &[Word]) -> Counters<'_> {
        Counters::new(words, bells(), 42, Access::ReadWrite)
    }

    /// Bells that nobody waits at.
    fn bells() -> Bells<'static> {
        static WORDS: LazyLock<Vec<Word>> =
            LazyLock::new(|| (0..bell::WORDS).map(|_| Word::new(0)).collect());
        Bells::new(&WORDS)
    }

    #[test]
    fn every_slot_can_be_claimed_and_one_more_is_full() {
        for slots in [1, 2, 3, 4, 7, 64] {
            let words = heap(slots);
            let table = view(&words);
            let mut key = 0;
            for _ in 0..slots {
                key += 1;
                let slot = table.claim(key).unwrap();
                assert_eq!(table.claim(key), Ok(slot));
                assert_eq!(table.find(key), Some(slot));
            }
            assert_eq!(table.claim(key + 1), Err(Full));
            assert_eq!(table.find(key + 1), None);
            assert_eq!(table.len() as u64, slots);
        }
    }

    #[test]
    fn the_key_whose_hash_is_zero_has_a_slot_of_its_own() {
        let words = heap(1);
        let table = view(&words);
        let zero = unmix(0, 42);
        assert_eq!(table.find(zero), None);
        assert_eq!(table.claim(7), Ok(0));
        assert_eq!(table.claim(zero), Ok(1));
        assert_eq!(table.find(zero), Some(1));
        assert_eq!(
            table.next(1),
            Some(Claimed {
                slot: 1,
                key: zero,
                value: 0
            })
        );
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn sizes_that_cannot_be_counted_are_noticed() {
        assert_eq!(slots(u64::MAX), None);
        assert_eq!(slots(u64::MAX / 2), None);
        assert_eq!(words(u64::MAX), None);
        assert_eq!(words(u64::MAX / 2), None);
        assert_eq!(slots(0), Some(4));
        assert_eq!(slots(3), Some(8));
    }

    /// Words that no table of ours would hold: look-ups and claims end, and stay inside.
    #[test]
    fn a_table_of_garbage_is_searched_in_bounded_time() {
        let words: Vec<Word> = (1..=20u64).map(|i| Word::new(mix(i, 99))).collect();
        let table = view(&words);
        for key in 0..100 {
            assert_eq!(table.find(key), None);
            assert_eq!(table.claim(key), Err(Full));
        }
        assert_eq!(table.len(), 10);
        let mut from = 0;
        while let Some(claimed) = table.next(from) {
            from = claimed.slot + 1;
        }
        assert_eq!(from, 10);
    }

    #[test]
    fn threads_that_claim_the_same_keys_get_the_same_slots() {
        let (threads, keys) = if cfg!(miri) { (3, 4) } else { (4, 1000) };
        let words = heap(keys);
        let slots: Vec<Vec<usize>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|t| {
                    let table = view(&words);
                    scope.spawn(move || {
                        let mut slots = vec![0; keys as usize];
                        for i in 0..keys {
                            let key = (i + t * keys / threads) % keys;
                            slots[key as usize] = table.claim(key).unwrap();
                            table.value(slots[key as usize]).fetch_add(1);
                        }
                        slots
                    })
                })
                .collect();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        assert!(slots.iter().all(|s| *s == slots[0]));
        let table = view(&words);
        for key in 0..keys {
            assert_eq!(table.value(table.find(key).unwrap()).load(), threads);
        }
    }

    /// The edge `claim` that loom cannot judge (it takes SeqCst accesses for AcqRel): of two threads
    /// that each claim a key and then look for the other's, one at least finds it.
    #[test]
    fn two_claimers_cannot_both_miss_each_other() {
        let rounds = if cfg!(miri) { 8 } else { 20_000 };
        for access in [Access::ReadWrite, Access::ReadOnly] {
            for _ in 0..rounds {
                let words = heap(8);
                let start = Barrier::new(2);
                let claim_then_look = |mine: u64, other: u64| {
                    start.wait();
                    view(&words).claim(mine).unwrap();
                    Counters::new(&words, bells(), 42, access).find(other)
                };
                let (a, b) = thread::scope(|scope| {
                    let a = scope.spawn(|| claim_then_look(1, 2));
                    (claim_then_look(2, 1), a.join().unwrap())
                });
                assert!(a.is_some() || b.is_some(), "both missed, {access:?}");
            }
        }
    }

    /// The same of the edge `value`: of two threads that each raise a hand and then look at the
    /// other's, one at least sees it.
    #[test]
    fn two_raised_hands_cannot_both_be_missed() {
        type Look = fn(&[Word], usize, u64) -> u64;
        // Not there: fetch_and and fetch_min, which leave a 0 as it is.
        const RAISES: [fn(Value<'_>); 9] = [
            |hand| hand.store(1),
            |hand| _ = hand.swap(1),
            |hand| _ = hand.compare_exchange(0, 1),
            |hand| _ = hand.fetch_add(1),
            |hand| _ = hand.fetch_sub(1),
            |hand| _ = hand.fetch_or(1),
            |hand| _ = hand.fetch_xor(1),
            |hand| _ = hand.fetch_max(1),
            |hand| _ = hand.fetch_update(|_| Some(1)),
        ];
        const LOOKS: [Look; 4] = [
            |words, slot, _| view(words).value(slot).load(),
            |words, slot, _| {
                let hand = view(words).value(slot);
                hand.fetch_update(|_| None).unwrap_err()
            },
            |words, _, key| view(words).get(key).unwrap(),
            |words, _, key| {
                Counters::new(words, bells(), 42, Access::ReadOnly)
                    .get(key)
                    .unwrap()
            },
        ];
        let rounds = if cfg!(miri) { 1 } else { 50 };
        for (r, raise) in RAISES.into_iter().enumerate() {
            for (l, look) in LOOKS.into_iter().enumerate() {
                for _ in 0..rounds {
                    let words = heap(4);
                    let slots = [0, 1].map(|key| view(&words).claim(key).unwrap());
                    let start = Barrier::new(2);
                    let raise_then_look = |me: usize| {
                        start.wait();
                        raise(view(&words).value(slots[me]));
                        look(&words, slots[1 - me], 1 - me as u64)
                    };
                    let seen = thread::scope(|scope| {
                        let other = scope.spawn(|| raise_then_look(0));
                        [raise_then_look(1), other.join().unwrap()]
                    });
                    assert_ne!(seen, [0, 0], "both missed: raise {r}, look {l}");
                }
            }
        }
    }
}
