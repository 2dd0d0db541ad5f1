//! `AtomicDict`, and the primitives that stand on it.

use std::fs::File;

use forkmap::{AtomicDict, Barrier, Lock, LockError, Once, Semaphore};

use super::damage::{GEOMETRY, HEADER, LENGTH, Shape, damage_header, get, put, reseal};
use super::input::Input;
use super::{MOMENT, OPERATIONS, Outcome, memory, vandal};

const CAPACITIES: [u64; 4] = [1, 4, 12, 90];
const PARTICIPANTS: [u64; 3] = [2, 8, 40];
const SEED: u64 = 11;

/// Makes a dictionary, damages it, and uses it.
pub fn run(data: &[u8]) -> Outcome {
    let input = &mut Input::new(data);
    let variant = input.byte();
    let capacity = CAPACITIES[usize::from(variant % 4)];
    let participants = PARTICIPANTS[usize::from(variant / 4 % 3)];
    let filled = u64::from(variant / 12 % 3) * capacity / 2;
    let mut bytes = memory::prepared(u64::from(variant) % 36, || {
        let mut options = AtomicDict::<u64>::options();
        options.capacity(capacity).participants(participants);
        let dict = options.hash_seed(SEED).anonymous().unwrap();
        (0..filled).for_each(|key| dict.store(key, key * 3).unwrap());
        dict
    });
    let slots = get(&bytes, GEOMETRY) as usize;
    let body = 1344 + 32 * participants as usize;
    let shape = Shape {
        parts: vec![HEADER..1344, 1344..body, body..body + 16 * (slots + 1)],
        plausible,
    };
    for _ in 0..input.byte() % 4 {
        let edits = shape.damage(&bytes, input);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
    }
    if input.one_in(8) {
        damage_header(&mut bytes, input);
    }
    if input.one_in(32) {
        // Another length, which the header says too.
        let len = 4096 * (1 + input.below(3));
        bytes.resize(len, 0);
        put(&mut bytes, LENGTH, len as u64);
        reseal(&mut bytes);
    }
    let file = memory::file_of(&bytes);
    let mut options = AtomicDict::<u64>::options();
    options.read_only(input.one_in(8));
    let Ok(dict) = options.from_fd(memory::fd(&file)) else {
        return Outcome::REFUSED;
    };
    let capacity = dict.capacity();
    let outcome = if input.one_in(16) {
        let edits = shape.damage(&bytes[..], input);
        vandal::beside(&file, &bytes, &edits, || play(&dict, &file, &shape, input))
    } else {
        play(&dict, &file, &shape, input)
    };
    assert_eq!(dict.capacity(), capacity);
    outcome
}

/// A word that could stand there, or nearly.
fn plausible(shape: &Shape, bytes: &[u8], offset: usize, input: &mut Input<'_>) -> u64 {
    let (participants, body) = (&shape.parts[1], &shape.parts[2]);
    if participants.contains(&offset) {
        // Incarnation, incarnation and pid, number of the process.
        let incarnation = input.about(3);
        return match (offset - participants.start) / 8 % 4 {
            0 => incarnation,
            1 => incarnation << 32 | u64::from(std::process::id()),
            _ => input.word(),
        };
    }
    let slot = input.below(body.len() / 16);
    match body.contains(&offset) {
        // The key of another slot, or an owner: a participant, a thread, and what is known of them.
        true if (offset - body.start) % 16 == 0 => get(bytes, body.start + 16 * slot),
        true => input.about(3) << 52 | input.about(2) << 24 | input.about(40),
        false => input.about(2),
    }
}

/// Every operation, with keys that were there and with others.
fn play(dict: &AtomicDict, file: &File, shape: &Shape, input: &mut Input<'_>) -> Outcome {
    let mut out = Outcome::default();
    let most = dict.capacity() + 1;
    for _ in 0..OPERATIONS {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        let (key, n) = (input.about(16), input.word());
        match kind % 32 {
            0 => out.count(Ok::<_, ()>(dict.get(key))),
            1 => out.count(Ok::<_, ()>(dict.contains_key(key))),
            2 => out.count(dict.store(key, n)),
            3 => out.count(dict.swap(key, n)),
            4 => out.count(dict.compare_exchange(key, dict.load(key), n)),
            5 => out.count(dict.fetch_add(key, n)),
            6 => out.count(dict.fetch_sub(key, n)),
            7 => out.count(dict.fetch_and(key, n).and(dict.fetch_or(key, n))),
            8 => out.count(dict.fetch_xor(key, n)),
            9 => out.count(dict.fetch_min(key, n).and(dict.fetch_max(key, n))),
            10 => out.count(dict.fetch_add_bounded(key, n, n / 2)),
            11 => out.count(dict.fetch_sub_bounded(key, n, n / 2)),
            12 => out.count(dict.fetch_update(key, |old| (old != n).then_some(n))),
            13 => {
                let signed = dict.cast::<i64>();
                let n = n as i64;
                out.count(signed.fetch_add_bounded(key, n, n / 2));
                out.count(signed.fetch_min(key, n).and(signed.fetch_sub(key, n)));
            }
            14 => match dict.entry(key) {
                Ok(entry) => {
                    entry.store(n);
                    entry.fetch_add(1);
                    let _ = entry.compare_exchange(n, 0);
                    let _ = entry.fetch_update(|old| old.checked_add(1));
                    let _ = entry.wait_while_timeout(entry.load(), MOMENT);
                }
                error => out.count(error),
            },
            15 => {
                assert!(dict.iter().count() <= most && dict.keys().count() <= most);
                assert!(dict.len() <= most);
                out.count(Ok::<_, ()>(dict.is_empty()));
            }
            16 => match dict.participants() {
                Ok(all) => assert!(all.len() <= 4094),
                error => out.count(error),
            },
            17 => drop(dict.wait_while_timeout(key, dict.load(key), MOMENT)),
            18 => drop(dict.wait_until_timeout(key, |value| value == n, MOMENT)),
            19 | 20 => lock(dict, key, &mut out),
            21 | 22 => semaphore(dict, key, n, &mut out),
            23 | 24 => barrier(dict, key, n, &mut out),
            25 => match Once::new(dict, key) {
                Ok(once) => {
                    let mut done = false;
                    out.count(once.call_once_timeout(|| done = true, MOMENT));
                    let _ = once.is_completed();
                }
                error => out.count(error),
            },
            26 => {
                // A peer that has it open as well.
                let opened = AtomicDict::<u64>::options().from_fd(memory::fd(file));
                out.count(opened.map(|other| (other.fetch_add(key, n), other.iter().count())));
            }
            _ => {
                let edits = shape.damage(&memory::read(file), input);
                edits.iter().for_each(|edit| edit.write(file));
            }
        }
    }
    out
}

fn lock(dict: &AtomicDict, key: u64, out: &mut Outcome) {
    let Ok(lock) = Lock::new(dict, key) else {
        return out.count(Err::<(), _>(()));
    };
    let _ = (lock.owner_pid(), lock.is_locked());
    match lock.lock_timeout(MOMENT).or_else(LockError::into_guard) {
        Ok(mut guard) => {
            let _ = (guard.is_poisoned(), guard.poisoned_by());
            guard.clear_poison();
            out.count(lock.try_lock());
        }
        error => {
            out.count(error);
            lock.force_unlock();
        }
    }
    out.count(lock.try_lock());
}

fn semaphore(dict: &AtomicDict, key: u64, n: u64, out: &mut Outcome) {
    let permits = 1 + n as usize % 5;
    match Semaphore::new(dict, key, permits) {
        Ok(semaphore) => {
            let permit = semaphore.try_acquire();
            assert!(semaphore.available_permits() <= permits);
            out.count(semaphore.acquire_timeout(MOMENT));
            out.count(permit);
        }
        error => out.count(error),
    }
}

fn barrier(dict: &AtomicDict, key: u64, n: u64, out: &mut Outcome) {
    let barrier = match Barrier::new(dict, key, 1 + n as usize % 3) {
        Ok(barrier) => barrier,
        error => return out.count(error),
    };
    if barrier.is_broken() {
        out.count(barrier.reset());
    }
    match barrier.join() {
        Ok(mut party) => {
            out.count(party.wait_timeout(MOMENT));
            out.count(barrier.join().map(|mut other| other.wait_timeout(MOMENT)));
        }
        error => out.count(error),
    }
}
