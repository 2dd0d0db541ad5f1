//! Segments on Linux: files that get their name only when they are complete, and sealed memory files.
//!
//! A new segment is an unnamed file (`O_TMPFILE`) until its pages are reserved and its header is
//! written; then `linkat` gives it its name, atomically and only if the name is free. A creator that
//! dies before that leaves nothing, because the kernel frees an unnamed file with its last
//! descriptor.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, MemfdFlags, Mode, OFlags, SealFlags, Stat,
};
use rustix::io::{Errno, FdFlags, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags};

use super::name::Place;
use super::options::SegmentOptions;
use super::{UNLINK_PATIENCE, locks, memory};
use crate::error::{CreateError, Mismatch, OpenError, ReplaceError, UnlinkError};
use crate::raw::header::{HEADER_BYTES, Header};
use crate::sync::{Access, Word};

/// Where segments stand unless the options name another directory.
pub(crate) const DEFAULT_DIR: &str = "/dev/shm";

/// The byte that a process locks while it takes a name away (far behind the end of any file).
const NAME_LOCK: u64 = 1 << 62;

/// How many bytes are reserved by one call. A call that a signal interrupts starts anew, so it must
/// be short enough to end between two signals.
const RESERVE_STEP: u64 = 256 * 1024;

/// Device and inode: which file it is, whatever its name. Not used again while it is mapped.
type Inode = (u64, u64);

/// A mapped segment and what is needed to tell it from others.
#[derive(Debug)]
pub(crate) struct Backing {
    fd: SegmentFd,
    mapping: Mapping,
    header: Header,
}

impl Backing {
    #[inline(always)]
    pub(crate) fn words(&self) -> &[Word] {
        self.mapping.words()
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn fd(&self) -> &SegmentFd {
        &self.fd
    }

    /// Whether the name leads to this very segment.
    pub(crate) fn is_current(&self, place: &Place) -> bool {
        inode_at(&place.path()).is_ok_and(|inode| inode == self.fd.inode)
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
    pub(super) fn is_open(&self) -> bool {
        rustix::fs::fstat(&*self.fd).is_ok_and(|stat| inode(&stat) == self.inode)
    }

    /// `fd` as another descriptor of the same segment, if it is one.
    pub(super) fn same(&self, fd: OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(&fd).ok()?;
        (inode(&stat) == self.inode).then(|| Self::new(fd, &stat))
    }
}

impl AsFd for SegmentFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SegmentFd {
    fn drop(&mut self) {
        let is_open = self.is_open();
        // SAFETY: `self.fd` is not used again: this is the end of the only function that takes it.
        let fd = unsafe { ManuallyDrop::take(&mut self.fd) };
        // Another file's number is not ours to close.
        if !is_open {
            std::mem::forget(fd);
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

// ---- create ----------------------------------------------------------------------------------

/// Creates a segment under a free name.
pub(crate) fn create(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, CreateError> {
    let backing = build_file(place, options, header)?;
    publish(&backing, place)?;
    Ok(backing)
}

/// Creates a segment, and takes the name away from whatever segment has it.
pub(crate) fn replace(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, ReplaceError> {
    // The new one is complete before the old one goes: if there is no room for both, the old stays.
    let backing = build_file(place, options, header)?;
    loop {
        match publish(&backing, place) {
            Err(CreateError::AlreadyExists { .. }) => {}
            published => return Ok(published.map(|()| backing)?),
        }
        match unlink(place, options, UNLINK_PATIENCE, |_| Ok(())) {
            Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
    let backing = fill(fd, None, options, header)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(backing.as_fd(), seals).map_err(failed("fcntl(F_ADD_SEALS)"))?;
    Ok(backing)
}

fn build_file(
    place: &Place,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, CreateError> {
    let dir = place.dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = retry_on_intr(|| rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR)).map_err(
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
                need: header.bytes,
                free: None,
                place: format!("{} (it may have no inodes left)", dir.display()),
            },
            _ => os_create_error("open(O_TMPFILE)", dir.display().to_string(), errno),
        },
    )?;
    fill(fd, Some(dir), options, header)
}

/// Reserves the pages of a new file, sets its mode, writes its header and maps it.
fn fill(
    fd: OwnedFd,
    dir: Option<&Path>,
    options: &SegmentOptions,
    header: &Header,
) -> Result<Backing, CreateError> {
    let place = || dir.map_or_else(|| "memory".to_owned(), |dir| dir.display().to_string());
    let failed = |call| move |errno: Errno| os_create_error(call, place(), errno);
    reserve(fd.as_fd(), dir, header.bytes)?;
    // After the open, because the umask takes bits away from the mode given there.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(options.mode)).map_err(failed("fchmod"))?;
    let file = File::from(fd);
    file.write_all_at(bytemuck::bytes_of(header), 0)
        .map_err(|source| CreateError::Os {
            call: "pwrite",
            place: place(),
            source,
        })?;
    if !memory::backs(file.as_fd()) {
        // On a disk: a name that a power cut leaves must not lead to a header that it does not.
        file.sync_all().map_err(|source| CreateError::Os {
            call: "fsync",
            place: place(),
            source,
        })?;
    }
    let mapping =
        Mapping::map(file.as_fd(), header.bytes, Access::ReadWrite).map_err(|source| {
            CreateError::Os {
                call: "mmap",
                place: place(),
                source,
            }
        })?;
    let stat = rustix::fs::fstat(&file).map_err(failed("fstat"))?;
    Ok(Backing {
        fd: SegmentFd::new(file.into(), &stat),
        mapping,
        header: *header,
    })
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
        let reserve = || rustix::fs::fallocate(fd, FallocateFlags::empty(), start, step);
        retry_on_intr(reserve).map_err(|errno| match errno {
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
    let fs = rustix::fs::fstatvfs(fd).ok()?;
    (fs.f_blocks > 0).then(|| fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Gives a complete file its name, if that is free.
fn publish(backing: &Backing, place: &Place) -> Result<(), CreateError> {
    let path = place.path();
    // Of this thread: it may have descriptors of its own, and the main thread may have ended.
    let source = format!("/proc/thread-self/fd/{}", backing.as_fd().as_raw_fd());
    rustix::fs::linkat(CWD, &source, CWD, &path, AtFlags::SYMLINK_FOLLOW).map_err(|errno| {
        match errno {
            Errno::EXIST => CreateError::AlreadyExists { path },
            Errno::ACCESS | Errno::PERM => CreateError::PermissionDenied { path },
            Errno::ROFS => CreateError::ReadOnlyFilesystem { path },
            Errno::NOSPC | Errno::DQUOT => CreateError::NoSpace {
                need: backing.header.bytes,
                free: None,
                place: format!("{} (for the name)", place.dir().display()),
            },
            Errno::NOENT if !Path::new(&source).exists() => CreateError::NotSupported {
                what: "creating a segment by name needs /proc, and it is not mounted; mount it, or use an anonymous segment".into(),
            },
            Errno::NOENT => CreateError::NoDirectory { dir: place.dir().to_path_buf() },
            _ => os_create_error("linkat", path.display().to_string(), errno),
        }
    })
}

// ---- open ------------------------------------------------------------------------------------

/// Opens the segment that has the name.
pub(crate) fn open(place: &Place, options: &SegmentOptions) -> Result<Backing, OpenError> {
    let access = if options.read_only {
        OFlags::RDONLY
    } else {
        OFlags::RDWR
    };
    let (fd, stat) = open_file(place, options, access)?;
    attach(fd, &stat, place.path().display().to_string(), options)
}

/// Opens the segment behind a descriptor, which may come from another process.
pub(crate) fn from_fd(fd: OwnedFd, options: &SegmentOptions) -> Result<Backing, OpenError> {
    let place = || "the descriptor".to_owned();
    let failed = |call| {
        move |errno: Errno| OpenError::Os {
            call,
            place: place(),
            source: errno.into(),
        }
    };
    // It has come here through an exec, or will not be meant to go through the next one.
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(failed("fcntl(F_SETFD)"))?;
    let stat = rustix::fs::fstat(&fd).map_err(failed("fstat"))?;
    check_file(&stat, place, options)?;
    attach(fd, &stat, place(), options)
}

fn attach(
    fd: OwnedFd,
    stat: &Stat,
    place: String,
    options: &SegmentOptions,
) -> Result<Backing, OpenError> {
    let file = File::from(fd);
    let header = match read_header(&file, stat) {
        Ok(header) => header,
        Err(ReadHeaderError::Os(source)) => {
            return Err(OpenError::Os {
                call: "pread",
                place,
                source,
            });
        }
        Err(ReadHeaderError::Mismatch(mismatch)) => {
            return Err(OpenError::Mismatch { place, mismatch });
        }
    };
    // Blocks of 512 bytes, whatever the file system. On a disk, holes are its own affair.
    if memory::backs(file.as_fd()) && (stat.st_blocks as u64) < header.bytes / 512 {
        let what = "some of its pages are missing, it was copied sparsely or punched";
        return Err(OpenError::Mismatch {
            place,
            mismatch: Mismatch::Damaged { what },
        });
    }
    let access = if options.read_only {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let mapping =
        Mapping::map(file.as_fd(), header.bytes, access).map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied => OpenError::PermissionDenied { path: place.into() },
            _ => OpenError::Os {
                call: "mmap",
                place,
                source,
            },
        })?;
    Ok(Backing {
        fd: SegmentFd::new(file.into(), stat),
        mapping,
        header,
    })
}

/// Opens whatever regular file of a trusted owner has the name.
fn open_file(
    place: &Place,
    options: &SegmentOptions,
    access: OFlags,
) -> Result<(OwnedFd, Stat), OpenError> {
    let path = place.path();
    let shown = || path.display().to_string();
    // NOFOLLOW: a link would lead to a file that its planter chose. NONBLOCK and NOCTTY: a FIFO or a
    // terminal must not hold this process up before it is seen for what it is.
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd =
        retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty())).map_err(
            |errno| match errno {
                Errno::NOENT | Errno::NOTDIR => OpenError::NotFound { path: path.clone() },
                Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                    OpenError::PermissionDenied { path: path.clone() }
                }
                Errno::LOOP => OpenError::NotAFile {
                    place: shown(),
                    found: "symbolic link",
                },
                Errno::ISDIR => OpenError::NotAFile {
                    place: shown(),
                    found: "directory",
                },
                Errno::NXIO => OpenError::NotAFile {
                    place: shown(),
                    found: "socket or device",
                },
                _ => OpenError::Os {
                    call: "open",
                    place: shown(),
                    source: errno.into(),
                },
            },
        )?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| OpenError::Os {
        call: "fstat",
        place: shown(),
        source: errno.into(),
    })?;
    check_file(&stat, shown, options)?;
    Ok((fd, stat))
}

/// Judges the file by its open descriptor, so that nobody can swap it afterwards.
fn check_file(
    stat: &Stat,
    place: impl Fn() -> String,
    options: &SegmentOptions,
) -> Result<(), OpenError> {
    let found = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let ours = rustix::process::geteuid().as_raw();
            if stat.st_uid != ours && !options.owners.contains(&stat.st_uid) {
                let owner = stat.st_uid;
                return Err(OpenError::ForeignOwner {
                    place: place(),
                    owner,
                    ours,
                });
            }
            return Ok(());
        }
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "thing of unknown kind",
    };
    Err(OpenError::NotAFile {
        place: place(),
        found,
    })
}

enum ReadHeaderError {
    Os(io::Error),
    Mismatch(Mismatch),
}

fn read_header(file: &File, stat: &Stat) -> Result<Header, ReadHeaderError> {
    let mut start = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match file.read_at(&mut start[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadHeaderError::Os(error)),
        }
    }
    Header::decode(&start[..filled], stat.st_size as u64).map_err(ReadHeaderError::Mismatch)
}

// ---- unlink ----------------------------------------------------------------------------------

/// Takes the name away from the segment that has it, if `check` lets its header pass. A segment whose
/// header cannot be read any more, but that starts as one of ours does, is taken for one.
pub(crate) fn unlink(
    place: &Place,
    options: &SegmentOptions,
    patience: Duration,
    check: impl Fn(&Header) -> Result<(), Mismatch>,
) -> Result<(), UnlinkError> {
    loop {
        let (fd, stat) = open_file(place, options, OFlags::RDWR).map_err(unlink_error)?;
        let file = File::from(fd);
        let mismatch = |mismatch| OpenError::Mismatch {
            place: place.path().display().to_string(),
            mismatch,
        };
        match read_header(&file, &stat) {
            Ok(header) => check(&header).map_err(mismatch)?,
            Err(ReadHeaderError::Mismatch(what @ Mismatch::NotASegment)) => {
                return Err(mismatch(what).into());
            }
            Err(ReadHeaderError::Mismatch(_)) => {}
            Err(ReadHeaderError::Os(source)) => {
                return Err(UnlinkError::Os {
                    call: "pread",
                    path: place.path(),
                    source,
                });
            }
        }
        if unlink_inode(place, &file, inode(&stat), patience)? {
            return Ok(());
        }
        // The name leads to another file by now: judge that one.
    }
}

/// Takes the name away from `backing`; does nothing if another segment has it by now, or none.
pub(crate) fn unlink_own(
    place: &Place,
    options: &SegmentOptions,
    backing: &Backing,
    patience: Duration,
) -> Result<(), UnlinkError> {
    match open_file(place, options, OFlags::RDWR) {
        Ok((fd, stat)) if inode(&stat) == backing.fd.inode => {
            unlink_inode(place, &File::from(fd), backing.fd.inode, patience).map(|_| ())
        }
        Ok(_) | Err(OpenError::NotFound { .. }) => Ok(()),
        Err(error) => Err(unlink_error(error)),
    }
}

fn unlink_error(error: OpenError) -> UnlinkError {
    match error {
        OpenError::NotFound { path } => UnlinkError::NotFound { path },
        OpenError::PermissionDenied { path } => UnlinkError::PermissionDenied { path },
        error => error.into(),
    }
}

/// Unlinks the name if it still leads to `file`; tells whether it did.
///
/// Two who remove and re-create could each look, and then one delete the other's new file. So who
/// takes a name away holds a lock on the file that has it, looks again under the lock, and then
/// unlinks. The kernel drops the lock of a process that dies (if it forked a child from another
/// thread at that very moment: with that child). One that is stopped makes the others give up when
/// their patience ends.
fn unlink_inode(
    place: &Place,
    file: &File,
    inode: Inode,
    patience: Duration,
) -> Result<bool, UnlinkError> {
    let path = place.path();
    let failed = |call| {
        let path = path.clone();
        move |source: io::Error| UnlinkError::Os { call, path, source }
    };
    let deadline = Instant::now() + patience;
    while !locks::try_lock(file, NAME_LOCK).map_err(failed("fcntl(F_OFD_SETLK)"))? {
        if Instant::now() >= deadline {
            return Err(UnlinkError::Busy { path });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let done = match inode_at(&path) {
        Ok(found) if found == inode => match rustix::fs::unlink(&path) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                Err(UnlinkError::PermissionDenied { path })
            }
            Err(errno) => Err(failed("unlink")(errno.into())),
        },
        Ok(_) | Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("stat")(errno.into())),
    };
    // Not left to `close`: a child forked by another thread may share the description for a while.
    let _ = locks::unlock(file, NAME_LOCK);
    done
}

fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

fn inode_at(path: &Path) -> Result<Inode, Errno> {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).map(|stat| inode(&stat))
}

fn os_create_error(call: &'static str, place: String, errno: Errno) -> CreateError {
    CreateError::Os {
        call,
        place,
        source: errno.into(),
    }
}
