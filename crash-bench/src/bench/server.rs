//! Servers: processes that play points, each in a fork of their own that never changed before.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::child::{Child, End};
use super::plan::Leg;
use super::point::{Mode, NO_END, Place, Played, Point, Recording, Sight, play, tidy};
use super::random;
use super::scenario::{Failure, Make, Seen};
use super::tracer::{Position, Victim};

/// Longest time for one point, or for a recording.
const PATIENCE: Duration = Duration::from_secs(600);

/// Longest request and reply in bytes.
const LONGEST: usize = 1 << 17;

/// Bit that marks a number of steps, where a breakpoint has an address.
const STEPS: u64 = 1 << 63;

/// The request for a recording.
const RECORD: u64 = u64::MAX;

/// What came of a point.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Everything as it must be, but for the outcome, which is to be compared.
    Fine(Sight),
    /// The victim did not come to that instruction.
    Missed,
    /// Something is wrong.
    Finding(String),
}

/// The servers of one scenario. They end with this value, and all that they have forked.
#[derive(Debug)]
pub(crate) struct Servers {
    _first: Child,
    requests: UnixDatagram,
    replies: UnixDatagram,
    recording: File,
}

impl Servers {
    /// Starts `count` servers, each with a directory of its own below `base`.
    pub(crate) fn start(make: Make, base: &Path, count: usize) -> Result<Self, Failure> {
        // Whoever is free takes the next request: all servers read from one socket.
        let (requests, inbox) = UnixDatagram::pair()?;
        let (replies, outbox) = UnixDatagram::pair()?;
        replies.set_read_timeout(Some(PATIENCE + Duration::from_secs(60)))?;
        let recording = tempfile::tempfile()?;
        let server = Server {
            make,
            inbox,
            outbox,
            recording: recording.try_clone()?,
        };
        let first = Child::fork(|| server.run(base, count))?;
        Ok(Self {
            _first: first,
            requests,
            replies,
            recording,
        })
    }

    /// Has the operation recorded. Once only.
    pub(crate) fn record(&self) -> Result<Recording, Failure> {
        self.requests
            .send(&bytes([RECORD, 0, 0, 0, 0, 0, 0].into_iter()))?;
        let rivals = match self.receive()? {
            (_, Reply::Fine(sight)) => sight.outcome,
            (_, Reply::Finding(text)) => return Err(text.into()),
            (_, Reply::Missed) => return Err("no recording".into()),
        };
        let mut bytes = Vec::new();
        (&self.recording).seek(SeekFrom::Start(0))?;
        (&self.recording).read_to_end(&mut bytes)?;
        let mut words = words(&bytes);
        let mut next = || Ok::<_, Failure>(words.next().ok_or("no recording")? as usize);
        let (calls, accesses) = (next()?, next()?);
        let calls = words.by_ref().take(calls).collect();
        let accesses = words.by_ref().take(accesses);
        let accesses = accesses.map(|n| n as usize).collect();
        let mut path = Vec::new();
        while let (Some(pointer), Some(stack)) = (words.next(), words.next()) {
            path.push(Position { pointer, stack });
        }
        Ok(Recording {
            path,
            calls,
            accesses,
            rivals: rivals.split_terminator(',').map(Into::into).collect(),
        })
    }

    /// Asks for a point.
    pub(crate) fn send(&self, point: Point, route: &[Leg]) -> Result<(), Failure> {
        let mode = Mode::ALL.iter().position(|mode| *mode == point.mode);
        let mode = mode.ok_or("no such mode")? as u64;
        let legs = route.iter().map(|leg| match *leg {
            Leg::RunTo(address) => address,
            Leg::Step(steps) => steps | STEPS,
        });
        let Position { pointer, stack } = point.position;
        let Place { n, m } = point.place;
        let rival = [point.rival as u64, u64::from(point.by_calls)];
        let head = [n as u64, m as u64, pointer, stack, mode, rival[0], rival[1]];
        self.requests.send(&bytes(head.into_iter().chain(legs)))?;
        Ok(())
    }

    /// The next reply, and the numbers of its point.
    pub(crate) fn receive(&self) -> Result<(Place, Reply), Failure> {
        let mut buffer = vec![0; LONGEST];
        let length = self.replies.recv(&mut buffer)?;
        let (head, reply) = buffer[..length].split_at_checked(32).ok_or("no reply")?;
        let mut head = words(head).map(|word| word as usize);
        let mut next = || head.next().ok_or("a short reply");
        let place = Place {
            n: next()?,
            m: next()?,
        };
        let passed = next()?;
        let next = Some(next()?).filter(|m| *m != NO_END);
        let text = || String::from_utf8_lossy(&reply[1..]).into_owned();
        let reply = match reply.first() {
            Some(b'+') => {
                let text = text();
                let (seen, outcome) = text.split_once(' ').ok_or("a short report")?;
                Reply::Fine(Sight {
                    seen: Seen::from_word(seen).ok_or("no report")?,
                    passed,
                    next,
                    outcome: outcome.into(),
                })
            }
            Some(b'?') => Reply::Missed,
            _ => Reply::Finding(text()),
        };
        Ok((place, reply))
    }
}

/// A server, as it is in its own process.
struct Server {
    make: Make,
    inbox: UnixDatagram,
    outbox: UnixDatagram,
    recording: File,
}

impl Server {
    /// Starts the others, and ends only if they do.
    fn run(&self, base: &Path, count: usize) -> Result<String, Failure> {
        self.warm_up(base)?;
        // All are forked at one place before any of them plays, so all are alike.
        let mut servers = Vec::with_capacity(count);
        for index in 0..count {
            servers.push(Child::fork(|| self.serve(base, index))?);
        }
        // They go with this process, and this one with the bench.
        for server in &servers {
            waitpid(server.pid(), None)?;
        }
        Err("the servers have ended".into())
    }

    /// Does once what happens before or around each point, so that what is made only once is there.
    fn warm_up(&self, base: &Path) -> Result<(), Failure> {
        let dir = base.join("warm");
        fs::create_dir(&dir)?;
        random::begin();
        Victim::start(&mut *(self.make)(&dir)?)?.kill();
        random::end();
        fs::remove_dir_all(&dir)?;
        Child::fork(|| Ok(String::new()))?.wait(PATIENCE)?;
        Ok(())
    }

    /// Serves until killed. Nothing here may leave the heap another than it was: what is forked from
    /// this process must be the same each time.
    fn serve(&self, base: &Path, index: usize) -> Result<String, Failure> {
        // Names of one length, for paths of one length.
        let dir = base.join(format!("{index:04}"));
        fs::create_dir(&dir)?;
        stay(index)?;
        let mut buffer = [0; LONGEST];
        loop {
            let length = self.inbox.recv(&mut buffer)?;
            let request = &buffer[..length];
            let player = Child::fork(|| {
                self.answer(&dir, request)?;
                Ok(String::new())
            })?;
            let problem = match player.wait(PATIENCE)? {
                End::Reported(Ok(_)) => continue,
                other => format!("the bench: {other:?}"),
            };
            let mut numbers = words(request);
            let mut next = || numbers.next().unwrap_or(RECORD);
            self.reply([next(), next(), 0], None, b'!', &problem)?;
        }
    }

    fn answer(&self, dir: &Path, request: &[u8]) -> Result<(), Failure> {
        let mut words = words(request);
        let mut next = || words.next().ok_or("a short request");
        let [n, m, pointer, stack] = [next()?, next()?, next()?, next()?];
        let [mode, rival, by_calls] = [next()?, next()?, next()?];
        let mode = Mode::ALL.get(mode as usize).ok_or("no such mode")?;
        let point = Point {
            place: Place {
                n: n as usize,
                m: m as usize,
            },
            position: Position { pointer, stack },
            mode: *mode,
            rival: rival as usize,
            by_calls: by_calls != 0,
        };
        let route = words.map(|word| match word & STEPS {
            0 => Leg::RunTo(word),
            _ => Leg::Step(word & !STEPS),
        });
        match play(self.make, dir, (n != RECORD).then_some((point, route))) {
            Ok(Played::Recorded(recording)) => {
                let rivals: String = recording
                    .rivals
                    .iter()
                    .map(|name| format!("{name},"))
                    .collect();
                self.write(recording)?;
                let sight = Sight {
                    seen: Seen::NOTHING,
                    passed: 0,
                    next: None,
                    outcome: rivals,
                };
                self.reply_fine(n, m, &sight)
            }
            Ok(Played::Seen(sight)) => self.reply_fine(n, m, &sight),
            Ok(Played::Missed) => self.reply([n, m, 0], None, b'?', ""),
            Err(error) => {
                // The next point must not be blamed for what this one has left.
                tidy(dir)?;
                self.reply([n, m, 0], None, b'!', &error.to_string())
            }
        }
    }

    fn write(&self, recording: Recording) -> Result<(), Failure> {
        let Recording {
            path,
            calls,
            accesses,
            ..
        } = recording;
        let head = [calls.len() as u64, accesses.len() as u64];
        let accesses = accesses.into_iter().map(|n| n as u64);
        let path = path.iter().flat_map(|at| [at.pointer, at.stack]);
        let words = head.into_iter().chain(calls).chain(accesses).chain(path);
        (&self.recording).write_all(&bytes(words))?;
        Ok(())
    }

    fn reply_fine(&self, n: u64, m: u64, sight: &Sight) -> Result<(), Failure> {
        let text = format!("{} {}", sight.seen.to_word(), sight.outcome);
        self.reply([n, m, sight.passed as u64], sight.next, b'+', &text)
    }

    fn reply(
        &self,
        head: [u64; 3],
        next: Option<usize>,
        tag: u8,
        text: &str,
    ) -> Result<(), Failure> {
        // (A rival that never stops is never the next one.)
        let next = next.unwrap_or(NO_END) as u64;
        let head = bytes(head.into_iter().chain([next]));
        let message = [&head[..], &[tag], text.as_bytes()].concat();
        self.outbox.send(&message)?;
        Ok(())
    }
}

/// Has this process, and all that it forks, stay on one processor. A step of a process under ptrace takes half as long
/// if its tracer is there, too.
fn stay(index: usize) -> Result<(), Failure> {
    let here = Pid::from_raw(0);
    let all = sched_getaffinity(here)?;
    let mut usable = (0..CpuSet::count()).filter(|n| all.is_set(*n).unwrap_or(false));
    let count = usable.clone().count().max(1);
    let mut one = CpuSet::new();
    one.set(usable.nth(index % count).ok_or("no processor")?)?;
    Ok(sched_setaffinity(here, &one)?)
}

fn bytes(words: impl Iterator<Item = u64>) -> Vec<u8> {
    words.flat_map(u64::to_le_bytes).collect()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let words = bytes.chunks_exact(8);
    words.filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
}
