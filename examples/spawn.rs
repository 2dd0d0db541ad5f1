//! Hands a dictionary without a name to programs that are started afresh, not forked.
//!
//! ```text
//! cargo run --example spawn
//! ```
//!
//! What is handed over is the descriptor of the segment. It is close-on-exec, so a spawned program
//! does not get it by accident; a copy of it as standard input is the plainest way to give it on
//! purpose. The program needs to know nothing else: no name, no capacity.
//!
//! Here the spawned program is this one itself, with the word `child` as its argument. Unlike after
//! a fork, it does not matter how many threads the parent has.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        None => linux::parent(),
        Some("child") => linux::child(),
        Some(_) => Err("usage: spawn".into()),
    }
}

#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
fn main() {
    println!("handing over a descriptor takes Linux, and forkmap without the feature `portable`");
}

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux {
    use std::env;
    use std::error::Error;
    use std::io;
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    use forkmap::AtomicDict;

    const CHILDREN: u64 = 4;
    const ROUNDS: u64 = 100_000;
    const TOTAL: u64 = 0;

    pub(crate) fn parent() -> Result<(), Box<dyn Error>> {
        let dict = AtomicDict::anonymous(1)?;

        let children: Vec<Child> = (0..CHILDREN)
            .map(|_| {
                Command::new(env::current_exe()?)
                    .arg("child")
                    .stdin(Stdio::from(dict.as_fd().try_clone_to_owned()?))
                    .spawn()
            })
            .collect::<io::Result<_>>()?;

        for mut child in children {
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("a child failed: {status}").into());
            }
        }
        let total = dict.load(TOTAL);
        if total != CHILDREN * ROUNDS {
            return Err(format!("the children counted {total}, not {}", CHILDREN * ROUNDS).into());
        }
        println!("{CHILDREN} programs counted to {total}");
        Ok(())
    }

    pub(crate) fn child() -> Result<(), Box<dyn Error>> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let total = AtomicDict::options().from_fd(stdin)?.entry(TOTAL)?;
        for _ in 0..ROUNDS {
            total.fetch_add(1);
        }
        Ok(())
    }
}
