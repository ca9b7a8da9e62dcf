//! The engine: one cache over a memory store and, where there are any, tiers of bytes.

use std::any::Any;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use larder_core::clock::{Clock, Time};
use larder_core::erased::{AnyLookup, Key, Memory, Value};
use larder_core::key::{EncodedKey, Equivalent};
use larder_core::marks::{MarkLog, Marked};
use larder_core::memory::{Bounds, Lifespan, Lifetimes, MemoryStore, Record, Removed};
use larder_core::place::{Access, Facts, Kind, Persistence, Placement, Sharing, Thresholds, TierFacts};
use larder_core::stats::{CacheCounters, Count, Stats, Striped, TierCounts, TierStats};
use larder_core::terms::{Freshness, LiveTerms};
use larder_core::tier::{Capability, Stamp, TierKind};
use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::background::Pool;
use crate::encodings::Encodings;
use crate::events::{Audience, Events};
use crate::expiry::{Expiry, LiveExpiry};
use crate::gate::Gates;
use crate::life::Life;
use crate::marks::{Marks, Stamped};
use crate::nodes::{Nodes, NodesPlan};
use crate::pause::Pauses;
use crate::restart;
use crate::shield;
use crate::slot::Slot;
use crate::timeline::Timeline;
use crate::wait::{Wait, block_on};
use crate::wire::Wire;

/// What a user said about all entries of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Hints {
    /// The kind of value.
    pub kind: Kind,
    /// How long entries should outlive the process.
    pub persistence: Persistence,
    /// How entries are used.
    pub access: Access,
    /// Who needs to see them.
    pub sharing: Sharing,
    /// The home that the cache insists on.
    pub home: Option<TierKind>,
    /// Where the size classes begin.
    pub thresholds: Thresholds,
}

/// Says what an entry weighs.
pub type Weigher = Box<dyn Fn(&dyn Any, &dyn Any) -> u32 + Send + Sync>;

/// How much of the memory budget an entry takes.
pub enum Weigh {
    /// One: the budget counts entries.
    Entry,
    /// Its measured bytes plus overhead.
    Measured,
    /// What this function says.
    By(Weigher),
}

/// Bytes that an entry takes in memory beside its encoding: the engine's and
/// the store's own records of it. An estimate.
const OVERHEAD: u64 = 128;

/// What was invalidated before, and where to write down what is from now on.
#[derive(Default)]
pub struct KeptMarks {
    /// The log; `None` where nothing outlives the process.
    pub log: Option<Box<dyn MarkLog>>,
    /// What it holds.
    pub marks: Vec<Marked>,
}

/// What an engine is made of.
pub struct Parts {
    /// The memory store.
    pub memory: Arc<dyn Memory>,
    /// The largest weight of one entry in memory; zero when there is no memory.
    pub memory_weight_max: u64,
    /// How entries are weighed.
    pub weigh: Weigh,
    /// Everything beyond memory.
    pub wire: Option<Wire>,
    /// What the user said about the entries.
    pub hints: Hints,
    /// Until when entries live.
    pub expiry: Expiry,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// How it hears of other nodes, where it shares a tier with any.
    pub nodes: Option<NodesPlan>,
    /// Where invalidations are written down, and those of before.
    pub marks: KeptMarks,
    /// How long a leader may be left unpolled after it was woken before a waiter
    /// takes its key over; `None` for as long as it likes.
    pub stall: Option<Duration>,
    /// Who is told what happens; the memory store must tell it by itself of what
    /// leaves it, see [`Audience::on_departure`].
    pub audience: Option<Audience>,
    /// The directory of the tiers, where they have one.
    pub dir: Option<PathBuf>,
    /// Locks and the like, let go of when the cache is closed.
    pub held: Vec<Box<dyn Any + Send>>,
}

/// One cache. See the crate documentation for the paths through it.
pub struct Engine {
    pub(crate) memory: Arc<dyn Memory>,
    pub(crate) memory_weight_max: u64,
    pub(crate) weigh: Weigh,
    pub(crate) wire: Option<Wire>,
    /// Others change entries: copies in memory are checked, by stamps
    /// (`copies.rs`) or by what other nodes tell (`nodes.rs`).
    pub(crate) checks: bool,
    /// By stamps.
    pub(crate) stamps: bool,
    pub(crate) nodes: Option<Arc<Nodes>>,
    pub(crate) hints: Hints,
    pub(crate) expiry: LiveExpiry,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) pauses: Pauses,
    pub(crate) pool: Arc<Pool>,
    pub(crate) refreshing: AtomicUsize,
    /// Some entry of this cache may expire.
    pub(crate) expires: AtomicBool,
    pub(crate) stall: Option<Duration>,
    dir: Option<PathBuf>,
    pub(crate) held: Mutex<Vec<Box<dyn Any + Send>>>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) encodings: Encodings,
    pub(crate) counters: CacheCounters,
    pub(crate) memory_hits: Striped,
    pub(crate) memory_puts: Count,
    pub(crate) closed: AtomicBool,
    /// The process that it was built in.
    pub(crate) process: u32,
    pub(crate) life: Life,
    pub(crate) events: Events,
    /// Called when the last handle goes, before anything else goes.
    pub(crate) last_words: OnceLock<fn(&Self)>,
}

/// The error of a child process that uses the cache of its parent.
#[cold]
pub(crate) fn forked() -> Error {
    let message = "this process was forked from the one that built the cache, and has no part of its tiers: \
                   build a cache after the fork";
    Error::new(ErrorKind::Closed, message)
}

impl Engine {
    /// Assembles an engine.
    pub fn new(parts: Parts) -> Arc<Self> {
        let slots = parts.wire.as_ref().map_or(&[][..], |wire| &wire.slots);
        let stamps = slots.iter().any(|slot| slot.facts().capability.stamps);
        let KeptMarks { log, marks: kept } = parts.marks;
        let noted = restart::noted(&kept);
        let marks = Arc::new(Marks::new(log, kept));
        let earliest = restart::earliest(noted, &*parts.clock, slots, &marks);
        let timeline = Arc::new(Timeline::new(parts.clock, earliest));
        slots.iter().for_each(|slot| slot.keep_time(&timeline));
        let nodes = parts.nodes.map(|plan| Nodes::new(plan, &marks, &timeline));
        for (nodes, slot) in nodes.iter().flat_map(|nodes| slots.iter().map(move |slot| (nodes, slot))) {
            nodes.replicate_in(slot);
        }
        let expires = AtomicBool::new(parts.expiry.is_set());
        let expiry = LiveExpiry::new(parts.expiry);
        let engine = Arc::new(Self {
            memory: parts.memory,
            checks: stamps || nodes.is_some(),
            stamps,
            nodes,
            memory_weight_max: parts.memory_weight_max,
            weigh: parts.weigh,
            wire: parts.wire,
            hints: parts.hints,
            expiry,
            timeline,
            marks,
            pauses: Pauses::default(),
            pool: Pool::new(),
            refreshing: AtomicUsize::new(0),
            expires,
            stall: parts.stall,
            dir: parts.dir,
            held: Mutex::new(parts.held),
            gates: Gates::new(),
            encodings: Encodings::default(),
            counters: CacheCounters::default(),
            memory_hits: Striped::default(),
            memory_puts: Count::default(),
            closed: AtomicBool::new(false),
            process: std::process::id(),
            life: Life::default(),
            events: Events::new(parts.audience),
            last_words: OnceLock::new(),
        });
        engine.memory.attach(Arc::new(Lives {
            timeline: Arc::clone(&engine.timeline),
            marks: Arc::clone(&engine.marks),
        }));
        engine.listen_to_tiers();
        engine.hear();
        engine
    }

    /// The value of `key` in the store of this cache, by its types. A miss is not
    /// counted here.
    #[inline]
    pub fn hit<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<V>
    where
        K: Hash + Eq,
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let value = if self.checks {
            let record = self.confirmed_by(|| memory.get(key))?;
            Some(record).filter(|record| self.is_fresh(record.lifespan()))?.value?
        } else {
            memory.value(key, |life| self.is_fresh(life))?
        };
        self.memory_hits.increment();
        Some(value)
    }

    /// As [`hit`](Self::hit), unless a refresh of the entry is due.
    pub fn hit_unless_due<K, V>(&self, memory: &impl MemoryStore<K, V>, key: &K) -> Option<V>
    where
        K: Hash + Eq,
    {
        if self.checks {
            return None;
        }
        let value = memory.value(key, |life| !self.is_refresh_due(life.terms) && self.is_fresh(life))?;
        self.memory_hits.increment();
        Some(value)
    }

    /// The value of `key` in memory, whatever its type.
    pub(crate) fn find(&self, key: &dyn AnyLookup) -> Option<Value> {
        let value = self.recall(key)?.value?;
        self.memory_hits.increment();
        Some(value)
    }

    /// What memory has of `key`, if it may be served, as a value or as the
    /// knowledge that there is none.
    pub(crate) fn recall(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.near(key).filter(|record| self.is_fresh(record.lifespan()))
    }

    /// As [`recall`](Self::recall), without a use of the entry.
    pub(crate) fn glance(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        self.near_unused(key).filter(|record| self.freshness(record) == Freshness::Fresh)
    }

    #[inline]
    fn is_fresh(&self, life: Lifespan<'_>) -> bool {
        match life.terms {
            None => self.marks.spares(life.stamp),
            Some(terms) => self.is_fresh_by(life.stamp, terms),
        }
    }

    /// Whether terms and marks let an entry be served; that uses it.
    #[inline]
    fn is_fresh_by(&self, stamp: u64, terms: &LiveTerms) -> bool {
        let now = self.timeline.now();
        let fresh = now < terms.until()
            && (stamp >= self.marks.stamp()
                || self.marks.freshness(Stamped::new(stamp, terms.written()), now) == Freshness::Fresh);
        if fresh {
            terms.used(now);
        }
        fresh
    }

    /// What a record of memory is good for now.
    pub(crate) fn freshness(&self, record: &Record<Value>) -> Freshness {
        self.freshness_by(record.lifespan())
    }

    /// The same of what its freshness depends on.
    pub(crate) fn freshness_by(&self, life: Lifespan<'_>) -> Freshness {
        match life.terms {
            None => freshness_without_terms(&self.marks, life.stamp),
            Some(terms) => freshness_at(&self.marks, (life.stamp, terms), self.timeline.now()),
        }
    }

    /// The record of `key` in memory, where memory may answer by itself.
    #[inline]
    pub(crate) fn near(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        if self.checks {
            return self.confirmed(key);
        }
        self.memory.get(key)
    }

    /// As [`near`](Self::near), without a use of the entry.
    pub(crate) fn near_unused(&self, key: &dyn AnyLookup) -> Option<Record<Value>> {
        if self.checks {
            return self.confirmed_by(|| self.memory.peek(key));
        }
        self.memory.peek(key)
    }

    /// Whether there are tiers beyond memory to ask.
    pub fn has_tiers(&self) -> bool {
        self.wire.is_some()
    }

    /// Runs a section over the tiers: where its caller is, if one of them lets
    /// its caller wait there. A section that only `reads` may be given up.
    pub(crate) async fn drive<W: Wait, T: Send + 'static>(
        &self,
        reads: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let slots = self.slots();
        if slots.is_empty() {
            // All that it waits for is a ticket, which nobody has for long.
            return Ok(block_on(section));
        }
        // On the heap at once: what is awaited is moved a few times.
        let section = Box::pin(section);
        if slots.iter().all(Slot::blocks) {
            W::section(true, section).await
        } else {
            W::drive(reads, section).await
        }
    }

    /// The directory of the tiers, where they have one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Has `last_words` called when the last handle goes; the first one counts.
    pub fn set_last_words(&self, last_words: fn(&Self)) {
        let _first_counts = self.last_words.set(last_words);
    }

    /// Statistics of this moment.
    pub fn stats(&self) -> Stats {
        let mut tiers = Vec::new();
        if self.memory_weight_max > 0 {
            let mut counts = TierCounts::default();
            counts.hits = self.memory_hits.get();
            counts.puts = self.memory_puts.get();
            tiers.push(TierStats::new(TierKind::Memory, counts, self.memory.usage()));
        }
        tiers.extend(self.slots().iter().map(|slot| slot.stats()));
        let mut counts = self.counters.snapshot();
        (counts.events_missed, counts.listener_panics) = self.events.troubles();
        Stats::new(counts, tiers).with_load_latency(self.counters.load_times.snapshot())
    }

    pub(crate) fn slots(&self) -> &[crate::Slot] {
        self.wire.as_ref().map_or(&[], |wire| &wire.slots)
    }

    /// Whether look-ups miss and loads pass through: closed, or switched off.
    pub(crate) fn is_closed(&self) -> bool {
        let ended = self.closed.load(Ordering::Acquire);
        if ended {
            self.life.tell_late_use();
        }
        ended || !self.life.is_on() || self.has_tiers() && self.is_forked()
    }

    /// Whether this is a child that was forked from the process of the cache. It has
    /// none of the threads that its tiers need, and perhaps locks that are never let go.
    ///
    /// Costs a call of the system.
    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the cache was closed"));
        }
        if self.has_tiers() && self.is_forked() { Err(forked()) } else { Ok(()) }
    }

    /// The key as tiers see it; `None` where there are none.
    pub(crate) fn encode_key(&self, key: &dyn AnyLookup) -> Result<Option<EncodedKey>> {
        let Some(wire) = &self.wire else { return Ok(None) };
        let encoded = wire.encode_lookup(key)?;
        self.watch_encoding(wire, key, &encoded)?;
        Ok(Some(encoded))
    }

    /// The facts of an entry of `bytes`, with what the user said.
    pub(crate) fn facts(&self, bytes: u64, load_cost: Option<Duration>, ttl: Option<Duration>) -> Facts {
        let Hints { kind, persistence, access, sharing, home, thresholds } = self.hints;
        Facts { bytes, kind, load_cost, ttl, persistence, access, sharing, home, thresholds }
    }

    /// Where an entry with these facts goes now.
    pub(crate) fn place(&self, wire: &Wire, facts: &Facts) -> Placement {
        self.place_with(wire, facts, None)
    }

    /// The same, as if the tier `well` took everything.
    pub(crate) fn place_with(&self, wire: &Wire, facts: &Facts, well: Option<TierKind>) -> Placement {
        let memory = TierFacts {
            kind: TierKind::Memory,
            capability: Capability {
                stores: true,
                persistent: false,
                shared: false,
                blocking: false,
                streams: false,
                stamps: false,
                tells: false,
                frame_bytes_max: self.memory_weight_max.saturating_sub(OVERHEAD),
            },
            healthy: self.memory_weight_max > 0,
        };
        let mut tiers = [memory; TierKind::ALL.len() + 1];
        let mut len = 1;
        for (row, slot) in tiers.iter_mut().skip(1).zip(&wire.slots) {
            *row = slot.facts();
            row.healthy |= well == Some(slot.kind());
            len += 1;
        }
        wire.selector.place(facts, &tiers[..len])
    }

    /// What an entry of `bytes`, key included, weighs in memory. Runs the
    /// user's weigher, so it is asked before anything is held.
    pub(crate) fn weight(&self, key: &Key, value: Option<&Value>, bytes: u64) -> u32 {
        self.weight_of(key.as_any(), value.map(|value| value.as_any() as &dyn Any), bytes)
    }

    /// As [`weight`](Self::weight), of a key and a value that are lent.
    pub(crate) fn weight_of(&self, key: &dyn Any, value: Option<&dyn Any>, bytes: u64) -> u32 {
        match (&self.weigh, value) {
            (Weigh::Entry, _) => 1,
            (Weigh::By(weigher), Some(value)) => weigher(key, value),
            _ => u32::try_from(bytes + OVERHEAD).unwrap_or(u32::MAX),
        }
    }

    /// The bounds of memory.
    pub fn bounds(&self) -> Bounds {
        self.memory.bounds()
    }

    /// Changes the bounds of memory, and evicts what exceeds them.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` where the memory engine cannot change them.
    pub fn set_bounds(&self, change: impl FnOnce(&mut Bounds)) -> Result<()> {
        let mut bounds = self.memory.bounds();
        change(&mut bounds);
        shield::within(|| self.memory.set_bounds(bounds))
    }

    /// Whether memory takes an entry of this weight.
    pub(crate) fn fits_memory(&self, weight: u32) -> bool {
        self.memory.bounds().bytes.is_none_or(|max| u64::from(weight) <= max)
    }

    /// Puts a record into memory, for who holds the ticket of its key.
    pub(crate) fn keep(&self, key: Key, record: Record<Value>) {
        if self.memory_weight_max == 0 {
            return;
        }
        if self.checks && record.checked.is_none() {
            // What was written here another process may have replaced by now.
            self.discard(&key);
            return;
        }
        self.memory_puts.increment();
        let _fits = shield::within(|| self.memory.insert(key, record));
    }

    /// As [`discard`](Self::discard): whether there was one, and which copy it
    /// was, where others change entries.
    pub(crate) fn discard_copy(&self, key: &dyn AnyLookup) -> Option<Option<Stamp>> {
        self.discard(key).map(|removed| removed.checked)
    }

    /// Takes a record out of memory, for who holds the ticket of its key.
    pub(crate) fn discard(&self, key: &dyn AnyLookup) -> Option<Removed> {
        shield::within(|| self.memory.remove(key))
    }
}

/// What memory asks for the freshness of its records.
struct Lives {
    timeline: Arc<Timeline>,
    marks: Arc<Marks>,
}

impl Lifetimes for Lives {
    fn now(&self) -> Time {
        self.timeline.now()
    }

    fn freshness(&self, life: Lifespan<'_>, now: Time) -> Freshness {
        match life.terms {
            None => freshness_without_terms(&self.marks, life.stamp),
            Some(terms) => freshness_at(&self.marks, (life.stamp, terms), now),
        }
    }

    fn invalidations(&self) -> u64 {
        self.marks.stamp()
    }
}

/// Without terms there is no stale window.
fn freshness_without_terms(marks: &Marks, stamp: u64) -> Freshness {
    if marks.spares(stamp) { Freshness::Fresh } else { Freshness::Gone }
}

fn freshness_at(marks: &Marks, (stamp, terms): (u64, &LiveTerms), now: Time) -> Freshness {
    terms.freshness(now).min(marks.freshness(Stamped::new(stamp, terms.written()), now))
}
