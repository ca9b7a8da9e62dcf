//! The store that holds nothing.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::key::Lookup;
use larder_core::memory::{MemoryStore, Record};
use larder_core::tier::{TierKind, Usage};

/// No memory: every look-up misses, every insert is dropped.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStore;

impl<K: Hash + Eq, V> MemoryStore<K, V> for NullStore {
    fn get<Q: Lookup<K> + ?Sized>(&self, _: &Q) -> Option<Record<V>> {
        None
    }

    fn insert(&self, _: K, _: Record<V>) {}

    fn remove<Q: Lookup<K> + ?Sized>(&self, _: &Q) -> Option<Record<V>> {
        None
    }

    fn contains<Q: Lookup<K> + ?Sized>(&self, _: &Q) -> bool {
        false
    }

    fn clear(&self) {}

    fn retain(&self, _: impl Fn(&Record<V>) -> bool) -> u64 {
        0
    }

    fn keys(&self) -> Vec<Arc<K>> {
        Vec::new()
    }

    fn homed(&self, _: TierKind) -> u64 {
        0
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn settle(&self) {}
}
