//! Stream dictionaries that processes see from different places, with different rights, or all want to
//! create where there is little room.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use forkmap::{AtomicDict, Options, StreamDict, StreamError};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use crate::maps::agreed;
use crate::peer::{Peer, await_value, watchdog};
use crate::resources::{entries, free, on_tmpfs};
use crate::streams::{Numbers, StreamName, check_files, files};
use crate::streams_names::write_on;
use crate::{Role, command, run, test};

const SEEN: u64 = 10;
const GO: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("stream-other-mounts", |args| other_mounts(&args[0])),
    ("stream-groups", |args| groups(Path::new(&args[0]))),
    ("stream-big-race", |_| on_tmpfs("size=768m", big_race)),
    ("stream-join-in", |args| {
        let mut options = Numbers::options();
        options.dir(&args[0]).log_bytes(args[1].parse().unwrap());
        let stream = options.open_or_create("one").unwrap();
        let more = |n: Option<&u64>| Some(n.copied().unwrap_or(0) + 1);
        stream.fetch_update(&1, more).unwrap();
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_a_worker_with_mounts_of_its_own_harms_nobody_else",
            || {
                drop(run("stream-other-mounts", &[&StreamName::new("mounts")]));
            },
        ),
        test("stream_generations_keep_their_group", || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            drop(run("stream-groups", &[dir.path().to_str().unwrap()]));
        }),
        test(
            "stream_ten_creators_share_one_where_only_one_and_a_half_fit",
            || {
                drop(run("stream-big-race", &[]));
            },
        ),
    ]
}

/// Puts an empty file system in front of the shared memory directory, for this process alone.
fn cover() -> nix::Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(nothing, "/", nothing, flags, nothing)?;
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/dev/shm", tmpfs, MsFlags::empty(), nothing)
}

#[track_caller]
fn is_elsewhere<T: std::fmt::Debug>(result: Result<T, StreamError>) {
    assert!(
        matches!(result, Err(StreamError::Elsewhere { .. })),
        "{result:?}"
    );
}

/// A child that inherits a handle, and then sees another `/dev/shm`, as sandboxed ones do.
fn other_mounts(name: &str) {
    watchdog();
    let dict: AtomicDict = agreed();
    let stream = Numbers::options().log_bytes(256).create(name).unwrap();
    stream.set(&1, &1).unwrap();
    let worker = || {
        if let Err(error) = cover() {
            println!("SKIPPED: cannot mount a tmpfs in a mount namespace: {error}");
            std::process::exit(0);
        }
        let shm = Path::new("/dev/shm");
        let (written, error) = write_on(&stream, 2, 1000);
        is_elsewhere(error.map_or(Ok(()), Err));
        assert_eq!((entries(shm), free(shm) > 0), (0, true));
        assert_eq!(stream.get(&2).unwrap(), Some(written));
        dict.store(SEEN, written).unwrap();
        await_value(&dict, GO, 1);
        // It has gone on without this one.
        is_elsewhere(stream.get(&1));
        is_elsewhere(stream.set(&1, &5));
        is_elsewhere(stream.dump());
        assert_eq!(entries(shm), 0);
        umount(shm).unwrap();
        assert_eq!(stream.get(&1).unwrap(), Some(1000));
        assert!(write_on(&stream, 2, 1000).1.is_none());
    };
    let worker = Peer::fork(worker);
    while dict.load(SEEN) == 0 && !worker.has_ended() {
        std::thread::yield_now();
    }
    let written = dict.load(SEEN);
    if written > 0 {
        assert_eq!(stream.get(&2).unwrap(), Some(written));
        let newcomer = Numbers::open(name).unwrap();
        for stream in [&stream, &newcomer] {
            let (written, error) = write_on(stream, 1, 1000);
            assert!(written == 1000, "{error:?}");
        }
        assert_eq!(files(name).len(), 2);
        dict.store(GO, 1).unwrap();
    }
    worker.join();
    if written > 0 {
        assert_eq!(stream.get(&2).unwrap(), Some(1000));
        check_files(name, stream);
    }
}

/// Does `work` in a child of that user, whose groups these are.
fn as_user(user: u32, groups: &[u32], work: impl FnOnce()) {
    let in_child = || {
        let ids: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&ids).unwrap();
        setresgid(ids[0], ids[0], ids[0]).unwrap();
        let user = Uid::from_raw(user);
        setresuid(user, user, user).unwrap();
        work();
    };
    Peer::fork(in_child).join();
}

/// Two users share a dictionary by way of a group that is the first one of only one of them.
fn groups(dir: &Path) {
    const SHARED: u32 = 5000;
    const OWN: u32 = 6000;
    watchdog();
    if !geteuid().is_root() {
        println!("SKIPPED: other users' dictionaries need root");
        return;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut options = Numbers::options();
    options.dir(dir).log_bytes(64).mode(0o660);
    options
        .allow_owner(1001)
        .allow_owner(1002)
        .allow_owner(1003);
    let write = |options: &Options<StreamDict<u64, u64>>| {
        let stream = options.open("dict").unwrap();
        let (written, error) = write_on(&stream, 1, 20);
        assert!(written == 20, "{error:?}");
    };
    // Of whom the generation is, and of which group both files.
    let check = |owner: u32| {
        let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        for file in files {
            let stat = file.metadata().unwrap();
            let of = if file.file_name() == "dict" {
                1001
            } else {
                owner
            };
            let found = (stat.uid(), stat.gid(), stat.mode() & 0o777);
            assert_eq!(found, (of, SHARED, 0o660), "{file:?}");
        }
    };
    as_user(1001, &[SHARED], || {
        options.create("dict").unwrap();
    });
    as_user(1002, &[OWN, SHARED], || write(&options));
    check(1002);
    as_user(1001, &[SHARED], || write(&options));
    check(1001);
    as_user(1003, &[OWN, SHARED], || write(&options));
    check(1003);
    write(&options);
    options.allow_owner(0);
    check(0);
    as_user(1001, &[SHARED], || write(&options));
    // Who may not give it to the group goes on nevertheless: that one is let in by other rights.
    fs::set_permissions(dir.join("dict"), fs::Permissions::from_mode(0o666)).unwrap();
    as_user(1002, &[SHARED], || {
        options.open("dict").unwrap().dump().unwrap()
    });
    as_user(1003, &[OWN], || write(&options));
    as_user(1001, &[SHARED], || write(&options));
    options.unlink("dict").unwrap();
    assert_eq!(entries(dir), 0);
}

/// Ten processes open or create a dictionary of which only one and a half fit.
fn big_race(dir: &Path) {
    const LOG_BYTES: u64 = 512_000_000;
    let kilobytes = available_kilobytes();
    if kilobytes < 2 << 20 {
        return println!("SKIPPED: two gigabytes of free memory are needed");
    }
    assert!(free(dir) > LOG_BYTES && free(dir) < 2 * LOG_BYTES);
    let args = [dir.to_str().unwrap(), &LOG_BYTES.to_string()];
    let start = |_| {
        let mut command = command("stream-join-in", &args);
        command.stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..10).map(start).collect();
    let ends: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    assert!(ends.iter().all(|end| end.status.success()), "{ends:?}");
    let mut options = Numbers::options();
    let stream = options.dir(dir).open("one").unwrap();
    assert_eq!(stream.get(&1).unwrap(), Some(10));
    assert_eq!(entries(dir), 2);
    drop(stream);
    options.unlink("one").unwrap();
}

/// Kilobytes of memory that can be had.
fn available_kilobytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}
