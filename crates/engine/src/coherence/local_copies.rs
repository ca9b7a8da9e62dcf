//! Confirmation of local copies: whether a copy that only this node holds may still be
//! served.
//!
//! A local copy is uncertain while the shared tier is unavailable or lacks a write of
//! this node: another node may have changed the entry unnoticed. A reader of such an
//! entry first tries to reconcile the pending write. If that fails, the copy is served as
//! unconfirmed, or not at all.

use std::sync::Arc;

use larder_core::entry_meta::EntryMeta;
use larder_core::frame::Head;
use larder_core::key::EncodedKey;
use larder_core::place::Facts;

use crate::coherence::nodes::{Missed, NodeCoherence};
use crate::coherence::port::PortReply;
use crate::coherence::shared_handle::{is_never_removed, is_removed_here};
use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// What a read knows of one entry while it asks one tier after another.
pub(crate) struct SharedView {
    /// Whether the shared tier could not be read, or lacks a write of this node.
    is_uncertain: bool,
}

impl SharedView {
    /// Nothing is pending, and no tier has failed.
    pub(crate) const CERTAIN: Self = Self { is_uncertain: false };

    /// Records that a tier could not be read. It matters only for the shared tier.
    pub(crate) fn failed(&mut self, handle: &TierHandle) {
        self.is_uncertain |= handle.is_among_nodes();
    }

    /// Whether the copy in `handle` may be outdated.
    pub(crate) fn leaves_uncertain(&self, handle: &TierHandle) -> bool {
        self.is_uncertain && !handle.is_among_nodes()
    }
}

/// An entry as a tier of this node has it.
#[derive(Clone, Copy)]
pub(crate) struct LocalCopy<'a> {
    pub(crate) stack: &'a TierStack,
    pub(crate) handle: &'a TierHandle,
    pub(crate) key: &'a EncodedKey,
    /// The beginning of its frame, at least the whole head.
    pub(crate) head: &'a [u8],
}

/// Whether a local copy of an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmation {
    /// No other node can have changed the entry unnoticed.
    Confirmed,
    /// Another node may have changed the entry.
    Unconfirmed,
    /// Another node changed the entry, or may have and a load can replace it.
    Stale,
}

impl Engine {
    /// Reconciles a pending write of this key, and returns what uncertainty is left. A
    /// read does this at once, and does not wait until the worker reaches the key.
    pub(crate) async fn shared_view(self: &Arc<Self>, stack: &TierStack, key: &EncodedKey) -> SharedView {
        let Some(handle) = stack.among_nodes().filter(|handle| handle.quarantine().covers(key)) else {
            return SharedView::CERTAIN;
        };
        if let Some(pending) = handle.quarantine().pending(key).filter(|_| handle.inner().healthy()) {
            // The layer counts a failure, and the write stays pending.
            let _counted = Box::pin(self.repair(stack, handle, &pending)).await;
        }
        SharedView { is_uncertain: handle.quarantine().covers(key) }
    }

    /// Whether a read may ask this tier, although its copy may be outdated.
    pub(crate) fn may_read(&self, view: &SharedView, handle: &TierHandle) -> bool {
        !view.leaves_uncertain(handle) || self.coherence.serves_unconfirmed()
    }

    /// Classifies a local copy of a key that the shared tier does not have.
    pub(super) fn confirm_local<'a>(
        &'a self,
        nodes: &'a NodeCoherence,
        copy: LocalCopy<'a>,
        view: &SharedView,
    ) -> PortReply<'a, Confirmation> {
        let LocalCopy { stack, handle, key, head } = copy;
        let Some(shared) = stack.among_nodes().filter(|_| !handle.is_among_nodes()) else {
            return PortReply::Now(Confirmation::Confirmed);
        };
        if view.leaves_uncertain(handle) {
            return PortReply::Now(Confirmation::Unconfirmed);
        }
        // A malformed frame is refused when it is opened.
        let Ok(head) = Head::parse(head) else { return PortReply::Now(Confirmation::Confirmed) };
        if self.belongs_to_all(stack, &self.facts_of(&head)).is_some() {
            // A leftover of a write that is no longer pending: the shared tier decides,
            // if it can be read.
            let is_decided = shared.inner().healthy();
            return PortReply::Now(if is_decided { Confirmation::Stale } else { Confirmation::Unconfirmed });
        }
        match nodes.missed_since(head.header.created) {
            Missed::Nothing => PortReply::Now(Confirmation::Confirmed),
            missed => PortReply::Later(Box::pin(after_missed_window(nodes, shared, key, missed))),
        }
    }

    /// Returns whether a copy that was found is unconfirmed; `None` if it must not be
    /// served. Removes a stale copy.
    pub(crate) async fn is_unconfirmed(
        self: &Arc<Self>,
        copy: LocalCopy<'_>,
        hash: u64,
        view: &SharedView,
    ) -> Option<bool> {
        match self.coherence.confirm_local(self, copy, view).get().await {
            Confirmation::Confirmed => Some(false),
            Confirmation::Unconfirmed => self.coherence.serves_unconfirmed().then_some(true),
            Confirmation::Stale => {
                Box::pin(self.drop_stale_copy(copy, hash, view)).await;
                None
            }
        }
    }

    /// Whether a local copy is stale, for an operation that is atomic among all nodes.
    pub(crate) async fn is_stale_copy(&self, copy: LocalCopy<'_>) -> bool {
        let view = SharedView { is_uncertain: copy.stack.is_pending(copy.key) };
        self.coherence.confirm_local(self, copy, &view).get().await == Confirmation::Stale
    }

    /// Removes a stale copy, unless a writer or a loader holds the key.
    async fn drop_stale_copy(
        self: &Arc<Self>,
        LocalCopy { stack, handle, key, .. }: LocalCopy<'_>,
        hash: u64,
        view: &SharedView,
    ) {
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return };
        let Ok(Some(head)) = handle.head(key).await else { return };
        let copy = LocalCopy { stack, handle, key, head: &head };
        let confirmation = self.coherence.confirm_local(self, copy, view);
        if !stack.is_pending(key) && confirmation.get().await == Confirmation::Stale {
            // The layer counts a failure, and the handle quarantines the key.
            let _counted = handle.remove(key).await;
        }
    }

    /// Returns the facts of an entry by the head of its frame.
    pub(crate) fn facts_of(&self, head: &Head<'_>) -> Facts {
        let terms = EntryMeta::read(&head.header, head.attributes).unwrap_or(EntryMeta::PLAIN);
        self.facts(head.header.value_len, head.header.load_cost, &terms)
    }

    /// Marks a found entry as unconfirmed and counts it.
    pub(crate) fn as_unconfirmed(&self, found: Found) -> Found {
        self.counters.unconfirmed.increment();
        Found { confirmed: false, ..found }
    }
}

/// Classifies a local copy that other nodes may have changed during a missed window.
async fn after_missed_window(
    nodes: &NodeCoherence,
    shared: &TierHandle,
    key: &EncodedKey,
    missed: Missed,
) -> Confirmation {
    match shared.look_up(key).await {
        Err(_) => Confirmation::Unconfirmed,
        Ok(found) if found.frame.is_none() && nodes.is_local(key, found.version) => Confirmation::Confirmed,
        // This node removes its own copies with the shared entry, so this copy is newer than its own removal.
        Ok(found) if is_never_removed(&found) || is_removed_here(&found) => match missed {
            Missed::TooLong => Confirmation::Unconfirmed,
            _ => Confirmation::Confirmed,
        },
        Ok(_) => Confirmation::Stale,
    }
}
