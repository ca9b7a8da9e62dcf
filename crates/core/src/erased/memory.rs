//! The memory store of keys and values of any type.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use equivalent::Equivalent;
use foldhash::quality::RandomState;

use super::{AnyForm, Key, Value};
use crate::Result;
use crate::memory::{Bounds, Lifetimes, MemoryStore, Record, Removed, StoreFacts};
use crate::tier::{TierKind, Usage};

/// Encodes a key of any type; `None` for a key that cannot be encoded.
pub type EncodeKey<'a> = dyn FnMut(&(dyn Any + Send + Sync)) -> Option<Box<[u8]>> + 'a;

/// A type-erased memory store.
///
/// # Behavior
/// The same as [`MemoryStore`]. A key or value of another type than the store's is never found and never
/// stored.
pub trait Memory: Send + Sync {
    /// See [`MemoryStore::attach`].
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>);

    /// See [`MemoryStore::hasher`].
    fn hasher(&self) -> Option<RandomState> {
        None
    }

    /// See [`MemoryStore::get`].
    fn get(&self, key: &dyn AnyForm) -> Option<Record<Value>>;

    /// See [`MemoryStore::peek`].
    fn peek(&self, key: &dyn AnyForm) -> Option<Record<Value>>;

    /// See [`MemoryStore::insert`].
    fn insert(&self, key: Key, record: Record<Value>) -> bool;

    /// See [`MemoryStore::remove`].
    fn remove(&self, key: &dyn AnyForm) -> Option<Removed>;

    /// See [`MemoryStore::clear`].
    fn clear(&self);

    /// See [`MemoryStore::sweep`].
    fn sweep(&self) -> u64;

    /// See [`MemoryStore::set_bounds`].
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the engine cannot change them.
    fn set_bounds(&self, bounds: Bounds) -> Result<()>;

    /// See [`MemoryStore::bounds`].
    fn bounds(&self) -> Bounds;

    /// See [`MemoryStore::count`].
    fn count(&self, home: Option<TierKind>) -> u64;

    /// See [`MemoryStore::usage`].
    fn usage(&self) -> Usage;

    /// See [`MemoryStore::settle`].
    fn settle(&self);

    /// See [`MemoryStore::facts`].
    fn facts(&self) -> Option<StoreFacts>;

    /// The keys of at most `n` records, the hottest first, encoded by `encode` as [`MemoryStore::hottest`] maps
    /// them. Leaves out keys that cannot be encoded.
    fn hottest(&self, n: usize, encode: &mut EncodeKey<'_>) -> Vec<Box<[u8]>>;
}

/// Finds a typed key of a store by an [`AnyLookup`].
struct ByAny<'a>(&'a dyn AnyForm);

impl Hash for ByAny<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.feed(state);
    }
}

impl<K: 'static> Equivalent<K> for ByAny<'_> {
    fn equivalent(&self, key: &K) -> bool {
        self.0.is_key(key)
    }
}

/// Adapts a store of typed keys and values to [`Memory`].
#[derive(Debug)]
pub struct Typed<K, V, M> {
    store: Arc<M>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V, M> Typed<K, V, M> {
    /// Wraps a store.
    pub fn new(store: Arc<M>) -> Self {
        Self { store, types: PhantomData }
    }
}

impl<K, V, M> Memory for Typed<K, V, M>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    M: MemoryStore<K, V>,
{
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        self.store.attach(lifetimes);
    }

    fn hasher(&self) -> Option<RandomState> {
        self.store.hasher()
    }

    fn get(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.store.get(&ByAny(key)).map(|record| record.map(Value::new))
    }

    fn peek(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.store.peek(&ByAny(key)).map(|record| record.map(Value::new))
    }

    fn insert(&self, key: Key, record: Record<Value>) -> bool {
        let Some(key) = key.into_inner::<K>() else { return false };
        let has_value = record.value.is_some();
        let record = record.and_then(Value::into_inner::<V>);
        if has_value && record.value.is_none() {
            return false;
        }
        self.store.insert(key, record)
    }

    fn remove(&self, key: &dyn AnyForm) -> Option<Removed> {
        self.store.remove(&ByAny(key))
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

    fn hottest(&self, n: usize, encode: &mut EncodeKey<'_>) -> Vec<Box<[u8]>> {
        self.store.hottest(n, |key| encode(key)).into_iter().flatten().collect()
    }
}
