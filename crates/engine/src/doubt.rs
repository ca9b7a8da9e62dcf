//! What this node alone has of an entry, where others may have gone on without
//! being heard: the tier that all share is away, or is owed a change of it.
//!
//! Who reads such an entry first makes up for what is owed, if that can be done.
//! Otherwise it is served as unconfirmed, or not at all.

use std::sync::Arc;

use larder_core::frame::Head;
use larder_core::key::EncodedKey;
use larder_core::place::Facts;
use larder_core::terms::Terms;

use crate::engine::Engine;
use crate::nodes::{Missed, Nodes};
use crate::read::Found;
use crate::slot::Slot;
use crate::wire::Wire;

/// What is known of one entry while tier after tier is asked for it.
pub(crate) struct Doubt {
    in_doubt: bool,
}

impl Doubt {
    /// A tier could not be read: the one that nodes share, if so.
    pub(crate) fn away_if(&mut self, is_among_nodes: bool) {
        self.in_doubt |= is_among_nodes;
    }

    /// Whether what `slot` has may be out of date.
    pub(crate) fn is_about(&self, slot: &Slot) -> bool {
        self.in_doubt && !slot.is_among_nodes()
    }
}

/// Whether what a tier of this node has of an entry may serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
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
    pub(crate) async fn doubt_of(self: &Arc<Self>, wire: &Wire, key: &EncodedKey) -> Doubt {
        let Some(slot) = wire.among_nodes().filter(|slot| slot.distrust().covers(key)) else {
            return Doubt { in_doubt: false };
        };
        if let Some(owed) = slot.distrust().owed(key).filter(|_| slot.tier().healthy()) {
            // A failure is counted by the layer, and the change stays owed.
            let _counted = Box::pin(self.repair(wire, slot, &owed)).await;
        }
        Doubt { in_doubt: slot.distrust().covers(key) }
    }

    /// Whether a tier is to be asked in spite of the doubt.
    pub(crate) fn dares(&self, doubt: &Doubt, slot: &Slot) -> bool {
        !doubt.is_about(slot) || self.nodes.as_ref().is_none_or(|nodes| nodes.serves_unconfirmed())
    }

    /// What the entry is worth that `slot` has, for whom the tier that all share
    /// has none.
    async fn worth(
        &self,
        (wire, slot): (&Wire, &Slot),
        key: &EncodedKey,
        bytes: &[u8],
        doubt: &Doubt,
    ) -> Worth {
        let (Some(nodes), Some(shared)) = (&self.nodes, wire.among_nodes()) else { return Worth::Sure };
        if slot.is_among_nodes() {
            return Worth::Sure;
        }
        if doubt.is_about(slot) {
            return Worth::Doubtful;
        }
        // What is no frame is refused by who opens it.
        let Ok(head) = Head::parse(bytes) else { return Worth::Sure };
        if self.belongs_to_all(wire, &self.facts_of(&head)).is_some() {
            // From a time of which nothing is owed any more.
            return if shared.tier().healthy() { Worth::Nothing } else { Worth::Doubtful };
        }
        match nodes.missed_since(head.header.created) {
            Missed::Nothing => Worth::Sure,
            missed => unheard((nodes, shared), key, missed).await,
        }
    }

    /// Whether an entry that was found is in doubt; `None` where it is not to be
    /// served. What is worth nothing is removed.
    pub(crate) async fn is_doubted(
        self: &Arc<Self>,
        (wire, slot): (&Wire, &Slot),
        (key, hash): (&EncodedKey, u64),
        bytes: &[u8],
        doubt: &Doubt,
    ) -> Option<bool> {
        match self.worth((wire, slot), key, bytes, doubt).await {
            Worth::Sure => Some(false),
            Worth::Doubtful => self.nodes.as_ref()?.serves_unconfirmed().then_some(true),
            Worth::Nothing => {
                Box::pin(self.drop_worthless((wire, slot), (key, hash), doubt)).await;
                None
            }
        }
    }

    /// Whether an entry of this node alone counts for nothing in a step of all.
    pub(crate) async fn is_worthless(
        &self,
        (wire, slot): (&Wire, &Slot),
        key: &EncodedKey,
        bytes: &[u8],
    ) -> bool {
        let doubt = Doubt { in_doubt: wire.is_owed(key) };
        self.worth((wire, slot), key, bytes, &doubt).await == Worth::Nothing
    }

    /// Removes an entry that is worth nothing, unless it is being stored now.
    async fn drop_worthless(
        self: &Arc<Self>,
        (wire, slot): (&Wire, &Slot),
        (key, hash): (&EncodedKey, u64),
        doubt: &Doubt,
    ) {
        let observation = self.gates.observe(hash);
        let Some(_ticket) = observation.claim() else { return };
        let Ok(Some(bytes)) = slot.head(key).await else { return };
        if !wire.is_owed(key) && self.worth((wire, slot), key, &bytes, doubt).await == Worth::Nothing {
            // A failure is counted by the layer and the key distrusted by the slot.
            let _counted = slot.remove(key).await;
        }
    }

    /// The facts of an entry, by its head.
    pub(crate) fn facts_of(&self, head: &Head<'_>) -> Facts {
        let ttl = Terms::read(&head.header, head.tags).and_then(|terms| terms.ttl);
        self.facts(head.header.value_len, head.header.load_cost, ttl)
    }

    /// What was found in a tier, in doubt.
    pub(crate) fn doubted(&self, found: Found) -> Found {
        self.counters.unconfirmed.increment();
        Found { confirmed: false, ..found }
    }
}

/// What an entry is worth that others may have changed while they were not heard.
async fn unheard((nodes, shared): (&Nodes, &Slot), key: &EncodedKey, missed: Missed) -> Worth {
    match shared.tier().get_stamped(key).await {
        Err(_) => Worth::Doubtful,
        Ok((None, stamp)) if nodes.is_apart(key, stamp) => Worth::Sure,
        Ok((None, Some(stamp))) if shared.remembers_nothing(key, stamp) => match missed {
            Missed::TooLong => Worth::Doubtful,
            _ => Worth::Sure,
        },
        Ok(_) => Worth::Nothing,
    }
}
