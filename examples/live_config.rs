//! Nested configuration that lives: one program edits it, and others hear at once of what is theirs.
//!
//! ```text
//! cargo run --release --example live_config
//! ```
//!
//! The configuration is a `StreamDict` with maps in it: `services` has a section for each service, and in that there
//! are settings and more maps. The program starts three services, as
//!
//! ```text
//! live_config serve NAME SERVICE
//! ```
//!
//! and edits their sections: a few settings at once, whole maps, and at times the whole section is replaced. Each
//! service watches its own section and nothing else. It sleeps until something in there changes, brings its settings
//! up to date with what it is told, sees that what is edited together has come together, and says which version it
//! has. In the end the settings of each are compared with what the configuration has: exit status 1 if they differ.

use std::error::Error;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use forkmap::{Node, StreamDict, StreamError, Tree, WatchEvent};

const SERVICES: [&str; 3] = ["web", "mail", "search"];
const EDITS: usize = 3000;
/// Edits after which a section is replaced by another one.
const REPLACED: usize = 50;
const A_WHILE: Duration = Duration::from_secs(60);

type Config = StreamDict<str, str>;
type Settings = Tree<String, String>;

/// A setting, by the keys that lead to it.
fn setting<'s>(settings: &'s Settings, path: &[&str]) -> Option<&'s str> {
    let (first, rest) = path.split_first()?;
    match (settings.get(*first)?, rest) {
        (Node::Value(value), []) => Some(value),
        (Node::Map(map), rest) => setting(map, rest),
        _ => None,
    }
}

/// What every edit keeps: the pool has as many connections as each of its hosts has together.
fn check(settings: &Settings) -> Result<(), String> {
    let number = |value: Option<&str>| value?.parse::<usize>().ok();
    let size = number(setting(settings, &["pool", "size"]));
    let Some(Node::Map(hosts)) = settings.get("hosts") else {
        return Err(format!("no hosts: {settings:?}"));
    };
    let hosts = hosts
        .iter()
        .map(|(_, node)| number(node.value().map(String::as_str)));
    match hosts.sum::<Option<usize>>() {
        sum if sum == size => Ok(()),
        sum => Err(format!("{sum:?} connections, and {size:?} in the pool")),
    }
}

/// A service: lives with its section until that says `stop`.
fn serve(name: &str, service: &str) -> Result<(), Box<dyn Error>> {
    let config = Config::open(name)?;
    let (versions, reports) = (config.nested("versions")?, config.nested("reports")?);
    let mut told = 0;
    // Once for each section that there is under this name, one after the other.
    loop {
        let Some(section) = config.nested("services")?.get_nested(service)? else {
            return Err("there is no such service".into());
        };
        match live(
            &section,
            |version| versions.set(service, version),
            &mut told,
        ) {
            Err(error) if matches!(error.downcast_ref(), Some(StreamError::Gone)) => {}
            Err(error) => return Err(error),
            Ok(settings) => {
                reports.set(service, &format!("{told} {settings:?}"))?;
                return Ok(());
            }
        }
    }
}

fn is_told(fits: bool) -> Result<(), &'static str> {
    fits.then_some(())
        .ok_or("something changes in a map that was not told of")
}

fn live(
    section: &Config,
    tell: impl Fn(&str) -> Result<(), StreamError>,
    told: &mut usize,
) -> Result<Settings, Box<dyn Error>> {
    let (mut settings, position) = {
        let view = section.view()?;
        (view.tree()?, view.position())
    };
    let mut watch = section.watch()?.since(position)?;
    check(&settings)?;
    tell(setting(&settings, &["version"]).unwrap_or_default())?;
    while setting(&settings, &["stop"]).is_none() {
        match watch.next_within(A_WHILE)? {
            None => return Err("nothing has changed for a minute".into()),
            Some(WatchEvent::Changed { change, .. }) => {
                *told += 1;
                // Each edit ends with the version.
                let is_whole = change.path.is_empty() && change.key == "version";
                is_told(settings.apply(change))?;
                if !is_whole || !settings.iter().any(|(key, _)| key == "version") {
                    continue;
                }
            }
            Some(WatchEvent::Lagged) => continue,
            Some(WatchEvent::Resync {
                changes, is_whole, ..
            }) => {
                if is_whole {
                    settings = Settings::new();
                }
                for change in changes {
                    is_told(settings.apply(change))?;
                }
            }
        }
        check(&settings)?;
        tell(setting(&settings, &["version"]).unwrap_or_default())?;
    }
    Ok(settings)
}

/// A section as it may be in edit `n`.
fn section(n: usize) -> Settings {
    let hosts: Vec<_> = (0..1 + n % 4)
        .map(|host| (format!("host-{host}"), n % 7 + host))
        .collect();
    let size: usize = hosts.iter().map(|(_, size)| size).sum();
    let text = |size: usize| size.to_string();
    let mut settings = Settings::new();
    let pool = [("size", text(size)), ("idle", text(n % 30))];
    let pool = pool.map(|(key, value)| (key.to_owned(), value));
    settings.insert("pool".into(), Node::Map(Tree::from_iter(pool)));
    let hosts = hosts.into_iter().map(|(host, size)| (host, text(size)));
    settings.insert("hosts".into(), Node::Map(hosts.collect()));
    settings.insert("version".into(), Node::Value(text(n)));
    settings
}

/// Edits the section of a service.
fn edit(config: &Config, service: &str, n: usize) -> Result<(), StreamError> {
    let next = section(n);
    config.transaction(|tx| {
        let mut services = tx.nested("services")?;
        if n % REPLACED < SERVICES.len() {
            return services.set_node(service, &Node::Map(next.clone()));
        }
        let mut section = services.nested(service)?;
        for (key, node) in next.iter() {
            match (key.as_str(), node) {
                // Setting by setting.
                ("pool", Node::Map(pool)) => {
                    let mut now = section.nested("pool")?;
                    for (key, node) in pool.iter() {
                        now.set_node(key, node)?;
                    }
                }
                _ => section.set_node(key, node)?,
            }
        }
        Ok(())
    })
}

fn run() -> Result<(), Box<dyn Error>> {
    let name = format!("live-config-{}", std::process::id());
    let mut options = Config::options();
    let config = options
        .unlink_on_drop(true)
        .log_bytes(1 << 18)
        .create(&name)?;
    for service in SERVICES {
        edit(&config, service, 0)?;
    }
    let program = std::env::current_exe()?;
    let start = |service: &&str| {
        Command::new(&program)
            .args(["serve", &name, service])
            .spawn()
    };
    let mut services: Vec<Child> = SERVICES.iter().map(start).collect::<Result<_, _>>()?;
    let versions = config.nested("versions")?;
    let mut took = Vec::new();
    for n in 0..=EDITS {
        let service = SERVICES[n % SERVICES.len()];
        let start = Instant::now();
        edit(&config, service, n)?;
        loop {
            let seen = config.position()?;
            if versions
                .get(service)?
                .is_some_and(|version| version == n.to_string())
            {
                break;
            }
            if config.wait_for_change(seen, A_WHILE)?.is_none() {
                return Err(format!("{service} does not hear").into());
            }
        }
        // (At the first they are still starting.)
        if n >= SERVICES.len() {
            took.push(start.elapsed());
        }
    }
    for service in SERVICES {
        config
            .nested("services")?
            .nested(service)?
            .set("stop", "now")?;
    }
    for child in &mut services {
        if !child.wait()?.success() {
            return Err("a service failed".into());
        }
    }
    let mut told = 0;
    for service in SERVICES {
        let report = config.nested("reports")?.get(service)?.unwrap_or_default();
        let (count, settings) = report.split_once(' ').ok_or("no report")?;
        let expected = config.nested("services")?.nested(service)?;
        let expected = format!("{:?}", expected.view()?);
        if settings != expected {
            return Err(format!("check: WRONG, {service} has {settings}, not {expected}").into());
        }
        println!("{service}: {count} changes told, in the end {settings}");
        told += count.parse::<usize>()?;
    }
    took.sort();
    let at = |part: f64| took[(took.len() as f64 * part) as usize];
    println!(
        "from the edit to the answer of the service: median {:.1?}, 99 of 100 within {:.1?}",
        at(0.5),
        at(0.99)
    );
    println!(
        "check: {} services have lived through {EDITS} edits, {told} changes, each in its order",
        SERVICES.len()
    );
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [] => run(),
        ["serve", name, service] => serve(name, service),
        _ => Err("usage: live_config [serve NAME SERVICE]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live_config: {error}");
            ExitCode::FAILURE
        }
    }
}
