//! Threads of a model that are killed before each of their writes, one write after the other.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};

use forkmap::model::death;

use crate::{report, run};

/// Before which of its writes each of some threads is killed.
#[derive(Debug)]
pub struct Deaths {
    before: Vec<usize>,
    /// Whether any of them was reached by that.
    died: Vec<AtomicBool>,
}

impl Deaths {
    /// For the threads number 0, 1 and so on.
    pub fn new(before: &[usize]) -> Arc<Self> {
        be_quiet_about_deaths();
        Arc::new(Self {
            before: before.to_vec(),
            died: before.iter().map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// Runs `f`, and kills it as is meant for `who`, if anything is: then `None`.
    pub fn kill<T>(&self, who: usize, f: impl FnOnce() -> T) -> Option<T> {
        let Some(&before) = self.before.get(who) else {
            return Some(f());
        };
        let survived = death::kill_before(before, f);
        if survived.is_none() {
            self.died[who].store(true, Relaxed);
        }
        survived
    }
}

/// Runs `model` as [`explore`](crate::explore) does, once for each combination of writes before which
/// `mortals` threads can be killed.
pub fn explore_deaths(
    name: &str,
    bound: Option<usize>,
    at_least: usize,
    mortals: usize,
    model: impl Fn(&Arc<Deaths>) + Send + Sync + 'static,
) {
    let model = Arc::new(model);
    let mut explore = |deaths: &Arc<Deaths>| {
        let (model, deaths) = (Arc::clone(&model), Arc::clone(deaths));
        run(bound, move || model(&deaths))
    };
    report(name, bound, at_least, || {
        at_each_write(mortals, &mut explore)
    });
}

/// Runs `explore` once for each combination of writes before which `mortals` threads can be killed, until
/// none of them lives to see its own: the sum of what it returns.
pub fn at_each_write(mortals: usize, explore: &mut dyn FnMut(&Arc<Deaths>) -> usize) -> usize {
    kill(vec![0; mortals], 0, explore).0
}

/// The same for the threads from number `from` on; and who was killed in any of them.
fn kill(
    mut before: Vec<usize>,
    from: usize,
    explore: &mut dyn FnMut(&Arc<Deaths>) -> usize,
) -> (usize, Vec<bool>) {
    if from == before.len() {
        let deaths = Deaths::new(&before);
        let schedules = explore(&deaths);
        let died = deaths.died.iter().map(|died| died.load(Relaxed));
        return (schedules, died.collect());
    }
    let mut schedules = 0;
    let mut anybody = vec![false; before.len()];
    for write in 0.. {
        before[from] = write;
        let (more, died) = kill(before.clone(), from + 1, explore);
        schedules += more;
        anybody
            .iter_mut()
            .zip(&died)
            .for_each(|(any, died)| *any |= died);
        if !died[from] {
            break;
        }
    }
    (schedules, anybody)
}

/// Deaths in the models are no news.
fn be_quiet_about_deaths() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let cause = info.payload();
            if cause.is::<&str>() || cause.is::<String>() {
                usual(info);
            }
        }));
    });
}
