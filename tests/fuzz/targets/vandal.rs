//! Somebody who goes on damaging while operations run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::damage::Edit;

/// Rounds at most: what is lock-free may begin anew as often as somebody changes something.
const ROUNDS: usize = 2000;

/// Calls `f` while another thread goes on making these edits, and takes them back now and then.
pub(super) fn beside<R>(file: &File, good: &[u8], edits: &[Edit], f: impl FnOnce() -> R) -> R {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                // Relaxed: it stops when it sees it.
                if done.load(Relaxed) {
                    break;
                }
                for edit in edits {
                    let is_good = round % 3 == 2;
                    let words = edit.bytes.chunks(8).enumerate();
                    for (n, word) in words {
                        let at = edit.offset + 8 * n;
                        // (There is nothing good behind the end of one that was made shorter.)
                        let there = good.get(at..at + word.len()).filter(|_| is_good);
                        let word = there.unwrap_or(word);
                        file.write_all_at(word, at as u64).unwrap();
                    }
                }
                thread::yield_now();
            }
        });
        let result = f();
        done.store(true, Relaxed);
        result
    })
}
