//! What another thread of the same program does between any two system calls of a registration, or of a
//! recovery.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forkmap::{AtomicDict, Lock, ParticipantError, SharedHashMap};
use libtest_mimic::Trial;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::Name;
use crate::participants::{CHILD, close_all_descriptors};
use crate::peer::{GO, LOCK, Peer, STEP, await_value, go_on, held, sleep_for_ever, told, watchdog};
use crate::{Role, command, run, test};

pub(crate) const ROLES: &[Role] = &[
    ("forked-while-registering", |args| {
        forked_while_registering(&args[0]);
    }),
    ("closed-while-recovering", |args| {
        closed_while_recovering(&args[0]);
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "a_child_forked_while_its_parent_registers_keeps_it_alive",
            || {
                let name = Name::new("registering");
                print!("{}", run("forked-while-registering", &[&name]));
            },
        ),
        test(
            "map_writers_live_on_when_descriptors_are_closed_while_others_recover",
            || {
                let name = Name::new("recovering");
                print!("{}", run("closed-while-recovering", &[&name]));
            },
        ),
    ]
}

/// How a dead one that looks alive is got rid of.
#[derive(Debug, Clone, Copy)]
enum WayOut {
    ChildEnds,
    ChildExecs,
    Force,
}

/// Kills the child of another process at the latest when this one fails.
struct Orphan(Pid);

impl Drop for Orphan {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

/// A limit, and where it ends: while a thread registers its process, another one forks. The child has the
/// descriptor by which the byte is locked, if that is open just then; its parent goes on, takes a lock
/// and is killed. At each system call from the opening to the closing.
fn forked_while_registering(name: &str) {
    set_child_subreaper(true).unwrap();
    watchdog();
    for way in [WayOut::ChildEnds, WayOut::ChildExecs, WayOut::Force] {
        let mut points = 0;
        loop {
            match forked_at(name, points, way) {
                Some(true) => points += 1,
                Some(false) => break,
                None => return,
            }
        }
        println!("{way:?}: forked at {points} points with the descriptor open");
        assert!(points >= 10, "locks and a page take more calls than that");
    }
}

/// One fork, at the `n`-th point. Whether the descriptor was open there; `None` if tracing is not
/// permitted.
fn forked_at(name: &str, n: usize, way: WayOut) -> Option<bool> {
    let mut options = AtomicDict::options();
    let dict = options.capacity(2000).create_or_replace(name).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let victim = registering(&dict, name)?;
    let open = run_into_opening(&victim, name, n);
    go_on(&dict, 1);
    await_value(&dict, CHILD, 1);
    let child = Orphan(Pid::from_raw(dict.load(CHILD) as i32));
    ptrace::detach(victim.0, None).unwrap();
    let done = WaitStatus::Stopped(victim.0, Signal::SIGSTOP);
    assert_eq!(waitpid(victim.0, Some(WaitPidFlag::WUNTRACED)), Ok(done));
    let (pid, point) = (victim.pid(), format!("point {n}, {way:?}"));
    assert_eq!(held(lock.try_lock()), Some(pid), "{point}");
    victim.kill();

    let listed = || {
        let all = dict.participants().unwrap();
        all.iter().find(|one| one.pid == pid).unwrap().is_alive
    };
    assert_eq!(listed(), open, "{point}");
    if open {
        assert_eq!(held(lock.try_lock()), Some(pid), "{point}");
        match way {
            WayOut::ChildEnds => {
                let short = Duration::from_millis(60);
                assert_eq!(held(lock.lock_timeout(short)), Some(pid), "{point}");
                drop(child);
            }
            WayOut::ChildExecs => {
                go_on(&dict, 2);
                await_value(&dict, STEP, 1);
            }
            WayOut::Force => assert!(lock.force_unlock()),
        }
    }
    // At once.
    let mut guard = told(lock.try_lock());
    assert_eq!(guard.poisoned_by(), Some(pid), "{point}");
    guard.clear_poison();
    drop(guard);
    drop(lock.lock().expect("in good order"));
    let forced = open && matches!(way, WayOut::Force);
    assert_eq!(listed(), forced, "{point}");
    Some(open)
}

/// A process that does `work` under our eyes, once it is told to go on. `None` if tracing is not permitted.
fn traced(work: impl FnOnce(&dyn Fn())) -> Option<Peer> {
    const NOT_PERMITTED: i32 = 3;
    let victim = Peer::fork(|| {
        work(&|| {
            if let Err(error) = ptrace::traceme() {
                println!("SKIPPED: no permission to trace a process: {error}");
                std::process::exit(NOT_PERMITTED);
            }
            raise(Signal::SIGSTOP).unwrap();
        });
    });
    match waitpid(victim.0, None).unwrap() {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => Some(victim),
        WaitStatus::Exited(_, NOT_PERMITTED) => None,
        other => panic!("{other:?}"),
    }
}

/// A process that is stopped before it registers and takes [`LOCK`], and stops itself once more when it
/// has it. Another thread of it forks a child when it is told to. `None` if tracing is not permitted.
fn registering(dict: &AtomicDict, name: &str) -> Option<Peer> {
    traced(|begin| {
        let lock = Lock::new(dict, LOCK).unwrap();
        let (dict, name) = (dict.clone(), name.to_owned());
        std::thread::spawn(move || {
            await_value(&dict, GO, 1);
            let child = Peer::fork_detached(|| {
                await_value(&dict, GO, 2);
                let mut next = command("after-exec", &[&name]);
                let error = std::os::unix::process::CommandExt::exec(&mut next);
                panic!("{error}");
            });
            dict.store(CHILD, u64::from(child.pid())).unwrap();
        });
        // This thread, and not that one.
        begin();
        let _guard = lock.lock().unwrap();
        raise(Signal::SIGSTOP).unwrap();
    })
}

/// Runs it to the `n`-th entry or exit of a system call, counted from where it has opened the segment
/// once more. Whether it has that open still.
fn run_into_opening(victim: &Peer, name: &str, n: usize) -> bool {
    let inode = |path: PathBuf| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    let segment = inode(Path::new("/dev/shm").join(name)).unwrap();
    let is_open = || {
        let all = fs::read_dir(format!("/proc/{}/fd", victim.0)).unwrap();
        let leads = |fd: &fs::DirEntry| inode(fd.path()).is_ok_and(|file| file == segment);
        // The first is the dictionary's.
        all.filter(|fd| leads(fd.as_ref().unwrap())).count() > 1
    };
    let stop = || {
        ptrace::syscall(victim.0, None).unwrap();
        let stopped = WaitStatus::Stopped(victim.0, Signal::SIGTRAP);
        assert_eq!(
            waitpid(victim.0, None),
            Ok(stopped),
            "it never opens it, or never closes it"
        );
        is_open()
    };
    while !stop() {}
    (0..n).fold(true, |_, _| stop())
}

/// One thread recovers the dead writers, and another one of its process closes all descriptors, and opens
/// other files under their numbers, on which every byte is free. Between any two system calls of it.
fn closed_while_recovering(name: &str) {
    watchdog();
    let ways: [Recovering; 2] = [
        ("recover", |map| map.recover().map(drop)),
        ("first change", |map| match map.set(&3, &3) {
            Err(forkmap::WriteError::Writer(error)) => Err(error),
            done => {
                done.unwrap();
                Ok(())
            }
        }),
    ];
    for way in ways {
        let (mut points, mut noticed) = (0, 0);
        loop {
            match closed_at(name, points, way) {
                Some((true, closed)) => {
                    points += 1;
                    noticed += usize::from(closed);
                }
                Some((false, _)) => break,
                None => return,
            }
        }
        println!("{}: closed at {points} points, noticed at {noticed}", way.0);
        assert!(points >= 10 && noticed >= 5, "{points} {noticed}");
    }
}

type Recovering = (
    &'static str,
    fn(&SharedHashMap<u64, u64>) -> Result<(), ParticipantError>,
);

/// Closes them at the `n`-th point. Whether the descriptor was open there, and whether it was missed;
/// `None` if tracing is not permitted.
fn closed_at(name: &str, n: usize, (what, recover): Recovering) -> Option<(bool, bool)> {
    const CLOSED: u64 = 2;
    let point = format!("{what}, point {n}");
    let steps = AtomicDict::anonymous(10).unwrap();
    let mut options = SharedHashMap::<u64, u64>::options();
    let map = options
        .capacity(10)
        .participants(4)
        .create_or_replace(name)
        .unwrap();
    let writer = |key: u64| {
        let peer = Peer::fork(|| {
            map.set(&key, &key).unwrap();
            steps.store(STEP, key).unwrap();
            sleep_for_ever();
        });
        await_value(&steps, STEP, key);
        peer
    };
    let (living, dead) = (writer(1), writer(2));
    let living_pid = living.pid();
    dead.kill();
    steps.store(STEP, 0).unwrap();
    let other = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let victim = traced(|begin| {
        let dict = steps.clone();
        let other = other.path().to_owned();
        std::thread::spawn(move || {
            await_value(&dict, GO, 1);
            close_all_descriptors();
            let open = |_| File::options().read(true).write(true).open(&other).unwrap();
            let files: Vec<_> = (0..20).map(open).collect();
            dict.store(STEP, 1).unwrap();
            std::mem::forget(files);
            sleep_for_ever();
        });
        begin();
        let done = match recover(&map) {
            Ok(()) => 1,
            Err(ParticipantError::DescriptorClosed) => CLOSED,
            Err(error) => panic!("{error}"),
        };
        steps.store(GO, 10 + done).unwrap();
        // As it stands: the files are none of its business.
        sleep_for_ever();
    })?;
    let open = run_into_opening(&victim, name, n);
    go_on(&steps, 1);
    await_value(&steps, STEP, 1);
    ptrace::detach(victim.0, None).unwrap();
    await_value(&steps, GO, 11);
    let closed = steps.load(GO) == 10 + CLOSED;
    victim.kill();

    let all = map.participants().unwrap();
    let lives = all.iter().any(|one| one.pid == living_pid && one.is_alive);
    assert!(lives, "{point}: {all:?}");
    map.recover().unwrap();
    assert_eq!(map.check(), Vec::<String>::new(), "{point}");
    assert_eq!(map.get(&1).unwrap(), Some(1), "{point}");
    assert_eq!(map.stats().unwrap().dead_writers, 0, "{point}");
    living.kill();
    Some((open, closed))
}
