//! Locks on bytes of a segment that the kernel drops with their holder, on Linux: open-file-description
//! locks. The classic `fcntl` locks would be lost as soon as the program closed *any* descriptor of the
//! file.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::ptr::{self, NonNull};

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Backing, SegmentFd, sys};
use crate::error::ParticipantError;
use crate::process;
use crate::raw::header::GRAIN;
use crate::raw::participants::ByteLocks;
use crate::segment::name::Place;

/// An open file description of a segment. The locks that are taken by way of it are its own, and last
/// as long as it does: whatever becomes of its descriptor, until this is gone.
#[derive(Debug)]
pub(super) struct Description {
    fd: SegmentFd,
    pin: Pin,
    /// A byte that it has locked, and that nobody else asks for.
    mark: u64,
}

/// Marks are the bytes from here on.
const MARKS: u64 = 3 << 61;

impl Description {
    /// What was `answered` by way of the descriptor, if that led to this description until then. Another
    /// thread of the program may have closed it behind our back, and its number may be another file's, or
    /// another description's of this one. (It cannot come back: the number of a description that has lost its
    /// own is nobody's to give.)
    fn checked<T>(&self, answered: io::Result<T>) -> io::Result<T> {
        // No description sees its own locks, and every other one sees them.
        let is_ours = self.fd.is_open()? && !is_locked(&self.fd, self.mark)?;
        match is_ours {
            true => answered,
            false => Err(Errno::BADF.into()),
        }
    }

    /// What keeps the locks from here on.
    pub(super) fn into_pin(self) -> Pin {
        self.pin
    }
}

/// `EBADF` if the descriptor has been closed, whatever its number leads to by now.
impl ByteLocks for Description {
    fn try_lock(&self, byte: u64) -> io::Result<bool> {
        self.checked(try_lock(&self.fd, byte))
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        self.checked(unlock(&self.fd, byte))
    }

    fn is_locked(&self, byte: u64) -> io::Result<bool> {
        self.checked(is_locked(&self.fd, byte))
    }
}

/// A page of a segment's file, mapped for nothing but to keep its open file description.
///
/// Closing all descriptors does not end it, as it would a descriptor; the end of the process does, as
/// does an exec, and whether the process is waited for makes no difference. A forked child does not
/// get the page, so its parent's locks do not live on in it.
#[derive(Debug)]
pub(super) struct Pin(NonNull<std::ffi::c_void>);

// SAFETY: the address of a page that nobody ever accesses: it may be unmapped by any thread.
unsafe impl Send for Pin {}
// SAFETY: as above.
unsafe impl Sync for Pin {}

impl Description {
    /// Opens the segment once more, and independently of the descriptor that it was attached by.
    pub(super) fn open(backing: &Backing, place: Option<&Place>) -> Result<Self, ParticipantError> {
        let again = |path: &Path, flags| {
            let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
            backing.fd().same(sys::open(path, flags, Mode::empty())?)
        };
        // By the descriptor, whatever has become of the name; if the program has closed it behind our
        // back, by the name, if that still leads here.
        // (Not by a number that is another file's by now: that one is not ours to open.)
        let fd = format!("/proc/thread-self/fd/{}", backing.as_fd().as_raw_fd());
        let is_open = backing.fd().is_open();
        let by_fd = match is_open {
            Ok(true) => again(Path::new(&fd), OFlags::empty()),
            Ok(false) => Ok(None),
            Err(errno) => Err(errno),
        };
        let found = match (by_fd, place) {
            (Ok(None) | Err(Errno::NOENT), Some(place)) => again(&place.path(), OFlags::NOFOLLOW),
            (by_fd, _) => by_fd,
        };
        match found {
            Ok(Some(fd)) => Self::new(fd),
            Err(Errno::NOENT) if is_open == Ok(true) => Err(ParticipantError::Os {
                call: "open by way of /proc (is it mounted?)",
                source: Errno::NOENT.into(),
            }),
            Ok(None) | Err(Errno::NOENT) => Err(ParticipantError::DescriptorClosed),
            Err(Errno::ACCESS | Errno::PERM) => Err(ParticipantError::NotPermitted),
            Err(errno) => Err(ParticipantError::Os {
                call: "open or fstat",
                source: errno.into(),
            }),
        }
    }

    /// That of a descriptor which nobody else knows.
    fn new(fd: SegmentFd) -> Result<Self, ParticipantError> {
        let failed = |call, source: io::Error| match fd.is_open() {
            Ok(false) => ParticipantError::DescriptorClosed,
            _ => lock_error(call)(source),
        };
        let random = process::random().map_err(|source| failed("getrandom", source))?;
        let mark = MARKS | random >> 4;
        let lock = || try_lock(&fd, mark).map_err(|source| failed("fcntl(F_OFD_SETLK)", source));
        // Before the page is mapped and after: then that is a page of the description that has the mark.
        let before = lock()?;
        let pin = Pin::new(&fd).map_err(|source| failed("mmap or madvise", source))?;
        let after = lock()?;
        let is_open = fd
            .is_open()
            .map_err(|errno| failed("fstat", errno.into()))?;
        match before && after && is_open {
            true => Ok(Self { fd, pin, mark }),
            false => Err(ParticipantError::DescriptorClosed),
        }
    }
}

impl Pin {
    fn new(fd: impl AsFd) -> io::Result<Self> {
        let bytes = GRAIN as usize;
        let (prot, flags) = (ProtFlags::empty(), MapFlags::SHARED);
        // SAFETY: a fresh mapping at an address of the kernel's choice: it aliases no Rust object.
        let page = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, prot, flags, fd, 0) }?;
        let pin = Self(NonNull::new(page).ok_or(Errno::FAULT)?);
        // SAFETY: the page that was mapped by the line above; nobody accesses it.
        unsafe { rustix::mm::madvise(page, bytes, Advice::LinuxDontFork) }?;
        Ok(pin)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // SAFETY: the page that `new` mapped, in the process that mapped it (`Membership` sees to
        // that: a forked child has something else there, or nothing).
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr(), GRAIN as usize) };
    }
}

impl Backing {
    /// Whether somebody holds the lock on `byte`.
    pub(super) fn is_locked(
        &self,
        byte: u64,
        place: Option<&Place>,
    ) -> Result<bool, ParticipantError> {
        // The description that the segment was attached by holds no such locks itself, so it sees
        // those of all, this process's own included. If the program closes it behind our back, the
        // number may be another file's by now, where the byte is free: so who answers "free" must be
        // the segment after that as well. (Another description of it will do: one that lives longer than
        // a registration holds no such locks either.)
        let locked = match is_locked(self.as_fd(), byte) {
            Ok(locked) if locked || self.fd().is_open() == Ok(true) => Ok(locked),
            _ => Description::open(self, place)?.is_locked(byte),
        };
        locked.map_err(lock_error("fcntl(F_OFD_GETLK)"))
    }
}

/// An error of [`ByteLocks`] as what it means to the caller.
pub(super) fn lock_error(call: &'static str) -> impl Fn(io::Error) -> ParticipantError {
    move |source| match source.raw_os_error() == Some(Errno::BADF.raw_os_error()) {
        true => ParticipantError::DescriptorClosed,
        false => ParticipantError::Os { call, source },
    }
}

/// Takes the lock on a byte if nobody has it by way of another description.
pub(super) fn try_lock(file: impl AsFd, byte: u64) -> io::Result<bool> {
    match sys::set_lock(file, &lock(libc::F_WRLCK, byte)) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn unlock(file: impl AsFd, byte: u64) -> io::Result<()> {
    Ok(sys::set_lock(file, &lock(libc::F_UNLCK, byte))?)
}

pub(super) fn is_locked(file: impl AsFd, byte: u64) -> io::Result<bool> {
    let mut found = lock(libc::F_WRLCK, byte);
    sys::get_lock(file, &mut found)?;
    Ok(found.l_type != libc::F_UNLCK as libc::c_short)
}

fn lock(kind: libc::c_int, byte: u64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte as i64,
        l_len: 1,
        l_pid: 0,
    }
}
