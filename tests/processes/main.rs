//! Tests with real processes: forked, spawned, unrelated, killed.
//!
//! This program is its own child. Before it starts any thread it looks whether it was started in a
//! *role*; a role may fork freely, because nothing else runs in its process. So no test forks.

#[path = "../common/mod.rs"]
mod common;
mod fork;

#[cfg(not(feature = "portable"))]
mod barriers;
#[cfg(not(feature = "portable"))]
mod chaos;
#[cfg(not(feature = "portable"))]
mod counting;
#[cfg(not(feature = "portable"))]
mod creating;
#[cfg(all(not(feature = "portable"), target_arch = "x86_64"))]
mod failing_calls;
#[cfg(all(not(feature = "portable"), target_arch = "x86_64"))]
mod failing_calls_cases;
#[cfg(not(feature = "portable"))]
mod forking;
#[cfg(not(feature = "portable"))]
mod history;
#[cfg(not(feature = "portable"))]
mod locks;
#[cfg(not(feature = "portable"))]
mod maps;
#[cfg(not(feature = "portable"))]
mod maps_counting;
#[cfg(not(feature = "portable"))]
mod maps_full;
#[cfg(not(feature = "portable"))]
mod maps_keys;
#[cfg(not(feature = "portable"))]
mod maps_killed;
#[cfg(not(feature = "portable"))]
mod maps_waiting;
#[cfg(not(feature = "portable"))]
mod maps_writers;
#[cfg(not(feature = "portable"))]
mod participants;
#[cfg(not(feature = "portable"))]
mod peer;
#[cfg(feature = "portable")]
mod portable;
#[cfg(not(feature = "portable"))]
mod primitives;
#[cfg(not(feature = "portable"))]
mod registering;
#[cfg(not(feature = "portable"))]
mod resources;
#[cfg(not(feature = "portable"))]
mod stepping;
#[cfg(not(feature = "portable"))]
mod storm;
#[cfg(not(feature = "portable"))]
mod storm_dict;
#[cfg(not(feature = "portable"))]
mod storm_primitives;
#[cfg(not(feature = "portable"))]
mod storm_stream;
#[cfg(not(feature = "portable"))]
mod streams;
#[cfg(not(feature = "portable"))]
mod streams_forked;
#[cfg(not(feature = "portable"))]
mod streams_full;
#[cfg(not(feature = "portable"))]
mod streams_killed;
#[cfg(not(feature = "portable"))]
mod streams_names;
#[cfg(not(feature = "portable"))]
mod streams_nested;
#[cfg(not(feature = "portable"))]
mod streams_places;
#[cfg(not(feature = "portable"))]
mod streams_read;
#[cfg(not(feature = "portable"))]
mod streams_readers;
#[cfg(not(feature = "portable"))]
mod streams_stepping;
#[cfg(not(feature = "portable"))]
mod streams_waiting;
#[cfg(not(feature = "portable"))]
mod streams_watching;
#[cfg(not(feature = "portable"))]
mod waiting;

use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};

/// What a child process does, by name; its arguments come from the command line.
type Role = (&'static str, fn(&[String]));

const ROLE: &str = "FORKMAP_TEST_ROLE";

fn main() -> ExitCode {
    #[cfg(not(feature = "portable"))]
    let (roles, tests) = (
        [
            barriers::ROLES,
            chaos::ROLES,
            counting::ROLES,
            creating::ROLES,
            #[cfg(target_arch = "x86_64")]
            failing_calls::ROLES,
            forking::ROLES,
            locks::ROLES,
            maps::ROLES,
            maps_counting::ROLES,
            maps_full::ROLES,
            maps_keys::ROLES,
            maps_killed::ROLES,
            maps_waiting::ROLES,
            maps_writers::ROLES,
            participants::ROLES,
            primitives::ROLES,
            registering::ROLES,
            resources::ROLES,
            stepping::ROLES,
            storm_dict::ROLES,
            storm_primitives::ROLES,
            storm_stream::ROLES,
            streams::ROLES,
            streams_forked::ROLES,
            streams_full::ROLES,
            streams_killed::ROLES,
            streams_names::ROLES,
            streams_nested::ROLES,
            streams_places::ROLES,
            streams_read::ROLES,
            streams_readers::ROLES,
            streams_stepping::ROLES,
            streams_waiting::ROLES,
            streams_watching::ROLES,
            waiting::ROLES,
        ]
        .concat(),
        [
            barriers::tests(),
            chaos::tests(),
            counting::tests(),
            creating::tests(),
            #[cfg(target_arch = "x86_64")]
            failing_calls::tests(),
            forking::tests(),
            history::tests(),
            locks::tests(),
            maps::tests(),
            maps_counting::tests(),
            maps_full::tests(),
            maps_keys::tests(),
            maps_killed::tests(),
            maps_waiting::tests(),
            maps_writers::tests(),
            participants::tests(),
            primitives::tests(),
            registering::tests(),
            resources::tests(),
            stepping::tests(),
            storm_dict::tests(),
            storm_primitives::tests(),
            storm_stream::tests(),
            streams::tests(),
            streams_forked::tests(),
            streams_full::tests(),
            streams_killed::tests(),
            streams_names::tests(),
            streams_nested::tests(),
            streams_places::tests(),
            streams_read::tests(),
            streams_readers::tests(),
            streams_stepping::tests(),
            streams_waiting::tests(),
            streams_watching::tests(),
            waiting::tests(),
        ]
        .into_iter()
        .flatten()
        .collect(),
    );
    #[cfg(feature = "portable")]
    let (roles, tests) = (portable::ROLES, portable::tests());
    if let Ok(name) = std::env::var(ROLE) {
        let role = roles
            .iter()
            .find(|role| role.0 == name)
            .expect("a known role");
        let args: Vec<String> = std::env::args().skip(1).collect();
        role.1(&args);
        return ExitCode::SUCCESS;
    }
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn test(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}

/// This program in a role, ready to be started.
fn command(role: &str, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, role).args(args).stdin(Stdio::null());
    command
}

fn spawn(role: &str, args: &[&str]) -> Child {
    command(role, args).spawn().unwrap()
}

/// Runs this program in a role to its end, which must be a good one. A role may print `SKIPPED`.
fn run(role: &str, args: &[&str]) -> String {
    let output = command(role, args)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.contains("SKIPPED"))
        .for_each(|line| eprintln!("{line}"));
    assert!(output.status.success(), "{role}: {}\n{text}", output.status);
    text
}

fn wait_all(children: impl IntoIterator<Item = Child>) {
    // An iterator may start them as it goes: all are to run at once.
    let children: Vec<_> = children.into_iter().collect();
    // All of them first, so that none is left behind when one has failed.
    let ends: Vec<_> = children
        .into_iter()
        .map(|mut child| child.wait().unwrap())
        .collect();
    assert!(ends.iter().all(|end| end.success()), "{ends:?}");
}
