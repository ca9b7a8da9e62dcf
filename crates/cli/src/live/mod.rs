//! Processes that run, over the sockets of their observed caches.

mod connection;
mod diagnosis;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::args::Arguments;
use crate::catalog;
use crate::exit::Outcome;
use connection::Connection;
pub(crate) use diagnosis::{LiveFinding, diagnosis};

/// The most processes that are looked into at a time.
const PROCESSES_MAX: usize = 32;

/// What a process said of its caches.
#[derive(Clone, Debug)]
pub(crate) struct ProcessReading {
    pub(crate) pid: u64,
    pub(crate) program: String,
    pub(crate) caches: Vec<Json>,
}

/// The observed processes of this user.
pub(crate) struct Processes {
    folders: Vec<PathBuf>,
    cache: Option<String>,
    connections: BTreeMap<u64, Connection>,
}

impl Processes {
    /// Those with a socket in the chosen folder, and, unless `--dir` is given, in the runtime directory.
    pub(crate) fn chosen(arguments: &Arguments) -> Outcome<Self> {
        let mut folders: Vec<PathBuf> = match catalog::all(arguments) {
            Ok(found) => found.into_iter().map(|cache| cache.path).collect(),
            // A program without a directory has no cache folder.
            Err(_) if arguments.dir.is_none() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        if let Some(dir) = &arguments.dir {
            folders.push(dir.clone());
        } else {
            folders.extend(larder::observation::runtime_dir());
        }
        Ok(Self { folders, cache: arguments.cache.clone(), connections: BTreeMap::new() })
    }

    /// Connects to processes that are new. A process that does not answer is left out.
    fn connect(&mut self) {
        for path in self.folders.iter().flat_map(|folder| sockets(folder)) {
            let is_known = pid_of(&path).is_some_and(|pid| self.connections.contains_key(&pid));
            if is_known || self.connections.len() >= PROCESSES_MAX {
                continue;
            }
            if let Ok(connection) = Connection::open(&path) {
                self.connections.insert(connection.pid, connection);
            }
        }
    }

    /// Reads the statistics of every process.
    pub(crate) fn read(&mut self) -> Vec<ProcessReading> {
        self.connect();
        let pids: Vec<u64> = self.connections.keys().copied().collect();
        pids.into_iter().filter_map(|pid| self.read_one(pid)).collect()
    }

    fn read_one(&mut self, pid: u64) -> Option<ProcessReading> {
        let answer = self.ask(pid, &json!({ "op": "caches" }));
        let mut caches = answer.get("ok")?.get("caches")?.as_array()?.clone();
        if let Some(name) = &self.cache {
            let wanted = name.rsplit('/').next().unwrap_or(name);
            caches.retain(|cache| cache["name"] == wanted);
        }
        let program = self.connections.get(&pid)?.program.clone();
        Some(ProcessReading { pid, program, caches })
    }

    /// Asks a process. A failure to do so is an answer with a field `error`.
    pub(crate) fn ask(&mut self, pid: u64, request: &Json) -> Json {
        let Some(connection) = self.connections.get_mut(&pid) else {
            return failure(&format!("process {pid} is not observed any more"));
        };
        match connection.ask(request) {
            Ok(answer) => answer,
            Err(error) => {
                self.connections.remove(&pid);
                failure(&format!("process {pid}: {error}"))
            }
        }
    }
}

fn failure(message: &str) -> Json {
    json!({ "error": { "kind": "unavailable", "message": message } })
}

/// The sockets in a folder.
fn sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "sock")).collect()
}

/// The number of the process, by the name of its socket.
fn pid_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.rsplit('-').next()?.parse().ok()
}
