//! Processes that have died in the middle of something, at an instant that is told by what stands in the
//! directory.

use std::sync::Mutex;

use nix::libc;

use super::streams::{Dict, Site};
use crate::bench::plan::{Leg, Routes};
use crate::bench::scenario::{Failure, NAME, Scenario, Scene, Seen, ensure};
use crate::bench::tracer::Victim;

/// How far somebody had come who died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// It had ended the log, and not begun to build the next generation.
    Sealed,
    /// It had given its generation a name.
    Named,
    /// Its generation had been elected, and nobody led there.
    Elected,
    /// It had named the first generation of a dictionary, and not the dictionary.
    Unnamed,
}

/// Somebody who will be killed.
struct Doomed<'a> {
    site: &'a Site,
    /// The dictionary whose next generation it begins; `None` for one who creates it.
    dict: Option<&'a Dict>,
}

impl Scenario for Doomed<'_> {
    fn enter(&mut self) -> Result<(), Failure> {
        if let Some(dict) = self.dict {
            dict.get(&0)?;
        }
        Ok(())
    }

    fn op(&mut self) -> Result<(), Failure> {
        match self.dict {
            Some(dict) => dict.dump()?,
            None => _ = self.site.options().create(NAME)?,
        }
        Ok(())
    }

    fn peer(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }

    fn newcomer(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }

    fn finish(&self, _: Scene) -> Result<Seen, Failure> {
        Ok(Seen::NOTHING)
    }
}

/// More instructions than it may be away from where another one was.
const ASTRAY: usize = 20_000;

/// Has somebody die who was so far, in that dictionary if there is one already.
pub(super) fn die(site: &Site, dict: Option<&Dict>, death: Death) -> Result<(), Failure> {
    // The rest of the way is looked for once, before any point is played.
    static KNOWN: Mutex<Option<Vec<Leg>>> = Mutex::new(None);
    let mut known = KNOWN.lock().map_err(|error| error.to_string())?;
    let before = site.files()?;
    let mut victim = Victim::start(&mut Doomed { site, dict })?;
    victim.run_to_call(match death {
        // The header of the next generation.
        Death::Sealed => libc::SYS_pwrite64,
        _ => libc::SYS_linkat,
    })?;
    match &*known {
        Some(route) => {
            victim.follow(route.iter().copied())?;
            for _ in 0..ASTRAY {
                if is_there(site, &before, death)? {
                    break;
                }
                ensure!(victim.follow([Leg::Step(1)].into_iter())?, "it did not die");
            }
        }
        None => {
            let mut path = vec![victim.position()?.pointer];
            while !is_there(site, &before, death)? {
                ensure!(victim.follow([Leg::Step(1)].into_iter())?, "it did not die");
                path.push(victim.position()?.pointer);
            }
            let last = path.len() - 1;
            *known = Some(Routes::new(path).to(last));
        }
    }
    victim.kill();
    ensure!(is_there(site, &before, death)?, "nobody died like that");
    Ok(())
}

/// Whether it has come so far.
fn is_there(site: &Site, before: &[String], death: Death) -> Result<bool, Failure> {
    let generation = || before.last().ok_or("no generation");
    if death == Death::Sealed {
        return Ok(site.words(generation()?)?.contains(&u64::MAX));
    }
    let files = site.files()?;
    let new = files.iter().find(|name| !before.contains(name));
    let Some(new) = new else { return Ok(false) };
    if death != Death::Elected {
        return Ok(true);
    }
    let (_, id) = new.rsplit_once('.').ok_or("no id")?;
    let id = u64::from_str_radix(id, 16)?;
    Ok(site.words(generation()?)?.contains(&id))
}
