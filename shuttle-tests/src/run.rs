//! Runs programs until the time is up, or one of them fails.

use std::cell::Cell;
use std::env;
use std::fmt::Display;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant, SystemTime};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner, thread};

use crate::history::Answer;
use crate::program::{Kind, Program, Random, Step};
use crate::world::{World, lines};

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

#[derive(Debug, Default)]
struct Counts {
    executions: AtomicUsize,
    with_deaths: AtomicUsize,
    operations: AtomicUsize,
    deaths: AtomicUsize,
}

/// Runs random programs for as long as `SHUTTLE_SECONDS` says, or the one of `SHUTTLE_SEED`.
pub fn run(order: Order) {
    static FAILED: AtomicBool = AtomicBool::new(false);
    print_only_failures();
    let counts = Arc::new(Counts::default());
    let seconds = number("SHUTTLE_SECONDS").unwrap_or(10);
    let until = Instant::now() + Duration::from_secs(seconds);
    let only = number("SHUTTLE_SEED");
    let first = only.unwrap_or_else(|| Random::new(now(), order as u64).next() >> 16);
    let mut seed = first;
    while !FAILED.load(Relaxed) {
        CURRENT.set(Some((order, seed, 0)));
        let run = AssertUnwindSafe(|| run_one(order, seed, &counts));
        if let Err(cause) = panic::catch_unwind(run) {
            FAILED.store(true, Relaxed);
            panic::resume_unwind(cause);
        }
        seed = seed.wrapping_add(1);
        if only.is_some() || Instant::now() > until {
            break;
        }
    }
    let count = |count: &AtomicUsize| count.load(Relaxed);
    println!(
        "shuttle {order:?}: programs {first}..{seed}, {} executions, {} of them with deaths, {} deaths, {} \
         operations",
        count(&counts.executions),
        count(&counts.with_deaths),
        count(&counts.deaths),
        count(&counts.operations)
    );
}

fn run_one(order: Order, seed: u64, counts: &Arc<Counts>) {
    let program = Program::new(seed);
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    // Hundreds of times what any of them takes: an operation that never ends.
    config.max_steps = MaxSteps::FailAfter(200_000);
    let counts = Arc::clone(counts);
    let executions = AtomicUsize::new(0);
    let execution = move || {
        let execution = executions.fetch_add(1, Relaxed);
        CURRENT.set(Some((order, seed, execution)));
        let random = Random::new(seed, 1 + execution as u64);
        match program.line {
            1 => execute(
                Arc::new(World::<1>::new(&program)),
                &program,
                random,
                &counts,
            ),
            _ => execute(
                Arc::new(World::<2>::new(&program)),
                &program,
                random,
                &counts,
            ),
        }
    };
    match order {
        Order::Random => {
            let stays = [0, 0, 50, 80, 90, 95][seed as usize % 6];
            let inner = RandomScheduler::new_from_seed(seed, EXECUTIONS);
            Runner::new(Staying { inner, stays }, config).run(execution);
        }
        Order::Priorities => {
            let depth = 2 + seed as usize % 5;
            let scheduler = PctScheduler::new_from_seed(seed, depth, EXECUTIONS);
            Runner::new(scheduler, config).run(execution);
        }
    }
}

/// One execution: the program under one schedule, with its deaths.
fn execute<const LINE: usize>(
    world: Arc<World<LINE>>,
    program: &Program,
    mut random: Random,
    counts: &Counts,
) {
    let mut memory = world.memory();
    for step in &program.before {
        world.step(0, *step, None, &mut memory);
    }
    let habits = Habits {
        dies: [0, 50, 90][random.below(3)],
        recovers: [0, 50][random.below(2)],
    };
    let threads = program.threads.iter().enumerate().map(|(writer, steps)| {
        let (world, steps) = (Arc::clone(&world), steps.clone());
        let random = Random::new(random.next(), 0);
        thread::spawn(move || live(&world, writer, &steps, habits, random))
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("a panic ends the execution");
    }
    while let Some(writer) = world.dead() {
        world.recover(writer, fate_of(&mut random, 30, 6));
    }
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.check()));
    if let Err(cause) = outcome {
        eprintln!("{program:?}{}", lines(&world.history()));
        panic::resume_unwind(cause);
    }
    let history = world.history();
    let died = history
        .iter()
        .filter(|record| record.answer == Answer::Died);
    let died = died.count();
    counts.executions.fetch_add(1, Relaxed);
    counts.with_deaths.fetch_add(usize::from(died > 0), Relaxed);
    counts.deaths.fetch_add(died, Relaxed);
    counts.operations.fetch_add(history.len(), Relaxed);
}

/// What the threads of one execution are like, in so many of a hundred cases.
#[derive(Debug, Clone, Copy)]
struct Habits {
    dies: usize,
    recovers: usize,
}

/// Before which write somebody is killed, if he is.
fn fate_of(random: &mut Random, percent: usize, writes: usize) -> Option<usize> {
    random.percent(percent).then(|| random.below(writes))
}

/// What one thread does: its steps, and whatever deaths make of it. After a death it stands for other
/// processes; and perhaps for one that takes the dead writer's place.
fn live<const LINE: usize>(
    world: &World<LINE>,
    writer: usize,
    steps: &[Step],
    habits: Habits,
    mut random: Random,
) {
    let mut memory = world.memory();
    let doomed = random
        .percent(habits.dies)
        .then(|| random.below(steps.len()));
    for (n, step) in steps.iter().enumerate() {
        if let (Some(dead), true) = (world.dead(), random.percent(habits.recovers)) {
            world.recover(dead, fate_of(&mut random, 20, 6));
        }
        // So many writes it takes, or a few more.
        let writes = match step.kind {
            Kind::Insert | Kind::Put => 16,
            _ => 10,
        };
        let fate = match doomed {
            Some(doomed) if doomed <= n => fate_of(&mut random, 80, writes),
            _ => None,
        };
        if world.step(writer, *step, fate, &mut memory) {
            continue;
        }
        for _ in 0..random.below(3) {
            let kind = [Kind::Get, Kind::GetReadOnly, Kind::Visit][random.below(3)];
            let key = if random.percent(70) {
                step.key
            } else {
                random.below(memory.len())
            };
            world.step(writer, Step { kind, key }, None, &mut memory);
        }
        if random.percent(30) {
            return;
        }
        while world.is_dead(writer) {
            world.recover(writer, fate_of(&mut random, 30, 6));
        }
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

thread_local! {
    /// What this thread is at, to be told if it fails.
    static CURRENT: Cell<Option<(Order, u64, usize)>> = const { Cell::new(None) };
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
            let (Some(text), Some((order, seed, execution))) = (text, CURRENT.get()) else {
                // The death of a thread, which is no failure.
                return;
            };
            let test = match order {
                Order::Random => "in_random_order",
                Order::Priorities => "by_priorities",
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
