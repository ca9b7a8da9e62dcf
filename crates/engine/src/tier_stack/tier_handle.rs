//! A tier in its place: seen through its layers, with what is not trusted in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::clock::{Clock, Offset, SystemClock, Time};
use larder_core::entry_meta::{self, EntryMeta};
use larder_core::frame::{Frame, Header};
use larder_core::key::EncodedKey;
use larder_core::place::TierFacts;
use larder_core::stats::{TierCounters, TierStats};
use larder_core::stream::Stored;
use larder_core::tier::{EntryVersion, REMOVAL_LIFE, Tier, TierKind, Upload, VersionedFrame};
use larder_core::{Bytes, Error, Result};
use parking_lot::Mutex;

use crate::coherence::identity;
use crate::coherence::log_replica::Replica;
use crate::coherence::own_writes::OwnWrites;
use crate::tier_stack::dirty_flag::DirtyFlag;
use crate::tier_stack::layers::{Breaker, Limit, Observe};
use crate::tier_stack::quarantine::Quarantine;
use crate::time::timeline::Timeline;
use larder_exec::runtime::block_on;

/// The longest that one operation of a tier that does not block may take.
pub(crate) const OPERATION_LIMIT: Duration = Duration::from_secs(5);

/// Between two attempts to remove what could not be removed before.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

type Layers = Observe<Breaker<Limit<Arc<dyn Tier>>>>;

/// A tier of bytes as the engine uses it.
///
/// Where a former copy could not be removed, it must never be served: its key
/// is distrusted until a removal or a write succeeds. Removals are tried again
/// once the tier takes them, see `settle.rs`.
pub struct TierHandle {
    tier: Layers,
    kind: TierKind,
    blocks: bool,
    counters: Arc<TierCounters>,
    clock: Arc<dyn Clock>,
    quarantine: Quarantine,
    own_writes: OwnWrites,
    settle_at_millis: AtomicU64,
    evictions_told: AtomicU64,
    trouble_told: Mutex<Option<Arc<str>>>,
    /// What its entries are judged by, where other nodes write them too.
    replica: OnceLock<Arc<Replica>>,
    /// The time of the cache that it belongs to.
    timeline: OnceLock<Arc<Timeline>>,
}

impl TierHandle {
    /// Puts `tier` in its place.
    pub fn new(tier: Arc<dyn Tier>) -> Self {
        Self::with(tier, Arc::new(SystemClock), None)
    }

    /// Puts `tier` in its place, with the clock that its backoffs go by and the
    /// invalidation that tells the next process of outdated entries. When the last
    /// process left the invalidation set, nothing in the tier is served before it was
    /// cleared.
    pub fn with(tier: Arc<dyn Tier>, clock: Arc<dyn Clock>, invalidation: Option<DirtyFlag>) -> Self {
        let counters = Arc::new(TierCounters::default());
        let (kind, blocks) = (tier.kind(), tier.capability().blocking);
        let limited = Limit::new(tier, Arc::clone(&counters), OPERATION_LIMIT);
        let guarded = Breaker::new(limited, Arc::clone(&counters), &clock);
        Self {
            kind,
            blocks,
            tier: Observe::new(guarded, Arc::clone(&counters)),
            counters,
            clock,
            quarantine: Quarantine::new(kind, invalidation),
            own_writes: OwnWrites::default(),
            settle_at_millis: AtomicU64::new(0),
            evictions_told: AtomicU64::new(0),
            trouble_told: Mutex::default(),
            replica: OnceLock::new(),
            timeline: OnceLock::new(),
        }
    }

    /// Makes a tier that was just opened empty, where it holds anything.
    ///
    /// # Errors
    /// That of the tier.
    pub fn empty(&self) -> Result<()> {
        match self.tier.usage().entries {
            0 => Ok(()),
            _ => block_on(self.clear()),
        }
    }

    /// Whether its tier is of this kind.
    pub fn has_kind(&self, kind: TierKind) -> bool {
        self.kind == kind
    }

    /// Whether its calls block the thread that makes them.
    pub(crate) fn blocks(&self) -> bool {
        self.blocks
    }

    pub(crate) fn kind(&self) -> TierKind {
        self.kind
    }

    pub(crate) fn inner(&self) -> &dyn Tier {
        &self.tier
    }

    pub(crate) fn counters(&self) -> &TierCounters {
        &self.counters
    }

    pub(crate) fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Whether this node wrote the entry with this identity, as far as it remembers.
    pub(crate) fn is_own(&self, key: &EncodedKey, identity: u64) -> bool {
        self.own_writes.has(key, identity)
    }

    /// A write of `frame` failed, where other nodes read: it may be there all the same.
    fn note_unanswered(&self, key: &EncodedKey, frame: &Frame) {
        if self.is_among_nodes() {
            self.own_writes.note(key, identity(frame.head()));
        }
    }

    /// A write of `frame` was answered.
    fn stored(&self, key: &EncodedKey, frame: &[u8]) {
        self.quarantine.forget(key);
        if self.is_among_nodes() {
            self.own_writes.note_answered(key, identity(frame));
        }
    }

    /// A removal of the entry was answered.
    fn gone(&self, key: &EncodedKey) {
        self.quarantine.forget(key);
        self.own_writes.forget(key);
    }

    pub(crate) fn facts(&self) -> TierFacts {
        let healthy = !self.quarantine.is_whole() && self.tier.healthy();
        TierFacts { kind: self.kind, capability: self.tier.capability(), healthy }
    }

    /// Whether others write here.
    pub(crate) fn is_shared(&self) -> bool {
        self.tier.capability().shared
    }

    /// Whether others write here whose stamps the invalidations of this cache cannot be
    /// compared with: each counts its own invalidations.
    pub(crate) fn has_foreign_versions(&self) -> bool {
        self.is_shared() && !self.is_among_nodes()
    }

    /// Whether other nodes write here, and are heard.
    pub(crate) fn is_among_nodes(&self) -> bool {
        self.replica.get().is_some()
    }

    /// Judges what others write by the invalidations of all.
    pub(crate) fn replicate(&self, replica: &Arc<Replica>) {
        // The first one counts.
        let _refused = self.replica.set(Arc::clone(replica));
    }

    /// Tells the time of the cache that the tier belongs to.
    pub(crate) fn keep_time(&self, timeline: &Arc<Timeline>) {
        // The first one counts.
        let _refused = self.timeline.set(Arc::clone(timeline));
    }

    /// How far the clock that all sharers of the tier go by is ahead of this cache's
    /// time; `None` for a tier of this process alone, and before its server was
    /// heard. Processes of one machine share the machine's clock.
    ///
    /// The time of a cache is corrected where the clock is set back, and may be wrong
    /// by years. So no time of it goes to others without this offset.
    pub(crate) fn offset(&self, key: &EncodedKey) -> Option<Offset> {
        let timeline = self.timeline.get()?;
        let of_machine = || self.tier.capability().stamps.then(|| self.clock.now());
        let shared = self.tier.shared_time(key).or_else(of_machine)?;
        Some(Offset::between(timeline.now(), shared))
    }

    /// WriteOrder the times of a frame that lies here into those of this cache. They are
    /// by the clock of its writer, who noted how far the shared clock was ahead of
    /// it. The earlier builds that did not are taken to have had the right time.
    ///
    /// What was written later than now by the clock of the machine is of unknown age,
    /// as that was set back since: it is over where it has a deadline.
    pub(crate) fn by_own_time(
        &self,
        key: &EncodedKey,
        (header, terms): (Header, EntryMeta),
        written: Option<Offset>,
    ) -> (Header, EntryMeta) {
        let (Some(own), Some(timeline)) = (self.offset(key), self.timeline.get()) else {
            return (header, terms);
        };
        let now = timeline.now();
        let written = written.unwrap_or_default();
        let shift = |time| own.backward(written.forward(time));
        let mut terms = terms.by_clock(now, shift);
        if self.tier.shared_time(key).is_none() && terms.is_of_the_future(shift(header.created), now) {
            terms.deadline = Time::from_millis(0);
        }
        let created = shift(header.created).min(now);
        let (deadline, stale_deadline) = (terms.until(), terms.stale_until());
        (Header { created, deadline, stale_deadline, ..header }, terms)
    }

    /// The attributes of a frame with these terms that goes to this tier.
    pub(crate) fn attributes(&self, key: &EncodedKey, terms: &EntryMeta) -> Vec<u8> {
        attributes(terms, || self.offset(key))
    }

    /// Has the invalidations that what was `found` is to be judged by.
    async fn ensure_current(&self, found: bool) -> Result<()> {
        match self.replica.get().filter(|_| found) {
            Some(replica) => replica.ensure_current().await,
            None => Ok(()),
        }
    }

    /// What was found, once there are the invalidations to judge it by.
    async fn heeded<T>(&self, found: Option<T>) -> Result<Option<T>> {
        self.ensure_current(found.is_some()).await?;
        Ok(found)
    }

    /// As [`ensure_current`](Self::ensure_current), for many: without the invalidations each is a failure.
    async fn ensure_all_current<T>(&self, any: bool, found: &mut [Result<T>]) {
        if let Err(error) = self.ensure_current(any).await {
            let again = || Error::new(error.kind(), error.to_string()).in_tier(self.kind);
            found.iter_mut().for_each(|found| *found = Err(again()));
        }
    }

    pub(crate) fn stats(&self) -> TierStats {
        let stats = TierStats::new(self.kind, self.counters.snapshot(), self.tier.usage());
        let stats = stats.with_latency(self.counters.times.snapshot()).with_servers(self.tier.servers());
        stats.with_trouble(self.tier.trouble())
    }

    /// How many entries the tier let go of by itself since this was asked last.
    pub(crate) fn new_evictions(&self) -> u64 {
        let now = self.tier.usage().evictions;
        now.saturating_sub(self.evictions_told.fetch_max(now, Ordering::AcqRel))
    }

    /// Why the tier cannot be used now, where that is not what it was when asked last.
    pub(crate) fn new_trouble(&self) -> Option<Arc<str>> {
        let trouble = self.tier.trouble();
        let mut told = self.trouble_told.lock();
        if *told == trouble {
            return None;
        }
        told.clone_from(&trouble);
        trouble
    }

    /// The frame of `key`, unless what lies there is not trusted.
    pub(crate) async fn get(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        self.heeded(self.tier.get(key).await?).await
    }

    /// The frame of `key` with its stamp, unless what lies there is not trusted.
    pub(crate) async fn get_versioned(&self, key: &EncodedKey) -> Result<VersionedFrame> {
        let (found, stamp) = self.tier.get_versioned(key).await?;
        // Also of nothing: what is stored next is stamped by the invalidations.
        self.ensure_current(true).await?;
        Ok((found.filter(|_| !self.quarantine.covers(key)), stamp))
    }

    /// Whether the stamp of an entry that is absent says that no removal of one is
    /// remembered: it is made of the era alone.
    pub(crate) fn remembers_nothing(&self, key: &EncodedKey, stamp: EntryVersion) -> bool {
        stamp.get() == self.tier.era(key)
    }

    /// Whether nobody can have changed an entry that is absent since a load of it began
    /// which could not ask and took so long: a removal would still be remembered.
    pub(crate) fn is_untouched(
        &self,
        key: &EncodedKey,
        stamp: EntryVersion,
        load_cost: Option<Duration>,
    ) -> bool {
        self.remembers_nothing(key, stamp) && load_cost.is_some_and(|cost| cost <= REMOVAL_LIFE / 3)
    }

    /// The frames of `keys`, in their order, with as few round trips as the
    /// tier can do with.
    pub(crate) async fn get_many(&self, keys: &[EncodedKey]) -> Vec<Result<Option<Bytes>>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut frames = self.tier.get_many(keys).await;
        let any = frames.iter().any(|frame| matches!(frame, Ok(Some(_))));
        self.ensure_all_current(any, &mut frames).await;
        let frames = frames.into_iter().zip(keys);
        frames.map(|(frame, key)| if self.quarantine.covers(key) { Ok(None) } else { frame }).collect()
    }

    /// The frames of `keys` with their stamps, as [`get_versioned`](Self::get_versioned)
    /// gives them, with as few round trips as the tier can do with.
    pub(crate) async fn get_many_versioned(&self, keys: &[EncodedKey]) -> Vec<Result<VersionedFrame>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut found = self.tier.get_many_versioned(keys).await;
        self.ensure_all_current(true, &mut found).await;
        for (found, key) in found.iter_mut().zip(keys) {
            if let Ok((frame, _)) = found
                && self.quarantine.covers(key)
            {
                *frame = None;
            }
        }
        found
    }

    /// The head of the frame of `key`, and perhaps more of it, unless what
    /// lies there is not trusted.
    pub(crate) async fn head(&self, key: &EncodedKey) -> Result<Option<Bytes>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        self.heeded(self.tier.head(key).await?).await
    }

    /// As [`Tier::scan`], without what is not trusted: `visit` says whose head
    /// it was given by the key in it.
    pub(crate) async fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        if self.quarantine.is_whole() {
            return Ok(());
        }
        self.tier.scan(visit).await
    }

    /// The frame of `key`, to be read in parts, unless it is not trusted.
    pub(crate) async fn open(&self, key: &EncodedKey) -> Result<Option<Stored>> {
        if self.quarantine.covers(key) {
            return Ok(None);
        }
        self.heeded(self.tier.open(key).await?).await
    }

    pub(crate) async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let put = self.tier.put(key, frame).await.inspect_err(|_| self.note_unanswered(key, frame));
        self.settle(key, frame.head(), put).await
    }

    /// Writes frames, with as few round trips as the tier can do with.
    pub(crate) async fn put_many(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        let mut settled = Vec::with_capacity(entries.len());
        for ((key, frame), put) in entries.iter().zip(self.tier.put_many(entries).await) {
            let put = put.inspect_err(|_| self.note_unanswered(key, frame));
            settled.push(self.settle(key, frame.head(), put).await);
        }
        settled
    }

    /// Removes entries, with as few round trips as the tier can do with; those
    /// that could not be are distrusted from now on.
    pub(crate) async fn remove_many(&self, keys: &[EncodedKey]) -> Vec<Result<bool>> {
        let removed = self.tier.remove_many(keys).await;
        keys.iter().zip(removed).map(|(key, removed)| self.removed(key, removed)).collect()
    }

    /// Writes a frame unless others changed the entry after what `key` is based
    /// on; whether it did. On failure the entry stays, for it may be theirs by now.
    pub(crate) async fn put_if_unchanged(&self, key: &EncodedKey, frame: &Frame) -> Result<bool> {
        let put = self.tier.put_if_unchanged(key, frame).await;
        self.retry_put(key, frame, put)
    }

    /// Of a write that was not stored, what is owed stays owed.
    fn retry_put(&self, key: &EncodedKey, frame: &Frame, put: Result<bool>) -> Result<bool> {
        let stored = put.inspect_err(|_| self.note_unanswered(key, frame))?;
        if stored {
            self.stored(key, frame.head());
        }
        Ok(stored)
    }

    /// As [`put_if_unchanged`](Self::put_if_unchanged), with as few round trips
    /// as the tier can do with.
    pub(crate) async fn put_many_if_unchanged(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<bool>> {
        let put = self.tier.put_many_if_unchanged(entries).await;
        entries.iter().zip(put).map(|((key, frame), put)| self.retry_put(key, frame, put)).collect()
    }

    /// Makes a draft the entry.
    pub(crate) async fn publish(&self, key: &EncodedKey, draft: Upload, head: &[u8]) -> Result<()> {
        let published = self.tier.publish(key, draft, head).await;
        self.settle(key, head, published).await
    }

    async fn settle(&self, key: &EncodedKey, head: &[u8], written: Result<()>) -> Result<()> {
        match written {
            Ok(()) => {
                self.stored(key, head);
                Ok(())
            }
            Err(error) => {
                // The former copy is outdated, whatever became of the new one.
                let _counted = Box::pin(self.remove(key)).await;
                Err(error)
            }
        }
    }

    /// Removes the entry; on failure it is distrusted from now on.
    pub(crate) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        let removed = self.tier.remove(key).await;
        self.removed(key, removed)
    }

    fn removed(&self, key: &EncodedKey, removed: Result<bool>) -> Result<bool> {
        match removed {
            Ok(removed) => {
                self.gone(key);
                Ok(removed)
            }
            Err(error) => {
                self.quarantine.add(key, self.tier.era(key));
                Err(error)
            }
        }
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        let cleared = self.tier.clear().await;
        match &cleared {
            Ok(()) => {
                self.quarantine.forget_all();
                self.own_writes.forget_all();
            }
            Err(_) => self.quarantine.add_all(),
        }
        cleared
    }

    /// Whether removals are to be tried again now; true for one caller a backoff.
    pub(crate) fn is_retry_due(&self) -> bool {
        if !self.quarantine.is_any() || !self.tier.inner().takes_removals() {
            return false;
        }
        let now = millis(self.clock.elapsed());
        let due = self.settle_at_millis.load(Ordering::Acquire);
        let next = now.saturating_add(millis(SETTLE_PAUSE));
        now >= due
            && self.settle_at_millis.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The attributes of a frame with these terms: where it has a deadline, with the
/// offset of the clock that others judge it by.
pub(crate) fn attributes(terms: &EntryMeta, offset: impl FnOnce() -> Option<Offset>) -> Vec<u8> {
    let mut attributes = terms.attributes();
    if terms.until() != Time::NEVER
        && let Some(offset) = offset()
    {
        entry_meta::write_offset(&mut attributes, offset);
    }
    attributes
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
