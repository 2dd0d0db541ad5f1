//! Storms: processes that are killed by the tens of thousands while they work on one structure, and what
//! must be then as it was before.
//!
//! The victims are forked without `exec`, up to [`CREW`] at once, and live for a fraction of a millisecond.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::peer::{Peer, watchdog};

/// How many victims live at once, at most.
pub(crate) const CREW: u64 = 3;

/// How many microseconds a victim lives at most, once it is to die: some operations.
const LIFE: u64 = 600;

/// How many deaths: more by hand.
pub(crate) fn kills(default: u64) -> String {
    let asked = std::env::var("FORKMAP_KILLS");
    asked.unwrap_or_else(|_| default.to_string())
}

/// The life of a victim: some operations at leisure, so that each storm gets to all of them however slow
/// the machine is, then more of them until the kernel kills it, at a random instant.
pub(crate) fn live(rng: &mut SmallRng, mut operate: impl FnMut(&mut SmallRng)) {
    for _ in 0..rng.random_range(0..12) {
        operate(rng);
    }
    let death = SigevNotify::SigevSignal {
        signal: Signal::SIGKILL,
        si_value: 0,
    };
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(death)).unwrap();
    let life = Duration::from_micros(rng.random_range(1..LIFE));
    let once = Expiration::OneShot(life.into());
    timer.set(once, TimerSetTimeFlags::empty()).unwrap();
    loop {
        operate(rng);
    }
}

/// Victims at once, [`CREW`] and `most` at most, of which each has a place, from 0 on, and does `work`. When
/// all are dead: their pids.
pub(crate) fn crew(rng: &mut SmallRng, most: u64, work: impl Fn(u64, &mut SmallRng)) -> Vec<u32> {
    let size = rng.random_range(1..=CREW.min(most));
    let start = |place| {
        let seed = rng.random();
        Peer::fork(|| work(place, &mut SmallRng::seed_from_u64(seed)))
    };
    let crew: Vec<_> = (0..size).map(start).collect();
    if rng.random_bool(0.2) {
        // From outside, perhaps before it has begun, perhaps when it is dead already.
        std::thread::sleep(Duration::from_micros(rng.random_range(0..LIFE)));
        crew[0].signal(Signal::SIGKILL);
    }
    let pids = crew.iter().map(Peer::pid).collect();
    crew.into_iter().for_each(Peer::killed);
    pids
}

/// Crew after crew, until there were so many deaths. After each `check` is called, with how many there were
/// before that crew, and who was in it.
pub(crate) fn crews(
    kills: u64,
    seed: u64,
    work: impl Fn(u64, u64, &mut SmallRng),
    mut check: impl FnMut(u64, &[u32]),
) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut deaths = 0;
    while deaths < kills {
        watchdog();
        let pids = crew(&mut rng, kills - deaths, |place, rng| {
            work(deaths, place, rng)
        });
        check(deaths, &pids);
        deaths += pids.len() as u64;
    }
}

/// What must not grow by deaths, outside of the structure itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// How many descriptors this process has.
    descriptors: usize,
    /// How many mappings, and how many bytes all that are shared have.
    mappings: usize,
    shared: u64,
    /// The files in the directory, with their bytes and their blocks.
    files: Vec<(String, u64, u64)>,
}

impl Footprint {
    /// That of this process, and of the files in a directory whose names begin so.
    pub(crate) fn of(dir: &Path, name: &str) -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let shared = maps.lines().filter(|line| line.contains("s ")).map(bytes);
        Self {
            // (And the one by which they are listed, each time.)
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            mappings: maps.lines().count(),
            shared: shared.sum(),
            files: files(dir, name),
        }
    }
}

/// How many bytes a line of `/proc/self/maps` tells of.
fn bytes(line: &str) -> u64 {
    let (range, _) = line.split_once(' ').unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).unwrap());
    end - start
}

fn files(dir: &Path, name: &str) -> Vec<(String, u64, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        if file.starts_with(name) {
            let metadata = entry.metadata().unwrap();
            // A generation of a stream has an id behind the dot, another one each time.
            let stem = file.split('.').next().unwrap().to_owned();
            files.push((stem, metadata.len(), metadata.blocks()));
        }
    }
    files.sort();
    files
}
