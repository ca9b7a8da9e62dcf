//! One load of a key among all nodes.
//!
//! Who leads the flight of a node takes a lease of the key in the tier that all
//! share, for as long as a load may last. The others wait for what it stores,
//! and lead next when it ends without. A lease that outlives its holder ends by
//! itself. It saves work and promises nothing: what a load stores depends on its
//! [base](larder_core::key::EncodedKey::base), so one that lost its lease
//! stores nothing over what came later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::EventListener;
use larder_core::key::EncodedKey;
use larder_core::tier::{EntryVersion, LoadLease, REMOVAL_LIFE};

use crate::engine::Engine;
use crate::key_lock::flight::Flight;
use crate::key_lock::wait_graph::Loaders;
use crate::load::Leader;
use larder_exec::runtime::Runtime;

/// How long a load of another node is waited for, and how long a lease lasts.
const LEASE: Duration = Duration::from_secs(10);
/// Between two looks at a lease of another node, if nothing was heard.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A lease, or part of several that were taken together: these are given up
/// together, when the last part is dropped. A flight holds it until it ends.
#[derive(Clone)]
pub(crate) struct LeaseGuard(#[expect(dead_code, reason = "a guard")] Option<Arc<Held>>);

impl LeaseGuard {
    pub(crate) const NONE: Self = Self(None);
}

struct Held {
    give_up: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(give_up) = self.give_up.take() {
            give_up();
        }
    }
}

/// What became of the wish to lead among all nodes.
pub(crate) enum LeaseOutcome {
    /// Load: nobody else does, or nobody can emit.
    Load(LeaseGuard),
    /// The same, but look once more: there is an entry by now.
    LookAndLoad(LeaseGuard),
    /// Somebody else has the lease, or had: look again.
    Look,
}

impl Engine {
    /// Until when a caller that misses now waits for loads of other nodes.
    /// `None` where it does not: it is part of a load itself, which others may
    /// be waiting for.
    pub(crate) fn patience_with_nodes(&self, has_stale: bool) -> Option<Instant> {
        self.shared()?;
        if !Loaders::current().is_some_and(|loaders| loaders.is_empty()) {
            return None;
        }
        let said = self.expiry.said();
        let soft = said.soft_timeout.filter(|_| has_stale);
        let limit = soft.into_iter().chain(said.hard_timeout).chain([LEASE]).min()?;
        Instant::now().checked_add(limit)
    }

    /// Takes the lease of a key that was missing, or waits until who has it is
    /// done, or for a moment.
    pub(crate) async fn turn<W: Runtime>(self: &Arc<Self>, key: &EncodedKey, until: Instant) -> LeaseOutcome {
        let Some(nodes) = &self.nodes else { return LeaseOutcome::Load(LeaseGuard::NONE) };
        // Before the look at the lease: its end is heard from here on.
        let listener = nodes.changed.listen();
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        match leased {
            Ok(Some(Some((true, lease)))) => LeaseOutcome::LookAndLoad(lease),
            Ok(Some(Some((false, lease)))) => LeaseOutcome::Load(lease),
            Ok(Some(None)) if Instant::now() < until => {
                self.until_done::<W>(listener, until).await;
                LeaseOutcome::Look
            }
            // Away, or too slow: it is loaded here all the same.
            _ => LeaseOutcome::Load(LeaseGuard::NONE),
        }
    }

    /// Takes the leases of keys that were missing, in one go; waits for none.
    pub(crate) async fn turns<W: Runtime>(self: &Arc<Self>, keys: Vec<EncodedKey>) -> Vec<LeaseOutcome> {
        let (engine, count) = (Arc::clone(self), keys.len());
        let section = async move {
            let Some(handle) = engine.among_nodes() else { return Vec::new() };
            let taken = handle.inner().lease_loads(&keys, engine.lease_span()).await;
            let had = keys.iter().zip(&taken).filter_map(|(key, taken)| {
                let lease = taken.as_ref().ok()?.as_ref()?;
                Some((key.clone(), lease.number))
            });
            let held = engine.holding(had.collect());
            let turns = taken.into_iter().map(|taken| match taken {
                Ok(Some(LoadLease { present: true, .. })) => LeaseOutcome::LookAndLoad(held.clone()),
                Ok(Some(_)) => LeaseOutcome::Load(held.clone()),
                Ok(None) => LeaseOutcome::Look,
                // Counted by the layer: it is loaded here all the same.
                Err(_) => LeaseOutcome::Load(LeaseGuard::NONE),
            });
            turns.collect()
        };
        let mut turns = self.drive::<W, _>(false, section).await.unwrap_or_default();
        turns.resize_with(count, || LeaseOutcome::Load(LeaseGuard::NONE));
        turns
    }

    /// Waits until another node is done with a load, or for a moment.
    pub(crate) async fn until_done<W: Runtime>(&self, listener: EventListener, until: Instant) {
        let moment = until.min(Instant::now() + LOOK_AGAIN);
        W::event_until(listener, Some(moment)).await;
    }

    /// A refresh as it is to be done where others may do it as well: based on
    /// what they have now, and by one of them.
    pub(crate) async fn refresh_among_nodes<W: Runtime>(self: &Arc<Self>, lead: Leader) -> Option<Leader> {
        let (Some(_), Some(key)) = (self.shared(), &lead.encoded) else { return Some(lead) };
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        match leased {
            Ok(Some(Some((_, lease)))) => lead.leader.flight.hold(lease),
            // Another node refreshes it, and tells.
            Ok(Some(None)) => return None,
            _ => {}
        }
        let (based, found) = self.seek_based::<W>(key.clone(), lead.leader.hash()).await;
        found.ok()?;
        Some(Leader { encoded: Some(based), ..lead })
    }

    /// The key of a load that is over: removals of too long ago are forgotten,
    /// so what began before is not stored.
    pub(crate) fn still_based(&self, key: EncodedKey, flight: &Flight) -> EncodedKey {
        let forgotten = flight.lasted(REMOVAL_LIFE / 2).is_some_and(|moment| moment < Instant::now());
        if forgotten && self.nodes.is_some() { key.based_on(EntryVersion::NONE) } else { key }
    }

    /// A lease that gives itself up, also where its caller has gone by then; and
    /// whether there is an entry.
    async fn lease(self: &Arc<Self>, key: &EncodedKey) -> Option<Option<(bool, LeaseGuard)>> {
        let handle = self.among_nodes()?;
        // A failure is counted by the layer.
        let leased = handle.inner().lease_load(key, self.lease_span()).await.ok()?;
        Some(leased.map(|lease| (lease.present, self.holding(vec![(key.clone(), lease.number)]))))
    }

    fn lease_span(&self) -> Duration {
        self.expiry.said().hard_timeout.unwrap_or(LEASE)
    }

    fn holding(self: &Arc<Self>, leases: Vec<(EncodedKey, u64)>) -> LeaseGuard {
        if leases.is_empty() {
            return LeaseGuard::NONE;
        }
        let engine = Arc::clone(self);
        let give_up = move || {
            if let Some(handle) = engine.among_nodes() {
                handle.inner().release_loads(leases);
            }
        };
        LeaseGuard(Some(Arc::new(Held { give_up: Some(Box::new(give_up)) })))
    }
}
