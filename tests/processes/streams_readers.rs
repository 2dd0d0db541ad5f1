//! Stream dictionaries that some may only read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use forkmap::{AtomicDict, OpenError, StreamError};
use libtest_mimic::Trial;
use nix::unistd::{Uid, geteuid, setuid};

use crate::maps::{agreed, meet, scaled};
use crate::peer::{Peer, await_value, watchdog};
use crate::streams::{Numbers, StreamName, check_files, files};
use crate::{Role, run, test};

const WRITTEN: u64 = 10;
const SEEN: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("stream-read-only", |args| read_only(&args[0])),
    ("stream-readable", |args| readable(Path::new(&args[0]))),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_who_may_only_read_follows_and_writes_nothing",
            || {
                run("stream-read-only", &[&StreamName::new("read-only")]);
            },
        ),
        test("stream_readers_without_the_right_to_write_follow", || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            run("stream-readable", &[dir.path().to_str().unwrap()]);
        }),
    ]
}

/// Every operation that would change something, each refused.
fn try_to_write(stream: &Numbers) {
    let position = stream.position().unwrap();
    let refusals = [
        stream.set(&1, &1),
        stream.insert(&1, &1).map(drop),
        stream.remove(&1).map(drop),
        stream.get_or_insert_with(&77, || 1).map(drop),
        stream.fetch_update(&1, |_| Some(1)).map(drop),
        stream.compare_exchange(&77, None, Some(&1)).map(drop),
        stream.extend([(&1, &1)]),
        stream.clear(),
        stream.transaction(|tx| tx.set(&1, &1)),
        stream.append_if(position, |tx| tx.set(&1, &1)).map(drop),
        stream.dump(),
    ];
    for (n, refusal) in refusals.into_iter().enumerate() {
        assert!(
            matches!(refusal, Err(StreamError::ReadOnly)),
            "{n}: {refusal:?}"
        );
    }
    assert!(stream.is_at(position).unwrap());
}

/// Reads on through many generations, in each of which it is waited for.
fn follow(stream: &Numbers, dict: &AtomicDict, generations: u64) {
    let mut position = stream.position().unwrap();
    meet(dict, 2);
    for n in 1..=generations {
        await_value(dict, WRITTEN, n);
        let changed = stream
            .wait_for_change(position, Duration::from_secs(60))
            .unwrap();
        position = changed.expect("it was written");
        assert_eq!(stream.get(&0).unwrap(), Some(n));
        assert_eq!(stream.len().unwrap(), 2);
        position = stream.position().unwrap().max(position);
        if n % 10 == 0 {
            try_to_write(stream);
            stream.reload().unwrap();
        }
        dict.fetch_add(SEEN, 1).unwrap();
    }
    let short = stream.wait_for_change(position, Duration::from_millis(20));
    assert_eq!(short.unwrap(), None);
}

/// A process with pages that it can only read.
fn read_only(name: &str) {
    let generations = scaled(500);
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    let stream = options.log_bytes(1024).create(name).unwrap();
    stream.extend([(&0, &0), (&1, &0)]).unwrap();
    let read = || {
        let stream = Numbers::options().read_only(true).open(name).unwrap();
        follow(&stream, &dict, generations);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        // (It has inherited those of its parent, which it does not use.)
        let own: Vec<_> = maps.lines().filter(|line| line.contains(name)).collect();
        let read_only = own.iter().filter(|line| line.contains(" r--s ")).count();
        assert_eq!(read_only, 2, "{own:?}");
        // Nothing that it does leaves a trace.
        let bytes = || -> Vec<_> {
            let all = files(name).into_iter();
            all.map(|file| fs::read(Path::new("/dev/shm").join(file)).unwrap())
                .collect()
        };
        let before = bytes();
        try_to_write(&stream);
        let opened = Numbers::options().read_only(true).open(name).unwrap();
        assert_eq!(opened.get(&0).unwrap(), Some(generations));
        let position = opened.position().unwrap();
        assert_eq!(
            opened
                .wait_for_change(position, Duration::from_millis(20))
                .unwrap(),
            None
        );
        opened.reload().unwrap();
        drop(opened);
        assert!(bytes() == before, "a reader has written");
    };
    let reader = Peer::fork(read);
    meet(&dict, 2);
    for n in 1..=generations {
        stream.set(&0, &n).unwrap();
        stream.dump().unwrap();
        dict.store(WRITTEN, n).unwrap();
        await_value(&dict, SEEN, n);
    }
    let pid = reader.pid();
    let told = stream.status().unwrap().participants;
    assert!(told.iter().all(|one| one.pid != pid), "{told:?}");
    reader.join();
    check_files(name, stream);
}

/// Another user, to whom the files are read-only.
fn readable(dir: &Path) {
    const OTHER: u32 = 4321;
    if !geteuid().is_root() {
        println!("SKIPPED: becoming another user needs root");
        return;
    }
    let generations = scaled(250);
    watchdog();
    let dict = agreed();
    let mut options = Numbers::options();
    options.dir(dir).mode(0o644);
    let stream = options.log_bytes(1024).create("readable").unwrap();
    stream.extend([(&0, &0), (&1, &0)]).unwrap();
    let read = || {
        setuid(Uid::from_raw(OTHER)).unwrap();
        let mut options = Numbers::options();
        options.dir(dir).allow_owner(0);
        let refused = options.open("readable").unwrap_err();
        assert!(
            matches!(refused, OpenError::PermissionDenied { .. }),
            "{refused}"
        );
        let stream = options.read_only(true).open("readable").unwrap();
        follow(&stream, &dict, generations);
    };
    let reader = Peer::fork(read);
    // Generations have the mode of their dictionary, whatever the options of who builds them.
    let other = Numbers::options().dir(dir).open("readable").unwrap();
    meet(&dict, 2);
    for n in 1..=generations {
        let writer = if n % 2 == 0 { &stream } else { &other };
        writer.set(&0, &n).unwrap();
        writer.dump().unwrap();
        dict.store(WRITTEN, n).unwrap();
        await_value(&dict, SEEN, n);
    }
    reader.join();
    drop((stream, other));
    options.unlink("readable").unwrap();
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
}
