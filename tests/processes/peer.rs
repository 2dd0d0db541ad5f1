//! Forked processes that a role steers one by one, and what they agree on by way of a dictionary.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, Lock, LockError, LockGuard};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork, pause};

/// How long to wait for what must come soon. Long, because a machine can be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A forked child. It dies with the process that forked it, and after five minutes by itself.
#[derive(Debug)]
pub(crate) struct Peer(pub(crate) Pid);

impl Peer {
    /// Forks a child that does `work` and ends.
    pub(crate) fn fork(work: impl FnOnce()) -> Self {
        Self::fork_with(work, true)
    }

    /// A child that lives on when its parent dies.
    pub(crate) fn fork_detached(work: impl FnOnce()) -> Self {
        Self::fork_with(work, false)
    }

    fn fork_with(work: impl FnOnce(), bound: bool) -> Self {
        // SAFETY: a role runs in a process with one thread, or sees to it that no other one holds a lock
        // at this moment, so the child may do anything.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                if bound {
                    set_pdeathsig(Signal::SIGKILL).unwrap();
                }
                watchdog();
                // No unwinding into the frames of the parent.
                let done = catch_unwind(AssertUnwindSafe(work));
                std::process::exit(if done.is_ok() { 0 } else { 101 });
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_raw() as u32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.0, signal).unwrap();
    }

    /// Kills it, and leaves it a zombie.
    pub(crate) fn kill_only(&self) {
        self.signal(Signal::SIGKILL);
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.0), flags).unwrap();
    }

    /// Kills it; it must have been alive.
    pub(crate) fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.killed();
    }

    /// Waits for the end of one that is killed.
    pub(crate) fn killed(self) {
        let killed = WaitStatus::Signaled(self.0, Signal::SIGKILL, false);
        assert_eq!(waitpid(self.0, None), Ok(killed));
    }

    /// Stops it, and waits until it is stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        let stopped = WaitStatus::Stopped(self.0, Signal::SIGSTOP);
        assert_eq!(waitpid(self.0, Some(WaitPidFlag::WUNTRACED)), Ok(stopped));
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn join(self) {
        assert_eq!(waitpid(self.0, None), Ok(WaitStatus::Exited(self.0, 0)));
    }

    pub(crate) fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        waitid(Id::Pid(self.0), flags) != Ok(WaitStatus::StillAlive)
    }
}

/// Ends this process in five minutes: what hangs is to fail.
pub(crate) fn watchdog() {
    alarm::set(300);
}

/// Sleeps until a signal ends this process.
pub(crate) fn sleep_for_ever() -> ! {
    loop {
        pause();
    }
}

/// Waits until the value is `value` at least.
#[track_caller]
pub(crate) fn await_value(dict: &AtomicDict, key: u64, value: u64) {
    let seen = dict.wait_until_timeout(key, |found| found >= value, PATIENCE);
    let found = dict.load(key);
    assert!(seen.is_some(), "key {key} is {found}, and not yet {value}");
}

/// The step that a child has come to, and the one that it may go on from.
pub(crate) const STEP: u64 = 1;
pub(crate) const GO: u64 = 2;

/// Tells that this child has come to a step, and waits until it may go on.
pub(crate) fn step(dict: &AtomicDict, n: u64) {
    dict.store(STEP, n).unwrap();
    await_value(dict, GO, n);
}

pub(crate) fn go_on(dict: &AtomicDict, n: u64) {
    dict.store(GO, n).unwrap();
}

/// The lock, whatever its last owner has come to.
pub(crate) fn take(lock: &Lock) -> LockGuard {
    match lock.lock() {
        Err(LockError::Poisoned(mut guard)) => {
            guard.clear_poison();
            guard
        }
        taken => taken.unwrap(),
    }
}

/// The lock of one who was told that its last owner is dead.
#[track_caller]
pub(crate) fn told(taken: Result<LockGuard, LockError>) -> LockGuard {
    match taken {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("not told that the owner is dead: {other:?}"),
    }
}

/// Whether a living process has it; its pid then.
#[track_caller]
pub(crate) fn held(taken: Result<LockGuard, LockError>) -> Option<u32> {
    match taken {
        Err(LockError::Held { pid }) => pid,
        other => panic!("not held: {other:?}"),
    }
}

/// A lock that processes of the test hold, and a count of those who have got it.
pub(crate) const LOCK: u64 = 1000;
pub(crate) const HOLDERS: u64 = 1001;

/// A process that holds [`LOCK`] and sleeps.
pub(crate) fn holder(dict: &AtomicDict) -> Peer {
    let before = dict.load(HOLDERS);
    let peer = Peer::fork(|| hold(dict));
    await_value(dict, HOLDERS, before + 1);
    peer
}

pub(crate) fn hold(dict: &AtomicDict) -> ! {
    let _guard = take(&Lock::new(dict, LOCK).unwrap());
    dict.fetch_add(HOLDERS, 1).unwrap();
    sleep_for_ever()
}

/// How long something took, again and again.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, since: Instant) {
        self.0.push(since.elapsed());
    }

    /// What one in ten is below: on a busy machine more may be late.
    pub(crate) fn best(&self) -> Duration {
        self.at(10)
    }

    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * percent / 100]
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |percent| self.at(percent);
        let (n, low, middle, high, most) = (self.0.len(), at(0), at(50), at(90), at(100));
        write!(
            f,
            "{n} times: least {low:.1?}, median {middle:.1?}, 90 % {high:.1?}, most {most:.1?}"
        )
    }
}
