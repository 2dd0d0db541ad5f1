//! What the workers share, and how an item is done; the top of `main.rs` explains it.

use std::collections::HashSet;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use forkmap::{AtomicDict, Entry, Lock, LockError, Semaphore};

use crate::Result;
use crate::primes::{is_prime, numbers, sieve};

const CURSOR: u64 = 0;
const FRONT: u64 = 1;
const TAKEOVERS: u64 = 2;
/// The first keys of those that are many.
const LEASE: u64 = 1 << 32;
const OUTCOME: u64 = 2 << 32;
const RECORDED: u64 = 3 << 32;
const PERMIT: u64 = 4 << 32;

/// The value of an item. What it is and that it is there are one word, so an item is done or not done,
/// whenever a worker is killed.
#[derive(Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Outcome {
    primes: u32,
    /// Who has done it. Workers are numbered from 1, so 0 is nobody.
    worker: u32,
}

/// The workers inherit it when they are forked.
pub(crate) struct Queue {
    leases: Vec<Lock>,
    outcomes: Vec<Entry<Outcome>>,
    cursor: Entry,
    front: Entry,
    takeovers: Entry,
    /// How many outcomes a worker says that it has recorded, by its number: for the check.
    recorded: AtomicDict,
    workers: u32,
    /// To do the expensive part.
    permits: Semaphore,
}

impl Queue {
    /// `workers` is how many there may be from first to last.
    pub(crate) fn new(items: u64, workers: u32, permits: usize) -> Result<Self> {
        let keys = 3 + 2 * items + u64::from(workers) + permits as u64;
        let dict = AtomicDict::anonymous(keys)?;
        let leases = (0..items).map(|item| Lock::new(&dict, LEASE + item));
        let outcomes = dict.cast();
        let outcomes = (0..items).map(|item| outcomes.entry(OUTCOME + item));
        Ok(Self {
            leases: leases.collect::<Result<_, _>>()?,
            outcomes: outcomes.collect::<Result<_, _>>()?,
            cursor: dict.entry(CURSOR)?,
            front: dict.entry(FRONT)?,
            takeovers: dict.entry(TAKEOVERS)?,
            permits: Semaphore::new(&dict, PERMIT, permits)?,
            recorded: dict,
            workers,
        })
    }

    /// The life of worker number `me`.
    pub(crate) fn work(&self, me: u32) -> Result<()> {
        /// How soon a lease is looked at again whose owner lived.
        const AGAIN: Duration = Duration::from_millis(20);

        while let Some(oldest) = self.oldest_open() {
            // Its worker may be dead. In most cases it is at work: then the cursor has another one.
            if self.attempt(oldest, me)? {
                continue;
            }
            let next = self.cursor.fetch_add(1) as usize;
            if next < self.outcomes.len() {
                self.attempt(next, me)?;
            } else {
                // Nothing to do but for those who die.
                self.front.wait_while_timeout(oldest as u64, AGAIN);
            }
        }
        Ok(())
    }

    /// The first item that is not done. Moves the front there.
    ///
    /// Everybody does that for everybody. A worker that counted what *it* has done could be killed
    /// between recording and counting, and the parent would wait for ever for the last one.
    fn oldest_open(&self) -> Option<usize> {
        let mut front = self.front.load();
        while outcome(self.outcomes.get(front as usize)?).is_some() {
            // If somebody was faster, it is there already, or further.
            front = match self.front.compare_exchange(front, front + 1) {
                Ok(_) => front + 1,
                Err(found) => found,
            };
        }
        Some(front as usize)
    }

    /// Does an item, unless somebody living is at it or it is done. Tells whether it did.
    fn attempt(&self, item: usize, me: u32) -> Result<bool> {
        let (lease, entry) = (&self.leases[item], &self.outcomes[item]);
        let mut lease = match lease.try_lock() {
            Ok(lease) => lease,
            Err(LockError::Held { .. }) => return Ok(false),
            // Its worker was killed. There is nothing to mend: the outcome is there, or it is not.
            Err(LockError::Poisoned(lease)) => {
                self.takeovers.fetch_add(1);
                lease
            }
            Err(error) => return Err(error.into()),
        };
        let open = outcome(entry).is_none();
        if open {
            // The permit of a worker that is killed here comes back as well.
            let permit = self.permits.acquire()?;
            let primes = numbers(item).filter(|&n| is_prime(n)).count() as u32;
            drop(permit);

            let outcome = Outcome { primes, worker: me };
            let recorded = entry.compare_exchange(Outcome::zeroed(), outcome);
            recorded.map_err(|_| format!("somebody did item {item} in spite of the lease"))?;
            self.recorded.fetch_add(RECORDED + u64::from(me), 1)?;
        }
        // Only now: if this failed before, the next one would have to know.
        lease.clear_poison();
        Ok(open)
    }

    /// Waits until all is done, but no longer than `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let all = self.outcomes.len() as u64;
        let front = self.front.wait_until_timeout(|front| front == all, timeout);
        front.is_some()
    }

    /// The first item that was not done when a worker last looked.
    pub(crate) fn front(&self) -> usize {
        self.front.load() as usize
    }

    /// The process that is at an item, or was when it died.
    pub(crate) fn owner_pid(&self, item: usize) -> Option<u32> {
        self.leases.get(item)?.owner_pid()
    }

    /// Compares the outcomes with a sieve, and what they say of the workers with what those say.
    pub(crate) fn check(&self, killed: &HashSet<u32>) -> Result<()> {
        let sieve = sieve(numbers(self.outcomes.len()).start as usize);
        let mut sum = 0;
        let mut done_by = vec![0; self.workers as usize + 1];
        for (item, entry) in self.outcomes.iter().enumerate() {
            let Some(Outcome { primes, worker }) = outcome(entry) else {
                return Err(format!("check: FAILED: item {item} was not done").into());
            };
            let right = numbers(item).filter(|&n| sieve[n as usize]).count();
            if primes as usize != right {
                return Err(format!("check: FAILED: item {item}: {primes}, not {right}").into());
            }
            sum += right;
            done_by[worker as usize] += 1;
        }
        // An outcome that is recorded twice has the name of the second worker, and the first one has
        // recorded more than have its name. (A killed one may not have come to counting the last.)
        for (worker, named) in (0..).zip(done_by) {
            let recorded = self.recorded.load(RECORDED + u64::from(worker));
            if named != recorded && !(killed.contains(&worker) && named == recorded + 1) {
                let what = format!("worker {worker} recorded {recorded}, {named} have its name");
                return Err(format!("check: FAILED: {what}").into());
            }
        }
        let (items, killed, takeovers) = (self.outcomes.len(), killed.len(), self.takeovers.load());
        if takeovers > killed as u64 {
            let what = format!("{takeovers} leases were taken from {killed} dead workers");
            return Err(format!("check: FAILED: {what}").into());
        }
        println!("{sum} primes below {}", sieve.len());
        println!(
            "check: {items} items, each done once; {killed} workers killed, {takeovers} leases taken over from the dead"
        );
        Ok(())
    }
}

/// `None` if the item is not done.
fn outcome(entry: &Entry<Outcome>) -> Option<Outcome> {
    Some(entry.load()).filter(|outcome| outcome.worker != 0)
}
