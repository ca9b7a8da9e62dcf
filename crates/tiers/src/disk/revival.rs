//! Opening the store again after a failure, without the caller's help.
//!
//! sled fails for good once a write of it failed, on a full disk for example,
//! and a damaged page stays damaged. So a failure makes the store suspect, and
//! the next `put` opens it anew, at most once in [`PAUSE`] and only where the
//! disk takes writes: until then the suspect store still answers what it can.
//!
//! A database that could not write what it was given shows, opened again, what
//! was overwritten or removed since. The journal knows better: it stays when
//! the last flush fails, and the next open goes by it, here or in another
//! process. Where the journal could not be written either, nothing is trusted.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind};

use super::{DiskTier, recovery};
use crate::boot::Past;

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
        let Some(mut upkeep) = self.upkeep.try_write() else { return };
        if self.closed.load(Ordering::Acquire) || !self.is_time() || !self.layout.takes(PROBE_BYTES) {
            return;
        }
        *upkeep = None;
        if self.reaper.settle().is_err() {
            return;
        }
        let mut state = self.state.write();
        let closed = state.take().map_or(Ok(()), |store| store.close(false));
        self.space.set(0);
        let past = if self.marker.is_withdrawn() { Past::Unknown } else { Past::Killed };
        let opened = recovery::open(&self.ground(), past);
        match opened {
            Ok(store) => {
                let error = closed.err().map(tracing::field::display);
                tracing::warn!(target: "larder", error, "a failed disk tier was opened again");
                *state = Some(store);
                self.suspect.store(false, Ordering::Release);
            }
            Err(error) => tracing::warn!(target: "larder", %error, "a failed disk tier does not open again"),
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
