//! The path of a hit where copies are confirmed, or the cache is observed.

use std::hash::Hash;

use larder_core::erased::{AnyLookup, Borrowed};
use larder_core::key::Lookup;
use larder_core::memory::{Lifespan, MemoryStore};
use larder_core::stats::HotCount;
use larder_core::tier::EntryVersion;

use crate::engine::Engine;

impl Engine {
    /// As [`hit`](Engine::hit), where other processes or nodes change entries, or the cache is observed.
    #[cold]
    #[inline(never)]
    pub(crate) fn hit_on_long_path<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + Sync + ?Sized,
    {
        let in_contact = self.may_hit()?;
        let value = memory.value_if(key, &mut |life, version| self.may_serve(in_contact, life, version))?;
        self.note_hit(&Borrowed::<K, Q>::new(key));
        Some(value)
    }

    /// Asked before memory is: every notice up to then was applied to the copy that memory has. In the other
    /// order memory could return an outdated copy, which a later contact would then confirm. `None` if no copy
    /// may serve.
    fn may_hit(&self) -> Option<bool> {
        if self.confirms_copies { self.coherence.contact() } else { Some(true) }
    }

    /// Whether a copy may serve that was found after [`may_hit`](Self::may_hit).
    fn may_serve(&self, in_contact: bool, life: Lifespan<'_>, version: Option<EntryVersion>) -> bool {
        let is_confirmed = !self.confirms_copies || in_contact && self.coherence.is_current(version);
        is_confirmed && self.is_fresh(life)
    }

    /// Counts a hit, and records its key if it is sampled.
    pub(crate) fn note_hit(&self, key: &dyn AnyLookup) {
        let number = self.counters.hot.count_one(HotCount::Hits);
        let Some(observer) = self.observer() else { return };
        observer.trace(key);
        if observer.requests().picks(number) {
            key.lend(&mut |key| observer.requested(key));
        }
    }

    /// As [`hit_unless_due`](Self::hit_unless_due), where other processes or nodes change entries, or the cache
    /// is observed.
    #[cold]
    #[inline(never)]
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
        let is_usable = |life: Lifespan<'_>, _| !self.is_refresh_due(life.terms) && self.is_fresh(life);
        let value = memory.value_if(key, &mut { is_usable })?;
        self.note_hit(&Borrowed::<K, K>::new(key));
        Some(value)
    }
}
