//! A tier as the engine holds it: behind its layers, with its quarantine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::clock::{Clock, SystemClock};
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::place::{Selector, TierFacts};
use larder_core::stats::{TierCounters, TierStats};
use larder_core::tier::{Position, StreamingTier, Tier, TierKind, TierOptions, Upload, VersionedTier};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::coherence::identity;
use crate::coherence::log_replica::Replica;
use crate::coherence::own_writes::OwnWrites;
use crate::dictionary::Dictionaries;
use crate::observation::TierState;
use crate::tier_stack::dirty_flag::DirtyFlag;
use crate::tier_stack::layers::{Breaker, Layered, Limit};
use crate::tier_stack::quarantine::Quarantine;
use crate::time::timeline::Timeline;
use larder_exec::runtime::block_on;

/// Time limit of one operation of a tier that does not block.
pub(crate) const OPERATION_LIMIT: Duration = Duration::from_secs(5);

/// Pause between two rounds of retrying failed removals.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// A tier of bytes as the engine uses it.
///
/// An outdated entry must never be served if its removal failed: the key is quarantined
/// until a removal or a write of it succeeds. Removals are retried once the tier accepts
/// them, see `repairs.rs`.
pub struct TierHandle {
    pub(super) tier: Layered<Arc<dyn Tier>>,
    pub(super) kind: TierKind,
    /// Where it stands, if the user brought it.
    position: Option<Position>,
    blocks: bool,
    /// Whether every entry was written by this cache since it was opened.
    has_only_own_entries: bool,
    counters: Arc<TierCounters>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) quarantine: Quarantine,
    pub(super) options: TierOptions,
    /// Whether a log that the cache has judges the entries, although others write them.
    has_own_log: bool,
    own_writes: OwnWrites,
    settle_at_millis: AtomicU64,
    evictions_told: AtomicU64,
    trouble_told: Mutex<Option<Arc<str>>>,
    /// The invalidations that its entries are judged by, if other nodes write them too.
    replica: OnceLock<Arc<Replica>>,
    /// The time of the cache that the tier belongs to.
    pub(super) timeline: OnceLock<Arc<Timeline>>,
    /// The dictionaries of the cache that the tier belongs to.
    pub(super) dictionaries: OnceLock<Arc<Dictionaries>>,
    /// How many entries of the tier are dictionaries and their index, as far as the cache knows.
    pub(super) dictionary_entries: AtomicU64,
}

impl TierHandle {
    /// Wraps `tier` in its layers, with the system clock and without a dirty flag.
    pub fn new(tier: Arc<dyn Tier>) -> Self {
        Self::with(tier, Arc::new(SystemClock), None)
    }

    /// Wraps `tier` in its layers. `clock` times the pauses of the breaker and of
    /// retries. The dirty flag tells the next process of outdated entries. If the last
    /// process left the flag set, no entry of the tier is served before the tier was
    /// cleared.
    pub fn with(tier: Arc<dyn Tier>, clock: Arc<dyn Clock>, dirty_flag: Option<DirtyFlag>) -> Self {
        let counters = Arc::new(TierCounters::default());
        let (kind, blocks) = (tier.kind(), tier.capability().blocking);
        let has_only_own_entries = !tier.capability().shared && tier.usage().entries == 0;
        Self {
            kind,
            position: None,
            blocks,
            has_only_own_entries,
            tier: Layered::new(tier, Arc::clone(&counters), &clock, OPERATION_LIMIT),
            counters,
            clock,
            quarantine: Quarantine::new(kind, dirty_flag),
            options: TierOptions::default(),
            has_own_log: false,
            own_writes: OwnWrites::default(),
            settle_at_millis: AtomicU64::new(0),
            evictions_told: AtomicU64::new(0),
            trouble_told: Mutex::default(),
            replica: OnceLock::new(),
            timeline: OnceLock::new(),
            dictionaries: OnceLock::new(),
            dictionary_entries: AtomicU64::new(0),
        }
    }

    /// The handle of a tier that the user brought, which stands at `position`.
    pub fn at(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }

    /// The handle of a tier whose entries are judged by the invalidations that the engine gets, although
    /// another process writes them.
    pub fn judged_by_own_log(self) -> Self {
        Self { has_own_log: true, ..self }
    }

    /// Its kind, and its position if the user brought it.
    pub fn place(&self) -> (TierKind, Option<Position>) {
        (self.kind, self.position)
    }

    /// Clears a tier that was just opened, if it holds any entry.
    ///
    /// # Errors
    /// The error of the tier.
    pub fn empty(&self) -> Result<()> {
        match self.tier.usage().entries {
            0 => Ok(()),
            _ => block_on(self.clear()),
        }
    }

    /// Tells this selector how long reads and writes of the tier take.
    pub(crate) fn teach(&self, selector: &Arc<dyn Selector>) {
        self.tier.observe().teach(selector);
    }

    /// Whether the tier is of this kind.
    pub fn has_kind(&self, kind: TierKind) -> bool {
        self.kind == kind
    }

    /// Whether every entry was written by this cache since it was opened. Other entries may have
    /// another schema, another type, or a deadline that this cache gave none of its own.
    pub(crate) fn has_only_own_entries(&self) -> bool {
        self.has_only_own_entries
    }

    /// Whether calls of the tier block the calling thread.
    pub(crate) fn blocks(&self) -> bool {
        self.blocks
    }

    pub(crate) fn kind(&self) -> TierKind {
        self.kind
    }

    pub(crate) fn inner(&self) -> &dyn Tier {
        &self.tier
    }

    /// The tier without the layer that counts.
    pub(super) fn guarded(&self) -> &Breaker<Limit<Arc<dyn Tier>>> {
        self.tier.observe().guarded()
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

    /// Notes a failed write to a tier that other nodes read: the frame may be stored.
    pub(crate) fn note_unanswered(&self, key: &EncodedKey, frame: &Frame) {
        if self.is_among_nodes() {
            self.own_writes.note(key, identity(frame.head()));
        }
    }

    /// Notes an answered write of a frame.
    pub(crate) fn stored(&self, key: &EncodedKey, frame: &[u8]) {
        self.quarantine.forget(key);
        if self.is_among_nodes() {
            self.own_writes.note_answered(key, identity(frame));
        }
    }

    /// Notes an answered removal of the entry.
    pub(crate) fn gone(&self, key: &EncodedKey) {
        self.quarantine.forget(key);
        self.own_writes.forget(key);
    }

    pub(crate) fn facts(&self) -> TierFacts {
        let healthy = !self.quarantine.is_whole() && self.tier.healthy();
        let coherent = !self.is_shared() || self.is_among_nodes() || self.tier.versioned().is_some();
        let mut capability = self.tier.capability();
        capability.stores &= !self.options.read_only;
        TierFacts { kind: self.kind, capability, coherent, healthy, position: self.position }
    }

    /// Returns the tier as one that takes frames in parts.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if it takes none.
    pub(crate) fn streaming(&self) -> Result<&dyn StreamingTier> {
        self.tier.streaming().ok_or_else(|| self.lacks_ability("takes no frames in parts"))
    }

    /// Whether the tier takes frames in parts.
    pub(crate) fn streams(&self) -> bool {
        self.tier.streaming().is_some()
    }

    /// Returns the tier as one whose entries have versions that cost no I/O.
    pub(crate) fn versioned(&self) -> Option<&dyn VersionedTier> {
        self.tier.versioned()
    }

    /// Whether a write to the tier can have a precondition: other processes or nodes change it too,
    /// and their changes have versions.
    pub(crate) fn takes_preconditions(&self) -> bool {
        self.is_among_nodes() || self.tier.versioned().is_some()
    }

    /// Returns the error of a call that the tier does not have.
    pub(crate) fn lacks_ability(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("the tier {what}")).in_tier(self.kind)
    }

    /// Whether other processes write to the tier.
    pub fn is_shared(&self) -> bool {
        self.tier.capability().shared
    }

    /// Whether other processes write to the tier with sequence numbers of their own,
    /// which the invalidations of this cache cannot be compared with.
    pub(crate) fn has_foreign_versions(&self) -> bool {
        (self.is_shared() || self.is_read_only()) && !self.is_among_nodes() && !self.has_own_log
    }

    /// Whether other nodes write to the tier and report their changes.
    pub(crate) fn is_among_nodes(&self) -> bool {
        self.replica.get().is_some()
    }

    /// Judges the entries of the tier by the invalidations of all nodes.
    pub(crate) fn replicate(&self, replica: &Arc<Replica>) {
        // Only the first call counts.
        let _refused = self.replica.set(Arc::clone(replica));
    }

    /// Gives the tier the time of its cache.
    pub(crate) fn keep_time(&self, timeline: &Arc<Timeline>) {
        // Only the first call counts.
        let _refused = self.timeline.set(Arc::clone(timeline));
    }

    /// Makes the replica of invalidations current, if something was `found` to judge by
    /// it.
    pub(crate) async fn ensure_current(&self, found: bool) -> Result<()> {
        match self.replica.get().filter(|_| found) {
            Some(replica) => replica.ensure_current().await,
            None => Ok(()),
        }
    }

    /// Returns `found` once the invalidations to judge it by are current.
    pub(super) async fn heeded<T>(&self, found: Option<T>) -> Result<Option<T>> {
        self.ensure_current(found.is_some()).await?;
        Ok(found)
    }

    /// Does the same as [`ensure_current`](Self::ensure_current) for a batch: if it
    /// fails, each result becomes that failure.
    pub(crate) async fn ensure_all_current<T>(&self, any: bool, found: &mut [Result<T>]) {
        if let Err(error) = self.ensure_current(any).await {
            found.iter_mut().for_each(|found| *found = Err(self.again(&error)));
        }
    }

    /// Returns a failure once more, for another key of the batch.
    pub(crate) fn again(&self, error: &Error) -> Error {
        Error::new(error.kind(), error.to_string()).in_tier(self.kind)
    }

    pub(crate) fn stats(&self) -> TierStats {
        let stats = TierStats::new(self.kind, self.counters.snapshot(), self.usage());
        let stats = stats.with_latency(self.counters.times.snapshot()).with_servers(self.tier.servers());
        stats.with_trouble(self.tier.trouble())
    }

    /// Returns what the layers know of the tier now.
    pub(crate) fn state(&self) -> TierState {
        TierState {
            kind: self.kind,
            is_healthy: self.facts().healthy,
            open: self.guarded().open_lines(),
            has_missed_changes: self.quarantine.is_any(),
            is_shared: self.is_shared(),
        }
    }

    /// Returns how many entries the tier evicted since the last call.
    pub(crate) fn new_evictions(&self) -> u64 {
        let now = self.tier.usage().evictions;
        now.saturating_sub(self.evictions_told.fetch_max(now, Ordering::AcqRel))
    }

    /// Returns why the tier is unusable now, if that changed since the last call.
    pub(crate) fn new_trouble(&self) -> Option<Arc<str>> {
        let trouble = self.tier.trouble();
        let mut told = self.trouble_told.lock();
        if *told == trouble {
            return None;
        }
        told.clone_from(&trouble);
        trouble
    }

    pub(crate) async fn put(&self, key: &EncodedKey, frame: &Frame) -> Result<()> {
        let put = match self.is_read_only() {
            true => Err(self.refuse_write()),
            false => {
                let put = match self.on_this_thread() {
                    Some(tier) => tier.put_blocking(key, frame),
                    None => self.tier.put(key, frame).await,
                };
                put.inspect_err(|_| self.note_unanswered(key, frame))
            }
        };
        self.settle(key, frame.head(), put).await
    }

    /// Writes frames, with as few round trips as the tier needs.
    pub(crate) async fn put_many(&self, entries: &[(EncodedKey, Frame)]) -> Vec<Result<()>> {
        let mut settled = Vec::with_capacity(entries.len());
        for ((key, frame), put) in entries.iter().zip(self.tier.put_many(entries).await) {
            let put = put.inspect_err(|_| self.note_unanswered(key, frame));
            settled.push(self.settle(key, frame.head(), put).await);
        }
        settled
    }

    /// Removes entries, with as few round trips as the tier needs. Quarantines the keys
    /// whose removal fails.
    pub(crate) async fn remove_many(&self, keys: &[EncodedKey]) -> Vec<Result<bool>> {
        if self.is_read_only() {
            let mut hidden = Vec::with_capacity(keys.len());
            for key in keys {
                hidden.push(self.hide(key).await);
            }
            return hidden;
        }
        let removed = self.tier.remove_many(keys).await;
        keys.iter().zip(removed).map(|(key, removed)| self.removed(key, removed)).collect()
    }

    /// Publishes an upload as the entry of `key`.
    pub(crate) async fn publish(&self, key: &EncodedKey, upload: Upload, head: &[u8]) -> Result<()> {
        let published = self.streaming()?.publish(key, upload, head).await;
        self.settle(key, head, published).await
    }

    async fn settle(&self, key: &EncodedKey, head: &[u8], written: Result<()>) -> Result<()> {
        match written {
            Ok(()) => {
                self.stored(key, head);
                Ok(())
            }
            Err(error) => {
                // The former entry is outdated, whether or not the new one was written.
                let _counted = Box::pin(self.remove(key)).await;
                Err(error)
            }
        }
    }

    /// Removes the entry; quarantines the key if that fails.
    pub(crate) async fn remove(&self, key: &EncodedKey) -> Result<bool> {
        if self.is_read_only() {
            return self.hide(key).await;
        }
        let removed = match self.on_this_thread() {
            Some(tier) => tier.remove_blocking(key),
            None => self.tier.remove(key).await,
        };
        self.removed(key, removed)
    }

    pub(super) fn removed(&self, key: &EncodedKey, removed: Result<bool>) -> Result<bool> {
        match removed {
            Ok(removed) => {
                self.gone(key);
                Ok(removed)
            }
            Err(error) => {
                self.quarantine.add(key, self.epoch(key));
                Err(error)
            }
        }
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        if self.is_read_only() {
            self.quarantine.add_all();
            return Ok(());
        }
        let cleared = self.tier.clear().await;
        match &cleared {
            Ok(()) => {
                self.quarantine.forget_all();
                self.own_writes.forget_all();
                self.cleared_dictionaries();
            }
            Err(_) => self.quarantine.add_all(),
        }
        cleared
    }

    /// Whether failed removals are to be retried now. Returns true to one caller per
    /// pause.
    pub(crate) fn is_retry_due(&self) -> bool {
        if !self.quarantine.is_any() || self.is_read_only() || !self.guarded().takes_removals() {
            return false;
        }
        let now = millis(self.clock.elapsed());
        let due = self.settle_at_millis.load(Ordering::Acquire);
        let next = now.saturating_add(millis(SETTLE_PAUSE));
        now >= due
            && self.settle_at_millis.compare_exchange(due, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
