//! Logs that somebody wrote who means harm: links that lead nowhere or in circles, records that are none,
//! and generations that nothing follows.

use std::fs;
use std::time::Duration;

use forkmap::StreamError;

use crate::damage::{FIRST_LINK, GEOMETRY, LOG, NEXT, USED, WANTED, get, record};
use crate::hostile::{ALL, EXTREMES, Victim, is_damaged};
use crate::samples::texts;

#[test]
fn links_that_lead_nowhere_or_in_circles_are_noticed() {
    let victim = Victim::new();
    let end = get(&victim.generation, GEOMETRY + 24);
    let (first, second) = (8, get(&victim.generation, LOG + 64));
    assert_eq!(get(&victim.generation, LOG + FIRST_LINK), first);
    for (at, what) in [(LOG + FIRST_LINK, "the first"), (LOG + 64, "the second")] {
        for bad in [
            1,
            3,
            7,
            end - 1,
            end,
            end + 1,
            1 << 32,
            1 << 61,
            u64::MAX - 1,
        ] {
            for read_only in [false, true] {
                is_damaged(
                    victim.with(&[(at, bad)], read_only),
                    &format!("{what}: {bad}"),
                );
            }
        }
    }
    for circle in [
        vec![(LOG + 64, first)],
        vec![(LOG + 8 * second as usize, second)],
        vec![(LOG + 8 * second as usize, first)],
    ] {
        for read_only in [false, true] {
            is_damaged(victim.with(&circle, read_only), "a circle");
        }
    }
    // While somebody has it open.
    let dict = victim.with(&[], false).unwrap();
    let other = victim.place.open::<str, str>();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(victim.place.path().join(&victim.name));
    let at = LOG as u64 + 8 * second;
    std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &first.to_le_bytes(), at).unwrap();
    for dict in [&dict, &other] {
        let damaged = |result: Result<(), StreamError>| {
            let error = result.unwrap_err();
            assert!(matches!(error, StreamError::Damaged), "{error}");
            assert!(error.to_string().contains("; unlink the dictionary"));
        };
        damaged(dict.get("a").map(drop));
        damaged(dict.set("a", "2"));
        damaged(dict.dump());
        damaged(dict.reload());
        let here = forkmap::Position {
            generation: 1,
            records: 0,
        };
        damaged(dict.wait_for_change(here, Duration::from_secs(9)).map(drop));
        damaged(dict.clone().close().map(drop));
    }
    victim.place.options::<str, str>().unlink("dict").unwrap();
    assert_eq!(victim.place.files(), Vec::<String>::new());
}

#[test]
fn records_that_are_none_are_noticed() {
    let victim = Victim::new();
    let header = LOG + 64 + 8;
    let right = get(&victim.generation, header);
    for len in [0, 1, 9, 11, 1000, 1016, 1 << 20, u64::from(u32::MAX)] {
        let bad = len << 32 | (right & 0xFFFF_FFFF);
        is_damaged(
            victim.with(&[(header, bad)], false),
            &format!("{len} bytes"),
        );
    }
    is_damaged(
        victim.with(&[(header, right ^ 1)], true),
        "another checksum",
    );
    is_damaged(victim.with(&[(header + 8, 0)], true), "another payload");
    // With a checksum that fits, and changes that are none.
    for payload in [
        &b"1234567"[..],
        &[0; 8],
        &[0xFF; 8],
        &[0, 0, 0, 0x80, 1, 0, 0, 0, 9],
        &[0, 0, 0, 0xC0, 1, 0, 0, 0, 9],
        &[1, 0, 0, 0x40, 0, 0, 0, 0],
        &[0, 0, 0, 0x40, 0xFF, 0xFF, 0xFF, 0xFF, 9],
        &[0, 0, 0, 0xC0, 0, 0, 0, 0, 0],
    ] {
        let mut bytes = victim.generation.clone();
        record(&mut bytes, LOG + 64, 0, payload);
        let opened = victim.open(&victim.control, &bytes, false);
        is_damaged(opened, &format!("{payload:?}"));
    }
    // All changes of a record happen or none: here the second is none.
    let mut bytes = victim.generation.clone();
    record(&mut bytes, LOG + 64, 0, &[0, 0, 0, 0xC0, 0, 0, 0, 0, 7]);
    let dict = victim.with(&[(LOG + FIRST_LINK, 0)], false).unwrap();
    victim.write(&victim.name, &bytes);
    let found = dict.get("a").map(drop);
    assert!(found.is_ok() || matches!(found, Err(StreamError::Damaged)));
}

#[test]
fn counters_of_the_log_at_extremes_are_survived() {
    let victim = Victim::new();
    // (Not so much as may be there.)
    for bad in EXTREMES.into_iter().filter(|&bad| bad != 1 << 32) {
        for word in [USED, WANTED] {
            let dict = victim.with(&[(LOG + word, bad)], false).unwrap();
            assert_eq!(texts(&dict), ALL);
            assert!(dict.status().unwrap().log_used <= 1024);
            for n in 0..100 {
                // (Records that lie upon each other are damage, and said to be.)
                match dict.set("e", &n.to_string()) {
                    Ok(()) => {}
                    Err(StreamError::Damaged) if word == USED => break,
                    Err(error) => panic!("{bad}: {error}"),
                }
            }
            let status = dict.clone().status();
            assert!(
                status.is_err() || status.unwrap().memory < 20_000,
                "nobody makes it huge"
            );
            drop(dict);
            for file in victim.place.generations("dict") {
                fs::remove_file(victim.place.path().join(file)).unwrap();
            }
        }
    }
}

#[test]
fn a_generation_that_nothing_follows_is_told() {
    let victim = Victim::new();
    let second = get(&victim.generation, LOG + 64) as usize;
    let sealed = (LOG + 8 * second, u64::MAX);
    // Sealed, and nobody has been elected: the next writer goes on.
    for read_only in [true, false] {
        let dict = victim.with(&[sealed], read_only).unwrap();
        assert_eq!(texts(&dict), ALL);
        if !read_only {
            dict.set("e", "5").unwrap();
            assert_eq!(dict.status().unwrap().dumps, 2);
            assert_eq!(victim.place.files().len(), 2);
            assert_eq!(texts(&victim.place.open()), format!("{ALL} e=5"));
        }
    }
    let victim = Victim::new();
    // Elected was one that has no name, or itself.
    let own = get(&victim.generation, GEOMETRY);
    for next in [1, own ^ 1, u64::MAX, own] {
        is_damaged(
            victim.with(&[sealed, (LOG + NEXT, next)], false),
            &format!("{next}"),
        );
    }
    // Not sealed: then that word means nothing.
    let victim = Victim::new();
    let dict = victim.with(&[(LOG + NEXT, 77)], false).unwrap();
    dict.set("e", "5").unwrap();
    assert_eq!(texts(&dict), format!("{ALL} e=5"));
}
