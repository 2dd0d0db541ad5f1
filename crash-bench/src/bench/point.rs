//! One point: a fresh segment, a victim that is killed or stopped there, and those who go on.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::access::Access;
use super::judge::{CPU, PATIENCE, ask, ask_in_words, cpu_of_children};
use super::plan::Leg;
use super::random;
use super::scenario::{Account, Failure, Fate, Make, NAME, Outcome, Scenario, Scene, Seen, ensure};
use super::tracer::{Position, Victim};

/// What is done at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The victim is killed there.
    Kill,
    /// It is stopped, others work, and it goes on.
    Stall,
    /// The same, and it is killed on the way.
    StallKill,
    /// It is stopped, a rival does something and is stopped on the way; it goes on, and then the rival.
    Interleave,
}

impl Mode {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Kill, Self::Stall, Self::StallKill, Self::Interleave];

    /// As it stands in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stall => "stall",
            Self::StallKill => "stallkill",
            Self::Interleave => "interleave",
        }
    }

    /// Whether there is a second instant to choose.
    pub(crate) fn has_pairs(self) -> bool {
        matches!(self, Self::StallKill | Self::Interleave)
    }
}

/// More accesses than there are.
pub(crate) const NO_END: usize = usize::MAX;

/// Numbers of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// Of the instruction before which the victim is stopped.
    pub(crate) n: usize,
    /// How many accesses, or system calls, the victim is over when it is killed later, or the rival when it is
    /// stopped. If they are not that many, it comes to its end.
    pub(crate) m: usize,
}

/// Where to stop a victim, and what to do with it there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    /// Its numbers.
    pub(crate) place: Place,
    /// Where the victim is then.
    pub(crate) position: Position,
    /// What happens to the victim.
    pub(crate) mode: Mode,
    /// Which of the rivals is there, if one is.
    pub(crate) rival: usize,
    /// Whether it is system calls that are counted.
    pub(crate) by_calls: bool,
}

/// An operation as it was recorded.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Each position on the way.
    pub(crate) path: Vec<Position>,
    /// The addresses of the system calls on it.
    pub(crate) calls: HashSet<u64>,
    /// The numbers of the positions before accesses.
    pub(crate) accesses: Vec<usize>,
    /// The operations that a rival may do meanwhile.
    pub(crate) rivals: Vec<String>,
}

/// What was played.
#[derive(Debug)]
pub(crate) enum Played {
    /// The whole operation, step by step.
    Recorded(Recording),
    /// A point that the victim did not come to.
    Missed,
    /// A point.
    Seen(Sight),
}

/// What was seen at a point.
#[derive(Debug)]
pub(crate) struct Sight {
    pub(crate) seen: Seen,
    /// What was passed before the second instant.
    pub(crate) passed: usize,
    /// After how many accesses the rival is to be stopped next, with the victim at the same place: fewer would lead
    /// to the same.
    pub(crate) next: Option<usize>,
    /// What is told of two operations; nothing if there was one, or if one of them gave up.
    pub(crate) outcome: String,
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
    let Some((point, route)) = point else {
        let (path, accesses) = victim.record()?;
        let calls = victim.system_calls(&path);
        victim.resume(PATIENCE)?;
        tidy(dir)?;
        return Ok(Played::Recorded(Recording {
            path,
            calls,
            accesses,
            rivals: scenario.rivals().iter().map(|&name| name.into()).collect(),
        }));
    };
    if !victim.follow(route)? || victim.position()? != point.position {
        victim.kill();
        tidy(dir)?;
        return Ok(Played::Missed);
    }

    let sight = match point.mode {
        Mode::Interleave => with_rival(&mut *scenario, victim, point)?,
        _ => with_others(&*scenario, victim, point)?,
    };

    drop(scenario);
    let left = tidy(dir)?;
    ensure!(left.is_empty(), "left over: {left:?}");
    let now = holdings(dir)?;
    ensure!(
        now == held,
        "descriptors and mappings: {held:?} before, {now:?} now"
    );
    Ok(Played::Seen(sight))
}

/// The others have to go on without the victim, which then goes on itself, if it is stopped.
fn with_others(scenario: &dyn Scenario, victim: Victim, point: Point) -> Result<Sight, Failure> {
    // A stopped victim stays there until the others have done their part.
    let (fate, stopped) = match point.mode {
        Mode::Kill => {
            victim.kill();
            (Fate::Killed, None)
        }
        _ => (Fate::Stopped, Some(victim)),
    };
    let mut scene = Scene {
        fate,
        seen: Seen::NOTHING,
        answer: None,
        view: None,
    };
    let peer = ask("the peer", scene, |s| scenario.peer(s))?;
    scene.seen = peer;
    let newcomer = ask("the newcomer", scene, |s| scenario.newcomer(s))?;
    scene.seen = agreed(peer, newcomer)?;
    let seen = scene.seen;

    let mut passed = 0;
    if let Some(mut victim) = stopped {
        let mut is_at_end = true;
        if point.mode == Mode::StallKill {
            (passed, is_at_end) = match point.by_calls {
                true => victim.pass_calls(point.place.m)?,
                false => {
                    let (accesses, is_at_end) = victim.pass(point.place.m)?;
                    (accesses.len(), is_at_end)
                }
            };
        }
        if is_at_end {
            let account = victim.resume(PATIENCE)?;
            (scene.answer, scene.view) = (account.answer, account.view);
        } else {
            victim.kill();
            scene.fate = Fate::KilledLater;
        }
    }
    let finish = ask("the last look", scene, |s| scenario.finish(s))?;
    match scene.fate {
        Fate::Killed => _ = agreed(seen, finish)?,
        Fate::KilledLater => ensure!(
            seen.done != Some(true) || finish.done != Some(false),
            "it had happened, and has not after the victim was killed"
        ),
        Fate::Stopped => ensure!(
            finish.done != Some(false),
            "the resumed victim ended well, and its operation has not happened"
        ),
    }
    Ok(Sight {
        seen,
        passed,
        next: None,
        outcome: String::new(),
    })
}

/// A rival comes, and is stopped after so many accesses; then the victim goes on to its end, and then the rival.
fn with_rival(
    scenario: &mut dyn Scenario,
    mut victim: Victim,
    point: Point,
) -> Result<Sight, Failure> {
    let names = scenario.rivals();
    let name = *names.get(point.rival).ok_or("no such rival")?;
    let mut rival = Victim::start_as(scenario, Some(name))?;
    let m = point.place.m;
    let (passed, next) = if point.by_calls {
        (rival.pass_calls(m)?.0, None)
    } else {
        let (before, _) = rival.pass(m)?;
        let (meanwhile, _) = victim.pass(NO_END)?;
        let (after, _) = rival.pass(NO_END)?;
        (before.len(), next(m, &meanwhile, &after))
    };
    let first = go_on(victim)?.answer;
    let second = go_on(rival)
        .map_err(|error| format!("as the rival: {error}"))?
        .answer;
    let scene = Scene {
        fate: Fate::Stopped,
        seen: Seen::NOTHING,
        answer: None,
        view: None,
    };
    let (seen, outcome) = ask_in_words("the last look", scene, |_| {
        Ok(match scenario.outcome(name, [first, second])? {
            Outcome::Told(words) => (Seen::NOTHING, words),
            Outcome::Busy => (
                Seen {
                    busy: true,
                    ..Seen::NOTHING
                },
                String::new(),
            ),
        })
    })?;
    Ok(Sight {
        seen,
        passed,
        next,
        outcome,
    })
}

/// The victim has gone on to its end between two accesses of the rival. As long as what the rival does afterwards
/// commutes with that, it may as well come before it: to stop the rival later makes a difference only after what does
/// not commute.
fn next(m: usize, meanwhile: &[Access], after: &[Access]) -> Option<usize> {
    let conflicts = |access: &Access| meanwhile.iter().any(|it| !it.commutes_with(access));
    Some(m + after.iter().position(conflicts)? + 1)
}

/// It comes to its end, and does not wait for a stopped one by asking again and again.
fn go_on(process: Victim) -> Result<Account, Failure> {
    let before = cpu_of_children()? + process.used()?;
    let account = process.resume(PATIENCE)?;
    let cpu = cpu_of_children()?.saturating_sub(before);
    ensure!(cpu <= CPU, "it took {cpu:?} of CPU time to its end");
    Ok(account)
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
