//! A victim under ptrace: run to an instruction, killed there, or left there and resumed later.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::libc::user_regs_struct as Registers;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::access::{self, Access, FileId, operands};
use super::child::{Child, End};
use super::plan::Leg;
use super::scenario::{Account, Failure, Scenario, ensure};

/// The instruction that traps, of one byte.
const INT3: u8 = 0xCC;

/// The system call instruction.
const SYSCALL: [u8; 2] = [0x0F, 0x05];

/// More instructions than any operation has.
const LONGEST: usize = 50_000_000;

// What the victim does in between is recorded. Their bodies differ so that they stay two functions.
#[inline(never)]
extern "C" fn begin_marker() {
    black_box(1);
}

#[inline(never)]
extern "C" fn end_marker() {
    black_box(2);
}

/// Where a victim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The instruction that it is about to execute.
    pub(crate) pointer: u64,
    /// Its stack pointer: the same instruction, called from elsewhere, is another position.
    pub(crate) stack: u64,
}

impl Position {
    fn of(registers: &Registers) -> Self {
        Self {
            pointer: registers.rip,
            stack: registers.rsp,
        }
    }
}

/// A part of a file that a process has mapped, and shares with others.
#[derive(Debug)]
struct Shared {
    range: Range<u64>,
    file: FileId,
    /// Where in the file the range begins.
    offset: u64,
}

/// A process that is stopped somewhere in the operation of a scenario.
#[derive(Debug)]
pub(crate) struct Victim {
    child: Child,
    /// Its memory, text included: the kernel lets a tracer write there.
    memory: File,
    /// The byte at the end marker, where a breakpoint is.
    end_byte: u8,
    /// Where the code of the vdso is.
    vdso: Range<u64>,
    /// The memory that it shares with others; unknown after a system call.
    shared: Option<Vec<Shared>>,
    /// The code at each address that it has come to.
    code: HashMap<u64, [u8; access::LONGEST]>,
}

impl Victim {
    /// Forks a victim and stops it before its operation.
    pub(crate) fn start(scenario: &mut dyn Scenario) -> Result<Self, Failure> {
        Self::start_as(scenario, None)
    }

    /// The same, or a rival with that operation.
    pub(crate) fn start_as(
        scenario: &mut dyn Scenario,
        rival: Option<&str>,
    ) -> Result<Self, Failure> {
        let child = Child::fork(|| {
            ptrace::traceme()?;
            raise(Signal::SIGSTOP)?;
            match rival {
                None => scenario.enter()?,
                Some(_) => scenario.enter_as_rival()?,
            }
            begin_marker();
            let done = match rival {
                None => scenario.op(),
                Some(name) => scenario.compete(name),
            };
            end_marker();
            done?;
            let word = |number: Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
            Ok(format!(
                "{} {}",
                word(scenario.answer()),
                word(scenario.view())
            ))
        })?;
        stopped(&child, Signal::SIGSTOP)?;
        ptrace::setoptions(child.pid(), ptrace::Options::PTRACE_O_EXITKILL)?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{}/mem", child.pid()))?;
        let mut victim = Self {
            child,
            memory,
            end_byte: 0,
            vdso: vdso()?,
            shared: None,
            code: HashMap::new(),
        };
        if !victim.run_to(address(begin_marker))? {
            return Err("it did not come to its operation".into());
        }
        victim.end_byte = victim.plant(address(end_marker), INT3)?;
        Ok(victim)
    }

    /// Where it is stopped.
    pub(crate) fn position(&self) -> Result<Position, Failure> {
        Ok(Position::of(&ptrace::getregs(self.child.pid())?))
    }

    /// Follows a route. `false` if the victim was not where a breakpoint waited for it.
    pub(crate) fn follow(&mut self, route: impl Iterator<Item = Leg>) -> Result<bool, Failure> {
        for leg in route {
            match leg {
                Leg::RunTo(address) => {
                    if !self.run_to(address)? {
                        return Ok(false);
                    }
                }
                Leg::Step(steps) => {
                    for _ in 0..steps {
                        // The end marker is a breakpoint: no way leads over it.
                        if self.position()?.pointer == address(end_marker) {
                            return Ok(false);
                        }
                        self.step()?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Steps to the end of the operation: each position on the way, and the numbers of those before accesses.
    pub(crate) fn record(&mut self) -> Result<(Vec<Position>, Vec<usize>), Failure> {
        let (mut path, mut accesses) = (Vec::new(), Vec::new());
        let mut registers = ptrace::getregs(self.child.pid())?;
        while registers.rip != address(end_marker) {
            ensure!(path.len() <= LONGEST, "the operation has no end");
            if self.access(&registers)?.is_some() {
                accesses.push(path.len());
            }
            path.push(Position::of(&registers));
            registers = self.step_to_registers()?;
        }
        path.push(Position::of(&registers));
        Ok((path, accesses))
    }

    /// Goes on over so many accesses, to before the next one, or to the end of the operation: which they
    /// were, and whether that is the end.
    pub(crate) fn pass(&mut self, most: usize) -> Result<(Vec<Access>, bool), Failure> {
        let mut passed = Vec::new();
        let mut registers = ptrace::getregs(self.child.pid())?;
        for _ in 0..LONGEST {
            if registers.rip == address(end_marker) {
                return Ok((passed, true));
            }
            if let Some(access) = self.access(&registers)? {
                if passed.len() == most {
                    return Ok((passed, false));
                }
                passed.push(access);
            }
            registers = self.step_to_registers()?;
        }
        Err("the operation has no end".into())
    }

    /// The same, over so many system calls: at once to where it begins one.
    pub(crate) fn pass_calls(&mut self, most: usize) -> Result<(usize, bool), Failure> {
        let pid = self.child.pid();
        for passed in 0..LONGEST {
            // To where it begins the next one; and if it is to go on, to where that one ends.
            for ends in [false, true] {
                if ends && passed == most {
                    return Ok((passed, false));
                }
                ptrace::syscall(pid, None)?;
                stopped(&self.child, Signal::SIGTRAP)?;
                let mut registers = ptrace::getregs(pid)?;
                if registers.rip == address(end_marker) + 1 {
                    registers.rip -= 1;
                    ptrace::setregs(pid, registers)?;
                    return Ok((passed, true));
                }
                let begins = registers.rax as i64 == -i64::from(nix::libc::ENOSYS);
                ensure!(begins || ends, "a call ended that had not begun");
            }
        }
        Err("the operation has no end".into())
    }

    /// Its next instruction, if that is a system call, or about memory that it shares with others.
    fn access(&mut self, registers: &Registers) -> Result<Option<Access>, Failure> {
        let code = match self.code.get(&registers.rip) {
            Some(code) => *code,
            None => {
                let mut code = [0; access::LONGEST];
                self.memory.read_exact_at(&mut code, registers.rip)?;
                self.code.insert(registers.rip, code);
                code
            }
        };
        if code.starts_with(&SYSCALL) {
            // It may map something, or unmap.
            self.shared = None;
            return Ok(Some(Access {
                bytes: None,
                is_write: true,
            }));
        }
        let operands = operands(&code, registers);
        if operands == [None, None] {
            return Ok(None);
        }
        let shared = match &mut self.shared {
            Some(shared) => shared,
            unknown => unknown.insert(shared_memory(self.child.pid())?),
        };
        for operand in operands.into_iter().flatten() {
            let is_there = |shared: &&Shared| shared.range.contains(&operand.address);
            if let Some(found) = shared.iter().find(is_there) {
                let start = operand.address - found.range.start + found.offset;
                let bytes = |length| (found.file, start..start + length);
                return Ok(Some(Access {
                    bytes: operand.length.map(bytes),
                    is_write: operand.is_written,
                }));
            }
        }
        Ok(None)
    }

    /// The addresses on a path where there is a system call.
    pub(crate) fn system_calls(&self, path: &[Position]) -> HashSet<u64> {
        let mut addresses: HashSet<u64> = path.iter().map(|at| at.pointer).collect();
        let is_call = |&address: &u64| {
            let mut code = [0; 2];
            self.memory.read_exact_at(&mut code, address).is_ok() && code == SYSCALL
        };
        addresses.retain(is_call);
        addresses
    }

    /// Runs to where it begins the next system call of that number.
    pub(crate) fn run_to_call(&mut self, number: i64) -> Result<(), Failure> {
        let pid = self.child.pid();
        loop {
            ptrace::syscall(pid, None)?;
            stopped(&self.child, Signal::SIGTRAP)?;
            let registers = ptrace::getregs(pid)?;
            // What a call has not given back yet.
            let begins = registers.rax as i64 == -i64::from(nix::libc::ENOSYS);
            if begins && registers.orig_rax as i64 == number {
                return Ok(());
            }
        }
    }

    /// How long it was on a processor until now.
    pub(crate) fn used(&self) -> Result<Duration, Failure> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.child.pid()))?;
        let nanos = text.split_whitespace().next().ok_or("no time")?.parse()?;
        Ok(Duration::from_nanos(nanos))
    }

    /// Kills it where it is. When this returns, it is gone.
    pub(crate) fn kill(self) {
        drop(self.child);
    }

    /// Lets it go on: it must come to a good end in time. What there is by its account.
    pub(crate) fn resume(self, patience: Duration) -> Result<Account, Failure> {
        self.plant(address(end_marker), self.end_byte)?;
        ptrace::detach(self.child.pid(), None)?;
        match self.child.wait(patience)? {
            End::Reported(Ok(report)) => {
                let mut numbers = report.split(' ').map(|word| word.parse().ok());
                let mut next = || numbers.next().ok_or("a short report");
                Ok(Account {
                    answer: next()?,
                    view: next()?,
                })
            }
            End::Reported(Err(error)) => Err(format!("the resumed victim: {error}").into()),
            End::Died(status) => Err(format!("the resumed victim died: {status:?}").into()),
            End::Hung => Err(format!("the resumed victim hung for {patience:?}").into()),
        }
    }

    /// Executes one instruction: where it is then. A call into the vdso counts as one. That only looks
    /// at the clock, again and again if a tick comes meanwhile, and single steps are as slow as ticks.
    fn step(&mut self) -> Result<Position, Failure> {
        Ok(Position::of(&self.step_to_registers()?))
    }

    fn step_to_registers(&mut self) -> Result<Registers, Failure> {
        let pid = self.child.pid();
        ptrace::step(pid, None)?;
        stopped(&self.child, Signal::SIGTRAP)?;
        let registers = ptrace::getregs(pid)?;
        if !self.vdso.contains(&registers.rip) {
            return Ok(registers);
        }
        // It has just been called.
        let mut back = [0; 8];
        self.memory.read_exact_at(&mut back, registers.rsp)?;
        ensure!(
            self.run_to(u64::from_le_bytes(back))?,
            "no return from the vdso"
        );
        Ok(ptrace::getregs(pid)?)
    }

    /// Runs to where it arrives at `address` next. `false` if it comes to the end before.
    fn run_to(&mut self, address: u64) -> Result<bool, Failure> {
        let pid = self.child.pid();
        let byte = self.plant(address, INT3)?;
        ptrace::cont(pid, None)?;
        stopped(&self.child, Signal::SIGTRAP)?;
        self.plant(address, byte)?;
        let mut registers = ptrace::getregs(pid)?;
        // The trap has been executed: back to before it.
        registers.rip -= 1;
        ptrace::setregs(pid, registers)?;
        Ok(registers.rip == address)
    }

    /// Writes a byte of code, and returns the one that stood there.
    fn plant(&self, address: u64, byte: u8) -> Result<u8, Failure> {
        let mut old = [0];
        self.memory.read_exact_at(&mut old, address)?;
        self.memory.write_all_at(&[byte], address)?;
        Ok(old[0])
    }
}

fn address(marker: extern "C" fn()) -> u64 {
    marker as usize as u64
}

/// Where the kernel has put its code for the clock; the same in all forks.
fn vdso() -> Result<Range<u64>, Failure> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else {
        return Ok(0..0);
    };
    parse(line.split(' ').next().unwrap_or_default())
}

/// The memory that a process shares with others.
fn shared_memory(pid: Pid) -> Result<Vec<Shared>, Failure> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut shared = Vec::new();
    for line in maps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [range, rights, offset, device, number, ..] = words[..] else {
            continue;
        };
        if rights.ends_with('s') {
            let device = device.replace(':', "");
            shared.push(Shared {
                range: parse(range)?,
                file: (u64::from_str_radix(&device, 16)?, number.parse()?),
                offset: u64::from_str_radix(offset, 16)?,
            });
        }
    }
    Ok(shared)
}

/// The range of a mapping.
fn parse(range: &str) -> Result<Range<u64>, Failure> {
    let (start, end) = range.split_once('-').ok_or("a mapping without a range")?;
    Ok(u64::from_str_radix(start, 16)?..u64::from_str_radix(end, 16)?)
}

/// Waits for a stop by `signal`.
fn stopped(child: &Child, signal: Signal) -> Result<(), Failure> {
    match waitpid(child.pid(), None)? {
        WaitStatus::Stopped(_, found) if found == signal => Ok(()),
        other => Err(format!("the victim: {other:?} instead of a stop by {signal}").into()),
    }
}
