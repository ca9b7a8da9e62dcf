//! The other nodes: what they changed, and how long copies of theirs may serve.
//!
//! A tier that others share tells, by its bus, what they change. Who reads from
//! that bus must not be held up, so the notices are queued there and applied by
//! a thread of the cache. A copy in memory may answer by itself while
//!
//! - it was made since the last gap in the notices (its *epoch*), and
//! - everything that was told up to a moment within the lease is applied.
//!
//! So it never serves longer than the lease what another node has changed,
//! whatever became of the notice: lost, late, or not read because this process
//! was stopped. Applying a notice drops the copy, which is right however late,
//! often, or out of order it comes.

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

use self::local_keys::Apart;
use self::long_keys::LongKeys;
use self::missed_window::Gaps;
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

/// Notices that wait; one more is a gap.
const NOTICES_MAX: usize = 65_536;
/// Between two attempts at repairs.
const REPAIR_PAUSE: Duration = Duration::from_millis(50);
/// What was stored on a condition is forgotten after this time, beyond so many.
const ECHO_LIFE: Duration = Duration::from_secs(1);
const ECHOES_MAX: usize = 4096;
/// Bits of a copy_tag that emit entries apart; the rest is the epoch.
const IDENTITY_BITS: u32 = 44;
const IDENTITY: u64 = (1 << IDENTITY_BITS) - 1;

/// How a cache hears of other nodes, and what it makes of that.
pub struct NodesPlan {
    /// Tells what they change.
    pub bus: Arc<dyn Bus>,
    /// Has what they invalidated.
    pub invalidations: Arc<dyn SharedInvalidations>,
    /// How long a copy in memory may serve after the last contact.
    pub lease: Duration,
    /// What to do without contact.
    pub coherence: Coherence,
}

/// The other nodes, as far as they were heard.
pub(crate) struct Nodes {
    plan: NodesPlan,
    pub(crate) replica: Arc<Replica>,
    /// Raised by every gap.
    epoch: AtomicU64,
    gaps: Gaps,
    apart: Apart,
    long: LongKeys,
    timeline: Arc<Timeline>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Notices that were told and are not applied.
    pending: AtomicUsize,
    /// A contact up to which all was applied.
    applied: Latest,
    ended: AtomicBool,
    worker: Mutex<Option<JoinHandle<()>>>,
    /// What this node stored on a condition: the bus tells of that as well.
    echoes: Mutex<HashMap<u128, (u64, Instant)>>,
    /// Notified when something was applied.
    pub(crate) changed: event_listener::Event,
}

#[derive(Default)]
struct Queue {
    keys: VecDeque<EncodedKey>,
    /// Others may have invalidated something.
    marked: bool,
    /// When repairs are to be tried next, where there may be any.
    repair_at: Option<Instant>,
}

impl Nodes {
    pub(crate) fn new(
        plan: NodesPlan,
        invalidations: &Arc<Invalidations>,
        timeline: &Arc<Timeline>,
    ) -> Arc<Self> {
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
            gaps: Gaps::since(timeline.now()),
            apart: Apart::default(),
            long: LongKeys::default(),
            timeline: Arc::clone(timeline),
            queue: Mutex::new(Queue { marked: true, ..Queue::default() }),
            wake: Condvar::new(),
            pending: AtomicUsize::new(0),
            applied: Latest::default(),
            ended: AtomicBool::new(false),
            worker: Mutex::default(),
            echoes: Mutex::default(),
            changed: event_listener::Event::new(),
        })
    }

    /// Judges what others write in `handle` by the invalidations of all.
    pub(crate) fn replicate_in(&self, handle: &TierHandle) {
        if handle.is_shared() {
            handle.replicate(&self.replica);
        }
    }

    /// What memory has by `find`, and whether that may answer by itself.
    ///
    /// The others are listened to first: what was told by then has been applied to what
    /// is found. The other way round a copy could be found, outdated and confirmed.
    fn confirm<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<(Record<V>, bool)> {
        let is_heard = self.is_heard();
        let record = find()?;
        let is_current =
            record.checked.is_some_and(|copy_tag| copy_tag.get() >> IDENTITY_BITS == self.epoch_bits());
        Some((record, is_heard && is_current))
    }

    /// Whether copies serve on while the others cannot be heard.
    pub(crate) fn serves_unconfirmed(&self) -> bool {
        self.plan.coherence == Coherence::Available
    }

    /// The copy_tag of a copy that is made from now on.
    pub(crate) fn copy_tag(&self) -> CopyTag {
        CopyTag(self.epoch_bits() << IDENTITY_BITS)
    }

    /// There may be a copy of this entry whose copy_tag was taken by now.
    pub(crate) fn note_copy(&self, key: &EncodedKey) {
        if !self.long.note(key) {
            self.gap();
        }
    }

    /// An entry is stored on this node alone, and stands so in the tier of all.
    pub(crate) fn note_apart(&self, key: &EncodedKey, stamp: EntryVersion) {
        self.apart.note(key, stamp);
    }

    /// Whether it stands so still.
    pub(crate) fn is_apart(&self, key: &EncodedKey, stamp: Option<EntryVersion>) -> bool {
        self.apart.is_same(key, stamp)
    }

    fn epoch_bits(&self) -> u64 {
        // Never all zero, so that a copy_tag is a stamp.
        let epoch = self.epoch.load(Ordering::Acquire) & (u64::MAX >> IDENTITY_BITS);
        epoch.max(1)
    }

    /// Whether all that was told up to a moment within the lease was applied.
    fn is_heard(&self) -> bool {
        // Before what is pending is looked at: what was told before is in it.
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

    /// Something may have changed that was not told.
    fn gap(&self) {
        self.gaps.note(self.timeline.now(), self.plan.bus.last_contact());
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

    /// What was missed of an entry that was `written` here then.
    pub(crate) fn missed_since(&self, written: Time) -> Missed {
        self.gaps.missed_since(written)
    }

    /// Tries repairs again after a backoff.
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
            return self.gap();
        }
        self.pending.fetch_add(1, Ordering::AcqRel);
        queue.keys.push_back(key);
        drop(queue);
        self.wake.notify_one();
    }

    /// This node is about to store this entry in a way that it will hear of.
    fn expect_echo(&self, key: &EncodedKey, identity: u64) {
        let mut echoes = self.echoes.lock();
        if echoes.len() >= ECHOES_MAX {
            echoes.retain(|_, (_, stored)| stored.elapsed() < ECHO_LIFE);
        }
        echoes.insert(key.digest(), (identity, Instant::now()));
    }

    fn echo(&self, key: &EncodedKey) -> Option<u64> {
        let (identity, _) = self.echoes.lock().remove(&key.digest())?;
        Some(identity)
    }

    /// Ends the thread, and waits for that, unless this is the thread.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        drop(self.queue.lock());
        self.wake.notify_all();
        let worker = self.worker.lock().take();
        if let Some(worker) = worker.filter(|worker| worker.thread().id() != std::thread::current().id()) {
            // A panic of user code in it was caught.
            let _ended = worker.join();
        }
    }
}

/// What a copy in memory carries: the epoch it was made in, and which entry it
/// is a copy of.
#[derive(Clone, Copy)]
pub(crate) struct CopyTag(u64);

impl CopyTag {
    /// Of no epoch: what carries it is never confirmed.
    pub(crate) const UNHEARD: Self = Self(0);

    /// The copy_tag of a copy of this entry.
    pub(crate) fn of(self, identity: u64) -> Option<EntryVersion> {
        EntryVersion::new(self.0 | identity & IDENTITY)
    }

    /// The copy_tag that a stamp was made of.
    pub(crate) fn from(stamp: EntryVersion) -> Self {
        Self(stamp.get() & !IDENTITY)
    }

    /// Which entry a marked copy is of.
    pub(crate) fn identity(copy_tag: EntryVersion) -> u64 {
        copy_tag.get() & IDENTITY
    }
}

/// Which entry a frame is, as far as invalidations emit.
pub(crate) fn identity(frame: &[u8]) -> u64 {
    const AT: usize = larder_core::frame::FIXED_LEN - 8;
    let sum = frame.get(AT..).and_then(|sum| sum.first_chunk()).copied();
    u64::from_le_bytes(sum.unwrap_or_default()) & IDENTITY
}

/// Hears for a cache as long as that lives: the bus holds this, and the cache
/// the bus.
struct Ears(Weak<Nodes>);

impl Listener for Ears {
    fn told(&self, notice: Notice) {
        match (self.0.upgrade(), notice) {
            (Some(nodes), Notice::Changed(key)) => nodes.push(key),
            (Some(nodes), Notice::InvalidationRecord) => nodes.marked(),
            (Some(nodes), Notice::ChangedDigest(digest)) => {
                nodes.long.find(digest).into_iter().for_each(|key| nodes.push(key));
            }
            (Some(nodes), Notice::Leased) => drop(nodes.changed.notify(usize::MAX)),
            (Some(nodes), _) => nodes.gap(),
            (None, _) => {}
        }
    }
}

impl Engine {
    /// This node is about to store this entry where others are told, as it will be itself.
    pub(crate) fn expect_echo(&self, key: &EncodedKey, identity: u64) {
        if let Some(nodes) = &self.nodes {
            nodes.expect_echo(key, identity);
        }
    }

    /// Begins to hear what other nodes change.
    pub(crate) fn hear(self: &Arc<Self>) {
        let Some(nodes) = &self.nodes else { return };
        nodes.plan.bus.listen(Arc::new(Ears(Arc::downgrade(nodes))));
        // What is stamped before would be meant by every copy_tag there is. Without
        // contact it fails at once, and the worker tries on.
        let _later = block_on(nodes.replica.compare());
        let (engine, heard) = (Arc::downgrade(self), Arc::clone(nodes));
        let worker = move || worker::work(&engine, &heard);
        match std::thread::Builder::new().name("larder-nodes".into()).spawn(worker) {
            Ok(worker) => *nodes.worker.lock() = Some(worker),
            // Then nothing is applied, and no copy serves by itself.
            Err(error) => tracing::error!(target: "larder", %error, "no thread to hear other nodes with"),
        }
    }

    /// There may be a copy of an entry whose copy_tag was taken by now.
    pub(crate) fn note_copy(&self, key: &EncodedKey) {
        self.nodes.iter().for_each(|nodes| nodes.note_copy(key));
    }

    /// The copy of `key` in memory, where it is confirmed.
    #[inline(never)]
    pub(crate) fn confirmed(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.confirmed_by(|| self.memory.get(key))
    }

    /// What `find` finds in memory, where it is confirmed.
    pub(crate) fn confirmed_by<V>(&self, find: impl FnOnce() -> Option<Record<V>>) -> Option<Record<V>> {
        let (record, is_confirmed) = self.nodes.as_ref()?.confirm(find)?;
        is_confirmed.then_some(record)
    }

    /// The copy of `key` in memory, confirmed or not, where that is all there is
    /// to be had: the tier that others share is `away`, or has not got yet what
    /// was written here while it was.
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

    /// Whether a notice tells of nothing but what this node stored itself: that
    /// entry is there. A change by another node may be in the same notice.
    fn is_echo(&self, stack: &TierStack, encoded: &EncodedKey) -> bool {
        let Some(stored) = self.nodes.as_ref().and_then(|nodes| nodes.echo(encoded)) else { return false };
        let head = stack.among_nodes().and_then(|handle| block_on(handle.head(encoded)).ok().flatten());
        head.is_some_and(|head| identity(&head) == stored)
    }

    /// Another node changed an entry: what is here of it goes, and what was
    /// being loaded is not stored.
    fn outdate(self: &Arc<Self>, encoded: &EncodedKey) {
        let Some(stack) = &self.stack else { return };
        if self.is_echo(stack, encoded) {
            return;
        }
        let Ok(key) = stack.keys.decode(encoded.as_bytes()) else { return };
        let turn = WriteTurn::of_upkeep(self.key_locks.hash(&key));
        let Ok(_guard) = block_on(self.key_locks.write(&turn)) else { return };
        if self.discard(&key).is_some() {
            self.events.emit_of(self.events.name(&key), |key| Event::Invalidated(Extent::Key(key)));
        }
        for handle in stack.local() {
            // What waits for its repair is compared then.
            if !stack.is_pending(encoded) && handle.inner().usage().entries > 0 {
                // A failure is counted by the layer and the key distrusted by the handle.
                let _counted = block_on(handle.remove(encoded));
            }
        }
    }

    /// The tier that this node shares with others that it hears.
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
    fn what_is_found_before_a_contact_is_not_confirmed_by_it() {
        let line = Arc::new(Line::default());
        let plan = NodesPlan {
            bus: Arc::clone(&line) as Arc<dyn Bus>,
            invalidations: Arc::new(NoInvalidations),
            lease: Duration::from_secs(1),
            coherence: Coherence::Available,
        };
        let invalidations = Arc::new(Invalidations::new(None, Vec::new()));
        let timeline = Arc::new(Timeline::new(Arc::new(SystemClock), Time::from_millis(0)));
        let nodes = Nodes::new(plan, &invalidations, &timeline);
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
        // Between finding it and judging it all is heard and applied.
        let meanwhile = || {
            let found = record(&nodes);
            *line.0.lock() = Some(Instant::now());
            Some(found)
        };
        assert_eq!(confirmed(&meanwhile), Some(false));
        let gap = || {
            let found = record(&nodes);
            nodes.gap();
            Some(found)
        };
        assert_eq!(confirmed(&gap), Some(false), "of a former epoch");
    }
}
