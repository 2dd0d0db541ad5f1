//! The bytes of an input, taken one after the other. Behind the last one there are zeros.

use std::ops::Range;

pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let (mut taken, len) = ([0; N], self.0.len().min(N));
        taken[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        taken
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    /// Whether one of so many dice falls on its first side.
    pub(super) fn one_in(&mut self, n: u8) -> bool {
        // Not of zeros, so that what is short is plain.
        self.byte() % n == n - 1
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        match n {
            ..=256 => usize::from(self.byte()) % n,
            _ => usize::from(u16::from_le_bytes(self.take())) % n,
        }
    }

    pub(super) fn within(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.len().max(1))
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A word: at random, or one that such code is often wrong about.
    pub(super) fn word(&mut self) -> u64 {
        let kind = self.byte();
        let bit = u32::from(kind >> 3) * 2;
        match kind % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << bit,
            3 => (2 << bit) - 1,
            4 => u64::MAX - u64::from(self.byte()),
            5 => u64::from(self.byte()),
            6 => u64::from(u16::from_le_bytes(self.take())),
            _ => u64::from_le_bytes(self.take()),
        }
    }

    /// A number that is about `n`: mostly less, sometimes any.
    pub(super) fn about(&mut self, n: usize) -> u64 {
        match self.byte() % 8 {
            0 => self.word(),
            1 => n as u64 + u64::from(self.byte() % 3),
            _ => self.below(n.max(1)) as u64,
        }
    }

    /// At most so many bytes, which are text as a rule.
    pub(super) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let kind = self.byte();
        let len = self.below(most + 1);
        let letter = b'a' + kind % 4;
        let mut bytes = vec![letter; len];
        if kind >= 0xE0 {
            bytes.fill_with(|| self.byte());
        }
        bytes
    }

    pub(super) fn text(&mut self, most: usize) -> String {
        String::from_utf8_lossy(&self.bytes(most / 3)).into_owned()
    }
}
