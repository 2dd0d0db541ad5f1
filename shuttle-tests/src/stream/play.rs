//! What becomes of a program: threads that run it, die, and are cleaned up after.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use forkmap::model::Access;
use forkmap::model::death::kill_before;
use shuttle::sync::Barrier;
use shuttle::thread;

use super::history::{Answer, Op, Replica, is_explained};
use super::process::{Process, Unlinked};
use super::program::{Kind, Program, Step};
use super::world::World;
use crate::random::{Random, fate_of};
use crate::run::{Order, Play, Tally};

/// Writes that an operation may take, or a few more: one that comes to a switch, and one that does not.
const WRITES: [usize; 2] = [26, 8];

impl Play for Program {
    const NAME: &str = "stream";

    fn test(order: Order) -> &'static str {
        match order {
            Order::Random => "stream_programs_in_random_order",
            Order::Priorities => "stream_programs_by_priorities",
        }
    }

    fn new(seed: u64) -> Self {
        Self::new(seed)
    }

    fn stops(&self) -> usize {
        self.stops
    }

    fn execute(&self, mut random: Random) -> Tally {
        let world = Arc::new(World::new(self.shape));
        let mut first = Player::new(&world, 0);
        for step in &self.before {
            first.step(*step, None);
        }
        drop(first);
        let rests = perform(self, &world, &mut random);
        while let Some(&slot) = world.dead().first() {
            let fate = fate_of(&mut random, 30, 6).unwrap_or(usize::MAX);
            kill_before(fate, || world.take_slot(slot));
        }
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| check(self, &world, &rests)));
        if let Err(cause) = outcome {
            let history = world.history();
            let lines = history.iter().map(|record| format!("\n{record:?}"));
            eprintln!("{self:?}{}", lines.collect::<String>());
            panic::resume_unwind(cause);
        }
        tally(&world)
    }
}

/// Runs all threads: what each of those who live knows in the end.
fn perform(program: &Program, world: &Arc<World>, random: &mut Random) -> Vec<Replica> {
    let habits = Habits {
        dies: [0, 50, 90][random.below(3)],
    };
    let all = Arc::new(Barrier::new(program.threads.len()));
    let threads = program.threads.iter().enumerate().map(|(n, steps)| {
        let (world, all, steps) = (Arc::clone(world), Arc::clone(&all), steps.clone());
        let random = Random::new(random.next(), 0);
        thread::spawn(move || {
            let mut player = Player::new(&world, n);
            let lives = player.live(&steps, habits, random);
            all.wait();
            player.rest().filter(|_| lives)
        })
    });
    let threads: Vec<_> = threads.collect();
    let rests = threads.into_iter().filter_map(|thread| {
        let rest = thread.join();
        rest.expect("a panic ends the execution")
    });
    rests.collect()
}

fn tally(world: &World) -> Tally {
    let history = world.history();
    let died = history
        .iter()
        .filter(|record| record.answer == Answer::Died);
    let (switches, built) = world.generations();
    Tally {
        deaths: died.count(),
        operations: history.len(),
        others: vec![("switches", switches - 1), ("generations built", built - 1)],
    }
}

/// What the threads of one execution are like, in so many of a hundred cases.
#[derive(Debug, Clone, Copy)]
struct Habits {
    dies: usize,
}

/// A thread: one process after the other, and one that only reads.
struct Player<'w> {
    world: &'w World,
    thread: usize,
    process: Option<Process<'w>>,
    reader: Option<Process<'w>>,
}

impl<'w> Player<'w> {
    fn new(world: &'w World, thread: usize) -> Self {
        Self {
            world,
            thread,
            process: None,
            reader: None,
        }
    }

    /// Runs its steps, and whatever deaths make of them: whether it lives.
    fn live(&mut self, steps: &[Step], habits: Habits, mut random: Random) -> bool {
        if random.percent(50) {
            // From the start, however many generations have come since.
            self.process = Some(Process::open(self.world, self.thread));
        }
        let doomed = random
            .percent(habits.dies)
            .then(|| random.below(steps.len()));
        for (n, step) in steps.iter().enumerate() {
            let fate = match doomed {
                Some(doomed) if doomed <= n => {
                    let writes = WRITES[random.below(WRITES.len())];
                    fate_of(&mut random, 80, writes)
                }
                _ => None,
            };
            if self.step(*step, fate) {
                continue;
            }
            for _ in 0..random.below(3) {
                let kind = Kind::ReadOnly;
                self.step(Step { kind, ..*step }, None);
            }
            if random.percent(30) || !self.come_again(&mut random) {
                return false;
            }
        }
        true
    }

    /// Stands for another process, which takes the slot of the one that was killed: whether it could.
    fn come_again(&mut self, random: &mut Random) -> bool {
        loop {
            let fate = fate_of(random, 30, 6).unwrap_or(usize::MAX);
            if let Some(has_it) = kill_before(fate, || self.world.take_slot(self.thread)) {
                return has_it;
            }
        }
    }

    /// Does one step, and is killed before write number `fate` if it comes to that. Tells whether it lives.
    fn step(&mut self, step: Step, fate: Option<usize>) -> bool {
        let Step { kind, key, other } = step;
        let world = self.world;
        let number = world.numbers(world.shape.keys);
        let op = match kind {
            Kind::Put => Op::Put { key, to: number },
            Kind::Remove => Op::Remove { key },
            Kind::Move => Op::Move {
                from: key,
                to: other,
                new: number,
            },
            Kind::PutAll => Op::PutAll { first: number },
            _ => Op::Read,
        };
        // One that only reads dies of its first write, which it is not to make.
        let fate = match kind {
            Kind::ReadOnly => Some(0),
            _ => fate,
        };
        let start = world.stamp();
        let outcome = kill_before(fate.unwrap_or(usize::MAX), || self.act(kind, op));
        assert!(outcome.is_some() || kind != Kind::ReadOnly, "it writes");
        match outcome {
            Some(Ok(Some(was))) => world.write_down(self.thread, op, Answer::Was(was), start),
            Some(Ok(None)) => {}
            // It has done nothing, and will not.
            Some(Err(Unlinked)) => {
                assert!(world.is_unlinked(), "nobody has unlinked it");
                (self.process, self.reader) = (None, None);
            }
            None => {
                world.write_down(self.thread, op, Answer::Died, start);
                world.bury(self.thread);
                self.process = None;
                return false;
            }
        }
        true
    }

    /// What was there at the instant when it was done.
    fn act(&mut self, kind: Kind, op: Op) -> Result<Option<Replica>, Unlinked> {
        match kind {
            Kind::Unlink => {
                self.world.unlink_all();
                return Ok(None);
            }
            Kind::ReadOnly => return self.read_only().map(Some),
            Kind::Attach => self.process = None,
            _ => {}
        }
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::attach(self.world, self.thread)?),
        };
        if kind == Kind::Dump {
            process.dump()?;
        }
        let was = match op {
            Op::Read => process.read()?.clone(),
            op => change(process, op)?,
        };
        Ok(Some(was))
    }

    fn read_only(&mut self) -> Result<Replica, Unlinked> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let reader = Process::attach_with(self.world, self.thread, Access::ReadOnly);
                none.insert(reader?)
            }
        };
        reader.read().cloned()
    }

    /// When all others have come to their ends: what it knows then.
    fn rest(&mut self) -> Option<Replica> {
        let start = self.world.stamp();
        let rest = self.process.as_mut()?.read().ok()?.clone();
        let answer = Answer::Was(rest.clone());
        self.world.write_down(self.thread, Op::Read, answer, start);
        Some(rest)
    }
}

/// As a transaction does it.
fn change(process: &mut Process<'_>, op: Op) -> Result<Replica, Unlinked> {
    process.catch_up()?;
    loop {
        let was = process.replica().clone();
        let record = op.record(&was);
        // What changes nothing has happened when everything was read.
        if record.is_empty() || process.try_change(&record)? {
            return Ok(was);
        }
        process.catch_up()?;
    }
}

/// All is said and done, and everybody who died was cleaned up after.
fn check(program: &Program, world: &World, rests: &[Replica]) {
    match world.is_unlinked() {
        true => check_unlinked(program, world),
        false => check_last(program, world, rests),
    }
    let history = world.history();
    assert!(
        is_explained(&history, program.shape.keys),
        "nothing explains the history"
    );
}

/// Nothing is left but one generation, and all know the same.
fn check_last(program: &Program, world: &World, rests: &[Replica]) {
    let slot = program.threads.len();
    let start = world.stamp();
    let mut last = Process::attach(world, slot).expect("nobody has unlinked it");
    let found = last.replica().clone();
    let answer = Answer::Was(found.clone());
    world.write_down(slot, Op::Read, answer, start);
    check_names(world, &[last.generation()]);
    for rest in rests {
        assert_eq!(*rest, found, "at rest");
    }
    last.dump().expect("nobody has unlinked it");
    check_names(world, &[last.generation()]);
    let fresh = Process::attach(world, slot).expect("nobody has unlinked it");
    assert_eq!([last.replica(), fresh.replica()], [&found; 2], "a switch");
}

/// Nothing is left.
fn check_unlinked(program: &Program, world: &World) {
    assert!(program.unlinks());
    if !world.all_was_unlinked() {
        // Its unlinker was killed: so somebody does it again.
        world.unlink_all();
    }
    check_names(world, &[]);
    let late = Process::attach(world, program.threads.len());
    assert_eq!(late.err(), Some(Unlinked));
}

fn check_names(world: &World, names: &[u64]) {
    assert_eq!(world.names(), names, "the names that are left");
    let control = world.control(Access::ReadWrite);
    for slot in 0..world.shape.slots {
        assert_eq!(control.row(slot).candidate(), 0, "slot {slot}");
    }
}
