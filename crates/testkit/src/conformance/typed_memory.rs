//! A memory store of one pair of types, over one that knows no types.

use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::{Borrowed, Key, Memory, Value};
use larder_core::key::Equivalent;
use larder_core::memory::{Bounds, Lifetimes, MemoryStore, Record, Removed, StoreFacts};
use larder_core::tier::{TierKind, Usage};

/// Gives the types of its keys and values to a [`Memory`], so that [`memory`](super::memory) can check it.
#[expect(missing_debug_implementations, reason = "the store inside has none")]
pub struct TypedMemory<K, V> {
    store: Arc<dyn Memory>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> TypedMemory<K, V> {
    /// Wraps a store for keys `K` and values `V`.
    pub fn over(store: Arc<dyn Memory>) -> Self {
        Self { store, types: PhantomData }
    }
}

impl<K, V> MemoryStore<K, V> for TypedMemory<K, V>
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
        self.store.keys(|key| key.downcast_ref().map(&mut map))
    }

    fn hottest<T>(&self, n: usize, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        self.store.hottest_keys(n, |key| key.downcast_ref().map(&mut map))
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
