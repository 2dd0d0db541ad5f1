//! What becomes of a program: threads that run it, die, and are recovered.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use shuttle::thread;

use crate::history::Answer;
use crate::program::{Kind, Program, Step};
use crate::random::{Random, fate_of};
use crate::run::{Order, Play, Tally};
use crate::world::{World, lines};

impl Play for Program {
    const NAME: &str = "map";

    fn test(order: Order) -> &'static str {
        match order {
            Order::Random => "random_programs_in_random_order",
            Order::Priorities => "random_programs_by_priorities",
        }
    }

    fn new(seed: u64) -> Self {
        Self::new(seed)
    }

    fn execute(&self, random: Random) -> Tally {
        match self.line {
            1 => execute(Arc::new(World::<1>::new(self)), self, random),
            _ => execute(Arc::new(World::<2>::new(self)), self, random),
        }
    }
}

/// One execution: the program under one schedule, with its deaths.
fn execute<const LINE: usize>(
    world: Arc<World<LINE>>,
    program: &Program,
    mut random: Random,
) -> Tally {
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
    Tally {
        deaths: died.count(),
        operations: history.len(),
        others: Vec::new(),
    }
}

/// What the threads of one execution are like, in so many of a hundred cases.
#[derive(Debug, Clone, Copy)]
struct Habits {
    dies: usize,
    recovers: usize,
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
