//! Watching: what changes, one after the other, by a replica of its own.

mod event;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::event::{KeyChange, ValueChange, WatchEvent};
use self::event::{Paths, RawChange, changes_by, decoded, differences};
use super::error::StreamError;
use super::replica::{Keys, Replica, Scope};
use super::state::{Seen, State};
use super::view::encoded_key;
use super::{Position, Shared, StreamDict};
use crate::raw::bell;
use crate::stored::Stored;
use crate::sync::Access;

/// What changes in a [`StreamDict`], one after the other: each change exactly once and in its order.
///
/// [`next`](Iterator::next) waits for the next change, and [`next_within`](Self::next_within) not for ever. A
/// watch reads the log by itself, and keeps a copy of what it watches (stored bytes, not decoded). It slows nobody:
/// who writes does not know of it. So it can come too late: when it has not looked while the log was full twice, the
/// changes in between are gone. It says so by [`WatchEvent::Lagged`], and the next event is the difference.
///
/// Once the dictionary is unlinked or replaced, and all is told, what comes is [`StreamError::Unlinked`]; and once the
/// map that is watched is removed from where it was, [`StreamError::Gone`].
///
/// It is a handle, as its dictionary is: it keeps that open, and the memory of the generation that it has seen last.
/// A forked child can go on with a watch that it inherits.
pub struct Watch<K: Stored + ?Sized, V: Stored + ?Sized> {
    shared: Arc<Shared<V>>,
    state: State<[u8]>,
    events: VecDeque<RawEvent>,
    paths: Paths<K>,
}

/// An event that is not decoded yet.
enum RawEvent {
    Changed(RawChange, Position),
    Lagged,
    Resync {
        changes: Vec<RawChange>,
        is_whole: bool,
        position: Position,
    },
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> StreamDict<K, V> {
    /// Watches everything in this map, and in the maps below it, from now on.
    ///
    /// # Errors
    /// [`StreamError`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use forkmap::{StreamDict, ValueChange, WatchEvent};
    ///
    /// let settings = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// let mut watch = settings.watch_prefix("net/")?;
    /// settings.set("disk/cache", &64)?;
    /// settings.set("net/retries", &3)?;
    /// let event = watch.next_within(Duration::from_secs(1))?;
    /// let Some(WatchEvent::Changed { change, .. }) = event else { panic!("{event:?}") };
    /// assert_eq!((change.key.as_str(), change.value), ("net/retries", ValueChange::Inserted(3)));
    /// assert_eq!(watch.next_within(Duration::ZERO)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self) -> Result<Watch<K, V>, StreamError> {
        self.watch_within(Keys::All)
    }

    /// Watches one key, and what is below it if it holds a map, from now on.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn watch_key(&self, key: &K::Item) -> Result<Watch<K, V>, StreamError> {
        self.watch_within(Keys::One(encoded_key::<K>(key)?.as_ref().into()))
    }

    /// Watches the keys whose stored bytes begin with those of `prefix`, and what is below them, from now on: for keys
    /// that are `str` or `[u8]`, those that begin like that.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn watch_prefix(&self, prefix: &K::Item) -> Result<Watch<K, V>, StreamError> {
        self.watch_within(Keys::Prefix(encoded_key::<K>(prefix)?.as_ref().into()))
    }

    fn watch_within(&self, keys: Keys) -> Result<Watch<K, V>, StreamError> {
        let path = self.path.clone();
        let scope = Scope { path, keys };
        let shared = Arc::clone(&self.shared);
        let cx = shared.context();
        let mut state = State::attach_within(&cx, &scope)?;
        while state.step(&cx, |_| {})? {}
        let watch = Watch {
            shared,
            state,
            events: VecDeque::new(),
            paths: Paths::new(),
        };
        match watch.is_gone() {
            true => Err(StreamError::Gone),
            false => Ok(watch),
        }
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Watch<K, V> {
    /// The same, from `position` on instead of from now on. If the changes since then are gone, the first event is
    /// [`WatchEvent::Lagged`], and the second one has all there is, as inserted, and says so. (A position that is still
    /// to come counts as now.)
    ///
    /// # Errors
    /// [`StreamError`].
    ///
    /// So one begins with what is there, and goes on with what changes:
    ///
    /// ```
    /// # use forkmap::StreamDict;
    /// # let dict = StreamDict::<str, u64>::options().unlink_on_drop(true).create_unique()?;
    /// let view = dict.view()?;
    /// let mut settings: Vec<_> = view.iter().collect::<Result<_, _>>()?;
    /// let watch = dict.watch()?.since(view.position())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn since(mut self, position: Position) -> Result<Self, StreamError> {
        let cx = self.shared.context();
        let scope = self.state.replica.scope().clone();
        self.state = State::attach_within(&cx, &scope)?;
        self.events.clear();
        let mut is_gone = position < self.state.since();
        while !is_gone && self.state.position() < position {
            let has_more = self.state.step(&cx, |seen| {
                is_gone = matches!(seen, Seen::Leap { .. });
            });
            if !has_more? {
                break;
            }
        }
        if is_gone {
            let all = differences(&Replica::default(), &self.state.replica);
            self.events.extend(lagged(all, true, self.state.position()));
        }
        Ok(self)
    }

    /// The position up to which it has read: that of the events that it has told, or has in hand. (Its name is not
    /// `position` because iterators have something else of that name.)
    pub fn reached(&self) -> Position {
        self.state.position()
    }

    /// The next event, if there is one within `timeout`.
    ///
    /// Blocking. If whoever made the change was killed before it had woken anybody, the watch looks by itself after
    /// 50 ms; one of a handle that was opened with `read_only(true)` looks every 5 ms.
    ///
    /// # Errors
    /// [`StreamError::Decode`] for one change that this program cannot decode: the next call goes on behind it. Else
    /// any [`StreamError`].
    #[expect(clippy::type_complexity, reason = "an event or none, and an error")]
    pub fn next_within(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<WatchEvent<K::Owned, V::Owned>>, StreamError> {
        let shared = Arc::clone(&self.shared);
        let cx = shared.context();
        let (bell, deadline) = (cx.bell(), bell::after(timeout));
        let mut look = || match self.read_on() {
            Ok(false) if cx.is_unlinked() => Some(Err(StreamError::Unlinked)),
            Ok(false) if self.is_gone() => Some(Err(StreamError::Gone)),
            Ok(false) => None,
            found => Some(found),
        };
        let found = bell::spin(&mut look).or_else(|| match shared.segment.access() {
            Access::ReadWrite => bell.wait(look, deadline),
            Access::ReadOnly => bell.poll(look, deadline),
        });
        found.transpose()?;
        let Some(event) = self.events.pop_front() else {
            return Ok(None);
        };
        self.decoded(event).map(Some)
    }

    /// Whether the map that is watched is not there any more.
    fn is_gone(&self) -> bool {
        let replica = &self.state.replica;
        replica.map(replica.scope().map()).is_none()
    }

    /// Reads on until there is an event: whether there is one.
    fn read_on(&mut self) -> Result<bool, StreamError> {
        let cx = self.shared.context();
        while self.events.is_empty() {
            let (mut changes, mut leapt) = (Vec::new(), None);
            let has_more = self.state.step(&cx, |seen| match seen {
                Seen::Change {
                    before,
                    map,
                    change,
                } => changes.extend(changes_by(before, map, change)),
                Seen::Leap { before, after } => leapt = Some(differences(before, after)),
            });
            if !has_more? {
                return Ok(false);
            }
            let position = self.state.position();
            let changes = changes.into_iter();
            self.events
                .extend(changes.map(|change| RawEvent::Changed(change, position)));
            if let Some(differences) = leapt {
                self.events.extend(lagged(differences, false, position));
            }
        }
        Ok(true)
    }

    fn decoded(&mut self, event: RawEvent) -> Result<WatchEvent<K::Owned, V::Owned>, StreamError> {
        let paths = &mut self.paths;
        match event {
            RawEvent::Changed(change, position) => Ok(WatchEvent::Changed {
                change: decoded::<K, V>(&change, paths)?,
                position,
            }),
            RawEvent::Lagged => Ok(WatchEvent::Lagged),
            RawEvent::Resync {
                changes: mut raw,
                is_whole,
                position,
            } => {
                let mut changes = Vec::with_capacity(raw.len());
                for at in 0..raw.len() {
                    match decoded::<K, V>(&raw[at], paths) {
                        Ok(change) => changes.push(change),
                        Err(error) => {
                            // The others come next.
                            raw.remove(at);
                            self.events.push_front(RawEvent::Resync {
                                changes: raw,
                                is_whole,
                                position,
                            });
                            return Err(error);
                        }
                    }
                }
                Ok(WatchEvent::Resync {
                    changes,
                    is_whole,
                    position,
                })
            }
        }
    }
}

fn lagged(changes: Vec<RawChange>, is_whole: bool, position: Position) -> [RawEvent; 2] {
    let resync = RawEvent::Resync {
        changes,
        is_whole,
        position,
    };
    [RawEvent::Lagged, resync]
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> Iterator for Watch<K, V> {
    type Item = Result<WatchEvent<K::Owned, V::Owned>, StreamError>;

    /// The next event, waited for as long as it takes: it never ends, but for errors that stay.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_within(Duration::MAX).transpose()
    }
}

impl<K: Stored + ?Sized, V: Stored + ?Sized> fmt::Debug for Watch<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
