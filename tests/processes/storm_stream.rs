//! A storm on a `StreamDict`: what is killed while it writes, moves maps and begins generations has done so
//! as a whole or not at all, and leaves no file.

use std::path::Path;

use forkmap::{AtomicDict, Node, Options, StreamDict, StreamError, Transaction, Tree};
use libtest_mimic::Trial;
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::maps::agreed;
use crate::peer::watchdog;
use crate::storm::{CREW, Footprint, crews, kills, live};
use crate::{Role, run, test};

type Dict = StreamDict<u64, u64>;

/// Accounts, in the dictionary and in a map of it, whose sum is always the same.
const ACCOUNTS: u64 = 4;
const BELOW: u64 = 9;
const SUM: u64 = 8000;
/// A key of each place's own: set to the number of the change, or removed by it.
const OWN: u64 = 10;
/// A counter of each place's own.
const COUNTER: u64 = 20;
/// Maps between which one is moved, and where that stands in them.
const PARENTS: [u64; 2] = [30, 31];
const MOVED: u64 = 0;

/// In the other dictionary: how many changes of its key each place has begun, and told of; how often its
/// counter was told of, and how many operations all have done.
const BEGUN: u64 = 110;
const TOLD: u64 = 120;
const COUNTED: u64 = 130;
const OPERATIONS: u64 = 100;

pub(crate) const ROLES: &[Role] = &[("storm-stream", |args| {
    storm(Path::new(&args[0]), args[1].parse().unwrap());
})];

pub(crate) fn tests() -> Vec<Trial> {
    vec![test(
        "storm_stream_keeps_its_sums_and_its_size_after_many_kills",
        || {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let args = [dir.path().to_str().unwrap(), &kills(500)];
            print!("{}", run("storm-stream", &args));
        },
    )]
}

/// What a change leaves under a place's own key.
fn after(change: u64) -> Option<u64> {
    (change % 4 != 0).then_some(change)
}

/// Takes from an account, or gives to it.
fn add(tx: &mut Transaction<'_, u64, u64>, account: u64, n: i64) -> Result<bool, StreamError> {
    let change = |tx: &mut Transaction<'_, u64, u64>, account| {
        let balance = *tx.get(&account)?.unwrap();
        match balance.checked_add_signed(n) {
            Some(balance) => tx.set(&account, &balance).map(|()| true),
            None => Ok(false),
        }
    };
    match account.checked_sub(ACCOUNTS) {
        None => change(tx, account),
        Some(account) => change(&mut tx.nested(&BELOW)?, account),
    }
}

/// The map that is moved, which tells where it is.
fn moved(to: u64) -> Node<u64, u64> {
    Node::Map(Tree::from_iter([(0, to), (1, !to)]))
}

struct Storm<'a> {
    options: Options<Dict>,
    dir: &'a Path,
    stream: Dict,
    told: AtomicDict,
}

impl Storm<'_> {
    fn open(&self) -> Dict {
        self.options.open("stream").unwrap()
    }

    fn victim(&self, place: u64, rng: &mut SmallRng) {
        let mut opened = None;
        live(rng, |rng| {
            let stream = opened.as_ref().unwrap_or(&self.stream);
            match rng.random_range(0..32) {
                0..8 => transfer(stream, rng),
                8..14 => self.change(stream, place, rng),
                14..20 => {
                    let before = self.told.load(COUNTED + place);
                    let next = |old: Option<&u64>| Some(old.map_or(1, |old| old + 1));
                    let found = stream.fetch_update(&(COUNTER + place), next).unwrap();
                    assert!(
                        found.unwrap_or(0) >= before,
                        "{found:?}, {before} were told"
                    );
                    self.told.fetch_add(COUNTED + place, 1).unwrap();
                }
                20..26 => move_map(stream, rng),
                26 => check_content(stream),
                27 => stream.dump().unwrap(),
                28 => stream.reload().unwrap(),
                29 => opened = None,
                _ => opened = Some(self.open()),
            }
            self.told.fetch_add(OPERATIONS, 1).unwrap();
        });
    }

    /// The next change of the place's own key.
    fn change(&self, stream: &Dict, place: u64, rng: &mut SmallRng) {
        let key = OWN + place;
        let change = self.told.fetch_add(BEGUN + place, 1).unwrap() + 1;
        match after(change) {
            Some(value) if rng.random_bool(0.5) => stream.set(&key, &value).unwrap(),
            Some(value) => _ = stream.insert(&key, &value).unwrap(),
            None => _ = stream.remove(&key).unwrap(),
        }
        self.told.store(TOLD + place, change).unwrap();
    }

    /// Nobody else lives, and one of each of so many places has died since this was called last.
    fn check(&self, places: u64, stream: &Dict) {
        let told = &self.told;
        check_content(stream);
        for place in 0..CREW {
            let deaths = u64::from(place < places);
            let found = stream.get(&(COUNTER + place)).unwrap().unwrap();
            let before = told.load(COUNTED + place);
            let explained = before <= found && found <= before + deaths;
            assert!(
                explained,
                "place {place}: {found}, {before} told of, {deaths} deaths"
            );
            told.store(COUNTED + place, found).unwrap();
            let found = stream.get(&(OWN + place)).unwrap();
            let [begun, done] = [BEGUN, TOLD].map(|key| told.load(key + place));
            assert!(begun == done || begun == done + deaths);
            assert!(
                found == after(done) || found == after(begun),
                "place {place}: {found:?} after {done} changes, {begun} begun"
            );
            let done = if found == after(begun) { begun } else { done };
            for key in [BEGUN, TOLD] {
                told.store(key + place, done).unwrap();
            }
        }
    }

    /// With the values that it began with, and when everything was looked at.
    fn footprint(&self) -> (Footprint, u64) {
        fill(&self.stream, &self.told);
        check_content(&self.open());
        self.stream.dump().unwrap();
        let status = self.stream.status().unwrap();
        let living = status.participants.iter().filter(|one| one.is_alive);
        let living: Vec<_> = living.map(|one| one.pid).collect();
        assert_eq!(living, [std::process::id()]);
        (Footprint::of(self.dir, ""), status.memory)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.dir).unwrap().count()
    }
}

/// The same values as each time that this is called.
fn fill(stream: &Dict, told: &AtomicDict) {
    let filled = stream.transaction(|tx| {
        for account in 0..ACCOUNTS {
            tx.set(&account, &(SUM / 8))?;
            tx.nested(&BELOW)?.set(&account, &(SUM / 8))?;
        }
        for place in 0..CREW {
            tx.set(&(OWN + place), &1)?;
            tx.set(&(COUNTER + place), &0)?;
        }
        for parent in PARENTS {
            tx.set_node(&parent, &Node::Map(Tree::new()))?;
        }
        tx.nested(&PARENTS[0])?.set_node(&MOVED, &moved(PARENTS[0]))
    });
    filled.unwrap_or_else(|error: StreamError| panic!("{error}"));
    for place in 0..CREW {
        for key in [BEGUN, TOLD] {
            told.store(key + place, 1).unwrap();
        }
        told.store(COUNTED + place, 0).unwrap();
    }
}

fn transfer(stream: &Dict, rng: &mut SmallRng) {
    let [from, to] = [(); 2].map(|()| rng.random_range(0..2 * ACCOUNTS));
    let amount = rng.random_range(0..200);
    let done = stream.transaction(|tx| {
        if add(tx, from, -amount)? {
            assert!(add(tx, to, amount)?);
        }
        Ok(())
    });
    done.unwrap_or_else(|error: StreamError| panic!("{error}"));
}

fn move_map(stream: &Dict, rng: &mut SmallRng) {
    let to = PARENTS[rng.random_range(0..2)];
    let done = stream.transaction(|tx| {
        let mut found = Vec::new();
        for parent in PARENTS {
            found.extend(tx.nested(&parent)?.remove_node(&MOVED)?);
        }
        assert_eq!(found.len(), 1, "{found:?}");
        tx.nested(&to)?.set_node(&MOVED, &moved(to))
    });
    done.unwrap_or_else(|error: StreamError| panic!("{error}"));
}

/// What holds at any time.
#[track_caller]
fn check_content(stream: &Dict) {
    let view = stream.view().unwrap();
    let below = view.get_nested(&BELOW).unwrap().unwrap();
    let balance = |account| {
        let [here, below] = [&view, &below].map(|map| *map.get(&account).unwrap().unwrap());
        here + below
    };
    assert_eq!((0..ACCOUNTS).map(balance).sum::<u64>(), SUM);
    let mut found = Vec::new();
    for parent in PARENTS {
        let map = view.get_nested(&parent).unwrap().unwrap().tree().unwrap();
        assert!(map.len() <= 1);
        found.extend(map.get(&MOVED).map(|map| (*map == moved(parent), parent)));
    }
    assert!(matches!(found[..], [(true, _)]), "{found:?}");
}

fn storm(dir: &Path, kills: u64) {
    watchdog();
    let mut options = Dict::options();
    options.dir(dir).log_bytes(0).participants(16);
    let (stream, told) = (options.create("stream").unwrap(), agreed());
    let storm = Storm {
        options,
        dir,
        stream,
        told,
    };
    let before = storm.footprint();
    let mut left = 0;
    crews(
        kills,
        33,
        |_, place, rng| storm.victim(place, rng),
        |deaths, dead| {
            let found = storm.files();
            // The control, a generation, the one before, and what each of them was about to name.
            assert!((2..=3 + CREW as usize).contains(&found), "{found} files");
            left += found - 2;
            let newcomer = (deaths % 4 == 0).then(|| storm.open());
            storm.check(
                dead.len() as u64,
                newcomer.as_ref().unwrap_or(&storm.stream),
            );
            if deaths % 16 == 0 {
                storm.stream.dump().unwrap();
                assert_eq!(storm.files(), 2, "the control and a generation");
            }
        },
    );
    let (dumps, done) = (
        storm.stream.status().unwrap().dumps,
        storm.told.load(OPERATIONS),
    );
    assert_eq!(storm.footprint(), before);
    println!("{kills} deaths, which left {left} files, {done} operations, {dumps} generations");
    drop(storm.stream);
    storm.options.unlink("stream").unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
}
