//! Calls of tiers that answer on the calling thread, without a future.

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::tier::{BlockingTier, Tier};
use larder_core::{Bytes, Result};
use larder_exec::runtime::block_on;
use larder_exec::uncancellable;

use crate::tier_stack::tier_handle::TierHandle;

impl TierHandle {
    /// As [`get`](Self::get), for a tier that answers on the calling thread and is not among nodes.
    pub(crate) fn get_blocking(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        match self.tier.blocking() {
            Some(tier) if !self.quarantine.covers(key) => {
                let found = tier.get_blocking(key)?;
                match found.as_ref().and_then(|frame| self.dictionaries.get()?.missing_for(frame)) {
                    Some(number) => block_on(self.find_dictionary(number)).map(|_| found),
                    None => Ok(found),
                }
            }
            _ => Ok(None),
        }
    }

    /// As [`put`](Self::put), for a tier that answers on the calling thread. A failure changes nothing here:
    /// the caller puts the frame once more.
    pub(crate) fn put_blocking(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let tier = self.tier.blocking().ok_or_else(|| self.lacks_ability("does not block"))?;
        tier.put_blocking(key, frame)?;
        self.stored(key, frame.head());
        Ok(())
    }

    /// As [`remove`](Self::remove), for a tier that answers on the calling thread and is not read-only.
    pub(crate) fn remove_blocking(&self, key: &EncodedKey) -> Result<bool> {
        let tier = self.tier.blocking().ok_or_else(|| self.lacks_ability("does not block"))?;
        let removed = tier.remove_blocking(key);
        self.removed(key, removed)
    }

    /// Returns the tier as one that answers on this thread, if this thread may block.
    pub(super) fn on_this_thread(&self) -> Option<&dyn BlockingTier> {
        self.tier.blocking().filter(|_| uncancellable::may_block())
    }
}
