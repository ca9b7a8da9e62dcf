//! moka, as a store of records.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::fast::RandomState;
use larder_core::key::Lookup;
use larder_core::memory::{Departed, Departure, MemoryStore, Record};
use larder_core::tier::{TierKind, Usage};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::ledger::{Kept, Ledger};
use super::{Bound, Policy};

/// A concurrent map with an eviction policy, by the crate `moka`.
///
/// It evicts lazily, and frees later what it evicted. So who inserts looks at
/// what lives, values that wait to be freed included, and has moka settle where
/// that exceeds the bound by a 32nd. Its time to live is not used;
/// entries carry their own. Nor is its eviction listener, unless somebody listens:
/// it takes a lock of the key on every insert and costs a third of it. What was
/// evicted is what came, less what was taken away and what is left.
pub struct MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    records: Cache<K, Kept<V>, RandomState>,
    ledger: Arc<Ledger<V>>,
    departed: Option<Arc<Departed<K, V>>>,
    bound: Bound,
    /// Inserts of absent keys.
    added: AtomicU64,
    /// Entries removed or cleared.
    taken: AtomicU64,
}

impl<K, V> MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A store within `bound`.
    pub fn new(bound: Bound, policy: Policy) -> Self {
        Self::listened(bound, policy, None)
    }

    /// A store within `bound` that tells of each record that leaves it.
    pub fn listened(bound: Bound, policy: Policy, departed: Option<Departed<K, V>>) -> Self {
        let policy = match policy {
            Policy::TinyLfu => EvictionPolicy::tiny_lfu(),
            Policy::Lru => EvictionPolicy::lru(),
        };
        let builder = Cache::builder().max_capacity(bound.limit()).eviction_policy(policy);
        let builder = match bound {
            Bound::Entries(_) => builder,
            Bound::Bytes(_) => builder.weigher(|_, kept: &Kept<V>| kept.record().weight),
        };
        let ledger = Arc::new(Ledger::new(bound));
        let departed = departed.map(Arc::new);
        let builder = match &departed {
            None => builder,
            Some(departed) => builder.eviction_listener(telling(Arc::clone(departed), Arc::clone(&ledger))),
        };
        Self {
            records: builder.build_with_hasher(RandomState::default()),
            ledger,
            departed,
            bound,
            added: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// Whether there is room for a record: asked before an insert, which may fail,
    /// and after it, so that who comes next finds room.
    #[inline]
    fn make_room(&self) -> bool {
        self.ledger.make_room(|| self.records.run_pending_tasks())
    }

    /// Lets go of a record that there is no room for, and of what it replaces.
    fn refuse(&self, key: K, record: Record<V>) {
        self.records.invalidate(&key);
        if let Some(departed) = &self.departed {
            departed(&Arc::new(key), &record, Departure::Evicted);
        }
        self.ledger.take(Kept::Read(record));
    }

    /// Has moka do its housekeeping, and drops the values it let go of.
    fn settle_now(&self) {
        self.records.run_pending_tasks();
        self.ledger.drop_waiting();
    }
}

/// The eviction listener of moka, which runs with locks of moka held.
fn telling<K, V>(
    departed: Arc<Departed<K, V>>,
    ledger: Arc<Ledger<V>>,
) -> impl Fn(Arc<K>, Kept<V>, RemovalCause) + Send + Sync + 'static
where
    K: 'static,
    V: Send + Sync + 'static,
{
    move |key, kept, cause| {
        let departure = if cause == RemovalCause::Size { Departure::Evicted } else { Departure::Taken };
        departed(&key, kept.record(), departure);
        ledger.take(kept);
    }
}

impl<K, V> Drop for MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        self.ledger.close();
    }
}

impl<K, V> MemoryStore<K, V> for MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline]
    fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        self.records.get(key).map(Kept::into_record)
    }

    #[inline]
    fn value<Q: Lookup<K> + ?Sized>(&self, key: &Q, fresh: impl FnOnce(&Record<V>) -> bool) -> Option<V> {
        match self.records.get(key) {
            Some(Kept::Read(record)) if fresh(&record) => record.value,
            _ => None,
        }
    }

    fn insert(&self, key: K, record: Record<V>) {
        if !self.records.contains_key(&key) {
            self.added.fetch_add(1, Relaxed);
        }
        if self.make_room() {
            self.records.insert(key, self.ledger.given(record));
            self.make_room();
        } else {
            self.refuse(key, record);
        }
        self.ledger.drop_waiting();
    }

    fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let removed = self.records.remove(key)?;
        self.taken.fetch_add(1, Relaxed);
        self.ledger.drop_waiting();
        Some(removed.into_record())
    }

    fn contains<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool {
        self.records.contains_key(key)
    }

    fn clear(&self) {
        self.settle_now();
        self.taken.fetch_add(self.records.entry_count(), Relaxed);
        self.records.invalidate_all();
        self.settle_now();
    }

    fn retain(&self, keep: impl Fn(&Record<V>) -> bool) -> u64 {
        let going = self.records.iter().filter(|(_, kept)| !keep(kept.record())).map(|(key, _)| key);
        going.collect::<Vec<_>>().iter().filter(|key| self.remove(&***key).is_some()).count() as u64
    }

    fn keys(&self) -> Vec<Arc<K>> {
        self.records.iter().map(|(key, _)| key).collect()
    }

    fn homed(&self, home: TierKind) -> u64 {
        self.records.iter().filter(|(_, kept)| kept.record().home == home).count() as u64
    }

    fn usage(&self) -> Usage {
        self.settle_now();
        // A store bounded by entries weighs each as one, and knows no bytes.
        let bytes = match self.bound {
            Bound::Entries(_) => 0,
            Bound::Bytes(_) => self.records.weighted_size(),
        };
        let entries = self.records.entry_count();
        let gone = self.added.load(Relaxed).saturating_sub(self.taken.load(Relaxed));
        Usage { entries, bytes, evictions: gone.saturating_sub(entries) }
    }

    fn settle(&self) {
        self.settle_now();
    }
}
