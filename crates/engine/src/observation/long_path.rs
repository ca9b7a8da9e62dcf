//! The path of a hit where copies are confirmed, or the cache is observed.

use std::hash::Hash;

use larder_core::erased::Borrowed;
use larder_core::key::Lookup;
use larder_core::memory::{Lifespan, MemoryStore};
use larder_core::stats::HotCount;

use crate::engine::Engine;

impl Engine {
    /// As [`hit`](Engine::hit), where other processes or nodes change entries, or the cache is observed.
    #[cold]
    pub(crate) fn hit_on_long_path<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + ?Sized,
    {
        let value = match self.confirms_copies {
            false => memory.value(key, |lifecycle| self.is_fresh(lifecycle))?,
            true => {
                let record = self.confirmed_by(|| memory.get(key))?;
                Some(record).filter(|record| self.is_fresh(record.lifespan()))?.value?
            }
        };
        self.note_hit::<K, _>(key);
        Some(value)
    }

    /// Counts a hit, and records its key if it is sampled.
    #[inline]
    fn note_hit<K, Q>(&self, key: &Q)
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + ?Sized,
    {
        let number = self.counters.hot.count_one(HotCount::Hits);
        let Some(observer) = self.observer() else { return };
        observer.trace(&Borrowed::<K, Q>::new(key));
        if observer.requests().picks(number) {
            key.with_key(|key: &K| observer.requested(key));
        }
    }

    /// As [`hit_unless_due`](Self::hit_unless_due), where other processes or nodes change entries, or the cache
    /// is observed.
    #[cold]
    pub(crate) fn hit_unless_due_on_long_path<K, V>(
        &self,
        memory: &impl MemoryStore<K, V>,
        key: &K,
    ) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
    {
        if self.confirms_copies {
            return None;
        }
        let is_usable =
            |lifecycle: Lifespan<'_>| !self.is_refresh_due(lifecycle.terms) && self.is_fresh(lifecycle);
        let value = memory.value(key, is_usable)?;
        self.note_hit::<K, _>(key);
        Some(value)
    }
}
