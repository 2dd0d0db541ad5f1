//! System calls that fail: each one of each operation, in turn, with each errno that it may give.
//!
//! A child does one operation under our eyes. The first time all its system calls are counted; then it is
//! done anew for each of them, which is not made and returns an error instead: once, or from then on.
//! Whatever comes of it: a typed error after which nothing has changed, or the right result.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use libtest_mimic::Trial;
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm, getpgid};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::failing_calls_cases::{Case, cases};
use crate::peer::Peer;
use crate::{Role, run};

const ROLE: &str = "failing-calls";

/// How many faults of an operation are tried at least, one of each call in any case. All of them with
/// `FORKMAP_FAULTS=all`.
const SAMPLE: usize = 50;

/// More calls than any operation makes. What makes more goes round in circles.
const MANY: usize = 50_000;

/// How long an operation may take, in seconds: the machine may be slow.
const PATIENCE: u32 = 60;

/// What errors say that are no fault of the system.
const BLAMES: [&str; 5] = [
    "was closed by somebody else",
    "does not stand at",
    "somebody has removed it",
    "was unlinked",
    "damaged",
];

pub(crate) const ROLES: &[Role] = &[(ROLE, |args| try_all(&args[0]))];

pub(crate) fn tests() -> Vec<Trial> {
    ["AtomicDict", "SharedHashMap", "StreamDict"]
        .into_iter()
        .map(|structure| {
            Trial::test(format!("failing_calls_of_{structure}"), move || {
                print!("{}", run(ROLE, &[structure]));
                Ok(())
            })
        })
        .collect()
}

/// Where a child is. It says so by asking for the process group of a process that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// The operation begins. (A stop comes before this, and before the last one.)
    Begin,
    /// It has ended: from here on calls do not fail.
    End,
    /// What came of it is in the report.
    Told,
    /// It went well in the end, and all handles are dropped.
    Dropped,
}

impl Mark {
    const ALL: [Self; 4] = [Self::Begin, Self::End, Self::Told, Self::Dropped];
    const FIRST: i32 = i32::MIN + 77;

    fn say(self) {
        let _ = getpgid(Some(Pid::from_raw(Self::FIRST + self as i32)));
    }

    fn of(call: &Call) -> Option<Self> {
        let is_mark = call.number == libc::SYS_getpgid;
        let n = (call.args[0] as i32).wrapping_sub(Self::FIRST);
        Self::ALL
            .get(usize::try_from(n).ok()?)
            .copied()
            .filter(|_| is_mark)
    }
}

/// What an operation reports to: the child's side.
#[derive(Debug)]
pub(crate) struct Attempt<'a>(&'a File);

impl Attempt<'_> {
    /// Does `op` while calls fail, then `others`, which must work, and then `op` again if it has failed.
    pub(crate) fn of<T>(
        &self,
        mut op: impl FnMut() -> Result<T, Box<dyn Error>>,
        others: impl FnOnce(),
    ) -> T {
        alarm::set(PATIENCE);
        raise(Signal::SIGSTOP).unwrap();
        Mark::Begin.say();
        let done = catch_unwind(AssertUnwindSafe(&mut op));
        Mark::End.say();
        alarm::set(5 * PATIENCE);
        let told = match &done {
            Ok(Ok(_)) => "success".to_owned(),
            Ok(Err(error)) => format!("error {error}"),
            Err(_) => "panic".to_owned(),
        };
        self.0.write_all_at(told.as_bytes(), 0).unwrap();
        Mark::Told.say();
        others();
        match done {
            Ok(Ok(value)) => value,
            _ => op().expect("it works when calls do"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    number: i64,
    args: [u64; 6],
}

/// A call that fails.
#[derive(Debug, Clone, Copy)]
struct Fault {
    /// Which of the operation's.
    at: usize,
    call: Call,
    errno: i32,
    /// How many of that number from there on.
    times: usize,
}

impl Fault {
    /// Whether something cannot be removed: it stays then, and not everybody can be told.
    fn is_removal(&self) -> bool {
        let removes = matches!(self.call.number, libc::SYS_unlink | libc::SYS_unlinkat);
        removes && !self.is_interruption()
    }

    /// Whether it is one that nobody is to notice: the call is made again.
    fn is_interruption(&self) -> bool {
        self.errno == libc::EINTR
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = match self.times {
            usize::MAX => "and ever after".to_owned(),
            times => format!("{times} times"),
        };
        let errno = nix::errno::Errno::from_raw(self.errno);
        let name = name_of(self.call.number);
        write!(f, "call {} ({name}) with {errno:?}, {times}", self.at)
    }
}

/// The errors that a call may give, and whether it is made all the same. None: it has none to give, or
/// nothing is to be seen of them.
#[expect(non_upper_case_globals, reason = "so libc calls them")]
fn faults(call: &Call) -> (&'static [i32], bool) {
    use libc::*;
    let has = |arg: usize, flag: i32| call.args[arg] as i32 & flag == flag;
    let errors: &[i32] = match call.number {
        SYS_open | SYS_openat if has(2, O_TMPFILE) => {
            &[EMFILE, ENOSPC, EINTR, EACCES, ENOMEM, EOPNOTSUPP]
        }
        SYS_open | SYS_openat => &[EMFILE, ENFILE, EINTR, EACCES, ENOMEM, EIO],
        SYS_memfd_create => &[EMFILE, ENOMEM, EINVAL, ENOSYS],
        SYS_fallocate => &[ENOSPC, EINTR, EIO, EOPNOTSUPP],
        SYS_pwrite64 | SYS_write => &[ENOSPC, EINTR, EIO],
        SYS_pread64 | SYS_read => &[EINTR, EIO],
        SYS_fsync => &[EINTR, EIO, ENOSPC],
        // Memory of the allocator, which ends the process by design if it cannot be had. That of the
        // token is a single page.
        SYS_mmap if has(3, MAP_ANONYMOUS) && call.args[1] != 4096 => &[],
        SYS_mmap => &[ENOMEM, EAGAIN, EACCES],
        SYS_madvise => &[EINVAL, ENOMEM],
        SYS_fcntl => match call.args[1] as i32 {
            F_OFD_SETLK => &[EAGAIN, ENOLCK, EINTR],
            F_OFD_GETLK => &[ENOLCK, EINTR],
            F_ADD_SEALS => &[EPERM, EBUSY],
            F_DUPFD_CLOEXEC => &[EMFILE],
            F_SETFD => &[EIO],
            // Asked by the debug build of the standard library, of a descriptor that is there.
            _ => &[],
        },
        SYS_linkat => &[ENOSPC, EACCES, EIO, ENOMEM, ENOENT, EINTR],
        SYS_unlink | SYS_unlinkat => &[EACCES, EIO, EROFS, EINTR],
        SYS_newfstatat | SYS_statx | SYS_stat | SYS_lstat => &[EACCES, EIO, ENOMEM, EINTR],
        SYS_fstat => &[EIO, ENOMEM, EINTR],
        SYS_fstatfs | SYS_statfs => &[ENOSYS, EIO, EINTR],
        SYS_fchmod | SYS_fchown => &[EPERM, EIO, EROFS, EINTR],
        SYS_getrandom => &[EINTR, ENOSYS],
        SYS_getdents64 => &[EIO, ENOMEM, EINTR],
        SYS_readlink | SYS_readlinkat | SYS_getcwd | SYS_access => &[EACCES, EIO],
        SYS_lseek => &[EIO],
        SYS_futex if call.args[1] as i32 & 0x7f == FUTEX_WAIT => &[EINTR, EAGAIN],
        SYS_futex if call.args[1] as i32 & 0x7f == FUTEX_WAIT_BITSET => &[EINTR, EAGAIN],
        SYS_clock_nanosleep | SYS_nanosleep => &[EINTR],
        SYS_poll => &[EINTR, ENOMEM],
        // Done all the same, as Linux does it: nobody can react. (The standard library panics when it
        // closes a directory with any other one.)
        SYS_close => return (&[EINTR], true),
        // The allocator's as well.
        SYS_brk | SYS_munmap | SYS_mremap | SYS_mprotect => &[],
        // Waking, and what always succeeds.
        SYS_futex | SYS_getpid | SYS_gettid | SYS_geteuid | SYS_getuid | SYS_sched_yield => &[],
        SYS_sched_getaffinity | SYS_prctl | SYS_rt_sigprocmask | SYS_sigaltstack => &[],
        other => panic!("system call {other} is new: say how it may fail"),
    };
    (errors, false)
}

fn name_of(number: i64) -> String {
    let all = [
        ("openat", libc::SYS_openat),
        ("open", libc::SYS_open),
        ("memfd_create", libc::SYS_memfd_create),
        ("fallocate", libc::SYS_fallocate),
        ("pwrite", libc::SYS_pwrite64),
        ("pread", libc::SYS_pread64),
        ("read", libc::SYS_read),
        ("mmap", libc::SYS_mmap),
        ("madvise", libc::SYS_madvise),
        ("fcntl", libc::SYS_fcntl),
        ("linkat", libc::SYS_linkat),
        ("unlink", libc::SYS_unlink),
        ("unlinkat", libc::SYS_unlinkat),
        ("newfstatat", libc::SYS_newfstatat),
        ("statx", libc::SYS_statx),
        ("fstat", libc::SYS_fstat),
        ("fstatfs", libc::SYS_fstatfs),
        ("fchmod", libc::SYS_fchmod),
        ("getrandom", libc::SYS_getrandom),
        ("getdents", libc::SYS_getdents64),
        ("close", libc::SYS_close),
    ];
    let known = all.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// What a process has of a directory, and what stands in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Footprint {
    files: Vec<String>,
    descriptors: usize,
    maps: usize,
}

impl Footprint {
    fn of(pid: Pid, dir: &Path) -> Self {
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap())
        };
        let mut files: Vec<_> = names(dir).collect();
        files.sort();
        let mut maps = String::new();
        let path = format!("/proc/{pid}/maps");
        File::open(path).unwrap().read_to_string(&mut maps).unwrap();
        let dir = dir.to_str().unwrap();
        let is_ours = |line: &&str| line.contains(dir) || line.contains("memfd:forkmap");
        Self {
            files,
            descriptors: names(Path::new(&format!("/proc/{pid}/fd"))).count(),
            maps: maps.lines().filter(is_ours).count(),
        }
    }

    /// The same but for names that are drawn at random.
    fn counts(&self) -> [usize; 3] {
        [self.files.len(), self.descriptors, self.maps]
    }
}

/// What was seen of a child.
#[derive(Debug, Default)]
struct Seen {
    calls: Vec<Call>,
    /// How often the fault was met.
    hits: usize,
    told: String,
    /// At each mark.
    at: BTreeMap<usize, Footprint>,
    /// What is wrong with it.
    wrong: Vec<String>,
}

fn try_all(structure: &str) {
    let is_sample = std::env::var("FORKMAP_FAULTS").as_deref() != Ok("all");
    let report = tempfile::tempfile().unwrap();
    let mut wrong = Vec::new();
    for case in cases(structure) {
        let Some(clean) = watch(&case, &report, None) else {
            println!("SKIPPED: no permission to trace a process");
            return;
        };
        assert!(clean.wrong.is_empty(), "{}: {:?}", case.name, clean.wrong);
        assert_eq!(clean.told, "success", "{}", case.name);
        let (all, at_least) = all_faults(&clean.calls);
        let n = if is_sample {
            SAMPLE.max(at_least)
        } else {
            all.len()
        };
        let (mut tried, mut errors) = (0, 0);
        for fault in all.iter().take(n) {
            let seen = watch(&case, &report, Some((*fault, &clean))).unwrap();
            tried += 1;
            errors += usize::from(seen.told.starts_with("error"));
            let said = |what| format!("{}: {fault}: {what} (it told: {})", case.name, seen.told);
            wrong.extend(seen.wrong.iter().map(said));
        }
        let (name, calls, of) = (case.name, clean.calls.len(), all.len());
        let fine = tried - errors;
        println!(
            "{name}: {calls} calls, {tried} of {of} faults: {errors} errors, {fine} successes"
        );
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// All that can be tried, in random order, and how many of them it takes to have each call fail once, and be
/// interrupted.
fn all_faults(calls: &[Call]) -> (Vec<Fault>, usize) {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut all = Vec::new();
    for (at, &call) in calls.iter().enumerate() {
        let mut here = Vec::new();
        for &errno in faults(&call).0 {
            // What is interrupted is tried again: for ever, if that goes on.
            let often = if errno == libc::EINTR { 3 } else { usize::MAX };
            here.extend([1, often].map(|times| Fault {
                at,
                call,
                errno,
                times,
            }));
        }
        here.shuffle(&mut rng);
        let rank = |(rank, fault): (usize, Fault)| match fault.is_interruption() {
            true => (0, fault),
            false => (rank, fault),
        };
        all.extend(here.into_iter().enumerate().map(rank));
    }
    let first = all.iter().filter(|(rank, _)| *rank == 0).count();
    all.shuffle(&mut rng);
    all.sort_by_key(|(rank, _)| *rank);
    (all.into_iter().map(|(_, fault)| fault).collect(), first)
}

/// Has a child do it, with a fault or without. `None` if tracing is not permitted.
fn watch(case: &Case, report: &File, fault: Option<(Fault, &Seen)>) -> Option<Seen> {
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = place.path();
    report.set_len(0).unwrap();
    // In processes of their own: what is new in a process is to be new in the child.
    Peer::fork(|| (case.prepare)(dir)).join();
    let child = Peer::fork(|| {
        if ptrace::traceme().is_err() {
            std::process::exit(NOT_PERMITTED);
        }
        raise(Signal::SIGSTOP).unwrap();
        (case.body)(dir, &Attempt(report));
        raise(Signal::SIGSTOP).unwrap();
        Mark::Dropped.say();
    });
    match waitpid(child.0, None).unwrap() {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, NOT_PERMITTED) => return None,
        other => panic!("{other:?}"),
    }
    ptrace::setoptions(child.0, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut tracer = Tracer {
        case,
        dir,
        report,
        fault: fault.map(|(fault, _)| fault),
        clean: fault.map(|(_, clean)| clean),
        pid: child.0,
        counts: false,
        follows: false,
        seen: Seen::default(),
    };
    tracer.run();
    Some(tracer.seen)
}

const NOT_PERMITTED: i32 = 3;

struct Tracer<'a> {
    case: &'a Case,
    dir: &'a Path,
    report: &'a File,
    fault: Option<Fault>,
    clean: Option<&'a Seen>,
    pid: Pid,
    /// Whether the child is between the marks.
    counts: bool,
    /// Whether it stops at its calls.
    follows: bool,
    seen: Seen,
}

impl Tracer<'_> {
    /// Follows the child to its end.
    fn run(&mut self) {
        let (mut signal, mut inside, mut pending) = (None, false, None);
        for _ in 0..2 * MANY {
            // Most calls are made before and after, and are none of our business.
            match self.follows {
                true => ptrace::syscall(self.pid, signal.take()),
                false => ptrace::cont(self.pid, signal.take()),
            }
            .unwrap();
            match waitpid(self.pid, None).unwrap() {
                WaitStatus::PtraceSyscall(_) if !inside => {
                    pending = self.entered();
                    inside = self.follows;
                }
                WaitStatus::PtraceSyscall(_) => {
                    inside = false;
                    if let Some(errno) = pending.take() {
                        let mut regs = ptrace::getregs(self.pid).unwrap();
                        regs.rax = -i64::from(errno) as u64;
                        ptrace::setregs(self.pid, regs).unwrap();
                    }
                }
                WaitStatus::Stopped(_, Signal::SIGSTOP) => self.follows = true,
                WaitStatus::Stopped(_, Signal::SIGALRM) => return self.kill("it hangs"),
                WaitStatus::Stopped(
                    _,
                    bad @ (Signal::SIGSEGV | Signal::SIGBUS | Signal::SIGABRT),
                ) => {
                    return self.kill(&format!("{bad}"));
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::Exited(_, 0) => return self.ended(),
                WaitStatus::Exited(..) => return self.wrong("it panics afterwards"),
                other => panic!("{other:?}"),
            }
        }
        self.kill("it makes calls without an end");
    }

    fn wrong(&mut self, what: &str) {
        self.seen.wrong.push(what.to_owned());
    }

    fn kill(&mut self, why: &str) {
        self.wrong(why);
        kill(self.pid, Signal::SIGKILL).unwrap();
        while let Ok(status) = waitpid(self.pid, None) {
            if let WaitStatus::Signaled(..) = status {
                break;
            }
        }
    }

    /// At the entry of a call: with what it is to fail.
    fn entered(&mut self) -> Option<i32> {
        let mut regs = ptrace::getregs(self.pid).unwrap();
        let call = Call {
            number: regs.orig_rax as i64,
            args: [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9],
        };
        if let Some(mark) = Mark::of(&call) {
            self.marked(mark);
            return None;
        }
        if !self.counts {
            return None;
        }
        self.seen.calls.push(call);
        let fault = self.fault?;
        let at = self.seen.calls.len() - 1;
        let (errors, is_made) = faults(&call);
        let is_it = call.number == fault.call.number && errors.contains(&fault.errno);
        if at < fault.at || !is_it || self.seen.hits >= fault.times {
            return None;
        }
        self.seen.hits += 1;
        // A signal that comes once comes too late: the name is given, or gone.
        let number = call.number;
        let is_name = matches!(
            number,
            libc::SYS_linkat | libc::SYS_unlink | libc::SYS_unlinkat
        );
        let is_late = is_name && fault.is_interruption() && fault.times == 1;
        if !is_made && !is_late {
            regs.orig_rax = u64::MAX;
            ptrace::setregs(self.pid, regs).unwrap();
        }
        Some(fault.errno)
    }

    fn marked(&mut self, mark: Mark) {
        let now = Footprint::of(self.pid, self.dir);
        self.seen.at.insert(mark as usize, now.clone());
        match mark {
            Mark::Begin => self.counts = true,
            Mark::End => self.counts = false,
            Mark::Told => {
                self.follows = false;
                self.told(&now);
            }
            Mark::Dropped => {
                self.follows = false;
                if let Some(clean) = self.clean {
                    self.expect(
                        "in the end",
                        now.counts(),
                        clean.at[&(mark as usize)].counts(),
                    );
                }
            }
        }
    }

    /// The same files, and no more of the rest: what is left for later may be missing.
    fn expect(&mut self, when: &str, found: [usize; 3], expected: [usize; 3]) {
        let failed = self.fault.filter(|fault| !fault.is_interruption());
        let failed = failed.map(|fault| fault.call.number);
        let stays = self.fault.is_some_and(|fault| fault.is_removal());
        // Nor is a descriptor closed that may be another file's; and libraries keep `/dev/urandom` open.
        let is_kept = matches!(failed, Some(libc::SYS_fstat | libc::SYS_getrandom));
        let [files, descriptors, maps] = expected;
        let are_files = found[0] == files || stays && found[0] > files;
        if !are_files || found[1] > descriptors && !is_kept || found[2] > maps {
            let what = "[files, descriptors, maps]";
            self.wrong(&format!(
                "{when} it has {found:?} {what} and not {expected:?}"
            ));
        }
    }

    /// The operation has ended.
    fn told(&mut self, now: &Footprint) {
        let mut told = vec![0; 2000];
        let n = self.report.read_at(&mut told, 0).unwrap();
        self.seen.told = String::from_utf8_lossy(&told[..n]).into_owned();
        let before = self.seen.at[&(Mark::Begin as usize)].clone();
        let Some(clean) = self.clean else { return };
        let after = clean.at[&(Mark::Told as usize)].counts();
        match self.seen.told.as_str() {
            "panic" => self.wrong("it panics"),
            "success" => {
                let [files, ..] = now.counts();
                let files = if self.case.is_best_effort {
                    files
                } else {
                    after[0]
                };
                self.expect("after success", now.counts(), [files, after[1], after[2]]);
            }
            _ => {
                let fault = self.fault.expect("no error without");
                if fault.is_interruption() {
                    self.wrong("it is not tried again");
                }
                // (That a lock is taken is an answer, and of the lock that nobody else asks for a strange one.)
                let is_lock = fault.call.number == libc::SYS_fcntl;
                let is_answer = is_lock && fault.errno == libc::EAGAIN;
                if !is_answer && BLAMES.iter().any(|&blame| self.seen.told.contains(blame)) {
                    self.wrong("it says that somebody has done something");
                }
                let is_left = |file| before.files.contains(file);
                let may_go = self.case.is_best_effort && now.files.iter().all(is_left);
                let is_there = |file| now.files.contains(file);
                let may_stay = fault.is_removal() && before.files.iter().all(is_there);
                if now.files != before.files && !may_go && !may_stay {
                    self.wrong(&format!(
                        "{:?} were there, and now {:?}",
                        before.files, now.files
                    ));
                }
                // What a handle keeps for the next time it may have made already.
                let most = before.maps.max(after[2]);
                if now.descriptors > before.descriptors || now.maps > most {
                    let [found, before] = [now.counts(), before.counts()];
                    self.expect("after the error", found, before);
                }
                self.look("after the error", self.case.unchanged);
            }
        }
    }

    /// What another process sees.
    fn look(&mut self, when: &str, check: fn(&Path)) {
        let peer = Peer::fork(|| check(self.dir));
        if waitpid(peer.0, None) != Ok(WaitStatus::Exited(peer.0, 0)) {
            self.wrong(&format!(
                "{when} another process does not see what it should"
            ));
        }
    }

    fn ended(&mut self) {
        self.look("in the end", self.case.changed);
    }
}
