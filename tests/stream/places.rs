//! Dictionaries that do not stand where they stood: moved, or another directory in front of them.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use forkmap::{CreateError, Options, StreamDict, StreamError, UnlinkError};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::damage::{FIRST_LINK, LOG};
use crate::samples::{Place, texts};

type Texts = StreamDict<str, str>;

const NOTHING: Vec<String> = Vec::new();

/// A directory that can be moved, and what is in it.
struct Movable {
    place: Place,
    options: Options<Texts>,
}

impl Movable {
    /// With a dictionary in it whose log is full after a few changes.
    fn new() -> (Self, Texts) {
        let place = Place::new();
        let mut options = Texts::options();
        options.dir(place.path().join("app")).participants(8);
        fs::create_dir(place.path().join("app")).unwrap();
        let dict = options.log_bytes(64).create("dict").unwrap();
        (Self { place, options }, dict)
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("app")
    }

    fn away(&self) {
        fs::rename(self.dir(), self.place.path().join("away")).unwrap();
    }

    fn back(&self) {
        fs::rename(self.place.path().join("away"), self.dir()).unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Ends the log, in which nothing may be, as somebody does who is stopped then.
    fn seal(&self) {
        let files = self.files();
        let generation = files.iter().find(|name| *name != "dict").unwrap();
        let file = OpenOptions::new()
            .write(true)
            .open(self.dir().join(generation));
        let sealed = u64::MAX.to_le_bytes();
        file.unwrap()
            .write_all_at(&sealed, (LOG + FIRST_LINK) as u64)
            .unwrap();
    }

    /// Everybody can read, and write for as many generations as he likes.
    #[track_caller]
    fn check(&self, handles: &[&Texts], expected: &str) {
        let newcomer = self.options.open("dict").unwrap();
        for dict in handles.iter().copied().chain([&newcomer]) {
            assert_eq!(texts(dict), expected);
            for n in 0..20 {
                dict.set("z", &n.to_string()).unwrap();
            }
            dict.remove("z").unwrap();
            assert!(dict.is_current());
        }
        assert_eq!(self.files().len(), 2, "{:?}", self.files());
    }
}

/// Changes something until that fails, as it must when the log is full.
#[track_caller]
fn fails(dict: &Texts) -> StreamError {
    let mut failed = (0..20).filter_map(|n| dict.set("a", &n.to_string()).err());
    failed.next().expect("there is no way on")
}

#[track_caller]
fn is_elsewhere(error: StreamError, movable: &Movable) {
    let StreamError::Elsewhere { path } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*path, movable.dir().join("dict"));
    assert!(
        error
            .to_string()
            .contains("; open it again where it stands")
    );
}

/// The last change that went well.
#[track_caller]
fn now(dict: &Texts) -> String {
    format!("a={}", dict.get("a").unwrap().unwrap())
}

#[test]
fn another_directory_in_front_of_a_dictionary_is_nobody_elses_affair() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    one.set("a", "0").unwrap();
    movable.away();
    fs::create_dir(movable.dir()).unwrap();
    is_elsewhere(fails(&one), &movable);
    is_elsewhere(one.dump().unwrap_err(), &movable);
    assert_eq!(movable.files(), NOTHING);
    assert!(!one.is_current());
    let last = now(&one);
    fs::remove_dir(movable.dir()).unwrap();
    movable.back();
    movable.check(&[&bystander, &one], &last);
}

#[test]
fn who_has_to_begin_a_generation_in_another_directory_begins_none() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    movable.seal();
    movable.away();
    fs::create_dir(movable.dir()).unwrap();
    for _ in 0..3 {
        is_elsewhere(one.set("a", "1").unwrap_err(), &movable);
        is_elsewhere(one.dump().unwrap_err(), &movable);
    }
    assert_eq!(movable.files(), NOTHING);
    assert_eq!(texts(&one), "");
    fs::remove_dir(movable.dir()).unwrap();
    movable.back();
    movable.check(&[&bystander, &one], "");
}

#[test]
fn who_is_elsewhere_does_not_end_the_log() {
    let place = Place::new();
    let dir = place.path().join("app");
    fs::create_dir(&dir).unwrap();
    let mut options = Texts::options();
    let one = options.dir(&dir).create("dict").unwrap();
    fs::rename(&dir, place.path().join("away")).unwrap();
    fs::create_dir(&dir).unwrap();
    assert!(matches!(one.dump(), Err(StreamError::Elsewhere { .. })));
    one.set("a", "1").unwrap();
    assert_eq!(one.position().unwrap().generation, 1);
    fs::remove_dir(&dir).unwrap();
    fs::rename(place.path().join("away"), &dir).unwrap();
    assert_eq!(texts(&options.open("dict").unwrap()), "a=1");
}

/// In front of the dictionary's directory there is another one, and is not, at any instant.
#[test]
fn a_directory_that_is_exchanged_all_the_time_is_nobody_elses_affair() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    let (here, there) = (movable.dir(), movable.place.path().join("empty"));
    fs::create_dir(&there).unwrap();
    let exchange = || renameat_with(CWD, &here, CWD, &there, RenameFlags::EXCHANGE).unwrap();
    let is_over = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                exchange();
                exchange();
            }
        });
        let (mut last, mut failed) = (0, 0);
        for n in 1..8_000 {
            match one.set("a", &n.to_string()) {
                Ok(()) => last = n,
                Err(StreamError::Elsewhere { .. }) => failed += 1,
                Err(error) => {
                    is_over.store(true, Relaxed);
                    panic!("{error} after {n} changes");
                }
            }
        }
        is_over.store(true, Relaxed);
        assert!(last > 0 && failed > 0, "{last}, {failed}");
        last
    });
    for dict in [&one, &bystander, &movable.options.open("dict").unwrap()] {
        assert_eq!(texts(dict), format!("a={last}"));
        dict.dump().unwrap();
    }
    assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
    // (Names that were to go while they could not be seen.)
    movable.options.unlink("dict").unwrap();
    assert_eq!(movable.files(), NOTHING);
}

#[test]
fn a_directory_that_is_not_there_is_nobody_elses_affair() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    one.set("a", "0").unwrap();
    movable.away();
    match fails(&one) {
        StreamError::Create(CreateError::NoDirectory { dir }) => assert_eq!(dir, movable.dir()),
        error => is_elsewhere(error, &movable),
    }
    let last = now(&one);
    movable.back();
    movable.check(&[&bystander, &one], &last);
}

#[test]
fn a_dictionary_that_is_moved_for_a_moment_goes_on() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    one.set("a", "0").unwrap();
    let (here, there) = (movable.dir().join("dict"), movable.dir().join("dict-away"));
    fs::rename(&here, &there).unwrap();
    is_elsewhere(fails(&one), &movable);
    let last = now(&one);
    fs::rename(&there, &here).unwrap();
    movable.check(&[&bystander, &one], &last);
}

#[test]
fn a_dictionary_that_was_moved_lets_the_next_one_of_its_name_alone() {
    let (movable, one) = Movable::new();
    let (here, there) = (movable.dir().join("dict"), movable.dir().join("dict-away"));
    fs::rename(&here, &there).unwrap();
    let next = movable.options.create("dict").unwrap();
    next.set("b", "1").unwrap();
    is_elsewhere(fails(&one), &movable);
    is_elsewhere(one.dump().unwrap_err(), &movable);
    fs::remove_file(&there).unwrap();
    movable.check(&[&next], "b=1");
    assert!(matches!(one.dump(), Err(StreamError::Unlinked)));
}

#[test]
fn who_looks_in_another_directory_for_the_next_generation_is_told() {
    let (movable, one) = Movable::new();
    let reader = movable
        .options
        .clone()
        .read_only(true)
        .open("dict")
        .unwrap();
    let writer = movable.options.open("dict").unwrap();
    for n in 0..20 {
        one.set("a", &n.to_string()).unwrap();
    }
    movable.away();
    fs::create_dir(movable.dir()).unwrap();
    is_elsewhere(reader.get("a").unwrap_err(), &movable);
    is_elsewhere(writer.get("a").unwrap_err(), &movable);
    is_elsewhere(writer.set("a", "b").unwrap_err(), &movable);
    assert!(movable.options.open("dict").is_err());
    fs::remove_dir(movable.dir()).unwrap();
    movable.back();
    assert_eq!(texts(&reader), "a=19");
    movable.check(&[&writer, &one], "a=19");
}

#[test]
fn one_that_another_file_has_taken_the_place_of_is_unlinked() {
    let (movable, one) = Movable::new();
    let bystander = movable.options.open("dict").unwrap();
    let other = movable.options.create("other").unwrap();
    fs::rename(movable.dir().join("other"), movable.dir().join("dict")).unwrap();
    assert!(matches!(fails(&one), StreamError::Unlinked));
    assert!(matches!(bystander.dump(), Err(StreamError::Unlinked)));
    drop(other);
}

/// A file whose name somebody else is taking away, and has been stopped.
fn stopped_unlinker(place: &Place) -> File {
    let path = place.path().join("dict");
    let file = File::options().write(true).open(path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: 0,
        l_start: 1 << 62,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    file
}

#[test]
fn a_drop_waits_for_nobody_and_close_a_while() {
    let place = Place::new();
    let mut options = place.options::<str, str>();
    options.unlink_on_drop(true);
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let dict = options.create("dict").unwrap();
    let stopped = stopped_unlinker(&place);
    drop(dict);
    assert!(start.elapsed() < second / 2, "{:?}", start.elapsed());
    assert_eq!(place.files().len(), 2);
    drop(stopped);
    options.unlink("dict").unwrap();
    let dict = options.create("dict").unwrap();
    let stopped = stopped_unlinker(&place);
    let start = Instant::now();
    let error = dict.close().unwrap_err();
    let is_busy = matches!(error, StreamError::Unlink(UnlinkError::Busy { .. }));
    assert!(is_busy && start.elapsed() >= second, "{error}");
    drop(stopped);
    options.unlink("dict").unwrap();
    assert_eq!(place.files(), NOTHING);
}
