//! Hits in memory: how they are counted, which of them are samples, and the path where copies are confirmed.

use std::hash::Hash;

use larder_core::erased::{AnyLookup, Borrowed};
use larder_core::key::Lookup;
use larder_core::memory::MemoryStore;

use super::HotKey;
use crate::engine::Engine;

impl Engine {
    /// As [`hit`](Engine::hit), where other processes or nodes change entries.
    #[cold]
    #[inline(never)]
    pub(crate) fn confirmed_hit<K, V, Q>(&self, memory: &impl MemoryStore<K, V>, key: &Q) -> Option<V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        Q: Lookup<K> + Sync + ?Sized,
    {
        // Asked before memory is: every notice up to then was applied to the copy that memory has. In the other
        // order memory could return an outdated copy, which a later contact would then confirm.
        let in_contact = self.coherence.contact()?;
        let value = memory.value_if(key, &mut |life, version| {
            in_contact && self.coherence.is_current(version) && self.is_fresh(life)
        })?;
        self.count_hit(&Borrowed::<K, Q>::new(key));
        Some(value)
    }

    /// Counts a hit, and records its key if it is a sample.
    #[inline]
    pub(crate) fn count_hit(&self, key: &dyn AnyLookup) {
        if self.counters.hot.hit() {
            self.sample_hit(key);
        }
    }

    /// Records the key of a hit that is a sample, and chooses the next one. Of a cache with a trace every hit is one,
    /// and the observer picks those that it keeps.
    #[cold]
    fn sample_hit(&self, key: &dyn AnyLookup) {
        let Some(observer) = self.observer() else { return };
        let is_kept = match observer.trace(key) {
            true => observer.requests().picks_next(),
            false => {
                self.counters.hot.sample_after(observer.requests().gap());
                true
            }
        };
        if is_kept {
            key.lend(&mut |key| observer.requested(key));
        }
    }

    /// Makes the next hits samples, if the cache is observed.
    pub(crate) fn start_sampling(&self) {
        if self.observer().is_some() {
            self.counters.hot.sample_at_once();
        }
    }

    /// The keys that were looked up most, at most `n`, and the total weight of all keys. `None` if the cache is not
    /// observed.
    pub fn hottest_requests(&self, n: usize) -> Option<(Vec<HotKey>, u64)> {
        let found = self.observer()?.requests().top(n);
        // A thread that became quiet may be far from the next sample that was chosen when it was busy.
        self.counters.hot.sample_at_once();
        Some(found)
    }
}
