//! A memory store backed by the crate moka.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use larder_core::clock::Time;
use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyForm, Key, Memory, Value, VisitKey};
use larder_core::key::Equivalent;
use larder_core::memory::{
    Bounds, Departure, DepartureCause, Lifetimes, OnDeparture, Record, Removed, StoreFacts,
};
use larder_core::tier::{TierKind, Usage};
use larder_core::{Error, ErrorKind, Result};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::Policy;
use super::ledger::{Kept, Ledger};

/// A memory store backed by the crate `moka`.
///
/// It evicts lazily, and drops evicted or replaced values later. An insert runs moka's maintenance if the
/// live weight exceeds the limit by more than a 32nd. The store has one limit, entries or bytes, which cannot
/// be changed. Expired records leave by moka's timers, which use the monotonic clock of the system;
/// invalidated records leave when they are evicted. The eviction listener of moka is installed only if there
/// is a callback: it takes a lock of the key on every insert and costs a third of the insert.
pub(super) struct MokaStore {
    records: Cache<Key, Kept<Value>, RandomState>,
    ledger: Arc<Ledger<Value>>,
    bounds: Bounds,
    policy: &'static str,
    lifetimes: Arc<OnceLock<Arc<dyn Lifetimes>>>,
    /// A record was replaced since the last maintenance. moka 0.12.16 loses the difference of the weights if
    /// the entry is removed before it.
    replaced: AtomicBool,
    /// Inserts of absent keys.
    added: AtomicU64,
    /// Entries removed or cleared.
    taken: AtomicU64,
}

/// Finds an erased key.
struct Form<'a>(&'a dyn AnyForm);

impl Hash for Form<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.feed(state);
    }
}

impl Equivalent<Key> for Form<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.0.is_key(key.as_any())
    }
}

/// Computes for moka how long a record lives.
struct Deadlines(Arc<OnceLock<Arc<dyn Lifetimes>>>);

impl Deadlines {
    fn left(&self, kept: &Kept<Value>) -> Option<Duration> {
        let until = kept.record().terms.as_ref()?.current().stale_until();
        let now = self.0.get()?.now();
        (until != Time::NEVER).then(|| until.since(now))
    }
}

impl moka::Expiry<Key, Kept<Value>> for Deadlines {
    fn expire_after_create(&self, _: &Key, kept: &Kept<Value>, _: Instant) -> Option<Duration> {
        self.left(kept)
    }

    fn expire_after_read(
        &self,
        _: &Key,
        kept: &Kept<Value>,
        _: Instant,
        left: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        // A use starts the idle time of a record again.
        let is_idle = kept.record().terms.as_ref().is_some_and(|terms| terms.written().idle.is_some());
        if is_idle { self.left(kept) } else { left }
    }

    fn expire_after_update(
        &self,
        _: &Key,
        kept: &Kept<Value>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.left(kept)
    }
}

/// Creates a store. Compiled in this crate: a trait object is made where the function is compiled.
pub(super) fn open(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture>) -> Arc<dyn Memory> {
    Arc::new(MokaStore::with(bounds, policy, on_departure))
}

impl MokaStore {
    /// Creates a store within `bounds`; bytes apply if both limits are given. [`Policy::Lru`] is moka's LRU,
    /// every other policy its TinyLFU. Calls `on_departure` for each record that the store drops by itself.
    pub(super) fn with(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture>) -> Self {
        let bounds = if bounds.bytes.is_some() { Bounds { entries: None, ..bounds } } else { bounds };
        let (policy, name) = match policy {
            Policy::Lru => (EvictionPolicy::lru(), "lru"),
            _ => (EvictionPolicy::tiny_lfu(), "tiny_lfu"),
        };
        let limit = bounds.bytes.or(bounds.entries).unwrap_or(u64::MAX);
        let lifetimes = Arc::new(OnceLock::new());
        let builder = Cache::builder()
            .max_capacity(limit)
            .eviction_policy(policy)
            .expire_after(Deadlines(Arc::clone(&lifetimes)));
        let builder = match bounds.bytes {
            None => builder,
            Some(_) => builder.weigher(|_, kept: &Kept<Value>| kept.record().weight),
        };
        let ledger = Arc::new(Ledger::new(limit, bounds.bytes.is_some()));
        let builder = match on_departure {
            None => builder,
            Some(on_departure) => {
                builder.eviction_listener(telling(on_departure, Arc::clone(&ledger), bounds.bytes.is_some()))
            }
        };
        Self {
            records: builder.build_with_hasher(RandomState::default()),
            ledger,
            bounds,
            policy: name,
            lifetimes,
            replaced: AtomicBool::new(false),
            added: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Runs moka's maintenance, and drops the values that it removed.
    fn settle_now(&self) {
        self.replaced.store(false, Relaxed);
        self.records.run_pending_tasks();
        self.ledger.drop_waiting();
    }

    /// Returns whether a record holds a value that may be served now. The record of an absence holds none.
    fn is_live(&self, record: &Record<Value>, now: Time) -> bool {
        let is_fresh =
            |lifetimes: &Arc<dyn Lifetimes>| lifetimes.freshness(record.lifespan(), now) == Freshness::Fresh;
        record.value.is_some() && self.lifetimes.get().is_none_or(is_fresh)
    }

    fn now(&self) -> Time {
        self.lifetimes.get().map_or(Time::from_millis(0), |lifetimes| lifetimes.now())
    }
}

/// The eviction listener of moka, which runs with locks of moka held.
fn telling(
    on_departure: OnDeparture,
    ledger: Arc<Ledger<Value>>,
    counts_bytes: bool,
) -> impl Fn(Arc<Key>, Kept<Value>, RemovalCause) + Send + Sync + 'static {
    move |key, kept, cause| {
        let bytes = counts_bytes.then(|| u64::from(kept.record().weight));
        let home = kept.record().home;
        let cause = match cause {
            RemovalCause::Size => Some(DepartureCause::Evicted),
            RemovalCause::Expired => Some(DepartureCause::Expired),
            RemovalCause::Explicit | RemovalCause::Replaced => None,
        };
        if let Some(cause) = cause {
            on_departure(Arc::unwrap_or_clone(key), Departure { cause, bytes, home });
        }
        ledger.take(kept);
    }
}

impl Drop for MokaStore {
    fn drop(&mut self) {
        self.ledger.close();
    }
}

impl Memory for MokaStore {
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        let _first_counts = self.lifetimes.set(lifetimes);
    }

    fn get(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.records.get(&Form(key)).map(Kept::into_record)
    }

    /// In moka every look-up counts as a use, except a check for presence.
    fn peek(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.get(key)
    }

    fn insert(&self, key: Key, record: Record<Value>) -> bool {
        if self.bounds.bytes.is_some_and(|bytes| u64::from(record.weight) > bytes) {
            self.remove(&key);
            return false;
        }
        if self.records.contains_key(&key) {
            self.replaced.store(true, Relaxed);
        } else {
            self.added.fetch_add(1, Relaxed);
        }
        let settle = || self.records.run_pending_tasks();
        self.ledger.make_room(settle);
        self.records.insert(key, self.ledger.given(record));
        self.ledger.make_room(settle);
        self.ledger.drop_waiting();
        true
    }

    fn remove(&self, key: &dyn AnyForm) -> Option<Removed> {
        if self.replaced.load(Relaxed) {
            self.settle_now();
        }
        let Record { value, stamp, terms, checked, .. } = self.records.remove(&Form(key))?.into_record();
        self.taken.fetch_add(1, Relaxed);
        let removed = Removed { stamp, terms, checked, has_value: value.is_some() };
        drop(value);
        self.settle_now();
        Some(removed)
    }

    fn clear(&self) {
        self.settle_now();
        self.taken.fetch_add(self.records.entry_count(), Relaxed);
        self.records.invalidate_all();
        self.settle_now();
    }

    fn sweep(&self) -> u64 {
        self.settle_now();
        let before = self.records.entry_count();
        self.settle_now();
        before.saturating_sub(self.records.entry_count())
    }

    fn set_bounds(&self, _: Bounds) -> Result<()> {
        let message = "the memory engine moka cannot change its bounds";
        Err(Error::new(ErrorKind::Unsupported, message).in_tier(TierKind::Memory).during("set_capacity"))
    }

    fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        let now = self.now();
        let is_counted =
            |record: &Record<Value>| home.is_none_or(|home| record.home == home) && self.is_live(record, now);
        self.records.iter().filter(|(_, kept)| is_counted(kept.record())).count() as u64
    }

    fn usage(&self) -> Usage {
        self.settle_now();
        // A store that is limited by entries gives each the weight one, and does not know bytes.
        let bytes = if self.bounds.bytes.is_some() { self.records.weighted_size() } else { 0 };
        let entries = self.records.entry_count();
        let gone = self.added.load(Relaxed).saturating_sub(self.taken.load(Relaxed));
        Usage { entries, bytes, evictions: gone.saturating_sub(entries) }
    }

    fn settle(&self) {
        self.settle_now();
    }

    fn facts(&self) -> Option<StoreFacts> {
        Some(StoreFacts { engine: "moka", policy: self.policy })
    }

    fn contains(&self, key: &dyn AnyForm) -> bool {
        self.records.contains_key(&Form(key))
    }

    fn for_each_key(&self, visit: &mut VisitKey<'_>) {
        let now = self.now();
        let live = self.records.iter().filter(|(_, kept)| self.is_live(kept.record(), now));
        live.for_each(|(key, _)| visit(key.as_any()));
    }
}
