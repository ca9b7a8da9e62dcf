//! `larder ls`: the caches, with their sizes and ages.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use larder_core::clock::{Clock, SystemClock, Time};
use serde::Serialize;

use crate::args::Arguments;
use crate::catalog::{self, CacheDirectory};
use crate::exit::{Exit, Outcome};
use crate::printer::{self, Printer, TextTable};

#[derive(Serialize)]
struct Listed {
    name: String,
    program: Option<String>,
    path: String,
    tiers: Vec<&'static str>,
    /// `None` for a server: counting needs a scan.
    bytes: Option<u64>,
    last_opened: Option<String>,
    in_use: &'static str,
    is_private: bool,
    #[serde(skip)]
    age: String,
    #[serde(skip)]
    label: String,
}

#[derive(Serialize)]
struct Listing {
    /// `None` for a server.
    folder: Option<String>,
    caches: Vec<Listed>,
}

pub(super) fn run(arguments: &Arguments, printer: &mut Printer) -> Outcome {
    let folder = match arguments.redis {
        Some(_) => None,
        None => Some(catalog::folder(arguments)?.display().to_string()),
    };
    let mut found = catalog::all(arguments)?;
    if arguments.cache.is_some() {
        found = catalog::chosen(arguments)?;
    }
    let caches: Vec<Listed> = found.iter().map(listed).collect();
    if printer.is_json() {
        printer.json("larder.ls.v1", &Listing { folder, caches })?;
        return Ok(Exit::Done);
    }
    if caches.is_empty() {
        printer.line(&format!("No cache {}", printer::escaped_line(&catalog::place(arguments)?)))?;
        return Ok(Exit::Done);
    }
    let mut table = TextTable::new(&["CACHE", "TIERS", "ON DISK", "OPENED", "IN USE", "DIRECTORY"], &[2]);
    for cache in caches {
        let opened = if cache.age.is_empty() { "unknown".to_owned() } else { format!("{} ago", cache.age) };
        let in_use = cache.in_use.to_owned();
        let place = printer::escaped_line(&cache.path);
        let bytes = cache.bytes.map_or_else(|| "?".to_owned(), printer::bytes);
        table.row([cache.label, cache.tiers.join(", "), bytes, opened, in_use, place]);
    }
    printer.table(&table)?;
    Ok(Exit::Done)
}

fn listed(cache: &CacheDirectory) -> Listed {
    let tiers = [("disk", cache.disk()), ("file", cache.files())];
    let dirs: Vec<_> = tiers.into_iter().filter_map(|(name, dir)| Some((name, dir?))).collect();
    let opened = dirs.iter().filter_map(|(_, dir)| changed(&dir.join("marker"))).max();
    Listed {
        name: cache.name.clone(),
        program: cache.program.clone(),
        path: cache.path.display().to_string(),
        tiers: match &cache.server {
            Some(_) => vec!["redis"],
            None => dirs.iter().map(|(name, _)| *name).collect(),
        },
        bytes: cache.server.is_none().then(|| bytes_in(&cache.path)),
        last_opened: opened.map(printer::moment),
        in_use: cache.in_use().name(),
        is_private: cache.is_private,
        age: opened.map(|opened| printer::ago(SystemClock.now(), opened)).unwrap_or_default(),
        label: cache.label(),
    }
}

/// When a file was written.
fn changed(path: &Path) -> Option<Time> {
    let since = fs::metadata(path).ok()?.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Time::from_millis(u64::try_from(since.as_millis()).ok()?))
}

/// Bytes that a directory takes on the medium, with everything in it. Links count as themselves.
pub(super) fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => taken(&found),
        Err(_) => 0,
    });
    fs::metadata(dir).map_or(0, |found| taken(&found)).saturating_add(below.sum())
}

#[cfg(unix)]
fn taken(found: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found).saturating_mul(512)
}

#[cfg(not(unix))]
fn taken(found: &fs::Metadata) -> u64 {
    found.len()
}
