//! The operations whose system calls fail, one by one.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use forkmap::{
    AtomicDict, Lock, LockError, OpenError, Options, SharedHashMap, StreamDict, Structure,
};

use crate::failing_calls::Attempt;

/// An operation, in a directory of its own.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What is there before.
    pub(crate) prepare: fn(&Path),
    /// What the child does.
    pub(crate) body: fn(&Path, &Attempt<'_>),
    /// What another process sees while the operation has failed.
    pub(crate) unchanged: fn(&Path),
    /// What another process sees when all is done.
    pub(crate) changed: fn(&Path),
    /// Whether nobody is told of what could not be cleaned up, and what was to go may have gone.
    pub(crate) is_best_effort: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

pub(crate) fn cases(structure: &str) -> Vec<Case> {
    let both = match structure {
        "AtomicDict" => [verbs::<Dict>(), passed::<Dict>()],
        "SharedHashMap" => [verbs::<Map>(), passed::<Map>()],
        _ => [verbs::<Stream>(), stream()],
    };
    both.into_iter().flatten().collect()
}

type Dict = AtomicDict;
type Map = SharedHashMap<u64, u64>;
type Stream = StreamDict<u64, u64>;
type Done = Result<(), Box<dyn Error>>;

const KEYS: u64 = 10;

/// What the verbs are tried with.
trait Thing: Structure + Clone {
    const NAME: &str;

    fn options(dir: &Path) -> Options<Self>;

    /// Sets a key of the first ten to itself.
    fn set(&self, key: u64) -> Done;

    fn get(&self, key: u64) -> Result<Option<u64>, Box<dyn Error>>;

    fn len(&self) -> usize;

    /// The first operation of a process that makes it a participant.
    fn take_part(&self) -> Done;

    fn close(self) -> Done;

    /// Removes what could not be removed before.
    fn tidy(_: &Path) {}

    fn fill(&self) {
        (0..KEYS).for_each(|key| self.set(key).unwrap());
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(self.len() as u64, KEYS);
        assert!((0..KEYS).all(|key| self.get(key).unwrap() == Some(key)));
    }

    fn opened(dir: &Path) -> Self {
        Self::options(dir).open("it").unwrap()
    }

    fn made(dir: &Path) -> Self {
        let new = Self::options(dir).create("it").unwrap();
        new.fill();
        new
    }
}

impl Thing for Dict {
    const NAME: &str = "AtomicDict";

    fn options(dir: &Path) -> Options<Self> {
        let mut options = Self::options();
        options.dir(dir).capacity(100).participants(8);
        options
    }

    fn set(&self, key: u64) -> Done {
        Ok(self.store(key, key)?)
    }

    fn get(&self, key: u64) -> Result<Option<u64>, Box<dyn Error>> {
        Ok(AtomicDict::get(self, key))
    }

    fn len(&self) -> usize {
        (0..KEYS).filter(|&key| self.contains_key(key)).count()
    }

    fn take_part(&self) -> Done {
        match Lock::new(self, 50)?.lock() {
            Ok(guard) => drop(guard),
            Err(LockError::Poisoned(_)) => panic!("nobody had it"),
            Err(error) => return Err(error.to_string().into()),
        }
        Ok(())
    }

    fn close(self) -> Done {
        Ok(self.close()?)
    }
}

impl Thing for Map {
    const NAME: &str = "SharedHashMap";

    fn options(dir: &Path) -> Options<Self> {
        let mut options = Self::options();
        options.dir(dir).capacity(100).participants(8);
        options
    }

    fn set(&self, key: u64) -> Done {
        Ok(self.set(&key, &key)?)
    }

    fn get(&self, key: u64) -> Result<Option<u64>, Box<dyn Error>> {
        Ok(self.get(&key)?)
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn take_part(&self) -> Done {
        Ok(self.set(&1, &1)?)
    }

    fn close(self) -> Done {
        Ok(self.close()?)
    }
}

impl Thing for Stream {
    const NAME: &str = "StreamDict";

    fn options(dir: &Path) -> Options<Self> {
        let mut options = Self::options();
        options.dir(dir).log_bytes(1024).participants(8);
        options
    }

    fn set(&self, key: u64) -> Done {
        Ok(self.set(&key, &key)?)
    }

    fn get(&self, key: u64) -> Result<Option<u64>, Box<dyn Error>> {
        Ok(self.get(&key)?)
    }

    fn len(&self) -> usize {
        self.len().unwrap()
    }

    fn take_part(&self) -> Done {
        Ok(self.dump()?)
    }

    fn close(self) -> Done {
        self.close()?;
        Ok(())
    }

    fn tidy(dir: &Path) {
        Stream::gc(dir, "it").unwrap();
    }
}

fn nothing(_: &Path) {}

fn filled<T: Thing>(dir: &Path) {
    drop(T::made(dir));
}

fn check<T: Thing>(dir: &Path) {
    let it = T::opened(dir);
    it.check();
    it.fill();
    it.check();
}

fn empty(dir: &Path) {
    let left: Vec<_> = std::fs::read_dir(dir).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn case<T: Thing>(
    name: &str,
    [prepare, unchanged, changed]: [fn(&Path); 3],
    body: fn(&Path, &Attempt<'_>),
) -> Case {
    Case {
        name: format!("{} {name}", T::NAME),
        prepare,
        body,
        unchanged,
        changed,
        is_best_effort: false,
    }
}

/// What all structures can do.
fn verbs<T: Thing>() -> Vec<Case> {
    let there = [filled::<T>, check::<T>, check::<T>];
    let new = [nothing, empty, check::<T>];
    let mut all = vec![
        case::<T>("create", new, |dir, attempt| {
            attempt
                .of(|| Ok(T::options(dir).create("it")?), || ())
                .fill();
        }),
        case::<T>("open", there, |dir, attempt| {
            let old = T::opened(dir);
            attempt
                .of(|| Ok(T::options(dir).open("it")?), || old.fill())
                .check();
            old.check();
        }),
        case::<T>("open, read-only", there, |dir, attempt| {
            let old = T::opened(dir);
            let mut options = T::options(dir);
            options.read_only(true);
            attempt
                .of(|| Ok(options.open("it")?), || old.fill())
                .check();
        }),
        case::<T>("open_or_create, new", new, |dir, attempt| {
            attempt
                .of(|| Ok(T::options(dir).open_or_create("it")?), || ())
                .fill();
        }),
        case::<T>("open_or_create, there", there, |dir, attempt| {
            let old = T::opened(dir);
            let open = || Ok(T::options(dir).open_or_create("it")?);
            attempt.of(open, || old.fill()).check();
        }),
        case::<T>("create_or_replace, new", new, |dir, attempt| {
            attempt
                .of(|| Ok(T::options(dir).create_or_replace("it")?), || ())
                .fill();
        }),
        // Its two steps are no single one: the name may be free, and what belonged to the old one still there.
        Case {
            is_best_effort: true,
            ..case::<T>(
                "create_or_replace, there",
                [
                    filled::<T>,
                    |dir| match T::options(dir).open("it") {
                        Err(OpenError::NotFound { .. }) => {}
                        it => it.unwrap().check(),
                    },
                    check::<T>,
                ],
                |dir, attempt| {
                    let old = T::opened(dir);
                    let create = || Ok(T::options(dir).create_or_replace("it")?);
                    let new = attempt.of(create, || old.check());
                    assert_eq!(new.len(), 0);
                    new.fill();
                    old.check();
                    T::tidy(dir);
                },
            )
        },
        case::<T>("create_unique", [nothing, empty, empty], |dir, attempt| {
            let new = attempt.of(|| Ok(T::options(dir).create_unique()?), || ());
            new.fill();
            new.check();
            for entry in std::fs::read_dir(dir).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if !name.contains('.') {
                    T::options(dir).unlink(&name).unwrap();
                }
            }
        }),
        case::<T>(
            "unlink",
            [filled::<T>, check::<T>, empty],
            |dir, attempt| {
                let old = T::opened(dir);
                attempt.of(|| Ok(T::options(dir).unlink("it")?), || old.check());
                T::tidy(dir);
            },
        ),
        case::<T>(
            "close, and unlink",
            [nothing, check::<T>, empty],
            |dir, attempt| {
                let mut options = T::options(dir);
                let it = options.unlink_on_drop(true).create("it").unwrap();
                it.fill();
                let it = Cell::new(Some(it));
                let close = || match it.take() {
                    Some(it) => it.close(),
                    None => Ok(options.unlink("it")?),
                };
                attempt.of(close, || ());
                T::tidy(dir);
            },
        ),
        case::<T>("first change", there, |dir, attempt| {
            let it = T::opened(dir);
            attempt.of(|| it.take_part(), || it.check());
            it.take_part().unwrap();
            it.check();
        }),
        case::<T>("reading", there, |dir, attempt| {
            let it = T::opened(dir);
            let got = attempt.of(|| it.get(7), || it.check());
            assert_eq!(got, Some(7));
        }),
    ];
    all.push(Case {
        is_best_effort: true,
        ..case::<T>(
            "drop, and unlink",
            [nothing, nothing, empty],
            |dir, attempt| {
                let mut options = T::options(dir);
                let it = options.unlink_on_drop(true).create("it").unwrap();
                it.fill();
                let it = Cell::new(Some(it));
                let drop_it = || {
                    drop(it.take());
                    Ok(())
                };
                attempt.of(drop_it, || ());
                if T::options(dir).open("it").is_ok() {
                    options.unlink("it").unwrap();
                }
                T::tidy(dir);
            },
        )
    });
    all
}

/// What those can do that consist of one segment.
fn passed<T: Thing + AsFd>() -> Vec<Case> {
    let none = [nothing, empty, empty];
    vec![
        case::<T>("anonymous", none, |dir, attempt| {
            let it = attempt.of(|| Ok(T::options(dir).anonymous()?), || ());
            it.fill();
            it.check();
        }),
        case::<T>("from_fd", none, |dir, attempt| {
            let old = T::options(dir).anonymous().unwrap();
            old.fill();
            let open = || {
                let fd = old.as_fd().try_clone_to_owned()?;
                Ok(T::options(dir).from_fd(fd)?)
            };
            attempt.of(open, || old.check()).check();
        }),
    ]
}

fn many(dir: &Path) {
    let mut options = Stream::options();
    let it = options.dir(dir).create("it").unwrap();
    it.fill();
    (0..1000).for_each(|n| Thing::set(&it, n % KEYS).unwrap());
}

/// With what a creator has left that was killed.
fn forsaken(dir: &Path) {
    filled::<Stream>(dir);
    let of = |file: &str| file.starts_with("it.");
    let files = std::fs::read_dir(dir).unwrap();
    let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let generation = names.find(|name| of(name)).unwrap();
    std::fs::copy(
        dir.join(&generation),
        dir.join("it.0123456789abcdef.0123456789abcdef"),
    )
    .unwrap();
}

fn stream() -> Vec<Case> {
    let there = [filled::<Stream>, check::<Stream>, check::<Stream>];
    vec![
        case::<Stream>("set, when the log is full", there, |dir, attempt| {
            let (it, old) = (Stream::opened(dir), Stream::opened(dir));
            let set = || {
                let before = it.position()?.generation;
                while it.position()?.generation == before {
                    Thing::set(&it, 3)?;
                }
                Ok(())
            };
            attempt.of(set, || old.check());
            it.check();
            old.fill();
        }),
        case::<Stream>(
            "extend, by more than the log",
            [filled::<Stream>, check::<Stream>, |dir| {
                let it = Stream::opened(dir);
                assert_eq!(Thing::len(&it), 1000);
                assert!((0..1000).all(|n| Thing::get(&it, n).unwrap() == Some(n)));
            }],
            |dir, attempt| {
                let (it, old) = (Stream::opened(dir), Stream::opened(dir));
                let all: Vec<u64> = (0..1000).collect();
                attempt.of(|| Ok(it.extend(all.iter().map(|n| (n, n)))?), || old.fill());
                assert_eq!((Thing::len(&it), Thing::len(&old)), (1000, 1000));
            },
        ),
        case::<Stream>(
            "open, with a long log",
            [many, check::<Stream>, check::<Stream>],
            |dir, attempt| {
                attempt
                    .of(|| Ok(Stream::options().dir(dir).open("it")?), || ())
                    .check();
            },
        ),
        case::<Stream>(
            "reading, from the next generation",
            there,
            |dir, attempt| {
                let (it, old) = (Stream::opened(dir), Stream::opened(dir));
                old.dump().unwrap();
                let got = attempt.of(|| Thing::get(&it, 7), || old.fill());
                assert_eq!(got, Some(7));
                it.check();
            },
        ),
        case::<Stream>("reading, from a later generation", there, |dir, attempt| {
            let (it, old) = (Stream::opened(dir), Stream::opened(dir));
            (0..3).for_each(|_| old.dump().unwrap());
            let got = attempt.of(|| Thing::get(&it, 7), || old.fill());
            assert_eq!(got, Some(7));
            it.check();
        }),
        case::<Stream>("watch", there, |dir, attempt| {
            let (it, old) = (Stream::opened(dir), Stream::opened(dir));
            let watched = || {
                let mut watch = it.watch()?;
                old.set(&5, &5)?;
                let event = watch.next_within(Duration::from_secs(1))?;
                assert!(event.is_some());
                let none = watch.next_within(Duration::from_millis(1))?;
                assert!(none.is_none(), "{none:?}");
                Ok(())
            };
            attempt.of(watched, || old.fill());
            it.check();
        }),
        case::<Stream>("dump, by the only one", there, |dir, attempt| {
            let it = Stream::opened(dir);
            attempt.of(|| Ok(it.dump()?), || it.check());
            // What could not be removed goes when the next generation begins.
            it.dump().unwrap();
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 2);
        }),
        case::<Stream>("listing", there, |dir, attempt| {
            let listed = || match forkmap::segments_in(dir)?.len() {
                2 => Ok(()),
                n => Err(format!("{n} of 2 can be looked at").into()),
            };
            attempt.of(listed, || ());
        }),
        case::<Stream>("reload", there, |dir, attempt| {
            let (it, old) = (Stream::opened(dir), Stream::opened(dir));
            attempt.of(|| Ok(it.reload()?), || old.fill());
            it.check();
        }),
        case::<Stream>("status", there, |dir, attempt| {
            let it = Stream::opened(dir);
            it.dump().unwrap();
            let status = attempt.of(|| Ok(it.status()?), || it.fill());
            assert_eq!(status.len, 10);
        }),
        Case {
            is_best_effort: true,
            ..case::<Stream>(
                "gc",
                [forsaken, check::<Stream>, check::<Stream>],
                |dir, attempt| {
                    let it = Stream::opened(dir);
                    let files = || std::fs::read_dir(dir).unwrap().count();
                    let before = files();
                    let removed = attempt.of(|| Ok(Stream::gc(dir, "it")?), || it.fill());
                    assert_eq!(files(), before - removed);
                    Stream::tidy(dir);
                },
            )
        },
    ]
}
