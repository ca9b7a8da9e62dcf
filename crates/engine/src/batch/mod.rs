//! Operations on many keys in one call: as for one key, with one round trip for a part of them.

pub(crate) mod load;
mod publish;
pub(crate) mod read;
mod write;

use crate::engine::Engine;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// The tier that takes the writes of a batch together: one that answers from afar, so that a round trip counts.
#[derive(Clone, Copy)]
pub(crate) struct BatchTier<'a> {
    pub(crate) stack: &'a TierStack,
    pub(crate) handle: &'a TierHandle,
}

impl Engine {
    /// Returns the tier that nodes share, or else the nearest one that does not block.
    fn batch_tier(&self) -> Option<BatchTier<'_>> {
        let stack = self.stack.as_ref()?;
        let afar = || stack.tiers.iter().find(|handle| !handle.blocks() && !handle.is_read_only());
        self.shared().map(|shared| shared.handle()).or_else(afar).map(|handle| BatchTier { stack, handle })
    }
}
