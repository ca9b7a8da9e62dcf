//! Stores of native keys and values: the engines of the memory tier.

mod ledger;
mod moka;
mod moka_typed;
mod null;
mod order;
mod policy;
mod sharded;

use std::hash::Hash;
use std::sync::Arc;

use foldhash::quality::RandomState;
use larder_core::Result;
use larder_core::key::Equivalent;
use larder_core::memory::{
    Bounds, Hashed, Lifespan, Lifetimes, MemoryStore, NotRemoved, OnDeparture, Record, Removed, StoreFacts,
};
use larder_core::tier::{TierKind, Usage};

pub use self::moka_typed::TypedMoka;
pub use self::null::NullStore;
pub use self::policy::Policy;
pub use self::sharded::ShardedStore;

/// The engine of the memory tier.
///
/// The default is [`Sharded`](MemoryEngine::Sharded).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryEngine {
    /// Larder's own engine: a sharded table with every [`Policy`] and exact accounting. It evicts and drops
    /// values within the call that causes it.
    #[default]
    Sharded,
    /// The crate moka, with W-TinyLFU or LRU. It evicts and drops values in later calls, has one limit, which
    /// cannot be changed, and every look-up counts as a use.
    Moka,
}

/// The memory store of a cache: one of the engines, chosen when the cache is built.
pub enum Store<K, V> {
    /// Larder's own engine.
    Sharded(ShardedStore<K, V>),
    /// moka.
    Moka(TypedMoka<K, V>),
    /// No memory.
    Null(NullStore),
}

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a store with this engine. It calls `on_departure` for each record that it drops by itself.
    pub fn new(
        engine: MemoryEngine,
        bounds: Bounds,
        policy: Policy,
        on_departure: Option<OnDeparture<K>>,
    ) -> Self {
        match engine {
            MemoryEngine::Sharded => Self::Sharded(ShardedStore::with(bounds, policy, on_departure)),
            MemoryEngine::Moka => Self::Moka(TypedMoka::new(bounds, policy, on_departure)),
        }
    }
}

macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Sharded($store) => $call,
            Self::Moka($store) => $call,
            Self::Null($store) => $call,
        }
    };
}

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// As [`value`](MemoryStore::value), apart from it so that the path of the default engine is inlined.
    #[cold]
    fn value_elsewhere<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: &mut dyn FnMut(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        each!(self, store => store.value(key, fresh))
    }
}

impl<K, V> MemoryStore<K, V> for Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        each!(self, store => MemoryStore::<K, V>::attach(store, lifetimes));
    }

    #[inline]
    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        each!(self, store => store.get(key))
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        each!(self, store => store.peek(key))
    }

    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl FnOnce(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        if let Self::Sharded(store) = self {
            return store.value(key, fresh);
        }
        let mut fresh = Some(fresh);
        self.value_elsewhere(key, &mut |life| fresh.take().is_some_and(|fresh| fresh(life)))
    }

    fn insert(&self, key: K, record: Record<V>) -> bool {
        each!(self, store => store.insert(key, record))
    }

    #[inline]
    fn releases_locks(&self) -> bool {
        each!(self, store => MemoryStore::<K, V>::releases_locks(store))
    }

    #[inline]
    fn uses_cost(&self) -> bool {
        each!(self, store => MemoryStore::<K, V>::uses_cost(store))
    }

    #[inline]
    fn hasher(&self) -> Option<RandomState> {
        each!(self, store => MemoryStore::<K, V>::hasher(store))
    }

    #[inline]
    fn insert_under<L>(
        &self,
        key: Hashed<K>,
        record: Record<V>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<bool, (K, Record<V>)> {
        each!(self, store => store.insert_under(key, record, lock, may))
    }

    #[inline]
    fn remove_under<Q: Hash + Equivalent<K> + ?Sized, L>(
        &self,
        key: Hashed<&Q>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<Option<Removed>, NotRemoved> {
        each!(self, store => MemoryStore::<K, V>::remove_under(store, key, lock, may))
    }

    #[inline]
    fn contains_hashed<Q: Hash + Equivalent<K> + ?Sized>(&self, key: Hashed<&Q>) -> bool {
        each!(self, store => MemoryStore::<K, V>::contains_hashed(store, key))
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        each!(self, store => MemoryStore::<K, V>::remove(store, key))
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        each!(self, store => MemoryStore::<K, V>::contains(store, key))
    }

    fn clear(&self) {
        each!(self, store => MemoryStore::<K, V>::clear(store));
    }

    fn sweep(&self) -> u64 {
        each!(self, store => MemoryStore::<K, V>::sweep(store))
    }

    fn set_bounds(&self, bounds: Bounds) -> Result<()> {
        each!(self, store => MemoryStore::<K, V>::set_bounds(store, bounds))
    }

    #[inline]
    fn fits(&self, weight: u32) -> bool {
        each!(self, store => MemoryStore::<K, V>::fits(store, weight))
    }

    fn bounds(&self) -> Bounds {
        each!(self, store => MemoryStore::<K, V>::bounds(store))
    }

    fn keys<T>(&self, map: impl FnMut(&K) -> T) -> Vec<T> {
        each!(self, store => MemoryStore::<K, V>::keys(store, map))
    }

    fn hottest<T>(&self, n: usize, map: impl FnMut(&K) -> T) -> Vec<T> {
        each!(self, store => MemoryStore::<K, V>::hottest(store, n, map))
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        each!(self, store => MemoryStore::<K, V>::count(store, home))
    }

    fn usage(&self) -> Usage {
        each!(self, store => MemoryStore::<K, V>::usage(store))
    }

    fn settle(&self) {
        each!(self, store => MemoryStore::<K, V>::settle(store));
    }

    fn facts(&self) -> Option<StoreFacts> {
        each!(self, store => MemoryStore::<K, V>::facts(store))
    }
}
