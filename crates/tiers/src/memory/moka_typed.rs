//! moka for one pair of types.
//!
//! moka costs more to compile than all the rest of a cache. So it is compiled here, over keys
//! and values of any type, and this wraps them.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{AnyForm, Borrowed, Key, Memory, Value};
use larder_core::key::Equivalent;
use larder_core::memory::{Bounds, Lifetimes, MemoryStore, OnDeparture, Record, Removed, StoreFacts};
use larder_core::tier::{TierKind, Usage};

use super::Policy;
use super::moka::MokaStore;

/// moka over keys and values of any type.
pub(super) trait ErasedStore: Memory {
    /// Whether there is an entry.
    fn contains(&self, key: &dyn AnyForm) -> bool;

    /// Visits the keys of the records that may be served.
    fn for_each_key(&self, visit: &mut dyn FnMut(&Key));
}

/// Compiles moka in this crate: a trait object is made where the function is compiled.
fn open(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture<Key>>) -> Box<dyn ErasedStore> {
    Box::new(MokaStore::with(bounds, policy, on_departure))
}

/// A memory store backed by the crate moka, for keys `K` and values `V`.
///
/// A hit costs a clone of a shared value and one of the value itself.
pub struct TypedMoka<K, V> {
    store: Box<dyn ErasedStore>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> TypedMoka<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a store within `bounds`; bytes apply if both limits are given. [`Policy::Lru`] is moka's LRU,
    /// every other policy its TinyLFU. It calls `on_departure` for each record that it drops by itself.
    pub fn new(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture<K>>) -> Self {
        let on_departure = on_departure.map(|on_departure| -> OnDeparture<Key> {
            Box::new(move |key, departure| {
                if let Some(key) = Arc::unwrap_or_clone(key).into_shared() {
                    on_departure(key, departure);
                }
            })
        });
        Self { store: open(bounds, policy, on_departure), types: PhantomData }
    }
}

impl<K, V> MemoryStore<K, V> for TypedMoka<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        self.store.attach(lifetimes);
    }

    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let record = self.store.get(&Borrowed::<K, Q>::new(key))?;
        Some(record.and_then(Value::into_inner))
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let record = self.store.peek(&Borrowed::<K, Q>::new(key))?;
        Some(record.and_then(Value::into_inner))
    }

    fn insert(&self, key: K, record: Record<V>) -> bool {
        self.store.insert(Key::new(key), record.map(Value::new))
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        self.store.remove(&Borrowed::<K, Q>::new(key))
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.store.contains(&Borrowed::<K, Q>::new(key))
    }

    fn clear(&self) {
        self.store.clear();
    }

    fn sweep(&self) -> u64 {
        self.store.sweep()
    }

    fn set_bounds(&self, bounds: Bounds) -> Result<()> {
        self.store.set_bounds(bounds)
    }

    fn bounds(&self) -> Bounds {
        self.store.bounds()
    }

    fn keys<T>(&self, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let mut keys = Vec::new();
        self.store.for_each_key(&mut |key| keys.extend(key.downcast_ref().map(&mut map)));
        keys
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        self.store.count(home)
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn settle(&self) {
        self.store.settle();
    }

    fn facts(&self) -> Option<StoreFacts> {
        self.store.facts()
    }
}
