//! Detects that the directory was removed while the tier was open.
//!
//! Files are opened by path, so a write to a missing directory fails. A directory that was replaced
//! is found only by a check, which writes make from time to time. The call that detects the loss
//! fails, so that the loss is counted. Then the tier continues, empty.

use std::error::Error as _;
use std::io;

use larder_core::{Error, Result};

use super::FileTier;

impl FileTier {
    /// Runs `write`, after a check for a loss if one is due.
    ///
    /// If `write` fails because a directory is missing, this checks again, creates the directories
    /// and retries `write` once.
    pub(super) fn in_place<T>(&self, mut write: impl FnMut() -> Result<T>) -> Result<T> {
        if self.anchor.is_due(self.space.elapsed()) {
            self.look_for_loss()?;
        }
        match write() {
            Err(error) if is_missing(&error) => {
                self.look_for_loss()?;
                self.folder.remake()?;
                write()
            }
            done => done,
        }
    }

    /// Fails if the directory is gone, after the tier was emptied and its directory created again.
    pub(super) fn look_for_loss(&self) -> Result<()> {
        if self.anchor.is_there() {
            return Ok(());
        }
        let _whole = self.whole.write();
        self.index().map(drop)?;
        if self.anchor.is_there() {
            return Ok(());
        }
        let lost = self.anchor.lost();
        tracing::error!(target: "larder", error = %lost, "the file tier begins anew");
        let bytes = {
            let mut index = self.index()?;
            (0..index.usage().entries).for_each(|_| index.count_eviction());
            index.clear()
        };
        self.space.shrink(bytes);
        self.space.renew_home()?;
        self.folder.remake()?;
        // Another process may have written the files that are there now.
        match &self.peers {
            Some(peers) => peers.renew()?,
            None => drop(self.folder.discard()?),
        }
        self.marker.open()?;
        self.anchor.renew()?;
        Err(lost)
    }
}

fn is_missing(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::NotFound)
}
