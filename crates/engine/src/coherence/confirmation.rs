//! What this node alone has of an entry, where others may have gone on without
//! being heard: the tier that all share is away, or is owed a change of it.
//!
//! Who reads such an entry first makes up for what is owed, if that can be done.
//! Otherwise it is served as unconfirmed, or not at all.

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

/// What is known of one entry while tier after tier is asked for it.
pub(crate) struct Doubt {
    unconfirmed_copy: bool,
}

impl Doubt {
    /// A tier could not be read: the one that nodes share, if so.
    pub(crate) fn away_if(&mut self, is_among_nodes: bool) {
        self.unconfirmed_copy |= is_among_nodes;
    }

    /// Whether what `handle` has may be out of date.
    pub(crate) fn is_about(&self, handle: &TierHandle) -> bool {
        self.unconfirmed_copy && !handle.is_among_nodes()
    }
}

/// Whether what a tier of this node has of an entry may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confidence {
    /// Nobody can have changed it unheard.
    Sure,
    /// Somebody may have.
    Doubtful,
    /// Somebody did, or may have where that can be made up for by a load.
    Nothing,
}

impl Engine {
    /// Makes up for a change of this entry that the shared tier is owed: who
    /// reads it does not wait for its turn among all that are. What doubt is
    /// left then.
    pub(crate) async fn confirmation_of(self: &Arc<Self>, stack: &TierStack, key: &EncodedKey) -> Doubt {
        let Some(handle) = stack.among_nodes().filter(|handle| handle.quarantine().covers(key)) else {
            return Doubt { unconfirmed_copy: false };
        };
        if let Some(owed) = handle.quarantine().owed(key).filter(|_| handle.inner().healthy()) {
            // A failure is counted by the layer, and the change stays owed.
            let _counted = Box::pin(self.repair(stack, handle, &owed)).await;
        }
        Doubt { unconfirmed_copy: handle.quarantine().covers(key) }
    }

    /// Whether a tier is to be asked in spite of the doubt.
    pub(crate) fn may_read(&self, doubt: &Doubt, handle: &TierHandle) -> bool {
        !doubt.is_about(handle) || self.nodes.as_ref().is_none_or(|nodes| nodes.serves_unconfirmed())
    }

    /// What the entry is worth that `handle` has, for whom the tier that all share
    /// has none.
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
        // What is no frame is refused by who opens it.
        let Ok(head) = Head::parse(bytes) else { return Confidence::Sure };
        if self.belongs_to_all(stack, &self.facts_of(&head)).is_some() {
            // From a time of which nothing is owed any more.
            return if shared.inner().healthy() { Confidence::Nothing } else { Confidence::Doubtful };
        }
        match nodes.missed_since(head.header.created) {
            Missed::Nothing => Confidence::Sure,
            missed => unheard((nodes, shared), key, missed).await,
        }
    }

    /// Whether an entry that was found is in doubt; `None` where it is not to be
    /// served. What is worth nothing is removed.
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

    /// Whether an entry of this node alone counts for nothing in a step of all.
    pub(crate) async fn is_worthless(
        &self,
        (stack, handle): (&TierStack, &TierHandle),
        key: &EncodedKey,
        bytes: &[u8],
    ) -> bool {
        let doubt = Doubt { unconfirmed_copy: stack.is_pending(key) };
        self.worth((stack, handle), key, bytes, &doubt).await == Confidence::Nothing
    }

    /// Removes an entry that is worth nothing, unless it is being stored now.
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
            // A failure is counted by the layer and the key distrusted by the handle.
            let _counted = handle.remove(key).await;
        }
    }

    /// The facts of an entry, by its head.
    pub(crate) fn facts_of(&self, head: &Head<'_>) -> Facts {
        let ttl = EntryMeta::read(&head.header, head.tags).and_then(|terms| terms.ttl);
        self.facts(head.header.value_len, head.header.load_cost, ttl)
    }

    /// What was found in a tier, in doubt.
    pub(crate) fn as_unconfirmed(&self, found: Found) -> Found {
        self.counters.unconfirmed.increment();
        Found { confirmed: false, ..found }
    }
}

/// What an entry is worth that others may have changed while they were not heard.
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
