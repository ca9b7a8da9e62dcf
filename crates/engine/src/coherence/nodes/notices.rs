//! Notices of other nodes: queued by the thread that reads the bus, applied by the worker.

use std::sync::{Arc, Weak};

use larder_core::bus::{Listener, Notice};
use larder_core::events::{Event, Extent};
use larder_core::key::EncodedKey;

use super::NodeCoherence;
use crate::coherence::copy_tag::{REMOVAL, identity};
use crate::coherence::shared_handle::is_removed_here;
use crate::engine::Engine;
use crate::key_lock::WriteTurn;
use crate::tier_stack::TierStack;
use larder_exec::runtime::block_on;

/// Receives the notices of the bus for one cache. The bus owns this listener and the
/// cache owns the bus, so the reference to the cache is weak.
pub(super) struct BusListener(pub(super) Weak<NodeCoherence>);

impl Listener for BusListener {
    fn told(&self, notice: Notice) {
        match (self.0.upgrade(), notice) {
            (Some(nodes), Notice::Changed(key)) => nodes.push(key),
            (Some(nodes), Notice::Invalidated) => nodes.invalidated(),
            (Some(nodes), Notice::ChangedDigest(digest)) => {
                nodes.long_keys.find(digest).into_iter().for_each(|key| nodes.push(key));
            }
            (Some(nodes), Notice::Leased) => drop(nodes.changed.notify(usize::MAX)),
            (Some(nodes), _) => nodes.miss_window(),
            (None, _) => {}
        }
    }
}

impl Engine {
    /// Whether a notice reports only a change of this node: the shared tier holds what this node wrote last, or
    /// remembers that this node removed it last. A change by another node may share the notice. An absent entry
    /// that this node did not remove tells nothing: another version of the program may have removed it.
    fn is_own_write(&self, nodes: &NodeCoherence, stack: &TierStack, encoded: &EncodedKey) -> bool {
        let Some(expected) = nodes.expected.of(encoded) else { return false };
        let Some(handle) = stack.among_nodes() else { return false };
        match block_on(handle.head(encoded)) {
            Ok(Some(head)) => {
                let found = identity(&head);
                found == expected || handle.is_own(encoded, found)
            }
            Ok(None) if expected == REMOVAL => {
                let found = block_on(handle.look_up(encoded));
                found.is_ok_and(|found| is_removed_here(&found))
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Applies a change by another node: drops the local copies, and keeps a load in
    /// progress from being stored.
    pub(super) fn outdate(self: &Arc<Self>, nodes: &NodeCoherence, encoded: &EncodedKey) {
        let Some(stack) = &self.stack else { return };
        if self.is_own_write(nodes, stack, encoded) {
            return;
        }
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return };
        let turn = WriteTurn::of_upkeep(self.key_locks.hash(&key));
        let Ok(_guard) = block_on(self.key_locks.write(&turn)) else { return };
        if self.discard(&key).is_some() {
            self.events.emit_of(self.events.name(&key), |key| Event::Invalidated(Extent::Key(key)));
        }
        for handle in stack.local() {
            // An entry with a pending write is compared when that write is reconciled.
            if !stack.is_pending(encoded) && handle.inner().usage().entries > 0 {
                // The layer counts a failure, and the handle quarantines the key.
                let _counted = block_on(handle.remove(encoded));
            }
        }
    }
}
