//! Entries that were found and must not be served: why, and what becomes of them.

use std::sync::Arc;

use larder_core::compress::dictionary::is_lost;
use larder_core::entry_meta::Freshness;
use larder_core::frame::{self, FrameError};
use larder_core::key::EncodedKey;
use larder_core::tier::{RemovalCause, VersionedFrame};
use larder_core::{Bytes, Error, ErrorKind, Result};

use crate::coherence::identity;
use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// Why a frame that was found is not served.
pub(crate) enum Refusal {
    /// Its deadline has passed, or an invalidation ended it.
    Over,
    /// It is damaged, or of another type or program.
    Unreadable,
}

impl Engine {
    /// Removes an entry that must not be served, unless it was replaced since it was read or is
    /// being stored now. Removes an entry of a shared tier only if no other node or process can use
    /// it: an entry that is merely past its deadline is left to the tier, which expires it by its
    /// own clock, because the clock of this node may be wrong. Returns whether it was removed.
    pub(crate) async fn drop_gone(
        self: &Arc<Self>,
        stack: &TierStack,
        handle: &TierHandle,
        key: &EncodedKey,
        hash: u64,
    ) -> bool {
        if handle.is_read_only() {
            return false;
        }
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return false };
        if handle.is_among_nodes() {
            return self.drop_gone_shared(stack, handle, key).await.unwrap_or(false);
        }
        let Ok(Some(bytes)) = handle.get(key).await else { return false };
        // The layer counts a failure, and the handle quarantines the key.
        self.is_gone(stack, handle, bytes, key) && handle.remove(key).await.is_ok()
    }

    /// As [`drop_gone`](Self::drop_gone), for a tier that nodes share: another node may replace the entry
    /// meanwhile.
    async fn drop_gone_shared(
        &self,
        stack: &TierStack,
        handle: &TierHandle,
        key: &EncodedKey,
    ) -> Result<bool> {
        let VersionedFrame { frame: Some(bytes), version: Some(version), .. } =
            handle.get_versioned(key).await?
        else {
            return Ok(false);
        };
        let cause = RemovalCause::Outdated(identity(&bytes) as u32);
        Ok(self.is_gone(stack, handle, bytes, key) && handle.compare_and_remove(key, version, cause).await?)
    }

    /// Returns whether an entry can no longer be served at all.
    fn is_gone(&self, stack: &TierStack, handle: &TierHandle, bytes: Bytes, key: &EncodedKey) -> bool {
        let is_damaged = frame::open_with_attributes(&bytes, key).is_err();
        match reentrancy::within(|| self.judge(stack, handle, bytes, key)) {
            Ok(found) if handle.is_shared() => {
                let terms = found.decoded.terms.freshness(self.timeline.now());
                found.freshness == Freshness::Gone && terms != Freshness::Gone
            }
            Ok(found) => found.freshness == Freshness::Gone,
            Err(error) if is_sealed(&error) => false,
            // Others may be able to read it, for example another version of the program.
            Err(_) => is_damaged || !handle.is_shared(),
        }
    }
}

/// Counts and logs an entry that is not served: it is damaged, has another type, or cannot be
/// decoded by its codec.
pub(crate) fn note_refusal(handle: &TierHandle, key: &EncodedKey, error: &Error) {
    let (counters, cache) = (handle.counters(), handle.counters().signals.cache());
    if error.kind() == ErrorKind::Codec {
        counters.undecodable.increment();
        tracing::warn!(target: "larder", cache, tier = %handle.kind(), key = ?key, error = ?error, "an intact entry cannot be decoded");
        return;
    }
    if is_sealed(error) {
        counters.unopened.increment();
    } else if is_lost(error) {
        counters.lost_dictionary.increment();
    } else {
        counters.refused.increment();
    }
    tracing::warn!(target: "larder", cache, tier = %handle.kind(), key = ?key, error = ?error, "an entry was rejected");
}

/// Whether an entry was refused because it is sealed by a key that this cache does not have. Another cache may
/// have it, so the entry is left alone.
pub(crate) fn is_sealed(error: &Error) -> bool {
    use std::error::Error as _;
    error.source().and_then(|source| source.downcast_ref()) == Some(&FrameError::Sealed)
}
