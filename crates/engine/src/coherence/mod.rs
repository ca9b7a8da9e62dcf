//! Coherence between nodes: how a process learns of changes by other processes, and how
//! long its copies may serve.
//!
//! A shared tier reports the changes of other nodes through its [`Bus`]. The thread that
//! reads the bus must not block. It only queues each notice, and a worker thread of the
//! cache applies it. A copy in memory may answer without asking the shared tier while
//! both hold:
//!
//! - the copy was made since the last missed window in the notices (its *epoch*), and
//! - every notice up to some moment within the lease is applied.
//!
//! So a copy never outlives a change by another node by more than the lease. This holds
//! whatever happened to the notice: lost, late, or unread because this process was
//! stopped. Applying a notice drops the copy, which is safe however late, often, or out
//! of order the notice arrives.

pub(crate) mod compare_and_set;
pub(crate) mod confirmation;
pub(crate) mod load_lease;
pub(crate) mod local_fallback;
mod local_keys;
pub(crate) mod log_replica;
mod long_keys;
mod missed_window;
pub(crate) mod own_writes;
pub(crate) mod reconcile;
pub(crate) mod shared_handle;
pub(crate) mod validated_copies;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_core::bus::{Bus, Coherence, Listener, Notice};
use larder_core::clock::{Latest, Time};
use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyLookup, Value};
use larder_core::events::{Event, Extent};
use larder_core::invalidation::SharedInvalidations;
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::tier::EntryVersion;
use parking_lot::{Condvar, Mutex};

use self::local_keys::LocalKeys;
use self::long_keys::LongKeys;
use self::missed_window::MissedWindows;
pub(crate) use self::missed_window::{MARGIN, Missed};
use crate::coherence::log_replica::Replica;
use crate::coherence::validated_copies::found_in_memory;
use crate::engine::Engine;
use crate::invalidation::log::Invalidations;
use crate::key_lock::WriteTurn;
use crate::read::Found;
use crate::tier_stack::TierStack;
use crate::tier_stack::tier_handle::TierHandle;
use crate::time::timeline::Timeline;
use larder_exec::runtime::block_on;

/// Capacity of the notice queue. One more notice counts as a missed window.
const NOTICES_MAX: usize = 65_536;
/// Pause between two attempts at reconciling.
const REPAIR_PAUSE: Duration = Duration::from_millis(50);
/// How long an own conditional write is remembered, once more than [`OWN_WRITES_MAX`] of them
/// are.
const OWN_WRITE_LIFE: Duration = Duration::from_secs(1);
const OWN_WRITES_MAX: usize = 4096;
/// Low bits of a [`CopyTag`] that identify the entry; the other bits are the epoch.
const IDENTITY_BITS: u32 = 44;
const IDENTITY: u64 = (1 << IDENTITY_BITS) - 1;

/// How a cache learns of other nodes, and what it does without contact.
pub struct NodesPlan {
    /// Reports the changes of other nodes.
    pub bus: Arc<dyn Bus>,
    /// Keeps the invalidations of all nodes.
    pub invalidations: Arc<dyn SharedInvalidations>,
    /// How long a copy in memory may serve after the last contact with the bus.
    pub lease: Duration,
    /// Whether copies serve while there is no contact.
    pub coherence: Coherence,
}

/// What this node has heard of the other nodes.
pub(crate) struct Nodes {
    plan: NodesPlan,
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
    /// Own conditional writes by key digest: the bus reports those as well.
    own_writes: Mutex<HashMap<u128, (u64, Instant)>>,
    /// Notified when notices were applied, and when a load lease was taken or released.
    pub(crate) changed: event_listener::Event,
}

#[derive(Default)]
struct Queue {
    keys: VecDeque<EncodedKey>,
    /// Whether other nodes may have invalidated entries by tag or as a whole.
    marked: bool,
    /// When to reconcile next; `None` while nothing may be pending.
    repair_at: Option<Instant>,
}

impl Nodes {
    pub(crate) fn new(
        plan: NodesPlan,
        invalidations: &Arc<Invalidations>,
        timeline: &Arc<Timeline>,
        tiers: &[TierHandle],
    ) -> Arc<Self> {
        let shared = tiers.iter().find(|handle| handle.is_shared());
        let removals_remembered = shared.map_or(Duration::ZERO, TierHandle::removals_remembered);
        let heard = (Arc::clone(&plan.bus), plan.lease);
        let replica = Arc::new(Replica::new(
            (Arc::clone(invalidations), Arc::clone(timeline)),
            Arc::clone(&plan.invalidations),
            heard,
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
            queue: Mutex::new(Queue { marked: true, ..Queue::default() }),
            wake: Condvar::new(),
            pending: AtomicUsize::new(0),
            applied: Latest::default(),
            ended: AtomicBool::new(false),
            worker: Mutex::default(),
            own_writes: Mutex::default(),
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

    /// Returns the record that `find` returns, and whether it may answer without asking
    /// the shared tier.
    ///
    /// The bus is checked before `find` runs: every notice up to then was applied to the
    /// record that `find` returns. In the other order `find` could return an outdated
    /// copy, which a later contact would then confirm.
    fn confirm<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<(Record<V>, bool)> {
        let is_heard = self.is_heard();
        let record = find()?;
        let is_current =
            record.checked.is_some_and(|copy_tag| copy_tag.get() >> IDENTITY_BITS == self.epoch_bits());
        Some((record, is_heard && is_current))
    }

    /// Whether copies still serve while there is no contact with other nodes.
    pub(crate) fn serves_unconfirmed(&self) -> bool {
        self.plan.coherence == Coherence::Available
    }

    /// Returns the tag for a copy that is read from now on.
    pub(crate) fn copy_tag(&self) -> CopyTag {
        CopyTag(self.epoch_bits() << IDENTITY_BITS)
    }

    /// Notes that memory may hold a copy of this entry, with a tag that was taken before
    /// this call.
    pub(crate) fn note_copy(&self, key: &EncodedKey) {
        if !self.long_keys.note(key) {
            self.miss_window();
        }
    }

    /// Notes that this node stored the entry locally only, and the version that the
    /// shared tier reported for its key.
    pub(crate) fn note_local(&self, key: &EncodedKey, version: Option<EntryVersion>) {
        match version {
            Some(version) => self.local_keys.note(key, version),
            None => self.local_keys.forget(key),
        }
    }

    /// Whether the shared tier still reports the version that
    /// [`note_local`](Self::note_local) noted.
    pub(crate) fn is_local(&self, key: &EncodedKey, version: Option<EntryVersion>) -> bool {
        self.local_keys.is_same(key, version)
    }

    /// Returns how long the shared tier remembers a removal.
    pub(crate) fn removals_remembered(&self) -> Duration {
        self.removals_remembered
    }

    fn epoch_bits(&self) -> u64 {
        // Never zero, so that the tag is a valid `EntryVersion`.
        let epoch = self.epoch.load(Ordering::Acquire) & (u64::MAX >> IDENTITY_BITS);
        epoch.max(1)
    }

    /// Whether every notice up to some moment within the lease was applied.
    fn is_heard(&self) -> bool {
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
        self.replica.emit();
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

    fn marked(&self) {
        self.replica.emit();
        self.queue.lock().marked = true;
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

    /// Announces an own write that the bus will report back to this node.
    fn expect_own_write(&self, key: &EncodedKey, identity: u64) {
        let mut own_writes = self.own_writes.lock();
        if own_writes.len() >= OWN_WRITES_MAX {
            own_writes.retain(|_, (_, stored)| stored.elapsed() < OWN_WRITE_LIFE);
        }
        own_writes.insert(key.digest(), (identity, Instant::now()));
    }

    fn take_own_write(&self, key: &EncodedKey) -> Option<u64> {
        let (identity, _) = self.own_writes.lock().remove(&key.digest())?;
        Some(identity)
    }

    /// Stops the worker thread and waits for its end, unless the caller is that thread.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        drop(self.queue.lock());
        self.wake.notify_all();
        let worker = self.worker.lock().take();
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != std::thread::current().id()) {
            // Panics of user code were caught in the worker.
            let _ended = worker.join();
        }
    }
}

/// The tag of a copy in memory: the epoch it was read in, and the identity of the entry
/// it copies.
#[derive(Clone, Copy)]
pub(crate) struct CopyTag(u64);

impl CopyTag {
    /// A tag of no epoch: a copy with it is never confirmed.
    pub(crate) const UNHEARD: Self = Self(0);

    /// Returns the tag, as a version, for a copy of the entry with this identity.
    pub(crate) fn of(self, identity: u64) -> Option<EntryVersion> {
        EntryVersion::new(self.0 | identity & IDENTITY)
    }

    /// Returns the epoch part of a tag.
    pub(crate) fn from(version: EntryVersion) -> Self {
        Self(version.get() & !IDENTITY)
    }

    /// Returns the identity part of a tag.
    pub(crate) fn identity(copy_tag: EntryVersion) -> u64 {
        copy_tag.get() & IDENTITY
    }
}

/// Returns the identity of the entry in a frame: the low bits of the checksum of its
/// head.
pub(crate) fn identity(frame: &[u8]) -> u64 {
    const AT: usize = larder_core::frame::FIXED_LEN - 8;
    let sum = frame.get(AT..).and_then(|sum| sum.first_chunk()).copied();
    u64::from_le_bytes(sum.unwrap_or_default()) & IDENTITY
}

/// Receives the notices of the bus for one cache. The bus owns this listener and the
/// cache owns the bus, so the reference to the cache is weak.
struct BusListener(Weak<Nodes>);

impl Listener for BusListener {
    fn told(&self, notice: Notice) {
        match (self.0.upgrade(), notice) {
            (Some(nodes), Notice::Changed(key)) => nodes.push(key),
            (Some(nodes), Notice::InvalidationRecord) => nodes.marked(),
            (Some(nodes), Notice::ChangedDigest(digest)) => {
                nodes.long_keys.find(digest).into_iter().for_each(|key| nodes.push(key));
            }
            (Some(nodes), Notice::Leased) => drop(nodes.changed.notify(usize::MAX)),
            (Some(nodes), _) => nodes.miss_window(),
            (None, _) => {}
        }
    }
}

impl Engine {
    /// Announces an own write to the shared tier: the bus will report it back to this
    /// node.
    pub(crate) fn expect_own_write(&self, key: &EncodedKey, identity: u64) {
        if let Some(nodes) = &self.nodes {
            nodes.expect_own_write(key, identity);
        }
    }

    /// Starts to listen to other nodes, and starts the worker thread that applies their
    /// notices.
    pub(crate) fn hear(self: &Arc<Self>) {
        let Some(nodes) = &self.nodes else { return };
        nodes.plan.bus.listen(Arc::new(BusListener(Arc::downgrade(nodes))));
        // Synchronize first: otherwise every existing invalidation would apply to an
        // entry stamped earlier. Without contact this fails at once, and the worker
        // retries.
        let _later = block_on(nodes.replica.compare());
        let (engine, heard) = (Arc::downgrade(self), Arc::clone(nodes));
        let worker = move || worker::work(&engine, &heard);
        match std::thread::Builder::new().name("larder-nodes".into()).spawn(worker) {
            Ok(worker) => *nodes.worker.lock() = Some(worker),
            // Without the thread no notice is applied, and no copy answers by itself.
            Err(error) => tracing::error!(target: "larder", %error, "no thread to hear other nodes with"),
        }
    }

    /// Notes that memory may hold a copy of this entry, with a tag that was taken before
    /// this call.
    pub(crate) fn note_copy(&self, key: &EncodedKey) {
        self.nodes.iter().for_each(|nodes| nodes.note_copy(key));
    }

    /// Returns the copy of `key` in memory, if it is confirmed.
    #[inline(never)]
    pub(crate) fn confirmed(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.confirmed_by(|| self.memory.get(key))
    }

    /// Returns the record that `find` returns, if it is confirmed.
    pub(crate) fn confirmed_by<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<Record<V>> {
        let (record, is_confirmed) = self.nodes.as_ref()?.confirm(find)?;
        is_confirmed.then_some(record)
    }

    /// Returns the copy of `key` in memory, confirmed or not, where nothing better can be
    /// read. That is so while the shared tier is `away`, and while a write of this node
    /// to it is pending.
    pub(crate) fn unconfirmed(&self, stack: &TierStack, key: &EncodedKey, away: bool) -> Option<Found> {
        let nodes = self.nodes.as_ref().filter(|nodes| nodes.serves_unconfirmed())?;
        if !away && !stack.is_pending(key) {
            return None;
        }
        let key = stack.keys.decode(key.as_bytes()).ok()?;
        let (record, confirmed) = nodes.confirm(|| self.memory.get(&key))?;
        let freshness = self.freshness(&record);
        if freshness == Freshness::Gone {
            return None;
        }
        self.counters.unconfirmed.increment();
        Some(Found { confirmed, ..found_in_memory(record, freshness) })
    }

    /// Whether a notice reports only this node's own write: the shared tier holds exactly
    /// that entry. A change by another node may share the notice.
    fn is_own_write(&self, stack: &TierStack, encoded: &EncodedKey) -> bool {
        let Some(stored) = self.nodes.as_ref().and_then(|nodes| nodes.take_own_write(encoded)) else {
            return false;
        };
        let head = stack.among_nodes().and_then(|handle| block_on(handle.head(encoded)).ok().flatten());
        head.is_some_and(|head| identity(&head) == stored)
    }

    /// Applies a change by another node: drops the local copies, and keeps a load in
    /// progress from being stored.
    fn outdate(self: &Arc<Self>, encoded: &EncodedKey) {
        let Some(stack) = &self.stack else { return };
        if self.is_own_write(stack, encoded) {
            return;
        }
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return };
        let turn = WriteTurn::of_upkeep(self.key_locks.hash(&key));
        let Ok(_guard) = block_on(self.key_locks.write(&turn)) else { return };
        if self.discard(&key).is_some() {
            self.events.emit_of(self.events.name(&key), |key| Event::Invalidated(Extent::Key(key)));
        }
        for handle in stack.local() {
            // An entry with a pending write is compared when that write is reconciled.
            if !stack.is_pending(encoded) && handle.inner().usage().entries > 0 {
                // The layer counts a failure, and the handle quarantines the key.
                let _counted = block_on(handle.remove(encoded));
            }
        }
    }

    /// Returns the tier that this node shares with other nodes whose changes it hears.
    pub(crate) fn among_nodes(&self) -> Option<&TierHandle> {
        self.stack.as_ref()?.among_nodes()
    }

    fn has_repairs(&self) -> bool {
        self.among_nodes().is_some_and(|handle| handle.quarantine().is_any())
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Result;
    use larder_core::clock::SystemClock;
    use larder_core::invalidation::{Invalidation as Change, InvalidationRecord, Known};
    use larder_core::tier::{BoxFuture, TierKind};

    use super::*;

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
        let plan = NodesPlan {
            bus: Arc::clone(&line) as Arc<dyn Bus>,
            invalidations: Arc::new(NoInvalidations),
            lease: Duration::from_secs(1),
            coherence: Coherence::Available,
        };
        let invalidations = Arc::new(Invalidations::new(None, Vec::new()));
        let timeline = Arc::new(Timeline::new(Arc::new(SystemClock), Time::from_millis(0)));
        let nodes = Nodes::new(plan, &invalidations, &timeline, &[]);
        block_on(nodes.replica.compare()).unwrap();
        let record = |nodes: &Nodes| Record {
            value: Some(1),
            created: Time::from_millis(1),
            stamp: 0,
            terms: None,
            weight: 1,
            home: TierKind::Redis,
            checked: nodes.copy_tag().of(1),
        };
        let confirmed = |find: &dyn Fn() -> Option<Record<i32>>| nodes.confirm(find).map(|(_, is)| is);
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
