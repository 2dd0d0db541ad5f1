//! What the processes of the models say: digits.

use forkmap::model::Access;
use forkmap::model::stream::switch;

use super::process::{Process, Unlinked};
use super::world::World;

/// What one record says, not 0.
pub type Digit = u64;

/// Everything that was ever said, in its order: the last digit is the last one of this number in base 16.
pub type History = u64;

/// What a process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub(super) history: History,
    /// Words of a payload.
    pub(super) words: usize,
}

impl Replica {
    pub(super) fn apply(&mut self, payload: &[u8]) {
        self.history = self.history << 4 | digit_of(payload, self.words);
    }
}

impl Process<'_> {
    /// Everything that it has read.
    pub fn history(&self) -> History {
        self.replica().history
    }

    /// Reads everything that was appended before this, if anything was: what is known then.
    pub fn look(&mut self) -> Result<History, Unlinked> {
        self.read().map(|replica| replica.history)
    }

    /// Appends a digit.
    pub fn append(&mut self, digit: Digit) -> Result<(), Unlinked> {
        self.transact(|_| digit)
    }

    /// Appends what `f` makes of everything that was there before.
    pub fn transact(&mut self, f: impl Fn(History) -> Digit) -> Result<(), Unlinked> {
        while !self.try_append(f(self.history()))? {
            self.catch_up()?;
        }
        Ok(())
    }

    /// Appends a digit if there was nothing to read: whether it did.
    pub fn try_append(&mut self, digit: Digit) -> Result<bool, Unlinked> {
        let payload = payload_of(digit, self.replica().words);
        self.try_change(&payload)
    }
}

/// The words of a payload, of which each differs from the others.
fn words_of(digit: Digit, words: usize) -> impl Iterator<Item = u64> {
    (0..words as u64).map(move |n| digit << (8 * n) | n)
}

fn payload_of(digit: Digit, words: usize) -> Vec<u8> {
    words_of(digit, words).flat_map(u64::to_le_bytes).collect()
}

fn digit_of(payload: &[u8], words: usize) -> Digit {
    let first = payload.first_chunk().expect("one word at least");
    let digit = u64::from_le_bytes(*first);
    assert_eq!(payload, payload_of(digit, words), "torn");
    assert!((1..16).contains(&digit), "never appended");
    digit
}

impl World {
    /// Removes what the participant of that slot has left, which is dead.
    pub fn clean(&self, slot: usize) {
        let control = self.control(Access::ReadWrite);
        let Ok(()) = switch::clean(&control, &self.files(Access::ReadWrite), control.row(slot));
    }

    /// At rest, when nobody has died, one name is there, and [`check_after_deaths`](Self::check_after_deaths)
    /// finds nothing. What has been said is returned.
    pub fn check(&self, slot: usize) -> History {
        let current = self.control(Access::ReadWrite).current();
        assert_eq!(self.names(), [current], "the names that are left");
        self.check_after_deaths(slot)
    }

    /// At rest, and with everybody who died cleaned up after: one who comes last, by way of `slot`, finds one
    /// name, and the same after a switch.
    pub fn check_after_deaths(&self, slot: usize) -> History {
        let mut last = Process::attach(self, slot).expect("it is not unlinked");
        let history = last.history();
        self.check_names(&last);
        last.dump().expect("it is not unlinked");
        self.check_names(&last);
        assert_eq!(last.history(), history, "a switch changes something");
        let fresh = Process::attach(self, slot).expect("it is not unlinked");
        assert_eq!(fresh.history(), history, "the last dump is another");
        history
    }

    /// At rest, after it was unlinked: no name is left, and nobody is led to one.
    pub fn check_unlinked(&self) {
        assert_eq!(self.names(), [], "the names that are left");
        assert_eq!(Process::attach(self, 0).err(), Some(Unlinked));
        self.check_rows();
    }

    fn check_names(&self, last: &Process<'_>) {
        assert_eq!(self.names(), [last.generation()], "the names that are left");
        self.check_rows();
    }

    fn check_rows(&self) {
        let control = self.control(Access::ReadWrite);
        for slot in 0..self.shape.slots {
            assert_eq!(control.row(slot).candidate(), 0, "slot {slot}");
        }
    }
}

/// Everybody who has read one of `histories` goes on to `end`, which has these digits, in whatever order.
pub fn check_order(histories: &[History], end: History, said: &[Digit]) {
    for &history in histories {
        assert!(
            is_prefix(history, end),
            "{history:x}, but {end:x} in the end"
        );
    }
    let mut found = digits(end);
    found.sort_unstable();
    assert_eq!(found, said, "{end:x}");
}

/// Whether somebody who has read all of `early` goes on to `late`.
pub fn is_prefix(early: History, late: History) -> bool {
    let later = (0..16).map(|digits| late.checked_shr(4 * digits).unwrap_or(0));
    let mut later = later.take_while(|&history| history != 0);
    early == 0 || later.any(|history| history == early)
}

/// The digits of a history, in their order.
pub fn digits(history: History) -> Vec<Digit> {
    let digits = (0..16).rev().map(|n| history >> (4 * n) & 15);
    digits.skip_while(|&digit| digit == 0).collect()
}
