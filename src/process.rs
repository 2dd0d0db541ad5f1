//! Which process this is, told apart from the one it was forked from.

#![allow(unsafe_code)]

/// A number that a forked child does not share with its parent, and that no other process has.
///
/// A pid would not do: a child in a new pid namespace can have the pid of its parent. On Linux the
/// number stands in a private page that the kernel empties in a child (`MADV_WIPEONFORK`), so it is
/// drawn afresh there on first use. Takes no lock, so it may be called in the child of a process
/// that had other threads when it forked. `None` if the system gives no page or no random bytes.
pub(crate) fn token() -> Option<u64> {
    imp::token()
}

/// 64 random bits from the kernel, never from a generator whose state a fork would copy.
pub(crate) fn random() -> std::io::Result<u64> {
    Ok(getrandom::u64()?)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::ptr;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use crate::sync::Word;

    /// The page, once there is one. A pointer and not a `OnceLock`: a lock that another thread held
    /// at the fork would stay locked in the child for ever.
    static PAGE: AtomicPtr<Word> = AtomicPtr::new(ptr::null_mut());

    const PAGE_BYTES: usize = 4096;

    pub(super) fn token() -> Option<u64> {
        let word = word()?;
        // Acquire and Release: the number itself is all there is to see; nothing else is published.
        match word.load(Ordering::Acquire) {
            0 => {
                let fresh = super::random().ok()?.max(1);
                let drawn = word.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire);
                Some(drawn.map_or_else(|winner| winner, |_| fresh))
            }
            token => Some(token),
        }
    }

    fn word() -> Option<&'static Word> {
        // Acquire: pairs with the Release below, so that the advice is in force on the page seen.
        let mut page = PAGE.load(Ordering::Acquire);
        if page.is_null() {
            let flags = MapFlags::PRIVATE;
            let prot = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a fresh mapping at an address of the kernel's choice: it aliases nothing.
            let fresh = unsafe { mmap_anonymous(ptr::null_mut(), PAGE_BYTES, prot, flags) }.ok()?;
            // SAFETY: the page was mapped by the line above and nobody else knows it.
            let wiped = unsafe { madvise(fresh, PAGE_BYTES, Advice::LinuxWipeOnFork) };
            let fresh = fresh.cast::<Word>();
            // Release: see the load above. Acquire on failure: as that load.
            let (new, set) = (fresh, (Ordering::AcqRel, Ordering::Acquire));
            let stored = wiped
                .map_err(|_| ptr::null_mut())
                .and_then(|()| PAGE.compare_exchange(ptr::null_mut(), new, set.0, set.1));
            page = match stored {
                Ok(_) => fresh,
                Err(winner) => {
                    // SAFETY: the page was not stored, so nobody but this call knows it.
                    let _ = unsafe { munmap(fresh.cast(), PAGE_BYTES) };
                    winner
                }
            };
        }
        // SAFETY: null, or a page that was mapped above and is never unmapped: zeroed by the kernel
        // (also after a fork), aligned to its size, and changed through this atomic only.
        unsafe { page.as_ref() }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub(super) fn token() -> Option<u64> {
        Some(u64::from(std::process::id()))
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    #[test]
    fn the_token_stays_the_same_in_one_process() {
        let token = super::token().unwrap();
        assert_eq!(super::token(), Some(token));
        assert_eq!(
            std::thread::spawn(super::token).join().unwrap(),
            Some(token)
        );
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(super::random().unwrap(), super::random().unwrap());
    }
}
