//! Servers: processes that play points, each in a fork of their own that never changed before.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::wait::waitpid;

use super::child::{Child, End};
use super::plan::Leg;
use super::point::{Played, Point, Recording, play, tidy};
use super::random;
use super::scenario::{Failure, Fate, Make, Seen};
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
    /// Everything as it must be.
    Fine(Seen),
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
        self.requests.send(&bytes([RECORD, 0, 0, 0].into_iter()))?;
        match self.receive()? {
            (_, Reply::Finding(text)) => return Err(text.into()),
            (_, Reply::Fine(_) | Reply::Missed) => {}
        }
        let mut bytes = Vec::new();
        (&self.recording).seek(SeekFrom::Start(0))?;
        (&self.recording).read_to_end(&mut bytes)?;
        let mut words = words(&bytes);
        let calls = words.next().ok_or("no recording")? as usize;
        let calls = words.by_ref().take(calls).collect();
        let mut path = Vec::new();
        while let (Some(pointer), Some(stack)) = (words.next(), words.next()) {
            path.push(Position { pointer, stack });
        }
        Ok(Recording { path, calls })
    }

    /// Asks for a point.
    pub(crate) fn send(&self, point: Point, route: &[Leg]) -> Result<(), Failure> {
        let fate = u64::from(point.fate == Fate::Killed);
        let legs = route.iter().map(|leg| match *leg {
            Leg::RunTo(address) => address,
            Leg::Step(steps) => steps | STEPS,
        });
        let Position { pointer, stack } = point.position;
        let head = [point.n as u64, pointer, stack, fate];
        self.requests.send(&bytes(head.into_iter().chain(legs)))?;
        Ok(())
    }

    /// The next reply, and the number of its point.
    pub(crate) fn receive(&self) -> Result<(usize, Reply), Failure> {
        let mut buffer = vec![0; LONGEST];
        let length = self.replies.recv(&mut buffer)?;
        let (n, reply) = buffer[..length].split_first_chunk().ok_or("no reply")?;
        let text = || String::from_utf8_lossy(&reply[1..]).into_owned();
        let reply = match reply.first() {
            Some(b'+') => Reply::Fine(Seen::from_word(&text()).ok_or("no report")?),
            Some(b'?') => Reply::Missed,
            _ => Reply::Finding(text()),
        };
        Ok((u64::from_le_bytes(*n) as usize, reply))
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
            let n = words(request).next().unwrap_or(RECORD);
            self.reply(n, b'!', &problem)?;
        }
    }

    fn answer(&self, dir: &Path, request: &[u8]) -> Result<(), Failure> {
        let mut words = words(request);
        let mut next = || words.next().ok_or("a short request");
        let [n, pointer, stack, fate] = [next()?, next()?, next()?, next()?];
        let point = Point {
            n: n as usize,
            position: Position { pointer, stack },
            fate: if fate == 0 {
                Fate::Stopped
            } else {
                Fate::Killed
            },
        };
        let route = words.map(|word| match word & STEPS {
            0 => Leg::RunTo(word),
            _ => Leg::Step(word & !STEPS),
        });
        match play(self.make, dir, (n != RECORD).then_some((point, route))) {
            Ok(Played::Recorded(recording)) => {
                self.write(recording)?;
                self.reply(n, b'+', &Seen::NOTHING.to_word())
            }
            Ok(Played::Seen(seen)) => self.reply(n, b'+', &seen.to_word()),
            Ok(Played::Missed) => self.reply(n, b'?', ""),
            Err(error) => {
                // The next point must not be blamed for what this one has left.
                tidy(dir)?;
                self.reply(n, b'!', &error.to_string())
            }
        }
    }

    fn write(&self, Recording { path, calls }: Recording) -> Result<(), Failure> {
        let count = calls.len() as u64;
        let path = path.iter().flat_map(|at| [at.pointer, at.stack]);
        let words = [count].into_iter().chain(calls).chain(path);
        (&self.recording).write_all(&bytes(words))?;
        Ok(())
    }

    fn reply(&self, n: u64, tag: u8, text: &str) -> Result<(), Failure> {
        let message = [&n.to_le_bytes()[..], &[tag], text.as_bytes()].concat();
        self.outbox.send(&message)?;
        Ok(())
    }
}

fn bytes(words: impl Iterator<Item = u64>) -> Vec<u8> {
    words.flat_map(u64::to_le_bytes).collect()
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let words = bytes.chunks_exact(8);
    words.filter_map(|word| word.try_into().ok().map(u64::from_le_bytes))
}
