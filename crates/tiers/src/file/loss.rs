//! Detects that the directory was removed while the tier was open.
//!
//! Files are opened by path, so a write to a missing directory fails. A directory that was replaced
//! is found only by a check, which writes make from time to time. The call that detects the loss
//! fails, so that the loss is counted. Then the tier continues, empty.

use std::error::Error as _;
use std::io;
use std::sync::atomic::Ordering;

use larder_core::{Error, Result};

use super::FileTier;

impl FileTier {
    /// Runs `write`, after a check for a loss if one is due.
    ///
    /// If `write` fails because a directory is missing, this checks again, creates the directories
    /// and retries `write` once.
    pub(super) fn with_dir<T>(&self, mut write: impl FnMut() -> Result<T>) -> Result<T> {
        if self.dir_handle.is_due(self.budget.elapsed()) {
            self.check_for_loss()?;
        }
        match write() {
            Err(error) if is_missing(&error) => {
                self.check_for_loss()?;
                self.layout.recreate()?;
                write()
            }
            done => done,
        }
    }

    /// Fails if the directory is gone, after the tier was emptied and its directory created again.
    pub(super) fn check_for_loss(&self) -> Result<()> {
        if self.dir_handle.still_exists() {
            return Ok(());
        }
        let _all_stripes = self.all_stripes.write();
        self.index().map(drop)?;
        if self.dir_handle.still_exists() {
            return Ok(());
        }
        let lost = self.dir_handle.removed_error();
        tracing::error!(target: "larder", error = %lost, "the file tier lost its directory and starts empty");
        let bytes = {
            let mut index = self.index()?;
            (0..index.usage().entries).for_each(|_| index.count_eviction());
            index.clear()
        };
        self.budget.shrink(bytes);
        self.is_unsynced.store(true, Ordering::Release);
        self.budget.ensure_dir()?;
        self.layout.recreate()?;
        // Another process may have written the files that are there now.
        match &self.peers {
            Some(peers) => peers.renew()?,
            None => drop(self.layout.discard()?),
        }
        self.marker.open()?;
        self.dir_handle.renew()?;
        Err(lost)
    }
}

fn is_missing(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::NotFound)
}
