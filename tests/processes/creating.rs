//! Creation under a race, under SIGKILL, and with others looking on.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, CreateError, OpenError, ReplaceError, UnlinkError};
use libtest_mimic::Trial;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::Name;
use crate::{Role, command, run, spawn, test, wait_all};

/// How a child ends that finds the name taken.
const TAKEN: i32 = 3;

/// The role of a child that does one thing in a directory.
const ROLE: &str = "create-in";

pub(crate) const ROLES: &[Role] = &[
    ("join", |args| {
        let dict = AtomicDict::open_or_create(&args[0], 5000).unwrap();
        dict.fetch_add(0, 1).unwrap();
        println!("{:032x}", dict.instance_id());
    }),
    ("replace", |args| {
        for _ in 0..50 {
            let dict = AtomicDict::options()
                .capacity(10)
                .create_or_replace(&args[0])
                .unwrap();
            dict.store(1, 1).unwrap();
        }
    }),
    ("replace-and-unlink-own", |args| {
        for _ in 0..50 {
            let mut options = AtomicDict::options();
            let dict = options
                .capacity(10)
                .unlink_on_drop(true)
                .create_or_replace(&args[0]);
            dict.unwrap().close().unwrap();
        }
    }),
    ("write-early", |args| {
        let dict = loop {
            match AtomicDict::open(&args[0]) {
                Ok(dict) => break dict,
                Err(OpenError::NotFound { .. }) => {}
                Err(error) => panic!("a half-made segment was seen: {error}"),
            }
        };
        (0..100).for_each(|key| _ = dict.fetch_add(key, 1).unwrap());
    }),
    ("attach-and-leave", |args| {
        let dict = AtomicDict::open(&args[0]).unwrap();
        assert_eq!(dict.load(1), 7);
    }),
    (ROLE, |args| {
        let mut options = AtomicDict::options();
        options.dir(&args[1]).capacity(1000);
        // Here the parent starts to count.
        raise(Signal::SIGSTOP).unwrap();
        match &*args[0] {
            "nothing" => {}
            "bad-names" => {
                for bad in ["", "a/b", "..", "a\n"] {
                    let _ = options.open(bad).unwrap_err();
                    let _ = options.open_or_create(bad).unwrap_err();
                    let _ = options.unlink(bad).unwrap_err();
                }
            }
            "create" => drop(options.create("victim").unwrap()),
            "open_or_create" => drop(options.open_or_create("victim").unwrap()),
            "create_or_replace" => drop(options.create_or_replace("victim").unwrap()),
            "unlink_on_drop" => match options.unlink_on_drop(true).create("victim") {
                Ok(dict) => drop(dict),
                Err(CreateError::AlreadyExists { .. }) => std::process::exit(TAKEN),
                Err(error) => panic!("{error}"),
            },
            "unlink" => options.unlink("victim").unwrap(),
            verb => panic!("{verb}"),
        }
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("ten_racing_creators_share_one_segment", || {
            for _ in 0..20 {
                let name = Name::new("race");
                race(&name);
                assert_eq!(AtomicDict::open(&name).unwrap().load(0), 10);
            }
        }),
        test("racing_replacers_leave_one_segment", || {
            let name = Name::new("replace");
            wait_all((0..4).map(|_| spawn("replace", &[&name])));
            assert_eq!(AtomicDict::open(&name).unwrap().load(1), 1);
        }),
        test("racing_replacers_that_clean_up_leave_nothing", || {
            let name = Name::new("replace-unlink");
            wait_all((0..4).map(|_| spawn("replace-and-unlink-own", &[&name])));
            assert!(!name.exists());
        }),
        test(
            "what_is_written_early_is_not_wiped_by_the_creator",
            written_early,
        ),
        test(
            "a_process_that_attaches_and_leaves_takes_nothing_with_it",
            || {
                let name = Name::new("leave");
                let dict = AtomicDict::create(&name, 10).unwrap();
                dict.store(1, 7).unwrap();
                for _ in 0..5 {
                    run("attach-and-leave", &[&name]);
                }
                assert!(dict.is_current());
            },
        ),
        #[cfg(target_arch = "x86_64")]
        test("a_bad_name_makes_no_system_call", bad_names),
        #[cfg(target_arch = "x86_64")]
        test(
            "on_a_disk_the_header_is_written_out_before_the_name_is_given",
            header_before_name,
        ),
        test(
            "a_stopped_process_that_goes_on_takes_away_no_newer_segment",
            stopped_unlinkers,
        ),
        test(
            "a_creator_killed_at_any_system_call_leaves_nothing_or_a_whole_segment",
            killed_creators,
        ),
    ]
}

/// Ten processes open or create one name at once; all must end in the same segment.
pub(crate) fn race(name: &str) {
    let start = |_| {
        command("join", &[name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children: Vec<_> = (0..10).map(start).collect();
    let outputs: Vec<_> = children
        .into_iter()
        .map(|c| c.wait_with_output().unwrap())
        .collect();
    assert!(
        outputs.iter().all(|output| output.status.success()),
        "{outputs:?}"
    );
    let ids: HashSet<_> = outputs.iter().map(|output| &output.stdout).collect();
    assert_eq!(ids.len(), 1, "{outputs:?}");
}

/// S10.
fn written_early() {
    for _ in 0..30 {
        let name = Name::new("early");
        let writer = spawn("write-early", &[&name]);
        let dict = AtomicDict::create(&name, 20_000).unwrap();
        wait_all([writer]);
        assert!((0..100).all(|key| dict.load(key) == 1));
    }
}

/// FP7, FP8: what a process leaves in the file system changes only in system calls, so killing it at
/// the entry and at the exit of each of them is killing it at every instruction.
fn killed_creators() {
    for verb in [
        "create",
        "open_or_create",
        "create_or_replace",
        "unlink_on_drop",
        "unlink",
    ] {
        let (mut points, mut left) = (0, 0);
        loop {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let mut options = AtomicDict::options();
            options.dir(dir.path());
            let old = (verb == "create_or_replace" || verb == "unlink")
                .then(|| options.create("victim").unwrap().instance_id());
            let finished = kill_at_system_call(ROLE, verb, dir.path(), points);
            let names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            match &names[..] {
                [] => {}
                [name] if name == "victim" => {
                    let dict = options.open("victim").expect("a whole segment");
                    assert!(Some(dict.instance_id()) == old || dict.capacity() == 2000);
                    dict.fetch_add(1, 1).unwrap();
                    left += 1;
                }
                _ => panic!("{verb}, system call {points}: {names:?} is left"),
            }
            // Whatever is there, the next one gets on at once.
            options.open_or_create("victim").unwrap();
            options.create_or_replace("victim").unwrap();
            options.unlink("victim").unwrap();
            if finished {
                break;
            }
            points += 1;
        }
        println!("{verb}: killed at {points} stops, a whole segment was left {left} times");
        assert!(points >= 20 && left > 0 && left < points);
    }
}

/// FP3: stopped at every system call of creating, dropping and taking its own name away, while a rival
/// replaces the segment, and resumed. The rival's is never taken away.
fn stopped_unlinkers() {
    let (mut points, mut busy) = (0, 0);
    loop {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut options = AtomicDict::options();
        options.dir(dir.path());
        let Some(stopped) = run_to_system_call(ROLE, "unlink_on_drop", dir.path(), points) else {
            break;
        };
        let rival = options.create_or_replace("victim");
        ptrace::detach(stopped, None).unwrap();
        let end = waitpid(stopped, None).unwrap();
        match rival {
            Ok(rival) => assert!(rival.is_current(), "taken away by one stopped at {points}"),
            // The name is about to go: its lock is held.
            Err(ReplaceError::Unlink(UnlinkError::Busy { .. })) => busy += 1,
            Err(error) => panic!("{error}"),
        }
        // It found the name taken, or made its segment and saw it replaced.
        assert!(matches!(end, WaitStatus::Exited(_, 0 | TAKEN)), "{end:?}");
        points += 1;
    }
    println!("stopped at {points} points, a rival gave up at {busy}");
    assert!(points >= 50 && (1..10).contains(&busy));
}

/// FS1.
#[cfg(target_arch = "x86_64")]
fn bad_names() {
    use nix::libc::{SYS_brk, SYS_mmap, SYS_munmap};
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let calls = |verb| {
        let mut calls = system_calls(verb, dir.path());
        // Memory for the errors.
        calls.retain(|call| ![SYS_brk, SYS_mmap, SYS_munmap].contains(call));
        calls
    };
    assert_eq!(calls("bad-names"), calls("nothing"));
}

/// A power cut must not leave a name that leads to a header that never came to the disk.
#[cfg(target_arch = "x86_64")]
fn header_before_name() {
    use nix::libc::{SYS_fsync, SYS_linkat};
    let order = |dir: &Path| {
        let mut calls = system_calls("create", dir);
        calls.retain(|call| [SYS_fsync, SYS_linkat].contains(call));
        calls
    };
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_eq!(order(memory.path()), [SYS_linkat]);
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let kind = nix::sys::statfs::statfs(disk.path())
        .unwrap()
        .filesystem_type();
    if kind == nix::sys::statfs::TMPFS_MAGIC {
        eprintln!("SKIPPED: the build directory is on a tmpfs");
    } else {
        assert_eq!(order(disk.path()), [SYS_fsync, SYS_linkat]);
    }
}

/// The system calls of a child in its role, by number.
#[cfg(target_arch = "x86_64")]
fn system_calls(verb: &str, dir: &Path) -> Vec<i64> {
    let pid = run_to_system_call(ROLE, verb, dir, 0).unwrap();
    let mut calls = Vec::new();
    loop {
        // Entry and exit of each call.
        for stop in 0..2 {
            ptrace::syscall(pid, None).unwrap();
            match waitpid(pid, None).unwrap() {
                WaitStatus::Exited(_, 0) => return calls,
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
                other => panic!("{verb}: {other:?}"),
            }
            if stop == 0 {
                calls.push(ptrace::getregs(pid).unwrap().orig_rax as i64);
            }
        }
    }
}

/// Runs a child to its `n`-th stop at a system call (entry or exit) and kills it there. `true` if it
/// ended before.
pub(crate) fn kill_at_system_call(role: &str, verb: &str, dir: &Path, n: usize) -> bool {
    let Some(pid) = run_to_system_call(role, verb, dir, n) else {
        return true;
    };
    ptrace::kill(pid).unwrap();
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => return false,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Starts a child and has it stop at the `n`-th entry or exit of a system call. `None` if it ends
/// before.
pub(crate) fn run_to_system_call(role: &str, verb: &str, dir: &Path, n: usize) -> Option<Pid> {
    let mut command = command(role, &[verb, dir.to_str().unwrap()]);
    command.stderr(Stdio::null());
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    #[expect(
        clippy::zombie_processes,
        reason = "waited for by its pid, stop by stop"
    )]
    let child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let patience = Instant::now() + Duration::from_secs(60);
    // The stop at the exec, and then the child's own: only stops after that count.
    let stopped = |signal| assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, signal)));
    stopped(Signal::SIGTRAP);
    ptrace::cont(pid, None).unwrap();
    stopped(Signal::SIGSTOP);
    for _ in 0..n {
        assert!(Instant::now() < patience);
        ptrace::syscall(pid, None).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Exited(_, 0) => return None,
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            other => panic!("{verb}: {other:?}"),
        }
    }
    Some(pid)
}
