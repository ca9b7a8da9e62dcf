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

use larder_core::{Error, ErrorKind, Result};

use crate::boot_marker::Past;
use crate::disk::db::database::Generation;
use crate::disk::layout::{Layout, unavailable};
use crate::disk::store::Store;
use crate::disk::{DiskTier, recovery};
use crate::pressure::shortage;

/// The shortest time between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// What must fit before an attempt: an empty database and some of sled's buffers.
const PROBE_BYTES: usize = 2 << 20;

impl DiskTier {
    /// Looks at an error of the store; whether it is to be trusted further.
    ///
    /// Where the system has no room, what segments and the journal could not
    /// write does no harm; sled may be stuck.
    pub(in crate::disk) fn observe(&self, store: &Store, error: &Error) {
        let is_suspect = match shortage(error) {
            Some(_) => store.databases.each_generation().any(Generation::has_failed),
            None => matches!(error.kind(), ErrorKind::Io | ErrorKind::Full | ErrorKind::Corrupt),
        };
        if is_suspect {
            self.suspect.store(true, Ordering::Release);
        }
    }

    /// Opens the store again, unless someone else is at it or it is too early.
    pub(in crate::disk) fn revive(&self) {
        if self.is_time() {
            self.revive_now();
        }
    }

    /// The same, however early it is.
    pub(in crate::disk) fn revive_now(&self) {
        let Some(mut upkeep) = self.upkeep.try_write() else { return };
        if self.closed.load(Ordering::Acquire) || self.anchor.is_there() && !self.layout.takes(PROBE_BYTES) {
            return;
        }
        *upkeep = None;
        if self.reaper.settle().is_err() {
            return;
        }
        let mut state = self.state.write();
        if let Some(Err(error)) = state.take().map(|store| store.close(false)) {
            tracing::debug!(target: "larder", %error, "the failed store could not write all it held");
        }
        self.reopen(&mut state, self.marker.is_withdrawn());
    }

    /// Opens the store, which was let go of; empty where what is there `is_lost`,
    /// or the directory has to be made anew.
    pub(in crate::disk) fn reopen(&self, state: &mut Option<Store>, is_lost: bool) {
        self.space.set(0);
        let is_lost = is_lost || !self.anchor.is_there();
        let past = if is_lost { Past::Unknown } else { Past::Killed };
        match self.in_place().and_then(|()| recovery::open(&self.ground(), past)) {
            Ok(store) => {
                tracing::warn!(target: "larder", "a failed disk tier was opened again");
                *state = Some(store);
                self.space.fit(self.available());
                self.suspect.store(false, Ordering::Release);
            }
            Err(error) => tracing::warn!(target: "larder", %error, "a failed disk tier does not open again"),
        }
    }

    /// Makes the directory where it is gone, unless another process has it by now.
    fn in_place(&self) -> Result<()> {
        self.space.renew_home()?;
        if !self.anchor.is_there() {
            Layout::prepare(self.layout.dir().to_owned())?;
            self.anchor.renew().map_err(|error| unavailable(self.layout.dir(), error))?;
        }
        Ok(())
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
