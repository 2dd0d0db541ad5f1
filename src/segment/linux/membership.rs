//! This process as a participant of a segment: registered when it first needs to be, and anew in a
//! forked child.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::locks::{Description, Pin, lock_error};
use crate::error::ParticipantError;
use crate::per_process::PerProcess;
use crate::process;
use crate::raw::participants::{ParticipantId, life};
use crate::segment::{Participant, Segment};
use crate::sync::Access;

/// How long to wait for a place when all seem to be taken: threads of one process that register at once
/// each take one for a moment, and give it back.
const PAUSES_MS: [u64; 4] = [1, 3, 10, 30];

/// The registrations of this process and of those that it was forked from.
#[derive(Debug, Default)]
pub(crate) struct Memberships(PerProcess<Membership>);

#[derive(Debug)]
struct Membership {
    /// The process that it belongs to.
    token: u64,
    id: ParticipantId,
    /// Keeps the kernel's lock on the byte that says that we live. Taken out by `drop`, and only there.
    pin: Option<Pin>,
    /// Whether a thread has it to itself. (Nobody asks about one that all threads share.)
    taken: Arc<AtomicBool>,
}

/// A participant that one thread has to itself, as long as it has this. In another process than the one
/// that made it, it is nothing.
#[derive(Debug)]
pub(crate) struct Lease {
    slot: usize,
    taken: Arc<AtomicBool>,
}

impl Lease {
    /// Its place in the table.
    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Whether the attachment that it belongs to has ended.
    pub(crate) fn is_over(&self) -> bool {
        Arc::strong_count(&self.taken) == 1
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Release: pairs with the exchange that takes it: the next thread comes after all that this one
        // has done.
        self.taken.store(false, Ordering::Release);
    }
}

impl Memberships {
    /// A participant of the process with that token that no thread has, for the caller alone.
    fn lease(&self, token: u64) -> Option<Lease> {
        self.0.all(token).find_map(Membership::lease)
    }
}

impl Membership {
    fn lease(&self) -> Option<Lease> {
        // Acquire: pairs with the Release of the thread that had it. Relaxed on failure: it goes on to
        // the next.
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        let taken = self.taken.compare_exchange(false, true, success, failure);
        taken.ok().map(|_| Lease {
            slot: self.id.slot,
            taken: Arc::clone(&self.taken),
        })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !process::token().is_ok_and(|token| token == self.token) {
            // Of a process that this one was forked from: the page is not mapped here.
            std::mem::forget(self.pin.take());
        }
    }
}

impl Segment {
    /// This process, which has that token, as a participant. Some system calls the first time in each
    /// process, and a few instructions after that.
    #[inline]
    pub(crate) fn participant(&self, token: u64) -> Result<ParticipantId, ParticipantError> {
        // In the structures that use this, nothing is left in a slot that needs to be put in order.
        self.participant_after(token, |_| ())
    }

    /// As [`participant`](Self::participant); what a dead participant has left in its slot is put in order
    /// by `recover` before.
    #[inline]
    pub(crate) fn participant_after(
        &self,
        token: u64,
        recover: impl Fn(usize),
    ) -> Result<ParticipantId, ParticipantError> {
        match self.registered(token) {
            Some(id) => Ok(id),
            None => self.register(token, recover),
        }
    }

    /// The place of this process in the table, if it is a participant already.
    pub(crate) fn slot(&self) -> Option<usize> {
        let token = process::token().ok()?;
        Some(self.registered(token)?.slot)
    }

    /// This process as a participant, if it is one already.
    fn registered(&self, token: u64) -> Option<ParticipantId> {
        self.memberships.0.get(token).map(|latest| latest.id)
    }

    #[cold]
    fn register(
        &self,
        token: u64,
        recover: impl Fn(usize),
    ) -> Result<ParticipantId, ParticipantError> {
        let there = || self.registered(token);
        let Some(membership) = self.new_membership(token, there, recover)? else {
            return there().ok_or_else(|| self.too_many());
        };
        let id = membership.id;
        match self.memberships.0.push(token, membership, true) {
            Ok(()) => Ok(id),
            Err(superfluous) => {
                self.layout().participants.leave(superfluous.id);
                there().ok_or_else(|| self.too_many())
            }
        }
    }

    /// A participant for the calling thread alone, in the process with that token. Some system calls, if
    /// no other thread has left one over. What a dead participant has left in its slot is put in order by
    /// `recover` before.
    #[cold]
    pub(crate) fn lease(
        &self,
        token: u64,
        recover: impl Fn(usize),
    ) -> Result<Lease, ParticipantError> {
        if let Some(lease) = self.memberships.lease(token) {
            return Ok(lease);
        }
        let never = || None;
        let membership = self.new_membership(token, never, recover)?;
        let membership = membership.ok_or_else(|| self.too_many())?;
        let lease = membership.lease().expect("nobody else knows it");
        let pushed = self.memberships.0.push(token, membership, false);
        debug_assert!(pushed.is_ok());
        Ok(lease)
    }

    /// Calls `recover` for the slots of the dead: how many they were.
    pub(crate) fn recover(&self, recover: impl Fn(usize)) -> Result<usize, ParticipantError> {
        if self.access() == Access::ReadOnly {
            return Err(ParticipantError::ReadOnly);
        }
        let description = Description::open(&self.backing, self.place.as_ref())?;
        let recovered = self.layout().participants.recover(&description, recover);
        recovered.map_err(lock_error("fcntl(F_OFD_SETLK)"))
    }

    fn too_many(&self) -> ParticipantError {
        ParticipantError::TooMany {
            limit: self.layout().participants.slots(),
        }
    }

    /// Registers this process once more; `None` if `there` has found what is wanted meanwhile.
    fn new_membership(
        &self,
        token: u64,
        there: impl Fn() -> Option<ParticipantId>,
        recover: impl Fn(usize),
    ) -> Result<Option<Membership>, ParticipantError> {
        if self.access() == Access::ReadOnly {
            return Err(ParticipantError::ReadOnly);
        }
        let table = self.layout().participants;
        let description = Description::open(&self.backing, self.place.as_ref())?;
        let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
        let mut pauses = PAUSES_MS.into_iter();
        let id = loop {
            let registered = table.register(pid, token, &description, &recover);
            if let Some(id) = registered.map_err(lock_error("fcntl(F_OFD_SETLK)"))? {
                break id;
            }
            if there().is_some() {
                return Ok(None);
            }
            let pause = pauses.next().ok_or_else(|| self.too_many())?;
            std::thread::sleep(Duration::from_millis(pause));
        };
        Ok(Some(Membership {
            token,
            id,
            pin: Some(description.into_pin()),
            taken: Arc::new(AtomicBool::new(false)),
        }))
    }

    /// Gives up this process's places in the table.
    pub(in crate::segment) fn leave(&self) {
        let Ok(token) = process::token() else { return };
        let own = self.memberships.0.all(token);
        own.for_each(|membership| self.layout().participants.leave(membership.id));
    }

    /// Whether `id` is alive, by the kernel's account.
    pub(crate) fn is_alive(&self, id: ParticipantId) -> Result<bool, ParticipantError> {
        self.backing.is_locked(life(id), self.place.as_ref())
    }

    /// Whether `id` is this process, perhaps by way of another attachment.
    pub(crate) fn is_this_process(&self, id: ParticipantId) -> bool {
        process::token().is_ok_and(|token| self.layout().participants.belongs(id, token))
    }

    /// Those who have a place in the table.
    pub(crate) fn participants(&self) -> Result<Vec<Participant>, ParticipantError> {
        let table = self.layout().participants;
        let records = (0..table.slots()).filter_map(|slot| table.record(slot));
        records
            .filter_map(|record| Some((record.id, record.pid?)))
            .map(|(id, pid)| {
                let is_alive = self.is_alive(id)?;
                Ok(Participant {
                    slot: id.slot,
                    pid,
                    is_alive,
                })
            })
            .collect()
    }
}
