//! Runs programs until the time is up, or one of them fails.

use std::cell::Cell;
use std::env;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant, SystemTime};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::random::Random;

/// Schedules of one program. They differ in who dies where, too.
const EXECUTIONS: usize = 40;

/// Who decides what thread goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Any of them, after each access to a word; or mostly the same one, more or less.
    Random,
    /// The one of the highest priority, but at a few random instants it gets the lowest one.
    Priorities,
}

/// A kind of random programs.
pub trait Play: Sized + Send + Sync + 'static {
    /// Its name, for people.
    const NAME: &str;

    /// The test that runs it in this order.
    fn test(order: Order) -> &'static str;

    /// The program of a seed.
    fn new(seed: u64) -> Self;

    /// In so many of a hundred executions one thread is stopped somewhere, until all others are at their end
    /// or wait for it.
    fn stops(&self) -> usize {
        0
    }

    /// Runs it under one schedule, with the deaths that `random` says.
    fn execute(&self, random: Random) -> Tally;
}

/// What came of one execution.
#[derive(Debug, Default)]
pub struct Tally {
    /// Threads that were killed.
    pub deaths: usize,
    /// Operations that were checked.
    pub operations: usize,
    /// Whatever else there is to count.
    pub others: Vec<(&'static str, usize)>,
}

#[derive(Debug, Default)]
struct Counts {
    executions: usize,
    with_deaths: usize,
    sums: Tally,
}

impl Counts {
    fn add(&mut self, tally: Tally) {
        self.executions += 1;
        self.with_deaths += usize::from(tally.deaths > 0);
        self.sums.deaths += tally.deaths;
        self.sums.operations += tally.operations;
        for (what, count) in tally.others {
            self.note(what, count);
        }
    }

    fn note(&mut self, what: &'static str, count: usize) {
        let others = &mut self.sums.others;
        match others.iter_mut().find(|(other, _)| *other == what) {
            Some((_, sum)) => *sum += count,
            None => others.push((what, count)),
        }
    }
}

/// Runs random programs for `share` percent of the time that `SHUTTLE_SECONDS` says, or the one of
/// `SHUTTLE_SEED`.
pub fn run<P: Play>(order: Order, share: u64) {
    static FAILED: AtomicBool = AtomicBool::new(false);
    print_only_failures();
    let counts = Arc::new(Mutex::new(Counts::default()));
    let seconds = number("SHUTTLE_SECONDS").unwrap_or(10) * share / 100;
    let until = Instant::now() + Duration::from_secs(seconds);
    let only = number("SHUTTLE_SEED");
    let first = only.unwrap_or_else(|| Random::new(now(), order as u64).next() >> 16);
    let mut seed = first;
    while !FAILED.load(Relaxed) {
        let run = AssertUnwindSafe(|| run_one::<P>(order, seed, &counts));
        if let Err(cause) = panic::catch_unwind(run) {
            FAILED.store(true, Relaxed);
            panic::resume_unwind(cause);
        }
        seed = seed.wrapping_add(1);
        if only.is_some() || Instant::now() > until {
            break;
        }
    }
    let counts = counts.lock().expect("no failure");
    let others = counts.sums.others.iter();
    let others: String = others
        .map(|(what, count)| format!("{count} {what}, "))
        .collect();
    println!(
        "shuttle {} {order:?}: programs {first}..{seed}, {} executions, {} of them with deaths, {} deaths, \
         {others}{} operations",
        P::NAME,
        counts.executions,
        counts.with_deaths,
        counts.sums.deaths,
        counts.sums.operations,
    );
}

fn run_one<P: Play>(order: Order, seed: u64, counts: &Arc<Mutex<Counts>>) {
    let program = P::new(seed);
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    // Hundreds of times what any of them takes: an operation that never ends.
    config.max_steps = MaxSteps::FailAfter(200_000);
    let stopped = Arc::new(AtomicUsize::new(0));
    let stops = Stops::new(seed, program.stops(), Arc::clone(&stopped));
    let sums = Arc::clone(counts);
    let executions = AtomicUsize::new(0);
    let execution = move || {
        let execution = executions.fetch_add(1, Relaxed);
        CURRENT.set(Some((P::test(order), seed, execution)));
        let tally = program.execute(Random::new(seed, 1 + execution as u64));
        sums.lock().expect("no failure").add(tally);
    };
    match order {
        Order::Random => {
            let stays = [0, 0, 50, 80, 90, 95][seed as usize % 6];
            let inner = RandomScheduler::new_from_seed(seed, EXECUTIONS);
            let inner = Staying { inner, stays };
            Runner::new(Stopping { inner, stops }, config).run(execution);
        }
        Order::Priorities => {
            let depth = 2 + seed as usize % 5;
            let inner = PctScheduler::new_from_seed(seed, depth, EXECUTIONS);
            Runner::new(Stopping { inner, stops }, config).run(execution);
        }
    }
    let stopped = stopped.load(Relaxed);
    if stopped > 0 {
        counts.lock().expect("no failure").note("stops", stopped);
    }
}

/// A random scheduler that lets a thread go on, in so many of a hundred cases.
#[derive(Debug)]
struct Staying {
    inner: RandomScheduler,
    stays: usize,
}

impl Scheduler for Staying {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.inner.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let goes_on = runnable.iter().any(|task| Some(task.id()) == current);
        if goes_on && self.stays > 0 && (self.inner.next_u64() % 100) < self.stays as u64 {
            return current;
        }
        self.inner.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

/// Who is stopped in each execution, and where.
#[derive(Debug)]
struct Stops {
    random: Random,
    percent: usize,
    /// Executions so far.
    executions: usize,
    /// Who, and after how many steps of its own.
    victim: Option<(usize, usize)>,
    count: Arc<AtomicUsize>,
}

impl Stops {
    fn new(seed: u64, percent: usize, count: Arc<AtomicUsize>) -> Self {
        Self {
            random: Random::new(seed, u64::MAX),
            percent,
            executions: 0,
            victim: None,
            count,
        }
    }

    /// Nobody yet, or another one.
    fn draw(&mut self) {
        let random = &mut self.random;
        // Not in the first one, in which the scheduler of priorities looks how many steps there are.
        let victim = random.percent(self.percent) && self.executions > 0;
        self.executions += 1;
        // (The main thread is number 0.)
        self.victim = victim.then(|| (1 + random.below(3), random.below(100)));
    }

    /// Whether this thread does not go on.
    fn is_stopped(&self, task: TaskId) -> bool {
        self.victim == Some((task.into(), 0))
    }

    /// This thread goes on.
    fn step(&mut self, task: TaskId) {
        if let Some((victim, steps @ 1..)) = &mut self.victim
            && *victim == usize::from(task)
        {
            *steps -= 1;
            self.count.fetch_add(usize::from(*steps == 0), Relaxed);
        }
    }
}

/// A scheduler that stops one thread, at times: it goes on when nobody else can.
#[derive(Debug)]
struct Stopping<S> {
    inner: S,
    stops: Stops,
}

impl<S: Scheduler> Scheduler for Stopping<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.stops.draw();
        self.inner.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let others = runnable.iter().copied();
        let others = others.filter(|task| !self.stops.is_stopped(task.id()));
        let others: Vec<&Task> = others.collect();
        let runnable = if others.is_empty() { runnable } else { &others };
        let next = self.inner.next_task(runnable, current, is_yielding);
        next.inspect(|next| self.stops.step(*next))
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

thread_local! {
    /// What this thread is at, to be told if it fails.
    static CURRENT: Cell<Option<(&'static str, u64, usize)>> = const { Cell::new(None) };
}

/// Makes deaths silent, and lets failures say how they can be repeated.
fn print_only_failures() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It sets its own hook when it first runs.
        Runner::new(RandomScheduler::new(1), Config::new()).run(|| ());
        panic::set_hook(Box::new(|info| {
            let cause = info.payload();
            let text = cause.downcast_ref::<String>().map(String::as_str);
            let text = text.or(cause.downcast_ref::<&str>().copied());
            let (Some(text), Some((test, seed, execution))) = (text, CURRENT.get()) else {
                // The death of a thread, which is no failure.
                return;
            };
            let place: &dyn Display = match info.location() {
                Some(place) => place,
                None => &"somewhere",
            };
            eprintln!(
                "{place}: {text}\nThis was program {seed} in its execution {execution}. To repeat it:\n    \
                 SHUTTLE_SEED={seed} ci/shuttle.sh {test}"
            );
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    let number = env::var(name).ok()?;
    Some(number.parse().expect("a number"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
