//! One load of a key among all nodes.
//!
//! Who leads the flight of a node takes a lease of the key in the tier that all
//! share, for as long as a load may last. The others wait for what it stores,
//! and lead next when it ends without. A lease that outlives its holder ends by
//! itself. It saves work and promises nothing: what a load stores depends on its
//! [base](larder_core::key::EncodedKey::base), so one that lost its lease
//! stores nothing over what came later.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::key::EncodedKey;
use larder_core::memory::MemoryStore;
use larder_core::tier::{LoadLease, REMOVAL_LIFE, Stamp};

use crate::engine::Engine;
use crate::flight::{Flight, running};
use crate::load::Lead;
use crate::wait::Wait;

/// How long a load of another node is waited for, and how long a lease lasts.
const LEASE: Duration = Duration::from_secs(10);
/// Between two looks at a lease of another node, if nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Gives a lease up when it is dropped.
pub(crate) struct NodeLease(Option<Box<dyn FnOnce() + Send>>);

impl NodeLease {
    pub(crate) const NONE: Self = Self(None);
}

impl Drop for NodeLease {
    fn drop(&mut self) {
        if let Some(give_up) = self.0.take() {
            give_up();
        }
    }
}

/// What became of the wish to lead among all nodes.
pub(crate) enum Turn {
    /// Load: nobody else does, or nobody can tell.
    Load(NodeLease),
    /// The same, but look once more: there is an entry by now.
    LookAndLoad(NodeLease),
    /// Somebody else has the lease, or had: look again.
    Look,
}

impl<K, V, M> Engine<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    /// Until when a caller that misses now waits for loads of other nodes.
    /// `None` where it does not: it is part of a load itself, which others may
    /// be waiting for.
    pub(crate) fn patience_with_nodes(&self, has_stale: bool) -> Option<Instant> {
        self.shared()?;
        if !running().is_empty() {
            return None;
        }
        let said = self.expiry.said();
        let soft = said.soft_timeout.filter(|_| has_stale);
        let limit = soft.into_iter().chain(said.hard_timeout).chain([LEASE]).min()?;
        Instant::now().checked_add(limit)
    }

    /// Takes the lease of a key that was missing, or waits until who has it is
    /// done, or for a moment.
    pub(crate) async fn turn<W: Wait>(self: &Arc<Self>, key: &EncodedKey, until: Instant) -> Turn {
        let Some(nodes) = &self.nodes else { return Turn::Load(NodeLease::NONE) };
        // Before the look at the lease: its end is heard from here on.
        let listener = nodes.changed.listen();
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        match leased {
            Ok(Some(Some((true, lease)))) => Turn::LookAndLoad(lease),
            Ok(Some(Some((false, lease)))) => Turn::Load(lease),
            Ok(Some(None)) if Instant::now() < until => {
                let moment = Instant::now() + LOOK_AGAIN;
                W::event_until(listener, Some(moment.min(until))).await;
                Turn::Look
            }
            // Away, or too slow: it is loaded here all the same.
            _ => Turn::Load(NodeLease::NONE),
        }
    }

    /// A refresh as it is to be done where others may do it as well: based on
    /// what they have now, and by one of them.
    pub(crate) async fn refresh_among_nodes<W: Wait>(
        self: &Arc<Self>,
        lead: Lead<K, V>,
    ) -> Option<Lead<K, V>> {
        let (Some(_), Some(key)) = (self.shared(), &lead.encoded) else { return Some(lead) };
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        let among_nodes = match leased {
            Ok(Some(Some((_, lease)))) => lease,
            // Another node refreshes it, and tells.
            Ok(Some(None)) => return None,
            _ => NodeLease::NONE,
        };
        let (based, found) = self.seek_based::<W>(key.clone(), lead.leader.hash()).await;
        found.ok()?;
        Some(Lead { encoded: Some(based), among_nodes, ..lead })
    }

    /// The key of a load that is over: removals of too long ago are forgotten,
    /// so what began before is not stored.
    pub(crate) fn still_based(&self, key: EncodedKey, flight: &Flight<V>) -> EncodedKey {
        let forgotten = flight.lasted(REMOVAL_LIFE / 2).is_some_and(|moment| moment < Instant::now());
        if forgotten && self.nodes.is_some() { key.based_on(Stamp::NONE) } else { key }
    }

    /// A lease that gives itself up, also where its caller has gone by then; and
    /// whether there is an entry.
    async fn lease(self: &Arc<Self>, key: &EncodedKey) -> Option<Option<(bool, NodeLease)>> {
        let slot = self.among_nodes()?;
        let span = self.expiry.said().hard_timeout.unwrap_or(LEASE);
        // A failure is counted by the layer.
        let leased = slot.tier().lease_load(key, span).await.ok()?;
        Some(leased.map(|lease| (lease.present, self.holding(key, lease))))
    }

    fn holding(self: &Arc<Self>, key: &EncodedKey, lease: LoadLease) -> NodeLease {
        let (engine, key) = (Arc::clone(self), key.clone());
        NodeLease(Some(Box::new(move || {
            if let Some(slot) = engine.among_nodes() {
                slot.tier().release_load(&key, lease.number);
            }
        })))
    }
}
