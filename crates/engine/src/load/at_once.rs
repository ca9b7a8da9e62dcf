//! Loads of a cache of memory alone that run on the calling thread and are stored at once.
//!
//! As long as no other caller joins such a load, it allocates nothing: neither its key nor its flight.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyError, AnyForm, Key, Value};
use larder_core::memory::{Hashed, MemoryStore, Miss, Permit, Record};
use larder_core::stats::HotCount;
use tracing::Span;

use crate::engine::Engine;
use crate::key_lock::flight::Outcome;
use crate::key_lock::unjoined::{ClaimUnjoined, Joined, UnjoinedLeader, end_flights};
use crate::key_lock::wait_graph::Entered;
use crate::load::load_span::{LoadSpan, count_load, load_span};
use crate::load::{Leader, Load};
use crate::write::precondition::Precondition;

/// A load that the calling thread runs and stores at once. Dropping it abandons the load, and one of the waiters
/// loads next.
pub struct LoadNow<'a> {
    leader: UnjoinedLeader<'a>,
    /// Sequence number of the latest invalidation before the load.
    stamp: u64,
    timer: Timer<'a>,
}

/// Counts and times the run of the loader. It counts as failed unless it is stopped.
struct Timer<'a> {
    engine: &'a Arc<Engine>,
    started: Instant,
    took: Option<Duration>,
    /// Whether another timer counts the run.
    is_moved: bool,
    span: Span,
}

impl Timer<'_> {
    fn stop(&mut self) -> Duration {
        *self.took.get_or_insert_with(|| self.started.elapsed())
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if !self.is_moved {
            count_load(self.engine, &self.span, (self.started, self.took));
        }
    }
}

impl Engine {
    /// A miss of which nothing is known but the key.
    pub fn unknown_miss<K: Hash>(&self, key: &K) -> Miss {
        Miss { hash: self.key_locks.hash(key), changes: Miss::UNKNOWN }
    }

    /// Whether memory has a value of a key, fresh or stale: it may have come between the miss and the lead.
    #[cold]
    fn has_value(&self, key: &dyn AnyForm) -> bool {
        let found = self.memory.peek(key).filter(|record| record.value.is_some());
        found.is_some_and(|record| self.freshness(&record) != Freshness::Gone)
    }

    /// Begins the load of a key that memory lacks. Counts the miss. `None` if the call has to wait, or needs the
    /// general path.
    pub fn load_now(self: &Arc<Self>, miss: Miss, key: &dyn AnyForm) -> Option<LoadNow<'_>> {
        // A caller that meets a load past the hard timeout ends it, and needs its flight.
        if !self.is_at_once || self.expiry.said().hard_timeout.is_some() || self.is_closed() {
            return None;
        }
        let Miss { hash, changes } = miss;
        // Taken first: an invalidation from here on applies to the loaded value.
        let (stamp, started) = (self.invalidations.stamp(), Instant::now());
        let leader = self.key_locks.lead_unjoined(hash, stamp, started)?;
        if self.memory.contains_since(Hashed { hash, key }, changes) && self.has_value(key) {
            return None;
        }
        self.counters.hot.add([(HotCount::Misses, 1), (HotCount::Loads, 1)]);
        let span = load_span(self);
        if !span.is_disabled() {
            span.record("key", format!("{hash:016x}"));
        }
        let timer = Timer { engine: self, started, took: None, is_moved: false, span };
        Some(LoadNow { leader, stamp, timer })
    }
}

impl LoadNow<'_> {
    /// Runs the loader. Its calls of the cache are recognized as part of it.
    pub fn call<T>(&self, loader: impl FnOnce() -> T) -> T {
        let _within = self.enter();
        loader()
    }

    fn enter(&self) -> (Entered, tracing::span::Entered<'_>) {
        (Entered::one(self.leader.id()), self.timer.span.enter())
    }

    /// Stores a clone of the loaded value, and hands it to the waiters. Returns the key if that needs the general
    /// path.
    pub fn finish<K, V>(&mut self, memory: &impl MemoryStore<K, V>, key: K, value: &V) -> Option<K>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        // Runs code of the user, so it comes before the key lock.
        let copy = value.clone();
        let weight = self.timer.engine.weight_of(&key, Some(&copy), 0);
        let hash = self.leader.hash();
        // What is not stored is dropped at the end, when no lock is held.
        let mut loaded = LoadedNow { memory, hash, entry: Some((key, copy)), value };
        if self.publish(weight, &mut loaded) { None } else { loaded.entry.map(|(key, _)| key) }
    }

    /// Stores the record of the load, unless its entry changed meanwhile. Returns false if it is too large, or if
    /// the key is locked.
    fn publish(&mut self, weight: u32, loaded: &mut dyn AnyLoaded) -> bool {
        let engine = self.timer.engine;
        let took = self.timer.stop();
        let Some(mut record) = engine.loaded_record((weight, self.stamp), took) else { return false };
        let (own, others) = match self.leader.claim() {
            ClaimUnjoined::Locked => return false,
            ClaimUnjoined::Superseded(joined) => {
                engine.counters.superseded.increment();
                loaded.split(joined)
            }
            ClaimUnjoined::Granted(lock, joined) => {
                let joined = loaded.split(joined);
                let hash = self.leader.hash();
                engine.store_load_at_once(hash, lock, |permit| loaded.store(&mut record, permit));
                joined
            }
        };
        if !own.is_empty() {
            end_flights(own, &Outcome::Value(loaded.value()));
        }
        if !others.is_empty() {
            end_flights(others, &Outcome::Abandoned);
        }
        true
    }

    /// Ends the load with an error. The waiters get it too.
    pub fn fail<K: Eq + 'static>(&mut self, key: &K, error: &AnyError) {
        let (own, others) = split(self.leader.leave(), |held| held.downcast_ref() == Some(key));
        end_flights(own, &Outcome::Failed(error.clone()));
        end_flights(others, &Outcome::Abandoned);
    }

    /// Goes on by the general path.
    pub fn into_load(mut self, key: Key) -> Load {
        self.timer.is_moved = true;
        let Self { leader, stamp, timer } = self;
        let leader = leader.into_leader(&timer.engine.key_locks, key);
        let watch = LoadSpan::going_on(timer.engine, (timer.started, timer.took), timer.span.clone());
        let (encoded, precondition) = (None, Precondition::None);
        Load {
            lead: leader.map(|leader| Leader { leader, encoded, precondition, stamp, stale: None }),
            watch,
        }
    }
}

impl dyn AnyLoaded + '_ {
    /// Splits the flights into those of this key and those of others. Drops nothing.
    #[inline]
    fn split(&self, joined: Joined) -> (Joined, Joined) {
        if joined.is_empty() { (joined, Joined::new()) } else { split(joined, |key| self.is_key(key)) }
    }
}

fn split(joined: Joined, is_key: impl Fn(&Key) -> bool) -> (Joined, Joined) {
    joined.into_iter().partition(|(key, _)| is_key(key))
}

/// An entry that was loaded, of any type.
trait AnyLoaded {
    /// Whether this is its key. Runs `Eq` of the key alone.
    fn is_key(&self, key: &Key) -> bool;

    /// Stores it. See [`MemoryStore::insert_under`].
    fn store(&mut self, record: &mut Record<()>, permit: &mut Permit<'_>) -> bool;

    /// Its value, for the waiters.
    fn value(&self) -> Value;
}

struct LoadedNow<'a, K, V, M> {
    memory: &'a M,
    hash: u64,
    entry: Option<(K, V)>,
    value: &'a V,
}

impl<K, V, M> AnyLoaded for LoadedNow<'_, K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    fn is_key(&self, key: &Key) -> bool {
        self.entry.as_ref().is_some_and(|(own, _)| key.downcast_ref() == Some(own))
    }

    fn store(&mut self, record: &mut Record<()>, permit: &mut Permit<'_>) -> bool {
        self.memory.insert_under(self.hash, &mut self.entry, record, permit)
    }

    fn value(&self) -> Value {
        Value::new(self.value.clone())
    }
}
