//! A `StreamDict` in miniature: the logs and the control are those that ship, the file system is a word for
//! each name, and what a process has read is a list of digits.

mod process;
mod world;

pub use self::process::{Process, Unlinked, check_order, digits, is_prefix};
pub use self::world::{Digit, History, Shape, World};
