//! Scenes under every schedule, and with every death.

use std::sync::Arc;

use super::Scene;
use super::play::Play;
use crate::deaths::{Deaths, at_each_write};
use crate::{report, run};

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
    report(name, bound, at_least, || {
        let explore = |scene: &Scene| {
            let mortals = scene.mortals() + recoverers;
            let one = |scene| kill::<1>(scene, bound, mortals);
            let two = |scene| kill::<2>(scene, bound, mortals);
            let schedules = one(scene.clone()) + two(scene.clone());
            match scene.actors.len() {
                1 => schedules,
                _ => schedules + one(scene.clone().reversed()),
            }
        };
        scenes.iter().map(explore).sum()
    });
}

/// Explores with the deaths of `mortals` at each write that there is: how many schedules there were.
fn kill<const LINE: usize>(scene: Scene, bound: Option<usize>, mortals: usize) -> usize {
    let play = Play::<LINE>::new(scene);
    at_each_write(mortals, &mut |deaths| {
        let (play, deaths) = (Arc::clone(&play), Arc::clone(deaths));
        run(bound, move || play.perform(&deaths))
    })
}
