//! The engine of one cache: a memory store and, optionally, byte tiers beyond it.

use std::any::Any;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::clock::Clock;
use larder_core::entry_meta::{Freshness, LiveEntryMeta};
use larder_core::erased::{AnyLookup, Borrowed, Key, Memory, Value};
use larder_core::invalidation::{InvalidationLog, InvalidationRecord};
use larder_core::key::{EncodedKey, Lookup};
use larder_core::memory::{Bounds, Lifespan, MemoryStore, Record, Removed};
use larder_core::place::LearnedFile;
use larder_core::stats::{CacheCounters, Count, HotCount, Stats, TierCounts, TierStats};
use larder_core::tier::{EntryVersion, TierKind};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::coherence::port::CoherencePort;
use crate::coherence::{self, CoherencePlan};
use crate::events::{EventSink, Events};
use crate::invalidation::log::{EntryAge, Invalidations};
use crate::key_lock::KeyLocks;
use crate::key_lock::reentrancy;
use crate::lifecycle::{Lifecycle, OpenedDir};
use crate::load::backoff::Backoffs;
use crate::load::refresh::RefreshPauses;
use crate::observation::Observer;
use crate::read::on_thread::can_read;
use crate::read::promotion::Promotions;
use crate::selector::Hints;
use crate::selector::lessons::Pupil;
use crate::tier_stack::TierStack;
use crate::tier_stack::key_encodings::Encodings;
use crate::tier_stack::tier_handle::TierHandle;
use crate::time::expiry::{Expiry, LiveExpiry};
use crate::time::record_lifetimes::{RecordLifetimes, freshness_at, freshness_without_terms};
use crate::time::restart;
use crate::time::timeline::Timeline;
use crate::warm_restart::WarmRestart;
use larder_exec::background::Pool;
use larder_exec::origin::Origin;
use larder_exec::runtime::{Runtime, block_on};

/// A function that returns the weight of an entry.
pub type Weigher = Box<dyn Fn(&dyn Any, &dyn Any) -> u32 + Send + Sync>;

/// How much of the memory budget an entry takes.
pub enum Weigh {
    /// One: the budget counts entries.
    Entry,
    /// Its measured bytes plus a fixed overhead.
    Measured,
    /// The result of this function.
    By(Weigher),
}

/// Estimated bytes of an entry in memory beside its encoding: the records that the engine and the
/// memory store keep of it.
pub(crate) const OVERHEAD: u64 = 128;

/// The invalidations of earlier runs, and the log for new ones.
#[derive(Default)]
pub struct KeptInvalidations {
    /// The log. `None` if nothing outlives the process.
    pub log: Option<Box<dyn InvalidationLog>>,
    /// The invalidations that the log holds.
    pub invalidations: Vec<InvalidationRecord>,
}

/// The parts that an engine is assembled from.
pub struct Parts {
    /// The memory store.
    pub memory: Arc<dyn Memory>,
    /// The largest weight of one entry in memory. Zero if there is no memory tier.
    pub memory_weight_max: u64,
    /// How entries are weighed.
    pub weigh: Weigh,
    /// The tiers beyond memory.
    pub stack: Option<TierStack>,
    /// What the user has configured about the entries.
    pub hints: Hints,
    /// How long entries live.
    pub expiry: Expiry,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// How the cache learns of other nodes, if they share a tier with it.
    pub coherence: Option<CoherencePlan>,
    /// The invalidation log and what it holds.
    pub invalidations: KeptInvalidations,
    /// How long a leader that was woken may stay unpolled before a waiter takes its key over.
    /// `None`: for any time.
    pub stall: Option<Duration>,
    /// The listener for events. The memory store must itself report the entries that leave it, see
    /// [`EventSink::on_departure`].
    pub listener: Option<EventSink>,
    /// What remembers keys and events for those who look at the cache. The memory store must itself report the
    /// entries that leave it, see [`Observer::on_departure`].
    pub observer: Option<Arc<Observer>>,
    /// The directory of the tiers, if they have one.
    pub dir: Option<OpenedDir>,
    /// The list of the hottest keys, if they are to be read back.
    pub warm_restart: Option<WarmRestart>,
    /// Where what the selector learns is kept, if the cache has a directory.
    pub learned: Option<Box<dyn LearnedFile>>,
    /// Changes the keys that the tiers are sealed with, if they are sealed.
    pub rotation: Option<Box<dyn Any + Send + Sync>>,
    /// Locks and similar values, dropped when the cache is closed.
    pub held: Vec<Box<dyn Any + Send>>,
}

/// One cache. The crate documentation describes the paths through it.
pub struct Engine {
    pub(crate) memory: Arc<dyn Memory>,
    pub(crate) memory_weight_max: u64,
    pub(crate) weigh: Weigh,
    /// Whether the short paths (`memory_only.rs`) may be taken: memory is the only tier, there is no
    /// listener, and the time to live does not depend on keys and values.
    pub(crate) is_short: bool,
    /// As `is_short`, for a memory store that releases locks.
    pub(crate) is_at_once: bool,
    /// Whether the policy of the memory store asks for the cost of a record.
    pub(crate) uses_cost: bool,
    /// Whether threads read without a future (`read/on_thread.rs`).
    pub(crate) reads_on_thread: bool,
    pub(crate) stack: Option<TierStack>,
    /// How the cache stays coherent with other processes.
    pub(crate) coherence: Arc<dyn CoherencePort>,
    /// Whether copies in memory must be confirmed before they serve: what the port said when the
    /// engine was built, so that a hit need not ask it.
    pub(crate) confirms_copies: bool,
    pub(crate) hints: Hints,
    /// The selector, if it learns.
    pub(crate) pupil: Option<Pupil>,
    pub(crate) expiry: LiveExpiry,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) invalidations: Arc<Invalidations>,
    /// The keys whose loads failed lately.
    pub(crate) backoffs: Backoffs,
    /// Threads for loads that continue without their callers.
    pub(crate) pool: Arc<Pool>,
    /// Number of refreshes that are running.
    pub(crate) refreshing: AtomicUsize,
    /// The entries beyond memory whose refresh was tried lately.
    pub(crate) refresh_pauses: RefreshPauses,
    /// Whether an entry of this cache may expire.
    pub(crate) expires: AtomicBool,
    pub(crate) stall: Option<Duration>,
    pub(crate) dir: Option<OpenedDir>,
    pub(crate) warm_restart: Option<WarmRestart>,
    pub(crate) rotation: Option<Box<dyn Any + Send + Sync>>,
    pub(crate) held: Mutex<Vec<Box<dyn Any + Send>>>,
    pub(crate) key_locks: Arc<KeyLocks>,
    pub(crate) encodings: Encodings,
    pub(crate) counters: CacheCounters,
    pub(crate) memory_puts: Count,
    pub(crate) promotions: Promotions,
    pub(crate) closed: AtomicBool,
    /// The process that built the cache.
    pub(crate) origin: Origin,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) events: Events,
    /// Called when the last handle is dropped, before anything else is.
    pub(crate) on_last_handle: OnceLock<fn(&Self)>,
}

impl Engine {
    /// Assembles an engine.
    pub fn new(parts: Parts) -> Arc<Self> {
        let tiers = parts.stack.as_ref().map_or(&[][..], |stack| &stack.tiers);
        let KeptInvalidations { log, invalidations: kept } = parts.invalidations;
        let noted = restart::noted(&kept);
        let invalidations = Arc::new(Invalidations::new(log, kept));
        let earliest = restart::earliest(noted, &*parts.clock, tiers, &invalidations);
        let timeline = Arc::new(Timeline::new(parts.clock, earliest));
        tiers.iter().for_each(|handle| handle.keep_time(&timeline));
        let reads_on_thread = can_read(parts.coherence.as_ref(), tiers);
        let coherence = coherence::choose(parts.coherence, tiers, (&invalidations, &timeline));
        let expires = AtomicBool::new(parts.expiry.is_set() || tiers.iter().any(TierHandle::expires));
        let expiry = LiveExpiry::new(parts.expiry);
        let is_heard = parts.listener.is_some() || parts.observer.is_some();
        let is_short = parts.stack.is_none() && !is_heard && expiry.said().ttl_by.is_none();
        let engine = Arc::new(Self {
            is_short,
            is_at_once: is_short && parts.memory.releases_locks(),
            uses_cost: parts.memory.uses_cost(),
            reads_on_thread,
            key_locks: KeyLocks::new(parts.memory.hasher()),
            memory: parts.memory,
            confirms_copies: coherence.confirms_copies(),
            coherence,
            memory_weight_max: parts.memory_weight_max,
            weigh: parts.weigh,
            pupil: parts.stack.as_ref().and_then(|stack| Pupil::new(stack, parts.learned)),
            stack: parts.stack,
            hints: parts.hints,
            expiry,
            timeline,
            invalidations,
            backoffs: Backoffs::default(),
            pool: Pool::new(),
            refreshing: AtomicUsize::new(0),
            refresh_pauses: RefreshPauses::default(),
            expires,
            stall: parts.stall,
            dir: parts.dir,
            warm_restart: parts.warm_restart,
            rotation: parts.rotation,
            held: Mutex::new(parts.held),
            encodings: Encodings::default(),
            counters: CacheCounters::default(),
            memory_puts: Count::default(),
            promotions: Promotions::default(),
            closed: AtomicBool::new(false),
            origin: Origin::here(),
            lifecycle: Lifecycle::default(),
            events: Events::new(parts.listener, parts.observer),
            on_last_handle: OnceLock::new(),
        });
        let (timeline, invalidations) = (Arc::clone(&engine.timeline), Arc::clone(&engine.invalidations));
        engine.memory.attach(Arc::new(RecordLifetimes { timeline, invalidations }));
        engine.listen_to_tiers();
        engine.start_dictionaries();
        engine.start_sampling();
        Arc::clone(&engine.coherence).start(&engine);
        engine.warm_up();
        engine
    }

    /// Returns the value of `key` in the typed memory store of this cache. A miss is not counted
    /// here.
    #[inline]
    pub fn hit<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + Sync + ?Sized,
    {
        if self.confirms_copies {
            return self.confirmed_hit(memory, key);
        }
        let value = memory.value(key, |lifecycle| self.is_fresh(lifecycle))?;
        self.count_hit(&Borrowed::<K, Q>::new(key));
        Some(value)
    }

    /// As [`hit`](Self::hit), but `None` if a refresh of the entry is due.
    pub fn hit_unless_due<K, V>(&self, memory: &impl MemoryStore<K, V>, key: &K) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        if self.confirms_copies {
            return None;
        }
        let value = memory
            .value(key, |lifecycle| !self.is_refresh_due(lifecycle.terms) && self.is_fresh(lifecycle))?;
        self.count_hit(&Borrowed::<K, K>::new(key));
        Some(value)
    }

    /// As [`hit`](Self::hit), for a store whose types are not known. With `unless_due` as
    /// [`hit_unless_due`](Self::hit_unless_due).
    pub fn hit_of_any(&self, key: &dyn AnyLookup, unless_due: bool) -> Option<Value> {
        if unless_due && self.confirms_copies {
            return None;
        }
        let record = self.near(key)?;
        let is_due = unless_due && self.is_refresh_due(record.terms.as_deref());
        if is_due || !self.is_fresh(record.lifespan()) {
            return None;
        }
        let value = record.value?;
        self.count_hit(key);
        Some(value)
    }

    /// Returns the value of `key` in memory, of any type, and counts a hit.
    pub(crate) fn find(&self, key: &dyn AnyLookup) -> Option<Value> {
        let value = self.recall(key)?.value?;
        self.counters.hot.increment(HotCount::Hits);
        Some(value)
    }

    /// Returns the memory record of `key` if it may be served. The record may hold the knowledge
    /// that there is no value.
    pub(crate) fn recall(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.near(key).filter(|record| self.is_fresh(record.lifespan()))
    }

    /// As [`recall`](Self::recall), without recording a use of the entry.
    pub(crate) fn glance(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.near_unused(key).filter(|record| self.freshness(record) == Freshness::Fresh)
    }

    #[inline]
    pub(crate) fn is_fresh(&self, lifecycle: Lifespan<'_>) -> bool {
        match lifecycle.terms {
            None => self.invalidations.spares(lifecycle.stamp),
            Some(terms) => self.is_fresh_by(lifecycle.stamp, terms),
        }
    }

    /// Returns whether an entry may be served by its deadline and by the invalidations. If so,
    /// records a use of it.
    fn is_fresh_by(&self, stamp: u64, terms: &LiveEntryMeta) -> bool {
        let now = self.timeline.now();
        let fresh = now < terms.until()
            && (stamp >= self.invalidations.stamp()
                || self.invalidations.freshness(EntryAge::new(stamp, terms.written()), now)
                    == Freshness::Fresh);
        if fresh {
            terms.used(now);
        }
        fresh
    }

    /// Returns the freshness of a memory record now.
    pub(crate) fn freshness(&self, record: &Record<Value>) -> Freshness {
        self.freshness_by(record.lifespan())
    }

    /// As [`freshness`](Self::freshness), from the data that it depends on.
    pub(crate) fn freshness_by(&self, lifecycle: Lifespan<'_>) -> Freshness {
        match lifecycle.terms {
            None => freshness_without_terms(&self.invalidations, lifecycle.stamp),
            Some(terms) => freshness_at(&self.invalidations, (lifecycle.stamp, terms), self.timeline.now()),
        }
    }

    /// Returns the memory record of `key`, if memory may answer without asking a tier.
    #[inline]
    pub(crate) fn near(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        if self.confirms_copies {
            return self.confirmed(key);
        }
        self.memory.get(key)
    }

    /// As [`near`](Self::near), without recording a use of the entry.
    pub(crate) fn near_unused(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        if self.confirms_copies {
            return self.confirmed_by(|| self.memory.peek(key));
        }
        self.memory.peek(key)
    }

    /// Returns whether there are tiers beyond memory.
    pub fn has_tiers(&self) -> bool {
        self.stack.is_some()
    }

    /// Runs a section over the tiers. If all tiers block, it runs on a thread that may block;
    /// otherwise in the caller's task. A section that only `reads` may be dropped before its end.
    pub(crate) fn drive<W: Runtime, T: Send + 'static>(
        &self,
        reads: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let tiers = self.tiers();
        // On the heap at once: a future that is awaited is moved several times, and would be part of the
        // future of every caller. Without tiers the section can only wait for a guard, and guards are held
        // briefly.
        let section = if tiers.is_empty() { Err(block_on(section)) } else { Ok(Box::pin(section)) };
        let all_block = tiers.iter().all(TierHandle::blocks);
        async move {
            match section {
                Err(ended) => Ok(ended),
                Ok(section) if all_block => W::section(true, section).await,
                Ok(section) => W::drive(reads, section).await,
            }
        }
    }

    /// Sets a function to call when the last handle is dropped. The first one set counts.
    pub fn set_on_last_handle(&self, on_last_handle: fn(&Self)) {
        let _first_counts = self.on_last_handle.set(on_last_handle);
    }

    /// Returns the statistics of this moment.
    pub fn stats(&self) -> Stats {
        let mut tiers = Vec::new();
        if self.memory_weight_max > 0 {
            let mut counts = TierCounts::default();
            counts.hits = self.counters.hot.get(HotCount::Hits);
            counts.puts = self.memory_puts.get() + self.counters.hot.get(HotCount::Puts);
            let stats = TierStats::new(TierKind::Memory, counts, self.memory.usage());
            tiers.push(stats.with_memory(self.memory.facts()));
        }
        tiers.extend(self.tiers().iter().map(|handle| handle.stats()));
        let mut counts = self.counters.totals();
        (counts.events_missed, counts.listener_panics) = self.events.troubles();
        let stats = Stats::new(counts, tiers).with_load_latency(self.counters.load_times.snapshot());
        stats.with_private(self.is_private())
    }

    /// Returns the tiers beyond memory, nearest first.
    pub(crate) fn tiers(&self) -> &[crate::TierHandle] {
        self.stack.as_ref().map_or(&[], |stack| &stack.tiers)
    }

    /// Returns whether this is a forked child of the process that built the cache. The child has
    /// none of the threads that the tiers need, and may have locks that are never released.
    ///
    /// Costs an atomic load.
    pub(crate) fn is_forked(&self) -> bool {
        self.origin.is_forked()
    }

    /// Fails if the cache was closed, or if this is a forked child that has tiers.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_not_closed()?;
        if self.has_tiers() && self.is_forked() { Err(crate::lifecycle::forked()) } else { Ok(()) }
    }

    /// Encodes the key for the tiers. `None` if there are none.
    pub(crate) fn encode_key(&self, key: &dyn AnyLookup) -> Result<Option<EncodedKey>> {
        let Some(stack) = &self.stack else { return Ok(None) };
        let encoded = stack.encode_lookup(key)?;
        self.watch_encoding(stack, key, &encoded)?;
        Ok(Some(encoded))
    }

    /// Returns the weight in memory of an entry of `bytes`, including its key. Runs the user's
    /// weigher, so no lock may be held.
    pub(crate) fn weight(&self, key: &Key, value: Option<&Value>, bytes: u64) -> u32 {
        self.weight_of(key.as_any(), value.map(|value| value.as_any() as &dyn Any), bytes)
    }

    /// As [`weight`](Self::weight), for a borrowed key and value.
    pub(crate) fn weight_of(&self, key: &dyn Any, value: Option<&dyn Any>, bytes: u64) -> u32 {
        match (&self.weigh, value) {
            (Weigh::Entry, _) => 1,
            (Weigh::By(weigher), Some(value)) => weigher(key, value),
            _ => u32::try_from(bytes + OVERHEAD).unwrap_or(u32::MAX),
        }
    }

    /// Returns the memory store.
    pub fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// Returns the bounds of memory.
    pub fn bounds(&self) -> Bounds {
        self.memory.bounds()
    }

    /// Changes the bounds of memory, and evicts the entries that exceed them.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the memory store cannot change them.
    pub fn set_bounds(&self, change: impl FnOnce(&mut Bounds)) -> Result<()> {
        if self.memory_weight_max == 0 {
            return Err(Error::new(ErrorKind::Unsupported, "the cache was built without memory"));
        }
        let mut bounds = self.memory.bounds();
        change(&mut bounds);
        reentrancy::within(|| self.memory.set_bounds(bounds))
    }

    /// Returns whether memory accepts an entry of this weight.
    pub(crate) fn fits_memory(&self, weight: u32) -> bool {
        self.memory.bounds().bytes.is_none_or(|max| u64::from(weight) <= max)
    }

    /// Inserts a record into memory. Returns whether memory keeps it. The caller holds the guard of the key.
    pub(crate) fn keep(&self, key: Key, record: Record<Value>) -> bool {
        if self.memory_weight_max == 0 {
            return false;
        }
        if self.confirms_copies && record.checked.is_none() {
            // A copy without a version cannot be validated: another process may have replaced the
            // entry by now.
            self.discard(&key);
            return false;
        }
        self.memory_puts.increment();
        reentrancy::within(|| self.memory.insert(key, record))
    }

    /// As [`discard`](Self::discard). Returns whether there was a copy, and its version if copies
    /// are validated.
    pub(crate) fn discard_copy(&self, key: &dyn AnyLookup) -> Option<Option<EntryVersion>> {
        self.discard(key).map(|removed| removed.checked)
    }

    /// Removes a record from memory. The caller holds the guard of the key.
    pub(crate) fn discard(&self, key: &dyn AnyLookup) -> Option<Removed> {
        reentrancy::within(|| self.memory.remove(key))
    }
}
