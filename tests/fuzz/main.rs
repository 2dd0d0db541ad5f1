//! Hostile memory: the functions in `targets` with a small corpus, and with bytes at random.
//!
//! `FORKMAP_FUZZ=1000000 cargo test --release --test fuzz -- --nocapture` tries so many at random for each structure,
//! and `FORKMAP_FUZZ_SEED` says with which seed. What fails is printed in hexadecimal digits: the bytes become a
//! file in `tests/fuzz/corpus`. After a crash they stand in the file that is printed at the start.

#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use self::targets::{Outcome, dict, map, stream};

/// The longest that one input may take, on a machine that is very busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most that may be allocated at once. No file here has as many bytes.
const LARGEST: usize = 1 << 20;

/// Bytes of an input at random, at most.
const LONGEST: usize = 400;

/// The allocator of the system, which remembers the most that a thread has asked for.
struct Watched;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

impl Watched {
    fn note(bytes: usize) {
        // (A thread that ends has nothing to remember.)
        let _ = ASKED.try_with(|asked| asked.set(asked.get().max(bytes)));
    }
}

// SAFETY: it hands everything on to the allocator of the system.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What is tried at the moment, for who finds that it hangs.
#[derive(Default)]
struct Latest {
    tried: u64,
    data: Vec<u8>,
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// The committed inputs of a target.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// Bytes at random: as many as they come, and often the same one several times.
fn at_random(seed: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut data = vec![0; rng.random_range(0..LONGEST)];
    rng.fill_bytes(&mut data);
    data
}

/// Runs a target with its corpus and with so many inputs at random, in a thread of its own that is given up when it
/// gets nowhere.
fn survive(name: &'static str, run: fn(&[u8]) -> Outcome, rounds: u64) {
    let rounds = env("FORKMAP_FUZZ").unwrap_or(rounds);
    let seed = env("FORKMAP_FUZZ_SEED").unwrap_or_else(|| rand::rng().random());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("fuzz-{name}-{}", std::process::id()));
    println!(
        "{name}: seed {seed}, the latest input is in {}",
        path.display()
    );
    let file = File::create(&path).unwrap();
    let latest = Arc::new(Mutex::new(Latest::default()));
    let (sender, done) = channel();
    let watched = Arc::clone(&latest);
    let worker = thread::spawn(move || {
        let (start, mut refused) = (Instant::now(), 0);
        let (mut operations, mut errors, mut largest) = (0_u64, 0_u64, 0);
        let inputs = (0..rounds).map(|n| at_random(seed.wrapping_add(n)));
        let inputs = corpus(name).into_iter().chain(inputs);
        for data in inputs {
            file.set_len(data.len() as u64).unwrap();
            file.write_all_at(&data, 0).unwrap();
            {
                let mut latest = watched.lock().unwrap();
                latest.tried += 1;
                latest.data.clone_from(&data);
            }
            ASKED.set(0);
            let outcome = catch_unwind(|| run(&data));
            let asked = ASKED.get();
            let outcome = outcome.unwrap_or_else(|_| panic!("it panicked: {}", hex(&data)));
            assert!(asked <= LARGEST, "{asked} bytes at once: {}", hex(&data));
            refused += u64::from(outcome.refused);
            operations += u64::from(outcome.operations);
            errors += u64::from(outcome.errors);
            largest = largest.max(asked);
        }
        let seconds = start.elapsed().as_secs_f64();
        let rate = rounds as f64 / seconds;
        println!(
            "{name}: {rounds} inputs in {seconds:.1} s, {rate:.0} a second; {refused} refused; \
             {errors} of {operations} operations gave an error; {largest} bytes at once at most"
        );
        assert!(rounds < 100 || refused > 0 && operations > errors && errors > 0);
        sender.send(()).unwrap();
    });
    let mut tried = 0;
    loop {
        match done.recv_timeout(PATIENCE) {
            Ok(()) => break,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let latest = latest.lock().unwrap();
                assert_ne!(latest.tried, tried, "it hangs: {}", hex(&latest.data));
                tried = latest.tried;
            }
        }
    }
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn hostile_dictionaries_are_survived() {
    survive("dict", dict::run, 8000);
}

#[test]
fn hostile_maps_are_survived() {
    survive("map", map::run, 5000);
}

#[test]
fn hostile_stream_dictionaries_are_survived() {
    survive("stream", stream::run, 2000);
}
