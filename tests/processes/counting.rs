//! Many processes, exact counts.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use forkmap::AtomicDict;
use libtest_mimic::Trial;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::common::Name;
use crate::fork::fork_all;
use crate::{Role, command, run, spawn, test, wait_all};

const PROCESSES: u64 = 8;
const ADDS: u64 = 65_536;

pub(crate) const ROLES: &[Role] = &[
    ("add-unrelated", |args| {
        let keys: u64 = args[1].parse().unwrap();
        let dict = AtomicDict::open_or_create(&args[0], keys).unwrap();
        add(&dict, args[2].parse().unwrap(), keys);
    }),
    ("add-spawned", |args| {
        let fd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let dict = AtomicDict::options().from_fd(fd).unwrap();
        add(&dict, args[1].parse().unwrap(), args[0].parse().unwrap());
    }),
    ("add-forked", |args| {
        let keys = args[0].parse().unwrap();
        let dict = AtomicDict::anonymous(keys).unwrap();
        fork_all(PROCESSES, |p| add(&dict, p, keys));
        check_sums(&dict, keys);
    }),
    ("index-pattern", |_| index_pattern()),
    ("insert-and-add", |args| {
        let dict = AtomicDict::open(&args[0]).unwrap();
        let me = args[1].parse().unwrap();
        let mut rng = SmallRng::seed_from_u64(me);
        loop {
            insert_and_add(&dict, me, rng.random_range(0..SHARED_KEYS));
        }
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("eight_forked_processes_add_exactly", || {
            run("add-forked", &["1"]);
            run("add-forked", &["1000"]);
        }),
        test("eight_spawned_processes_add_exactly", || {
            for keys in [1, 1000] {
                let dict = AtomicDict::anonymous(keys).unwrap();
                wait_all((0..PROCESSES).map(|p| {
                    let stdin = Stdio::from(dict.as_fd().try_clone_to_owned().unwrap());
                    let args = [keys.to_string(), p.to_string()];
                    command("add-spawned", &args.each_ref().map(|arg| &**arg))
                        .stdin(stdin)
                        .spawn()
                        .unwrap()
                }));
                check_sums(&dict, keys);
            }
        }),
        test("eight_unrelated_programs_add_exactly", || {
            for keys in ["1", "1000"] {
                let name = Name::new("unrelated");
                wait_all(
                    (0..PROCESSES).map(|p| spawn("add-unrelated", &[&name, keys, &p.to_string()])),
                );
                check_sums(&AtomicDict::open(&name).unwrap(), keys.parse().unwrap());
            }
        }),
        test("sixteen_tasks_take_half_a_million_distinct_numbers", || {
            run("index-pattern", &[]);
        }),
        test(
            "killed_writers_lose_nothing_and_leave_nothing_half_done",
            killed_writers,
        ),
    ]
}

/// Adds 1 so many times, going round the keys from another one in each process.
fn add(dict: &AtomicDict, process: u64, keys: u64) {
    for i in 0..ADDS {
        dict.fetch_add((i + process * 37) % keys, 1).unwrap();
    }
}

fn check_sums(dict: &AtomicDict, keys: u64) {
    let mut expected = vec![0; keys as usize];
    for process in 0..PROCESSES {
        (0..ADDS).for_each(|i| expected[((i + process * 37) % keys) as usize] += 1);
    }
    for (key, sum) in (0..).zip(expected) {
        assert_eq!(dict.load(key), sum, "key {key}");
    }
    assert_eq!(
        dict.iter().map(|(_, sum)| sum).sum::<u64>(),
        PROCESSES * ADDS
    );
    assert_eq!(dict.len() as u64, keys);
}

/// The pattern of the original's own documentation: a running number, and a place for each.
fn index_pattern() {
    const TASKS: u64 = 16;
    const EACH: u64 = 32_768;
    const INDEX: u64 = 0;
    const BASE: u64 = 1;
    let dict = AtomicDict::anonymous(1 + TASKS * EACH).unwrap();
    fork_all(TASKS, |task| {
        let index = dict.entry(INDEX).unwrap();
        for n in 0..EACH {
            let i = index.fetch_add(1);
            dict.store(BASE + i, 1 + task * EACH + n).unwrap();
        }
    });
    assert_eq!(dict.load(INDEX), TASKS * EACH);
    let ids: HashSet<u64> = (0..TASKS * EACH).map(|i| dict.load(BASE + i)).collect();
    assert_eq!(ids.len() as u64, 524_288);
    assert!(!ids.contains(&0) && ids.iter().all(|&id| id <= TASKS * EACH));
}

const SHARED_KEYS: u64 = 20_000;
const TOTAL: u64 = 1 << 32;
const OWN: u64 = 1 << 33;

/// Three additions, in this order: so at any instant total >= key sum >= own sum for each process.
fn insert_and_add(dict: &AtomicDict, me: u64, key: u64) {
    dict.fetch_add(TOTAL, 1).unwrap();
    dict.fetch_add(key, 1).unwrap();
    dict.fetch_add(OWN + me, 1).unwrap();
}

/// A7, A8, S6: four writers on the same keys, killed again and again.
fn killed_writers() {
    const KILLS: u64 = 300;
    let name = Name::new("killed");
    let dict = AtomicDict::create(&name, SHARED_KEYS + 1 + KILLS + 4).unwrap();
    let mut rng = SmallRng::seed_from_u64(3);
    let mut next = 0;
    let mut start = || {
        let child = spawn("insert-and-add", &[&name, &next.to_string()]);
        next += 1;
        child
    };
    let mut writers: Vec<_> = (0..4).map(|_| start()).collect();
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        let victim = &mut writers[rng.random_range(0..4)];
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = start();
    }
    // The survivors go on, whatever the dead were doing.
    let before = dict.load(TOTAL);
    let patience = Instant::now() + Duration::from_secs(60);
    while dict.load(TOTAL) < before + 10_000 {
        assert!(Instant::now() < patience, "the survivors do not get on");
        std::thread::yield_now();
    }
    for writer in &mut writers {
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
    let sum = |keys: std::ops::Range<u64>| keys.map(|key| dict.load(key)).sum::<u64>();
    let (total, shared, own) = (dict.load(TOTAL), sum(0..SHARED_KEYS), sum(OWN..OWN + next));
    let deaths = KILLS + 4;
    assert!(total >= shared && shared >= own, "{total} {shared} {own}");
    assert!(
        total - own <= deaths,
        "{total} {shared} {own} after {deaths} deaths"
    );
    let keys: Vec<u64> = dict.keys().collect();
    assert_eq!(
        keys.iter().collect::<HashSet<_>>().len(),
        keys.len(),
        "a key twice"
    );
    let known = |key: u64| key < SHARED_KEYS || key == TOTAL || (OWN..OWN + next).contains(&key);
    assert!(
        keys.iter().all(|&key| known(key) && dict.contains_key(key)),
        "a half-made key"
    );
    println!("{deaths} deaths, {total} additions");
}
