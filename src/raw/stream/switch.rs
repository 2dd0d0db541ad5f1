//! From a sealed generation to the next.
//!
//! Every generation has an id of its own, drawn at random, and a name made of that; so a name that was
//! removed never comes back. Who builds one writes it in private, notes its id in its own row, names it,
//! and stands for *election*: one exchange of a word of the sealed generation, which happens once. (The
//! name elects nobody: if generations had numbered names, a late builder could take that of a generation
//! that is gone, and fork the history.)
//!
//! Who loses removes its own name again. Who enters a new generation removes the name of the one before.
//! And who dies in between leaves at most one name for each of these, that the next one removes. (What the
//! system did not let be removed is tried once more before the next generation begins; then it is outdated,
//! and stays until somebody looks for it.)

use super::control::{Control, Row};
use super::log::Log;
use crate::sync::{Access, store_then_load};

/// The generations that have names.
pub trait Generations {
    type Generation: Generation;
    type Error;

    /// Opens a generation; `None` if nothing has its name.
    fn open(&self, id: u64) -> Result<Option<Self::Generation>, Self::Error>;

    /// Removes the name of a generation, if it has one.
    fn unlink(&self, id: u64);

    /// Gives a new generation its name.
    fn link(&self, generation: &Self::Generation) -> Result<(), Self::Error>;
}

/// One of them.
pub trait Generation {
    fn id(&self) -> u64;

    /// The id of the one before; 0 if there was none.
    fn previous(&self) -> u64;

    fn log(&self) -> Log<'_>;
}

/// Why there is no way on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost<E> {
    /// The dictionary was unlinked.
    Unlinked,
    /// The current generation has no name any more: somebody has removed it who should not have.
    Gone,
    /// A generation could not be opened, or not be named.
    Failed(E),
}

/// Where one comes to from a sealed generation.
#[derive(Debug)]
pub enum Followed<G> {
    /// The next one has not been elected yet.
    NotYet,
    /// The next one: it begins with what the last one ended with.
    Next(G),
    /// A later one: what is in it has to be read.
    Later(G),
}

/// The current generation, for one who knows none.
pub fn attach<S: Generations>(
    control: &Control<'_>,
    names: &S,
) -> Result<S::Generation, Lost<S::Error>> {
    loop {
        let id = control.current();
        if let Some(generation) = names.open(id).map_err(Lost::Failed)? {
            enter(control, names, &generation);
            return Ok(generation);
        }
        // Its name is removed only after `current` leads on.
        if control.is_unlinked() {
            return Err(Lost::Unlinked);
        }
        if control.current() == id {
            return Err(Lost::Gone);
        }
    }
}

/// Removes the name of the generation before, which everybody can do without now.
pub fn enter<S: Generations>(control: &Control<'_>, names: &S, generation: &S::Generation) {
    if control.access() == Access::ReadWrite && generation.previous() != 0 {
        names.unlink(generation.previous());
    }
}

/// What comes behind a generation that is sealed, and read to its end.
pub fn follow<S: Generations>(
    control: &Control<'_>,
    names: &S,
    sealed: &S::Generation,
) -> Result<Followed<S::Generation>, Lost<S::Error>> {
    let id = sealed.log().next_generation();
    if id == 0 {
        return Ok(Followed::NotYet);
    }
    if control.access() == Access::ReadWrite {
        // Before the name of this one is removed: until then newcomers are led here.
        control.advance(sealed.id(), id);
    }
    match names.open(id).map_err(Lost::Failed)? {
        Some(next) => {
            enter(control, names, &next);
            Ok(Followed::Next(next))
        }
        // Later ones have come since: or it is gone, and nobody was led to it.
        None => match attach(control, names)? {
            later if later.id() == sealed.id() => Err(Lost::Gone),
            later => Ok(Followed::Later(later)),
        },
    }
}

/// Stands for election with `candidate`, whose dump is what `sealed` ended with: the one that won, or what
/// came of it.
pub fn elect<S: Generations>(
    control: &Control<'_>,
    names: &S,
    row: Row<'_>,
    sealed: &S::Generation,
    candidate: S::Generation,
) -> Result<Followed<S::Generation>, Lost<S::Error>> {
    let id = candidate.id();
    row.set_candidate(id);
    if let Err(error) = names.link(&candidate) {
        row.set_candidate(0);
        return Err(Lost::Failed(error));
    }
    // After it has its name: of us and who unlinks the dictionary, at least one sees the other.
    store_then_load();
    if control.is_unlinked() {
        names.unlink(id);
        row.set_candidate(0);
        return Err(Lost::Unlinked);
    }
    if sealed.log().elect(id).is_err() {
        names.unlink(id);
        row.set_candidate(0);
        return follow(control, names, sealed);
    }
    control.advance(sealed.id(), id);
    row.set_candidate(0);
    enter(control, names, &candidate);
    Ok(Followed::Next(candidate))
}

/// Removes what a dead participant was building, unless that has won. By whoever holds the right to its
/// slot.
pub fn clean<S: Generations>(
    control: &Control<'_>,
    names: &S,
    row: Row<'_>,
) -> Result<(), S::Error> {
    let candidate = row.candidate();
    if candidate == 0 {
        return Ok(());
    }
    loop {
        let current = control.current();
        if current == candidate {
            break;
        }
        match names.open(current)? {
            Some(generation) if generation.log().next_generation() == candidate => {
                // It has won, and nobody was led to it yet.
                control.advance(current, candidate);
            }
            // Others have come since: look again.
            None if !control.is_unlinked() && control.current() != current => continue,
            // It lost, or others came after it; or all names are to go. (It cannot win any more: its
            // builder is dead.)
            _ => names.unlink(candidate),
        }
        break;
    }
    row.set_candidate(0);
    Ok(())
}
