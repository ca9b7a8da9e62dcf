//! The short paths of a cache of memory alone.
//!
//! Without tiers and without a listener, a change of an entry is one change of the typed memory
//! store. It is made at once: without a future, without erased types, without a guard. If nothing is in
//! progress for its key, the lock of the store is enough; otherwise it is made under the mutex of the
//! key lock too (`key_lock/now.rs`). Calls that would have to wait take the general path.

use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, LiveEntryMeta};
use larder_core::erased::{AnyLookup, Borrowed, Key, Value};
use larder_core::key::{Equivalent, Lookup};
use larder_core::memory::{Hashed, MemoryStore, Miss, Permit, Record, ReloadCost, Removed};
use larder_core::stats::HotCount;
use larder_core::tier::TierKind;

use crate::coherence::load_lease::LeaseGuard;
use crate::engine::Engine;
use crate::key_lock::flight::{Outcome, Purpose, Start};
use crate::key_lock::{Admission, ClaimNow, LockedNow};
use crate::load::poll_watch::PollWatch;
use crate::load::{Begun, Leader, Load, LoadRole, UncheckedLeader};
use crate::write::precondition::Precondition;
use crate::write::remove::Erased;

impl Engine {
    /// As [`hit`](Self::hit), and returns what is known after a miss.
    ///
    /// # Errors
    /// If there is no value.
    #[inline]
    pub fn hit_or_miss<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Result<V, Option<Miss>>
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + Sync + ?Sized,
    {
        if self.confirms_copies {
            return self.confirmed_hit(memory, key).ok_or(None);
        }
        let value = memory.value_or_miss(key, |lifecycle| self.is_fresh(lifecycle))?;
        self.count_hit(&Borrowed::<K, Q>::new(key));
        Ok(value)
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

    /// Stores a value. Returns key and value if the write needs the general path.
    pub fn insert_at_once<K, V>(&self, memory: &impl MemoryStore<K, V>, key: K, value: V) -> Option<(K, V)>
    where
        K: Hash + Eq + 'static,
        V: 'static,
    {
        let mut entry = Some((key, value));
        if let Some((key, value)) = entry.as_ref().filter(|_| self.is_at_once) {
            // Runs code of the user, so it comes before any lock.
            let weight = self.weight_of(key, Some(value), 0);
            let hash = self.key_locks.hash(key);
            self.store_at_once((hash, weight), &mut |record, permit| {
                memory.insert_under(hash, &mut entry, record, permit)
            });
        }
        entry
    }

    /// Returns the record of an entry without options that is written now.
    #[inline]
    pub(crate) fn record_at_once(&self, weight: u32, stamp: u64) -> Record<()> {
        let created = self.timeline.now();
        record(created, stamp, self.terms_at_once(created), weight)
    }

    /// Returns the record of a load without options that took so long; `None` if it alone exceeds the bounds.
    #[inline]
    pub(crate) fn loaded_record(&self, (weight, stamp): (u32, u64), took: Duration) -> Option<Record<()>> {
        if !self.memory.fits(weight) {
            return None;
        }
        let mut record = self.record_at_once(weight, stamp);
        if self.uses_cost {
            record.cost = ReloadCost::of(took);
        }
        Some(record)
    }

    /// Stores the record of a load by `store`, unless the cache was closed, and counts that. `store` releases the
    /// key lock.
    #[inline]
    pub(crate) fn store_load_at_once(
        &self,
        hash: u64,
        lock: LockedNow<'_>,
        store: impl FnOnce(&mut Permit<'_>) -> bool,
    ) {
        let mut lock = Some(lock);
        let may = || !self.is_inactive();
        if store(&mut Permit { may: &may, release: &mut || lock = None }) {
            self.counters.hot.add([(HotCount::Puts, 1), (HotCount::Published, 1)]);
            self.backoffs.end(hash);
        }
    }

    /// Stores a record by `store`, and counts that.
    fn store_at_once(&self, (hash, weight): (u64, u32), store: &mut StoreAtOnce<'_>) {
        let mut record = self.record_at_once(weight, self.invalidations.stamp());
        // Nothing is stored after `close`.
        if self.change_at_once(hash, || !self.is_inactive(), |permit| store(&mut record, permit)) {
            self.backoffs.end(hash);
            self.counters.hot.add([(HotCount::Puts, 1), (HotCount::Insertions, 1)]);
        }
    }

    /// Makes a change under the lock of the store, if nothing is in progress for the key. Otherwise tries it again
    /// under the mutex of the key lock too, and supersedes what is in progress. Returns whether it was made.
    #[inline]
    fn change_at_once(
        &self,
        hash: u64,
        is_open: impl Fn() -> bool,
        mut change: impl FnMut(&mut Permit<'_>) -> bool,
    ) -> bool {
        let may = || self.key_locks.is_idle(hash) && is_open();
        if change(&mut Permit { may: &may, release: &mut || () }) {
            return true;
        }
        let mut lock = self.key_locks.lock_now(hash);
        lock.is_some() && change(&mut Permit { may: &is_open, release: &mut || lock = None })
    }

    /// Removes an entry. Returns whether it could be served; `None` if the removal needs the general
    /// path.
    pub fn remove_at_once<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<bool>
    where
        K: Hash + Eq,
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.key_locks.hash(key);
        let mut removed = None;
        let remove = &mut |permit: &mut Permit<'_>| {
            removed = memory.remove_under(Hashed { hash, key }, permit).ok();
            removed.is_some()
        };
        if self.is_removed_at_once(hash, remove) { Some(self.note_removal(hash, removed?)) } else { None }
    }

    fn is_removed_at_once(&self, hash: u64, remove: &mut dyn FnMut(&mut Permit<'_>) -> bool) -> bool {
        self.is_at_once && !self.is_ended() && self.change_at_once(hash, || !self.is_ended(), remove)
    }

    /// Counts a removal. Returns whether the entry could be served.
    fn note_removal(&self, hash: u64, removed: Option<Removed>) -> bool {
        self.backoffs.end(hash);
        let was_live = self.erased(removed.as_ref()) == Erased::Live;
        if was_live {
            self.counters.hot.increment(HotCount::Removals);
        }
        was_live
    }

    /// Leads the load of a key that memory lacks.
    ///
    /// # Errors
    /// Returns the key if the call has to wait, or needs the general path.
    pub fn begin_load_at_once(
        self: &Arc<Self>,
        key: Key,
        watch: Option<&Arc<PollWatch>>,
    ) -> Result<Begun, Key> {
        if !self.is_at_once || self.is_closed() {
            return Err(key);
        }
        let hash = self.key_locks.hash(&key);
        // Taken first: an invalidation from here on applies to the loaded value.
        let stamp = self.invalidations.stamp();
        let start = Start { purpose: Purpose::Borrowed, watch: watch.cloned(), stamp };
        let leader = match self.key_locks.enter(hash, key, start) {
            Admission::Leader(leader) => leader,
            Admission::Join(key, _) | Admission::Locked(key, _) => return Err(key),
        };
        // The entry may have come between the miss and the lead, and a stale one may be there.
        let is_there = leader.key().is_some_and(|key| self.memory.contains_hashed(Hashed { hash, key }));
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
        if !self.can_finish_at_once(options) {
            return false;
        }
        // Runs code of the user, so it comes before the key lock.
        let mut copy = Some(value.clone());
        let weight = self.weight_of(copy.as_ref().map(|copy| copy as _));
        // What is not stored is dropped at the end, when no lock is held.
        let mut entry = None;
        let mut store = |(hash, key): (u64, Key), record: &mut Record<()>, permit: &mut Permit<'_>| {
            entry = key.into_inner().zip(copy.take());
            entry.is_some() && memory.insert_under(hash, &mut entry, record, permit)
        };
        self.publish_at_once(weight, &mut store, &mut || Value::new(value.clone()))
    }

    /// Ends the time of the loader. Returns whether the entry may be stored at once.
    fn can_finish_at_once(&mut self, options: &EntryOptions) -> bool {
        let can = self.lead.is_some() && self.watch.engine().is_at_once && options.is_unset();
        if can {
            self.watch.stop();
        }
        can
    }

    /// The weight of the entry. Runs code of the user.
    fn weight_of(&self, value: Option<&dyn Any>) -> u32 {
        let key = self.lead.as_ref().and_then(|lead| lead.leader.key());
        key.map_or(u32::MAX, |key| self.watch.engine().weight_of(key.as_any(), value, 0))
    }

    /// Stores the record of a load by `store`, unless its entry changed meanwhile, and hands `value` to the
    /// waiters. Returns false if it is too large, or if the key is locked.
    fn publish_at_once(
        &mut self,
        weight: u32,
        store: &mut StoreRecord<'_>,
        value: &mut dyn FnMut() -> Value,
    ) -> bool {
        let Self { lead: place, watch } = self;
        let Some(lead) = place else { return false };
        let took = watch.stop();
        let engine = watch.engine();
        let Some(mut record) = engine.loaded_record((weight, lead.stamp), took) else { return false };
        let hash = lead.leader.hash();
        match lead.leader.claim_now() {
            ClaimNow::Locked => return false,
            ClaimNow::Superseded => engine.counters.superseded.increment(),
            ClaimNow::Granted(lock, key) => {
                engine.store_load_at_once(hash, lock, |permit| store((hash, key), &mut record, permit));
            }
        }
        if lead.leader.is_joined()
            && let Some(lead) = place.take()
        {
            lead.leader.end(Outcome::Value(value()));
        }
        true
    }
}

/// Stores a record.
type StoreAtOnce<'a> = dyn FnMut(&mut Record<()>, &mut Permit<'_>) -> bool + 'a;

/// Stores a record under a key.
type StoreRecord<'a> = dyn FnMut((u64, Key), &mut Record<()>, &mut Permit<'_>) -> bool + 'a;

/// A record of an entry that is at home in memory, without its value.
fn record(created: Time, stamp: u64, terms: Option<Arc<LiveEntryMeta>>, weight: u32) -> Record<()> {
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
