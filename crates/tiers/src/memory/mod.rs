//! Stores of native keys and values.

mod ledger;
mod moka;
mod null;
mod policy;

use std::hash::Hash;
use std::sync::Arc;

use larder_core::key::Lookup;
use larder_core::memory::{MemoryStore, Record};
use larder_core::tier::{TierKind, Usage};

pub use self::moka::MokaStore;
pub use self::null::NullStore;
pub use self::policy::{Bound, Policy};

/// The memory store of a cache: one of this module, chosen when it is built.
pub enum Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// moka.
    Moka(MokaStore<K, V>),
    /// No memory.
    Null(NullStore),
}

macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Moka($store) => $call,
            Self::Null($store) => $call,
        }
    };
}

impl<K, V> MemoryStore<K, V> for Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline]
    fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        each!(self, store => store.get(key))
    }

    #[inline]
    fn value<Q: Lookup<K> + ?Sized>(&self, key: &Q, fresh: impl FnOnce(&Record<V>) -> bool) -> Option<V> {
        each!(self, store => store.value(key, fresh))
    }

    fn insert(&self, key: K, record: Record<V>) {
        each!(self, store => store.insert(key, record));
    }

    fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        each!(self, store => store.remove(key))
    }

    fn contains<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool {
        each!(self, store => MemoryStore::<K, V>::contains(store, key))
    }

    fn clear(&self) {
        each!(self, store => MemoryStore::<K, V>::clear(store));
    }

    fn retain(&self, keep: impl Fn(&Record<V>) -> bool) -> u64 {
        each!(self, store => MemoryStore::<K, V>::retain(store, keep))
    }

    fn keys(&self) -> Vec<Arc<K>> {
        each!(self, store => MemoryStore::<K, V>::keys(store))
    }

    fn homed(&self, home: TierKind) -> u64 {
        each!(self, store => MemoryStore::<K, V>::homed(store, home))
    }

    fn usage(&self) -> Usage {
        each!(self, store => MemoryStore::<K, V>::usage(store))
    }

    fn settle(&self) {
        each!(self, store => MemoryStore::<K, V>::settle(store));
    }
}
