//! Who gets a place in the table of participants, and who leaves it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use forkmap::{AtomicDict, Lock, LockError, Participant, ParticipantError};
use libtest_mimic::Trial;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, geteuid, setuid};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::peer::{HOLDERS, LOCK, Peer, await_value, held, holder, watchdog};
use crate::{Role, run, test};

pub(crate) const ROLES: &[Role] = &[
    ("another-user", |args| another_user(Path::new(&args[0]))),
    ("child-registers", |_| child_registers()),
    ("table-full", |_| table_full()),
    ("listed", |_| listed()),
    ("threads-register", |_| threads_register()),
    ("threads-in-a-small-table", |_| threads_in_a_small_table()),
    ("no-page", |_| no_page()),
    ("two-attachments", |args| two_attachments(&args[0])),
    ("churn", |args| churn(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("a_child_that_became_another_user_needs_the_mode", || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            run("another-user", &[dir.path().to_str().unwrap()]);
        }),
        test("a_forked_child_is_a_participant_of_its_own", || {
            run("child-registers", &[]);
        }),
        test(
            "a_full_table_has_room_when_somebody_is_dead_or_gone",
            || {
                run("table-full", &[]);
            },
        ),
        test("participants_are_listed_until_they_leave", || {
            run("listed", &[]);
        }),
        test("threads_that_register_at_once_are_one_participant", || {
            run("threads-register", &[]);
        }),
        test("threads_that_register_at_once_need_one_place", || {
            run("threads-in-a-small-table", &[]);
        }),
        test("who_cannot_register_changes_nobody_elses_record", || {
            print!("{}", run("no-page", &[]));
        }),
        test("two_attachments_are_one_process", || {
            let name = Name::new("attachments");
            run("two-attachments", &[&name]);
        }),
        test("two_thousand_registrations_leave_nothing_behind", || {
            let name = Name::new("churn");
            run("churn", &[&name]);
        }),
    ]
}

fn lock(dict: &AtomicDict, key: u64) -> Result<(), LockError> {
    Lock::new(dict, key).unwrap().lock().map(drop)
}

/// An attachment of this process's own, which registers by itself and leaves when it is dropped.
fn again(dict: &AtomicDict) -> AtomicDict {
    let fd = dict.as_fd().try_clone_to_owned().unwrap();
    AtomicDict::options().from_fd(fd).unwrap()
}

/// A segment that came into this process with more rights than it has now.
fn another_user(dir: &Path) {
    const OTHER: u32 = 4321;
    watchdog();
    if !geteuid().is_root() {
        return println!("SKIPPED: becoming another user needs root");
    }
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    let create = |mode| {
        let mut options = AtomicDict::options();
        let created = options.dir(dir).mode(mode).create(&format!("{mode:o}"));
        created.unwrap()
    };
    let (narrow, wide) = (create(0o600), create(0o666));
    Peer::fork(|| {
        setuid(Uid::from_raw(OTHER)).unwrap();
        let error = lock(&narrow, LOCK).unwrap_err();
        let expected = matches!(
            error,
            LockError::Participant(ParticipantError::NotPermitted)
        );
        assert!(expected, "{error}");
        lock(&wide, LOCK).unwrap();
        // What needs no identity works as ever.
        narrow.fetch_add(1, 1).unwrap();
    })
    .join();
    assert_eq!(narrow.load(1), 1);
    lock(&narrow, LOCK).unwrap();
    // Who was registered before stays it.
    let taken = Lock::new(&narrow, LOCK).unwrap();
    Peer::fork(|| {
        let guard = taken.lock().unwrap();
        setuid(Uid::from_raw(OTHER)).unwrap();
        drop(guard);
        drop(taken.lock().unwrap());
    })
    .join();
    drop(taken.try_lock().unwrap());
}

fn alive(dict: &AtomicDict) -> Vec<Participant> {
    let mut all = dict.participants().unwrap();
    all.retain(|one| one.is_alive);
    all
}

fn child_registers() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let taken = Lock::new(&dict, LOCK).unwrap();
    let _guard = taken.lock().unwrap();
    let mine = alive(&dict);
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].pid, std::process::id());
    Peer::fork(|| {
        assert_eq!(alive(&dict), mine, "a fork alone registers nobody");
        // Not its own lock, though it has the guard: the same thread id it has not either.
        assert_eq!(held(taken.try_lock()), Some(mine[0].pid));
        let child = alive(&dict);
        assert_eq!(child.len(), 2);
        Peer::fork(|| {
            held(taken.try_lock());
            let grandchild = alive(&dict);
            assert_eq!(grandchild.len(), 3);
            let slots: Vec<_> = grandchild.iter().map(|one| one.slot).collect();
            assert_eq!(slots, [0, 1, 2]);
            let known = |pid| grandchild.iter().any(|one| one.pid == pid);
            assert!(known(std::process::id()) && child.iter().all(|one| known(one.pid)));
        })
        .join();
        assert_eq!(alive(&dict), child);
    })
    .join();
    assert_eq!(alive(&dict), mine, "the parent keeps its place");
    assert!(matches!(taken.try_lock(), Err(LockError::Reentrant)));
}

fn table_full() {
    watchdog();
    let dict = AtomicDict::options().participants(4).anonymous().unwrap();
    // Many short lives, of which half leave, the others just end.
    for n in 0..200 {
        Peer::fork(|| {
            let mine = again(&dict);
            lock(&mine, LOCK).unwrap();
            if n % 2 == 0 {
                drop(mine);
            }
            std::process::exit(0);
        })
        .join();
    }
    assert!(alive(&dict).is_empty());
    let start = |n| {
        let peer = Peer::fork(|| {
            let mine = again(&dict);
            lock(&mine, LOCK + n).unwrap();
            dict.fetch_add(HOLDERS, 1).unwrap();
            await_value(&dict, 1, n);
        });
        await_value(&dict, HOLDERS, n);
        peer
    };
    let mut peers: Vec<_> = (1..=4).map(start).collect();
    let refused = || {
        Peer::fork(|| {
            let error = lock(&dict, LOCK).unwrap_err();
            let expected = matches!(
                error,
                LockError::Participant(ParticipantError::TooMany { limit: 4 })
            );
            assert!(expected, "{error}");
        })
        .join();
    };
    refused();
    refused();
    peers.pop().unwrap().kill();
    peers.push(start(5));
    refused();
    // The first leaves of its own accord.
    dict.store(1, 1).unwrap();
    peers.remove(0).join();
    peers.push(start(6));
    refused();
    peers.into_iter().for_each(Peer::kill);
    lock(&dict, LOCK).unwrap();
}

fn listed() {
    watchdog();
    let dict = AtomicDict::anonymous(2000).unwrap();
    let list = || {
        let all = dict.participants().unwrap();
        let mut all: Vec<_> = all.iter().map(|one| (one.pid, one.is_alive)).collect();
        all.sort_unstable();
        all
    };
    assert_eq!(list(), []);
    dict.store(1, 1).unwrap();
    assert_eq!(list(), [], "values need no identity");
    let holder = holder(&dict);
    let pid = holder.pid();
    assert_eq!(list(), [(pid, true)]);
    holder.stop();
    assert_eq!(list(), [(pid, true)]);
    holder.kill();
    assert_eq!(list(), [(pid, false)]);
    Peer::fork(|| {
        let mine = again(&dict);
        lock(&mine, LOCK + 10).unwrap();
        assert_eq!(list().len(), 2);
    })
    .join();
    assert_eq!(list(), [(pid, false)], "who has left is not listed");
    lock(&dict, LOCK + 20).unwrap();
    let me = std::process::id();
    let mut expected = [(pid, false), (me, true)];
    expected.sort_unstable();
    assert_eq!(list(), expected);
}

fn threads_register() {
    const THREADS: u64 = 8;
    watchdog();
    for round in 0..100 {
        let dict = AtomicDict::anonymous(2000).unwrap();
        let start = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for n in 0..THREADS {
                let (dict, start) = (&dict, &start);
                scope.spawn(move || {
                    start.wait();
                    lock(dict, LOCK + n).unwrap();
                });
            }
        });
        let all = dict.participants().unwrap();
        assert_eq!(all.len(), 1, "round {round}: {all:?}");
        assert!(all[0].is_alive && all[0].pid == std::process::id());
        lock(&dict, LOCK).unwrap();
        assert_eq!(dict.participants().unwrap(), all);
    }
}

/// More threads at once than the table has places, and one place is enough for all of them.
fn threads_in_a_small_table() {
    const THREADS: u64 = 8;
    watchdog();
    for round in 0..100 {
        let dict = AtomicDict::options().participants(2).anonymous().unwrap();
        // Every other time one of them is taken already.
        let other = (round % 2 == 0).then(|| again(&dict));
        if let Some(other) = &other {
            lock(other, LOCK).unwrap();
        }
        let start = Barrier::new(THREADS as usize);
        let refused: Vec<_> = std::thread::scope(|scope| {
            let register = |n| {
                let (dict, start) = (&dict, &start);
                scope.spawn(move || {
                    let lock = Lock::new(dict, LOCK + 1 + n).unwrap();
                    start.wait();
                    lock.lock().err().map(|error| error.to_string())
                })
            };
            let threads: Vec<_> = (0..THREADS).map(register).collect();
            let ends = threads.into_iter().map(|thread| thread.join().unwrap());
            ends.flatten().collect()
        });
        assert!(refused.is_empty(), "round {round}: {refused:?}");
        assert_eq!(alive(&dict).len(), 1 + usize::from(other.is_some()));
    }
}

/// A process that cannot map the page that it would live by tries to register, again and again. It is
/// stopped anywhere, and somebody else takes the place if it is free just then.
fn no_page() {
    const ROUNDS: u64 = 120;
    const TRIES: u64 = 1;
    watchdog();
    let dict = AtomicDict::options()
        .participants(2)
        .capacity(2000)
        .anonymous()
        .unwrap();
    lock(&dict, LOCK).unwrap();
    let me = std::process::id();
    let mut rng = SmallRng::seed_from_u64(11);
    let mut taken = 0;
    for round in 0..ROUNDS {
        let before = dict.load(TRIES);
        let peer = Peer::fork(|| {
            let wanted = Lock::new(&dict, LOCK + 1).unwrap();
            setrlimit(Resource::RLIMIT_AS, 1, 1).unwrap();
            loop {
                let error = wanted.try_lock().unwrap_err();
                let expected = matches!(
                    error,
                    LockError::Participant(
                        ParticipantError::Os {
                            call: "mmap or madvise",
                            ..
                        } | ParticipantError::TooMany { .. }
                    )
                );
                assert!(expected, "{error}");
                dict.fetch_add(TRIES, 1).unwrap();
            }
        });
        await_value(&dict, TRIES, before + 1);
        std::thread::sleep(Duration::from_micros(rng.random_range(0..300)));
        peer.stop();
        let mine = again(&dict);
        if alive(&dict).len() == 1 && lock(&mine, LOCK + 2).is_ok() {
            let tries = dict.load(TRIES);
            peer.signal(Signal::SIGCONT);
            // Until it has come to the end of this try, if it is near that.
            let soon = Duration::from_millis(10);
            dict.wait_until_timeout(TRIES, |now| now > tries, soon);
            let living: Vec<_> = alive(&dict).iter().map(|one| one.pid).collect();
            assert_eq!(living, [me, me], "round {round}");
            taken += 1;
        }
        peer.kill();
    }
    println!("{taken} of {ROUNDS} times the place was free");
}

fn two_attachments(name: &str) {
    watchdog();
    let one = AtomicDict::create(name, 2000).unwrap();
    let two = AtomicDict::open(name).unwrap();
    let (first, second) = (
        Lock::new(&one, LOCK).unwrap(),
        Lock::new(&two, LOCK).unwrap(),
    );
    // The second has not registered yet, then it has.
    for registered in 1..=2 {
        let guard = first.lock().unwrap();
        assert_eq!(one.participants().unwrap().len(), registered);
        assert!(matches!(second.try_lock(), Err(LockError::Reentrant)));
        assert!(matches!(second.lock(), Err(LockError::Reentrant)));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| held(second.try_lock()));
            assert_eq!(other.join().unwrap(), Some(std::process::id()));
        });
        drop(guard);
        drop(second.lock().unwrap());
    }
    // Each has a place of its own: one can go, and the other one's locks stay.
    let guard = first.lock().unwrap();
    drop((second, two));
    assert_eq!(one.participants().unwrap().len(), 1);
    Peer::fork(|| _ = held(first.try_lock())).join();
    drop(guard);
}

fn churn(name: &str) {
    watchdog();
    let dict = AtomicDict::create(name, 2000).unwrap();
    let once = || {
        let again = AtomicDict::open(name).unwrap();
        lock(&again, LOCK).unwrap();
    };
    let held = || {
        let lines = |path| fs::read_to_string(path).unwrap().lines().count();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        (descriptors, lines("/proc/self/maps"))
    };
    once();
    let before = held();
    (0..2000).for_each(|_| once());
    assert_eq!(held(), before, "descriptors and mappings");
    assert_eq!(dict.participants().unwrap(), [], "all have left");
}
