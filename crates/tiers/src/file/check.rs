//! Verifies the files of a tier.

use std::io;

use larder_core::Result;

use super::FileTier;
use super::layout::{Layout, error_at};
use crate::entry_check::{EntryCheck, verified_key};

impl FileTier {
    /// Reads every file, and deletes those that no reader would accept: frames that are not whole, and
    /// frames of another key than that of the file name.
    ///
    /// # Errors
    /// A file that cannot be read or deleted.
    pub fn remove_damaged(&self) -> Result<EntryCheck> {
        // Files that another program left may not be in the index.
        self.rescan()?;
        let digests = self.index()?.digests();
        let mut check = EntryCheck::default();
        for digest in digests {
            let Some(is_whole) = is_whole(&self.layout, digest)? else { continue };
            check.count(is_whole);
            if !is_whole {
                self.remove_file(digest)?;
            }
        }
        Ok(check)
    }

    fn remove_file(&self, digest: u128) -> Result<bool> {
        if self.peers.is_some() {
            return self.remove_shared(digest);
        }
        let id = self.index()?.find(digest);
        id.map_or(Ok(false), |id| self.delete(id))
    }
}

/// Returns whether the file of `digest` is a whole frame of its key. `None` if there is no file.
pub(super) fn is_whole(layout: &Layout, digest: u128) -> Result<Option<bool>> {
    match layout.read(digest) {
        Ok(frame) => Ok(Some(verified_key(&frame).is_some_and(|key| key.digest() == digest))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error_at(&layout.path(digest), error)),
    }
}
