//! The system calls on files, each made again when a signal has interrupted it.
//!
//! On a tmpfs or a disk a signal interrupts few of them; on a file system that a process serves (FUSE), or
//! another machine (NFS), it may interrupt any, whatever the manual says of it. So none of these is made
//! elsewhere. Not here are those in which only a process can be interrupted that is being killed (`mmap`,
//! `madvise`, `munmap`), those that ask no file system (`memfd_create`, seals, `F_SETFD`), and `close`, after
//! which the descriptor is gone in any case. Reading, writing and `fsync` the standard library makes again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::flock;
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, Gid, Mode, OFlags, Stat, StatFs, StatVfs};
use rustix::io::{Errno, Result, retry_on_intr};

pub(super) fn open(path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    retry_on_intr(|| fs::open(path, flags, mode))
}

pub(super) fn fstat(fd: impl AsFd) -> Result<Stat> {
    retry_on_intr(|| fs::fstat(&fd))
}

/// Of what stands there itself, also if that is a symbolic link.
pub(super) fn stat_in(dir: BorrowedFd<'_>, path: &Path) -> Result<Stat> {
    retry_on_intr(|| fs::statat(dir, path, AtFlags::SYMLINK_NOFOLLOW))
}

pub(super) fn fstatfs(fd: impl AsFd) -> Result<StatFs> {
    retry_on_intr(|| fs::fstatfs(&fd))
}

pub(super) fn fstatvfs(fd: impl AsFd) -> Result<StatVfs> {
    retry_on_intr(|| fs::fstatvfs(&fd))
}

pub(super) fn fchmod(fd: impl AsFd, mode: Mode) -> Result<()> {
    retry_on_intr(|| fs::fchmod(&fd, mode))
}

pub(super) fn fchown(fd: impl AsFd, group: Gid) -> Result<()> {
    retry_on_intr(|| fs::fchown(&fd, None, Some(group)))
}

pub(super) fn fallocate(fd: impl AsFd, start: u64, bytes: u64) -> Result<()> {
    retry_on_intr(|| fs::fallocate(&fd, FallocateFlags::empty(), start, bytes))
}

/// To what `source` leads to, if that is a symbolic link. (An interrupted call may have given the name.)
pub(super) fn link(source: &str, dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let mut is_again = false;
    loop {
        match fs::linkat(CWD, source, dir, name, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::INTR) => is_again = true,
            Err(Errno::EXIST) if is_again => {
                let file = retry_on_intr(|| fs::stat(source))?;
                let there = stat_in(dir, name)?;
                let is_it = (file.st_dev, file.st_ino) == (there.st_dev, there.st_ino);
                return if is_it { Ok(()) } else { Err(Errno::EXIST) };
            }
            done => return done,
        }
    }
}

/// (An interrupted call may have taken the name away; or somebody else has, who is at the same.)
pub(super) fn unlink(path: &Path) -> Result<()> {
    let mut is_again = false;
    loop {
        match fs::unlink(path) {
            Err(Errno::INTR) => is_again = true,
            Err(Errno::NOENT) if is_again => return Ok(()),
            done => return done,
        }
    }
}

/// `F_OFD_SETLK`.
pub(super) fn set_lock(fd: impl AsFd, lock: &flock) -> Result<()> {
    retry_on_intr(|| fcntl(&fd, FcntlArg::F_OFD_SETLK(lock)).map_err(errno)).map(drop)
}

/// `F_OFD_GETLK`.
pub(super) fn get_lock(fd: impl AsFd, lock: &mut flock) -> Result<()> {
    retry_on_intr(|| fcntl(&fd, FcntlArg::F_OFD_GETLK(lock)).map_err(errno)).map(drop)
}

fn errno(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
