//! How much memory a new segment may take without driving the machine, or its container, out of it.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use procfs::Current;

use super::sys;
use crate::error::CreateError;

/// `TMPFS_MAGIC` of `statfs(2)`: a tmpfs, or a memory file.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Where the second version of control groups is mounted. The first version is not looked at.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether the pages of this file are memory, and not a cache of a disk.
pub(super) fn backs(fd: BorrowedFd<'_>) -> bool {
    sys::fstatfs(fd).is_ok_and(|fs| fs.f_type == TMPFS)
}

/// Refuses more than can be had before the kernel starts killing. What cannot be told is no reason to
/// refuse.
pub(super) fn check(need: u64) -> Result<(), CreateError> {
    let machine = || {
        let info = procfs::Meminfo::current().ok()?;
        Some((
            info.mem_available? + info.swap_free,
            "the memory of this machine".to_owned(),
        ))
    };
    let groups = own_groups().into_iter().filter_map(|group| {
        Some((
            room(&group)?,
            format!("the memory of the control group {}", group.display()),
        ))
    });
    match machine().into_iter().chain(groups).min() {
        Some((free, place)) if free < need => Err(CreateError::NoSpace {
            need,
            free: Some(free),
            place,
        }),
        _ => Ok(()),
    }
}

/// The control groups around this process, from the innermost on.
fn own_groups() -> Vec<PathBuf> {
    let own = || {
        let groups = procfs::process::Process::myself().ok()?.cgroups().ok()?;
        groups.0.into_iter().find(|group| group.hierarchy == 0)
    };
    let Some(own) = own() else { return Vec::new() };
    let own = Path::new(CGROUPS).join(own.pathname.trim_start_matches('/'));
    own.ancestors()
        .take_while(|dir| dir.starts_with(CGROUPS))
        .map(Path::to_path_buf)
        .collect()
}

/// What is left in a group: its limit, less what it uses, but what can be reclaimed is not used.
/// `None` if it has no limit ("max").
fn room(group: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(group.join(file)).ok();
    let number = |file| read(file)?.trim().parse::<u64>().ok();
    let (limit, used) = (number("memory.max")?, number("memory.current")?);
    let stat = read("memory.stat").unwrap_or_default();
    let reclaimable = ["inactive_file", "active_file", "slab_reclaimable"];
    let fields = stat.lines().filter_map(|line| line.split_once(' '));
    let fields = fields.filter(|(name, _)| reclaimable.contains(name));
    let reclaimable: u64 = fields.filter_map(|(_, n)| n.parse::<u64>().ok()).sum();
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_group_counts_the_page_cache_as_free() {
        let group = tempfile::tempdir().unwrap();
        let put = |file, text: &str| fs::write(group.path().join(file), text).unwrap();
        assert_eq!(room(group.path()), None);
        put("memory.max", "max\n");
        put("memory.current", "900\n");
        assert_eq!(room(group.path()), None);
        put("memory.max", "1000\n");
        assert_eq!(room(group.path()), Some(100));
        put(
            "memory.stat",
            "anon 300\nfile 600\ninactive_file 350\nactive_file 150\nslab_reclaimable 50\n",
        );
        assert_eq!(room(group.path()), Some(650));
        put("memory.current", "2000\n");
        assert_eq!(room(group.path()), Some(0));
    }

    #[test]
    fn more_than_the_machine_has_is_refused() {
        assert!(check(4096).is_ok());
        let Err(CreateError::NoSpace {
            need,
            free: Some(free),
            place,
        }) = check(1 << 60)
        else {
            panic!("an exbibyte")
        };
        assert!(need == 1 << 60 && free > 0 && place.contains("memory"));
    }
}
