//! What a [`TierHandle`] can do if nodes share its tier: versions and compare-and-set.

use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{
    ConditionalPut, EntryVersion, LastRemoval, PartitionEpoch, PutOptions, RemovalCause, SharedTier,
    VersionedFrame,
};

use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// Returns the tier as one that nodes share.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if nodes cannot share it.
    pub(crate) fn shared(&self) -> Result<&dyn SharedTier> {
        self.inner().shared().ok_or_else(|| self.lacks_ability("is not shared by nodes"))
    }

    /// Returns the epoch of the partition of `key`; the same for every key of a tier that nodes do not
    /// share.
    pub(crate) fn epoch(&self, key: &EncodedKey) -> PartitionEpoch {
        self.inner().shared().map_or_else(PartitionEpoch::default, |shared| shared.epoch(key))
    }

    /// Returns the present time of the server that nodes share, as far as it is known.
    pub(crate) fn server_time(&self, key: &EncodedKey) -> Option<Time> {
        self.inner().shared()?.server_time(key)
    }

    /// Returns how long the tier remembers a removal.
    pub(crate) fn removals_remembered(&self) -> Duration {
        self.inner().shared().map_or(Duration::ZERO, |shared| shared.removals_remembered())
    }

    /// Reads the frame of `key` with its version; no frame while the key is quarantined.
    pub(crate) async fn get_versioned(&self, key: &EncodedKey) -> Result<VersionedFrame> {
        let was_covered = self.quarantine().covers(key);
        let found = self.shared()?.get_versioned(key).await?;
        self.prepare(found.frame.as_ref()).await?;
        // Also if there is no entry: the next write takes its sequence number from the
        // invalidations.
        self.ensure_current(true).await?;
        Ok(self.trusted(key, was_covered, found))
    }

    /// Reads the frame of `key` with its version, whatever is quarantined, and without
    /// judging the frame.
    pub(crate) async fn look_up(&self, key: &EncodedKey) -> Result<VersionedFrame> {
        self.shared()?.get_versioned(key).await
    }

    /// Withholds the frame of a key that is quarantined or was when the read began: a write that replaces the
    /// outdated frame during the read releases the key.
    fn trusted(&self, key: &EncodedKey, was_covered: bool, found: VersionedFrame) -> VersionedFrame {
        match was_covered || self.quarantine().covers(key) {
            true => VersionedFrame { frame: None, last_removal: LastRemoval::Other, ..found },
            false => found,
        }
    }

    /// Whether no other node can have changed an absent entry during a load that could
    /// not read its version first. The load took `load_cost`; a removal since then would
    /// still be remembered.
    pub(crate) fn is_untouched(&self, found: &VersionedFrame, load_cost: Option<Duration>) -> bool {
        is_never_removed(found) && load_cost.is_some_and(|cost| cost <= self.removals_remembered() / 3)
    }

    /// Reads the frames of `keys` with their versions, as
    /// [`get_versioned`](Self::get_versioned) does, with as few round trips as the tier
    /// needs.
    pub(crate) async fn get_many_versioned(&self, keys: &[EncodedKey]) -> Vec<Result<VersionedFrame>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(error) => return keys.iter().map(|_| Err(self.again(&error))).collect(),
        };
        let were_covered = self.quarantine().cover_each(keys);
        let mut found = shared.get_many_versioned(keys).await;
        for found in &mut found {
            if let Ok(read) = found
                && let Err(error) = self.prepare(read.frame.as_ref()).await
            {
                *found = Err(error);
            }
        }
        self.ensure_all_current(true, &mut found).await;
        let found = found.into_iter().zip(keys.iter().zip(were_covered));
        found.map(|(found, (key, was_covered))| Ok(self.trusted(key, was_covered, found?))).collect()
    }

    /// Writes a frame if the entry has the version that `options` requires. Returns whether
    /// it was written. On failure the entry is not removed, because it may be another
    /// node's by now.
    pub(crate) async fn compare_and_set(
        &self,
        key: &EncodedKey,
        frame: &Frame,
        options: PutOptions,
    ) -> Result<bool> {
        let put = match self.inner().versioned() {
            Some(versioned) => versioned.compare_and_set(key, frame, options).await,
            None => self.shared()?.compare_and_set(key, frame, options).await,
        };
        self.retry_put(key, frame, put)
    }

    /// Removes the entry if it has this version. Returns whether it was removed. On failure the key is not
    /// quarantined, because the entry may be another node's by now.
    pub(crate) async fn compare_and_remove(
        &self,
        key: &EncodedKey,
        if_version: EntryVersion,
        cause: RemovalCause,
    ) -> Result<bool> {
        let removed = self.shared()?.compare_and_remove(key, if_version, cause).await?;
        if removed && cause == RemovalCause::Requested {
            self.gone(key);
        }
        Ok(removed)
    }

    /// Takes the result of a conditional write. A pending write stays pending unless the
    /// frame was stored.
    fn retry_put(&self, key: &EncodedKey, frame: &Frame, put: Result<bool>) -> Result<bool> {
        let stored = put.inspect_err(|_| self.note_unanswered(key, frame))?;
        if stored {
            self.stored(key, frame.head());
        }
        Ok(stored)
    }

    /// Writes frames as [`compare_and_set`](Self::compare_and_set) does, with as few round
    /// trips as the tier needs.
    pub(crate) async fn compare_and_set_many(&self, puts: &[ConditionalPut]) -> Vec<Result<bool>> {
        let stored = match self.shared() {
            Ok(shared) => shared.compare_and_set_many(puts).await,
            Err(error) => puts.iter().map(|_| Err(self.again(&error))).collect(),
        };
        let stored = puts.iter().zip(stored);
        stored.map(|(put, stored)| self.retry_put(&put.key, &put.frame, stored)).collect()
    }
}

/// Whether there is no entry, and the tier remembers no removal of one.
pub(crate) fn is_never_removed(found: &VersionedFrame) -> bool {
    found.frame.is_none() && found.last_removal == LastRemoval::None
}

/// Whether there is no entry, and the last removal that the tier remembers is one of this node.
pub(crate) fn is_removed_here(found: &VersionedFrame) -> bool {
    found.frame.is_none() && found.last_removal == LastRemoval::Own
}
