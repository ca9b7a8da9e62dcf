//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Four processes share a cache through Redis while every plug is pulled.

usage: cluster_of_processes [redis://127.0.0.1:PORT] [--phase SECONDS]

  redis://...        a server on this machine; default: one of its own
  --phase SECONDS    how long each phase lasts, 1 to 60; default: 4";

/// The parsed command line.
pub(crate) struct Options {
    pub(crate) role: Role,
    /// The port of a given server.
    pub(crate) server: Option<u16>,
    pub(crate) phase: Duration,
}

/// The role of this process.
pub(crate) enum Role {
    /// The process that starts the others and injects the faults.
    Parent,
    /// A process that shares the cache.
    Node(Place),
}

/// The location of a node.
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) url: String,
    pub(crate) namespace: String,
    pub(crate) dir: PathBuf,
}

impl Place {
    /// The arguments that [`Options::parse`] reads this from.
    pub(crate) fn arguments(&self) -> [String; 5] {
        let dir = self.dir.display().to_string();
        ["--node".to_owned(), self.number.to_string(), self.url.clone(), self.namespace.clone(), dir]
    }
}

impl Options {
    /// Parses the arguments; `None` if they ask for help.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Outcome<Option<Self>> {
        let mut options = Self { role: Role::Parent, server: None, phase: Duration::from_secs(4) };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--help" | "-h" => return Ok(None),
                "--phase" => options.phase = seconds(&args.next().unwrap_or_default())?,
                "--node" => options.role = Role::Node(place(&mut args).ok_or("--node takes four words")?),
                url if url.starts_with("redis://") => options.server = Some(port(url)?),
                unknown => return Err(format!("`{unknown}` is not known\n\n{USAGE}").into()),
            }
        }
        Ok(Some(options))
    }
}

fn place(args: &mut impl Iterator<Item = String>) -> Option<Place> {
    let number = args.next()?.parse().ok()?;
    Some(Place { number, url: args.next()?, namespace: args.next()?, dir: args.next()?.into() })
}

fn seconds(given: &str) -> Outcome<Duration> {
    match given.parse() {
        Ok(seconds @ 1..=60) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("--phase: given `{given}`, allowed 1 to 60 (seconds)").into()),
    }
}

/// The proxies to the server start in this process, so the server must be local.
fn port(url: &str) -> Outcome<u16> {
    let host = url.trim_start_matches("redis://").trim_end_matches('/');
    let port = ["127.0.0.1", "localhost"].iter().find_map(|name| host.strip_prefix(name)?.strip_prefix(':'));
    let port = port.and_then(|port| port.parse().ok());
    port.ok_or_else(|| format!("given `{url}`, allowed redis://127.0.0.1:PORT").into())
}
