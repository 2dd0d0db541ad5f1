//! Segments on Linux: files that get their name only when they are complete, and sealed memory files.
//!
//! A new segment is an unnamed file (`O_TMPFILE`) until its pages are reserved and its header is
//! written; then `linkat` gives it its name, atomically and only if the name is free. A creator that
//! dies before that leaves nothing, because the kernel frees an unnamed file with its last
//! descriptor.

#![allow(unsafe_code)]

mod create;
mod locks;
mod membership;
mod memory;
mod open;
mod sys;
mod unlink;

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};

use rustix::fs::{CWD, Stat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

pub(crate) use self::create::{
    Blank, anonymous, blank, build, build as build_over, publish, publish_beside, publish_over,
};
pub(crate) use self::membership::Lease;
pub(super) use self::membership::Memberships;
pub(crate) use self::open::{from_fd, open};
pub(crate) use self::unlink::{hold, is_forsaken, let_go, remove, unlink, unlink_own};
use super::name::Place;
use crate::raw::header::Header;
use crate::sync::{Access, Word};

/// Where segments stand unless the options name another directory.
pub(crate) const DEFAULT_DIR: &str = "/dev/shm";

/// Device and inode: which file it is, whatever its name. Not used again while it is mapped.
type Inode = (u64, u64);

/// A mapped segment and what is needed to tell it from others.
#[derive(Debug)]
pub(crate) struct Backing {
    fd: SegmentFd,
    mapping: Mapping,
    header: Header,
    mode: u32,
    group: u32,
}

impl Backing {
    #[inline(always)]
    pub(crate) fn words(&self) -> &[Word] {
        self.mapping.words()
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The permission bits that its file had when it was attached.
    pub(crate) fn mode(&self) -> u32 {
        self.mode
    }

    /// The group that its file belonged to when it was attached.
    pub(crate) fn group(&self) -> u32 {
        self.group
    }

    pub(super) fn fd(&self) -> &SegmentFd {
        &self.fd
    }

    /// Whether no name leads to it any more: then none ever will. (Not if its descriptor was closed behind
    /// our back: then nobody can tell.)
    ///
    /// The file itself is asked, not its path: where that leads may be this process's own affair.
    pub(crate) fn has_lost(&self) -> io::Result<bool> {
        Ok(self.fd.stat()?.is_some_and(|stat| stat.st_nlink == 0))
    }

    /// Whether the name leads to this very segment.
    pub(crate) fn is_at(&self, place: &Place) -> io::Result<bool> {
        match inode_at(&place.path()) {
            Ok(inode) => Ok(inode == self.fd.inode),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A descriptor of a segment, which the program may close behind our back: to become a daemon, say. Then
/// the number may be another file's.
#[derive(Debug)]
pub(super) struct SegmentFd {
    /// Taken out by `drop`, and only there.
    fd: ManuallyDrop<OwnedFd>,
    inode: Inode,
}

impl SegmentFd {
    fn new(fd: OwnedFd, stat: &Stat) -> Self {
        let (fd, inode) = (ManuallyDrop::new(fd), inode(stat));
        Self { fd, inode }
    }

    /// Whether it still leads to the segment.
    pub(super) fn is_open(&self) -> Result<bool, Errno> {
        Ok(self.stat()?.is_some())
    }

    /// What the kernel knows of the segment's file; `None` if this leads there no more.
    fn stat(&self) -> Result<Option<Stat>, Errno> {
        match sys::fstat(&*self.fd) {
            Ok(stat) => Ok(Some(stat).filter(|stat| inode(stat) == self.inode)),
            Err(Errno::BADF) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// `fd` as another descriptor of the same segment, if it is one.
    pub(super) fn same(&self, fd: OwnedFd) -> Result<Option<Self>, Errno> {
        match sys::fstat(&fd) {
            Ok(stat) => Ok((inode(&stat) == self.inode).then(|| Self::new(fd, &stat))),
            Err(errno) => {
                // Perhaps closed behind our back already, and not ours to close any more: a descriptor
                // that stays open harms nobody, and a file of somebody else that is closed may.
                std::mem::forget(fd);
                match errno {
                    Errno::BADF => Ok(None),
                    errno => Err(errno),
                }
            }
        }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for SegmentFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SegmentFd {
    fn drop(&mut self) {
        let is_open = self.is_open() == Ok(true);
        // SAFETY: `self.fd` is not used again: this is the end of the only function that takes it.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) }.into_raw_fd();
        // Another file's number is not ours to close. (Nor one of which that cannot be told.)
        if is_open {
            // SAFETY: a number that was ours a moment ago. It may have been closed since, behind our back;
            // that is an error here, where `OwnedFd` would end the program.
            let _ = unsafe { nix::libc::close(fd) };
        }
    }
}

/// Memory shared with all processes that map the same file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<Word>,
    bytes: usize,
}

// SAFETY: the words are atomics, meant to be reached from many threads and processes; the mapping
// itself does not change between `map` and `drop`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn map(fd: BorrowedFd<'_>, bytes: u64, access: Access) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(|_| Errno::OVERFLOW)?;
        let prot = match access {
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
            Access::ReadOnly => ProtFlags::READ,
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice: it aliases no Rust object.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, prot, MapFlags::SHARED, fd, 0) }?;
        let start = NonNull::new(start.cast::<Word>()).ok_or(Errno::FAULT)?;
        Ok(Self { start, bytes })
    }

    #[inline(always)]
    fn words(&self) -> &[Word] {
        let words = self.bytes / size_of::<Word>();
        // SAFETY: `start` begins a mapping of that many words that lives until `drop`, aligned to a
        // page. Any bytes are a valid `Word`, and all parties, in whatever process, access them as
        // atomics. A file that somebody cuts short raises SIGBUS; the length was checked on attach,
        // and who may write the file is the trust that docs/DESIGN.md describes. On a read-only
        // mapping, only loads are made (`Access`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `map` got, and no reference into it outlives `self`.
        // It cannot fail for a whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

fn inode_at(path: &Path) -> Result<Inode, Errno> {
    inode_in(CWD, path)
}

fn inode_in(dir: BorrowedFd<'_>, path: &Path) -> Result<Inode, Errno> {
    sys::stat_in(dir, path).map(|stat| inode(&stat))
}
