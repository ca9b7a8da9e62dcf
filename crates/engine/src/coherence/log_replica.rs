//! This node's replica of the invalidations of all nodes.
//!
//! Nodes that share a tier number their invalidations together: the shared tier assigns
//! the sequence numbers and keeps the invalidations. Each node replicates them into its
//! own [`Invalidations`]. An entry read from the shared tier is judged only once the
//! replica is current: it has every invalidation announced before, and it was compared
//! with the tier within the lease.
//!
//! While the tier is unavailable, a node numbers its invalidations itself, above all that
//! it knows. They stay pending, and the node records them in the tier, for all nodes,
//! once it can.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::bus::Bus;
use larder_core::clock::{Latest, Offset, Time};
use larder_core::invalidation::{Invalidation, Known, SharedInvalidations};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::coherence::nodes::NodeCoherence;
use crate::engine::Engine;
use crate::invalidation::log::Invalidations;
use crate::tier_stack::layers::within;
use crate::tier_stack::tier_handle::OPERATION_LIMIT;
use crate::time::timeline::Timeline;

/// Pending invalidations; more of them become one invalidation of everything.
const OWED_MAX: usize = 10_000;

/// This node's replica of the invalidations of all nodes.
pub(crate) struct Replica {
    invalidations: Arc<Invalidations>,
    timeline: Arc<Timeline>,
    shared: Arc<dyn SharedInvalidations>,
    bus: Arc<dyn Bus>,
    lease: Duration,
    /// How many announcements of invalidations arrived.
    told: AtomicU64,
    /// How many of those announcements a completed exchange covers.
    compared: AtomicU64,
    /// When the last completed exchange began.
    asked: Latest,
    /// The highest sequence number that came from the tier.
    heard: AtomicU64,
    owed: Mutex<HashMap<Invalidation, Time>>,
}

impl Replica {
    pub(crate) fn new(
        invalidations: Arc<Invalidations>,
        timeline: Arc<Timeline>,
        shared: Arc<dyn SharedInvalidations>,
        bus: Arc<dyn Bus>,
        lease: Duration,
    ) -> Self {
        Self {
            invalidations,
            timeline,
            shared,
            bus,
            lease,
            // The first exchange is always due.
            told: AtomicU64::new(1),
            compared: AtomicU64::new(0),
            asked: Latest::default(),
            heard: AtomicU64::new(0),
            owed: Mutex::default(),
        }
    }

    /// Notes an announcement: there may be invalidations that the replica lacks.
    pub(crate) fn emit(&self) {
        self.told.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many announcements arrived so far.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// Whether the replica covers the first `told` announcements.
    pub(crate) fn has(&self, told: u64) -> bool {
        self.compared.load(Ordering::Acquire) >= told
    }

    /// Whether an announcement arrived that the replica does not cover.
    pub(crate) fn is_lagging(&self) -> bool {
        !self.has(self.told())
    }

    /// Returns the number of pending invalidations: other nodes do not know of them yet.
    pub(crate) fn owed(&self) -> usize {
        self.owed.lock().len()
    }

    /// Synchronizes with the tier, unless the replica is current enough to judge an entry
    /// that was read just now.
    ///
    /// # Errors
    /// The error of the tier: then the entry cannot be judged.
    #[inline]
    pub(crate) async fn ensure_current(&self) -> Result<()> {
        if !self.is_lagging() && self.is_recent() {
            return Ok(());
        }
        self.compare().await
    }

    fn is_recent(&self) -> bool {
        let recent = |moment: Instant| moment.elapsed() <= self.lease;
        self.bus.last_contact().is_some_and(recent) || self.asked.get().is_some_and(recent)
    }

    /// Records invalidations for all nodes.
    ///
    /// # Errors
    /// The error of the tier: then the invalidations count on this node, and are pending
    /// for the others.
    pub(crate) async fn make(&self, invalidations: Vec<Invalidation>, at: Time) -> Result<()> {
        match self
            .exchange(invalidations.iter().map(|invalidation| (invalidation.clone(), at)).collect())
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => self.invalidations.make(invalidations, at).and(Err(error)),
        }
    }

    /// Records pending invalidations in the tier, and adopts those of other nodes.
    pub(crate) async fn compare(&self) -> Result<()> {
        self.exchange(HashMap::new()).await
    }

    /// Sends new and pending invalidations, and adopts those of other nodes. Takes the
    /// pending ones out of the list first: of two concurrent exchanges only one sends
    /// them, so none is sent again after it was acknowledged.
    async fn exchange(&self, mut made: HashMap<Invalidation, Time>) -> Result<()> {
        let (told, begun) = (self.told(), Instant::now());
        for (invalidation, at) in std::mem::take(&mut *self.owed.lock()) {
            made.entry(invalidation).or_insert(at);
        }
        let made = Owing { replica: self, made: made.into_iter().collect() };
        let known = Known { heard: self.heard.load(Ordering::Acquire), count: self.invalidations.stamp() };
        // How far the shared clock is ahead of this node's time, which is corrected and
        // may be wrong. The exchange is bounded below, since no layer wraps this port.
        let offset = self.shared.time().map(|shared| Offset::between(self.timeline.now(), shared));
        let offset = offset.unwrap_or_default();
        let sent: Vec<_> =
            made.made.iter().map(|(invalidation, at)| (invalidation.clone(), offset.forward(*at))).collect();
        let marked = within(self.shared.exchange(&sent, known), OPERATION_LIMIT).await;
        let mut marked = marked.unwrap_or_else(|| Err(no_answer()))?;
        made.settled();
        let now = self.timeline.now();
        marked.iter_mut().for_each(|marked| marked.at = offset.backward(marked.at).min(now));
        let heard = marked.iter().map(|marked| marked.stamp).max().unwrap_or(0);
        if !marked.is_empty()
            && let Err(error) = self.invalidations.adopt(marked)
        {
            tracing::warn!(target: "larder", %error, "cannot record the invalidations of other nodes in the local log");
        }
        self.heard.fetch_max(heard, Ordering::AcqRel);
        self.asked.raise(begun);
        self.compared.fetch_max(told, Ordering::AcqRel);
        Ok(())
    }

    fn owe(&self, invalidations: Vec<(Invalidation, Time)>) {
        let mut owed = self.owed.lock();
        for (invalidation, at) in invalidations {
            owed.entry(invalidation).or_insert(at);
        }
        if owed.len() > OWED_MAX {
            let all = if owed.contains_key(&Invalidation::Cleared) {
                Invalidation::Cleared
            } else {
                Invalidation::All
            };
            let last = owed.values().max().copied();
            owed.clear();
            owed.extend(last.map(|at| (all, at)));
        }
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unavailable, format!("no answer within {OPERATION_LIMIT:?}")).during("invalidate")
}

/// Invalidations that are being sent. Unless the exchange succeeds, dropping this makes
/// them pending.
struct Owing<'a> {
    replica: &'a Replica,
    made: Vec<(Invalidation, Time)>,
}

impl Owing<'_> {
    fn settled(mut self) {
        self.made.clear();
    }
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        if !self.made.is_empty() {
            self.replica.owe(std::mem::take(&mut self.made));
        }
    }
}

impl Engine {
    /// Records invalidations, for every process that shares the entries.
    pub(crate) async fn record_invalidations(&self, invalidations: Vec<Invalidation>) -> Result<()> {
        self.coherence.invalidate(self, invalidations).get().await
    }

    /// Adopts invalidations of other nodes, and sends pending ones.
    pub(crate) async fn compare_epochs(&self, nodes: &NodeCoherence) {
        let owed = nodes.replica.owed();
        if owed == 0 && !nodes.replica.is_lagging() {
            return;
        }
        match nodes.replica.compare().await {
            Ok(()) => self.counters.repaired.add(owed as u64),
            Err(_) => nodes.reconcile_later(),
        }
    }

    /// Sends pending invalidations a last time, before the cache closes. Counts those
    /// that are lost.
    pub(super) async fn send_pending_invalidations(&self, nodes: &NodeCoherence) {
        if nodes.replica.owed() > 0 {
            self.compare_epochs(nodes).await;
            let lost = nodes.replica.owed();
            self.counters.repairs_lost.add(lost as u64);
            if lost > 0 {
                tracing::warn!(target: "larder", lost, "cannot share invalidations with other nodes: the shared tier is unavailable");
            }
        }
    }
}
