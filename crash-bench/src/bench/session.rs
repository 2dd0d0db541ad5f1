//! One scenario in one mode: which points are tried, and what came of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::{Routes, shuffled, spread};
use super::point::{Mode, NO_END, Place, Point, Recording, Sight};
use super::scenario::{Failure, Make, Seen};
use super::server::{Reply, Servers};

/// So many findings in one mode are enough: the rest of its points is not tried.
const ENOUGH: usize = 10;

/// Points tried to learn how long one takes.
const SAMPLE: usize = 20;

/// More instructions than an operation has that begins no generation and creates nothing.
const LONG: usize = 20_000;

/// How often a victim that must come to its point is sent there.
const ATTEMPTS: usize = 5;

/// How often to try each point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Density {
    /// Each K-th instruction, or pair of accesses.
    Every(usize),
    /// As many as there is time for.
    Within(Duration),
}

/// What is tried with a scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    mode: Mode,
    /// Which of the rivals is there, if one is.
    rival: usize,
    /// Whether pairs are chosen among system calls.
    by_calls: bool,
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

/// What came of a trial: a row of the table.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// Instructions of the operation.
    pub(crate) instructions: usize,
    /// How many of them are accesses.
    pub(crate) accesses: usize,
    /// Each how many-th was tried; of pairs, with each how many-th access of the victim.
    pub(crate) every: usize,
    /// Points tried; pairs, if there are two instants to choose.
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
    /// How many accesses there are for the second instant to be chosen from, by the first one.
    lengths: BTreeMap<usize, usize>,
    /// What is told of two operations that come one after the other.
    in_order: BTreeSet<String>,
}

impl Row {
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

    /// What there is to be tried in a mode: one thing, or as many as there are rivals.
    pub(crate) fn trials(&self, mode: Mode) -> impl ExactSizeIterator<Item = Trial> + use<> {
        let rivals = match mode {
            Mode::Interleave => self.recording.rivals.len(),
            _ => 1,
        };
        (0..rivals).map(move |rival| Trial {
            mode,
            rival,
            by_calls: false,
        })
    }

    /// What it is called in the table.
    pub(crate) fn title(&self, trial: Trial) -> String {
        match trial.mode {
            Mode::Interleave => format!("with {}", self.recording.rivals[trial.rival]),
            mode => mode.name().into(),
        }
    }

    /// Tries the points of one trial.
    pub(crate) fn run(&self, trial: Trial, density: Density) -> Result<Row, Failure> {
        let start = Instant::now();
        let mode = trial.mode;
        let last = self.recording.path.len() - 1;
        let mut row = Row {
            instructions: last,
            accesses: self.recording.accesses.len(),
            ..Row::default()
        };
        if mode == Mode::Interleave {
            // The victim first, gone or not when the rival comes, and the rival first. (To where there is no second
            // instant, it is faster by calls.)
            let trial = Trial {
                by_calls: true,
                ..trial
            };
            for (n, m) in [(0, 0), (last, NO_END), (0, NO_END)] {
                // A victim may take another path by chance; not always.
                for _ in 0..ATTEMPTS {
                    self.try_points(&[Place { n, m }], trial, &mut row)?;
                    if row.missed == 0 {
                        break;
                    }
                    row.missed = 0;
                }
            }
            if row.in_order.is_empty() {
                row.findings
                    .push("what one leaves after the other was not seen".into());
            }
        }
        match density {
            _ if !mode.has_pairs() => self.try_each(trial, density, &mut row)?,
            // To step to one access after the other would take a second each; to the calls it does not.
            Density::Within(budget) if last > LONG => {
                for by_calls in [true, false] {
                    let half = Density::Within(budget / 2);
                    self.try_pairs(Trial { by_calls, ..trial }, half, &mut row)?;
                }
            }
            _ => self.try_pairs(trial, density, &mut row)?,
        }
        if row.missed == 0 {
            row.check_order(last);
        }
        row.time = start.elapsed();
        Ok(row)
    }

    /// Tries points that are one instant each.
    fn try_each(&self, trial: Trial, density: Density, row: &mut Row) -> Result<(), Failure> {
        let last = row.instructions;
        let alone = |n| Place { n, m: 0 };
        row.every = match density {
            Density::Every(every) => every,
            Density::Within(budget) => {
                let sample: Vec<_> = (0..=last).step_by(last / SAMPLE + 1).map(alone).collect();
                let time = self.try_points(&sample, trial, row)?;
                stride(time, sample.len(), last, budget)
            }
        };
        let points = self.points(row.every).into_iter().map(alone);
        self.try_points(&points.collect::<Vec<_>>(), trial, row)?;
        Ok(())
    }

    fn try_pairs(&self, trial: Trial, density: Density, row: &mut Row) -> Result<(), Failure> {
        match trial.mode == Mode::Interleave && !trial.by_calls {
            true => self.try_each_first(trial, density, row),
            false => self.try_any(trial, density, row),
        }
    }

    /// Tries instants for the victim, and with each all for the rival that could lead elsewhere.
    fn try_each_first(&self, trial: Trial, density: Density, row: &mut Row) -> Result<(), Failure> {
        let accesses = &self.recording.accesses;
        let (every, budget) = match density {
            Density::Every(every) => (every, Duration::MAX),
            Density::Within(budget) => (1, budget),
        };
        let firsts = shuffled(spread(accesses.len(), every).collect());
        let (mut tried, mut time) = (0, Duration::ZERO);
        for few in firsts.chunks(4 * self.jobs) {
            let few: Vec<_> = few
                .iter()
                .map(|&i| Place {
                    n: accesses[i],
                    m: 0,
                })
                .collect();
            time += self.try_points(&few, trial, row)?;
            tried += few.len();
            if time > budget {
                break;
            }
        }
        row.every = row.every.max(accesses.len().div_ceil(tried.max(1)));
        Ok(())
    }

    /// Tries any pairs of instants. How many there are for the second one is seen when there is none: the process that
    /// would be stopped or killed there comes to its end.
    fn try_any(&self, trial: Trial, density: Density, row: &mut Row) -> Result<(), Failure> {
        row.lengths.clear();
        let Recording {
            path,
            calls,
            accesses,
            ..
        } = &self.recording;
        let mut firsts = accesses.clone();
        if trial.by_calls {
            firsts.retain(|&n| calls.contains(&path[n].pointer));
        }
        let to_end = |i: usize| Place {
            n: firsts[i],
            m: NO_END,
        };
        let (whole, time) = match density {
            Density::Every(_) => {
                let whole: Vec<_> = (0..firsts.len()).map(to_end).collect();
                (whole.len(), self.try_points(&whole, trial, row)?)
            }
            // As many of a sample as are tried in half of the time.
            Density::Within(budget) => {
                let sample: Vec<_> = spread(firsts.len(), firsts.len() / SAMPLE + 1).collect();
                let (mut tried, mut time) = (0, Duration::ZERO);
                for few in shuffled(sample).chunks(self.jobs) {
                    let few: Vec<_> = few.iter().copied().map(to_end).collect();
                    time += self.try_points(&few, trial, row)?;
                    tried += few.len();
                    if time > budget / 2 {
                        break;
                    }
                }
                (tried, time)
            }
        };

        // Those of an instant that was not tried are as many as those of one near it.
        let mut pairs = Vec::new();
        for &n in &firsts {
            let before = row.lengths.range(..=n).next_back();
            let length = before.or_else(|| row.lengths.iter().next());
            let length = length.map_or(0, |(_, length)| *length);
            pairs.extend((0..length).map(|m| Place { n, m }));
        }
        let every = match density {
            Density::Every(every) => every,
            Density::Within(budget) => stride(time, whole, pairs.len(), budget),
        };
        row.every = row.every.max(every);
        let chosen = spread(pairs.len(), every).map(|i| pairs[i]);
        self.try_points(&chosen.collect::<Vec<_>>(), trial, row)?;
        Ok(())
    }

    /// Each K-th instruction, the end, and those before each access.
    fn points(&self, every: usize) -> Vec<usize> {
        let Recording { path, accesses, .. } = &self.recording;
        let last = path.len() - 1;
        let mut points: BTreeSet<_> = accesses.iter().copied().chain([last]).collect();
        points.extend((0..last).step_by(every));
        points.into_iter().collect()
    }

    /// How long it took.
    fn try_points(
        &self,
        points: &[Place],
        trial: Trial,
        row: &mut Row,
    ) -> Result<Duration, Failure> {
        let start = Instant::now();
        let bar = ProgressBar::new(points.len() as u64).with_message(self.name);
        bar.set_style(ProgressStyle::with_template(
            "{msg} {wide_bar} {pos}/{len} {eta}",
        )?);
        let mut waiting: VecDeque<_> = points.iter().copied().collect();
        // Numbers of the point, and whether it was missed once.
        let mut under_way = HashMap::new();
        loop {
            // A few more than there are servers, so that none has to wait for us.
            while under_way.len() < self.jobs + 4 && row.findings.len() < ENOUGH {
                let Some(place) = waiting.pop_front() else {
                    break;
                };
                under_way.insert(place, false);
                self.send(place, trial)?;
            }
            if under_way.is_empty() {
                break;
            }
            let (place, reply) = self.servers.receive()?;
            let again = under_way
                .remove(&place)
                .ok_or("a reply that nobody asked for")?;
            if matches!(reply, Reply::Missed) && !again {
                under_way.insert(place, true);
                self.send(place, trial)?;
                continue;
            }
            bar.inc(1);
            if let Reply::Fine(Sight { next: Some(m), .. }) = reply {
                bar.inc_length(1);
                waiting.push_front(Place { n: place.n, m });
            }
            self.note(place, trial, reply, row);
        }
        bar.finish_and_clear();
        Ok(start.elapsed())
    }

    fn send(&self, place: Place, trial: Trial) -> Result<(), Failure> {
        let position = self.recording.path[place.n];
        let point = Point {
            place,
            position,
            mode: trial.mode,
            rival: trial.rival,
            by_calls: trial.by_calls,
        };
        self.servers.send(point, &self.routes.to(place.n))
    }

    /// What two operations have left must be what one after the other leaves.
    fn compare(&self, place: Place, trial: Trial, sight: &Sight, row: &mut Row) {
        if trial.mode != Mode::Interleave {
            return;
        }
        let Place { n, m } = place;
        let is_in_order = n == 0 && (m == 0 || m == NO_END) || n == row.instructions;
        if sight.seen.busy {
            if is_in_order {
                row.findings
                    .push("given up where nobody was in the way".into());
            }
        } else if is_in_order {
            row.in_order.insert(sight.outcome.clone());
            // One for each order.
            if row.in_order.len() > 2 {
                row.findings
                    .push(format!("not two orders: {:?}", row.in_order));
            }
        } else if !row.in_order.contains(&sight.outcome) {
            row.findings.push(format!(
                "{}: {}; one after the other: {:?}",
                self.instants(place, trial),
                sight.outcome,
                row.in_order
            ));
        }
    }

    fn note(&self, place: Place, trial: Trial, reply: Reply, row: &mut Row) {
        let Place { n, m } = place;
        let seen = match reply {
            Reply::Missed => {
                row.missed += 1;
                return;
            }
            Reply::Fine(sight) => {
                if m == NO_END {
                    row.lengths.insert(n, sight.passed);
                }
                self.compare(place, trial, &sight, row);
                sight.seen
            }
            Reply::Finding(text) => {
                row.findings
                    .push(format!("{}: {text}", self.instants(place, trial)));
                Seen::NOTHING
            }
        };
        row.points += 1;
        row.busy += usize::from(seen.busy);
        match seen.done {
            Some(true) => row.effect = Some(row.effect.map_or(n, |first| first.min(n))),
            Some(false) => row.not_yet = row.not_yet.max(Some(n)),
            None => {}
        }
    }

    /// Where the victim was stopped, and who came to what after it.
    fn instants(&self, Place { n, m }: Place, trial: Trial) -> String {
        let place = location(self.recording.path[n].pointer);
        let passed = if trial.by_calls {
            "system calls"
        } else {
            "accesses"
        };
        let second = match trial.mode {
            Mode::Kill | Mode::Stall => String::new(),
            _ if m == NO_END => ", and at the end".into(),
            Mode::StallKill => format!(", then after {m} {passed}"),
            Mode::Interleave => format!(", the rival after {m} {passed}"),
        };
        format!("before instruction {n} ({place}){second}")
    }
}

/// Each how many-th of `all` points can be tried within a budget, if `tried` took that time.
fn stride(time: Duration, tried: usize, all: usize, budget: Duration) -> usize {
    let whole = time.mul_f64(all as f64 / tried.max(1) as f64);
    (whole.as_secs_f64() / budget.as_secs_f64()).ceil().max(1.0) as usize
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
