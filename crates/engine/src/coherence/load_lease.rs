//! Load leases: one load of a key among all nodes.
//!
//! The leader of a flight takes a lease on the key in the shared tier, for as long as a
//! load may last. Other nodes wait for the entry that this load stores, and take the
//! lease if it ends without one. A lease whose holder is gone expires.
//!
//! The lease saves work and guarantees nothing. A load stores its result only if the
//! entry still has the version of its [`Precondition`](crate::write::precondition::Precondition), so a load that lost its lease
//! overwrites no later change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_listener::EventListener;
use larder_core::key::EncodedKey;
use larder_core::tier::LoadLease;

use crate::engine::Engine;
use crate::key_lock::wait_graph::Loaders;
use crate::load::Leader;
use crate::tier_stack::tier_handle::TierHandle;
use larder_exec::runtime::Runtime;

/// How long a caller waits for a load of another node at most. Also how long a lease
/// lasts, unless the cache sets a hard timeout.
const LEASE: Duration = Duration::from_secs(10);
/// Pause between two checks of a lease of another node, if no notice arrives.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A guard of a load lease, or of several that were taken together. Those are released
/// together, when the last guard is dropped. A flight holds its guard until it ends.
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

/// The result of asking for a load lease.
pub(crate) enum LeaseOutcome {
    /// Load: no other node does, or the lease could not be asked for.
    Load(LeaseGuard),
    /// Load, but read the entry once more first: the shared tier has one by now.
    LookAndLoad(LeaseGuard),
    /// Read the entry again: another node has the lease, or had it.
    Look,
}

impl Engine {
    /// Returns until when a caller with a miss waits for loads of other nodes. `None` for
    /// a caller that is itself part of a load: other callers may be waiting for that one.
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

    /// Takes the lease of a missing key. If another node has it, waits until that node is
    /// done, at most for [`LOOK_AGAIN`].
    pub(crate) async fn turn<W: Runtime>(self: &Arc<Self>, key: &EncodedKey, until: Instant) -> LeaseOutcome {
        let Some(changes) = self.coherence.lease_changes() else {
            return LeaseOutcome::Load(LeaseGuard::NONE);
        };
        // Listen before asking for the lease, so that its end is not missed.
        let listener = changes.listen();
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        match leased {
            Ok(Some(Some((true, lease)))) => LeaseOutcome::LookAndLoad(lease),
            Ok(Some(Some((false, lease)))) => LeaseOutcome::Load(lease),
            Ok(Some(None)) if Instant::now() < until => {
                self.until_done::<W>(listener, until).await;
                LeaseOutcome::Look
            }
            // Unavailable or timed out: load without a lease.
            _ => LeaseOutcome::Load(LeaseGuard::NONE),
        }
    }

    /// Takes the leases of missing keys in one call. Does not wait for leases of other
    /// nodes.
    pub(crate) async fn turns<W: Runtime>(self: &Arc<Self>, keys: Vec<EncodedKey>) -> Vec<LeaseOutcome> {
        let (engine, count) = (Arc::clone(self), keys.len());
        let section = async move {
            let Some(handle) = engine.among_nodes() else { return Vec::new() };
            let Ok(shared) = handle.shared() else { return Vec::new() };
            let taken = shared.lease_loads(&keys, engine.lease_span()).await;
            let had = keys.iter().zip(&taken).filter_map(|(key, taken)| {
                let lease = taken.as_ref().ok()?.as_ref()?;
                Some((key.clone(), lease.number))
            });
            let held = engine.holding(had.collect());
            let turns = taken.into_iter().map(|taken| match taken {
                Ok(Some(LoadLease { present: true, .. })) => LeaseOutcome::LookAndLoad(held.clone()),
                Ok(Some(_)) => LeaseOutcome::Load(held.clone()),
                Ok(None) => LeaseOutcome::Look,
                // The layer counts the failure; load without a lease.
                Err(_) => LeaseOutcome::Load(LeaseGuard::NONE),
            });
            turns.collect()
        };
        let mut turns = self.drive::<W, _>(false, section).await.unwrap_or_default();
        turns.resize_with(count, || LeaseOutcome::Load(LeaseGuard::NONE));
        turns
    }

    /// Waits until another node ends a load, at most for [`LOOK_AGAIN`].
    pub(crate) async fn until_done<W: Runtime>(&self, listener: EventListener, until: Instant) {
        let moment = until.min(Instant::now() + LOOK_AGAIN);
        W::event_until(listener, Some(moment)).await;
    }

    /// Prepares a refresh where other nodes may refresh the same entry. Takes the lease,
    /// and bases the load on the current version. Returns `None` if another node
    /// refreshes the entry, or if it cannot be read.
    pub(crate) async fn refresh_among_nodes<W: Runtime>(self: &Arc<Self>, lead: Leader) -> Option<Leader> {
        let (Some(_), Some(key)) = (self.shared(), &lead.encoded) else { return Some(lead) };
        let (engine, encoded) = (Arc::clone(self), key.clone());
        let leased = self.drive::<W, _>(false, async move { engine.lease(&encoded).await }).await;
        match leased {
            Ok(Some(Some((_, lease)))) => lead.leader.flight.hold(lease),
            // Another node refreshes the entry, and a notice will report it.
            Ok(Some(None)) => return None,
            _ => {}
        }
        let (precondition, found) = self.seek_versioned::<W>((**key).clone(), lead.leader.hash()).await;
        found.ok()?;
        Some(Leader { precondition, ..lead })
    }

    /// Takes a lease whose guard releases it even if the caller is gone. Also returns
    /// whether there is an entry by now. The outer `None` means that the lease could not
    /// be asked for.
    async fn lease(self: &Arc<Self>, key: &EncodedKey) -> Option<Option<(bool, LeaseGuard)>> {
        let handle = self.among_nodes()?;
        // The layer counts a failure.
        let leased = handle.shared().ok()?.lease_load(key, self.lease_span()).await.ok()?;
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
            if let Some(Ok(shared)) = engine.among_nodes().map(TierHandle::shared) {
                shared.release_loads(leases);
            }
        };
        LeaseGuard(Some(Arc::new(Held { give_up: Some(Box::new(give_up)) })))
    }
}
