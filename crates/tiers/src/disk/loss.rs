//! Detects that the directory, or a file in it, was removed while the tier was open.
//!
//! Open files can still be read and written then, but are lost when the process ends. So writes
//! check for a loss from time to time, and each flush and close checks. The call that detects the
//! loss fails, so that the loss is counted. Then the tier continues, empty.

use std::sync::atomic::Ordering;

use larder_core::Result;

use crate::disk::DiskTier;

impl DiskTier {
    /// Checks for a loss, unless the last check was a moment ago.
    pub(in crate::disk) fn check_for_loss_if_due(&self) -> Result<()> {
        if self.dir_handle.is_due(self.budget.elapsed()) { self.check_for_loss() } else { Ok(()) }
    }

    /// Fails if the directory, or an important file in it, is gone, after the tier was opened again
    /// empty.
    pub(in crate::disk) fn check_for_loss(&self) -> Result<()> {
        // While this tier itself adds and deletes files, a missing file is not a loss.
        let Some(compaction) = self.compaction.try_read() else { return Ok(()) };
        if !self.is_lost() {
            return Ok(());
        }
        drop(compaction);
        let mut compaction = self.compaction.write();
        if self.closed.load(Ordering::Acquire) || !self.is_lost() {
            return Ok(());
        }
        let lost = self.dir_handle.removed_error();
        tracing::error!(target: "larder", error = %lost, "the disk tier lost its files and starts empty");
        *compaction = None;
        let mut state = self.state.write();
        if let Some(store) = state.take() {
            self.evictions.fetch_add(store.tables.live(), Ordering::Relaxed);
        }
        self.needs_reopen.store(true, Ordering::Release);
        self.open_again(&mut state, true);
        Err(lost)
    }

    /// Returns whether the directory or an important file is gone. The caller holds `compaction`.
    pub(in crate::disk) fn is_lost(&self) -> bool {
        !self.dir_handle.still_exists()
            || self.state.read().as_ref().is_some_and(|store| store.has_lost_files())
    }
}
