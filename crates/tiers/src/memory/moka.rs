//! moka, as a store of records.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use larder_core::key::Lookup;
use larder_core::memory::{MemoryStore, Record};
use larder_core::tier::{TierKind, Usage};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::{Bound, Policy};

/// A concurrent map with an eviction policy, by the crate `moka`.
///
/// It evicts lazily: the bound holds after [`settle`](MemoryStore::settle),
/// and moka settles by itself as calls come in. Its time to live is not used;
/// entries carry their own.
pub struct MokaStore<K, V> {
    records: Cache<K, Record<V>, RandomState>,
    bound: Bound,
    evictions: Arc<AtomicU64>,
}

impl<K, V> MokaStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A store within `bound`.
    pub fn new(bound: Bound, policy: Policy) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&evictions);
        let policy = match policy {
            Policy::TinyLfu => EvictionPolicy::tiny_lfu(),
            Policy::Lru => EvictionPolicy::lru(),
        };
        let builder = Cache::builder().max_capacity(bound.limit()).eviction_policy(policy).eviction_listener(
            move |_, _, cause| {
                if cause == RemovalCause::Size {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            },
        );
        let builder = match bound {
            Bound::Entries(_) => builder,
            Bound::Bytes(_) => builder.weigher(|_, record: &Record<V>| record.weight),
        };
        Self { records: builder.build_with_hasher(RandomState::default()), bound, evictions }
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
        self.records.insert(key, record);
    }

    fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        self.records.remove(key)
    }

    fn contains<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool {
        self.records.contains_key(key)
    }

    fn clear(&self) {
        self.records.invalidate_all();
        self.records.run_pending_tasks();
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
        Usage {
            entries: self.records.entry_count(),
            bytes,
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    fn settle(&self) {
        self.records.run_pending_tasks();
    }
}
