//! What this node alone has of an entry, where others may have gone on without
//! being heard: the tier that all share is away, or is owed a change of it.
//!
//! Who reads such an entry first makes up for what is owed, if that can be done.
//! Otherwise it is served as unconfirmed, or not at all.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::key::EncodedKey;
use larder_core::memory::MemoryStore;

use crate::engine::Engine;
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

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// Makes up for a change of this entry that the shared tier is owed: who
    /// reads it does not wait for its turn among all that are. What doubt is
    /// left then.
    pub(crate) async fn doubt_of(self: &Arc<Self>, wire: &Wire<K, V>, key: &EncodedKey) -> Doubt {
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

    /// What was found in a tier, in doubt.
    pub(crate) fn doubted(&self, found: Found<V>) -> Found<V> {
        self.counters.unconfirmed.increment();
        Found { confirmed: false, ..found }
    }
}
