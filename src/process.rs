//! Which process this is, told apart from the one it was forked from.

#![allow(unsafe_code)]

use std::io;

/// A number that a forked child does not share with its parent, and that no other process has.
///
/// A pid would not do: a child in a new pid namespace can have the pid of its parent. On Linux the
/// number stands in a private page that the kernel empties in a child (`MADV_WIPEONFORK`), so it is
/// drawn afresh there on first use. Takes no lock, so it may be called in the child of a process
/// that had other threads when it forked. Fails if the system gives no page or no random bytes.
#[inline]
pub(crate) fn token() -> io::Result<u64> {
    imp::token()
}

/// No part of the crate that needs it comes so far on other systems.
#[cfg(not(target_os = "linux"))]
pub(crate) fn thread_id(_token: u64) -> u32 {
    1
}

/// A number that no other living thread of this process, which has that token, has: above 0 and below
/// 2^22, as all thread ids of Linux. A system call the first time in each thread.
#[cfg(target_os = "linux")]
#[inline]
pub(crate) fn thread_id(token: u64) -> u32 {
    use std::cell::Cell;
    thread_local! {
        /// With the process that it was asked in: a forked child has a copy of its parent's.
        static KNOWN: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
    }
    let (known_in, thread) = KNOWN.get();
    if known_in == token {
        return thread;
    }
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    KNOWN.set((token, thread));
    thread
}

/// 64 random bits from the kernel, never from a generator whose state a fork would copy.
pub(crate) fn random() -> io::Result<u64> {
    Ok(getrandom::u64()?)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use crate::sync::Word;

    /// The page, once there is one. A pointer and not a `OnceLock`: a lock that another thread held
    /// at the fork would stay locked in the child for ever.
    static PAGE: AtomicPtr<Word> = AtomicPtr::new(ptr::null_mut());

    const PAGE_BYTES: usize = 4096;

    #[inline]
    pub(super) fn token() -> io::Result<u64> {
        let word = word()?;
        // Acquire and Release: the number itself is all there is to see; nothing else is published.
        match word.load(Ordering::Acquire) {
            0 => draw(word),
            token => Ok(token),
        }
    }

    #[cold]
    fn draw(word: &Word) -> io::Result<u64> {
        let fresh = super::random()?.max(1);
        // AcqRel and Acquire: as the load in `token`, there is only the number to see.
        let drawn = word.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire);
        Ok(drawn.map_or_else(|winner| winner, |_| fresh))
    }

    #[inline]
    fn word() -> io::Result<&'static Word> {
        // Acquire: pairs with the Release below, so that the advice is in force on the page seen.
        let mut page = PAGE.load(Ordering::Acquire);
        if page.is_null() {
            page = first_page()?;
        }
        // SAFETY: a page that `map_page` made and that is never unmapped once it is stored: zeroed by
        // the kernel (also after a fork), aligned to its size, and changed through this atomic only.
        Ok(unsafe { &*page })
    }

    #[cold]
    fn first_page() -> io::Result<*mut Word> {
        let fresh = map_page()?;
        // Release: see the load in `word`. Acquire on failure: as that load.
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        Ok(
            match PAGE.compare_exchange(ptr::null_mut(), fresh, success, failure) {
                Ok(_) => fresh,
                Err(winner) => {
                    unmap_page(fresh);
                    winner
                }
            },
        )
    }

    /// A private page that is empty, and empty again in a forked child.
    fn map_page() -> io::Result<*mut Word> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice: it aliases nothing.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, prot, MapFlags::PRIVATE) }?;
        // SAFETY: the page was mapped by the line above and nobody else knows it.
        let wiped = unsafe { madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork) };
        wiped.inspect_err(|_| unmap_page(page.cast()))?;
        Ok(page.cast())
    }

    /// Gives a page back that nobody else has come to know.
    fn unmap_page(page: *mut Word) {
        // SAFETY: `page` comes from `map_page` and was not stored, so no reference leads into it.
        let _ = unsafe { munmap(page.cast(), PAGE_BYTES) };
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub(super) fn token() -> std::io::Result<u64> {
        Ok(u64::from(std::process::id()))
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    #[test]
    fn the_token_stays_the_same_in_one_process() {
        let token = super::token().unwrap();
        assert_eq!(super::token().unwrap(), token);
        let elsewhere = std::thread::spawn(super::token).join().unwrap();
        assert_eq!(elsewhere.unwrap(), token);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(super::random().unwrap(), super::random().unwrap());
    }
}
