//! Opening the store again after a failure, without the caller's help.
//!
//! sled fails for good once a write of it failed, on a full disk for example,
//! and a damaged page stays damaged. So a failure makes the store suspect, and
//! the next `put` opens it anew, at most once in [`PAUSE`] and only where the
//! disk takes writes: until then the suspect store still answers what it can.
//! What cannot be read again is given up as on any open.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind};

use super::{DiskTier, recovery};

/// The shortest time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// What must fit before an attempt: an empty database and some of sled's buffers.
const PROBE_BYTES: usize = 2 << 20;

impl DiskTier {
    /// Looks at an error of the store; whether it is to be trusted further.
    pub(super) fn observe(&self, error: &Error) {
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::Full | ErrorKind::Corrupt) {
            self.suspect.store(true, Ordering::Release);
        }
    }

    /// Opens the store again, unless someone else is at it or it is too early.
    pub(super) fn revive(&self) {
        let Some(_alone) = self.upkeep.try_write() else { return };
        if self.closed.load(Ordering::Acquire) || !self.is_time() || !self.layout.takes(PROBE_BYTES) {
            return;
        }
        let mut state = self.state.write();
        if let Some(Err(error)) = state.take().map(|store| store.close()) {
            tracing::warn!(%error, "a failed disk tier is opened again");
        }
        self.space.set(0);
        match recovery::open(&self.layout, &self.space, self.cache_bytes) {
            Ok(store) => {
                *state = Some(store);
                self.suspect.store(false, Ordering::Release);
            }
            Err(error) => tracing::warn!(%error, "a failed disk tier does not open again"),
        }
    }

    fn is_time(&self) -> bool {
        let mut revived = self.revived.lock();
        let early = revived.is_some_and(|last| last.elapsed() < PAUSE);
        if !early {
            *revived = Some(Instant::now());
        }
        !early
    }
}
