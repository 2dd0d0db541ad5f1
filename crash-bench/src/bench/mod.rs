//! The bench: one file a layer, each importing only from those below it.
//!
//! ```text
//! cli                 options, the table
//! session             one scenario in one mode: which points, what came of them
//! server              processes that play points one after the other
//! point  scenarios/   one point: a fresh segment, a victim, those who go on without it;
//!                     what the victim does, and what must hold
//! tracer   judge      ptrace; a check with limits on CPU time, time asleep and patience
//! access              which memory an instruction accesses
//! scenario plan child what a scenario is; how to get to an instruction fast; forked children
//! random              the same random numbers each time
//! ```
//!
//! **Points.** The victim is single-stepped through its operation once, and every instruction
//! pointer recorded. To stop another victim before instruction `n`, a *route* leads there: mostly
//! breakpoints at well-chosen instructions, then a few single steps.
//!
//! **The same path each time.** That works only if every victim takes the very same path. So each
//! point is played by a fresh fork of one and the same process, the server, which never changes: the
//! same addresses, the same heap, the same keys of hash maps, the same random numbers. Victims are
//! forked, not spawned; for `forkmap` they are processes that were attached before.
//!
//! **Pairs.** What a stopped process does next depends only on what it has in hand and on what is shared. So
//! where two instants are chosen, for one process or for two, they lie before *accesses*: system calls,
//! and instructions that read or write memory which others have mapped, too. All other instants are like
//! the next one of those.
//!
//! **Pairs that are alike.** Where a rival is stopped and the victim goes on to its end, both are stepped, and their
//! accesses compared: two *commute* if they are about different bytes, or if neither writes. (A system call commutes
//! with nothing.) If the next access of the rival commutes with all that the victim has done meanwhile, it makes no
//! difference which comes first: the pair with the rival stopped after it leads to the same, and is left out. This is
//! partial-order reduction, as in Flanagan and Godefroid, "Dynamic partial-order reduction for model checking
//! software" (2005), for two processes each of which is interrupted once. It is complete for sequentially
//! consistent memory: what a processor does later than its program says, loom and Miri try.
//!
//! **Rivals.** What two operations must have come to is not computed but seen: both are done one after the other
//! first, in either order, and any other pair of instants must lead to what one of the orders has led to.

mod access;
mod child;
pub(crate) mod cli;
mod judge;
mod plan;
mod point;
mod random;
mod scenario;
mod scenarios;
mod server;
mod session;
mod tracer;
