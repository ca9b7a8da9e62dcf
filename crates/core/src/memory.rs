//! The contract of a store that holds native values.

use std::hash::Hash;
use std::sync::Arc;

use crate::clock::Time;
use crate::key::Lookup;
use crate::terms::LiveTerms;
use crate::tier::{Stamp, TierKind, Usage};

/// A value in memory with what is known of it.
///
/// It is cloned on every hit, so all but the value is plain data, or shared
/// where an entry has terms of its own.
#[derive(Clone, Debug)]
pub struct Record<V> {
    /// The value; `None` for an entry that says there is none.
    pub value: Option<V>,
    /// When it was written to its home.
    pub created: Time,
    /// How many invalidations of this cache there had been when its load began.
    pub stamp: u64,
    /// Its terms, where anything was said of it.
    pub terms: Option<Arc<LiveTerms>>,
    /// Bytes it is accounted with, overhead included.
    pub weight: u32,
    /// The tier that answers for it.
    pub home: TierKind,
    /// The stamp it had there when it was read, where its home has stamps.
    pub checked: Option<Stamp>,
}

/// How a record left a memory store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The store let go of it by itself.
    Evicted,
    /// It was removed, or replaced by another.
    Taken,
}

/// Who is told of each record that leaves a memory store. Runs within calls of
/// the store, some of them with locks of its own held, so it must not block and
/// must not ask the store.
pub type Departed<K, V> = Box<dyn Fn(&Arc<K>, &Record<V>, Departure) + Send + Sync>;

/// A bounded store of native keys and values in this process.
///
/// # Behavior
/// - `get` after `insert` of an equal key returns a clone of that value until
///   it is replaced, removed, cleared or evicted.
/// - A record that alone exceeds the bound is not kept.
/// - The bound holds after [`settle`](MemoryStore::settle); between calls what
///   lives may exceed it by a twentieth, and by a record for each caller that inserts.
/// - A value is dropped with no lock of the store held, so its `Drop` may call it.
/// - Removal and clearing are seen by every later call of any thread.
/// - Calls never block on user code other than `Hash`, `Eq`, `Clone` and `Drop`.
pub trait MemoryStore<K, V>: Send + Sync + 'static
where
    K: Hash + Eq,
{
    /// A clone of the record of `key`.
    fn get<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// The value of `key`, if it has one and `fresh` holds for its record: what a
    /// hit needs, without moving the rest.
    #[inline]
    fn value<Q: Lookup<K> + ?Sized>(&self, key: &Q, fresh: impl FnOnce(&Record<V>) -> bool) -> Option<V> {
        self.get(key).filter(fresh)?.value
    }

    /// Stores `record` in place of what was there.
    fn insert(&self, key: K, record: Record<V>);

    /// Removes the entry and returns it.
    fn remove<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// Whether there is an entry; does not count as a use of it.
    fn contains<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> bool;

    /// Removes every entry.
    fn clear(&self);

    /// Removes the records that `keep` does not hold for, and says how many.
    /// Costs a pass over all entries.
    fn retain(&self, keep: impl Fn(&Record<V>) -> bool) -> u64;

    /// The keys, in no order. Entries that come or go meanwhile may be missed.
    fn keys(&self) -> Vec<Arc<K>>;

    /// How many entries have `home` as their home. Costs a pass over all entries.
    fn homed(&self, home: TierKind) -> u64;

    /// What it holds now.
    fn usage(&self) -> Usage;

    /// Does the pending housekeeping of evictions.
    fn settle(&self);
}
