//! The memory that an input is laid into: one file without a name for each thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

thread_local! {
    static FILE: File = memfd();
    /// What was prepared once, by a number that says what it is.
    static PREPARED: RefCell<HashMap<u64, Vec<u8>>> = RefCell::default();
}

fn memfd() -> File {
    rustix::fs::memfd_create("forkmap-fuzz", MemfdFlags::CLOEXEC)
        .expect("a file in memory")
        .into()
}

/// All bytes of a file.
pub(super) fn read(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The bytes of an anonymous segment that `make` makes, the first time.
pub(super) fn prepared<T: AsFd>(number: u64, make: impl FnOnce() -> T) -> Vec<u8> {
    PREPARED.with_borrow_mut(|prepared| {
        let bytes = prepared.entry(number).or_insert_with(|| {
            let made = make();
            read(&made.as_fd().try_clone_to_owned().unwrap().into())
        });
        bytes.clone()
    })
}

/// A file with these bytes, which the next call overwrites.
pub(super) fn file_of(bytes: &[u8]) -> File {
    FILE.with(|file| {
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.try_clone().unwrap()
    })
}

/// A descriptor of the file to hand over.
pub(super) fn fd(file: &File) -> OwnedFd {
    file.try_clone().unwrap().into()
}
