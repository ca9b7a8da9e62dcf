//! Opens a cache for reading, without a change of its directory.

use std::path::Path;

use larder_core::Durability;
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier, copy_to_read};
use larder_tiers::file::FileReader;
use larder_tiers::redis::RedisReader;
use larder_tiers::{DiskBudget, ShutdownRecord, temporary_dir};
use tempfile::TempDir;

use super::changing::void_tiers;
use super::{Invalidated, OpenCache, OpenTier, warnings};
use crate::catalog::{CacheDirectory, InUse, PATIENCE, ServerCache};
use crate::exit::{Exit, Failure, Outcome};

/// How often a copy is repeated if a process opened the directory meanwhile.
const COPIES_MAX: usize = 3;

/// Opens the entries of a cache for reading.
///
/// Files are read in place, also while a process has them. The disk tier is read from a copy of its
/// databases; while a process has it, its entries are left out, and a note says so.
pub(crate) fn reading(cache: &CacheDirectory) -> Outcome<OpenCache> {
    if let Some(server) = &cache.server {
        let reader = reader_of_server(server, &cache.name)?;
        let invalidated = Invalidated::of(reader.invalidations()?);
        return Ok(OpenCache::new(vec![OpenTier::Server(Box::new(reader))], invalidated, None));
    }
    let _earlier = warnings::take();
    let mut notes = void_tiers(cache)?;
    let (mut tiers, mut scratch, mut is_partial) = (Vec::new(), None, false);
    if let Some(disk) = cache.disk() {
        match copied(cache, &disk)? {
            Some((tier, copy)) => {
                let place = copy.path().display().to_string();
                let real = disk.display().to_string();
                notes.extend(warnings::take().into_iter().map(|warning| warning.replace(&place, &real)));
                tiers.push(OpenTier::Disk(Box::new(tier)));
                scratch = Some(copy);
            }
            None => is_partial = true,
        }
    }
    if let Some(files) = cache.files() {
        tiers.push(OpenTier::Reader(FileReader::open(&files)?));
    }
    let invalidated = match cache.is_shared() {
        true => Invalidated::default(),
        false => Invalidated::read(&cache.path)?.unwrap_or_default(),
    };
    let open = OpenCache::new(tiers, invalidated, scratch);
    Ok(OpenCache { notes, is_partial, ..open })
}

/// Copies the disk tier and opens the copy. `None` while a process has the tier open.
///
/// The lock is held only for a moment at a time: a cache that starts during the copy would otherwise take a
/// private directory. A copy during which a process opened the directory is made again.
fn copied(cache: &CacheDirectory, disk: &Path) -> Outcome<Option<(DiskTier, TempDir)>> {
    for _ in 0..COPIES_MAX {
        let before = ShutdownRecord::read(disk);
        match cache.in_use() {
            InUse::No => {}
            InUse::Unknown => return Err(unreadable(cache)),
            InUse::Alone | InUse::Shared => return Ok(None),
        }
        let copy = temporary_dir("larder-", &std::env::temp_dir())?;
        let target = copy.path().join("disk");
        let opened = copy_to_read(disk, &target).and_then(|()| {
            let budget = DiskBudget::unlimited().share();
            let durability = Durability::Buffered;
            DiskTier::open(DiskOptions { dir: target, budget, crossover: CROSSOVER_BYTES, durability })
        });
        if cache.in_use() == InUse::No && ShutdownRecord::read(disk) == before {
            return Ok(Some((opened?, copy)));
        }
        let _of_a_mixed_copy = warnings::take();
    }
    Ok(None)
}

/// Connects to the server of a cache.
pub(crate) fn reader_of_server(server: &ServerCache, name: &str) -> Outcome<RedisReader> {
    Ok(RedisReader::open(&server.url, &server.namespace, name, PATIENCE)?)
}

fn unreadable(cache: &CacheDirectory) -> Failure {
    let place = cache.path.display();
    Failure::new(Exit::Failed, format!("{place}: this user may not lock the directory; see `larder doctor`"))
}
