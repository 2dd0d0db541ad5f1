//! Who is alive, and who is dead, and who is told.

use std::cell::Cell;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, Barrier, BarrierError, Lock, LockError, ParticipantError, Semaphore};
use libtest_mimic::Trial;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::unistd::Pid;

use crate::common::Name;
use crate::peer::{
    HOLDERS, LOCK, PATIENCE, Peer, STEP, await_value, go_on, held, hold, holder, sleep_for_ever,
    step, told, watchdog,
};
use crate::{Role, command, run, test};

/// Long enough for the slowest of days, and far less than for ever.
pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) const ROLES: &[Role] = &[
    ("closed-descriptors", |args| closed_descriptors(&args[0])),
    ("zombie", |_| zombie()),
    ("exec", |args| exec(&args[0])),
    ("after-exec", |args| {
        watchdog();
        AtomicDict::open(&args[0]).unwrap().store(STEP, 1).unwrap();
        sleep_for_ever();
    }),
    ("outlived", |_| outlived()),
    ("child-drops", |_| child_drops()),
    ("child-unmaps", |_| child_unmaps()),
    ("main-thread-gone", |_| main_thread_gone()),
    ("pid-namespace", |_| pid_namespace()),
    ("slot-reuse", |_| slot_reuse()),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("who_closes_all_descriptors_is_alive_still", || {
            let name = Name::new("closed");
            run("closed-descriptors", &[&name]);
        }),
        test("a_killed_owner_that_nobody_waits_for_is_dead", || {
            print!("{}", run("zombie", &[]));
        }),
        test("an_owner_that_executes_another_program_is_dead", || {
            let name = Name::new("exec");
            print!("{}", run("exec", &[&name]));
        }),
        test("a_child_does_not_keep_its_dead_parent_alive", || {
            print!("{}", run("outlived", &[]));
        }),
        test("what_a_child_drops_stays_its_parents", || {
            run("child-drops", &[]);
        }),
        test("a_child_unmaps_nothing_where_its_parent_had_a_page", || {
            run("child-unmaps", &[]);
        }),
        test("an_owner_without_its_main_thread_is_alive", || {
            run("main-thread-gone", &[]);
        }),
        test("an_owner_in_another_pid_namespace_is_alive", || {
            run("pid-namespace", &[]);
        }),
        test(
            "a_dead_owner_is_not_revived_by_the_next_in_its_slot",
            || {
                run("slot-reuse", &[]);
            },
        ),
    ]
}

fn dict() -> AtomicDict {
    watchdog();
    AtomicDict::anonymous(2000).unwrap()
}

pub(crate) fn close_all_descriptors() {
    // SAFETY: this process uses none of them from here on, except by way of the crate.
    let done = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    assert_eq!(done, 0);
}

fn closed_descriptors(name: &str) {
    watchdog();
    let dict = AtomicDict::create(name, 2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    // After the first lock.
    let peer = Peer::fork(|| {
        let guard = lock.lock().unwrap();
        close_all_descriptors();
        step(&dict, 1);
        drop(guard);
        (0..10).for_each(|_| drop(lock.lock().unwrap()));
        step(&dict, 2);
        // Whether another one lives it learns by way of the name.
        held(lock.try_lock());
        step(&dict, 3);
    });
    await_value(&dict, STEP, 1);
    assert_eq!(held(lock.try_lock()), Some(peer.pid()));
    go_on(&dict, 1);
    await_value(&dict, STEP, 2);
    let guard = lock.lock().unwrap();
    go_on(&dict, 2);
    await_value(&dict, STEP, 3);
    drop(guard);
    go_on(&dict, 3);
    peer.join();

    // Before it: by the name, also if the number of the descriptor is something else by then.
    let fd = std::os::fd::AsFd::as_fd(&dict).as_raw_fd();
    for filler in [None, Some("file"), Some("directory"), Some("socket")] {
        let peer = Peer::fork(|| {
            close_all_descriptors();
            for _ in 0..=fd {
                match filler {
                    Some("file") => std::mem::forget(fs::File::open("/dev/null").unwrap()),
                    Some("directory") => std::mem::forget(fs::File::open("/dev").unwrap()),
                    Some(_) => std::mem::forget(UnixDatagram::unbound().unwrap()),
                    None => {}
                }
            }
            drop(lock.lock().unwrap());
            hold(&dict);
        });
        await_value(&dict, HOLDERS, 1);
        assert_eq!(held(lock.try_lock()), Some(peer.pid()), "{filler:?}");
        peer.kill();
        told(lock.lock_timeout(SOON)).clear_poison();
        dict.store(HOLDERS, 0).unwrap();
    }

    // Without a name there is no way back.
    let dict = AtomicDict::anonymous(10).unwrap();
    Peer::fork(|| {
        close_all_descriptors();
        let error = Lock::new(&dict, 1).unwrap().lock().unwrap_err();
        let expected = matches!(
            error,
            LockError::Participant(ParticipantError::DescriptorClosed)
        );
        assert!(expected, "{error}");
    })
    .join();
}

fn zombie() {
    let dict = dict();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = holder(&dict);
    assert_eq!(held(lock.try_lock()), Some(peer.pid()));
    peer.kill_only();
    let start = Instant::now();
    let guard = told(lock.lock_timeout(SOON));
    println!("a zombie's lock was taken after {:.1?}", start.elapsed());
    assert_eq!(guard.poisoned_by(), Some(peer.pid()));
    peer.killed();
}

fn exec(name: &str) {
    watchdog();
    let dict = AtomicDict::create(name, 2000).unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = Peer::fork(|| {
        let _guard = lock.lock().unwrap();
        let mut next = command("after-exec", &[name]);
        let error = std::os::unix::process::CommandExt::exec(&mut next);
        panic!("{error}");
    });
    await_value(&dict, STEP, 1);
    let start = Instant::now();
    let guard = told(lock.lock_timeout(SOON));
    println!("its lock was taken after {:.1?}", start.elapsed());
    assert_eq!(guard.poisoned_by(), Some(peer.pid()));
    peer.kill();
}

/// The child has all that its parent had, and the parent dies.
fn outlived() {
    set_child_subreaper(true).unwrap();
    let dict = dict();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = Peer::fork(|| {
        let _guard = lock.lock().unwrap();
        let child = Peer::fork_detached(|| {
            step(&dict, 1);
            step(&dict, 2);
        });
        dict.store(CHILD, u64::from(child.pid())).unwrap();
        sleep_for_ever();
    });
    await_value(&dict, STEP, 1);
    await_value(&dict, CHILD, 1);
    assert_eq!(held(lock.try_lock()), Some(peer.pid()));
    let parent = peer.pid();
    peer.kill();
    let start = Instant::now();
    let guard = told(lock.lock_timeout(SOON));
    println!("its lock was taken after {:.1?}", start.elapsed());
    assert_eq!(guard.poisoned_by(), Some(parent));
    go_on(&dict, 1);
    await_value(&dict, STEP, 2); // It was alive all the while.
    go_on(&dict, 2);
    Peer(Pid::from_raw(dict.load(CHILD) as i32)).join();
}

/// The key that tells the pid of a child that outlives its parent.
pub(crate) const CHILD: u64 = 3;

fn child_drops() {
    let dict = dict();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let (semaphore, barrier) = (
        Semaphore::new(&dict, 100, 1).unwrap(),
        Barrier::new(&dict, 200, 2).unwrap(),
    );
    let mine = (
        lock.lock().unwrap(),
        semaphore.acquire().unwrap(),
        barrier.join().unwrap(),
        dict.clone(),
    );
    let mine = Cell::new(Some(mine));
    let generations = |depth| {
        fn fork(mine: &Cell<Option<impl Sized>>, depth: u32) {
            Peer::fork(|| {
                if depth > 0 {
                    fork(mine, depth - 1);
                }
                drop(mine.take());
            })
            .join();
        }
        fork(&mine, depth);
    };
    generations(0);
    generations(2);
    Peer::fork(|| {
        held(lock.try_lock());
        assert!(semaphore.try_acquire().is_err());
        let _one = barrier.join().unwrap();
        let full = barrier.join().unwrap_err();
        assert!(matches!(full, BarrierError::Full { parties: 2 }), "{full}");
    })
    .join();
    assert_eq!(lock.owner_pid(), Some(std::process::id()));
    assert!(matches!(lock.try_lock(), Err(LockError::Reentrant)));
    drop(mine.take());
    Peer::fork(|| {
        drop(lock.try_lock().unwrap());
        let _permit = semaphore.try_acquire().unwrap();
    })
    .join();
}

/// A registered process has a page that its children do not get. Where it would be they may have
/// something else.
fn child_unmaps() {
    const PAGES: usize = 200;
    let dict = dict();
    drop(Lock::new(&dict, LOCK).unwrap().lock().unwrap());
    let dict = Cell::new(Some(dict));
    Peer::fork(|| {
        let page = || {
            let (prot, flags) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            // SAFETY: a fresh mapping at an address of the kernel's choice.
            let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) };
            assert_ne!(page, libc::MAP_FAILED);
            page.cast::<u64>()
        };
        // So many that the hole is filled.
        let pages: Vec<_> = (0..PAGES).map(|_| page()).collect();
        drop(dict.take());
        for page in pages {
            // SAFETY: mapped above, and never unmapped by this function.
            unsafe { page.write_volatile(1) };
        }
    })
    .join();
}

fn main_thread_gone() {
    let dict = dict();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let peer = Peer::fork(|| {
        let dict = dict.clone();
        std::thread::spawn(move || hold(&dict));
        // SAFETY: ends this thread and no other; nobody else uses what stands in its frames.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    });
    await_value(&dict, HOLDERS, 1);
    let is_zombie = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", peer.0)).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('Z')
    };
    let patience = Instant::now() + PATIENCE;
    while !is_zombie() {
        assert!(Instant::now() < patience);
        std::thread::yield_now();
    }
    assert_eq!(held(lock.try_lock()), Some(peer.pid()));
    let short = Duration::from_millis(120);
    assert_eq!(held(lock.lock_timeout(short)), Some(peer.pid()));
    peer.kill();
    drop(told(lock.lock_timeout(SOON)));
}

fn pid_namespace() {
    let dict = dict();
    let lock = Lock::new(&dict, LOCK).unwrap();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWPID) {
        println!("SKIPPED: no permission to make a pid namespace: {error}");
        return;
    }
    // The first process there: its pid is 1, as it sees it.
    let peer = holder(&dict);
    assert_eq!(held(lock.try_lock()), Some(1));
    let short = Duration::from_millis(120);
    assert_eq!(held(lock.lock_timeout(short)), Some(1));
    peer.kill();
    assert_eq!(told(lock.lock_timeout(SOON)).poisoned_by(), Some(1));
}

fn slot_reuse() {
    watchdog();
    let dict = AtomicDict::options().participants(2).anonymous().unwrap();
    let lock = Lock::new(&dict, LOCK).unwrap();
    let first = holder(&dict);
    let other = |n| {
        let peer = Peer::fork(|| {
            drop(Lock::new(&dict, LOCK + 10 * n).unwrap().lock().unwrap());
            dict.store(STEP, n).unwrap();
            sleep_for_ever();
        });
        await_value(&dict, STEP, n);
        peer
    };
    let filler = other(1);
    let slot_of = |pid| {
        let all = dict.participants().unwrap();
        all.iter().find(|one| one.pid == pid).map(|one| one.slot)
    };
    let slot = slot_of(first.pid()).unwrap();
    let pid = first.pid();
    first.kill();
    assert!(
        dict.participants()
            .unwrap()
            .iter()
            .any(|one| one.pid == pid && !one.is_alive)
    );
    let second = other(2);
    assert_eq!(slot_of(second.pid()), Some(slot));
    filler.kill();
    let guard = told(lock.lock_timeout(Duration::from_secs(5)));
    assert_eq!(
        guard.poisoned_by(),
        None,
        "its record is another one's by now"
    );
    drop(guard);
    assert!(dict.participants().unwrap().iter().all(|one| one.is_alive));
    second.kill();
}
