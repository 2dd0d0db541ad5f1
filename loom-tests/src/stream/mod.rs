//! A `StreamDict` in miniature: the logs and the control are those that ship, the file system is a word for
//! each name, and what a process has read is a list of digits.

mod digits;
mod process;
mod world;

pub use self::digits::{Digit, History, check_order, digits, is_prefix};
pub use self::process::{Process, Unlinked};
pub use self::world::{Shape, World};
