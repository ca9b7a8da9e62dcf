//! Opens the directory of a cache for reading, also while another process has it.
#![cfg_attr(
    not(any(feature = "disk", feature = "file")),
    allow(dead_code, unused_imports, reason = "with Redis alone there is no such directory")
)]

use std::any::Any;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use larder_core::tier::{Tier, TierKind, TierOptions};
use larder_core::{Error, ErrorKind, Result};
use larder_engine::{KeptInvalidations, TierHandle};
use larder_tiers::FileInvalidationLog;
#[cfg(any(feature = "disk", feature = "file"))]
use larder_tiers::{LastShutdown, ShutdownRecord};

use super::TieredPlan;
use crate::locked_dir::path_in;
use crate::seal::Seal;

/// What was found in the directory.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) invalidations: KeptInvalidations,
    /// The copy of the disk tier. Deleted when the cache is closed.
    pub(super) scratch: Vec<Box<dyn Any + Send>>,
}

/// Adds the tiers of the directory to `handles`, for reading, if the cache is to be opened so.
///
/// # Errors
/// `ErrorKind::Unavailable` if there is no such directory, or if its log of invalidations is lost;
/// `ErrorKind::Busy` if it changes too fast for a copy.
#[cfg_attr(
    not(any(feature = "disk", feature = "file")),
    expect(unused_variables, reason = "Redis has no directory")
)]
pub(super) fn look(plan: &TieredPlan, seal: &Seal, handles: &mut Vec<TierHandle>) -> Result<Looked> {
    if !plan.is_read_only {
        return Ok(Looked::default());
    }
    let path = path_in(plan.dir.clone(), &plan.name)?;
    if !path.is_dir() {
        return Err(refused(ErrorKind::Unavailable, &path, "no cache has a directory there"));
    }
    let mut looked = Looked::default();
    #[cfg(feature = "disk")]
    if plan.tiers.contains(TierKind::Disk) && is_trusted(&path, "disk", "disk") {
        let (tier, copy) = copied(&path.join("disk"))?;
        looked.scratch.push(Box::new(copy));
        handles.push(handle(seal.tier(Arc::new(tier), "disk"), plan));
    }
    // Processes that share a directory have no log.
    let is_shared = path.join("files").join("peers").exists();
    #[cfg(feature = "file")]
    if plan.tiers.contains(TierKind::File) && (is_shared || is_trusted(&path, "files", "file")) {
        let reader = larder_tiers::file::FileReader::open(&path.join("files"))?;
        handles.push(handle(seal.tier(Arc::new(reader), "file"), plan));
    }
    // Read last, so that it has every invalidation that the copy lacks.
    if !is_shared {
        let records = FileInvalidationLog::read(&path)?.ok_or_else(|| {
            refused(ErrorKind::Unavailable, &path, "the log of invalidations is missing or damaged")
        })?;
        looked.invalidations.invalidations = seal.records(records);
    }
    Ok(looked)
}

fn handle(tier: Arc<dyn Tier>, plan: &TieredPlan) -> TierHandle {
    let mut handle = TierHandle::with(tier, Arc::clone(&plan.clock), None).judged_by_own_log();
    handle.set_options(TierOptions::new().read_only());
    handle
}

/// Whether the next cache that opens the directory would serve what is in this tier.
#[cfg(any(feature = "disk", feature = "file"))]
fn is_trusted(path: &Path, folder: &str, tier: &str) -> bool {
    let marker = ShutdownRecord::read(&path.join(folder));
    let is_outdated =
        fs::read(path.join(format!("outdated-{tier}"))).is_ok_and(|flag| flag.first() != Some(&b'0'));
    marker.is_some_and(|marker| marker.last_shutdown != LastShutdown::Unknown) && !is_outdated
}

/// Copies the disk tier, and opens the copy.
#[cfg(feature = "disk")]
fn copied(disk: &Path) -> Result<(larder_tiers::disk::DiskTier, tempfile::TempDir)> {
    use larder_tiers::DiskBudget;
    use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier, copy_while_open};

    /// How often a copy is made again, and the pause before it, which grows by itself each time.
    const COPIES_MAX: u32 = 10;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

    for attempt in 0..COPIES_MAX {
        std::thread::park_timeout(PAUSE * attempt);
        let copy = larder_tiers::temporary_dir("larder-", &std::env::temp_dir())?;
        let dir = copy.path().join("disk");
        if !copy_while_open(disk, &dir)? {
            continue;
        }
        let (budget, durability) = (DiskBudget::unlimited().share(), larder_core::Durability::Buffered);
        let tier = DiskTier::open(DiskOptions { dir, budget, crossover: CROSSOVER_BYTES, durability })?;
        return Ok((tier, copy));
    }
    Err(refused(ErrorKind::Busy, disk, "the process that has it open writes too fast for a copy"))
}

fn refused(kind: ErrorKind, path: &Path, why: &str) -> Error {
    Error::new(kind, format!("{}: {why}", path.display())).during("open_read_only")
}
