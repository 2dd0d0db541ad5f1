//! The portable backend: the same verbs over the `shared_memory` crate, and what it refuses.

use std::fs;
use std::os::unix::fs::FileExt;

use forkmap::{
    AtomicDict, CreateError, Kind, Mismatch, OpenError, OpenOrCreateError, UnlinkError, segments,
};
use libtest_mimic::Trial;

use crate::common::Name;
use crate::fork::fork_all;
use crate::{Role, run, spawn, test, wait_all};

pub(crate) const ROLES: &[Role] = &[
    ("add", |args| {
        let dict = AtomicDict::open_or_create(&args[0], 1000).unwrap();
        (0..65_536).for_each(|i| _ = dict.fetch_add(i % 1000, 1).unwrap());
    }),
    ("drop-in-child", |args| {
        let dict = AtomicDict::options()
            .unlink_on_drop(true)
            .create(&args[0])
            .unwrap();
        fork_all(3, |_| dict.clone().close().unwrap());
        let moved = std::cell::Cell::new(Some(dict));
        fork_all(1, |_| moved.take().unwrap().close().unwrap());
        let dict = moved.take().unwrap();
        assert!(dict.is_current(), "a child took the name away");
        dict.close().unwrap();
        assert!(matches!(
            AtomicDict::open(&args[0]),
            Err(OpenError::NotFound { .. })
        ));
    }),
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("eight_programs_that_race_to_create_add_exactly", || {
            for _ in 0..5 {
                let name = Name::new("add");
                wait_all((0..8).map(|_| spawn("add", &[&name])));
                let dict = AtomicDict::open(&name).unwrap();
                assert_eq!(dict.iter().map(|(_, sum)| sum).sum::<u64>(), 8 * 65_536);
            }
        }),
        test("handles_dropped_in_a_forked_child_harm_nobody", || {
            let name = Name::new("drop");
            run("drop-in-child", &[&name]);
        }),
        test(
            "each_verb_does_what_it_says_about_a_name_that_is_taken",
            verbs,
        ),
        test(
            "a_segment_that_was_never_finished_is_not_waited_for_long",
            unfinished,
        ),
        test("what_the_backend_lacks_is_refused", refused),
    ]
}

fn verbs() {
    let name = Name::new("verbs");
    assert!(matches!(
        AtomicDict::open(&name),
        Err(OpenError::NotFound { .. })
    ));
    assert!(matches!(
        AtomicDict::unlink(&name),
        Err(UnlinkError::NotFound { .. })
    ));
    let first = AtomicDict::create(&name, 10).unwrap();
    first.store(1, 1).unwrap();
    assert!(matches!(
        AtomicDict::create(&name, 10),
        Err(CreateError::AlreadyExists { .. })
    ));
    assert_eq!(AtomicDict::open(&name).unwrap().load(1), 1);
    let error = AtomicDict::options().schema(1).open(&name).unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Mismatch {
                mismatch: Mismatch::Schema {
                    found: 0,
                    wanted: 1
                },
                ..
            }
        ),
        "{error}"
    );
    let fresh = AtomicDict::options()
        .unlink_on_drop(true)
        .create_or_replace(&name)
        .unwrap();
    assert!(fresh.is_current() && !first.is_current());
    assert_eq!((fresh.load(1), first.load(1)), (0, 1));
    let listed = segments().unwrap();
    let info = listed.iter().find(|info| info.path == name.path()).unwrap();
    let content = info.content.as_ref().unwrap();
    assert_eq!(
        (content.kind, content.instance_id),
        (Some(Kind::AtomicDict), fresh.instance_id())
    );
    AtomicDict::unlink(&name).unwrap();
    let newer = AtomicDict::create(&name, 10).unwrap();
    fresh.close().unwrap();
    assert!(
        newer.is_current(),
        "an old handle took a newer segment's name away"
    );
}

/// What a creator leaves that dies in between: an object without a length, or without a first word.
fn unfinished() {
    let name = Name::new("unfinished");
    for length in [0, 4096] {
        fs::File::create(name.path())
            .unwrap()
            .set_len(length)
            .unwrap();
        let error = AtomicDict::open(&name).unwrap_err();
        assert!(matches!(error, OpenError::NotReady { .. }), "{error}");
        let error = AtomicDict::open_or_create(&name, 10).unwrap_err();
        assert!(
            matches!(error, OpenOrCreateError::Open(OpenError::NotReady { .. })),
            "{error}"
        );
        let fresh = AtomicDict::options().create_or_replace(&name).unwrap();
        assert!(fresh.is_current());
        AtomicDict::unlink(&name).unwrap();
    }
    AtomicDict::create(&name, 10).unwrap();
    let file = fs::File::options().write(true).open(name.path()).unwrap();
    file.write_all_at(&[9], 70).unwrap();
    assert!(matches!(
        AtomicDict::open(&name),
        Err(OpenError::Mismatch {
            mismatch: Mismatch::Damaged { .. },
            ..
        })
    ));
    file.set_len(512).unwrap();
    assert!(matches!(
        AtomicDict::open(&name),
        Err(OpenError::Mismatch {
            mismatch: Mismatch::Damaged { .. },
            ..
        } | OpenError::Mismatch {
            mismatch: Mismatch::Length { .. },
            ..
        })
    ));
    AtomicDict::unlink(&name).unwrap();
}

fn refused() {
    let name = Name::new("refused");
    let unsupported = |result: Result<AtomicDict, CreateError>| {
        let error = result.unwrap_err();
        assert!(matches!(error, CreateError::NotSupported { .. }), "{error}");
    };
    unsupported(AtomicDict::anonymous(10));
    unsupported(AtomicDict::options().dir("/tmp").create(&name));
    unsupported(AtomicDict::options().mode(0o644).create(&name));
    unsupported(AtomicDict::options().allow_owner(1).create(&name));
    AtomicDict::create(&name, 10).unwrap();
    let error = AtomicDict::options()
        .read_only(true)
        .open(&name)
        .unwrap_err();
    assert!(matches!(error, OpenError::NotSupported { .. }), "{error}");
}
