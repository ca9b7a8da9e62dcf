//! This node among others: the notices that it received, and how long its copies may serve.
//!
//! A shared tier reports the changes of other nodes through its [`Bus`]. The thread that reads the
//! bus must not block. It only queues each notice, and a worker thread of the cache applies it. A
//! copy in memory may answer without asking the shared tier while both hold:
//!
//! - the copy was made since the last missed window in the notices (its *epoch*), and
//! - every notice up to some moment within the lease is applied.
//!
//! So a copy never outlives a change by another node by more than the lease. This holds whatever
//! happened to the notice: lost, late, or unread because this process was stopped. Applying a
//! notice drops the copy, which is safe however late, often, or out of order the notice arrives.

mod expected_notices;
mod local_keys;
mod long_keys;
mod missed_window;
mod notices;
mod port;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_core::bus::{Bus, Coherence};
use larder_core::clock::{Latest, Time};
use larder_core::invalidation::SharedInvalidations;
use larder_core::key::EncodedKey;
use larder_core::tier::EntryVersion;
use parking_lot::{Condvar, Mutex};

use self::expected_notices::ExpectedNotices;
use self::local_keys::LocalKeys;
use self::long_keys::LongKeys;
use self::missed_window::MissedWindows;
pub(crate) use self::missed_window::{MARGIN, Missed};
use crate::coherence::log_replica::Replica;
use crate::invalidation::log::Invalidations;
use crate::tier_stack::tier_handle::TierHandle;
use crate::time::timeline::Timeline;

/// Capacity of the notice queue. One more notice counts as a missed window.
const NOTICES_MAX: usize = 65_536;
/// Pause between two attempts at reconciling.
const REPAIR_PAUSE: Duration = Duration::from_millis(50);

/// How a cache learns of other nodes, and what it does without contact.
pub struct CoherencePlan {
    /// Reports the changes of other nodes.
    pub bus: Arc<dyn Bus>,
    /// Keeps the invalidations of all nodes.
    pub invalidations: Arc<dyn SharedInvalidations>,
    /// How long a copy in memory may serve after the last contact with the bus.
    pub lease: Duration,
    /// Whether copies serve while there is no contact.
    pub coherence: Coherence,
}

/// What this node knows of the other nodes.
pub(crate) struct NodeCoherence {
    plan: CoherencePlan,
    pub(crate) replica: Arc<Replica>,
    /// The epoch of copies. Every missed window raises it.
    epoch: AtomicU64,
    missed: MissedWindows,
    local_keys: LocalKeys,
    long_keys: LongKeys,
    /// How long the shared tier remembers a removal.
    removals_remembered: Duration,
    timeline: Arc<Timeline>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Number of notices that are queued or being applied.
    pending: AtomicUsize,
    /// A moment of contact up to which every notice was applied.
    applied: Latest,
    ended: AtomicBool,
    worker: Mutex<Option<JoinHandle<()>>>,
    expected: ExpectedNotices,
    /// Notified when notices were applied, and when a load lease was taken or released.
    pub(crate) changed: event_listener::Event,
}

#[derive(Default)]
struct Queue {
    keys: VecDeque<EncodedKey>,
    /// Whether other nodes may have invalidated entries by tag or as a whole.
    invalidated: bool,
    /// When to reconcile next; `None` while nothing may be pending.
    repair_at: Option<Instant>,
}

impl NodeCoherence {
    pub(crate) fn new(
        plan: CoherencePlan,
        invalidations: &Arc<Invalidations>,
        timeline: &Arc<Timeline>,
        tiers: &[TierHandle],
    ) -> Arc<Self> {
        let shared = tiers.iter().find(|handle| handle.is_shared());
        let removals_remembered = shared.map_or(Duration::ZERO, TierHandle::removals_remembered);
        let replica = Arc::new(Replica::new(
            Arc::clone(invalidations),
            Arc::clone(timeline),
            Arc::clone(&plan.invalidations),
            Arc::clone(&plan.bus),
            plan.lease,
        ));
        Arc::new(Self {
            plan,
            replica,
            epoch: AtomicU64::new(1),
            missed: MissedWindows::since(timeline.now(), removals_remembered),
            local_keys: LocalKeys::new(removals_remembered),
            long_keys: LongKeys::default(),
            removals_remembered,
            timeline: Arc::clone(timeline),
            queue: Mutex::new(Queue { invalidated: true, ..Queue::default() }),
            wake: Condvar::new(),
            pending: AtomicUsize::new(0),
            applied: Latest::default(),
            ended: AtomicBool::new(false),
            worker: Mutex::default(),
            expected: ExpectedNotices::default(),
            changed: event_listener::Event::new(),
        })
    }

    /// Makes `handle` judge its entries by the invalidations of all nodes, if its tier is
    /// shared.
    pub(crate) fn replicate_in(&self, handle: &TierHandle) {
        if handle.is_shared() {
            handle.replicate(&self.replica);
        }
    }

    /// Whether the shared tier still reports the version that
    /// [`note_local`](Self::note_local) noted.
    pub(crate) fn is_local(&self, key: &EncodedKey, version: Option<EntryVersion>) -> bool {
        self.local_keys.is_same(key, version)
    }

    /// Whether every notice up to some moment within the lease was applied.
    fn is_up_to_date(&self) -> bool {
        // Read the contact before `pending`: notices from before that contact are then
        // counted in it.
        let Some(contact) = self.plan.bus.last_contact() else { return false };
        let contact = match self.pending.load(Ordering::Acquire) {
            0 if !self.replica.is_lagging() => contact,
            _ => match self.applied.get() {
                Some(applied) => contact.min(applied),
                None => return false,
            },
        };
        contact.elapsed() <= self.plan.lease
    }

    /// Records a missed window: entries may have changed without a notice.
    fn miss_window(&self) {
        self.missed.note(self.timeline.now(), self.plan.bus.last_contact());
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.replica.announced();
        self.repair_at(Instant::now());
    }

    fn repair_at(&self, moment: Instant) {
        let mut queue = self.queue.lock();
        queue.repair_at = queue.repair_at.into_iter().chain([moment]).min();
        drop(queue);
        self.wake.notify_one();
    }

    /// Returns what this node may have missed of an entry that it wrote at `written`.
    pub(crate) fn missed_since(&self, written: Time) -> Missed {
        self.missed.missed_since(written)
    }

    /// Schedules the next attempt at reconciling, after a pause.
    pub(crate) fn reconcile_later(&self) {
        self.repair_at(Instant::now() + REPAIR_PAUSE);
    }

    fn invalidated(&self) {
        self.replica.announced();
        self.queue.lock().invalidated = true;
        self.wake.notify_one();
    }

    fn push(&self, key: EncodedKey) {
        let mut queue = self.queue.lock();
        if queue.keys.len() >= NOTICES_MAX {
            drop(queue);
            return self.miss_window();
        }
        self.pending.fetch_add(1, Ordering::AcqRel);
        queue.keys.push_back(key);
        drop(queue);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Result;
    use larder_core::bus::Listener;
    use larder_core::clock::SystemClock;
    use larder_core::invalidation::{Invalidation as Change, InvalidationRecord, Known};
    use larder_core::memory::Record;
    use larder_core::tier::{BoxFuture, TierKind};
    use larder_exec::runtime::block_on;

    use super::*;
    use crate::coherence::port::CoherencePort;

    #[derive(Default)]
    struct Line(Mutex<Option<Instant>>);

    impl Bus for Line {
        fn listen(&self, _: Arc<dyn Listener>) {}

        fn last_contact(&self) -> Option<Instant> {
            *self.0.lock()
        }
    }

    struct NoInvalidations;

    impl SharedInvalidations for NoInvalidations {
        fn exchange<'a>(
            &'a self,
            _: &'a [(Change, Time)],
            _: Known,
        ) -> BoxFuture<'a, Result<Vec<InvalidationRecord>>> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[test]
    fn copy_found_before_contact_is_not_confirmed_by_it() {
        let line = Arc::new(Line::default());
        let plan = CoherencePlan {
            bus: Arc::clone(&line) as Arc<dyn Bus>,
            invalidations: Arc::new(NoInvalidations),
            lease: Duration::from_secs(1),
            coherence: Coherence::Available,
        };
        let invalidations = Arc::new(Invalidations::new(None, Vec::new()));
        let timeline = Arc::new(Timeline::new(Arc::new(SystemClock), Time::from_millis(0)));
        let nodes = NodeCoherence::new(plan, &invalidations, &timeline, &[]);
        block_on(nodes.replica.sync()).unwrap();
        let record = |nodes: &NodeCoherence| Record {
            value: Some(1),
            created: Time::from_millis(1),
            stamp: 0,
            terms: None,
            weight: 1,
            home: TierKind::Redis,
            checked: nodes.copy_tag().and_then(|copy_tag| copy_tag.of(1)),
            cost: Default::default(),
        };
        let port: &dyn CoherencePort = &*nodes;
        let confirmed = |find: &dyn Fn() -> Option<Record<i32>>| port.confirm(find).map(|(_, is)| is);
        *line.0.lock() = Some(Instant::now());
        assert_eq!(confirmed(&|| Some(record(&nodes))), Some(true));
        assert_eq!(confirmed(&|| None), None);
        *line.0.lock() = None;
        // All notices are heard and applied between `find` and the check of its record.
        let meanwhile = || {
            let found = record(&nodes);
            *line.0.lock() = Some(Instant::now());
            Some(found)
        };
        assert_eq!(confirmed(&meanwhile), Some(false));
        let missed = || {
            let found = record(&nodes);
            nodes.miss_window();
            Some(found)
        };
        assert_eq!(confirmed(&missed), Some(false), "of a former epoch");
    }
}
