//! Coherence between processes: how a cache learns of changes by others, and what its copies are
//! worth.
//!
//! [`port`] is what the read, write and load paths ask, with a null twin for a cache that no other
//! process shares. [`validated_copies`] answers for processes that share files, [`nodes`] for nodes that
//! share a server.

pub(crate) mod compare_and_set;
pub(crate) mod copy_tag;
pub(crate) mod load_lease;
pub(crate) mod local_copies;
pub(crate) mod local_fallback;
pub(crate) mod log_replica;
pub(crate) mod nodes;
pub(crate) mod own_writes;
pub(crate) mod port;
pub(crate) mod reconcile;
pub(crate) mod shared_handle;
pub(crate) mod validated_copies;

use std::sync::Arc;

use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyLookup, Value};
use larder_core::key::EncodedKey;
use larder_core::memory::Record;

pub(crate) use self::copy_tag::{CopyTag, identity};
pub use self::nodes::CoherencePlan;
use self::nodes::NodeCoherence;
use self::port::{CoherencePort, SingleProcess};
use self::validated_copies::{VersionCoherence, found_in_memory};
use crate::engine::Engine;
use crate::invalidation::log::Invalidations;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use crate::time::timeline::Timeline;

/// Chooses how a cache over these tiers stays coherent with other processes.
pub(crate) fn choose(
    plan: Option<CoherencePlan>,
    tiers: &[TierHandle],
    (invalidations, timeline): (&Arc<Invalidations>, &Arc<Timeline>),
) -> Arc<dyn CoherencePort> {
    match plan {
        Some(plan) => {
            let nodes = NodeCoherence::new(plan, invalidations, timeline, tiers);
            tiers.iter().for_each(|handle| nodes.replicate_in(handle));
            nodes
        }
        None if tiers.iter().any(|handle| handle.versioned().is_some()) => Arc::new(VersionCoherence),
        None => Arc::new(SingleProcess),
    }
}

impl Engine {
    /// Returns the copy of `key` in memory, if it is confirmed.
    #[inline(never)]
    pub(crate) fn confirmed(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        if self.memory_weight_max == 0 {
            return None;
        }
        self.confirmed_by(|| self.memory.get(key))
    }

    /// Returns the record that `find` returns, if it is confirmed.
    pub(crate) fn confirmed_by<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<Record<V>> {
        let (record, is_confirmed) = self.coherence.confirm(find)?;
        is_confirmed.then_some(record)
    }

    /// Returns the copy of `key` in memory, confirmed or not, where nothing better can be
    /// read. That is so while the shared tier is `away`, and while a write of this node
    /// to it is pending.
    pub(crate) fn unconfirmed(&self, stack: &TierStack, key: &EncodedKey, away: bool) -> Option<Found> {
        if !self.coherence.serves_unconfirmed() || !away && !stack.is_pending(key) {
            return None;
        }
        let key = stack.keys.decode(key.as_bytes()).ok()?;
        let (record, confirmed) = self.coherence.confirm(|| self.memory.get(&key))?;
        let freshness = self.freshness(&record);
        if freshness == Freshness::Gone {
            return None;
        }
        self.counters.unconfirmed.increment();
        Some(Found { confirmed, ..found_in_memory(record, freshness) })
    }

    /// Returns the tier that this node shares with other nodes whose changes it hears.
    pub(crate) fn among_nodes(&self) -> Option<&TierHandle> {
        self.stack.as_ref()?.among_nodes()
    }

    /// Whether a write of this node to the shared tier is pending.
    fn has_repairs(&self) -> bool {
        self.among_nodes().is_some_and(|handle| handle.quarantine().is_any())
    }
}
