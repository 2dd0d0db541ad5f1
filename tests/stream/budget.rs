//! The option budget: what would need more does not happen, and the rest goes on.

use forkmap::{CreateError, StreamDict, StreamError};

use crate::samples::{Place, entries};

/// What it would take, if it is more than there may be.
fn over<T>(result: Result<T, StreamError>) -> Option<u64> {
    match result {
        Ok(_) => None,
        Err(StreamError::OverBudget { need, budget }) => {
            assert!(need > budget, "{need} {budget}");
            Some(need)
        }
        Err(error) => panic!("{error}"),
    }
}

fn dict(place: &Place, log_bytes: u64, budget: u64) -> StreamDict<u64, [u8]> {
    let mut options = place.options();
    options.log_bytes(log_bytes).budget(budget);
    options.create("dict").unwrap()
}

#[test]
fn a_change_that_would_need_too_much_does_not_happen() {
    let place = Place::new();
    let dict = dict(&place, 4096, 100_000);
    let other = place.open::<u64, [u8]>();
    dict.set(&1, b"one").unwrap();
    let before = (dict.position().unwrap(), place.files());
    assert_eq!(dict.status().unwrap().budget, 100_000);
    for _ in 0..3 {
        for dict in [&dict, &other] {
            let need = over(dict.set(&2, &[0; 100_000])).expect("too large");
            assert!((108_000..250_000).contains(&need), "{need}");
        }
    }
    assert_eq!((dict.position().unwrap(), place.files()), before);
    let error = dict.set(&2, &[0; 200_000]).unwrap_err().to_string();
    assert!(
        error.contains("and the budget is 100000; remove something"),
        "{error}"
    );
    let both = dict.extend([(&3, &b"three"[..]), (&2, &[0; 100_000])]);
    assert!(over(both).is_some());
    assert_eq!(entries(&dict).len(), 1, "all or nothing");
    // A smaller one goes, in the log that there is and in the next one.
    dict.set(&2, b"two").unwrap();
    dict.set(&3, &[3; 30_000]).unwrap();
    other.set(&4, &[4; 5000]).unwrap();
    assert_eq!(other.get(&3).unwrap(), Some(vec![3; 30_000]));
    assert!(dict.status().unwrap().memory <= 100_000);
}

#[test]
fn removals_make_room_again() {
    for (log_bytes, size) in [(4096, 1000), (8192, 500), (65_536, 3000)] {
        let place = Place::new();
        let dict = dict(&place, log_bytes, 262_144);
        let fill = |from: u64| {
            let mut full = (from..).map(|n| over(dict.set(&n, &vec![n as u8; size])));
            let all = full.position(|need| need.is_some()).unwrap() as u64;
            assert!(dict.status().unwrap().memory <= 262_144);
            from + all
        };
        let most = fill(0);
        assert!(most >= 15, "{most}");
        assert!(
            over(dict.set(&most, &vec![0; size])).is_some(),
            "it stays so"
        );
        assert_eq!(dict.len().unwrap() as u64, most);
        for n in 0..most {
            assert_eq!(dict.get(&n).unwrap(), Some(vec![n as u8; size]));
        }
        // One record, and short: so it fits where the last one did not.
        dict.transaction(|tx| {
            tx.clear();
            tx.set(&0, b"")
        })
        .unwrap();
        let again = fill(1);
        assert!(again > most / 2, "{again} {most}");
        assert_eq!(dict.len().unwrap() as u64, again);
        assert_eq!(place.files().len(), 2);
    }
}

#[test]
fn the_budget_counts_both_generations_while_one_follows_the_other() {
    let place = Place::new();
    let control = place.options::<u64, [u8]>().required_bytes().unwrap();
    // Two of the smallest generations, and one byte less than that.
    let fits = control + 2 * 4096;
    let mut options = place.options::<u64, [u8]>();
    options.log_bytes(0);
    let error = options.budget(fits - 1).create("dict").unwrap_err();
    let CreateError::InvalidOption { what } = &error else {
        panic!("{error}");
    };
    let least = format!("it must be {fits} at least");
    assert!(what.contains(&least), "{what}");
    let dict = options.budget(fits).create("dict").unwrap();
    dict.dump().unwrap();
    dict.set(&1, b"").unwrap();
    assert_eq!(dict.get(&1).unwrap(), Some(vec![]));
    assert_eq!(over(dict.set(&2, &[0; 3000])), Some(fits + 2 * 4096));
    let large = [(1_u64, vec![0; 50_000])];
    assert!(options.budget(50_000).create_with("other", large).is_err());
    assert_eq!(place.files().len(), 2);
}

/// A log that is as long as the dump is a wish: a shorter one does, where there is no room for that.
#[test]
fn a_shorter_log_is_taken_where_there_is_no_room_for_a_long_one() {
    let place = Place::new();
    let control = place.options::<u64, [u8]>().required_bytes().unwrap();
    let dict = dict(&place, 1024, control + 220_000);
    for n in 0..4 {
        dict.set(&n, &vec![1; 20_000]).unwrap();
    }
    dict.dump().unwrap();
    dict.dump().unwrap();
    let status = dict.status().unwrap();
    assert!(
        status.log_bytes < 80_000 && status.memory > 80_000,
        "{status:?}"
    );
    assert_eq!(dict.len().unwrap(), 4);
    dict.set(&9, b"more").unwrap();
}

/// Whatever the log has left, and however short it is: what is full can be emptied, and overwritten.
#[test]
fn removals_make_room_whatever_the_log_has_left() {
    for (log_bytes, size) in [
        (0, 0),
        (0, 3),
        (64, 100),
        (1000, 0),
        (1000, 3),
        (8192, 0),
        (8192, 3),
        (8192, 5000),
    ] {
        let place = Place::new();
        let mut options = place.options::<u64, [u8]>();
        options.log_bytes(log_bytes).budget(60_000);
        for way in 0..4 {
            let dict = options.create_or_replace("dict").unwrap();
            let most = (0..).position(|n| over(dict.set(&n, &vec![1; size])).is_some());
            let keys = 0..most.unwrap() as u64;
            assert!(!keys.is_empty());
            match way {
                0 => dict.clear().unwrap(),
                1 => keys.for_each(|n| drop(dict.remove(&n).unwrap().unwrap())),
                2 => keys.rev().for_each(|n| dict.set(&n, b"").unwrap()),
                // As large as it was, again and again.
                _ => (0..1000).for_each(|n| dict.set(&(n % keys.end), &vec![2; size]).unwrap()),
            }
            assert!(dict.status().unwrap().memory <= 60_000);
            dict.set(&0, &vec![1; size]).unwrap();
            let grown = (0..2).map(|n| over(dict.set(&(1000 + n), &[0; 40_000])));
            assert!(
                grown.flatten().count() == 2,
                "all at once is still too much"
            );
        }
    }
}

/// How much fits depends on nothing but the budget: not on how long the log is that is there.
#[test]
fn as_much_fits_whatever_came_before() {
    const BUDGET: u64 = 512 << 10;
    let fill = |dumps: &[u64]| {
        let place = Place::new();
        let dict = dict(&place, 4096, BUDGET);
        let mut last = dict.status().unwrap();
        let mut look = || {
            let status = dict.status().unwrap();
            // While one generation follows another both count.
            let both = last.memory + status.memory - dict.bytes();
            assert!(status.dumps == last.dumps || both <= BUDGET, "{both}");
            last = status;
        };
        let mut set = |n: u64| {
            if dumps.contains(&n) {
                dict.dump().unwrap();
                look();
            }
            let need = over(dict.set(&n, &[n as u8; 1000]));
            look();
            need.is_some()
        };
        (0..).position(&mut set).unwrap()
    };
    let most = fill(&[]);
    assert!((230..256).contains(&most), "{most}");
    for dumped in [120, 130, 140, 150, 160, 170] {
        assert_eq!(fill(&[dumped]), most, "{dumped}");
        let twice = [dumped, dumped + 1];
        assert_eq!(fill(&twice), most, "{twice:?}");
    }
}

/// What is refused leaves no wish behind that the next generation grows by.
#[test]
fn refused_changes_make_no_log_longer() {
    let place = Place::new();
    let one = dict(&place, 4096, 1 << 20);
    let two = place.open::<u64, [u8]>();
    let huge = vec![1; 2 << 20];
    for _ in 0..12 {
        assert!(over(two.set(&0, &huge)).is_some());
        one.dump().unwrap();
        assert!(one.status().unwrap().log_bytes < 8192);
    }
}
