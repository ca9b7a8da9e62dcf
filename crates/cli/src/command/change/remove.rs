//! `larder rm` and `larder clear`: removes entries.

use larder_core::clock::{Clock, SystemClock};
use larder_core::invalidation::{Invalidation, Known, SharedInvalidations};
use larder_core::key::EncodedKey;
use larder_core::tier::Tier;
use larder_tiers::redis::{RedisOptions, RedisTier};
use serde::Serialize;

use crate::args::{Arguments, ChangeArguments, RmArguments};
use crate::catalog::{self, CacheDirectory, PATIENCE, ServerCache};
use crate::entry::EntryRecord;
use crate::exit::{Exit, Failure, Outcome};
use crate::printer::{self, Printer};
use crate::source::{self, OpenCache};

#[derive(Serialize)]
pub(in crate::command) struct RemovedEntry {
    key: String,
    tier: &'static str,
    bytes: u64,
}

/// What a command removed from a cache, or would remove.
#[derive(Serialize)]
pub(in crate::command) struct Removal {
    pub(in crate::command) cache: String,
    pub(in crate::command) path: String,
    pub(in crate::command) is_dry_run: bool,
    pub(in crate::command) count: u64,
    pub(in crate::command) bytes: u64,
    pub(in crate::command) entries: Vec<RemovedEntry>,
    /// Directories that ended processes left behind.
    pub(in crate::command) directories: Vec<String>,
}

impl Removal {
    /// What was removed: these entries, each of them listed.
    pub(in crate::command) fn of(cache: &CacheDirectory, entries: &[EntryRecord], is_dry_run: bool) -> Self {
        let removed = |entry: &EntryRecord| RemovedEntry {
            key: entry.key_text().text,
            tier: entry.tier.name(),
            bytes: entry.bytes,
        };
        Self {
            cache: cache.name.clone(),
            path: cache.path.display().to_string(),
            is_dry_run,
            count: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
            entries: entries.iter().map(removed).collect(),
            directories: Vec::new(),
        }
    }

    pub(in crate::command) fn print(&self, label: &str, printer: &mut Printer) -> Outcome<()> {
        let verb = if self.is_dry_run { "would remove" } else { "removed" };
        for entry in &self.entries {
            let bytes = printer::bytes(entry.bytes);
            printer.line(&format!("{verb} {} ({} tier, {bytes})", entry.key, entry.tier))?;
        }
        for directory in &self.directories {
            printer.line(&format!("{verb} the directory {}", printer::escaped_line(directory)))?;
        }
        let entries = printer::count(self.count, "entry", "entries");
        printer.line(&format!("{label}: {verb} {entries}, {}", printer::bytes(self.bytes)))
    }
}

/// Runs `larder rm`.
pub(in crate::command) fn rm(arguments: &Arguments, rm: &RmArguments, printer: &mut Printer) -> Outcome {
    if rm.keys.is_empty() && rm.filter.is_empty() {
        let allowed = "keys, or a filter such as --tag; `larder clear` removes all entries";
        return Err(Failure::argument("KEY", "nothing", allowed));
    }
    let cache = catalog::only(arguments)?;
    let is_wanted = |entry: &EntryRecord, open: &OpenCache| {
        (rm.keys.is_empty() || rm.keys.iter().any(|key| entry.key_text().is(key)))
            && rm.filter.accepts(entry, open.now)
    };
    let removal = remove(&cache, rm.change, is_wanted)?;
    let missing = rm.keys.iter().filter(|key| !removal.iter().any(|entry| entry.key_text().is(key)));
    for key in missing.clone() {
        printer::to_stderr(&format!("larder: {} has no such key: {key}", cache.label()));
    }
    let exit = if missing.count() > 0 { Exit::NotFound } else { Exit::Done };
    let removal = Removal::of(&cache, &removal, rm.change.dry_run);
    if printer.is_json() {
        printer.json("larder.rm.v1", &removal)?;
    } else {
        removal.print(&cache.label(), printer)?;
    }
    Ok(exit)
}

/// Removes the entries that `is_wanted` accepts, and returns them.
///
/// # Errors
/// A tier that the next cache would empty: opening it for a change would do so now.
pub(in crate::command) fn remove(
    cache: &CacheDirectory,
    change: ChangeArguments,
    is_wanted: impl Fn(&EntryRecord, &OpenCache) -> bool + Sync,
) -> Outcome<Vec<EntryRecord>> {
    let collect = |open: &OpenCache| {
        let mut wanted = Vec::new();
        open.each(|entry| {
            if is_wanted(&entry, open) {
                wanted.push(entry);
            }
        })?;
        Ok(wanted)
    };
    if change.dry_run {
        let open = source::reading(cache)?;
        crate::command::tell(cache, &open.notes);
        return if open.is_partial { Err(in_use(cache)) } else { collect(&open) };
    }
    if let Some(server) = &cache.server {
        let wanted = collect(&source::reading(cache)?)?;
        return remove_on_server(server, cache, &wanted).map(|()| wanted);
    }
    refuse_void(cache)?;
    source::changing(cache, |open| {
        let wanted = collect(open)?;
        for entry in &wanted {
            let key = EncodedKey::new(entry.key.as_slice());
            let tiers = open.tiers.iter().filter(|tier| tier.kind() == entry.tier);
            for tier in tiers {
                pollster::block_on(tier.tier().remove(&key))?;
            }
        }
        Ok(wanted)
    })
}

/// Removes entries on a server, as a node would: for every version of the program, with a notice to the other
/// nodes.
fn remove_on_server(server: &ServerCache, cache: &CacheDirectory, wanted: &[EntryRecord]) -> Outcome<()> {
    let Some(tier) = changing_server(server, cache)?.filter(|_| !wanted.is_empty()) else { return Ok(()) };
    for entry in wanted {
        pollster::block_on(tier.remove(&EncodedKey::new(entry.key.as_slice())))?;
    }
    Ok(pollster::block_on(tier.close())?)
}

/// Clears a cache on a server, as a node would: for every version of the program. The invalidation reaches what
/// nodes keep on their disks.
fn clear_on_server(server: &ServerCache, cache: &CacheDirectory) -> Outcome<()> {
    let Some(tier) = changing_server(server, cache)? else { return Ok(()) };
    let now = SharedInvalidations::time(&tier).unwrap_or_else(|| SystemClock.now());
    pollster::block_on(tier.exchange(&[(Invalidation::Cleared, now)], Known::default()))?;
    pollster::block_on(tier.clear())?;
    Ok(pollster::block_on(tier.close())?)
}

/// Opens a cache on a server for a change. `None` if no version of a program has used it.
fn changing_server(server: &ServerCache, cache: &CacheDirectory) -> Outcome<Option<RedisTier>> {
    let versions = source::reader_of_server(server, &cache.name)?.versions()?;
    let Some(version) = versions.first() else { return Ok(None) };
    let options = RedisOptions::new(&server.url, &server.namespace, &cache.name);
    let tier = RedisTier::open(RedisOptions { version: *version, timeout: PATIENCE, ..options })?;
    tier.check()?;
    Ok(Some(tier))
}

/// Fails if opening the cache for a change would empty a tier.
pub(in crate::command) fn refuse_void(cache: &CacheDirectory) -> Outcome<()> {
    match source::void_tiers(cache)?.first() {
        Some(reason) => {
            let message = format!("{}: {reason}; `larder clear` does so now", cache.path.display());
            Err(Failure::new(Exit::Problems, message))
        }
        None => Ok(()),
    }
}

pub(in crate::command) fn in_use(cache: &CacheDirectory) -> Failure {
    let message = format!("{}: another process has the cache open", cache.path.display());
    Failure::new(Exit::InUse, message)
}

/// Runs `larder clear`.
pub(in crate::command) fn clear(
    arguments: &Arguments,
    change: ChangeArguments,
    printer: &mut Printer,
) -> Outcome {
    let cache = catalog::only(arguments)?;
    let (count, bytes) = match &cache.server {
        None => clear_directory(&cache, change)?,
        Some(server) => {
            // A server does not count the entries of a cache.
            let held = remove(&cache, ChangeArguments { dry_run: true }, |_, _| true)?;
            if !change.dry_run {
                clear_on_server(server, &cache)?;
            }
            (held.len() as u64, held.iter().map(|entry| entry.bytes).sum())
        }
    };
    let removal = Removal { count, bytes, ..Removal::of(&cache, &[], change.dry_run) };
    if printer.is_json() {
        printer.json("larder.clear.v1", &removal)?;
    } else {
        removal.print(&cache.label(), printer)?;
    }
    Ok(Exit::Done)
}

/// Clears a directory. Returns how many entries and bytes it had.
fn clear_directory(cache: &CacheDirectory, change: ChangeArguments) -> Outcome<(u64, u64)> {
    let open = source::reading(cache)?;
    if open.is_partial {
        return Err(in_use(cache));
    }
    let usage = open.tiers.iter().map(|tier| tier.tier().usage());
    let held = usage.fold((0, 0), |(entries, bytes), usage| (entries + usage.entries, bytes + usage.bytes));
    drop(open);
    if !change.dry_run {
        source::changing(cache, |open| {
            open.tiers.iter().try_for_each(|tier| Ok(pollster::block_on(tier.tier().clear())?))
        })?;
        forget_hot_keys(cache)?;
    }
    Ok(held)
}

/// Deletes the list of the hottest keys: it would name entries that are gone.
fn forget_hot_keys(cache: &CacheDirectory) -> Outcome<()> {
    match std::fs::remove_file(cache.path.join("hot")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
