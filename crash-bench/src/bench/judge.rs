//! Those who go on: each check in a process of its own, with limits.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::WaitStatus;

use super::child::{Child, End};
use super::random;
use super::scenario::{Failure, Fate, Scene, Seen, ensure};

/// CPU time that a check may take, or what is left of an operation.
pub(crate) const CPU: Duration = Duration::from_millis(200);

/// CPU seconds after which the kernel ends it: it is waiting for somebody in a loop.
const SPINNING: u64 = 1;

/// Time that a check may be asleep: it is to wait for nobody.
const ASLEEP: Duration = Duration::from_millis(100);

/// The same if it has met a stopped process that holds the lock of a name.
const ASLEEP_IF_BUSY: Duration = Duration::from_millis(1500);

/// Time after which a process is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Has `check` made by a forked process, in time: what it has seen.
pub(crate) fn ask(
    who: &str,
    scene: Scene,
    check: impl FnOnce(Scene) -> Result<Seen, Failure>,
) -> Result<Seen, Failure> {
    let (seen, _) = ask_in_words(who, scene, |scene| Ok((check(scene)?, String::new())))?;
    Ok(seen)
}

/// The same, and what it says besides.
pub(crate) fn ask_in_words(
    who: &str,
    scene: Scene,
    check: impl FnOnce(Scene) -> Result<(Seen, String), Failure>,
) -> Result<(Seen, String), Failure> {
    let before = cpu_of_children()?;
    let child = Child::fork(|| {
        random::end();
        setrlimit(Resource::RLIMIT_CPU, SPINNING, SPINNING + 1)?;
        let start = Instant::now();
        let (seen, words) = check(scene)?;
        let asleep = start.elapsed().saturating_sub(on_processor()?);
        Ok(format!("{} {} {words}", seen.to_word(), asleep.as_millis()))
    })?;
    let report = match child.wait(PATIENCE)? {
        End::Reported(Ok(report)) => report,
        End::Reported(Err(error)) => return Err(format!("{who}: {error}").into()),
        End::Died(WaitStatus::Signaled(_, Signal::SIGXCPU, _)) => {
            return Err(format!("{who} was busy for {SPINNING} s of CPU time and no end").into());
        }
        End::Died(status) => return Err(format!("{who} died: {status:?}").into()),
        End::Hung => return Err(format!("{who} was at work for {PATIENCE:?} and no end").into()),
    };
    let cpu = cpu_of_children()?.saturating_sub(before);
    let mut parts = report.splitn(3, ' ');
    let mut next = || parts.next().ok_or("a short report");
    let seen = Seen::from_word(next()?).ok_or("no report")?;
    let asleep = Duration::from_millis(next()?.parse()?);
    let words = next()?.to_owned();

    ensure!(cpu <= CPU, "{who} took {cpu:?} of CPU time");
    let limit = if seen.busy { ASLEEP_IF_BUSY } else { ASLEEP };
    ensure!(asleep <= limit, "{who} was asleep for {asleep:?}");
    ensure!(
        !(seen.busy && scene.fate != Fate::Stopped),
        "{who} gave up because of a process that is dead"
    );
    Ok((seen, words))
}

/// What all processes have taken that have ended here.
pub(crate) fn cpu_of_children() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.try_into()?))
}

/// Time that this process was running, or could have been if a processor had been free.
fn on_processor() -> Result<Duration, Failure> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let times = text.split_whitespace().take(2).map(str::parse::<u64>);
    Ok(Duration::from_nanos(times.sum::<Result<_, _>>()?))
}
