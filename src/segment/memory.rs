//! How much memory a new segment may take without driving the machine out of it.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use procfs::Current;

/// `TMPFS_MAGIC` of `statfs(2)`: a tmpfs, or a memory file.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Whether the pages of this file are memory, and not a cache of a disk.
pub(super) fn backs(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == TMPFS)
}

/// Bytes that can still be had before the kernel starts killing: of the machine, and of the memory
/// cgroups around this process. `None` if that cannot be told.
pub(super) fn available() -> Option<u64> {
    let info = procfs::Meminfo::current().ok()?;
    let machine = info.mem_available? + info.swap_free;
    Some(cgroups().map_or(machine, |room| room.min(machine)))
}

/// What is left in the tightest of the memory cgroups (version 2) around this process.
fn cgroups() -> Option<u64> {
    let groups = procfs::process::Process::myself().ok()?.cgroups().ok()?;
    let own = groups.0.into_iter().find(|group| group.hierarchy == 0)?;
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(own.pathname.trim_start_matches('/'));
    own.ancestors()
        .take_while(|dir| dir.starts_with(root))
        .filter_map(room)
        .min()
}

fn room(group: &Path) -> Option<u64> {
    let read = |file| {
        fs::read_to_string(group.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // "max" is no number: no limit here.
    Some(read("memory.max")?.saturating_sub(read("memory.current")?))
}
