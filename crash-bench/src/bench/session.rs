//! One scenario in one mode: which points are tried, and what came of them.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Routes;
use super::point::{Point, Recording};
use super::scenario::{Failure, Fate, Make, Seen};
use super::server::{Reply, Servers};
use super::tracer::Position;

/// So many findings in one mode are enough: the rest of its points is not tried.
const ENOUGH: usize = 10;

/// Points tried to learn how long one takes.
const SAMPLE: usize = 40;

/// How often to try each point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Density {
    /// Each K-th instruction.
    Every(usize),
    /// As many as there is time for.
    Within(Duration),
}

/// A scenario with its servers and its recorded path.
#[derive(Debug)]
pub(crate) struct Session {
    name: &'static str,
    servers: Servers,
    jobs: usize,
    recording: Recording,
    routes: Routes,
}

/// What came of one mode: a row of the table.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Instructions of the operation.
    pub(crate) instructions: usize,
    /// Each how many-th was tried.
    pub(crate) every: usize,
    /// Points tried.
    pub(crate) points: usize,
    /// Points that the victim did not come to, twice.
    pub(crate) missed: usize,
    /// Points where another operation gave up for a stopped process.
    pub(crate) busy: usize,
    /// The first instruction before which the operation has happened.
    pub(crate) effect: Option<usize>,
    /// What is wrong.
    pub(crate) findings: Vec<String>,
    /// How long it took.
    pub(crate) time: Duration,
    /// The last instruction before which the operation has not happened.
    not_yet: Option<usize>,
}

impl Outcome {
    /// An operation has not happened before its first instruction and has before its end, and there
    /// is one instruction in between that makes it happen. (Not to be judged where victims took
    /// different paths.)
    fn check_order(&mut self, last: usize) {
        let first = self.effect.unwrap_or(usize::MAX);
        if first == 0 || self.not_yet == Some(last) || self.not_yet > Some(first) {
            let latest = self.not_yet.unwrap_or(0);
            self.findings.push(format!(
                "of {last} instructions: it had happened before {first}, and had not before {latest}"
            ));
        }
    }
}

impl Session {
    /// Starts the servers of a scenario and records its path.
    pub(crate) fn start(
        name: &'static str,
        make: Make,
        base: &Path,
        jobs: usize,
    ) -> Result<Self, Failure> {
        let servers = Servers::start(make, base, jobs)?;
        let recording = servers.record()?;
        let pointers = recording.path.iter().map(|at| at.pointer);
        let routes = Routes::new(pointers.collect());
        Ok(Self {
            name,
            servers,
            jobs,
            recording,
            routes,
        })
    }

    /// Tries the points of one mode.
    pub(crate) fn run(&self, fate: Fate, density: Density) -> Result<Outcome, Failure> {
        let start = Instant::now();
        let last = self.recording.path.len() - 1;
        let mut outcome = Outcome {
            instructions: last,
            ..Outcome::default()
        };
        outcome.every = match density {
            Density::Every(every) => every,
            Density::Within(budget) => {
                let sample: Vec<_> = (0..=last).step_by(last / SAMPLE + 1).collect();
                self.try_points(&sample, fate, &mut outcome)?;
                let whole = start.elapsed().mul_f64(last as f64 / sample.len() as f64);
                (whole.as_secs_f64() / budget.as_secs_f64()).ceil().max(1.0) as usize
            }
        };
        let points = self.points(outcome.every);
        self.try_points(&points, fate, &mut outcome)?;
        if outcome.missed == 0 {
            outcome.check_order(last);
        }
        outcome.time = start.elapsed();
        Ok(outcome)
    }

    /// Each K-th instruction, the two ends, and those before and after each system call.
    fn points(&self, every: usize) -> Vec<usize> {
        let Recording { path, calls } = &self.recording;
        let is_call = |(_, at): &(usize, &Position)| calls.contains(&at.pointer);
        let calls = path.iter().enumerate().filter(is_call);
        let mut points: BTreeSet<_> = calls.flat_map(|(i, _)| [i, i + 1]).collect();
        points.extend((0..path.len()).step_by(every));
        points.insert(path.len() - 1);
        points.into_iter().collect()
    }

    fn try_points(
        &self,
        points: &[usize],
        fate: Fate,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let bar = ProgressBar::new(points.len() as u64).with_message(self.name);
        bar.set_style(ProgressStyle::with_template(
            "{msg} {wide_bar} {pos}/{len} {eta}",
        )?);
        let mut waiting = points.iter().copied();
        // Number of the point, and whether it was missed once.
        let mut under_way = HashMap::new();
        loop {
            // A few more than there are servers, so that none has to wait for us.
            while under_way.len() < self.jobs + 4 && outcome.findings.len() < ENOUGH {
                let Some(n) = waiting.next() else { break };
                under_way.insert(n, false);
                self.send(n, fate)?;
            }
            if under_way.is_empty() {
                break;
            }
            let (n, reply) = self.servers.receive()?;
            let again = under_way
                .remove(&n)
                .ok_or("a reply that nobody asked for")?;
            if matches!(reply, Reply::Missed) && !again {
                under_way.insert(n, true);
                self.send(n, fate)?;
                continue;
            }
            bar.inc(1);
            self.note(n, reply, outcome);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn send(&self, n: usize, fate: Fate) -> Result<(), Failure> {
        let position = self.recording.path[n];
        let point = Point { n, position, fate };
        self.servers.send(point, &self.routes.to(n))
    }

    fn note(&self, n: usize, reply: Reply, outcome: &mut Outcome) {
        let seen = match reply {
            Reply::Missed => {
                outcome.missed += 1;
                return;
            }
            Reply::Fine(seen) => seen,
            Reply::Finding(text) => {
                let place = location(self.recording.path[n].pointer);
                let text = format!("before instruction {n} ({place}): {text}");
                outcome.findings.push(text);
                Seen::NOTHING
            }
        };
        outcome.points += 1;
        outcome.busy += usize::from(seen.busy);
        match seen.done {
            Some(true) => outcome.effect = Some(outcome.effect.map_or(n, |first| first.min(n))),
            Some(false) => outcome.not_yet = outcome.not_yet.max(Some(n)),
            None => {}
        }
    }
}

/// The file that an address belongs to, where in it, and the function if `addr2line` is there. The
/// servers are forks of this process, so what is true here is true there.
fn location(address: u64) -> String {
    let find = || {
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        let range = |line: &str| {
            let (start, end) = line.split_whitespace().next()?.split_once('-')?;
            let parse = |text| u64::from_str_radix(text, 16).ok();
            Some(parse(start)?..parse(end)?)
        };
        let holds = |line: &&str| range(line).is_some_and(|range| range.contains(&address));
        let file = maps.lines().find(holds)?.split_whitespace().nth(5)?;
        let first = maps.lines().find(|line| line.ends_with(file))?;
        let offset = format!("{:#x}", address - range(first)?.start);
        let command = Command::new("addr2line")
            .args(["-fCe", file, &offset])
            .output();
        let output = command.map_or(Vec::new(), |output| output.stdout);
        let function = String::from_utf8_lossy(&output);
        let function = function.lines().next().unwrap_or_default();
        let file = file.rsplit('/').next()?;
        Some(format!("{file} {offset} {function}"))
    };
    find().unwrap_or_else(|| format!("{address:#x}"))
}
