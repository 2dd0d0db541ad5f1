//! Creating a segment: whole, and then under its name.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{CWD, Gid, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use super::{Backing, Mapping, SegmentFd, inode_in, memory, sys, unlink};
use crate::error::{CreateError, ReplaceError, UnlinkError};
use crate::raw::header::Header;
use crate::segment::UNLINK_PATIENCE;
use crate::segment::name::Place;
use crate::segment::options::SegmentOptions;
use crate::sync::Access;

/// How many bytes are reserved by one call. A call that a signal interrupts starts anew, so it must
/// be short enough to end between two signals.
const RESERVE_STEP: u64 = 256 * 1024;

/// The pages of a new file that has neither a header nor a name.
#[derive(Debug)]
pub(crate) struct Blank {
    file: File,
    /// Where the file stands, for errors.
    place: String,
}

/// Creates a segment without a name, whose length nobody can change.
pub(crate) fn anonymous(options: &SegmentOptions, header: &Header) -> Result<Backing, CreateError> {
    let failed = |call| move |errno: Errno| os_create_error(call, "memory".into(), errno);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = match rustix::fs::memfd_create("forkmap", flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the last flag.
        Err(Errno::INVAL) => rustix::fs::memfd_create("forkmap", flags),
        made => made,
    }
    .map_err(failed("memfd_create"))?;
    let backing = Blank::new(fd, None, options, header.bytes)?.finish(header)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(backing.as_fd(), seals).map_err(failed("fcntl(F_ADD_SEALS)"))?;
    Ok(backing)
}

/// Reserves the pages of a new file in the directory of `place`.
pub(crate) fn blank(
    place: &Place,
    options: &SegmentOptions,
    bytes: u64,
) -> Result<Blank, CreateError> {
    let dir = place.dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = sys::open(dir, flags, Mode::RUSR | Mode::WUSR).map_err(
        |errno| match errno {
            Errno::ACCESS | Errno::PERM => CreateError::PermissionDenied { path: place.path() },
            Errno::ROFS => CreateError::ReadOnlyFilesystem { path: place.path() },
            Errno::NOENT | Errno::NOTDIR => CreateError::NoDirectory { dir: dir.to_path_buf() },
            Errno::OPNOTSUPP | Errno::ISDIR => CreateError::NotSupported {
                what: format!(
                    "the file system of {} has no unnamed files (O_TMPFILE), which creation needs; name another directory with the option dir, on tmpfs, ext4 or xfs",
                    dir.display()
                ),
            },
            Errno::NOSPC | Errno::DQUOT => CreateError::NoSpace {
                need: bytes,
                free: None,
                place: format!("{} (it may have no inodes left)", dir.display()),
            },
            _ => os_create_error("open(O_TMPFILE)", dir.display().to_string(), errno),
        },
    )?;
    Blank::new(fd, Some(dir), options, bytes)
}

/// Builds a segment that has no name yet.
pub(crate) fn build(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, CreateError> {
    blank(place, options, header.bytes)?.finish(header)
}

impl Blank {
    /// Reserves the pages of a new file, and sets its group and its mode.
    fn new(
        fd: OwnedFd,
        dir: Option<&Path>,
        options: &SegmentOptions,
        bytes: u64,
    ) -> Result<Self, CreateError> {
        reserve(fd.as_fd(), dir, bytes)?;
        let place = dir.map_or_else(|| "memory".to_owned(), |dir| dir.display().to_string());
        if let Some(group) = options.group {
            give(fd.as_fd(), group);
        }
        // After the open, because the umask takes bits away from the mode given there.
        sys::fchmod(&fd, Mode::from_raw_mode(options.mode))
            .map_err(|errno| os_create_error("fchmod", place.clone(), errno))?;
        let file = File::from(fd);
        Ok(Self { file, place })
    }

    /// Writes the header, which must be that of a segment of as many bytes, and maps it.
    pub(crate) fn finish(self, header: &Header) -> Result<Backing, CreateError> {
        let Self { file, place } = self;
        let failed = |call| {
            let place = &place;
            move |source| CreateError::Os {
                call,
                place: place.clone(),
                source,
            }
        };
        file.write_all_at(bytemuck::bytes_of(header), 0)
            .map_err(failed("pwrite"))?;
        if !memory::backs(file.as_fd()) {
            // On a disk: a name that a power cut leaves must not lead to a header that it does not.
            file.sync_all().map_err(failed("fsync"))?;
        }
        let mapping = Mapping::map(file.as_fd(), header.bytes, Access::ReadWrite);
        let mapping = mapping.map_err(failed("mmap"))?;
        let stat = sys::fstat(&file).map_err(|errno| failed("fstat")(errno.into()))?;
        Ok(Backing {
            fd: SegmentFd::new(file.into(), &stat),
            mapping,
            header: *header,
            mode: stat.st_mode & 0o777,
            group: stat.st_gid,
        })
    }
}

/// Gives a new file to that group, if this process may: if it is root, or one of the group.
fn give(fd: BorrowedFd<'_>, group: u32) {
    if sys::fstat(fd).is_ok_and(|stat| stat.st_gid != group) {
        let _ = sys::fchown(fd, Gid::from_raw(group));
    }
}

/// Makes sure that every page is there: on a sparse file, the first access to a page for which there
/// is no room would be a SIGBUS in whoever makes it.
fn reserve(fd: BorrowedFd<'_>, dir: Option<&Path>, bytes: u64) -> Result<(), CreateError> {
    let place = || dir.map_or_else(|| "memory".to_owned(), |dir| dir.display().to_string());
    // Looked at first, so that a hopeless attempt does not fill the disk up before it fails. A file
    // system without a limit of its own says that it has no blocks at all.
    if let Some(free) = free_blocks(fd).filter(|&free| free < bytes) {
        return Err(CreateError::NoSpace {
            need: bytes,
            free: Some(free),
            place: place(),
        });
    }
    if memory::backs(fd) {
        // A memory file knows no limit, and a tmpfs may be as large as the machine: reserving more
        // than there is would have the kernel kill processes, not return an error.
        memory::check(bytes)?;
    }
    let mut start = 0;
    while start < bytes {
        let step = RESERVE_STEP.min(bytes - start);
        sys::fallocate(fd, start, step).map_err(|errno| match errno {
            Errno::NOSPC | Errno::DQUOT => CreateError::NoSpace {
                need: bytes,
                free: free_blocks(fd).map(|free| free + start),
                place: place(),
            },
            Errno::OPNOTSUPP => CreateError::NotSupported {
                what: format!(
                    "the file system of {} cannot reserve space (fallocate); name another directory with the option dir, on tmpfs, ext4 or xfs",
                    place()
                ),
            },
            _ => os_create_error("fallocate", place(), errno),
        })?;
        start += step;
    }
    Ok(())
}

/// Free bytes of the file system, if it has a limit.
fn free_blocks(fd: BorrowedFd<'_>) -> Option<u64> {
    let fs = sys::fstatvfs(fd).ok()?;
    (fs.f_blocks > 0).then(|| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Gives a complete file its name, and takes that away from whatever segment has it.
pub(crate) fn publish_over(
    backing: &Backing,
    place: &Place,
    options: &SegmentOptions,
) -> Result<(), ReplaceError> {
    loop {
        match publish(backing, place) {
            Err(CreateError::AlreadyExists { .. }) => {}
            published => return Ok(published?),
        }
        match unlink(place, options, UNLINK_PATIENCE, |_| Ok(())) {
            Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives a complete file its name, if that is free.
pub(crate) fn publish(backing: &Backing, place: &Place) -> Result<(), CreateError> {
    link(backing, place, CWD, &place.path())
}

/// Gives a complete file its name beside `owner`, which is to have the name `of`: in the very directory
/// in which that stands. `false`, and no name, if it does not stand there as this process sees it.
pub(crate) fn publish_beside(
    backing: &Backing,
    place: &Place,
    owner: &Backing,
    of: &Place,
) -> Result<bool, CreateError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = sys::open(of.dir(), flags, Mode::empty());
    let looked = opened.and_then(|dir| {
        let found = inode_in(dir.as_fd(), Path::new(of.name()))?;
        Ok((dir, found))
    });
    match looked {
        Ok((dir, found)) if found == owner.fd.inode => {
            link(backing, place, dir.as_fd(), Path::new(place.name())).map(|()| true)
        }
        Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(Errno::ACCESS | Errno::PERM) => Err(CreateError::PermissionDenied { path: of.path() }),
        Err(errno) => {
            let place = of.path().display().to_string();
            Err(os_create_error("open(O_PATH) or stat", place, errno))
        }
    }
}

/// Gives a complete file its name, by way of `name` in `dir`.
fn link(
    backing: &Backing,
    place: &Place,
    dir: BorrowedFd<'_>,
    name: &Path,
) -> Result<(), CreateError> {
    let path = place.path();
    // Of this thread: it may have descriptors of its own, and the main thread may have ended.
    let source = format!("/proc/thread-self/fd/{}", backing.as_fd().as_raw_fd());
    let is_there = || Path::new(&source).try_exists().unwrap_or(true);
    sys::link(&source, dir, name).map_err(|errno| {
        match errno {
            Errno::EXIST => CreateError::AlreadyExists { path },
            Errno::ACCESS | Errno::PERM => CreateError::PermissionDenied { path },
            Errno::ROFS => CreateError::ReadOnlyFilesystem { path },
            Errno::NOSPC | Errno::DQUOT => CreateError::NoSpace {
                need: backing.header.bytes,
                free: None,
                place: format!("{} (for the name)", place.dir().display()),
            },
            Errno::NOENT if !is_there() => CreateError::NotSupported {
                what: "creating a segment by name needs /proc, and it is not mounted; mount it, or use an anonymous segment".into(),
            },
            Errno::NOENT => CreateError::NoDirectory { dir: place.dir().to_path_buf() },
            _ => os_create_error("linkat", path.display().to_string(), errno),
        }
    })
}

fn os_create_error(call: &'static str, place: String, errno: Errno) -> CreateError {
    CreateError::Os {
        call,
        place,
        source: errno.into(),
    }
}
