//! A short `/proc/meminfo` for the processes of the bench.
//!
//! Who creates a segment reads how much memory there is. The parser takes each line apart, and most of
//! them for nothing: that would be the larger part of the instructions of `create`, and the same few
//! again and again. So the bench mounts a file over `/proc/meminfo` that has only the lines that are
//! needed: nothing is taken out of what `forkmap` itself does. The numbers in it stay as they are now,
//! so they are parsed in the same way each time.
//!
//! The mount is in a mount namespace of the bench's own. Nobody else sees it, and it ends with the
//! bench.

use std::fs;
use std::io::Write;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::scenario::Failure;

const MEMINFO: &str = "/proc/meminfo";

/// The fields without which `procfs::Meminfo` is an error, and the two that `forkmap` looks at:
/// `MemAvailable` and `SwapFree`. With fewer, creation would go on without a look at the memory.
const NEEDED: [&str; 18] = [
    "MemTotal",
    "MemFree",
    "MemAvailable",
    "Buffers",
    "Cached",
    "SwapCached",
    "Active",
    "Inactive",
    "SwapTotal",
    "SwapFree",
    "Dirty",
    "Writeback",
    "Mapped",
    "Slab",
    "Committed_AS",
    "VmallocTotal",
    "VmallocUsed",
    "VmallocChunk",
];

/// Puts it in place for this process and all that it forks. Needs the right to mount
/// (`CAP_SYS_ADMIN`); an error leaves the long file there.
pub(crate) fn mount_here() -> Result<(), Failure> {
    let long = fs::read_to_string(MEMINFO)?;
    let needed = |line: &&str| {
        let name = line.split_once(':').map(|(name, _)| name);
        name.is_some_and(|name| NEEDED.contains(&name))
    };
    // The mount keeps the file when its name is gone.
    let mut short = tempfile::NamedTempFile::new()?;
    for line in long.lines().filter(needed) {
        writeln!(short, "{line}")?;
    }

    unshare(CloneFlags::CLONE_NEWNS)?;
    change_mount(None, "/", MsFlags::MS_PRIVATE | MsFlags::MS_REC)?;
    change_mount(Some(short.path()), MEMINFO, MsFlags::MS_BIND)
}

fn change_mount(source: Option<&Path>, target: &str, flags: MsFlags) -> Result<(), Failure> {
    let nothing = None::<&str>;
    Ok(mount(source, target, nothing, flags, nothing)?)
}
