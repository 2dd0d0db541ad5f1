//! Claims of new keys that all want the same slot.

use std::path::Path;
use std::sync::OnceLock;

use forkmap::AtomicDict;

use crate::bench::scenario::{Failure, Outcome, Place, Scenario, Scene, Seen, ensure};

/// Keys of the victim, the peer and the newcomer.
static KEYS: OnceLock<[u64; 3]> = OnceLock::new();

const CAPACITY: u64 = 10;

struct Claim {
    place: Place,
    dict: AtomicDict,
    keys: [u64; 3],
}

/// The claim of a key.
pub(crate) fn entry(dir: &Path) -> Result<Box<dyn Scenario>, Failure> {
    let place = Place::new(dir);
    let keys = match KEYS.get() {
        Some(keys) => *keys,
        None => *KEYS.get_or_init(|| rivals(&place).unwrap_or_default()),
    };
    ensure!(keys != [0; 3], "no keys that collide");
    let dict = place.create(CAPACITY)?;
    Ok(Box::new(Claim { place, dict, keys }))
}

/// Three keys with one home slot: two stand in the order in which they were claimed, whichever that
/// is, only if they collide.
fn rivals(place: &Place) -> Result<[u64; 3], Failure> {
    let in_order = |first: u64, second: u64| -> Result<bool, Failure> {
        let dict = place.options().capacity(CAPACITY).anonymous()?;
        dict.store(first, 1)?;
        dict.store(second, 1)?;
        Ok(dict.keys().eq([first, second]))
    };
    let mut rivals = vec![1];
    for key in 2..1000 {
        let collides = in_order(1, key)? && in_order(key, 1)?;
        rivals.extend(collides.then_some(key));
        if let [victim, peer, newcomer] = rivals[..] {
            return Ok([victim, peer, newcomer]);
        }
    }
    Err("no keys that collide".into())
}

impl Scenario for Claim {
    fn op(&mut self) -> Result<(), Failure> {
        let entry = self.dict.entry(self.keys[0])?;
        let found = entry.load();
        ensure!([0, 1000].contains(&found), "a new value is {found}");
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        let [victim, own, _] = self.keys;
        let done = self.dict.contains_key(victim);
        ensure!(self.dict.load(victim) == 0, "a new value is not 0");
        // The slot that the victim may be looking at right now.
        ensure!(
            self.dict.entry(own)?.fetch_add(10) == 0,
            "a new value is not 0"
        );
        ensure!(self.dict.load(own) == 10, "the own value is lost");
        let again = self.dict.contains_key(victim);
        ensure!(again == done, "the key is there: {done}, then {again}");
        Ok(Seen::done(done))
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        let [victim, peer, own] = self.keys;
        let dict = self.place.open()?;
        let done = dict.contains_key(victim);
        ensure!(dict.load(peer) == 10, "the value of the peer is lost");
        // The very key of the victim.
        ensure!(dict.fetch_add(victim, 1000)? == 0, "a new value is not 0");
        ensure!(dict.fetch_add(own, 20)? == 0, "a new value is not 0");
        Ok(Seen::done(done))
    }

    fn finish(&self, _: Scene) -> Result<Seen, Failure> {
        let [victim, peer, newcomer] = self.keys;
        let mut found: Vec<_> = self.dict.iter().collect();
        let mut expected = [(victim, 1000), (peer, 10), (newcomer, 20)];
        found.sort_unstable();
        expected.sort_unstable();
        ensure!(found == expected, "{found:?}, not {expected:?}");
        self.fill()?;
        Ok(Seen::NOTHING)
    }

    fn rivals(&self) -> &'static [&'static str] {
        &["itself", "fetch_add", "a key that collides"]
    }

    fn compete(&mut self, name: &str) -> Result<(), Failure> {
        let [victim, other, _] = self.keys;
        let key = match name {
            "itself" => return self.op(),
            "fetch_add" => victim,
            _ => other,
        };
        let previous = self.dict.fetch_add(key, 1000)?;
        ensure!(previous == 0, "a new value is {previous}");
        Ok(())
    }

    fn outcome(&self, _: &str, _: [Option<u64>; 2]) -> Result<Outcome, Failure> {
        let mut pairs: Vec<_> = self.dict.iter().collect();
        pairs.sort_unstable();
        self.fill()?;
        Ok(Outcome::Told(format!("{pairs:?}")))
    }
}

impl Claim {
    /// Every other slot is still there to be had.
    fn fill(&self) -> Result<(), Failure> {
        let free = self.dict.capacity() - self.dict.len();
        for key in 10_000..10_000 + free as u64 {
            self.dict.store(key, key)?;
        }
        ensure!(self.dict.store(1_000_000, 1).is_err(), "a slot too many");
        let lost = (10_000..10_000 + free as u64).find(|&key| self.dict.load(key) != key);
        ensure!(lost.is_none(), "lost: {lost:?}");
        Ok(())
    }
}
