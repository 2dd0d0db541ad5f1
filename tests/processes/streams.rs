//! Stream dictionaries that many processes change at once: what all their tests need, counting, inserting.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::path::Path;
use std::process::Stdio;

use forkmap::{AtomicDict, StreamDict};
use libtest_mimic::Trial;

use crate::common::Name;
use crate::maps::{agreed, meet, scaled};
use crate::peer::{Peer, watchdog};
use crate::{Role, command, run, test};

/// How many operations all have done, and the sum of what these have returned.
const DONE: u64 = 10;
const SUM: u64 = 11;

pub(crate) const ROLES: &[Role] = &[
    ("stream-count", |args| {
        watchdog();
        let dict = AtomicDict::open(&args[1]).unwrap();
        let stream = Numbers::open(&args[0]).unwrap();
        count(&stream, &dict, args[2].parse().unwrap(), COUNTERS);
    }),
    ("stream-count-forked", |args| count_forked(&args[0])),
    ("stream-count-threads", |args| count_threads(&args[0])),
    ("stream-insert", |args| {
        let [me, all] = [2, 3].map(|arg| args[arg].parse().unwrap());
        insert(&args[0], &args[1], me, all);
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("stream_four_spawned_processes_count_exactly", || {
            let (name, agreed) = (StreamName::new("count"), Name::new("count-agreed"));
            let stream = Numbers::create(&name).unwrap();
            let dict = AtomicDict::create(&agreed, 100).unwrap();
            let each = scaled(150_000);
            let child = |_| crate::spawn("stream-count", &[&name, &agreed, &each.to_string()]);
            crate::wait_all((0..COUNTERS).map(child));
            check_count(&stream, &dict, COUNTERS * each);
            check_files(&name, stream);
        }),
        test("stream_four_forked_processes_count_exactly", || {
            run("stream-count-forked", &[&StreamName::new("count-forked")]);
        }),
        test("stream_threads_of_two_processes_count_exactly", || {
            run("stream-count-threads", &[&StreamName::new("count-threads")]);
        }),
        test(
            "stream_keys_that_two_processes_insert_are_in_one_order",
            || {
                inserted(2);
            },
        ),
        test(
            "stream_keys_that_four_processes_insert_are_in_one_order",
            || {
                inserted(4);
            },
        ),
    ]
}

pub(crate) type Numbers = StreamDict<u64, u64>;

/// A name for a dictionary in the shared memory directory; what stands there is removed at the end, with
/// all generations.
pub(crate) struct StreamName(Name);

impl StreamName {
    pub(crate) fn new(label: &str) -> Self {
        Self(Name::new(&format!("stream-{label}")))
    }
}

impl Deref for StreamName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for StreamName {
    fn drop(&mut self) {
        for name in files(self) {
            let _ = fs::remove_file(Path::new("/dev/shm").join(name));
        }
    }
}

/// What stands in the shared memory directory of the dictionary of that name.
pub(crate) fn files(name: &str) -> Vec<String> {
    files_in(Path::new("/dev/shm"), name)
}

pub(crate) fn files_in(dir: &Path, name: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_its = |file: &String| {
        let rest = file.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    names.filter(is_its).collect()
}

/// Nobody is at it but this process: after one more generation there are two files, and none after it was
/// unlinked.
#[track_caller]
pub(crate) fn check_files<K, V>(name: &str, stream: StreamDict<K, V>)
where
    K: forkmap::Stored + ?Sized,
    V: forkmap::Stored + ?Sized,
{
    stream.dump().unwrap();
    let found = files(name);
    assert_eq!(found.len(), 2, "the control and a generation: {found:?}");
    drop(stream);
    StreamDict::<K, V>::unlink(name).unwrap();
    assert_eq!(files(name), Vec::<String>::new());
    assert_eq!(StreamDict::<K, V>::gc("/dev/shm", name).unwrap(), 0);
}

const COUNTERS: u64 = 4;

/// Adds 1 so many times, as one of so many who do the same at the same time.
fn count(stream: &Numbers, dict: &AtomicDict, times: u64, counters: u64) {
    let (mut latest, mut sum) = (None, 0);
    meet(dict, counters);
    for _ in 0..times {
        let next = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
        let old = stream.fetch_update(&0, next).unwrap().unwrap_or(0);
        assert!(latest < Some(old), "{old} after {latest:?}");
        (latest, sum) = (Some(old), sum + old);
    }
    dict.fetch_add(SUM, sum).unwrap();
    dict.fetch_add(DONE, times).unwrap();
}

/// Each number from 0 on was the previous one of exactly one addition.
#[track_caller]
fn check_count(stream: &Numbers, dict: &AtomicDict, n: u64) {
    assert_eq!(stream.get(&0).unwrap(), Some(n));
    assert_eq!((dict.load(DONE), dict.load(SUM)), (n, n * (n - 1) / 2));
    let status = stream.status().unwrap();
    assert!(status.dumps >= n / 10_000, "{status:?}");
}

/// Children with the handle of their parent.
fn count_forked(name: &str) {
    watchdog();
    let each = scaled(150_000);
    let (stream, dict) = (Numbers::create(name).unwrap(), agreed());
    let child = |_| Peer::fork(|| count(&stream, &dict, each, COUNTERS));
    let children: Vec<_> = (0..COUNTERS).map(child).collect();
    children.into_iter().for_each(Peer::join);
    check_count(&stream, &dict, COUNTERS * each);
    check_files(name, stream);
}

/// Two processes, one of them with the handle of its parent, and two threads in each that share one.
fn count_threads(name: &str) {
    watchdog();
    let each = scaled(150_000);
    let mut options = Numbers::options();
    let stream = options.log_bytes(16_384).create(name).unwrap();
    let dict = agreed();
    let in_threads = |stream: &Numbers| {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| count(stream, &dict, each, COUNTERS));
            }
        });
    };
    let children = [
        Peer::fork(|| in_threads(&stream)),
        Peer::fork(|| in_threads(&Numbers::open(name).unwrap())),
    ];
    children.into_iter().for_each(Peer::join);
    check_count(&stream, &dict, COUNTERS * each);
    check_files(name, stream);
}

type Texts = StreamDict<str, [u8]>;

fn keys_each() -> u64 {
    scaled(10_000)
}

fn key(me: u64, n: u64) -> String {
    format!("{n} of {me}")
}

fn value(me: u64, n: u64) -> Vec<u8> {
    vec![me as u8; n as usize % 50]
}

/// Keys that nobody else inserts; then it tells in which order it finds the keys of all.
fn insert(name: &str, agreed: &str, me: u64, all: u64) {
    watchdog();
    let dict = AtomicDict::open(agreed).unwrap();
    let stream = Texts::open(name).unwrap();
    meet(&dict, all);
    for n in 0..keys_each() {
        let (key, value) = (key(me, n), value(me, n));
        let before = match n % 3 {
            0 => stream.insert(&key, &value).unwrap(),
            1 => {
                let absent = stream.compare_exchange(&key, None, Some(&value)).unwrap();
                absent.unwrap()
            }
            _ => {
                let made = stream.get_or_insert_with(&key, || value.clone()).unwrap();
                assert_eq!(made, value);
                None
            }
        };
        assert_eq!(before, None, "{key} was there");
    }
    meet(&dict, 2 * all);
    println!("{:016x}", order(&stream, all));
}

/// What the order of all keys comes to.
fn order(stream: &Texts, all: u64) -> u64 {
    let view = stream.view().unwrap();
    assert_eq!(view.len() as u64, all * keys_each());
    let mut next = vec![0; all as usize];
    let mut order = DefaultHasher::new();
    for entry in view.iter() {
        let (found, content) = entry.unwrap();
        let (n, of) = found.split_once(" of ").unwrap();
        let [n, of] = [n, of].map(|number| number.parse::<u64>().unwrap());
        assert_eq!(n, next[of as usize], "the keys of one come in its order");
        assert_eq!(*content, value(of, n));
        next[of as usize] += 1;
        found.hash(&mut order);
    }
    order.finish()
}

fn inserted(all: u64) {
    let (name, agreed) = (StreamName::new("insert"), Name::new("insert-agreed"));
    let mut options = Texts::options();
    let stream = options.log_bytes(4096).create(&name).unwrap();
    let _dict = AtomicDict::create(&agreed, 100).unwrap();
    let start = |me: u64| {
        let args = [&*name, &*agreed, &me.to_string(), &all.to_string()];
        let mut command = command("stream-insert", &args);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..all).map(start).collect();
    let ends: Vec<_> = children
        .into_iter()
        .map(|child| child.wait_with_output().unwrap())
        .collect();
    assert!(ends.iter().all(|end| end.status.success()), "{ends:?}");
    // Those who were there all the time, one who has slept, and a newcomer.
    let late = [&stream, &Texts::open(&name).unwrap()].map(|stream| order(stream, all));
    let expected = format!("{:016x}\n", late[0]).into_bytes();
    let same = |end: &std::process::Output| end.stdout == expected;
    assert!(
        late[0] == late[1] && ends.iter().all(same),
        "{late:x?}, {ends:?}"
    );
    check_files(&name, stream);
}
