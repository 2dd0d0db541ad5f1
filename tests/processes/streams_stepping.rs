//! Stream dictionaries whose processes are killed and stopped at every single system call.
//!
//! What a process leaves in the file system changes only there.

use std::path::Path;
use std::time::Instant;

use forkmap::{CreateError, OpenError, Options, StreamError, UnlinkError};
use libtest_mimic::Trial;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::creating::{kill_at_system_call, run_to_system_call};
use crate::peer::PATIENCE;
use crate::streams::{Numbers, files_in};
use crate::streams_names::write_on;
use crate::{Role, test};

const ROLE: &str = "stream-step";

/// How a child ends that finds the name taken.
const TAKEN: i32 = 3;

const KEYS: u64 = 10;

pub(crate) const ROLES: &[Role] = &[(ROLE, |args| {
    let options = options(Path::new(&args[1]));
    let open = || options.open("victim").unwrap();
    // Here the parent starts to count.
    let ready = || raise(Signal::SIGSTOP).unwrap();
    match &*args[0] {
        "create" => {
            ready();
            finish(options.create("victim"));
        }
        "unlink_on_drop" => {
            ready();
            finish(options.clone().unlink_on_drop(true).create("victim"));
        }
        "unlink" => {
            ready();
            match options.unlink("victim") {
                Ok(()) | Err(UnlinkError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        "open" => {
            ready();
            assert_eq!(open().get(&0).unwrap(), Some(0));
        }
        "fill" => {
            let stream = open();
            ready();
            let before = stream.status().unwrap().dumps;
            while stream.status().unwrap().dumps == before {
                stream.set(&0, &0).unwrap();
            }
        }
        "follow" => {
            let (writer, reader) = (open(), open());
            writer.dump().unwrap();
            ready();
            assert_eq!(reader.get(&0).unwrap(), Some(0));
        }
        verb => panic!("{verb}"),
    }
})];

fn finish(created: Result<Numbers, CreateError>) {
    match created {
        Ok(stream) => drop(stream),
        Err(CreateError::AlreadyExists { .. }) => std::process::exit(TAKEN),
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_a_creator_killed_at_any_system_call_leaves_nothing_or_a_whole_one",
            killed_creators,
        ),
        test(
            "stream_a_creator_stopped_at_any_system_call_is_not_cleaned_away",
            stopped_creators,
        ),
        test(
            "stream_who_is_killed_at_any_system_call_harms_nobody",
            killed_members,
        ),
        test(
            "stream_who_is_stopped_at_any_system_call_harms_nobody",
            stopped_members,
        ),
        test(
            "stream_an_unlinker_killed_at_any_system_call_is_followed_by_the_next",
            killed_unlinkers,
        ),
        test(
            "stream_an_unlinker_stopped_at_any_system_call_takes_nothing_of_a_rival",
            stopped_unlinkers,
        ),
    ]
}

fn options(dir: &Path) -> Options<Numbers> {
    let mut options = Numbers::options();
    options.dir(dir).log_bytes(512);
    options
}

#[track_caller]
fn count(dir: &Path) -> usize {
    files_in(dir, "victim").len()
}

/// Everything works: in this handle, and for newcomers.
#[track_caller]
fn check(options: &Options<Numbers>, stream: &Numbers) {
    let newcomer = options.open("victim").unwrap();
    for n in 1..40 {
        stream.set(&500, &n).unwrap();
        assert_eq!(newcomer.insert(&500, &(n + 1)).unwrap(), Some(n));
        assert_eq!(stream.get(&500).unwrap(), Some(n + 1));
    }
    for stream in [stream, &newcomer] {
        let view = stream.view().unwrap();
        assert!((0..KEYS).all(|key| view.get(&key).unwrap() == Some(&key)));
        assert_eq!(view.len() as u64, KEYS + 1);
    }
}

/// Calls `at` for each stop of a child, with a directory of its own each time, until that ends before.
fn at_each_stop(verb: &str, least: usize, mut at: impl FnMut(&Path, usize) -> bool) {
    let mut points = 0;
    loop {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        if at(dir.path(), points) {
            break;
        }
        points += 1;
    }
    println!("{verb}: {points} stops");
    assert!(points >= least, "{verb} has {points} stops");
}

fn killed_creators() {
    let verb = "unlink_on_drop";
    at_each_stop(verb, 20, |dir, point| {
        let options = options(dir);
        let finished = kill_at_system_call(ROLE, verb, dir, point);
        assert!(count(dir) <= 2, "{:?}", files_in(dir, "victim"));
        match options.open("victim") {
            Ok(stream) => assert_eq!(stream.insert(&1, &1).unwrap(), None),
            Err(OpenError::NotFound { .. }) => {}
            Err(error) => panic!("system call {point}: {error}"),
        }
        let stream = options.open_or_create("victim").unwrap();
        stream.dump().unwrap();
        assert_eq!(count(dir), 2, "{:?}", files_in(dir, "victim"));
        options.unlink("victim").unwrap();
        assert_eq!(count(dir), 0, "{:?}", files_in(dir, "victim"));
        finished
    });
}

/// Who cleans up takes nothing from one who is about to be done.
fn stopped_creators() {
    at_each_stop("create", 20, |dir, point| {
        let options = options(dir);
        let Some(stopped) = run_to_system_call(ROLE, "create", dir, point) else {
            return true;
        };
        let removed = Numbers::gc(dir, "victim").unwrap();
        assert_eq!(removed, 0, "system call {point}");
        ptrace::detach(stopped, None).unwrap();
        let end = waitpid(stopped, None).unwrap();
        assert_eq!(end, WaitStatus::Exited(stopped, 0), "at {point}");
        assert_eq!(
            options.open("victim").unwrap().insert(&1, &1).unwrap(),
            None
        );
        assert_eq!(count(dir), 2, "{:?}", files_in(dir, "victim"));
        options.unlink("victim").unwrap();
        false
    });
}

fn new(options: &Options<Numbers>) -> Numbers {
    let entries = (0..KEYS).map(|key| (key, key));
    options.create_with("victim", entries).unwrap()
}

fn killed_members() {
    for (verb, least) in [("open", 20), ("fill", 20), ("follow", 5)] {
        at_each_stop(verb, least, |dir, point| {
            let options = options(dir);
            let stream = new(&options);
            let finished = kill_at_system_call(ROLE, verb, dir, point);
            let left = files_in(dir, "victim");
            assert!(left.len() <= 3, "{verb}, system call {point}: {left:?}");
            check(&options, &stream);
            stream.dump().unwrap();
            assert_eq!(count(dir), 2, "{verb}, system call {point}: {left:?}");
            options.unlink("victim").unwrap();
            assert_eq!(count(dir), 0);
            finished
        });
    }
}

/// The others go on meanwhile.
fn stopped_members() {
    for (verb, least) in [("open", 20), ("fill", 20), ("follow", 5)] {
        at_each_stop(verb, least, |dir, point| {
            let options = options(dir);
            let stream = new(&options);
            let Some(stopped) = run_to_system_call(ROLE, verb, dir, point) else {
                return true;
            };
            let start = Instant::now();
            check(&options, &stream);
            stream.dump().unwrap();
            assert!(
                start.elapsed() < PATIENCE,
                "{verb} at {point} is waited for"
            );
            let left = files_in(dir, "victim");
            assert!(left.len() <= 3, "{verb}, system call {point}: {left:?}");
            ptrace::detach(stopped, None).unwrap();
            let end = waitpid(stopped, None).unwrap();
            assert_eq!(end, WaitStatus::Exited(stopped, 0), "{verb} at {point}");
            check(&options, &stream);
            stream.dump().unwrap();
            let left = files_in(dir, "victim");
            assert_eq!(left.len(), 2, "{verb}, system call {point}: {left:?}");
            options.unlink("victim").unwrap();
            assert_eq!(count(dir), 0);
            false
        });
    }
}

/// Who has it is told when the log is full.
#[track_caller]
fn check_told(stream: &Numbers, point: usize) {
    let (written, error) = write_on(stream, 600, 1000);
    let told = matches!(error, Some(StreamError::Unlinked));
    assert!(
        told,
        "system call {point}: {written} changes, and {error:?}"
    );
}

/// Who has the dictionary goes on, or is told; and nothing is left over in the end.
fn killed_unlinkers() {
    let at = |created_first: bool| {
        move |dir: &Path, point: usize| {
            let options = options(dir);
            let stream = new(&options);
            let finished = kill_at_system_call(ROLE, "unlink", dir, point);
            match options.open("victim") {
                Ok(_) => {
                    check(&options, &stream);
                    options.unlink("victim").unwrap();
                }
                Err(OpenError::NotFound { .. }) => {}
                Err(error) => panic!("system call {point}: {error}"),
            }
            let create = || options.create("victim").unwrap();
            let other = created_first.then(create);
            check_told(&stream, point);
            let other = other.unwrap_or_else(create);
            other.dump().unwrap();
            assert_eq!(count(dir), 2, "{:?}", files_in(dir, "victim"));
            assert!(other.is_empty().unwrap());
            options.unlink("victim").unwrap();
            assert_eq!(count(dir), 0, "{:?}", files_in(dir, "victim"));
            finished
        }
    };
    at_each_stop("unlink", 10, at(false));
    at_each_stop("unlink", 10, at(true));
}

/// One that is stopped takes nothing away from a rival's dictionary of the same name.
fn stopped_unlinkers() {
    at_each_stop("unlink", 10, |dir, point| {
        let options = options(dir);
        let stream = new(&options);
        let Some(stopped) = run_to_system_call(ROLE, "unlink", dir, point) else {
            return true;
        };
        let rival = match options.create("victim") {
            Ok(rival) => {
                rival.set(&1, &1).unwrap();
                check_told(&stream, point);
                Some(rival)
            }
            Err(CreateError::AlreadyExists { .. }) => {
                check(&options, &stream);
                None
            }
            Err(error) => panic!("system call {point}: {error}"),
        };
        ptrace::detach(stopped, None).unwrap();
        let end = waitpid(stopped, None).unwrap();
        assert_eq!(end, WaitStatus::Exited(stopped, 0), "at {point}");
        check_told(&stream, point);
        if let Some(rival) = rival {
            rival.dump().unwrap();
            assert_eq!(options.open("victim").unwrap().get(&1).unwrap(), Some(1));
            assert_eq!(count(dir), 2, "{:?}", files_in(dir, "victim"));
            options.unlink("victim").unwrap();
        }
        assert_eq!(count(dir), 0, "{:?}", files_in(dir, "victim"));
        false
    });
}
