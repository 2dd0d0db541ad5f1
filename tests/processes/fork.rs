//! Forking in a role, where no other thread runs.

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Forks `n` children that call `work` and end; they must all end well.
pub(crate) fn fork_all(n: u64, work: impl Fn(u64)) {
    let fork_one = |p| {
        // SAFETY: a role runs in a process with one thread, so the child may do anything.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => child,
            ForkResult::Child => {
                work(p);
                std::process::exit(0);
            }
        }
    };
    let children: Vec<_> = (0..n).map(fork_one).collect();
    for child in children {
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    }
}
