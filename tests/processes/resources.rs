//! Too little of everything: space, inodes, descriptors, address space, rights, time between signals.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Stdio;

use forkmap::{AtomicDict, CreateError, OpenError, OpenOrCreateError, ReplaceError, UnlinkError};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction, signal};
use nix::unistd::{Uid, geteuid, setuid};

use crate::{Role, command, run, test};

/// A segment of 64 pages.
const CAPACITY: u64 = 8000;

pub(crate) const ROLES: &[Role] = &[
    ("full", |_| on_tmpfs("size=1m", full)),
    ("read-only-mount", |_| on_tmpfs("size=1m", read_only_mount)),
    ("inodes", |_| on_tmpfs("nr_inodes=2", no_inodes)),
    ("one-and-a-half", |_| on_tmpfs("size=384k", one_and_a_half)),
    ("join-in", |args| {
        let mut options = AtomicDict::options();
        options.dir(&args[0]).capacity(args[1].parse().unwrap());
        let dict = options.open_or_create("one").unwrap();
        println!("{:032x}", dict.instance_id());
        dict.fetch_add(1, 1).unwrap();
    }),
    ("big-race", |_| on_tmpfs("size=768m", big_race)),
    ("limits", |_| on_tmpfs("size=100m", limits)),
    ("file-size", |_| file_size()),
    ("interrupted", |_| interrupted()),
    ("other-users", |args| other_users(Path::new(&args[0]))),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_full_directory_is_an_error_and_nothing_is_left", || {
            drop(run("full", &[]))
        }),
        test("a_read_only_directory_is_an_error", || {
            drop(run("read-only-mount", &[]))
        }),
        test("a_directory_without_inodes_is_an_error", || {
            drop(run("inodes", &[]))
        }),
        test(
            "ten_creators_share_one_segment_where_only_one_and_a_half_fit",
            || {
                drop(run("one-and-a-half", &[]));
            },
        ),
        test(
            "ten_creators_share_one_large_segment_where_only_one_and_a_half_fit",
            || {
                drop(run("big-race", &[]));
            },
        ),
        test("too_few_descriptors_or_addresses_are_an_error", || {
            drop(run("limits", &[]))
        }),
        test("a_limit_of_the_file_size_is_an_error", || {
            drop(run("file-size", &[]))
        }),
        test("creation_survives_ten_thousand_signals_a_second", || {
            drop(run("interrupted", &[]))
        }),
        test("other_users_segments_are_refused_unless_allowed", || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            drop(run("other-users", &[dir.path().to_str().unwrap()]));
        }),
    ]
}

/// Calls `work` with a fresh tmpfs in a mount namespace of this process's own.
pub(crate) fn on_tmpfs(options: &str, work: fn(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let nothing = None::<&str>;
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_PRIVATE | MsFlags::MS_REC,
                nothing,
            )
        })
        .and_then(|()| {
            mount(
                Some("tmpfs"),
                dir.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                Some(options),
            )
        });
    match mounted {
        Ok(()) => work(dir.path()),
        Err(error) => println!("SKIPPED: cannot mount a tmpfs in a mount namespace: {error}"),
    }
    let _ = nix::mount::umount(dir.path());
}

pub(crate) fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

pub(crate) fn free(dir: &Path) -> u64 {
    let stat = nix::sys::statvfs::statvfs(dir).unwrap();
    stat.blocks_available() * stat.fragment_size()
}

/// S11, U18, FR1.
fn full(dir: &Path) {
    let mut options = AtomicDict::options();
    options.dir(dir).capacity(100_000);
    let need = options.required_bytes().unwrap();
    let room = free(dir);
    for error in [
        options.create("big").unwrap_err(),
        options.create_unique().unwrap_err(),
        match options.open_or_create("big").unwrap_err() {
            OpenOrCreateError::Create(error) => error,
            error => panic!("{error}"),
        },
        match options.create_or_replace("big").unwrap_err() {
            ReplaceError::Create(error) => error,
            error => panic!("{error}"),
        },
    ] {
        let CreateError::NoSpace {
            need: told, free, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(told, need);
        assert!(free.unwrap() <= room, "{free:?} of {room}");
        assert_eq!(
            (entries(dir), self::free(dir)),
            (0, room),
            "nothing is left over"
        );
    }
    // To the last page; and what is there already goes on working, pages untouched so far included.
    let first = options.capacity(CAPACITY).create("first").unwrap();
    let mut n = 0;
    let error = loop {
        match options.create(&format!("more-{n}")) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CreateError::NoSpace { .. }), "{error}");
    assert!(n >= 2);
    let filler = vec![1; free(dir) as usize + 4096];
    assert!(fs::write(dir.join("filler"), filler).is_err());
    assert_eq!(free(dir), 0);
    for key in 0..first.capacity() as u64 {
        first.store(key, key).unwrap();
    }
    assert!(matches!(
        options.create_or_replace("first"),
        Err(ReplaceError::Create(_))
    ));
    assert!(
        first.is_current(),
        "the old segment stays when there is no room for the new one"
    );
    assert!(options.capacity(1).create("x").is_err());
    options.unlink("first").unwrap();
    drop(first);
    options.capacity(CAPACITY).create("again").unwrap();
}

fn read_only_mount(dir: &Path) {
    let mut options = AtomicDict::options();
    options.dir(dir);
    options.create("there").unwrap().store(1, 5).unwrap();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, dir, None::<&str>, flags, None::<&str>).unwrap();
    let error = options.create("new").unwrap_err();
    assert!(
        matches!(error, CreateError::ReadOnlyFilesystem { .. }),
        "{error}"
    );
    let error = options.open("there").unwrap_err();
    assert!(
        matches!(error, OpenError::PermissionDenied { .. }),
        "{error}"
    );
    assert!(matches!(
        options.unlink("there"),
        Err(UnlinkError::PermissionDenied { .. })
    ));
    assert!(options.create_or_replace("there").is_err());
    assert_eq!(options.read_only(true).open("there").unwrap().load(1), 5);
    assert_eq!(entries(dir), 1);
}

/// FR2.
fn no_inodes(dir: &Path) {
    let mut options = AtomicDict::options();
    options.dir(dir);
    options.create("first").unwrap();
    let error = options.create("second").unwrap_err();
    assert!(matches!(error, CreateError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("inodes"), "{error}");
    assert_eq!(entries(dir), 1);
    options.unlink("first").unwrap();
    options.create("second").unwrap();
}

fn one_and_a_half(dir: &Path) {
    for _ in 0..20 {
        race_for_room(dir, CAPACITY);
    }
}

/// So large that reserving it takes a while, in which several hold a part of the room each.
fn big_race(dir: &Path) {
    let available = fs::read_to_string("/proc/meminfo").unwrap();
    let available = available
        .lines()
        .find(|line| line.starts_with("MemAvailable"))
        .unwrap();
    let kilobytes: u64 = available
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    if kilobytes < 2 << 20 {
        return println!("SKIPPED: two gigabytes of free memory are needed");
    }
    race_for_room(dir, 16_000_000);
}

/// Ten processes open or create a segment of which only one and a half fit.
fn race_for_room(dir: &Path, capacity: u64) {
    let mut options = AtomicDict::options();
    let need = options
        .dir(dir)
        .capacity(capacity)
        .required_bytes()
        .unwrap();
    assert!(free(dir) >= need + need / 3 && free(dir) < 2 * need);
    let (path, capacity) = (dir.to_str().unwrap(), capacity.to_string());
    let start = |_| {
        command("join-in", &[path, &capacity])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..10).map(start).collect();
    let ends: Vec<_> = children
        .into_iter()
        .map(|c| c.wait_with_output().unwrap())
        .collect();
    assert!(ends.iter().all(|end| end.status.success()), "{ends:?}");
    assert!(
        ends.iter().all(|end| end.stdout == ends[0].stdout),
        "{ends:?}"
    );
    assert_eq!(options.open("one").unwrap().load(1), 10);
    assert_eq!(entries(dir), 1);
    options.unlink("one").unwrap();
}

/// FR5.
fn limits(dir: &Path) {
    let mut options = AtomicDict::options();
    let dict = options.dir(dir).create("there").unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 4, 4).unwrap();
    let filler: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    for _ in 0..3 {
        let emfile = |source: &std::io::Error| source.raw_os_error() == Some(nix::libc::EMFILE);
        let error = options.create("new").unwrap_err();
        assert!(
            matches!(&error, CreateError::Os { source, .. } if emfile(source)),
            "{error}"
        );
        let error = options.open("there").unwrap_err();
        assert!(
            matches!(&error, OpenError::Os { source, .. } if emfile(source)),
            "{error}"
        );
        assert!(options.anonymous().is_err());
        assert!(options.unlink("there").is_err());
    }
    dict.fetch_add(1, 1).unwrap();
    drop(filler);
    drop(dict);
    assert_eq!(options.open("there").unwrap().load(1), 1);

    let big = options.capacity(1_000_000).required_bytes().unwrap();
    setrlimit(Resource::RLIMIT_AS, big, big).unwrap();
    let room = free(dir);
    let error = options.create("new").unwrap_err();
    assert!(
        matches!(error, CreateError::Os { call: "mmap", .. }),
        "{error}"
    );
    assert_eq!((free(dir), entries(dir)), (room, 1), "all is given back");
    options
        .capacity(1)
        .open("there")
        .unwrap()
        .fetch_add(1, 1)
        .unwrap();
}

/// FR4.
fn file_size() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 16_384, 16_384).unwrap();
    let mut options = AtomicDict::options();
    let error = options
        .dir(dir.path())
        .capacity(CAPACITY)
        .create("new")
        .unwrap_err();
    let efbig = |source: &std::io::Error| source.raw_os_error() == Some(nix::libc::EFBIG);
    assert!(
        matches!(&error, CreateError::Os { source, .. } if efbig(source)),
        "{error}"
    );
    assert_eq!(entries(dir.path()), 0);
    options.capacity(10).create("small").unwrap();
}

/// Has the kernel send SIGALRM every so many microseconds; 0 stops that.
pub(crate) fn alarm_every(microseconds: i64) {
    let interval = nix::libc::timeval {
        tv_sec: 0,
        tv_usec: microseconds,
    };
    let timer = nix::libc::itimerval {
        it_interval: interval,
        it_value: interval,
    };
    // SAFETY: the first pointer is to a whole `itimerval`, the second may be null.
    let done =
        unsafe { nix::libc::setitimer(nix::libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

extern "C" fn on_alarm(_: nix::libc::c_int) {}

/// FR9: without SA_RESTART, so that every call that can be interrupted is.
fn interrupted() {
    let action = SigAction::new(
        SigHandler::Handler(on_alarm),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    alarm_every(100);
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut options = AtomicDict::options();
    options.dir(dir.path()).capacity(1_000_000);
    for _ in 0..10 {
        let dict = options.create("new").unwrap();
        options.open("new").unwrap().store(1, 1).unwrap();
        assert_eq!(dict.load(1), 1);
        options.create_or_replace("new").unwrap();
        options.unlink("new").unwrap();
        options.anonymous().unwrap();
    }
    alarm_every(0);
}

/// FS2, FS3.
fn other_users(dir: &Path) {
    const OTHER: u32 = 4321;
    if !geteuid().is_root() {
        println!("SKIPPED: making another user's segment needs root");
        return;
    }
    let mut options = AtomicDict::options();
    options
        .dir(dir)
        .mode(0o644)
        .create("theirs")
        .unwrap()
        .store(1, 5)
        .unwrap();
    chown(dir.join("theirs"), Some(OTHER), None).unwrap();
    let error = options.open("theirs").unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::ForeignOwner {
                owner: OTHER,
                ours: 0,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        options.unlink("theirs"),
        Err(UnlinkError::Open(OpenError::ForeignOwner { .. }))
    ));
    assert!(options.open_or_create("theirs").is_err());
    assert!(options.create_or_replace("theirs").is_err());
    assert_eq!(
        options
            .clone()
            .allow_owner(OTHER)
            .open("theirs")
            .unwrap()
            .load(1),
        5
    );

    // The other way round, as a user without rights; also through an inherited descriptor.
    options.mode(0o600).create("roots").unwrap();
    let inherited = options.create("handed").unwrap();
    let fd = || {
        std::os::fd::AsFd::as_fd(&inherited)
            .try_clone_to_owned()
            .unwrap()
    };
    fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    setuid(Uid::from_raw(OTHER)).unwrap();
    let error = options.create("new").unwrap_err();
    assert!(
        matches!(error, CreateError::PermissionDenied { .. }),
        "{error}"
    );
    let error = options.open("roots").unwrap_err();
    assert!(
        matches!(error, OpenError::PermissionDenied { .. }),
        "{error}"
    );
    assert!(options.clone().allow_owner(0).open("roots").is_err());
    // Theirs, but in a directory where they may not write.
    assert_eq!(options.open("theirs").unwrap().load(1), 5);
    let error = options.unlink("theirs").unwrap_err();
    assert!(
        matches!(error, UnlinkError::PermissionDenied { .. }),
        "{error}"
    );
    assert!(matches!(
        options.from_fd(fd()),
        Err(OpenError::ForeignOwner { owner: 0, .. })
    ));
    options
        .clone()
        .allow_owner(0)
        .from_fd(fd())
        .unwrap()
        .fetch_add(1, 1)
        .unwrap();
    assert_eq!(inherited.load(1), 1);
}
