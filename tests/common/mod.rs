//! Names that no other test has, and that are gone afterwards.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name for a segment in the shared memory directory; what stands there is removed at the end.
pub struct Name(String);

impl Name {
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: the numbers need only differ.
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = Self(format!("forkmap-test-{}-{n}-{label}", std::process::id()));
        name.remove();
        name
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/dev/shm").join(&self.0)
    }

    pub fn exists(&self) -> bool {
        self.path().symlink_metadata().is_ok()
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(self.path());
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.remove();
    }
}
