//! Noticing that the folder was removed while it was open.
//!
//! Files are opened by their paths, so a write finds that out, or a look before it, now
//! and then: the folder may have been replaced. The call that finds it fails, so that
//! it is counted; the tier goes on, empty.

use std::error::Error as _;
use std::io;

use larder_core::{Error, Result};

use super::FileTier;

impl FileTier {
    /// Runs `write`; looks for a loss before it, now and then, and where it fails for
    /// want of a folder. Folders alone are made anew, and it runs once more.
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

    /// Fails when the folder is gone, and begins anew.
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
        // What is there now was not written by this process alone.
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
