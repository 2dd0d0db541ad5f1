//! One performance of a scene.

use std::sync::{Arc, Mutex};

use forkmap::model::Access;
use loom::sync::atomic::Ordering::SeqCst;

use super::Step::{self, Get, IfTold, Insist, Recover, Tell, Visit};
use super::history::Outcome::{self, Killed};
use super::history::{Event, Events, Model, after, is_explained};
use super::stage::Stage;
use super::{Actor, FIRST_SPREAD, Key, Scene, reader};
use crate::deaths::Deaths;
use crate::{join, run, spawn};

/// One thread in one performance.
struct Player<'a, const LINE: usize> {
    stage: &'a Stage<LINE>,
    actor: Actor,
    keys: &'a [Key],
    /// How many are killed.
    mortals: usize,
    /// The events that have ended, as far as it knows.
    known: u64,
}

impl<const LINE: usize> Player<'_, LINE> {
    /// Plays it to the end: what it knows then. The mortals are killed by their number as a writer, and behind
    /// them each who recovers somebody, if that is to be killed as well.
    fn play(mut self, deaths: &Deaths) -> u64 {
        let Actor {
            writer,
            looks,
            life,
            afterwards,
        } = self.actor;
        if afterwards.is_empty() {
            let _ = self.play_all(writer, looks, life, deaths);
            return self.known;
        }
        let mut doing = None;
        let survived = deaths.kill(writer, || {
            for &step in life {
                doing = Some(step);
                self.play_one(writer, looks, step);
            }
        });
        if survived.is_none() {
            let step = doing.expect("it did something");
            self.record(&[(step, Killed)]);
        }
        let _ = self.play_all(writer, looks, afterwards, deaths);
        self.known
    }

    /// Plays `steps`, as far as it is told to.
    fn play_all(
        &mut self,
        writer: usize,
        looks: Access,
        steps: &[Step],
        deaths: &Deaths,
    ) -> Option<()> {
        for &step in steps {
            match step {
                Tell => {
                    self.stage.log().told = self.known;
                    self.stage.told.store(true, SeqCst);
                }
                IfTold => {
                    self.stage.told.load(SeqCst).then_some(())?;
                    self.known |= self.stage.log().told;
                }
                Recover(dead) => {
                    let table = self.stage.table(Access::ReadWrite);
                    if deaths.kill(self.mortals, || table.recover(dead)).is_none() {
                        table.recover(dead);
                    }
                }
                _ => self.play_one(writer, looks, step),
            }
        }
        Some(())
    }

    fn play_one(&mut self, writer: usize, looks: Access, step: Step) {
        match step {
            Visit => {
                let seen = self.stage.visit(looks, self.keys);
                let seen: Vec<_> = seen.into_iter().map(|(key, was)| (Get(key), was)).collect();
                self.record(&seen);
            }
            Insist(key, value) => {
                let done = self.stage.insist(writer, key, value);
                self.record(&[done]);
            }
            _ => {
                let outcome = self.stage.perform(writer, looks, step);
                self.record(&[(step, outcome)]);
            }
        }
    }

    /// Notes what has just ended: at once, if that is several.
    fn record(&mut self, ended: &[(Step, Outcome)]) {
        let mut log = self.stage.log();
        let after = self.known;
        for &(step, outcome) in ended {
            self.known |= 1 << log.events.len();
            log.events.push(Event {
                step,
                outcome,
                after,
            });
        }
    }
}

/// A scene that is ready to be performed.
pub(super) struct Play<const LINE: usize> {
    scene: Scene,
    keys: Vec<Key>,
    /// The words before the threads start.
    words: Vec<u64>,
    /// What the map is meant to be then.
    model: Model,
}

impl<const LINE: usize> Play<LINE> {
    pub(super) fn new(scene: Scene) -> Arc<Self> {
        let geometry = scene.geometry();
        let words = Arc::new(Mutex::new(Vec::new()));
        let (out, before) = (Arc::clone(&words), scene.before);
        run(None, move || {
            let zeros = vec![0; geometry.words::<LINE>().expect("a small map")];
            let stage = Stage::<LINE>::new(&zeros, geometry);
            for &(writer, step) in before {
                stage.perform(writer, Access::ReadWrite, step);
            }
            let words = stage.words.iter().map(|word| word.load(SeqCst));
            *out.lock().expect("nobody panics") = words.collect();
        });
        let mut model = Model::default();
        let on_stage = |step: &Step| step.key().is_some_and(|key| key < FIRST_SPREAD);
        for step in before.iter().map(|&(_, step)| step).filter(on_stage) {
            let [_, done] = after(&model, step, Killed)[..] else {
                unreachable!("killed before it or behind it");
            };
            model = done;
        }
        let words = words.lock().expect("nobody panics").clone();
        Arc::new(Self {
            keys: scene.keys(),
            scene,
            words,
            model,
        })
    }

    pub(super) fn perform(&self, deaths: &Arc<Deaths>) {
        let stage = Arc::new(Stage::<LINE>::new(&self.words, self.scene.geometry()));
        let mortals = self.scene.mortals();
        let threads = self.scene.actors.iter().map(|&actor| {
            let (deaths, keys) = (Arc::clone(deaths), self.keys.clone());
            spawn(&stage, move |stage| {
                let player = Player {
                    stage,
                    actor,
                    keys: &keys,
                    mortals,
                    known: 0,
                };
                player.play(&deaths)
            })
        });
        let threads: Vec<_> = threads.collect();
        let known = threads.into_iter().fold(0, |known, thread| {
            let [knew] = join([thread]);
            known | knew
        });
        let mut last = Player {
            stage: &stage,
            actor: reader(Access::ReadWrite, &[]),
            keys: &self.keys,
            mortals,
            known,
        };
        for &key in &self.keys {
            last.play_one(usize::MAX, Access::ReadWrite, Get(key));
        }
        let events = &stage.log().events;
        assert!(
            is_explained(events, 0, &self.model),
            "no order explains this: {}",
            Events(events)
        );
        if !self.scene.may_be_full {
            let is_full = |event: &Event| event.outcome == Outcome::Full;
            assert!(!events.iter().any(is_full), "full: {}", Events(events));
        }
        let table = stage.table(Access::ReadWrite);
        let flaws = table.check();
        assert!(flaws.is_empty(), "{flaws:?} after {}", Events(events));
        if let Some(keys) = self.scene.keys_at_end {
            assert_eq!(table.census().keys, keys, "{}", Events(events));
        }
        if self.scene.mortals() == 0 {
            stage.check_hint();
        }
    }
}
