//! Which segments there are.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::name;
use crate::error::Mismatch;
use crate::identity::Kind;
use crate::raw::header::{HEADER_BYTES, Header};

/// What [`segments`] tells about one segment.
#[derive(Debug)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its file. The last component is the name to open it by.
    pub path: PathBuf,
    /// Its length in bytes; all of them are reserved.
    pub bytes: u64,
    /// User id of its owner.
    pub owner: u32,
    /// Its permission bits.
    pub mode: u32,
    /// What its header says, or why it cannot be opened.
    pub content: Result<SegmentContent, Mismatch>,
}

/// What the header of a segment says is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentContent {
    /// The structure; `None` for one that this version of the crate does not know.
    pub kind: Option<Kind>,
    /// The schema id that its creator chose.
    pub schema: u64,
    /// The random number of this creation.
    pub instance_id: u128,
}

/// Lists the segments in the shared memory directory of the system, sorted by path.
///
/// Those that this process may not read are left out, and so is every file that does not start as a
/// segment does.
///
/// # Errors
/// When the directory cannot be read; on systems that show shared memory in no directory (macOS),
/// it is not there.
pub fn segments() -> io::Result<Vec<SegmentInfo>> {
    segments_in(super::DEFAULT_DIR)
}

/// Lists the segments in a directory, as [`segments`] does.
///
/// # Errors
/// As [`segments`].
pub fn segments_in(dir: impl AsRef<Path>) -> io::Result<Vec<SegmentInfo>> {
    let dir = dir.as_ref();
    let mut found = Vec::new();
    for name in names_in(dir)? {
        // Only what `open` would take for a name.
        if name.to_str().is_some_and(|name| name::check(name).is_ok()) {
            found.extend(inspect(&dir.join(name)));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The names of all that stands in a directory. (Read from the start again when a signal comes: the standard
/// library does not go on in the middle.)
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<OsString>> {
    again(|| {
        let entries = std::fs::read_dir(dir)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    })
}

/// Makes a call again if a signal interrupts it, where the standard library makes it only once. Not for ever: signals
/// may come faster than a whole directory can be read.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..1000 {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
    call()
}

/// What stands at one path; `None` if that is no segment, or none that this process may read.
fn inspect(path: &Path) -> Option<SegmentInfo> {
    // NOFOLLOW, NONBLOCK: a link leads elsewhere, and a FIFO must not hold this process up.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .ok()?;
    let meta = again(|| file.metadata()).ok();
    let meta = meta.filter(|meta| meta.is_file())?;
    let mut start = Vec::new();
    file.take(HEADER_BYTES as u64)
        .read_to_end(&mut start)
        .ok()?;
    let content = match Header::decode(&start, meta.len()) {
        Err(Mismatch::NotASegment) => return None,
        decoded => decoded.map(|header| SegmentContent {
            kind: header.kind(),
            schema: header.schema,
            instance_id: header.instance_id(),
        }),
    };
    Some(SegmentInfo {
        path: path.to_path_buf(),
        bytes: meta.len(),
        owner: meta.uid(),
        mode: meta.mode() & 0o777,
        content,
    })
}
