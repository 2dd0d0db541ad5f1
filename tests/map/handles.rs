//! What a handle tells of its map.

use std::os::fd::AsFd;

use forkmap::SharedHashMap;

use crate::common::Name;
use crate::samples::Odd;

#[test]
fn handles_tell_of_their_attachment_as_those_of_a_dict_do() {
    let name = Name::new("map-handle");
    let map = SharedHashMap::<str, u64>::create(&name, 7).unwrap();
    let again = SharedHashMap::<str, u64>::open(&name).unwrap();
    assert_eq!((map.name(), map.path()), (Some(&*name), Some(name.path())));
    assert_eq!(map.instance_id(), again.instance_id());
    assert_eq!(map.capacity(), 7);
    assert!(map.is_current() && !map.is_read_only());
    map.insert("a", &1).unwrap();
    assert_eq!(again.get("a").unwrap(), Some(1));
    assert_eq!(again.fetch_add("a", 1).unwrap(), 1);

    let fd = map.as_fd().try_clone_to_owned().unwrap();
    let by_fd = SharedHashMap::<str, u64>::options().from_fd(fd).unwrap();
    assert_eq!((by_fd.name(), by_fd.path()), (None, None));
    assert_eq!(by_fd.instance_id(), map.instance_id());
    by_fd.insert("b", &2).unwrap();
    assert_eq!(map.len(), 2);
    let participants = map.participants().unwrap();
    assert_eq!(participants.len(), 3);
    assert!(
        participants
            .iter()
            .all(|p| p.is_alive && p.pid == std::process::id())
    );

    let replaced = SharedHashMap::<str, u64>::options()
        .capacity(3)
        .create_or_replace(&name)
        .unwrap();
    assert!(replaced.is_current() && !map.is_current());
    assert_ne!(replaced.instance_id(), map.instance_id());
    assert_eq!(
        (replaced.len(), map.len()),
        (0, 2),
        "who is attached goes on"
    );
    let opened = SharedHashMap::<str, u64>::open_or_create(&name, 3).unwrap();
    assert_eq!(opened.instance_id(), replaced.instance_id());
    SharedHashMap::<str, u64>::unlink(&name).unwrap();
    assert!(!replaced.is_current() && !name.exists());
    replaced.close().unwrap();

    let mut options = SharedHashMap::<str, u64>::options();
    options.unlink_on_drop(true);
    let unique = options.create_unique().unwrap();
    let path = unique.path().unwrap();
    let clone = unique.clone();
    unique.close().unwrap();
    assert!(path.exists(), "a clone shares the attachment");
    clone.insert("a", &1).unwrap();
    clone.close().unwrap();
    assert!(!path.exists());
    assert_eq!(
        SharedHashMap::<str, u64>::anonymous(1).unwrap().name(),
        None
    );
}

#[test]
fn handles_go_between_threads_and_print_no_data() {
    fn send_sync<T: Send + Sync + Clone>() {}
    send_sync::<SharedHashMap<str, [u8]>>();
    send_sync::<SharedHashMap<Odd, ()>>();
    let map = SharedHashMap::<u64, u64>::anonymous(8).unwrap();
    map.insert(&77_777, &88_888).unwrap();
    let texts = [
        format!("{map:?}"),
        format!("{:?} {:?} {:?}", map.iter(), map.keys(), map.values()),
        format!("{:?}", map.entry(&77_777).unwrap()),
    ];
    assert!(texts[0].contains("capacity: 8"), "{texts:?}");
    for text in texts {
        assert!(!text.contains("77777") && !text.contains("88888"), "{text}");
    }
}

#[test]
fn stats_tell_what_is_there() {
    let map = SharedHashMap::<u64, u64>::options()
        .capacity(1000)
        .participants(10)
        .anonymous()
        .unwrap();
    let empty = map.stats().unwrap();
    assert_eq!((empty.len, empty.free, empty.capacity), (0, 1000, 1000));
    assert_eq!((empty.hit_lines, empty.hit_lines_p99), (0.0, 0));
    assert_eq!((empty.miss_lines, empty.miss_lines_max), (1.0, 1));
    assert_eq!(
        (empty.writers, empty.dead_writers, empty.writer_limit),
        (0, 0, 10)
    );
    for key in 0..1000 {
        map.insert(&key, &key).unwrap();
    }
    let full = map.stats().unwrap();
    assert_eq!((full.len, full.free, full.writers), (1000, 0, 1));
    assert!(full.hit_lines >= 1.0 && full.hit_lines < 2.0, "{full:?}");
    assert!(full.miss_lines >= full.hit_lines_p99 as f64 / 8.0);
    assert!(full.miss_lines_p99 <= full.miss_lines_max, "{full:?}");
    map.clear().unwrap();
    let cleared = map.stats().unwrap();
    assert_eq!(
        (cleared.len, cleared.free, cleared.miss_lines),
        (0, 1000, 1.0)
    );
}
