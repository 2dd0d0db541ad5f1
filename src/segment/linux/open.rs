//! Opening a segment, with suspicion.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, FdFlags};

use super::{Backing, Mapping, SegmentFd, memory, sys};
use crate::error::{Mismatch, OpenError};
use crate::raw::header::{HEADER_BYTES, Header};
use crate::segment::name::Place;
use crate::segment::options::SegmentOptions;
use crate::sync::Access;

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
    let stat = sys::fstat(&fd).map_err(failed("fstat"))?;
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
        mode: stat.st_mode & 0o777,
        group: stat.st_gid,
    })
}

/// Opens whatever regular file of a trusted owner has the name.
pub(super) fn open_file(
    place: &Place,
    options: &SegmentOptions,
    access: OFlags,
) -> Result<(OwnedFd, Stat), OpenError> {
    let path = place.path();
    let shown = || path.display().to_string();
    // NOFOLLOW: a link would lead to a file that its planter chose. NONBLOCK and NOCTTY: a FIFO or a
    // terminal must not hold this process up before it is seen for what it is.
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = sys::open(&path, flags, Mode::empty()).map_err(|errno| match errno {
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
    })?;
    let stat = sys::fstat(&fd).map_err(|errno| OpenError::Os {
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

pub(super) enum ReadHeaderError {
    Os(io::Error),
    Mismatch(Mismatch),
}

pub(super) fn read_header(file: &File, stat: &Stat) -> Result<Header, ReadHeaderError> {
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
