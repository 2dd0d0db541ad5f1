//! One point: a fresh segment, a victim that is killed or stopped there, and those who go on.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::judge::{PATIENCE, ask};
use super::plan::Leg;
use super::random;
use super::scenario::{Failure, Fate, Make, NAME, Scene, Seen, ensure};
use super::tracer::{Position, Victim};

/// Where to stop a victim, and what to do with it there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Number of the instruction.
    pub(crate) n: usize,
    /// Where the victim is then.
    pub(crate) position: Position,
    /// What happens to the victim.
    pub(crate) fate: Fate,
}

/// An operation as it was recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Each position on the way.
    pub(crate) path: Vec<Position>,
    /// The addresses of the system calls on it.
    pub(crate) calls: HashSet<u64>,
}

/// What was played.
#[derive(Debug)]
pub(crate) enum Played {
    /// The whole operation, step by step.
    Recorded(Recording),
    /// A point that the victim did not come to.
    Missed,
    /// A point: what was seen there.
    Seen(Seen),
}

/// Plays one point, to which a route leads, or records the operation. One function for both, because
/// the victim must have the same stack and the same heap each time: nothing may be allocated before
/// it is forked that depends on the point.
pub(crate) fn play(
    make: Make,
    dir: &Path,
    point: Option<(Point, impl Iterator<Item = Leg>)>,
) -> Result<Played, Failure> {
    let held = holdings(dir)?;
    random::begin();
    let mut scenario = make(dir).map_err(|error| format!("preparing: {error}"))?;
    let mut victim = Victim::start(&mut *scenario)?;
    let Some((Point { position, fate, .. }, route)) = point else {
        let path = victim.record()?;
        let calls = victim.system_calls(&path);
        victim.resume(PATIENCE)?;
        tidy(dir)?;
        return Ok(Played::Recorded(Recording { path, calls }));
    };
    if !victim.follow(route)? || victim.position()? != position {
        victim.kill();
        tidy(dir)?;
        return Ok(Played::Missed);
    }

    // A stopped victim stays there until the others have done their part.
    let stopped = match fate {
        Fate::Killed => {
            victim.kill();
            None
        }
        Fate::Stopped => Some(victim),
    };
    let mut scene = Scene {
        fate,
        seen: Seen::NOTHING,
        answer: None,
    };
    let peer = ask("the peer", scene, |s| scenario.peer(s))?;
    scene.seen = peer;
    let newcomer = ask("the newcomer", scene, |s| scenario.newcomer(s))?;
    scene.seen = agreed(peer, newcomer)?;
    let seen = scene.seen;

    if let Some(victim) = stopped {
        scene.answer = victim.resume(PATIENCE)?;
    }
    let finish = ask("the last look", scene, |s| scenario.finish(s))?;
    match fate {
        Fate::Killed => _ = agreed(seen, finish)?,
        Fate::Stopped => ensure!(
            finish.done != Some(false),
            "the resumed victim ended well, and its operation has not happened"
        ),
    }

    drop(scenario);
    let left = tidy(dir)?;
    ensure!(left.is_empty(), "left over: {left:?}");
    let now = holdings(dir)?;
    ensure!(
        now == held,
        "descriptors and mappings: {held:?} before, {now:?} now"
    );
    Ok(Played::Seen(seen))
}

/// Who looks later sees the same: it does not happen later, nor is it undone.
fn agreed(first: Seen, second: Seen) -> Result<Seen, Failure> {
    let busy = first.busy || second.busy;
    if let (Some(first), Some(second)) = (first.done, second.done) {
        ensure!(
            first == second,
            "first seen as done: {first}, later: {second}"
        );
    }
    let done = first.done.or(second.done);
    Ok(Seen { done, busy })
}

/// Empties the directory: the names that were there and that no scenario gives.
pub(crate) fn tidy(dir: &Path) -> Result<Vec<String>, Failure> {
    let mut left = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        fs::remove_file(file.path())?;
        left.push(file.file_name().to_string_lossy().into_owned());
    }
    left.retain(|name| name != NAME);
    Ok(left)
}

/// How many descriptors this process has, and how many mappings of files in the directory.
fn holdings(dir: &Path) -> Result<(usize, usize), Failure> {
    let dir = dir.to_string_lossy();
    let maps = fs::read_to_string("/proc/self/maps")?;
    let maps = maps.lines().filter(|line| line.contains(&*dir)).count();
    Ok((fs::read_dir("/proc/self/fd")?.count(), maps))
}
