//! Scenes under every schedule, and with every death.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Once};

use super::Scene;
use super::play::{Deaths, Play};
use crate::{report, run};

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

/// Explores a scene in which nobody is killed, with one bucket a line and with two.
pub fn explore_scene(name: &str, bound: Option<usize>, at_least: usize, scene: &Scene) {
    explore_lines::<1>(name, bound, at_least, scene);
    explore_lines::<2>(name, bound, at_least, scene);
}

/// Explores a scene in which nobody is killed.
fn explore_lines<const LINE: usize>(
    name: &str,
    bound: Option<usize>,
    at_least: usize,
    scene: &Scene,
) {
    let name = format!("{name}, {LINE} a line");
    report(&name, bound, at_least, || {
        let play = Play::<LINE>::new(scene.clone());
        let deaths = Deaths::new(&[]);
        run(bound, move || play.perform(&deaths))
    });
}

/// Explores each scene once for each write of its mortals, killing them before it; with one bucket a
/// line and with two, and with the threads in the opposite order too.
pub fn explore_deaths(name: &str, bound: Option<usize>, at_least: usize, scenes: &[Scene]) {
    report_deaths(name, bound, at_least, scenes, 0);
}

/// The same, and once for each write of their first recoverers, killing those before it.
pub fn explore_recoverers(name: &str, bound: Option<usize>, at_least: usize, scenes: &[Scene]) {
    report_deaths(name, bound, at_least, scenes, 1);
}

fn report_deaths(
    name: &str,
    bound: Option<usize>,
    at_least: usize,
    scenes: &[Scene],
    recoverers: usize,
) {
    be_quiet_about_deaths();
    report(name, bound, at_least, || {
        let explore = |scene: &Scene| {
            let deaths = || vec![0; scene.mortals() + recoverers];
            let one = |scene| kill(&Play::<1>::new(scene), bound, deaths(), 0).0;
            let two = |scene| kill(&Play::<2>::new(scene), bound, deaths(), 0).0;
            let schedules = one(scene.clone()) + two(scene.clone());
            match scene.actors.len() {
                1 => schedules,
                _ => schedules + one(scene.clone().reversed()),
            }
        };
        scenes.iter().map(explore).sum()
    });
}

/// Explores with all deaths from number `from` on at each write that there is: how many schedules there
/// were, and who was killed in any of them.
fn kill<const LINE: usize>(
    play: &Arc<Play<LINE>>,
    bound: Option<usize>,
    mut before: Vec<usize>,
    from: usize,
) -> (usize, Vec<bool>) {
    if from == before.len() {
        let deaths = Deaths::new(&before);
        let (play, counted) = (Arc::clone(play), Arc::clone(&deaths));
        let schedules = run(bound, move || play.perform(&deaths));
        let died = counted.died.iter().map(|died| died.load(Relaxed));
        return (schedules, died.collect());
    }
    let mut schedules = 0;
    let mut anybody = vec![false; before.len()];
    for write in 0.. {
        before[from] = write;
        let (more, died) = kill(play, bound, before.clone(), from + 1);
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
