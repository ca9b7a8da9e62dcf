//! A memory store that stores nothing.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::Result;
use larder_core::key::Equivalent;
use larder_core::memory::{Bounds, Lifetimes, MemoryStore, Record, Removed};
use larder_core::tier::{TierKind, Usage};

/// No memory: every look-up misses, every insert is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStore;

impl<K: Hash + Eq, V> MemoryStore<K, V> for NullStore {
    fn attach(&self, _: Arc<dyn Lifetimes>) {}

    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, _: &Q) -> Option<Record<V>> {
        None
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, _: &Q) -> Option<Record<V>> {
        None
    }

    fn insert(&self, _: K, _: Record<V>) -> bool {
        false
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, _: &Q) -> Option<Removed> {
        None
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, _: &Q) -> bool {
        false
    }

    fn clear(&self) {}

    fn sweep(&self) -> u64 {
        0
    }

    fn set_bounds(&self, _: Bounds) -> Result<()> {
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds::entries(0)
    }

    fn keys<T>(&self, _: impl FnMut(&K) -> T) -> Vec<T> {
        Vec::new()
    }

    fn count(&self, _: Option<TierKind>) -> u64 {
        0
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn settle(&self) {}
}
