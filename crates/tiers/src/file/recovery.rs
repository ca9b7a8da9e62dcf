//! Opens the directory of an earlier process.

use std::io;

use larder_core::{Durability, Result};

use super::index::Index;
use super::layout::Layout;
use super::{FileOptions, snapshot, walk};
use crate::boot_marker::{LastShutdown, Marker};
use crate::durable_sync::sync_many;

/// Lists the entries in the directory.
pub(super) fn listed(layout: &Layout) -> Result<Index> {
    let mut index = Index::default();
    for found in walk::walk(layout.entries())? {
        index.insert(found.digest, found.len);
    }
    Ok(index)
}

/// What an earlier process left in the directory.
pub(super) struct Recovered {
    pub(super) marker: Marker,
    pub(super) last_shutdown: LastShutdown,
    /// The index that the process wrote when it closed the directory.
    pub(super) snapshot: Option<Index>,
}

/// Deletes entries that cannot be trusted, and marks the directory as in use. From then on the
/// snapshot is invalid, so it is read before.
pub(super) fn recover(layout: &Layout, options: &FileOptions) -> io::Result<Recovered> {
    let (marker, last_shutdown) = Marker::find(&options.dir, options.durability);
    let is_usable = last_shutdown == LastShutdown::Closed && !options.shared;
    let snapshot = if is_usable { snapshot::read(&options.dir) } else { None };
    // Without a boot id, every process that opens a shared directory would empty it.
    let may_discard = !options.shared || marker.knows_boot();
    if last_shutdown == LastShutdown::Unknown && may_discard && layout.discard()? {
        tracing::warn!(target: "larder", path = %options.dir.display(), "the machine went down while this was open: it starts empty");
    }
    if last_shutdown == LastShutdown::Killed && options.durability == Durability::Synced {
        sync_many(&options.dir)?;
    }
    marker.open()?;
    snapshot::delete(&options.dir)?;
    Ok(Recovered { marker, last_shutdown, snapshot })
}
