//! Moves an entry that was read to the tier that its placement names now.

use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::Placement;
use larder_core::tier::TierKind;

use crate::engine::Engine;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

impl Engine {
    /// Returns the tier beyond memory to which an entry that this tier had is to be moved, if the selector
    /// learns and names another one.
    pub(crate) fn new_home(&self, had: &TierHandle, placement: &Placement) -> Option<TierKind> {
        let home = placement.home;
        let is_beyond = home != had.kind() && !matches!(home, TierKind::Memory | TierKind::Null);
        (self.pupil.is_some() && is_beyond).then_some(home)
    }

    /// Moves an entry, unless it changed or is being changed. The former copy goes first, so that an entry is
    /// never in two tiers: a write that fails loses it.
    pub(crate) async fn relocate(
        self: &Arc<Self>,
        stack: &TierStack,
        from: &TierHandle,
        (key, hash): (&EncodedKey, u64),
        to: TierKind,
    ) {
        // What is shared may change meanwhile, and what is read only cannot be moved.
        let can_move = |handle: &TierHandle| !handle.is_read_only() && !handle.is_shared();
        let Some(target) = stack.tier(to).filter(|to| can_move(to) && can_move(from)) else { return };
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return };
        if self.is_closed() {
            return;
        }
        let Ok(Some(bytes)) = from.get(key).await else { return };
        let Some((header, terms, payload)) = self.fresh_parts(from, &bytes, key) else { return };
        if let Ok(true) = from.remove(key).await {
            let frame = Frame::new(&header, key, &target.attributes(key, &terms), payload);
            // The layer counts a failure.
            if target.put(key, &frame).await.is_ok() {
                self.note_moved(key, from.kind(), to);
            }
        }
    }
}
