//! Creating, opening, replacing and removing segments, and what is refused.

#![cfg(not(feature = "portable"))]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use common::Name;
use forkmap::{
    AtomicDict, CreateError, InsertError, Kind, Mismatch, OpenError, OpenOrCreateError,
    ReplaceError, UnlinkError, segments, segments_in,
};

#[test]
fn what_one_handle_writes_another_reads() {
    let name = Name::new("share");
    let a = AtomicDict::create(&name, 100).unwrap();
    let b = AtomicDict::open(&name).unwrap();
    a.store(1, 11).unwrap();
    assert_eq!(b.fetch_add(1, 1), Ok(11));
    assert_eq!(a.load(1), 12);
    assert_eq!(a.instance_id(), b.instance_id());
    assert_eq!((a.capacity(), a.name()), (b.capacity(), Some(&*name)));
    assert_eq!(a.path(), Some(name.path()));
}

/// U11: a leftover is never taken for a fresh segment, nor the other way round.
#[test]
fn each_verb_does_what_it_says_about_a_name_that_is_taken() {
    let name = Name::new("verbs");
    assert!(matches!(
        AtomicDict::open(&name),
        Err(OpenError::NotFound { .. })
    ));
    assert!(matches!(
        AtomicDict::unlink(&name),
        Err(UnlinkError::NotFound { .. })
    ));
    assert!(!name.exists());

    let first = AtomicDict::create(&name, 10).unwrap();
    first.store(1, 1).unwrap();
    assert!(matches!(
        AtomicDict::create(&name, 10),
        Err(CreateError::AlreadyExists { .. })
    ));
    let opened = AtomicDict::open_or_create(&name, 10).unwrap();
    assert_eq!(
        (opened.instance_id(), opened.load(1)),
        (first.instance_id(), 1)
    );

    let fresh = AtomicDict::options()
        .capacity(10)
        .create_or_replace(&name)
        .unwrap();
    assert_ne!(fresh.instance_id(), first.instance_id());
    assert_eq!(fresh.load(1), 0);
    assert!(fresh.is_current() && !first.is_current());
    assert_eq!(
        first.fetch_add(1, 1),
        Ok(1),
        "an old handle goes on in the old segment"
    );
    assert_eq!(
        AtomicDict::open(&name).unwrap().instance_id(),
        fresh.instance_id()
    );

    AtomicDict::unlink(&name).unwrap();
    assert!(!name.exists() && !fresh.is_current());
    let made = AtomicDict::open_or_create(&name, 10).unwrap();
    assert!(made.is_current());
    let replaced_nothing = Name::new("nothing");
    AtomicDict::options()
        .create_or_replace(&replaced_nothing)
        .unwrap();
}

/// FS1.
#[test]
fn bad_names_are_refused_by_every_verb_and_nothing_is_made() {
    let longest = "n".repeat(201);
    for bad in [
        "", "/", "/x", "a/b", "..", ".x", "-x", "a\0", "a\n", "ü", "a b", &longest,
    ] {
        let mut options = AtomicDict::options();
        // A directory that does not exist: it is not even looked for. (That no system call is made
        // at all is seen in `processes`.)
        options.dir("/nonexistent");
        assert!(
            matches!(options.create(bad), Err(CreateError::InvalidName(_))),
            "{bad:?}"
        );
        assert!(
            matches!(options.open(bad), Err(OpenError::InvalidName(_))),
            "{bad:?}"
        );
        assert!(matches!(
            options.open_or_create(bad),
            Err(OpenOrCreateError::Open(OpenError::InvalidName(_)))
        ));
        assert!(matches!(
            options.create_or_replace(bad),
            Err(ReplaceError::Create(CreateError::InvalidName(_)))
        ));
        assert!(matches!(
            options.unlink(bad),
            Err(UnlinkError::Open(OpenError::InvalidName(_)))
        ));
    }
    let longest = Name::new(&"n".repeat(200 - 40));
    AtomicDict::create(&longest, 1).unwrap();
    drop(longest);
}

/// FS4: whatever stands at the name, it is not followed, not waited for and not touched.
#[test]
fn what_is_no_regular_file_is_refused() {
    let target = Name::new("target");
    let dict = AtomicDict::create(&target, 10).unwrap();
    let name = Name::new("planted");
    let refused = |found: &str| {
        let error = AtomicDict::open(&name).unwrap_err();
        assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
        assert!(error.to_string().contains(found), "{error}");
        assert!(matches!(
            AtomicDict::unlink(&name),
            Err(UnlinkError::Open(_))
        ));
        assert!(AtomicDict::open_or_create(&name, 1).is_err());
        assert!(AtomicDict::options().create_or_replace(&name).is_err());
        assert!(AtomicDict::options().read_only(true).open(&name).is_err());
        assert!(matches!(
            AtomicDict::create(&name, 1),
            Err(CreateError::AlreadyExists { .. })
        ));
        assert!(name.exists(), "{found} is still there");
    };
    symlink(target.path(), name.path()).unwrap();
    refused("symbolic link");
    fs::remove_file(name.path()).unwrap();
    symlink("/nonexistent", name.path()).unwrap();
    refused("symbolic link");
    fs::remove_file(name.path()).unwrap();
    nix::unistd::mkfifo(&name.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("FIFO");
    fs::remove_file(name.path()).unwrap();
    fs::create_dir(name.path()).unwrap();
    refused("directory");
    fs::remove_dir(name.path()).unwrap();
    let _socket = UnixListener::bind(name.path()).unwrap();
    refused("socket");
    assert!(dict.is_current());
}

#[test]
fn foreign_files_are_neither_opened_nor_removed() {
    let name = Name::new("foreign");
    for content in [&b""[..], b"hello", &[0; 300], &[0xFF; 10_000]] {
        fs::write(name.path(), content).unwrap();
        assert!(matches!(
            AtomicDict::open(&name),
            Err(OpenError::Mismatch {
                mismatch: Mismatch::NotASegment,
                ..
            })
        ));
        assert!(matches!(
            AtomicDict::unlink(&name),
            Err(UnlinkError::Open(OpenError::Mismatch {
                mismatch: Mismatch::NotASegment,
                ..
            }))
        ));
        assert!(AtomicDict::options().create_or_replace(&name).is_err());
        assert_eq!(fs::read(name.path()).unwrap(), content);
    }
}

/// FM4, FM5: each side of the disagreement is told.
#[test]
fn another_schema_or_too_small_a_capacity_is_refused() {
    let name = Name::new("schema");
    let dict = AtomicDict::options()
        .capacity(10)
        .schema(0xA)
        .create(&name)
        .unwrap();
    let error = AtomicDict::open(&name).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Mismatch {
                mismatch: Mismatch::Schema {
                    found: 0xA,
                    wanted: 0
                },
                ..
            }
        ),
        "{error}"
    );
    let opened = AtomicDict::options()
        .schema(0xA)
        .capacity(dict.capacity() as u64)
        .open(&name);
    assert_eq!(opened.unwrap().instance_id(), dict.instance_id());
    let error = AtomicDict::options()
        .schema(0xA)
        .capacity(21)
        .open_or_create(&name)
        .unwrap_err();
    let OpenOrCreateError::Open(OpenError::Mismatch {
        mismatch: Mismatch::TooSmall {
            found: 20,
            asked: 21,
        },
        ..
    }) = error
    else {
        panic!("{error}")
    };
}

#[test]
fn the_mode_is_the_one_asked_for_whatever_the_umask() {
    for mode in [0o600, 0o640, 0o644, 0o660, 0o666] {
        let name = Name::new("mode");
        AtomicDict::options().mode(mode).create(&name).unwrap();
        assert_eq!(
            fs::metadata(name.path()).unwrap().permissions().mode() & 0o7777,
            mode
        );
    }
    let name = Name::new("default-mode");
    AtomicDict::create(&name, 1).unwrap();
    assert_eq!(
        fs::metadata(name.path()).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    for mode in [0o000, 0o400, 0o700, 0o4600, 0o1666, u32::MAX] {
        let name = Name::new("bad-mode");
        let error = AtomicDict::options().mode(mode).create(&name).unwrap_err();
        assert!(
            matches!(error, CreateError::InvalidOption { .. }),
            "{error}"
        );
        assert!(!name.exists());
    }
}

/// FS2.
#[test]
fn a_read_only_handle_reads_and_refuses_to_change() {
    let name = Name::new("read-only");
    let dict = AtomicDict::create(&name, 10).unwrap();
    dict.store(1, 10).unwrap();
    let reader = AtomicDict::options().read_only(true).open(&name).unwrap();
    assert!(reader.is_read_only() && !dict.is_read_only());
    assert_eq!((reader.load(1), reader.get(2)), (10, None));
    let refused = Err(InsertError::ReadOnly);
    for key in [2, 1] {
        assert_eq!(reader.fetch_add(key, 1), refused);
        assert_eq!(reader.fetch_sub_bounded(key, 1, 0).map(|_| 0), refused);
        assert_eq!(reader.store(key, 1).map(|()| 0), refused);
        assert_eq!(reader.entry(key).map(|_| 0), refused);
        assert_eq!(reader.compare_exchange(key, 5, 6).map(|_| 0), refused);
        assert_eq!(reader.fetch_update(key, |_| None).map(|_| 0), refused);
    }
    dict.fetch_add(1, 1).unwrap();
    dict.store(2, 20).unwrap();
    let mut all: Vec<_> = reader.iter().collect();
    all.sort_unstable();
    assert_eq!((all, reader.len()), (vec![(1, 11), (2, 20)], 2));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let rights = |line: &str| line.split_whitespace().nth(1).unwrap().to_owned();
    let ours: Vec<_> = maps
        .lines()
        .filter(|line| line.ends_with(&*name))
        .map(rights)
        .collect();
    // The creator's own mapping shows the file as it was before it had a name.
    assert_eq!(ours, ["r--s"]);
    let error = AtomicDict::options()
        .read_only(true)
        .anonymous()
        .unwrap_err();
    assert!(matches!(error, CreateError::InvalidOption { .. }));
}

#[test]
fn a_drop_keeps_the_name_unless_told_otherwise() {
    let name = Name::new("drop");
    drop(AtomicDict::create(&name, 1).unwrap());
    assert!(name.exists());
    AtomicDict::unlink(&name).unwrap();

    let dict = AtomicDict::options()
        .unlink_on_drop(true)
        .create(&name)
        .unwrap();
    let (clone, entry) = (dict.clone(), dict.entry(1).unwrap());
    drop(dict);
    drop(clone);
    assert!(name.exists(), "an entry still shares the attachment");
    drop(entry);
    assert!(!name.exists());

    let dict = AtomicDict::options()
        .unlink_on_drop(true)
        .create(&name)
        .unwrap();
    dict.close().unwrap();
    assert!(!name.exists());
    AtomicDict::create(&name, 1).unwrap().close().unwrap();
    assert!(name.exists());
}

/// The policy is the creator's: who opens, in whatever way, takes nothing away.
#[test]
fn a_handle_that_only_opened_takes_no_name_away() {
    let name = Name::new("opener");
    let creator = AtomicDict::create(&name, 10).unwrap();
    let mut options = AtomicDict::options();
    options.unlink_on_drop(true);
    options.open(&name).unwrap().close().unwrap();
    options.open_or_create(&name).unwrap().close().unwrap();
    options
        .from_fd(creator.as_fd().try_clone_to_owned().unwrap())
        .unwrap()
        .close()
        .unwrap();
    assert!(creator.is_current());
    let other = Name::new("opener-creates");
    options.open_or_create(&other).unwrap().close().unwrap();
    assert!(!other.exists());
}

/// The seed is the segment's, whatever an opener asks for.
#[test]
fn an_opener_takes_the_seed_of_the_segment() {
    let name = Name::new("seed");
    AtomicDict::options()
        .hash_seed(1)
        .create(&name)
        .unwrap()
        .store(5, 50)
        .unwrap();
    assert_eq!(
        AtomicDict::options()
            .hash_seed(2)
            .open(&name)
            .unwrap()
            .get(5),
        Some(50)
    );
    assert_eq!(AtomicDict::open(&name).unwrap().get(5), Some(50));
}

/// Pages that are not there would be a SIGBUS in who touches them when memory is short.
#[test]
fn a_segment_with_holes_is_refused() {
    let name = Name::new("holes");
    let dict = AtomicDict::create(&name, 10_000).unwrap();
    let file = File::options().write(true).open(name.path()).unwrap();
    let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
        | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
    nix::fcntl::fallocate(&file, flags, 8192, 4096).unwrap();
    let damaged = |opened: Result<AtomicDict, OpenError>| {
        let error = opened.unwrap_err();
        assert!(error.to_string().contains("pages are missing"), "{error}");
    };
    damaged(AtomicDict::open(&name));
    damaged(AtomicDict::options().read_only(true).open(&name));
    damaged(AtomicDict::options().from_fd(dict.as_fd().try_clone_to_owned().unwrap()));
    AtomicDict::options().create_or_replace(&name).unwrap();
}

/// An old handle never deletes a newer segment of the same name.
#[test]
fn a_drop_takes_away_only_its_own_segment() {
    let name = Name::new("newer");
    let old = AtomicDict::options()
        .unlink_on_drop(true)
        .create(&name)
        .unwrap();
    AtomicDict::unlink(&name).unwrap();
    let newer = AtomicDict::create(&name, 1).unwrap();
    old.close().unwrap();
    assert!(newer.is_current());
    let old = AtomicDict::options()
        .unlink_on_drop(true)
        .create_or_replace(&name)
        .unwrap();
    let newer = AtomicDict::options().create_or_replace(&name).unwrap();
    drop(old);
    assert!(newer.is_current());
    AtomicDict::unlink(&name).unwrap();
    let gone = AtomicDict::options()
        .unlink_on_drop(true)
        .create(&name)
        .unwrap();
    fs::remove_file(name.path()).unwrap();
    gone.close().unwrap();
}

#[test]
fn a_unique_segment_can_be_found_by_its_name() {
    let a = AtomicDict::options()
        .unlink_on_drop(true)
        .create_unique()
        .unwrap();
    let b = AtomicDict::options()
        .unlink_on_drop(true)
        .create_unique()
        .unwrap();
    assert_ne!(a.name(), b.name());
    let opened = AtomicDict::open(a.name().unwrap()).unwrap();
    assert_eq!(opened.instance_id(), a.instance_id());
}

#[test]
fn an_anonymous_segment_has_no_name_and_a_fixed_length() {
    let dict = AtomicDict::anonymous(100).unwrap();
    assert_eq!(
        (dict.name(), dict.path(), dict.is_current()),
        (None, None, true)
    );
    dict.store(1, 5).unwrap();
    let file = File::from(dict.as_fd().try_clone_to_owned().unwrap());
    for length in [0, 100, dict.bytes() * 2] {
        assert!(file.set_len(length).is_err(), "the length is sealed");
    }
    let again = AtomicDict::options().from_fd(file).unwrap();
    assert_eq!(
        (again.load(1), again.instance_id()),
        (5, dict.instance_id())
    );
    assert_eq!(file_flags(&again) & 1, 1, "close-on-exec");
    // A named one can be handed over in the same way.
    let name = Name::new("by-fd");
    let named = AtomicDict::create(&name, 10).unwrap();
    let fd = named.as_fd().try_clone_to_owned().unwrap();
    assert_eq!(
        AtomicDict::options().from_fd(fd).unwrap().instance_id(),
        named.instance_id()
    );
    // A descriptor of something else.
    let error = AtomicDict::options()
        .from_fd(File::open("/dev/null").unwrap())
        .unwrap_err();
    assert!(matches!(error, OpenError::NotAFile { .. }), "{error}");
    let error = AtomicDict::options()
        .from_fd(File::open("/proc/self/exe").unwrap())
        .unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Mismatch {
                mismatch: Mismatch::NotASegment,
                ..
            }
        ),
        "{error}"
    );
    // One that is open for reading serves a read-only handle only.
    let reading = || File::open(name.path()).unwrap();
    let error = AtomicDict::options().from_fd(reading()).unwrap_err();
    assert!(
        matches!(error, OpenError::PermissionDenied { .. }),
        "{error}"
    );
    assert!(
        AtomicDict::options()
            .read_only(true)
            .from_fd(reading())
            .is_ok()
    );
}

fn file_flags(dict: &AtomicDict) -> i32 {
    nix::fcntl::fcntl(dict.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap()
}

#[test]
fn a_directory_of_the_users_choice_holds_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = AtomicDict::options();
    options.dir(dir.path()).capacity(10);
    let dict = options.create("counters").unwrap();
    dict.store(1, 2).unwrap();
    let file = dir.path().join("counters");
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(meta.len(), dict.bytes());
    assert!(
        meta.blocks() * 512 >= dict.bytes(),
        "all its pages are reserved"
    );
    drop(dict);
    assert_eq!(options.open("counters").unwrap().load(1), 2);
    let listed = segments_in(dir.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].path, file);
    options.unlink("counters").unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    options.dir(dir.path().join("missing"));
    assert!(matches!(
        options.create("x"),
        Err(CreateError::NoDirectory { .. })
    ));
    assert!(matches!(options.open("x"), Err(OpenError::NotFound { .. })));
    options.dir("/proc");
    let error = options.create("x").unwrap_err();
    assert!(
        matches!(
            error,
            CreateError::NotSupported { .. } | CreateError::NoDirectory { .. }
        ),
        "{error}"
    );
}

#[test]
fn the_listing_shows_segments_and_nothing_else() {
    let (good, broken, other) = (Name::new("good"), Name::new("broken"), Name::new("other"));
    let dict = AtomicDict::options()
        .mode(0o640)
        .schema(3)
        .create(&good)
        .unwrap();
    AtomicDict::create(&broken, 1).unwrap();
    damage(&broken, 70);
    fs::write(other.path(), "no segment").unwrap();
    let listed = segments().unwrap();
    let find = |name: &Name| listed.iter().find(|info| info.path == name.path());
    let info = find(&good).unwrap();
    assert_eq!((info.bytes, info.mode), (dict.bytes(), 0o640));
    assert_eq!(info.owner, nix::unistd::geteuid().as_raw());
    let content = info.content.as_ref().unwrap();
    assert_eq!((content.kind, content.schema), (Some(Kind::AtomicDict), 3));
    assert_eq!(content.instance_id, dict.instance_id());
    assert!(matches!(
        find(&broken).unwrap().content,
        Err(Mismatch::Damaged { .. })
    ));
    assert!(find(&other).is_none());
    assert!(segments_in("/nonexistent").is_err());
}

#[test]
fn a_damaged_segment_can_be_removed_or_replaced() {
    let name = Name::new("damaged");
    AtomicDict::create(&name, 1).unwrap();
    damage(&name, 70);
    assert!(matches!(
        AtomicDict::open(&name),
        Err(OpenError::Mismatch {
            mismatch: Mismatch::Damaged { .. },
            ..
        })
    ));
    assert!(
        AtomicDict::open_or_create(&name, 1).is_err(),
        "never replaced unasked"
    );
    let fresh = AtomicDict::options().create_or_replace(&name).unwrap();
    assert!(fresh.is_current());
    damage(&name, 70);
    AtomicDict::unlink(&name).unwrap();
    assert!(!name.exists());
}

fn damage(name: &Name, offset: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(name.path())
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

/// FP20: attaching costs one mapping and one descriptor, and both come back.
#[test]
fn attaching_and_detaching_leaves_nothing_behind() {
    // Counted by name, because the other tests of this process come and go.
    let name = Name::new("churn");
    AtomicDict::create(&name, 10).unwrap();
    let dict = AtomicDict::open(&name).unwrap();
    let mappings = || {
        let mut maps = String::new();
        File::open("/proc/self/maps")
            .unwrap()
            .read_to_string(&mut maps)
            .unwrap();
        maps.lines().filter(|line| line.ends_with(&*name)).count()
    };
    let descriptors = || {
        let links = fs::read_dir("/proc/self/fd").unwrap();
        links
            .filter(|link| fs::read_link(link.as_ref().unwrap().path()).ok() == Some(name.path()))
            .count()
    };
    assert_eq!((mappings(), descriptors()), (1, 1));
    let many: Vec<_> = (0..100).map(|_| AtomicDict::open(&name).unwrap()).collect();
    assert_eq!((mappings(), descriptors()), (101, 101));
    let clones: Vec<_> = (0..100)
        .map(|_| (dict.clone(), dict.entry(1).unwrap()))
        .collect();
    assert_eq!((mappings(), descriptors()), (101, 101));
    drop((many, clones));
    for _ in 0..10_000 {
        AtomicDict::open(&name).unwrap();
    }
    assert_eq!((mappings(), descriptors()), (1, 1));
    let fd = dict.as_fd().as_raw_fd();
    drop(dict);
    assert_eq!(
        (mappings(), descriptors()),
        (0, 0),
        "descriptor {fd} is closed"
    );
}

#[test]
fn errors_convert_to_io_errors_of_the_right_kind() {
    use std::io::{Error, ErrorKind};
    let name = Name::new("io");
    let kind = |error: Error| error.kind();
    assert_eq!(
        kind(AtomicDict::open(&name).unwrap_err().into()),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(AtomicDict::unlink(&name).unwrap_err().into()),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(AtomicDict::open("a/b").unwrap_err().into()),
        ErrorKind::InvalidInput
    );
    AtomicDict::create(&name, 1).unwrap();
    let taken = AtomicDict::create(&name, 1).unwrap_err();
    assert_eq!(kind(taken.into()), ErrorKind::AlreadyExists);
    assert_eq!(
        kind(AtomicDict::anonymous(1 << 50).unwrap_err().into()),
        ErrorKind::StorageFull
    );
    assert_eq!(
        kind(InsertError::ReadOnly.into()),
        ErrorKind::PermissionDenied
    );
}
