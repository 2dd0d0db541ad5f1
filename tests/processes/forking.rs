//! Handles that a fork copies, and what a program may do to itself in between.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use forkmap::{AtomicDict, Entry};
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getpid};

use crate::common::Name;
use crate::fork::fork_all;
use crate::{Role, run, test};

pub(crate) const ROLES: &[Role] = &[
    ("drop-in-child", |args| {
        let dict = AtomicDict::options()
            .unlink_on_drop(true)
            .create(&args[0])
            .unwrap();
        let entry = dict.entry(1).unwrap();
        fork_all(3, |p| {
            entry.fetch_add(1);
            let (dict, entry) = (dict.clone(), entry.clone());
            match p {
                0 => dict.close().unwrap(),
                1 => drop((dict, entry)),
                _ => {}
            }
            // A second generation, and `exit`, which runs no destructors of this frame.
            fork_all(2, |_| drop(AtomicDict::open(&args[0]).unwrap()));
        });
        // And the handles themselves, moved into a child's own drop.
        // SAFETY: this process has one thread.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                drop(entry);
                dict.close().unwrap();
                std::process::exit(0);
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
        assert!(dict.is_current(), "a child took the name away");
        assert_eq!(dict.load(1), 3);
        drop(entry);
        dict.close().unwrap();
        assert!(
            AtomicDict::open(&args[0]).is_err(),
            "the creator takes it away"
        );
    }),
    ("same-pid-in-child", |args| {
        let in_new_namespace = |work: &dyn Fn()| {
            unshare(CloneFlags::CLONE_NEWPID)?;
            fork_all(1, |_| {
                assert_eq!(getpid().as_raw(), 1);
                work();
            });
            nix::Result::Ok(())
        };
        let creator = || {
            let dict = AtomicDict::options()
                .unlink_on_drop(true)
                .create(&args[0])
                .unwrap();
            let moved = std::cell::Cell::new(Some(dict));
            in_new_namespace(&|| moved.take().unwrap().close().unwrap()).unwrap();
            assert!(
                moved.take().unwrap().is_current(),
                "a child with the same pid took it away"
            );
        };
        if in_new_namespace(&creator).is_err() {
            println!("SKIPPED: no permission to make a pid namespace");
        }
    }),
    ("close-all-descriptors", |args| {
        let dict = AtomicDict::create(&args[0], 10).unwrap();
        let fd = dict.as_fd().as_raw_fd();
        // What a program does on its way to become a daemon.
        (3..100).for_each(|fd| _ = nix::unistd::close(fd));
        dict.fetch_add(1, 1).unwrap();
        let mut others: Vec<_> = (0..=fd).map(|_| File::open("/dev/null").unwrap()).collect();
        let position = others
            .iter()
            .position(|file| file.as_raw_fd() == fd)
            .unwrap();
        let reused = others.swap_remove(position);
        dict.fetch_add(1, 1).unwrap();
        assert_eq!(dict.load(1), 2);
        drop(dict);
        assert!(
            reused.metadata().is_ok(),
            "somebody else's descriptor was closed"
        );
        assert_eq!(AtomicDict::open(&args[0]).unwrap().load(1), 2);
    }),
    ("thread-with-own-descriptors", |args| {
        // Descriptors that only this thread has, and others at the same numbers in the main thread.
        let _others: Vec<_> = (0..40)
            .map(|_| tempfile::tempfile_in("/dev/shm").unwrap())
            .collect();
        let name = args[0].clone();
        let create = move || {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            (3..43).for_each(|fd| _ = nix::unistd::close(fd));
            let dict = AtomicDict::create(&name, 10).unwrap();
            dict.store(1, 5).unwrap();
            assert!(dict.is_current(), "the name leads to another file");
        };
        std::thread::spawn(create).join().unwrap();
        assert_eq!(AtomicDict::open(&args[0]).unwrap().load(1), 5);
    }),
    ("fork-among-threads", |_| fork_among_threads()),
    ("signal-handler", |_| signal_handler()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("handles_dropped_in_a_forked_child_harm_nobody", || {
            let name = Name::new("drop-in-child");
            run("drop-in-child", &[&name]);
            assert!(!name.exists());
        }),
        test(
            "a_child_with_the_pid_of_the_creator_is_not_taken_for_it",
            || {
                let name = Name::new("same-pid");
                run("same-pid-in-child", &[&name]);
            },
        ),
        test("a_drop_closes_no_descriptor_that_is_not_its_own", || {
            let name = Name::new("close-all");
            run("close-all-descriptors", &[&name]);
        }),
        test("a_thread_with_descriptors_of_its_own_can_create", || {
            let name = Name::new("own-descriptors");
            run("thread-with-own-descriptors", &[&name]);
        }),
        test(
            "a_child_forked_while_other_threads_work_can_use_its_handles",
            || {
                run("fork-among-threads", &[]);
            },
        ),
        test(
            "a_signal_handler_may_use_the_dictionary_it_interrupts",
            || {
                run("signal-handler", &[]);
            },
        ),
    ]
}

/// FP16: the other threads "die" in the child in the middle of whatever they do.
fn fork_among_threads() {
    let dict = AtomicDict::anonymous(20_000).unwrap();
    let stop = AtomicBool::new(false);
    let added: u64 = std::thread::scope(|scope| {
        let work = |t: u64| {
            let mut n = 0;
            // Relaxed: a flag and nothing else.
            while !stop.load(Ordering::Relaxed) {
                dict.fetch_add((n * 7 + t) % 10_000, 1).unwrap();
                n += 1;
            }
            n
        };
        let threads: Vec<_> = (0..3).map(|t| scope.spawn(move || work(t))).collect();
        for round in 0..100 {
            // SAFETY: the child uses nothing that another thread could have locked: no heap, no
            // output, only the dictionary and `_exit`.
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    let mine = 1_000_000 + round;
                    let fine = (0..100).all(|n| dict.fetch_add(mine, 1) == Ok(n));
                    let fine = fine && dict.fetch_max(mine, 5) == Ok(100) && dict.load(mine) == 100;
                    // SAFETY: ends this process at once; no destructor of the parent's runs.
                    unsafe { nix::libc::_exit(i32::from(!fine)) }
                }
                ForkResult::Parent { child } => {
                    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((0..10_000).map(|key| dict.load(key)).sum::<u64>(), added);
    assert!((0..100).all(|round| dict.load(1_000_000 + round) == 100));
}

static SHARED: OnceLock<(AtomicDict, Entry)> = OnceLock::new();
static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_alarm(_: nix::libc::c_int) {
    let (dict, entry) = SHARED.get().unwrap();
    // Relaxed: read by the thread that the handler interrupts.
    let n = u64::from(HANDLED.fetch_add(1, Ordering::Relaxed));
    dict.fetch_add(n % 1000, 1).unwrap();
    dict.fetch_max(5000, n).unwrap();
    entry.fetch_add(1);
}

/// FP23: an operation on top of a half-done one, at random instructions.
fn signal_handler() {
    let dict = AtomicDict::anonymous(3000).unwrap();
    let entry = dict.entry(9000).unwrap();
    SHARED.set((dict.clone(), entry.clone())).unwrap();
    let action = SigAction::new(
        SigHandler::Handler(on_alarm),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler calls only what the documentation of AtomicDict allows in one.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    crate::resources::alarm_every(100);
    let mut own = 0;
    while HANDLED.load(Ordering::Relaxed) < 2000 {
        dict.fetch_add(own % 1000, 1).unwrap();
        dict.fetch_max(5000, 0).unwrap();
        entry.fetch_add(1);
        own += 1;
    }
    crate::resources::alarm_every(0);
    let handled = u64::from(HANDLED.load(Ordering::Relaxed));
    assert_eq!(
        (0..1000).map(|key| dict.load(key)).sum::<u64>(),
        own + handled
    );
    assert_eq!(entry.load(), own + handled);
    assert_eq!(dict.load(5000), handled - 1);
}
