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
const PENDING_MAX: usize = 10_000;

/// This node's replica of the invalidations of all nodes.
pub(crate) struct Replica {
    invalidations: Arc<Invalidations>,
    timeline: Arc<Timeline>,
    shared: Arc<dyn SharedInvalidations>,
    bus: Arc<dyn Bus>,
    lease: Duration,
    /// How many announcements of invalidations arrived.
    announced: AtomicU64,
    /// How many of those announcements a completed exchange covers.
    covered: AtomicU64,
    /// When the last completed exchange began.
    synced_at: Latest,
    /// The highest sequence number that came from the tier.
    highest_seq: AtomicU64,
    pending: Mutex<HashMap<Invalidation, Time>>,
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
            announced: AtomicU64::new(1),
            covered: AtomicU64::new(0),
            synced_at: Latest::default(),
            highest_seq: AtomicU64::new(0),
            pending: Mutex::default(),
        }
    }

    /// Notes an announcement: there may be invalidations that the replica lacks.
    pub(crate) fn announced(&self) {
        self.announced.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many announcements arrived so far.
    pub(crate) fn announcements(&self) -> u64 {
        self.announced.load(Ordering::Acquire)
    }

    /// Whether the replica covers this number of announcements.
    pub(crate) fn covers(&self, announcements: u64) -> bool {
        self.covered.load(Ordering::Acquire) >= announcements
    }

    /// Whether an announcement arrived that the replica does not cover.
    pub(crate) fn is_lagging(&self) -> bool {
        !self.covers(self.announcements())
    }

    /// Returns the number of pending invalidations: other nodes do not know of them yet.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending.lock().len()
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
        // On the heap: this is rare, and would be part of the future of every read.
        Box::pin(self.sync()).await
    }

    fn is_recent(&self) -> bool {
        let recent = |moment: Instant| moment.elapsed() <= self.lease;
        self.bus.last_contact().is_some_and(recent) || self.synced_at.get().is_some_and(recent)
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
    pub(crate) async fn sync(&self) -> Result<()> {
        self.exchange(HashMap::new()).await
    }

    /// Sends new and pending invalidations, and adopts those of other nodes. Takes the
    /// pending ones out of the list first: of two concurrent exchanges only one sends
    /// them, so none is sent again after it was acknowledged.
    async fn exchange(&self, mut made: HashMap<Invalidation, Time>) -> Result<()> {
        let (announcements, begun) = (self.announcements(), Instant::now());
        for (invalidation, at) in std::mem::take(&mut *self.pending.lock()) {
            made.entry(invalidation).or_insert(at);
        }
        let made = Sending { replica: self, made: made.into_iter().collect() };
        let known =
            Known { heard: self.highest_seq.load(Ordering::Acquire), count: self.invalidations.stamp() };
        // How far the shared clock is ahead of this node's time, which is corrected and
        // may be wrong. The exchange is bounded below, since no layer wraps this port.
        let offset = self.shared.time().map(|shared| Offset::between(self.timeline.now(), shared));
        let offset = offset.unwrap_or_default();
        let sent: Vec<_> =
            made.made.iter().map(|(invalidation, at)| (invalidation.clone(), offset.forward(*at))).collect();
        let received = within(self.shared.exchange(&sent, known), OPERATION_LIMIT).await;
        let mut received = received.unwrap_or_else(|| Err(no_answer()))?;
        made.done();
        let now = self.timeline.now();
        received.iter_mut().for_each(|record| record.at = offset.backward(record.at).min(now));
        let highest_seq = received.iter().map(|record| record.stamp).max().unwrap_or(0);
        if !received.is_empty()
            && let Err(error) = self.invalidations.adopt(received)
        {
            tracing::warn!(target: "larder", %error, "cannot record the invalidations of other nodes in the local log");
        }
        self.highest_seq.fetch_max(highest_seq, Ordering::AcqRel);
        self.synced_at.raise(begun);
        self.covered.fetch_max(announcements, Ordering::AcqRel);
        Ok(())
    }

    fn add_pending(&self, invalidations: Vec<(Invalidation, Time)>) {
        let mut pending = self.pending.lock();
        for (invalidation, at) in invalidations {
            pending.entry(invalidation).or_insert(at);
        }
        if pending.len() > PENDING_MAX {
            let all = if pending.contains_key(&Invalidation::Cleared) {
                Invalidation::Cleared
            } else {
                Invalidation::All
            };
            let last = pending.values().max().copied();
            pending.clear();
            pending.extend(last.map(|at| (all, at)));
        }
    }
}

fn no_answer() -> Error {
    Error::new(ErrorKind::Unavailable, format!("no answer within {OPERATION_LIMIT:?}")).during("invalidate")
}

/// Invalidations that are being sent. Unless the exchange succeeds, dropping this makes
/// them pending.
struct Sending<'a> {
    replica: &'a Replica,
    made: Vec<(Invalidation, Time)>,
}

impl Sending<'_> {
    fn done(mut self) {
        self.made.clear();
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.made.is_empty() {
            self.replica.add_pending(std::mem::take(&mut self.made));
        }
    }
}

impl Engine {
    /// Records invalidations, for every process that shares the entries.
    pub(crate) async fn record_invalidations(&self, invalidations: Vec<Invalidation>) -> Result<()> {
        self.coherence.invalidate(self, invalidations).get().await
    }

    /// Adopts invalidations of other nodes, and sends pending ones.
    pub(crate) async fn sync_invalidations(&self, nodes: &NodeCoherence) {
        let pending = nodes.replica.pending_len();
        if pending == 0 && !nodes.replica.is_lagging() {
            return;
        }
        match nodes.replica.sync().await {
            Ok(()) => self.counters.repaired.add(pending as u64),
            Err(_) => nodes.reconcile_later(),
        }
    }

    /// Sends pending invalidations a last time, before the cache closes. Counts those
    /// that are lost.
    pub(super) async fn send_pending_invalidations(&self, nodes: &NodeCoherence) {
        if nodes.replica.pending_len() > 0 {
            self.sync_invalidations(nodes).await;
            let lost = nodes.replica.pending_len();
            self.counters.repairs_lost.add(lost as u64);
            if lost > 0 {
                tracing::warn!(target: "larder", lost, "cannot share invalidations with other nodes: the shared tier is unavailable");
            }
        }
    }
}
