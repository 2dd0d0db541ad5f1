//! Taking a name away.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::open::{ReadHeaderError, open_file, read_header};
use super::{Backing, Inode, inode, inode_at, locks, sys};
use crate::error::{Mismatch, OpenError, UnlinkError};
use crate::identity::Kind;
use crate::raw::header::Header;
use crate::segment::name::Place;
use crate::segment::options::SegmentOptions;

/// The byte that a process locks while it takes a name away (far behind the end of any file).
const NAME_LOCK: u64 = 1 << 62;

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

/// Takes the name away from `backing`, and tells whether it had it: not if another segment has it by now, or
/// none.
pub(crate) fn unlink_own(
    place: &Place,
    options: &SegmentOptions,
    backing: &Backing,
    patience: Duration,
) -> Result<bool, UnlinkError> {
    match open_file(place, options, OFlags::RDWR) {
        Ok((fd, stat)) if inode(&stat) == backing.fd.inode => {
            unlink_inode(place, &File::from(fd), backing.fd.inode, patience)
        }
        Ok(_) | Err(OpenError::NotFound { .. }) => Ok(false),
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
        Ok(found) if found == inode => match sys::unlink(&path) {
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

/// The byte that is locked as long as a companion waits for the segment that it belongs to.
const COMPANION_LOCK: u64 = NAME_LOCK | 1;

/// Says that a companion is not forsaken, until [`let_go`] or the end of this process.
pub(crate) fn hold(backing: &Backing) -> io::Result<bool> {
    locks::try_lock(backing, COMPANION_LOCK)
}

pub(crate) fn let_go(backing: &Backing) {
    let _ = locks::unlock(backing, COMPANION_LOCK);
}

/// Whether a segment of `kind` stands there that nobody holds. (`false` for whatever cannot be opened.)
pub(crate) fn is_forsaken(place: &Place, options: &SegmentOptions, kind: Kind) -> bool {
    let Ok((fd, stat)) = open_file(place, options, OFlags::RDWR) else {
        return false;
    };
    let file = File::from(fd);
    let is_one = |header: Header| header.kind() == Some(kind);
    let header = read_header(&file, &stat);
    header.is_ok_and(is_one) && locks::is_locked(&file, COMPANION_LOCK).is_ok_and(|locked| !locked)
}

/// Removes a name that is never used twice, so that nobody needs to look what it leads to; whether it was
/// there, and is not any more.
pub(crate) fn remove(place: &Place) -> bool {
    sys::unlink(&place.path()).is_ok()
}
