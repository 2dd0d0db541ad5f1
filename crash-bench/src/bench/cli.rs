//! The options and the table.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::point::Mode;
use super::random;
use super::scenario::{Failure, Make};
use super::scenarios::ALL;
use super::session::{Density, Row, Session};

const HELP: &str = "\
Kills (and stops) a process before every instruction of an operation of forkmap.

forkmap-crash-bench [OPTION...] [SCENARIO...]

    --kill            kill (default: this and --stall)
    --stall           stop, let the others work, and resume
    --stallkill       stop, let the others work, resume, and kill on the way
    --interleave      stop, let a rival do something and stop it on the way, resume both: a row
                      for each thing that a rival may do
    --every K         only each K-th instruction, and those before accesses to what is shared; or
                      each K-th pair of instants, where there are two to choose
    --budget SECONDS  choose K so that a scenario takes about this long
    --jobs N          processes at work (default: the number of processors)
    --list            list the scenarios
    --help            this

A scenario is chosen by its name or a part of it; without one, all are tried.
Exit status 0: points were tried and nothing was found.
";

struct Options {
    modes: Vec<Mode>,
    density: Density,
    jobs: usize,
    scenarios: Vec<(&'static str, Make)>,
}

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}; see --help");
            return ExitCode::FAILURE;
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Option<Options>, Failure> {
    let mut modes = Vec::new();
    let (mut density, mut filters) = (Density::Every(1), Vec::new());
    let mut jobs = std::thread::available_parallelism()?.get();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("kill") => modes.push(Mode::Kill),
            Long("stall") => modes.push(Mode::Stall),
            Long("stallkill") => modes.push(Mode::StallKill),
            Long("interleave") => modes.push(Mode::Interleave),
            Long("every") => density = Density::Every(parser.value()?.parse::<usize>()?.max(1)),
            Long("budget") => {
                let seconds = parser.value()?.parse::<f64>()?;
                density = Density::Within(Duration::try_from_secs_f64(seconds.max(0.1))?);
            }
            Long("jobs") => jobs = parser.value()?.parse::<usize>()?.max(1),
            Long("list") => {
                ALL.iter().for_each(|(name, _)| println!("{name}"));
                return Ok(None);
            }
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            Value(filter) => filters.push(filter.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    // A whole name is that scenario alone.
    let fits = |filter: &String, name: &str| match ALL.iter().any(|(whole, _)| whole == filter) {
        true => name == filter,
        false => name.contains(filter),
    };
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|f| fits(f, name));
    let scenarios: Vec<_> = ALL
        .iter()
        .copied()
        .filter(|(name, _)| chosen(name))
        .collect();
    if scenarios.is_empty() {
        return Err("no such scenario".into());
    }
    if modes.is_empty() {
        modes = vec![Mode::Kill, Mode::Stall];
    }
    if let Density::Within(budget) = &mut density {
        *budget /= modes.len() as u32;
    }
    Ok(Some(Options {
        modes,
        density,
        jobs,
        scenarios,
    }))
}

fn run(options: &Options) -> Result<bool, Failure> {
    // The keys of hash maps are drawn once a process and inherited by forks: now, so that all that
    // follows has the same ones.
    let _ = std::hash::RandomState::new();
    random::check()?;
    let base = tempfile::Builder::new()
        .prefix("forkmap-crash-bench-")
        .tempdir_in("/dev/shm")?;
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!(
        "{:<26} {:<22} {:<7} {:>12} {:>8} {:>9} {:>7} {:>7} {:>6} {:>9} {:>8} {:>8}",
        "scenario",
        "mode",
        "build",
        "instructions",
        "accesses",
        "effect at",
        "points",
        "every",
        "missed",
        "busy",
        "findings",
        "seconds"
    );
    let (mut points, mut findings) = (0, 0);
    for &(name, make) in &options.scenarios {
        let session = Session::start(name, make, base.path(), options.jobs)
            .map_err(|error| format!("{name}: {error}"))?;
        for &mode in &options.modes {
            let (start, mut trials) = (Instant::now(), session.trials(mode));
            while let Some(trial) = trials.next() {
                let density = match options.density {
                    Density::Within(budget) => {
                        // What those before have left is for the others.
                        let left = budget.saturating_sub(start.elapsed());
                        Density::Within(left / (trials.len() + 1) as u32)
                    }
                    every => every,
                };
                let row = session.run(trial, density)?;
                print_row(name, &session.title(trial), build, &row)?;
                points += row.points;
                findings += row.findings.len();
            }
        }
        drop(session);
        for dir in std::fs::read_dir(base.path())? {
            std::fs::remove_dir_all(dir?.path())?;
        }
    }
    println!("crash bench: {points} points, {findings} findings");
    Ok(points > 0 && findings == 0)
}

fn print_row(name: &str, mode: &str, build: &str, row: &Row) -> Result<(), Failure> {
    let effect = row.effect.map_or("-".to_owned(), |n| n.to_string());
    println!(
        "{name:<26} {mode:<22} {build:<7} {:>12} {:>8} {effect:>9} {:>7} {:>7} {:>6} {:>9} {:>8} {:>8.1}",
        row.instructions,
        row.accesses,
        row.points,
        row.every,
        row.missed,
        row.busy,
        row.findings.len(),
        row.time.as_secs_f64()
    );
    for finding in &row.findings {
        println!("    FINDING {name}, {mode}, {finding}");
    }
    std::io::stdout().flush()?;
    Ok(())
}
