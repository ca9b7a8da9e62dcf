//! Opens a cache for a change, with its lock.

use std::fs;
use std::path::Path;

use larder_core::Durability;
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use larder_tiers::file::{FileOptions, FileTier};
use larder_tiers::{DirLock, DiskBudget, LastShutdown, ShutdownRecord};

use super::{Invalidated, OpenCache, OpenTier, warnings};
use crate::catalog::CacheDirectory;
use crate::exit::{Exit, Failure, Outcome};

/// Calls `change` with the entries of a cache, opened for a change, and closes them afterwards.
///
/// # Errors
/// Exit code 4 if another process has the cache open.
pub(crate) fn changing<T>(
    cache: &CacheDirectory,
    change: impl FnOnce(&OpenCache) -> Outcome<T>,
) -> Outcome<T> {
    let is_shared = cache.is_shared();
    let Some(lock) = DirLock::take(&cache.path, is_shared)? else {
        let message =
            format!("{}: another process has the cache open; nothing was changed", cache.path.display());
        return Err(Failure::new(Exit::InUse, message));
    };
    let mut tiers = Vec::new();
    if let Some(dir) = cache.disk() {
        let (budget, durability) = (DiskBudget::unlimited().share(), durability(&dir));
        let options = DiskOptions { dir, budget, crossover: CROSSOVER_BYTES, durability };
        tiers.push(OpenTier::Disk(Box::new(DiskTier::open(options)?)));
    }
    if let Some(dir) = cache.files() {
        let (budget, durability) = (DiskBudget::unlimited().share(), durability(&dir));
        let options = FileOptions { dir, shared: is_shared, budget, durability };
        tiers.push(OpenTier::Files(Box::new(FileTier::open(options)?)));
    }
    let invalidated = if is_shared { None } else { Invalidated::read(&cache.path)? };
    let open = OpenCache::new(tiers, invalidated.unwrap_or_default(), None);
    let open = OpenCache { notes: warnings::take(), ..open };
    let changed = change(&open);
    let closed = open.close();
    drop(lock);
    closed.and(changed)
}

/// The durability of a directory: a process that opens it must not lower it.
fn durability(dir: &Path) -> Durability {
    ShutdownRecord::read(dir).map_or(Durability::Buffered, |record| record.durability())
}

/// Why the next process that opens the cache empties tiers of it, a sentence for each reason.
pub(crate) fn void_tiers(cache: &CacheDirectory) -> Outcome<Vec<String>> {
    let mut reasons = Vec::new();
    for (name, dir) in [("disk", cache.disk()), ("file", cache.files())] {
        let Some(dir) = dir else { continue };
        let shutdown =
            ShutdownRecord::read(&dir).map_or(LastShutdown::Unknown, |record| record.last_shutdown);
        let is_void = shutdown == LastShutdown::Unknown && !(name == "file" && cache.is_shared());
        if is_void && has_entries(&dir) {
            reasons.push(format!(
                "the {name} tier was in use when the machine went down, or its marker is damaged: \
                 the next cache that opens it starts empty"
            ));
        }
        let flag = fs::read(cache.path.join(format!("outdated-{name}"))).unwrap_or_default();
        if !cache.is_shared() && flag.first().is_some_and(|byte| *byte != b'0') {
            reasons.push(format!(
                "a removal did not reach the {name} tier: the next cache that opens it clears the tier"
            ));
        }
    }
    let is_logged = cache.is_shared() || Invalidated::read(&cache.path)?.is_some();
    if !is_logged && [cache.disk(), cache.files()].into_iter().flatten().any(|dir| has_entries(&dir)) {
        reasons.push(
            "the invalidation log is missing or damaged: the next cache that opens it starts empty".into(),
        );
    }
    Ok(reasons)
}

/// Whether a tier has any data.
fn has_entries(dir: &Path) -> bool {
    let parts = ["db", "journal", "packs", "segments", "entries"].map(|name| dir.join(name));
    parts.iter().any(|part| fs::read_dir(part).is_ok_and(|mut entries| entries.next().is_some()))
}
