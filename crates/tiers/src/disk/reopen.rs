//! Opens the store again after a failure, without the caller's help.
//!
//! A damaged run stays damaged, and a failed write may have left a part of a record. So a failure marks the store
//! as suspect, and the next `put` opens it again. That happens at most once in [`PAUSE`], and only if the
//! disk accepts writes. Until then the suspect store still serves reads where it can.
//!
//! The next open, in this process or another one, finds in the journal what is in no sorted run. If the journal
//! could not be written, nothing is trusted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};

use crate::boot_marker::LastShutdown;
use crate::disk::compaction::job::CompactionJob;
use crate::disk::layout::{Layout, unavailable};
use crate::disk::store::Store;
use crate::disk::{DiskTier, recovery};
use crate::pressure::shortage;

/// Shortest time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes that must be writable before an attempt: a journal, a marker and some records.
pub(in crate::disk) const PROBE_BYTES: usize = 64 << 10;

impl DiskTier {
    /// Marks the store as suspect, if `error` requires that.
    ///
    /// If the system has run out of a resource, failed writes do no harm.
    pub(in crate::disk) fn observe(&self, error: &Error) {
        let is_failure = matches!(error.kind(), ErrorKind::Io | ErrorKind::Full | ErrorKind::Corrupt);
        if is_failure && shortage(error).is_none() {
            self.needs_reopen.store(true, Ordering::Release);
        }
    }

    /// Opens the store again, unless another thread does so or the last attempt was a moment ago.
    pub(in crate::disk) fn reopen_if_due(&self) {
        if self.reopen_is_due() {
            self.reopen_now();
        }
    }

    /// Like [`reopen_if_due`](Self::reopen_if_due), regardless of the last attempt.
    pub(in crate::disk) fn reopen_now(&self) {
        let Some(mut compaction) = self.compaction.try_write() else { return };
        if self.closed.load(Ordering::Acquire)
            || self.dir_handle.still_exists() && !self.layout.accepts_writes(PROBE_BYTES)
        {
            return;
        }
        if self.reopen_store(&mut compaction) {
            self.tidy_up(&mut compaction);
        }
    }

    /// Closes the store, and opens it again. Returns whether that succeeded.
    pub(in crate::disk) fn reopen_store(&self, compaction: &mut Option<CompactionJob>) -> bool {
        *compaction = None;
        let mut state = self.state.write();
        drop(state.take());
        self.open_again(&mut state, self.marker.is_withdrawn());
        state.is_some()
    }

    /// Opens the store after it was closed. It starts empty if the data `is_lost`, or if the
    /// directory must be created again.
    pub(in crate::disk) fn open_again(&self, state: &mut Option<Store>, is_lost: bool) {
        self.budget.set(0);
        let is_lost = is_lost || !self.dir_handle.still_exists();
        let last_shutdown = if is_lost { LastShutdown::Unknown } else { LastShutdown::Killed };
        match self.in_place().and_then(|()| recovery::open(&self.context(), last_shutdown)) {
            Ok(store) => {
                tracing::warn!(target: "larder", "the disk tier was reopened after a failure");
                *state = Some(store);
                self.fit_budget();
                self.needs_reopen.store(false, Ordering::Release);
                self.has_half_replaced.store(false, Ordering::Release);
            }
            Err(error) => {
                tracing::warn!(target: "larder", %error, "cannot reopen the disk tier after a failure")
            }
        }
    }

    /// Creates the directory if it is gone, unless another process has it by now.
    fn in_place(&self) -> Result<()> {
        self.budget.ensure_dir()?;
        if !self.dir_handle.still_exists() {
            Layout::prepare(self.layout.dir().to_owned())?;
            self.dir_handle.renew().map_err(|error| unavailable(self.layout.dir(), error))?;
        }
        Ok(())
    }

    fn reopen_is_due(&self) -> bool {
        let mut last_reopen = self.last_reopen.lock();
        let early = last_reopen.is_some_and(|last| last.elapsed() < PAUSE);
        if !early {
            *last_reopen = Some(Instant::now());
        }
        !early
    }
}
