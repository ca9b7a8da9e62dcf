//! The short paths of a cache of memory alone.
//!
//! Without tiers and without a listener, a change of an entry is one change of the typed memory
//! store. It is made at once, under the mutex of the key lock (`key_lock/now.rs`): without a future,
//! without erased types, without a guard. Calls that would have to wait take the general path.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, LiveEntryMeta};
use larder_core::erased::{Key, Value};
use larder_core::key::Equivalent;
use larder_core::memory::{MemoryStore, Record, ReloadCost};
use larder_core::place::Placement;
use larder_core::tier::TierKind;

use crate::coherence::load_lease::LeaseGuard;
use crate::engine::Engine;
use crate::key_lock::flight::{Outcome, Purpose, Start};
use crate::key_lock::{Admission, ClaimNow};
use crate::load::poll_watch::PollWatch;
use crate::load::{Begun, Leader, Load, LoadRole, UncheckedLeader};
use crate::write::precondition::Precondition;
use crate::write::remove::Erased;

impl Engine {
    /// Returns whether the short paths may be taken over this store.
    #[inline]
    fn is_memory_only<K: Hash + Eq, V, M: MemoryStore<K, V>>(&self, memory: &M) -> bool {
        self.is_short && memory.releases_locks()
    }

    /// Counts a miss, if a key that is not in memory is nowhere else. Returns whether that is so.
    #[inline]
    pub fn misses_at_once(&self) -> bool {
        if self.is_short {
            self.counters.misses.increment();
        }
        self.is_short
    }

    /// Stores a value.
    ///
    /// # Errors
    /// Returns key and value if the write needs the general path.
    pub fn insert_at_once<K, V>(
        &self,
        memory: &impl MemoryStore<K, V>,
        key: K,
        value: V,
    ) -> Result<Placement, (K, V)>
    where
        K: Hash + Eq + 'static,
        V: 'static,
    {
        if !self.is_memory_only(memory) || self.is_closed() {
            return Err((key, value));
        }
        // Runs code of the user, so it comes before the key lock.
        let weight = self.weight_of(&key, Some(&value), 0);
        let (created, stamp) = (self.timeline.now(), self.invalidations.stamp());
        if !fits(memory, weight) {
            return Err((key, value));
        }
        let hash = self.key_locks.hash(&key);
        let terms = self.terms_at_once(created);
        // Looked at under the lock once more: nothing is stored after `close`.
        let Some(lock) = self.key_locks.lock_now(hash).filter(|_| !self.is_inactive()) else {
            return Err((key, value));
        };
        let record = Record { value: Some(value), ..record(created, stamp, terms, weight) };
        let _fits = memory.insert_under(key, record, lock);
        self.memory_puts.increment();
        self.backoffs.end(hash);
        self.counters.insertions.increment();
        Ok(Placement::MEMORY_ONLY)
    }

    /// Removes an entry. Returns whether it could be served; `None` if the removal needs the general
    /// path.
    pub fn remove_at_once<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<bool>
    where
        K: Hash + Eq,
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if !self.is_memory_only(memory) || self.is_ended() {
            return None;
        }
        let hash = self.key_locks.hash(key);
        let lock = self.key_locks.lock_now(hash).filter(|_| !self.is_ended())?;
        let removed = memory.remove_under(key, lock);
        self.backoffs.end(hash);
        let was_live = self.erased(removed.as_ref()) == Erased::Live;
        if was_live {
            self.counters.removals.increment();
        }
        Some(was_live)
    }

    /// Leads the load of a key that memory lacks.
    ///
    /// # Errors
    /// Returns the key if the call has to wait, or needs the general path.
    pub fn begin_load_at_once<K, V>(
        self: &Arc<Self>,
        memory: &impl MemoryStore<K, V>,
        key: K,
        watch: Option<&Arc<PollWatch>>,
    ) -> Result<Begun, Key>
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        let can = self.is_memory_only(memory) && !self.is_closed();
        let hash = self.key_locks.hash(&key);
        let key = Key::new(key);
        if !can {
            return Err(key);
        }
        // Taken first: an invalidation from here on applies to the loaded value.
        let stamp = self.invalidations.stamp();
        let start = Start { purpose: Purpose::Borrowed, watch: watch.cloned(), stamp };
        let leader = match self.key_locks.enter(hash, key, start) {
            Admission::Leader(leader) => leader,
            Admission::Join(key, _) | Admission::Locked(key, _) => return Err(key),
        };
        // The entry may have come between the miss and the lead, and a stale one may be there.
        let is_there = leader.key().and_then(Key::downcast_ref).is_some_and(|key: &K| memory.contains(key));
        let (encoded, precondition) = (None, Precondition::None);
        if is_there {
            return Ok(self.begin_beside(UncheckedLeader { leader, encoded, precondition }));
        }
        self.counters.misses.increment();
        let lead = Leader { leader, encoded, precondition, stamp, stale: None };
        Ok(Begun::Load(Load::at_once(self, lead)))
    }

    /// Leads a load of a key that has a record in memory.
    #[cold]
    fn begin_beside(self: &Arc<Self>, ahead: UncheckedLeader) -> Begun {
        let role = match self.look_near(ahead, false).lead() {
            Ok(ahead) => self.after_look(ahead, None, LeaseGuard::NONE, false),
            Err(role) => role,
        };
        match role {
            LoadRole::Have(Some(value)) => Begun::Value(value),
            LoadRole::Leader(lead) => Begun::Load(Load::new(self, Some(lead))),
            _ => Begun::Load(Load::new(self, None)),
        }
    }

    /// Returns the metadata of an entry that is written now without options of its own.
    fn terms_at_once(&self, now: Time) -> Option<Arc<LiveEntryMeta>> {
        if self.expiry.is_plain() {
            return None;
        }
        let terms = self.expiry.terms_of_cache(now, || self.chance(now));
        if !terms.is_plain() {
            self.expires.store(true, Ordering::Relaxed);
        }
        self.expiry.live(&terms)
    }
}

impl Load {
    /// Stores a clone of the loaded value, and hands it to the waiters.
    ///
    /// # Errors
    /// Returns the load if storing needs the general path.
    #[expect(clippy::result_large_err, reason = "the load is handed back by value, once a load")]
    pub fn finish_at_once<K, V>(
        mut self,
        memory: &impl MemoryStore<K, V>,
        value: &V,
        options: &EntryOptions,
    ) -> Result<(), Self>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let engine = Arc::clone(self.watch.engine());
        let Some(mut lead) =
            self.lead.take_if(|_| engine.is_memory_only(memory) && *options == EntryOptions::new())
        else {
            return Err(self);
        };
        let took = self.watch.stop();
        // Runs code of the user, so it comes before the key lock.
        let copy = value.clone();
        let key = lead.leader.key().and_then(Key::downcast_ref::<K>);
        let weight = key.map_or(u32::MAX, |key| engine.weight_of(key, Some(&copy), 0));
        let created = engine.timeline.now();
        let terms = engine.terms_at_once(created);
        if !fits(memory, weight) {
            self.lead = Some(lead);
            return Err(self);
        }
        let hash = lead.leader.hash();
        let is_stored = match lead.leader.claim_now() {
            ClaimNow::Locked => None,
            ClaimNow::Superseded => {
                engine.counters.superseded.increment();
                Some(false)
            }
            // Closed meanwhile: nothing is stored after `close`.
            ClaimNow::Granted(..) if engine.is_inactive() => Some(false),
            ClaimNow::Granted(lock, key) => Some(key.into_inner::<K>().is_some_and(|key| {
                let cost = if memory.uses_cost() { ReloadCost::of(took) } else { ReloadCost::default() };
                let record = Record { value: Some(copy), cost, ..record(created, lead.stamp, terms, weight) };
                let _fits = memory.insert_under(key, record, lock);
                true
            })),
        };
        let Some(is_stored) = is_stored else {
            self.lead = Some(lead);
            return Err(self);
        };
        if is_stored {
            engine.memory_puts.increment();
            engine.backoffs.end(hash);
            engine.counters.published.increment();
        }
        if lead.leader.is_joined() {
            lead.leader.end(Outcome::Value(Value::new(value.clone())));
        }
        Ok(())
    }
}

/// Returns whether memory accepts an entry of this weight.
fn fits<K: Hash + Eq, V>(memory: &impl MemoryStore<K, V>, weight: u32) -> bool {
    memory.bounds().bytes.is_none_or(|max| u64::from(weight) <= max)
}

/// A record of an entry that is at home in memory, without its value.
fn record<V>(created: Time, stamp: u64, terms: Option<Arc<LiveEntryMeta>>, weight: u32) -> Record<V> {
    Record {
        value: None,
        created,
        stamp,
        terms,
        weight,
        home: TierKind::Memory,
        checked: None,
        cost: ReloadCost::default(),
    }
}
