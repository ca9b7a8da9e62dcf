//! The contract of a store that holds native values.

use std::hash::Hash;
use std::sync::Arc;

use equivalent::Equivalent;

use crate::Result;
use crate::clock::Time;

use crate::entry_meta::{Freshness, LiveEntryMeta};
use crate::tier::{EntryVersion, TierKind, Usage};

/// A value in memory with what is known of it.
#[derive(Clone, Debug)]
pub struct Record<V> {
    /// The value; `None` for an entry that says there is none.
    pub value: Option<V>,
    /// When it was written to its home.
    pub created: Time,
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its terms, where it has any.
    pub terms: Option<Arc<LiveEntryMeta>>,
    /// Bytes it is accounted with, overhead included.
    pub weight: u32,
    /// The tier that answers for it.
    pub home: TierKind,
    /// The version it had there when it was read, where its home has versions.
    pub checked: Option<EntryVersion>,
}

impl<V> Record<V> {
    /// The same record of another value.
    pub fn map<U>(self, change: impl FnOnce(V) -> U) -> Record<U> {
        self.and_then(|value| Some(change(value)))
    }

    /// The same record of another value, or of none.
    pub fn and_then<U>(self, change: impl FnOnce(V) -> Option<U>) -> Record<U> {
        let Self { value, created, stamp, terms, weight, home, checked } = self;
        Record { value: value.and_then(change), created, stamp, terms, weight, home, checked }
    }

    /// What its freshness depends on.
    #[inline]
    pub fn lifespan(&self) -> Lifespan<'_> {
        Lifespan { stamp: self.stamp, terms: self.terms.as_deref() }
    }
}

/// What the freshness of a record depends on.
#[derive(Clone, Copy, Debug)]
pub struct Lifespan<'a> {
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its terms, where it has any.
    pub terms: Option<&'a LiveEntryMeta>,
}

/// Tells a memory store which of its records may still be served.
pub trait Lifetimes: Send + Sync + 'static {
    /// The present time of the cache.
    fn now(&self) -> Time;

    /// What a record is good for at `now`. Does not count as a use of it.
    fn freshness(&self, life: Lifespan<'_>, now: Time) -> Freshness;

    /// A number that rises when entries are invalidated. The store looks for them then,
    /// in the course of later inserts.
    fn invalidations(&self) -> u64;
}

/// Why a record left a memory store by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepartureCause {
    /// The store made room for another record.
    Evicted,
    /// The record was past its time, or invalidated.
    Expired,
}

/// A record that left a memory store by itself.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// Why.
    pub cause: DepartureCause,
    /// What it was accounted with.
    pub weight: u32,
    /// The tier that answers for it.
    pub home: TierKind,
}

/// Called for each record that leaves a memory store by itself. Runs within calls
/// of the store, with no lock of it held by a store of our own; moka holds locks,
/// so the function must not block and must not call the store.
pub type OnDeparture<K> = Box<dyn Fn(Arc<K>, Departure) + Send + Sync>;

/// The bounds of a memory store; both hold where both are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The most entries.
    pub entries: Option<u64>,
    /// The most bytes, as records weigh.
    pub bytes: Option<u64>,
}

impl Bounds {
    /// At most so many entries.
    pub const fn entries(entries: u64) -> Self {
        Self { entries: Some(entries), bytes: None }
    }

    /// At most so many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self { entries: None, bytes: Some(bytes) }
    }
}

/// What a memory store says of a record that it no longer holds.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its terms, where it had any.
    pub terms: Option<Arc<LiveEntryMeta>>,
    /// The version it had in its home when it was read.
    pub checked: Option<EntryVersion>,
    /// Whether it held a value, not the knowledge that there is none.
    pub has_value: bool,
}

impl Removed {
    /// What its freshness depended on.
    pub fn lifespan(&self) -> Lifespan<'_> {
        Lifespan { stamp: self.stamp, terms: self.terms.as_deref() }
    }
}

/// A bounded store of native keys and values in this process.
///
/// # Behavior
/// - `get` after `insert` of an equal key returns a clone of that value until
///   it is replaced, removed, cleared or evicted.
/// - A record that alone exceeds the bound is refused, and the one it would have
///   replaced is gone.
/// - The accounted entries and bytes are those of the records held, at every moment.
/// - A value that leaves is dropped before the call that removed it returns, with no
///   lock of the store held, so its `Drop` may call the store. A reader that holds
///   the value at that moment drops it at the end of its own call. moka drops some
///   values in a later call.
/// - Removal and clearing are seen by every later call of any thread.
/// - Calls run no user code under a lock but `Eq` of a key, and `Clone` of a small
///   value that owns nothing on the heap.
pub trait MemoryStore<K, V>: Send + Sync + 'static
where
    K: Hash + Eq,
{
    /// Gives the store what it asks for the freshness of its records. Called once,
    /// before any other call.
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>);

    /// A clone of the record of `key`; a use of the entry.
    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// A clone of the record of `key`; not a use of the entry.
    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// The value of `key`, if it has one and `fresh` holds for its record: what a
    /// hit needs, without moving the rest. A use of the entry.
    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl FnOnce(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        self.get(key).filter(|record| fresh(record.lifespan()))?.value
    }

    /// Stores `record` in place of what was there. Returns false where the record
    /// alone exceeds the bound: then nothing is stored.
    fn insert(&self, key: K, record: Record<V>) -> bool;

    /// Removes the entry.
    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed>;

    /// Whether there is an entry; not a use of it.
    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool;

    /// Removes every entry.
    fn clear(&self);

    /// Removes the records that are good for nothing any more, and returns how many. A
    /// record that is inserted meanwhile stays. Costs a pass over all entries.
    fn sweep(&self) -> u64;

    /// Changes the bounds, and evicts what exceeds them.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` where the engine cannot change them.
    fn set_bounds(&self, bounds: Bounds) -> Result<()>;

    /// The bounds that hold now.
    fn bounds(&self) -> Bounds;

    /// Maps the keys of the records that may be served, in no order. Entries that
    /// come or go meanwhile may be missed.
    fn keys<T>(&self, map: impl FnMut(&K) -> T) -> Vec<T>;

    /// Maps the keys of the records that the policy would evict last, the hottest first, at
    /// most `n`. Empty where the engine does not know.
    fn hottest<T>(&self, n: usize, map: impl FnMut(&K) -> T) -> Vec<T> {
        let _unknown = (n, map);
        Vec::new()
    }

    /// How many records may be served; with `home`, of those that have this home.
    /// Costs a pass over all entries.
    fn count(&self, home: Option<TierKind>) -> u64;

    /// What it holds now, expired records that were not removed yet included.
    fn usage(&self) -> Usage;

    /// Does what the store has put off: evictions, and values that wait to be dropped.
    fn settle(&self);
}
