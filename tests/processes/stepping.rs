//! What another thread of the same program does between any two system calls of a registration, or of a
//! recovery.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
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

/// What another thread opens under the numbers of the descriptors that it has closed.
#[derive(Debug, Clone, Copy)]
enum Reopened {
    Nothing,
    /// A file where every byte is free.
    Other,
    Pipe,
    /// The segment itself, once more.
    Segment,
}

/// One thread recovers the dead writers, or becomes one, and another one of its process closes all
/// descriptors, and opens something else under their numbers. Between any two system calls of it.
fn closed_while_recovering(name: &str) {
    use Reopened::{Nothing, Other, Pipe, Segment};
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
        for reopened in [Nothing, Other, Pipe, Segment] {
            let (mut points, mut noticed) = (0, 0);
            loop {
                match closed_at(name, points, way, reopened) {
                    Some((true, closed)) => {
                        points += 1;
                        noticed += usize::from(closed);
                    }
                    Some((false, _)) => break,
                    None => return,
                }
            }
            let what = way.0;
            println!("{what}, {reopened:?}: closed at {points} points, noticed at {noticed}");
            assert!(points >= 10 && noticed >= 10, "{points} {noticed}");
        }
    }
}

type Recovering = (
    &'static str,
    fn(&SharedHashMap<u64, u64>) -> Result<(), ParticipantError>,
);

/// Closes them at the `n`-th point. Whether the descriptor was open there, and whether it was missed;
/// `None` if tracing is not permitted.
fn closed_at(
    name: &str,
    n: usize,
    (what, recover): Recovering,
    reopened: Reopened,
) -> Option<(bool, bool)> {
    const DONE: u64 = 11;
    const CLOSED: u64 = 12;
    let point = format!("{what}, {reopened:?}, point {n}");
    let steps = AtomicDict::anonymous(10).unwrap();
    let mut options = SharedHashMap::<u64, u64>::options();
    let map = options.capacity(10).participants(4);
    let map = map.create_or_replace(name).unwrap();
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
    dead.kill();
    steps.store(STEP, 0).unwrap();
    let other = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    let victim = traced(|begin| {
        let dict = steps.clone();
        let (other, segment) = (other.path().to_owned(), Path::new("/dev/shm").join(name));
        std::thread::spawn(move || {
            await_value(&dict, GO, 1);
            let numbers = fs::read_dir("/proc/self/fd").unwrap();
            let numbers = numbers.map(|fd| fd.unwrap().file_name().into_string().unwrap());
            let most = numbers.map(|fd| fd.parse::<i32>().unwrap()).max().unwrap();
            close_all_descriptors();
            let open = |path| File::options().read(true).write(true).open(path).unwrap();
            let mut opened: Vec<OwnedFd> = Vec::new();
            while opened.last().is_none_or(|fd| fd.as_raw_fd() < most) {
                match reopened {
                    Reopened::Nothing => break,
                    Reopened::Other => opened.push(open(&other).into()),
                    Reopened::Segment => opened.push(open(&segment).into()),
                    Reopened::Pipe => opened.extend(<[_; 2]>::from(nix::unistd::pipe().unwrap())),
                }
            }
            dict.store(STEP, 1).unwrap();
            await_value(&dict, GO, DONE + 10);
            // By their numbers: some may have been closed by the other thread, which takes them for its own.
            opened
                .into_iter()
                .for_each(|fd| _ = nix::unistd::close(fd.into_raw_fd()));
            dict.store(STEP, 2).unwrap();
            sleep_for_ever();
        });
        begin();
        let done = match recover(&map) {
            Ok(()) => DONE,
            Err(ParticipantError::DescriptorClosed) => CLOSED,
            Err(error) => panic!("{error}"),
        };
        steps.store(GO, done).unwrap();
        // As it stands: what was opened is none of its business.
        sleep_for_ever();
    })?;
    let open = run_into_opening(&victim, name, n);
    go_on(&steps, 1);
    await_value(&steps, STEP, 1);
    ptrace::detach(victim.0, None).unwrap();
    await_value(&steps, GO, DONE);
    let closed = steps.load(GO) == CLOSED;
    let lives = |peer: &Peer| {
        let all = map.participants().unwrap();
        all.iter().any(|one| one.pid == peer.pid() && one.is_alive)
    };
    let is_writer = what == "first change" && !closed;
    assert_eq!(lives(&victim), is_writer, "{point}");
    steps.store(GO, DONE + 10).unwrap();
    await_value(&steps, STEP, 2);
    assert_eq!(lives(&victim), is_writer, "{point}, all closed");
    assert!(lives(&living), "{point}");
    map.recover().unwrap();
    assert_eq!(lives(&victim), is_writer, "{point}, recovered");
    victim.kill();

    assert!(lives(&living), "{point}, in the end");
    map.recover().unwrap();
    assert_eq!(map.check(), Vec::<String>::new(), "{point}");
    assert_eq!(map.get(&1).unwrap(), Some(1), "{point}");
    assert_eq!(map.stats().unwrap().dead_writers, 0, "{point}");
    living.kill();
    Some((open, closed))
}
