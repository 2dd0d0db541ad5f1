//! `StreamDict` in one process.

use forkmap::{StreamDict, StreamError};
use std::time::Duration;

#[test]
fn basics() {
    let d = StreamDict::<str, u64>::options()
        .unlink_on_drop(true)
        .create_unique()
        .unwrap();
    assert_eq!(d.insert("a", &1).unwrap(), None);
    assert_eq!(d.insert("a", &2).unwrap(), Some(1));
    assert_eq!(d.get("a").unwrap(), Some(2));
    let name = d.position().unwrap();
    println!("{name:?} {:?}", d.status().unwrap());
    for n in 0..10_000_u64 {
        d.set(&format!("k{}", n % 100), &n).unwrap();
    }
    println!("{:?}", d.status().unwrap());
    assert_eq!(d.len().unwrap(), 101);
    d.transaction(|tx| {
        tx.remove("a")?;
        tx.set("b", &5)?;
        assert_eq!(tx.get("b")?, Some(&5));
        Ok::<_, StreamError>(())
    })
    .unwrap();
    assert_eq!(d.get("a").unwrap(), None);
    let p = d.position().unwrap();
    assert_eq!(
        d.wait_for_change(p, Duration::from_millis(20)).unwrap(),
        None
    );
    d.dump().unwrap();
    assert!(d.is_at(p).unwrap());
    d.reload().unwrap();
    assert_eq!(d.len().unwrap(), 101);
    let v = d.view().unwrap();
    assert!(matches!(d.get("b"), Err(StreamError::Reentrant)));
    assert_eq!(v.keys().next().unwrap().unwrap(), "k0");
}

#[test]
fn two_handles() {
    let name = format!("stream-two-{}", std::process::id());
    let a = StreamDict::<str, [u8]>::options()
        .unlink_on_drop(true)
        .create(&name)
        .unwrap();
    let b = StreamDict::<str, [u8]>::options().open(&name).unwrap();
    std::thread::scope(|s| {
        for d in [&a, &b] {
            s.spawn(move || {
                for n in 0..20_000u32 {
                    d.fetch_update("c", |old| {
                        let old = old.map_or(0, |o| u32::from_le_bytes(o[..4].try_into().unwrap()));
                        Some((old + 1).to_le_bytes().to_vec())
                    })
                    .unwrap();
                    if n % 1000 == 0 {
                        d.set(&format!("{n}"), &[7; 1000]).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(a.get("c").unwrap().unwrap(), 40_000u32.to_le_bytes());
    assert_eq!(b.get("c").unwrap().unwrap(), 40_000u32.to_le_bytes());
    println!("{:?}\n{:?}", a.status().unwrap(), b.status().unwrap());
    drop(b);
    drop(a);
    let left: Vec<_> = std::fs::read_dir("/dev/shm")
        .unwrap()
        .filter_map(|e| e.ok())
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|n| n.starts_with(&name))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
