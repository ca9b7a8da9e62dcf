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

use super::{Bound, Policy};

/// A concurrent map with an eviction policy, by the crate `moka`.
///
/// It evicts lazily: the bound holds after [`settle`](MemoryStore::settle),
/// and moka settles by itself as calls come in. Its time to live is not used;
/// entries carry their own. Nor is its eviction listener, unless somebody listens:
/// it takes a lock of the key on every insert and costs a third of it. What was
/// evicted is what came, less what was taken away and what is left.
pub struct MokaStore<K, V> {
    records: Cache<K, Record<V>, RandomState>,
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
            Bound::Bytes(_) => builder.weigher(|_, record: &Record<V>| record.weight),
        };
        let builder = match departed {
            None => builder,
            Some(departed) => builder.eviction_listener(move |key, record, cause| {
                let departure =
                    if cause == RemovalCause::Size { Departure::Evicted } else { Departure::Taken };
                departed(&key, &record, departure);
            }),
        };
        Self {
            records: builder.build_with_hasher(RandomState::default()),
            bound,
            added: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }
}

impl<K, V> MemoryStore<K, V> for MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline]
    fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        self.records.get(key)
    }

    fn insert(&self, key: K, record: Record<V>) {
        if !self.records.contains_key(&key) {
            self.added.fetch_add(1, Relaxed);
        }
        self.records.insert(key, record);
    }

    fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let removed = self.records.remove(key)?;
        self.taken.fetch_add(1, Relaxed);
        Some(removed)
    }

    fn contains<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool {
        self.records.contains_key(key)
    }

    fn clear(&self) {
        self.records.run_pending_tasks();
        self.taken.fetch_add(self.records.entry_count(), Relaxed);
        self.records.invalidate_all();
        self.records.run_pending_tasks();
    }

    fn retain(&self, keep: impl Fn(&Record<V>) -> bool) -> u64 {
        let going = self.records.iter().filter(|(_, record)| !keep(record)).map(|(key, _)| key);
        going.collect::<Vec<_>>().iter().filter(|key| self.remove(&***key).is_some()).count() as u64
    }

    fn keys(&self) -> Vec<Arc<K>> {
        self.records.iter().map(|(key, _)| key).collect()
    }

    fn homed(&self, home: TierKind) -> u64 {
        self.records.iter().filter(|(_, record)| record.home == home).count() as u64
    }

    fn usage(&self) -> Usage {
        self.records.run_pending_tasks();
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
        self.records.run_pending_tasks();
    }
}
