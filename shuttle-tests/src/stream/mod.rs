//! Random programs over the logs and the control of `StreamDict`. The processes are those of the loom models:
//! there they say digits, here they have keys.

mod history;
#[cfg(shuttle)]
mod play;
// `World`, `Replica` and what goes with them are those of this directory.
#[cfg(shuttle)]
#[path = "../../../loom-tests/src/stream/process.rs"]
mod process;
#[cfg(shuttle)]
mod program;
#[cfg(shuttle)]
mod world;

pub use self::history::{Answer, Op, Record, Replica, is_explained};
#[cfg(shuttle)]
pub use self::process::{Process, Unlinked};
#[cfg(shuttle)]
pub use self::program::{Kind, Program, Shape, Step};
#[cfg(shuttle)]
pub use self::world::World;
