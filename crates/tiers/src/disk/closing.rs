//! Closes the tier.

use std::sync::atomic::Ordering;

use larder_core::Result;

use crate::disk::compaction::job::CompactionJob;
use crate::disk::snapshot::Draft;
use crate::disk::table::memtable::Memtable;
use crate::disk::table::tables::Tables;
use crate::disk::{DiskTier, JOURNALS_MAX, layout, not_opened_again};
use crate::durable_sync::sync_tree;

/// A memtable of at least this many bytes is written to a sorted run when the tier is closed. A smaller one stays
/// in the journal, so that many short processes do not leave many small runs.
const CLOSED_BYTES_MIN: u64 = 256 << 10;

impl DiskTier {
    /// Closes the tier. With `is_final`, waits until all data is durable and marks the directory as
    /// closed.
    pub(in crate::disk) fn close_now(&self, is_final: bool) -> Result<()> {
        let mut compaction = self.compaction.write();
        let was_closed = self.closed.swap(true, Ordering::AcqRel);
        if self.state.read().is_none() {
            return if was_closed { Ok(()) } else { Err(not_opened_again()) };
        }
        if self.is_lost() {
            // Another process may have the directory by now, so nothing is written.
            self.dir_handle.close();
            self.state.write().take();
            self.budget.set(0);
            return Err(self.dir_handle.removed_error());
        }
        if is_final {
            // The counts of a store that failed may not be exact.
            if self.needs_reopen.load(Ordering::Acquire) && !self.reopen_store(&mut compaction) {
                return Err(not_opened_again());
            }
            self.persist_if_worth_it(&mut compaction)?;
        }
        *compaction = None;
        self.dir_handle.close();
        self.layout.deferred().finish();
        let Some(store) = self.state.write().take() else { return Ok(()) };
        let room = self.budget.room();
        self.budget.set(0);
        if !is_final {
            return Ok(());
        }
        // Without this record the directory is left as that of a killed process.
        store.drop_journals(0).and_then(|()| store.record_tally())?;
        let draft = Draft::of(&store);
        drop(store);
        self.mark_closed()?;
        draft.iter().for_each(|draft| draft.write(&self.layout, room));
        Ok(())
    }

    /// Writes the memtable to a sorted run, unless it is small. If that fails, the journal has its rows.
    ///
    /// # Errors
    /// If that fails and the journal lacks a removal.
    fn persist_if_worth_it(&self, compaction: &mut Option<CompactionJob>) -> Result<()> {
        let is_much = self.with_store(|store| {
            let Tables { newest, frozen, .. } = &store.tables;
            let bytes = newest.bytes() + frozen.as_ref().map_or(0, Memtable::bytes);
            Ok(bytes >= CLOSED_BYTES_MIN || store.journal.files() > JOURNALS_MAX)
        });
        if !is_much? && !self.marker.is_withdrawn() {
            return Ok(());
        }
        self.persist(compaction).or_else(|error| {
            tracing::debug!(target: "larder", %error, "cannot write the memtable to a sorted run; the journal is kept");
            if self.marker.is_withdrawn() { Err(error) } else { Ok(()) }
        })
    }

    /// Waits until all data is durable, then marks the directory as closed.
    fn mark_closed(&self) -> Result<()> {
        let closed = sync_tree(self.layout.dir()).and_then(|()| self.marker.close());
        closed.map_err(|error| layout::unavailable(self.layout.dir(), error))
    }
}
