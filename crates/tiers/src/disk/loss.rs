//! Noticing that the directory, or a file in it, was removed while it was open.
//!
//! What is open then goes on being written and read, and is gone with the process. So
//! it is looked for before a write, now and then, and before each flush and close. The
//! call that finds it fails, so that it is counted; the tier goes on, empty.

use std::sync::atomic::Ordering;

use larder_core::Result;

use crate::disk::DiskTier;

impl DiskTier {
    /// Looks for a loss unless it was looked for a moment ago.
    pub(in crate::disk) fn look_for_loss_now_and_then(&self) -> Result<()> {
        if self.anchor.is_due(self.space.elapsed()) { self.look_for_loss() } else { Ok(()) }
    }

    /// Fails when the directory, or a file that matters, is gone, and begins anew.
    pub(in crate::disk) fn look_for_loss(&self) -> Result<()> {
        // While files come and go by ourselves, none of them is missed.
        let Some(upkeep) = self.upkeep.try_read() else { return Ok(()) };
        if !self.is_lost() {
            return Ok(());
        }
        drop(upkeep);
        let mut upkeep = self.upkeep.write();
        if self.closed.load(Ordering::Acquire) || !self.is_lost() {
            return Ok(());
        }
        let lost = self.anchor.lost();
        tracing::error!(target: "larder", error = %lost, "the disk tier begins anew");
        *upkeep = None;
        let _nothing_to_delete = self.reaper.settle();
        let mut state = self.state.write();
        if let Some(store) = state.take() {
            self.evictions.fetch_add(store.databases.live(), Ordering::Relaxed);
            store.abandon();
        }
        self.suspect.store(true, Ordering::Release);
        self.reopen(&mut state, true);
        Err(lost)
    }

    /// Whether the directory or a file is gone. The caller holds `upkeep`.
    pub(in crate::disk) fn is_lost(&self) -> bool {
        !self.anchor.is_there() || self.state.read().as_ref().is_some_and(|store| store.has_lost_files())
    }
}
