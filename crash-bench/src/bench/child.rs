//! Forked children that report to their parent.

#![allow(unsafe_code)]

use std::any::Any;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};

use super::random;
use super::scenario::Failure;

/// A forked child; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    report: File,
}

/// What became of a child.
#[derive(Debug)]
pub(crate) enum End {
    /// It came to the end of its work, well or with an error.
    Reported(Result<String, String>),
    /// It ended without a report.
    Died(WaitStatus),
    /// It was still at work when the patience with it was over.
    Hung,
}

impl Child {
    /// Forks a child that does `work`, reports and ends. It does not outlive its parent.
    pub(crate) fn fork(work: impl FnOnce() -> Result<String, Failure>) -> Result<Self, Failure> {
        let (read, write) = pipe()?;
        // SAFETY: no process of the bench ever has a second thread.
        match unsafe { fork() }? {
            ForkResult::Parent { child: pid } => {
                random::leave_to_child();
                Ok(Self {
                    pid,
                    report: read.into(),
                })
            }
            ForkResult::Child => {
                drop(read);
                run(work, write.into())
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end, for no longer than `patience`.
    pub(crate) fn wait(mut self, patience: Duration) -> Result<End, Failure> {
        let mut ready = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::try_from(patience)?)? == 0 {
            return Ok(End::Hung);
        }
        let mut report = String::new();
        self.report.read_to_string(&mut report)?;
        let status = waitpid(self.pid, None)?;
        Ok(match (report.split_at_checked(1), status) {
            (Some(("+", text)), WaitStatus::Exited(..)) => End::Reported(Ok(text.into())),
            (Some(("-", text)), WaitStatus::Exited(..)) => End::Reported(Err(text.into())),
            _ => End::Died(status),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Reaped before: it is nobody's to kill.
        if waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        while !matches!(
            waitpid(self.pid, None),
            Ok(WaitStatus::Signaled(..) | WaitStatus::Exited(..)) | Err(_)
        ) {}
    }
}

fn run(work: impl FnOnce() -> Result<String, Failure>, mut report: File) -> ! {
    // Whoever forks has nobody left behind, however it ends.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let end = catch_unwind(AssertUnwindSafe(work));
    let text = match end {
        Ok(Ok(text)) => format!("+{text}"),
        Ok(Err(error)) => format!("-{error}"),
        Err(panic) => format!("-panicked: {}", message(&*panic)),
    };
    let _ = report.write_all(text.as_bytes());
    // SAFETY: ends the process without the parent's destructors and exit handlers.
    unsafe { nix::libc::_exit(0) }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
