//! Stream dictionaries in children that are forked while other threads of their parent are at work.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Trial;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};

use crate::maps::scaled;
use crate::peer::watchdog;
use crate::streams::{Numbers, StreamName, check_files, files};
use crate::{Role, run, test};

pub(crate) const ROLES: &[Role] = &[
    ("stream-fork-among-threads", |args| {
        fork_among_threads(&args[0], false)
    }),
    ("stream-fork-among-threads-and-unlink", |args| {
        fork_among_threads(&args[0], true)
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_children_forked_among_threads_use_their_handles",
            || {
                run("stream-fork-among-threads", &[&StreamName::new("forked")]);
            },
        ),
        test(
            "stream_children_forked_among_threads_take_nothing_away",
            || {
                run(
                    "stream-fork-among-threads-and-unlink",
                    &[&StreamName::new("forked-unlink")],
                );
            },
        ),
    ]
}

const WRITERS: u64 = 2;
const READERS: u64 = 2;
/// How often each child changes its own key.
const CHANGES: u64 = 25;
const CHILDREN: u64 = 100;

/// How a child leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leave {
    Exit,
    Drop,
    Panic,
    AtOnce,
}

const WAYS: [Leave; 4] = [Leave::Exit, Leave::Drop, Leave::Panic, Leave::AtOnce];

fn fork_among_threads(name: &str, unlink_on_drop: bool) {
    let forks = scaled(1000);
    watchdog();
    // A message would take a lock that another thread may have had at the fork.
    std::panic::set_hook(Box::new(|_| {}));
    let mut options = Numbers::options();
    options.log_bytes(1024).unlink_on_drop(unlink_on_drop);
    let stream: &'static Numbers = Box::leak(Box::new(options.create(name).unwrap()));
    let stop = AtomicBool::new(false);
    let write = |me: u64| {
        let mut n = 0;
        // Relaxed: a flag and nothing else.
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            let add = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
            assert_eq!(stream.fetch_update(&me, add).unwrap().unwrap_or(0), n - 1);
        }
        n
    };
    let read = || {
        let mut latest = [0; WRITERS as usize];
        while !stop.load(Ordering::Relaxed) {
            let view = stream.view().unwrap();
            for (me, latest) in (0..).zip(&mut latest) {
                let found = view.get(&me).unwrap().copied().unwrap_or(0);
                assert!(found >= *latest);
                *latest = found;
            }
        }
        0
    };
    let written: Vec<u64> = std::thread::scope(|scope| {
        let mut threads: Vec<_> = (0..WRITERS)
            .map(|me| scope.spawn(move || write(me)))
            .collect();
        threads.extend((0..READERS).map(|_| scope.spawn(read)));
        let failed = (0..forks).find(|&round| {
            let way = WAYS[round as usize % WAYS.len()];
            let code = fork_one(stream, round, way);
            (code != i32::from(way == Leave::Panic) * 101)
                .then(|| eprintln!("{round}, {way:?}: {code}"))
                .is_some()
        });
        stop.store(true, Ordering::Relaxed);
        let written = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(failed, None, "a child failed");
        written
    });
    for me in 0..WRITERS {
        assert_eq!(stream.get(&me).unwrap(), Some(written[me as usize]));
    }
    for round in 0..forks {
        assert_eq!(stream.get(&(CHILDREN + round)).unwrap(), Some(CHANGES));
    }
    // SAFETY: it was leaked above, and all threads that had it have ended.
    let stream = unsafe { Box::from_raw(std::ptr::from_ref(stream).cast_mut()) };
    assert!(stream.status().unwrap().dumps > forks);
    assert_eq!(files(name).len(), 2);
    if unlink_on_drop {
        drop(stream);
        assert_eq!(files(name), Vec::<String>::new());
    } else {
        check_files(name, *stream);
    }
}

/// How a child ends that has used the handle that it inherits.
fn fork_one(stream: &'static Numbers, round: u64, way: Leave) -> i32 {
    // SAFETY: the child uses what the documentation allows there: the dictionary, the heap, which the
    // fork itself keeps in order, and no output.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            _ => -1,
        },
        ForkResult::Child => {
            // What hangs is to fail.
            alarm::set(60);
            let done = catch_unwind(AssertUnwindSafe(|| in_child(stream, round, way)));
            let fine = match (way, done) {
                (Leave::Panic, Err(why)) => why.is::<Expected>(),
                (_, done) => done.is_ok(),
            };
            match way {
                Leave::Exit => std::process::exit(if fine { 0 } else { 3 }),
                Leave::Panic => std::process::exit(if fine { 101 } else { 3 }),
                // SAFETY: ends this process at once.
                _ => unsafe { nix::libc::_exit(if fine { 0 } else { 3 }) },
            }
        }
    }
}

/// What a child panics with when everything went well.
struct Expected;

fn in_child(stream: &'static Numbers, round: u64, way: Leave) {
    let own = CHILDREN + round;
    let before = [0, 1].map(|writer| stream.get(&writer).unwrap());
    for n in 0..CHANGES {
        let add = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
        assert_eq!(stream.fetch_update(&own, add).unwrap().unwrap_or(0), n);
    }
    assert_eq!(stream.get(&own).unwrap(), Some(CHANGES));
    let view = stream.view().unwrap();
    for writer in [0, 1] {
        assert!(view.get(&writer).unwrap().copied() >= before[writer as usize]);
    }
    assert!((CHILDREN..own).all(|key| view.get(&key).unwrap() == Some(&CHANGES)));
    drop(view);
    match way {
        // SAFETY: no other thread is in this process, and nobody uses the original again.
        Leave::Drop => drop(unsafe { std::ptr::read(stream) }),
        Leave::Panic => {
            // SAFETY: as above.
            let _own = unsafe { std::ptr::read(stream) };
            std::panic::panic_any(Expected);
        }
        Leave::Exit | Leave::AtOnce => {}
    }
}
