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

use crate::coherence::{Missed, Nodes};
use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;

/// What a read knows of one entry while it asks one tier after another.
pub(crate) struct Doubt {
    unconfirmed_copy: bool,
}

impl Doubt {
    /// Records that a tier could not be read. It matters only for the shared tier.
    pub(crate) fn away_if(&mut self, is_among_nodes: bool) {
        self.unconfirmed_copy |= is_among_nodes;
    }

    /// Whether the copy in `handle` may be outdated.
    pub(crate) fn is_about(&self, handle: &TierHandle) -> bool {
        self.unconfirmed_copy && !handle.is_among_nodes()
    }
}

/// Whether a local copy of an entry may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confidence {
    /// Confirmed: no other node can have changed the entry unnoticed.
    Sure,
    /// Unconfirmed: another node may have changed the entry.
    Doubtful,
    /// Stale: another node changed the entry, or may have and a load can replace it.
    Nothing,
}

impl Engine {
    /// Reconciles a pending write of this key, and returns what uncertainty is left. A
    /// read does this at once, and does not wait until the worker reaches the key.
    pub(crate) async fn confirmation_of(self: &Arc<Self>, stack: &TierStack, key: &EncodedKey) -> Doubt {
        let Some(handle) = stack.among_nodes().filter(|handle| handle.quarantine().covers(key)) else {
            return Doubt { unconfirmed_copy: false };
        };
        if let Some(owed) = handle.quarantine().owed(key).filter(|_| handle.inner().healthy()) {
            // The layer counts a failure, and the write stays pending.
            let _counted = Box::pin(self.repair(stack, handle, &owed)).await;
        }
        Doubt { unconfirmed_copy: handle.quarantine().covers(key) }
    }

    /// Whether a read may ask this tier, although its copy may be outdated.
    pub(crate) fn may_read(&self, doubt: &Doubt, handle: &TierHandle) -> bool {
        !doubt.is_about(handle) || self.nodes.as_ref().is_none_or(|nodes| nodes.serves_unconfirmed())
    }

    /// Classifies a local copy of a key that the shared tier does not have.
    async fn worth(
        &self,
        (stack, handle): (&TierStack, &TierHandle),
        key: &EncodedKey,
        bytes: &[u8],
        doubt: &Doubt,
    ) -> Confidence {
        let (Some(nodes), Some(shared)) = (&self.nodes, stack.among_nodes()) else { return Confidence::Sure };
        if handle.is_among_nodes() {
            return Confidence::Sure;
        }
        if doubt.is_about(handle) {
            return Confidence::Doubtful;
        }
        // A malformed frame is refused when it is opened.
        let Ok(head) = Head::parse(bytes) else { return Confidence::Sure };
        if self.belongs_to_all(stack, &self.facts_of(&head)).is_some() {
            // A leftover of a write that is no longer pending: the shared tier decides,
            // if it can be read.
            return if shared.inner().healthy() { Confidence::Nothing } else { Confidence::Doubtful };
        }
        match nodes.missed_since(head.header.created) {
            Missed::Nothing => Confidence::Sure,
            missed => unheard((nodes, shared), key, missed).await,
        }
    }

    /// Returns whether a copy that was found is unconfirmed; `None` if it must not be
    /// served. Removes a stale copy.
    pub(crate) async fn is_unconfirmed(
        self: &Arc<Self>,
        (stack, handle): (&TierStack, &TierHandle),
        (key, hash): (&EncodedKey, u64),
        bytes: &[u8],
        doubt: &Doubt,
    ) -> Option<bool> {
        match self.worth((stack, handle), key, bytes, doubt).await {
            Confidence::Sure => Some(false),
            Confidence::Doubtful => self.nodes.as_ref()?.serves_unconfirmed().then_some(true),
            Confidence::Nothing => {
                Box::pin(self.drop_worthless((stack, handle), (key, hash), doubt)).await;
                None
            }
        }
    }

    /// Whether a local copy is stale, for an operation that is atomic among all nodes.
    pub(crate) async fn is_worthless(
        &self,
        (stack, handle): (&TierStack, &TierHandle),
        key: &EncodedKey,
        bytes: &[u8],
    ) -> bool {
        let doubt = Doubt { unconfirmed_copy: stack.is_pending(key) };
        self.worth((stack, handle), key, bytes, &doubt).await == Confidence::Nothing
    }

    /// Removes a stale copy, unless a writer or a loader holds the key.
    async fn drop_worthless(
        self: &Arc<Self>,
        (stack, handle): (&TierStack, &TierHandle),
        (key, hash): (&EncodedKey, u64),
        doubt: &Doubt,
    ) {
        let observation = self.key_locks.observe(hash);
        let Some(_guard) = observation.claim() else { return };
        let Ok(Some(bytes)) = handle.head(key).await else { return };
        if !stack.is_pending(key)
            && self.worth((stack, handle), key, &bytes, doubt).await == Confidence::Nothing
        {
            // The layer counts a failure, and the handle quarantines the key.
            let _counted = handle.remove(key).await;
        }
    }

    /// Returns the facts of an entry by the head of its frame.
    pub(crate) fn facts_of(&self, head: &Head<'_>) -> Facts {
        let ttl = EntryMeta::read(&head.header, head.tags).and_then(|terms| terms.ttl);
        self.facts(head.header.value_len, head.header.load_cost, ttl)
    }

    /// Marks a found entry as unconfirmed and counts it.
    pub(crate) fn as_unconfirmed(&self, found: Found) -> Found {
        self.counters.unconfirmed.increment();
        Found { confirmed: false, ..found }
    }
}

/// Classifies a local copy that other nodes may have changed during a missed window.
async fn unheard((nodes, shared): (&Nodes, &TierHandle), key: &EncodedKey, missed: Missed) -> Confidence {
    match shared.inner().get_versioned(key).await {
        Err(_) => Confidence::Doubtful,
        Ok((None, stamp)) if nodes.is_apart(key, stamp) => Confidence::Sure,
        Ok((None, Some(stamp))) if shared.remembers_nothing(key, stamp) => match missed {
            Missed::TooLong => Confidence::Doubtful,
            _ => Confidence::Sure,
        },
        Ok(_) => Confidence::Nothing,
    }
}
