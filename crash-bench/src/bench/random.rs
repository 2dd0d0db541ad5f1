//! Random numbers that are the same each time, for who prepares a scenario and for its victims.
//!
//! A stream dictionary has random numbers in its names, and a name takes other instructions if one of its
//! numbers begins with a zero. So the bench has a `getrandom` of its own, in front of that of the C library,
//! which is what `forkmap` asks. Those who look what a victim has left, and the bench itself, get the
//! kernel's numbers as ever.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use forkmap::AtomicDict;
use nix::libc;

use super::scenario::{Failure, ensure};

/// Where the numbers of this process have come to; 0: they are the kernel's.
static STATE: AtomicUsize = AtomicUsize::new(0);

/// How many were asked for since they are not.
static DRAWN: AtomicUsize = AtomicUsize::new(0);

/// The same numbers from here on as in every process that calls this.
pub(crate) fn begin() {
    STATE.store(1, Relaxed);
}

/// The kernel's numbers from here on.
pub(crate) fn end() {
    STATE.store(0, Relaxed);
}

/// Other numbers than those that a child gets which is forked now.
pub(crate) fn leave_to_child() {
    let state = STATE.load(Relaxed);
    if state != 0 {
        STATE.store(state + (1 << 32), Relaxed);
    }
}

/// Fails if `forkmap` asks the `getrandom` of the C library all the same.
pub(crate) fn check() -> Result<(), Failure> {
    begin();
    drop(AtomicDict::anonymous(1)?);
    end();
    ensure!(
        DRAWN.load(Relaxed) > 0,
        "random numbers are not the bench's"
    );
    Ok(())
}

/// The next number: as different as random ones, and none begins with a zero.
fn draw() -> u64 {
    DRAWN.fetch_add(1, Relaxed);
    let n = STATE.fetch_add(1, Relaxed) as u64;
    // As SplitMix64 does it.
    let n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (n ^ n >> 31) | 1 << 63
}

/// As that of the C library.
///
/// # Safety
/// There must be `length` bytes at `buffer` that nobody else uses.
// SAFETY: the C library's function of that name has this signature, and promises no more.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if STATE.load(Relaxed) == 0 {
        // SAFETY: the system call that this function stands for, with the caller's bytes.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return filled as libc::ssize_t;
    }
    let mut left = length;
    let mut to = buffer.cast::<u8>();
    while left > 0 {
        let bytes = draw().to_le_bytes();
        let count = left.min(bytes.len());
        // SAFETY: `left` bytes at `to` are the caller's to have filled, and `count` is no more than that.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), count) };
        // SAFETY: at most the end of those bytes.
        to = unsafe { to.add(count) };
        left -= count;
    }
    length as libc::ssize_t
}
