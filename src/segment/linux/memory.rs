//! How much memory a new segment may take without driving the machine, or its container, out of it.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

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
    let own = own_group();
    // From the innermost on.
    let groups = own.iter().flat_map(|own| own.ancestors());
    let groups = groups.take_while(|dir| dir.starts_with(CGROUPS));
    let groups = groups.filter_map(|group| Some((room(group)?, Some(group))));
    let machine = free_here().map(|free| (free, None));
    match machine.into_iter().chain(groups).min() {
        Some((free, group)) if free < need => Err(CreateError::NoSpace {
            need,
            free: Some(free),
            place: match group {
                None => "the memory of this machine".to_owned(),
                Some(group) => format!("the memory of the control group {}", group.display()),
            },
        }),
        _ => Ok(()),
    }
}

/// What is left on this machine, counting what can be reclaimed or swapped out.
fn free_here() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = number(&info, "MemAvailable:")?.saturating_add(number(&info, "SwapFree:")?);
    Some(kib.saturating_mul(1024))
}

/// The innermost control group around this process.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(CGROUPS).join(own))
}

/// What is left in a group: its limit, less what it uses, but what can be reclaimed is not used.
/// `None` if it has no limit ("max").
fn room(group: &Path) -> Option<u64> {
    let read = |file| fs::read_to_string(group.join(file)).ok();
    let (limit, used) = (
        number(&read("memory.max")?, "")?,
        number(&read("memory.current")?, "")?,
    );
    let stat = read("memory.stat").unwrap_or_default();
    let reclaimable = ["inactive_file ", "active_file ", "slab_reclaimable "];
    let used = reclaimable.iter().fold(used, |used, name| {
        used.saturating_sub(number(&stat, name).unwrap_or(0))
    });
    Some(limit.saturating_sub(used))
}

/// The number in that line of a table of the kernel that begins with `name`.
fn number(table: &str, name: &str) -> Option<u64> {
    let rest = table.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
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
    fn a_number_is_that_of_the_whole_name() {
        let table = "MemTotal:  5 kB\nMemAvailable:\t 18446744073709551615 kB\nMem 7\n";
        assert_eq!(number(table, "MemAvailable:"), Some(u64::MAX));
        assert_eq!(number(table, "Mem "), Some(7));
        assert_eq!(number(table, "SwapFree:"), None);
        assert_eq!(number("max\n", ""), None);
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
