//! Stream dictionaries whose writers are killed and stopped at any instant.

use std::path::Path;
use std::time::{Duration, Instant};

use forkmap::{AtomicDict, StreamError};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::maps::{agreed, breathe, end, is_over, scaled};
use crate::peer::{Latencies, PATIENCE, Peer, await_value, watchdog};
use crate::storm::{Footprint, kills};
use crate::streams::{Numbers, StreamName, check_files, files};
use crate::{Role, run, test};

/// Four accounts, whose sum is always the same.
const ACCOUNTS: u64 = 4;
const SUM: u64 = 4000;
/// The counter of each worker's place: the first key in the dictionary, and where it tells of an addition
/// when it is done.
const COUNTER: u64 = 10;
const TOLD: u64 = 100;
/// How many operations were done by all.
const DONE: u64 = 10;
/// How many names there are at most: the control, a generation, and what one dead process leaves.
const FILES: usize = 3;

pub(crate) const ROLES: &[Role] = &[
    ("stream-killed", |args| {
        killed(&args[0], args[1].parse().unwrap(), args[2].parse().unwrap());
    }),
    ("stream-killed-in-sequence", |args| {
        killed_in_sequence(&args[0], args[1].parse().unwrap());
    }),
    ("stream-stopped", |args| stopped(&args[0])),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "stream_writers_killed_anywhere_lose_and_tear_nothing",
            || {
                kill("killed", "1024", 200);
            },
        ),
        test(
            "stream_writers_killed_while_they_switch_lose_and_tear_nothing",
            || {
                kill("killed-switching", "0", 200);
            },
        ),
        test(
            "storm_stream_what_one_dead_writer_leaves_the_next_one_removes",
            || {
                let name = StreamName::new("killed-in-sequence");
                let args = [&*name, &kills(300)];
                print!("{}", run("stream-killed-in-sequence", &args));
            },
        ),
        test("stream_others_go_on_while_a_writer_is_stopped", || {
            print!("{}", run("stream-stopped", &[&StreamName::new("stopped")]));
        }),
    ]
}

fn kill(label: &str, log_bytes: &str, default: u64) {
    let name = StreamName::new(label);
    let args = [&*name, log_bytes, &kills(default)];
    print!("{}", run("stream-killed", &args));
}

struct Bank {
    stream: Numbers,
    dict: AtomicDict,
    name: String,
}

impl Bank {
    fn new(name: &str, log_bytes: u64) -> Self {
        let accounts = (0..ACCOUNTS).map(|account| (account, SUM / ACCOUNTS));
        let mut options = Numbers::options();
        let stream = options.log_bytes(log_bytes).create_with(name, accounts);
        Self {
            stream: stream.unwrap(),
            dict: agreed(),
            name: name.to_owned(),
        }
    }

    /// A transfer, an addition to the counter of this place, which is told of, and at times something else.
    fn operate(&self, stream: &Numbers, place: u64, rng: &mut SmallRng) {
        let [from, to] = [(); 2].map(|()| rng.random_range(0..ACCOUNTS));
        let amount = rng.random_range(0..200);
        let moved = stream.transaction(|tx| {
            let balance = *tx.get(&from)?.unwrap();
            if balance < amount || from == to {
                return Ok(());
            }
            tx.set(&from, &(balance - amount))?;
            let other = *tx.get(&to)?.unwrap();
            tx.set(&to, &(other + amount))
        });
        moved.unwrap_or_else(|error: StreamError| panic!("{error}"));
        let add = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
        let told = self.dict.load(TOLD + place);
        let before = stream.fetch_update(&(COUNTER + place), add).unwrap();
        assert!(
            before.unwrap_or(0) >= told,
            "{before:?}, and {told} were told"
        );
        self.dict.fetch_add(TOLD + place, 1).unwrap();
        match rng.random_range(0..16) {
            0 => stream.dump().unwrap(),
            1 => stream.reload().unwrap(),
            2..6 => check_sum(stream),
            6 => _ = stream.insert(&(1000 + place), &amount).unwrap(),
            7 => _ = stream.remove(&(1000 + place)).unwrap(),
            _ => {}
        }
        self.dict.fetch_add(DONE, 1).unwrap();
    }

    /// One with the handle of its parent, or one that opens the dictionary by itself.
    fn worker(&self, place: u64, seed: u64) -> Peer {
        Peer::fork(|| {
            let mut rng = SmallRng::seed_from_u64(seed);
            let opened = (seed % 2 == 0).then(|| Numbers::open(&self.name).unwrap());
            let stream = opened.as_ref().unwrap_or(&self.stream);
            while !is_over(&self.dict) {
                self.operate(stream, place, &mut rng);
                breathe(seed + self.dict.load(DONE));
            }
        })
    }

    /// With the same keys each time, and in a generation that nothing was added to.
    fn footprint(&self) -> Footprint {
        self.stream.set(&1000, &0).unwrap();
        self.stream.set(&COUNTER, &self.dict.load(TOLD)).unwrap();
        self.stream.dump().unwrap();
        Footprint::of(Path::new("/dev/shm"), &self.name)
    }

    /// No addition is lost that was told of, and each death left one at most that was not. Nobody lives in
    /// that place.
    fn check_counter(&self, stream: &Numbers, place: u64, deaths: u64) {
        let told = self.dict.load(TOLD + place);
        let count = stream.get(&(COUNTER + place)).unwrap().unwrap_or(0);
        let most = self.dict.load(TOLD + place) + deaths;
        assert!(
            told <= count && count <= most,
            "place {place}: {count} additions, {told} told of, {deaths} deaths"
        );
    }
}

#[track_caller]
fn check_sum(stream: &Numbers) {
    let view = stream.view().unwrap();
    let balance = |account| *view.get(&account).unwrap().unwrap();
    assert_eq!((0..ACCOUNTS).map(balance).sum::<u64>(), SUM);
}

/// More processes than cores, and each death at an instant when another may be in the middle of something.
fn killed(name: &str, log_bytes: u64, kills: u64) {
    const WORKERS: u64 = 4;
    watchdog();
    let bank = Bank::new(name, log_bytes);
    let (stream, dict) = (&bank.stream, &bank.dict);
    let mut rng = SmallRng::seed_from_u64(log_bytes);
    let mut seeds = 1..;
    let mut deaths = [0; WORKERS as usize];
    let mut latencies = Latencies::default();
    let mut crew: Vec<_> = (0..WORKERS)
        .map(|place| bank.worker(place, seeds.next().unwrap()))
        .collect();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..4000)));
        let place = rng.random_range(0..WORKERS);
        let victim = &mut crew[place as usize];
        victim.kill_only();
        deaths[place as usize] += 1;
        let start = Instant::now();
        check_sum(stream);
        bank.check_counter(stream, place, deaths[place as usize]);
        stream.set(&500, &kill).unwrap();
        latencies.add(start);
        assert!(start.elapsed() < PATIENCE);
        if kill % 3 == 0 {
            let newcomer = Numbers::open(name).unwrap();
            check_sum(&newcomer);
            assert_eq!(newcomer.insert(&500, &kill).unwrap(), Some(kill));
        }
        let next = bank.worker(place, seeds.next().unwrap());
        std::mem::replace(victim, next).killed();
        if kill % 16 == 0 {
            await_value(dict, DONE, dict.load(DONE) + 20);
            assert!(crew.iter().all(|peer| !peer.has_ended()));
        }
    }
    await_value(dict, DONE, dict.load(DONE) + 100);
    crew.into_iter().for_each(Peer::kill);
    check_sum(stream);
    let newcomer = Numbers::open(name).unwrap();
    for place in 0..WORKERS {
        // (The last one has died as well.)
        bank.check_counter(stream, place, deaths[place as usize] + 1);
        let counter = COUNTER + place;
        assert_eq!(
            newcomer.get(&counter).unwrap(),
            stream.get(&counter).unwrap()
        );
    }
    drop(newcomer);
    let (status, done) = (stream.status().unwrap(), dict.load(DONE));
    println!(
        "{kills} deaths, {done} rounds, {} dumps; next use after {latencies}",
        status.dumps
    );
    check_files(name, bank.stream);
}

/// One after the other, each at a random instant of its work, which is mostly switching.
fn killed_in_sequence(name: &str, kills: u64) {
    watchdog();
    let bank = Bank::new(name, 0);
    let (stream, dict) = (&bank.stream, &bank.dict);
    let mut rng = SmallRng::seed_from_u64(3);
    let mut left = 0;
    let before = bank.footprint();
    for kill in 0..kills {
        let done = dict.load(DONE);
        let victim = bank.worker(0, kill);
        // Most of them get to work, and some do not.
        if rng.random_bool(0.8) {
            await_value(dict, DONE, done + 1);
        }
        std::thread::sleep(Duration::from_micros(rng.random_range(0..1000)));
        victim.kill();
        let found = files(name);
        assert!((2..=FILES).contains(&found.len()), "{found:?}");
        left += u64::from(found.len() > 2);
        match kill % 4 {
            0 => {
                check_sum(stream);
                bank.check_counter(stream, 0, kill + 1);
            }
            1 => check_sum(&Numbers::open(name).unwrap()),
            _ => {}
        }
        if kill % 1000 == 999 {
            watchdog();
        }
    }
    check_sum(stream);
    bank.check_counter(stream, 0, kills);
    // The victims have all had the same place in the table of participants, or two.
    assert_eq!(
        stream
            .status()
            .unwrap()
            .participants
            .iter()
            .filter(|one| one.is_alive)
            .count(),
        1
    );
    println!(
        "{kills} deaths, {left} of which left a file, {} rounds",
        dict.load(DONE)
    );
    assert_eq!(bank.footprint(), before);
    check_files(name, bank.stream);
}

/// A writer that is stopped anywhere keeps nobody waiting, and goes on as if nothing had happened.
fn stopped(name: &str) {
    const WORKERS: u64 = 3;
    const STEPS: u64 = 5;
    let rounds = scaled(500);
    watchdog();
    let bank = Bank::new(name, 0);
    let (stream, dict) = (&bank.stream, &bank.dict);
    let mut rng = SmallRng::seed_from_u64(4);
    let mut latencies = Latencies::default();
    let crew: Vec<_> = (0..WORKERS)
        .map(|place| bank.worker(place, place))
        .collect();
    await_value(dict, DONE, 10);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(rng.random_range(0..2000)));
        let victim = rng.random_range(0..WORKERS);
        crew[victim as usize].stop();
        let start = Instant::now();
        check_sum(stream);
        stream.set(&500, &victim).unwrap();
        for place in (0..WORKERS).filter(|&place| place != victim) {
            let key = TOLD + place;
            await_value(dict, key, dict.load(key) + STEPS);
        }
        latencies.add(start);
        let told = dict.load(TOLD + victim);
        crew[victim as usize].signal(Signal::SIGCONT);
        await_value(dict, TOLD + victim, told + 1);
    }
    end(dict);
    crew.into_iter().for_each(Peer::join);
    check_sum(stream);
    let mut all = 0;
    for place in 0..WORKERS {
        let count = stream.get(&(COUNTER + place)).unwrap();
        assert_eq!(count, Some(dict.load(TOLD + place)));
        all += count.unwrap();
    }
    assert_eq!(all, dict.load(DONE));
    println!("{rounds} stops, {all} rounds; the others have done {STEPS} each after {latencies}");
    check_files(name, bank.stream);
}
