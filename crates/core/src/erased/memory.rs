//! The memory store of keys and values of any type.

use std::any::Any;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::{AnyForm, Key, Value};
use crate::Result;
use crate::memory::{Bounds, Hashed, Lifetimes, Record, Removed, StoreFacts};
use crate::tier::{TierKind, Usage};

/// Visits keys of any type.
pub type VisitKey<'a> = dyn FnMut(&(dyn Any + Send + Sync)) + 'a;

/// A type-erased memory store.
///
/// # Behavior
/// The same as [`MemoryStore`](crate::memory::MemoryStore), whose methods of the same names describe it. A key
/// or value of another type than the store's is never found and never stored.
pub trait Memory: Send + Sync {
    /// Sets the source of freshness of the records.
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>);

    /// The hasher of the keys, if the store [releases locks](Self::releases_locks).
    fn hasher(&self) -> Option<RandomState> {
        None
    }

    /// Whether [`MemoryStore::insert_under`](crate::memory::MemoryStore::insert_under) and `remove_under` release the
    /// lock of their permit before they run code of the user other than `Eq`, and ask it under their own lock.
    fn releases_locks(&self) -> bool {
        false
    }

    /// Whether the policy asks for the [cost](Record::cost) of a record.
    fn uses_cost(&self) -> bool {
        true
    }

    /// The record of `key`. Counts as a use of the entry.
    fn get(&self, key: &dyn AnyForm) -> Option<Record<Value>>;

    /// The record of `key`. Does not count as a use of the entry.
    fn peek(&self, key: &dyn AnyForm) -> Option<Record<Value>>;

    /// Whether there is an entry. Does not count as a use of it.
    fn contains(&self, key: &dyn AnyForm) -> bool {
        self.peek(key).is_some()
    }

    /// As [`contains`](Self::contains), with the hash of the key by the [`hasher`](Self::hasher).
    fn contains_hashed(&self, Hashed { hash, key }: Hashed<&dyn AnyForm>) -> bool {
        let _unused = hash;
        self.contains(key)
    }

    /// As [`contains_hashed`](Self::contains_hashed), after a miss that saw this number of
    /// [`changes`](crate::memory::Miss::changes).
    fn contains_since(&self, key: Hashed<&dyn AnyForm>, changes: u64) -> bool {
        let _unknown = changes;
        self.contains_hashed(key)
    }

    /// Stores a record; returns false if it alone exceeds the limit.
    fn insert(&self, key: Key, record: Record<Value>) -> bool;

    /// Removes the entry and returns the metadata of its record.
    fn remove(&self, key: &dyn AnyForm) -> Option<Removed>;

    /// Removes every entry.
    fn clear(&self);

    /// Removes the records that may no longer be served; returns their number.
    fn sweep(&self) -> u64;

    /// Changes the limits, and evicts records above them.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the engine cannot change them.
    fn set_bounds(&self, bounds: Bounds) -> Result<()>;

    /// The current limits.
    fn bounds(&self) -> Bounds;

    /// Whether a record of this weight alone is within the limits.
    fn fits(&self, weight: u32) -> bool {
        let Bounds { entries, bytes } = self.bounds();
        entries != Some(0) && bytes.is_none_or(|max| u64::from(weight) <= max)
    }

    /// The number of records whose value may be served; with `home`, only of those with this home.
    fn count(&self, home: Option<TierKind>) -> u64;

    /// How much the store holds now.
    fn usage(&self) -> Usage;

    /// Runs deferred work.
    fn settle(&self);

    /// The engine and the policy; `None` for a store without them.
    fn facts(&self) -> Option<StoreFacts>;

    /// Visits the keys of the records whose value may be served, in no particular order.
    fn for_each_key(&self, visit: &mut VisitKey<'_>);

    /// Visits the keys of the records whose value may be served and that the policy would evict last. Returns
    /// which visits were of the hottest `n`, the hottest first: none if the store does not know them.
    fn hottest(&self, n: usize, visit: &mut VisitKey<'_>) -> Vec<usize> {
        let _unknown = (n, visit);
        Vec::new()
    }
}

impl dyn Memory + '_ {
    /// Maps the keys of the records whose value may be served.
    pub fn keys<T>(&self, mut map: impl FnMut(&(dyn Any + Send + Sync)) -> Option<T>) -> Vec<T> {
        let mut keys = Vec::new();
        self.for_each_key(&mut |key| keys.extend(map(key)));
        keys
    }

    /// Maps the keys of at most `n` records, the hottest first. Leaves out those that `map` has none for.
    pub fn hottest_keys<T>(
        &self,
        n: usize,
        mut map: impl FnMut(&(dyn Any + Send + Sync)) -> Option<T>,
    ) -> Vec<T> {
        let mut keys = Vec::new();
        let order = self.hottest(n, &mut |key| keys.push(map(key)));
        order.into_iter().filter_map(|at| keys.get_mut(at)?.take()).collect()
    }
}
