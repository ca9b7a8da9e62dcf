//! The short paths of a cache of memory alone.
//!
//! Without tiers and without a listener, a change of an entry is one change of the typed memory
//! store. It is made at once: without a future, without erased types, without a guard. If nothing is in
//! progress for its key, the lock of the store is enough; otherwise it is made under the mutex of the
//! key lock too (`key_lock/now.rs`). Calls that would have to wait take the general path.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, LiveEntryMeta};
use larder_core::erased::{AnyLookup, Key, Value};
use larder_core::key::Equivalent;
use larder_core::memory::{Hashed, MemoryStore, NotRemoved, Record, ReloadCost, Removed};
use larder_core::place::Placement;
use larder_core::stats::HotCount;
use larder_core::tier::TierKind;

use crate::coherence::load_lease::LeaseGuard;
use crate::engine::Engine;
use crate::key_lock::flight::{Outcome, Purpose, Start};
use crate::key_lock::{Admission, ClaimNow, FlightLeader, LockedNow};
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

    /// Counts a miss, if a key that is not in memory is nowhere else. Returns whether that is so. Removes an
    /// entry of the key that has expired.
    #[inline]
    pub fn misses_at_once(&self, key: &dyn AnyLookup) -> bool {
        if self.is_short {
            self.release_expired(key);
            self.counters.hot.increment(HotCount::Misses);
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
        if !self.is_memory_only(memory) {
            return Err((key, value));
        }
        // Runs code of the user, so it comes before any lock.
        let weight = self.weight_of(&key, Some(&value), 0);
        let (created, stamp) = (self.timeline.now(), self.invalidations.stamp());
        if !memory.fits(weight) {
            return Err((key, value));
        }
        let hash = self.key_locks.hash(&key);
        let terms = self.terms_at_once(created);
        let record = Record { value: Some(value), ..record(created, stamp, terms, weight) };
        let stored = match self.store_now(memory, (hash, key), record, None) {
            Ok(_fits) => Placement::MEMORY_ONLY,
            Err(refused) => self.store_locked(memory, hash, refused)?,
        };
        self.backoffs.end(hash);
        self.counters.hot.add([(HotCount::Puts, 1), (HotCount::Insertions, 1)]);
        Ok(stored)
    }

    /// Stores a record, if nothing is in progress for its key or the key lock is held, and the cache is not
    /// closed: nothing is stored after `close`. Counts it.
    fn store_now<K, V>(
        &self,
        memory: &impl MemoryStore<K, V>,
        (hash, key): (u64, K),
        record: Record<V>,
        lock: Option<LockedNow<'_>>,
    ) -> Result<bool, (K, Record<V>)>
    where
        K: Hash + Eq,
    {
        let is_locked = lock.is_some();
        let may = || (is_locked || self.key_locks.is_idle(hash)) && !self.is_inactive();
        memory.insert_under(Hashed { hash, key }, record, lock, may)
    }

    /// Stores a record under the mutex of the key lock, and supersedes what is in progress.
    #[cold]
    fn store_locked<K, V>(
        &self,
        memory: &impl MemoryStore<K, V>,
        hash: u64,
        (key, record): (K, Record<V>),
    ) -> Result<Placement, (K, V)>
    where
        K: Hash + Eq,
    {
        let refused = match self.key_locks.lock_now(hash) {
            Some(lock) => match self.store_now(memory, (hash, key), record, Some(lock)) {
                Ok(_fits) => return Ok(Placement::MEMORY_ONLY),
                Err(refused) => refused,
            },
            None => (key, record),
        };
        match refused {
            (key, Record { value: Some(value), .. }) => Err((key, value)),
            (_, Record { value: None, .. }) => unreachable!("the record has the value of the caller"),
        }
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
        let removed = match self.take_now(memory, (hash, key), None) {
            Ok(removed) => removed,
            Err(NotRemoved) => {
                self.take_now(memory, (hash, key), Some(self.key_locks.lock_now(hash)?)).ok()?
            }
        };
        self.backoffs.end(hash);
        let was_live = self.erased(removed.as_ref()) == Erased::Live;
        if was_live {
            self.counters.hot.increment(HotCount::Removals);
        }
        Some(was_live)
    }

    /// Removes a record, if nothing is in progress for its key or the key lock is held, and the cache is not
    /// closed.
    fn take_now<K, V, Q>(
        &self,
        memory: &impl MemoryStore<K, V>,
        (hash, key): (u64, &Q),
        lock: Option<LockedNow<'_>>,
    ) -> Result<Option<Removed>, NotRemoved>
    where
        K: Hash + Eq,
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let is_locked = lock.is_some();
        let may = || (is_locked || self.key_locks.is_idle(hash)) && !self.is_ended();
        memory.remove_under(Hashed { hash, key }, lock, may)
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
        let held = leader.key().and_then(Key::downcast_ref);
        let is_there = held.is_some_and(|key: &K| memory.contains_hashed(Hashed { hash, key }));
        let (encoded, precondition) = (None, Precondition::None);
        if is_there {
            return Ok(self.begin_beside(UncheckedLeader { leader, encoded, precondition }));
        }
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
    #[inline]
    fn terms_at_once(&self, now: Time) -> Option<Arc<LiveEntryMeta>> {
        if self.expiry.is_plain() { None } else { self.terms_of_cache(now) }
    }

    fn terms_of_cache(&self, now: Time) -> Option<Arc<LiveEntryMeta>> {
        let terms = self.expiry.terms_of_cache(now, || self.chance(now));
        if !terms.is_plain() {
            self.expires.store(true, Ordering::Relaxed);
        }
        self.expiry.live(&terms)
    }
}

impl Load {
    /// Stores a clone of the loaded value, and hands it to the waiters. Returns whether it did; otherwise
    /// storing needs the general path.
    pub fn finish_at_once<K, V>(
        &mut self,
        memory: &impl MemoryStore<K, V>,
        value: &V,
        options: &EntryOptions,
    ) -> bool
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        let Self { lead: place, watch } = self;
        let Some(lead) = place else { return false };
        if !watch.engine().is_memory_only(memory) || !options.is_unset() {
            return false;
        }
        let took = watch.stop();
        let engine = watch.engine();
        // Runs code of the user, so it comes before the key lock.
        let copy = value.clone();
        let key = lead.leader.key().and_then(Key::downcast_ref::<K>);
        let weight = key.map_or(u32::MAX, |key| engine.weight_of(key, Some(&copy), 0));
        if !memory.fits(weight) {
            return false;
        }
        let created = engine.timeline.now();
        let cost = if memory.uses_cost() { ReloadCost::of(took) } else { ReloadCost::default() };
        let terms = engine.terms_at_once(created);
        let record = Record { value: Some(copy), cost, ..record(created, lead.stamp, terms, weight) };
        if !engine.publish_at_once(memory, &mut lead.leader, record) {
            return false;
        }
        if lead.leader.is_joined()
            && let Some(lead) = place.take()
        {
            lead.leader.end(Outcome::Value(Value::new(value.clone())));
        }
        true
    }
}

impl Engine {
    /// Stores the record of a load, unless its entry changed meanwhile. Returns false if the key is locked.
    fn publish_at_once<K, V>(
        &self,
        memory: &impl MemoryStore<K, V>,
        leader: &mut FlightLeader,
        record: Record<V>,
    ) -> bool
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        let hash = leader.hash();
        match leader.claim_now() {
            ClaimNow::Locked => return false,
            ClaimNow::Superseded => self.counters.superseded.increment(),
            ClaimNow::Granted(lock, key) => {
                if let Some(key) = key.into_inner::<K>()
                    && self.store_now(memory, (hash, key), record, Some(lock)).is_ok()
                {
                    self.counters.hot.add([(HotCount::Puts, 1), (HotCount::Published, 1)]);
                    self.backoffs.end(hash);
                }
            }
        }
        true
    }
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
