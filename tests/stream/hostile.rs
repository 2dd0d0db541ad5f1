//! Files that somebody wrote who means harm, or that are missing: a typed error, never a panic or a loop
//! without end.

use std::fs;
use std::time::{Duration, Instant};

use forkmap::{CreateError, Mismatch, OpenError, StreamDict, StreamError};

use crate::damage::{
    CONTROL, CURRENT, FIRST_LINK, GEOMETRY, LOG, NEXT, UNLINKED, get, patient, put, reseal,
};
use crate::samples::{Place, texts};

const PARTICIPANTS: usize = 144;
const LENGTH: usize = 16;
pub(crate) const EXTREMES: [u64; 10] = [
    0,
    1,
    7,
    1 << 13,
    1 << 32,
    1 << 48,
    1 << 60,
    u64::MAX / 8,
    u64::MAX - 1,
    u64::MAX,
];

/// A dictionary with `a=1 b=2` in its dump and `c=3 d=4` in its log of 1,024 bytes, whose files are to be
/// changed.
pub(crate) struct Victim {
    pub(crate) place: Place,
    pub(crate) control: Vec<u8>,
    pub(crate) generation: Vec<u8>,
    pub(crate) name: String,
}

pub(crate) const ALL: &str = "a=1 b=2 c=3 d=4";

impl Victim {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let dict = place.dict::<str, str>(1024);
        dict.extend([("a", "1"), ("b", "2")]).unwrap();
        dict.dump().unwrap();
        dict.set("c", "3").unwrap();
        dict.set("d", "4").unwrap();
        drop(dict);
        let name = place.generation("dict");
        let read = |name| fs::read(place.path().join(name)).unwrap();
        let (control, generation) = (read("dict"), read(&name));
        Self {
            place,
            control,
            generation,
            name,
        }
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.place.path().join(name), bytes).unwrap();
    }

    /// What comes of opening it when these are its files.
    pub(crate) fn open(&self, control: &[u8], generation: &[u8], read_only: bool) -> Opened {
        self.write("dict", control);
        self.write(&self.name, generation);
        let mut options = self.place.options::<str, str>();
        options.read_only(read_only);
        patient(move || options.open("dict"))
    }

    /// The same with words of the generation changed, its header made to fit.
    pub(crate) fn with(&self, words: &[(usize, u64)], read_only: bool) -> Opened {
        let mut bytes = self.generation.clone();
        words
            .iter()
            .for_each(|&(offset, word)| put(&mut bytes, offset, word));
        reseal(&mut bytes);
        self.open(&self.control, &bytes, read_only)
    }
}

pub(crate) type Opened = Result<StreamDict<str, str>, OpenError>;

pub(crate) fn is_damaged(opened: Opened, what: &str) {
    let error = opened.expect_err(what);
    let OpenError::Mismatch {
        mismatch: Mismatch::Damaged { .. },
        ..
    } = error
    else {
        panic!("{what}: {error}");
    };
    assert!(error.to_string().contains("; make it afresh"), "{error}");
}

#[test]
fn a_victim_is_whole_at_first() {
    let victim = Victim::new();
    for read_only in [false, true] {
        let dict = victim.with(&[], read_only).unwrap();
        assert_eq!(texts(&dict), ALL);
        assert_eq!(dict.status().unwrap().log_bytes, 1024);
    }
    assert_eq!(
        get(&victim.control, CONTROL + CURRENT),
        get(&victim.generation, GEOMETRY)
    );
}

#[test]
fn geometry_at_extremes_is_refused_or_means_nothing() {
    let victim = Victim::new();
    for read_only in [true, false] {
        for (word, what) in [(0, "id"), (3, "log"), (4, "dump"), (7, "nothing")] {
            let right = get(&victim.generation, GEOMETRY + 8 * word);
            for bad in EXTREMES.into_iter().filter(|&bad| bad != right) {
                let opened = victim.with(&[(GEOMETRY + 8 * word, bad)], read_only);
                is_damaged(opened, &format!("{what} {bad}"));
            }
        }
        // What nothing follows from but positions.
        for (word, what) in [(1, "previous"), (2, "number"), (5, "since"), (6, "records")] {
            for bad in EXTREMES {
                let opened = victim.with(&[(GEOMETRY + 8 * word, bad)], read_only);
                let dict = opened.unwrap_or_else(|error| panic!("{what} {bad}: {error}"));
                assert_eq!(texts(&dict), ALL);
                let position = dict.position().unwrap();
                assert!(dict.is_at(position).unwrap());
                dict.status().unwrap();
                if !read_only {
                    dict.dump().unwrap();
                    dict.set("c", "5").unwrap();
                    dict.reload().unwrap();
                    assert_eq!(dict.get("c").unwrap().as_deref(), Some("5"));
                    assert!(dict.is_at(dict.position().unwrap()).unwrap());
                    // Whatever that was called: back to the name that the control has in the next round.
                    drop(dict);
                    for file in victim.place.generations("dict") {
                        fs::remove_file(victim.place.path().join(file)).unwrap();
                    }
                }
            }
        }
    }
}

/// Logs are to be as long as no machine has memory; somebody is always at work; and the log has a next one, but no end.
#[test]
fn who_finds_no_room_for_ever_gives_up() {
    let victim = Victim::new();
    let mut control = victim.control.clone();
    for row in 0..4 {
        put(&mut control, CONTROL + 64 + 32 * row + 24, 1);
    }
    let mut generation = victim.generation.clone();
    put(&mut generation, LOG + NEXT, 7);
    for log_bytes in [1 << 48, 1 << 60, u64::MAX] {
        put(&mut control, GEOMETRY, log_bytes);
        reseal(&mut control);
        let dict = victim.open(&control, &generation, false).unwrap();
        assert_eq!(texts(&dict), ALL);
        let start = Instant::now();
        let done = patient(move || dict.set("e", &"5".repeat(2000)));
        assert!(
            matches!(done, Err(StreamError::Create(CreateError::NoSpace { .. }))),
            "{done:?}"
        );
        let took = start.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn lengths_that_contradict_each_other_are_refused() {
    let victim = Victim::new();
    let log = get(&victim.generation, GEOMETRY + 24);
    let dump = get(&victim.generation, GEOMETRY + 32);
    // Together as long as the file, or nearly, and one of them beyond it.
    for (words, bytes) in [
        (log + 4096 / 8, dump),
        (u64::MAX / 8, dump),
        (7, dump + 8 * (log - 7)),
        (log.wrapping_sub(1 << 61), dump),
        (log, dump.wrapping_sub(1 << 63)),
        (log + 2, u64::MAX - 15),
    ] {
        let words = [(GEOMETRY + 24, words), (GEOMETRY + 32, bytes)];
        is_damaged(victim.with(&words, false), &format!("{words:?}"));
    }
    for length in [0, 256, 4096, 1 << 20, 1 << 63, u64::MAX] {
        let opened = victim.with(&[(LENGTH, length)], false);
        assert!(
            opened.is_err() || length == victim.generation.len() as u64,
            "{length}"
        );
    }
    // Another border between the two: the log is not what was written, or the dump.
    for words in [log - 1, log + 1] {
        is_damaged(
            victim.with(&[(GEOMETRY + 24, words)], false),
            "the dump is elsewhere",
        );
    }
}

#[test]
fn a_dump_that_is_not_what_was_written_is_refused() {
    let victim = Victim::new();
    let dump = LOG + 8 * get(&victim.generation, GEOMETRY + 24) as usize;
    let bytes = get(&victim.generation, GEOMETRY + 32) as usize;
    for at in dump..dump + 8 + bytes {
        let mut damaged = victim.generation.clone();
        damaged[at] ^= 1 << (at % 8);
        is_damaged(
            victim.open(&victim.control, &damaged, at % 2 == 0),
            &format!("{at}"),
        );
    }
    // With a checksum that fits, and changes that are none.
    for header in [
        0,
        1 << 30,
        2 << 30 | 1 << 32,
        3 << 30 | 1,
        1 << 30 | 1 << 40,
        u64::MAX,
    ] {
        let mut damaged = victim.generation.clone();
        put(&mut damaged, dump + 8, header);
        let checksum = xxhash_rust::xxh3::xxh3_64(&damaged[dump + 8..dump + 8 + bytes]);
        put(&mut damaged, dump, checksum);
        is_damaged(
            victim.open(&victim.control, &damaged, false),
            &format!("{header:x}"),
        );
    }
}

#[test]
fn a_control_at_extremes_is_survived() {
    let victim = Victim::new();
    let control = |words: &[(usize, u64)]| {
        let mut bytes = victim.control.clone();
        words
            .iter()
            .for_each(|&(offset, word)| put(&mut bytes, offset, word));
        reseal(&mut bytes);
        bytes
    };
    for read_only in [false, true] {
        for bad in EXTREMES {
            let open = |words: &[(usize, u64)]| {
                victim.open(&control(words), &victim.generation, read_only)
            };
            is_damaged(
                open(&[(CONTROL + CURRENT, bad)]),
                "there is no such generation",
            );
            let opened = open(&[(CONTROL + CURRENT, bad), (CONTROL + UNLINKED, 1)]);
            assert!(matches!(opened, Err(OpenError::NotFound { .. })));
            for word in 2..8 {
                is_damaged(
                    open(&[(GEOMETRY + 8 * word, bad.max(1))]),
                    "a word without meaning",
                );
            }
            if bad != 8 {
                let opened = open(&[(PARTICIPANTS, bad)]);
                assert!(opened.is_err(), "{bad} participants");
            }
            // Bytes of a log, and the budget: whatever they are, what is there can be read.
            for word in 0..2 {
                if (word, bad) == (0, 1 << 32) {
                    // So much may be there, and is not to be taken.
                    continue;
                }
                let dict = open(&[(GEOMETRY + 8 * word, bad)]).unwrap();
                assert_eq!(texts(&dict), ALL);
                let written = dict
                    .set("e", "5")
                    .and_then(|()| dict.set("e", &"5".repeat(2000)));
                let is_too_much = match word {
                    0 => bad >= 1 << 48,
                    _ => bad <= 1 << 13,
                };
                let what = format!("{word} {bad}: {written:?}");
                assert_eq!(written.is_err(), read_only || is_too_much, "{what}");
                drop(dict);
                for file in victim.place.generations("dict") {
                    fs::remove_file(victim.place.path().join(file)).unwrap();
                }
            }
            // A row of a participant: what it seems to build, and where it seems to be.
            for word in 0..3 {
                let dict = open(&[(CONTROL + 64 + 32 * 5 + 8 * word, bad)]).unwrap();
                assert_eq!(texts(&dict), ALL);
                dict.status().unwrap();
                if !read_only {
                    dict.set("e", "5").unwrap();
                }
            }
        }
    }
}

#[test]
fn a_generation_that_is_missing_or_another_is_told() {
    let victim = Victim::new();
    let path = victim.place.path().join(&victim.name);
    for read_only in [false, true] {
        fs::remove_file(&path).unwrap();
        let mut options = victim.place.options::<str, str>();
        let opened = options.read_only(read_only).open("dict");
        is_damaged(opened, "it is gone");
        victim.write(&victim.name, &victim.generation);
        // Who has it open goes on with what it has.
        let dict = options.open("dict").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(texts(&dict), ALL);
        let gone = dict.reload().unwrap_err();
        assert!(matches!(gone, StreamError::Lost), "{gone}");
        assert!(
            gone.to_string()
                .contains("; unlink the dictionary and create it anew")
        );
        assert_eq!(texts(&dict), ALL);
        drop(dict);
        for (bytes, what) in [
            (&victim.generation[..victim.generation.len() - 4096], "cut"),
            (&victim.generation[..100], "cut in its header"),
            (&[][..], "empty"),
            (&victim.control[..], "a control"),
        ] {
            let opened = victim.open(&victim.control, bytes, read_only);
            let error = opened.expect_err(what);
            assert!(
                matches!(error, OpenError::Mismatch { .. }),
                "{what}: {error}"
            );
        }
        let mut longer = victim.generation.clone();
        longer.resize(longer.len() + 4096, 0);
        assert!(victim.open(&victim.control, &longer, read_only).is_err());
        for (offset, bad) in [(32, u64::MAX), (40, 8 << 32 | 8), (48, 1), (24, 3), (24, 9)] {
            let error = victim.with(&[(offset, bad)], read_only).unwrap_err();
            assert!(matches!(error, OpenError::Mismatch { .. }), "{error}");
        }
        victim.write(&victim.name, &victim.generation);
    }
    // A link, a directory.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(victim.place.path().join("dict"), &path).unwrap();
    let options = victim.place.options::<str, str>();
    assert!(matches!(
        options.open("dict"),
        Err(OpenError::NotAFile { .. })
    ));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        options.open("dict"),
        Err(OpenError::NotAFile { .. })
    ));
    options.unlink("dict").unwrap();
    assert_eq!(
        victim.place.files(),
        std::slice::from_ref(&victim.name),
        "a directory is not ours"
    );
}

/// From the first generation to the second, from there to one that is missing, and so to the current one: who only
/// reads leads nobody on, so that is the first one still.
#[test]
fn generations_that_lead_back_are_damaged() {
    let victim = Victim::new();
    let (first, second) = (get(&victim.generation, GEOMETRY), 0x22);
    let number = get(&victim.generation, GEOMETRY + 16);
    let sealed = |words: &[(usize, u64)]| {
        let mut bytes = victim.generation.clone();
        put(&mut bytes, LOG + FIRST_LINK, u64::MAX);
        words
            .iter()
            .for_each(|&(offset, word)| put(&mut bytes, offset, word));
        reseal(&mut bytes);
        bytes
    };
    let ids = [(GEOMETRY, second), (GEOMETRY + 8, first)];
    let (own, next) = ((GEOMETRY + 16, number + 1), (LOG + NEXT, 0x33));
    let (prefix, _) = victim.name.rsplit_once('.').unwrap();
    let name = format!("{prefix}.{second:016x}");
    victim.write(&name, &sealed(&[ids[0], ids[1], own, next]));
    let opened = victim.open(&victim.control, &sealed(&[(LOG + NEXT, second)]), true);
    is_damaged(opened, "it leads back");
}
