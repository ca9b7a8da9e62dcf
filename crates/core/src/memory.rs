//! The contract of a store of native values in memory.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;
use foldhash::quality::RandomState;

use crate::Result;
use crate::clock::Time;
use crate::entry_meta::{Freshness, LiveEntryMeta};
use crate::tier::{EntryVersion, TierKind, Usage};

/// A value in memory with its metadata.
#[derive(Clone, Debug)]
pub struct Record<V> {
    /// The value; `None` for an entry that records the absence of a value.
    pub value: Option<V>,
    /// When it was written to its home.
    pub created: Time,
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its metadata, if it has any.
    pub terms: Option<Arc<LiveEntryMeta>>,
    /// Its accounted size in bytes, overhead included.
    pub weight: u32,
    /// The tier that owns the entry.
    pub home: TierKind,
    /// The version that the entry had in its home when it was read, if the home has versions.
    pub checked: Option<EntryVersion>,
    /// What it takes to have the entry again once it is evicted.
    pub cost: ReloadCost,
}

/// A key, or a borrowed form of it, with its hash by the [`hasher`](MemoryStore::hasher) of the store.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<K> {
    /// The hash.
    pub hash: u64,
    /// The key.
    pub key: K,
}

/// What it takes to load an entry again, in 16 bits: from a microsecond to 71 minutes, to a thousandth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReloadCost(u16);

/// The steps from one power of two to the next.
const COST_STEPS: f64 = 2048.0;

impl ReloadCost {
    /// The cost of a load that took `time`.
    pub fn of(time: Duration) -> Self {
        let micros = time.as_secs_f64() * 1e6;
        // The conversion saturates.
        Self(((1.0 + micros).log2() * COST_STEPS).round() as u16)
    }

    /// The cost in microseconds.
    pub fn micros(self) -> f64 {
        (f64::from(self.0) / COST_STEPS).exp2() - 1.0
    }
}

impl<V> Record<V> {
    /// The record with another value.
    pub fn map<U>(self, change: impl FnOnce(V) -> U) -> Record<U> {
        self.and_then(|value| Some(change(value)))
    }

    /// The record with another value, or with none.
    pub fn and_then<U>(self, change: impl FnOnce(V) -> Option<U>) -> Record<U> {
        let Self { value, created, stamp, terms, weight, home, checked, cost } = self;
        Record { value: value.and_then(change), created, stamp, terms, weight, home, checked, cost }
    }

    /// The parts of the record that its freshness depends on.
    #[inline]
    pub fn lifespan(&self) -> Lifespan<'_> {
        Lifespan { stamp: self.stamp, terms: self.terms.as_deref() }
    }
}

/// The parts of a record that its freshness depends on.
#[derive(Clone, Copy, Debug)]
pub struct Lifespan<'a> {
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its metadata, if it has any.
    pub terms: Option<&'a LiveEntryMeta>,
}

/// Tells a memory store which of its records may still be served.
pub trait Lifetimes: Send + Sync + 'static {
    /// The present time of the cache.
    fn now(&self) -> Time;

    /// How a record may be used at `now`. Does not count as a use of the record.
    fn freshness(&self, life: Lifespan<'_>, now: Time) -> Freshness;

    /// A number that rises when entries are invalidated. The store then looks for invalidated records in the
    /// course of later inserts.
    fn invalidations(&self) -> u64;
}

/// Why a memory store dropped a record by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepartureCause {
    /// The store made room for another record.
    Evicted,
    /// The record was past its deadline, or was invalidated.
    Expired,
}

/// A record that a memory store dropped by itself.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// The reason.
    pub cause: DepartureCause,
    /// Its accounted size in bytes. `None` if the store counts entries alone.
    pub bytes: Option<u64>,
    /// The tier that owns the entry.
    pub home: TierKind,
}

/// The engine of a memory store and its eviction policy, as the options spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFacts {
    /// The engine.
    pub engine: &'static str,
    /// The eviction policy.
    pub policy: &'static str,
}

impl fmt::Display for StoreFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "engine {}, policy {}", self.engine, self.policy)
    }
}

/// Called for each record that a memory store drops by itself. Runs inside calls of the store. Larder's own
/// stores hold no lock then; moka holds locks, so the function must not block and must not call the store.
pub type OnDeparture<K> = Box<dyn Fn(Arc<K>, Departure) + Send + Sync>;

/// The limits of a memory store; if both are given, both apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// The largest number of entries.
    pub entries: Option<u64>,
    /// The largest sum of record weights, in bytes.
    pub bytes: Option<u64>,
}

impl Bounds {
    /// Limits the number of entries.
    pub const fn entries(entries: u64) -> Self {
        Self { entries: Some(entries), bytes: None }
    }

    /// Limits the number of bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self { entries: None, bytes: Some(bytes) }
    }
}

/// The metadata of a record that was removed from a memory store.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The invalidation sequence number at which its load began.
    pub stamp: u64,
    /// Its metadata, if it had any.
    pub terms: Option<Arc<LiveEntryMeta>>,
    /// The version that the entry had in its home when it was read.
    pub checked: Option<EntryVersion>,
    /// Whether it held a value; false if it recorded the absence of one.
    pub has_value: bool,
}

impl Removed {
    /// The parts of the record that its freshness depended on.
    pub fn lifespan(&self) -> Lifespan<'_> {
        Lifespan { stamp: self.stamp, terms: self.terms.as_deref() }
    }
}

/// [`MemoryStore::remove_under`] did not change the store.
#[derive(Clone, Copy, Debug)]
pub struct NotRemoved;

/// A bounded store of native keys and values in this process.
///
/// # Behavior
/// - `get` after `insert` of an equal key returns a clone of that value until it is replaced, removed,
///   cleared or evicted.
/// - A record that alone exceeds the limit is rejected, and the record under the same key is removed.
/// - The accounted entries and bytes equal those of the stored records at every moment.
/// - A value that leaves the store is dropped before the removing call returns, without a lock of the store
///   held, so its `Drop` may call the store. A concurrent reader that still holds the value drops it at the
///   end of its own call. moka drops some values in a later call.
/// - Removal and clearing are visible to every later call of any thread.
/// - Under a lock the store runs no user code but the `Eq` of a key, and the `Clone` of a small value that
///   owns nothing on the heap.
pub trait MemoryStore<K, V>: Send + Sync + 'static
where
    K: Hash + Eq,
{
    /// Sets the source of freshness of the records. Called once, before any other call.
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>);

    /// Clones the record of `key`; counts as a use of the entry.
    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// Clones the record of `key`; does not count as a use of the entry.
    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>>;

    /// Clones the value of `key`, if it has one and `fresh` returns true for its record. This is the path of
    /// a hit: it does not move the rest of the record. Counts as a use of the entry.
    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl FnOnce(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        self.get(key).filter(|record| fresh(record.lifespan()))?.value
    }

    /// Stores `record` in place of the former one. Returns false, and stores nothing, if the record alone
    /// exceeds the limit.
    fn insert(&self, key: K, record: Record<V>) -> bool;

    /// Whether [`insert_under`](Self::insert_under) and [`remove_under`](Self::remove_under) drop the lock
    /// that they are given before they run code of the user other than `Eq`, and call `may` under their own.
    fn releases_locks(&self) -> bool {
        false
    }

    /// The hasher of the keys, if the store [releases locks](Self::releases_locks).
    fn hasher(&self) -> Option<RandomState> {
        None
    }

    /// Whether the policy asks for the [cost](Record::cost) of a record.
    fn uses_cost(&self) -> bool {
        true
    }

    /// As [`insert`](Self::insert), under a lock of the caller and if `may` returns true.
    ///
    /// # Behavior
    /// - Drops `lock` after the record is stored. If the store [releases locks](Self::releases_locks), no
    ///   value is dropped and no listener is called before.
    /// - Such a store calls `may` under the lock that each look-up and each change of the key takes. If one of
    ///   these comes before the insert, `may` sees what its thread did earlier; if it comes after it, it finds
    ///   the record. `may` must not take a lock or call the store.
    ///
    /// # Errors
    /// Returns key and record if `may` returned false.
    fn insert_under<L>(
        &self,
        Hashed { hash, key }: Hashed<K>,
        record: Record<V>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<bool, (K, Record<V>)> {
        let (_held, _unused) = (lock, hash);
        if may() { Ok(self.insert(key, record)) } else { Err((key, record)) }
    }

    /// As [`remove`](Self::remove), as [`insert_under`](Self::insert_under) is as [`insert`](Self::insert).
    ///
    /// # Errors
    /// If `may` returned false.
    fn remove_under<Q: Hash + Equivalent<K> + ?Sized, L>(
        &self,
        Hashed { hash, key }: Hashed<&Q>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<Option<Removed>, NotRemoved> {
        let (_held, _unused) = (lock, hash);
        if may() { Ok(self.remove(key)) } else { Err(NotRemoved) }
    }

    /// As [`contains`](Self::contains), with the hash of the key by the [`hasher`](Self::hasher).
    fn contains_hashed<Q: Hash + Equivalent<K> + ?Sized>(&self, Hashed { hash, key }: Hashed<&Q>) -> bool {
        let _unused = hash;
        self.contains(key)
    }

    /// Removes the entry and returns the metadata of its record.
    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed>;

    /// Whether there is an entry; does not count as a use of it.
    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool;

    /// Removes every entry.
    fn clear(&self);

    /// Removes the records that may no longer be served, and returns their number. A record that is inserted
    /// during the sweep stays. Costs a pass over all entries.
    fn sweep(&self) -> u64;

    /// Changes the limits, and evicts records above them.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` if the store cannot change its limits.
    fn set_bounds(&self, bounds: Bounds) -> Result<()>;

    /// The current limits.
    fn bounds(&self) -> Bounds;

    /// Whether a record of this weight alone is within the limits.
    fn fits(&self, weight: u32) -> bool {
        let Bounds { entries, bytes } = self.bounds();
        entries != Some(0) && bytes.is_none_or(|max| u64::from(weight) <= max)
    }

    /// Maps the keys of the records whose value may be served, in no particular order. May miss entries that
    /// are added or removed during the call.
    fn keys<T>(&self, map: impl FnMut(&K) -> T) -> Vec<T>;

    /// Maps the keys of the records whose value may be served and that the policy would evict last, the
    /// hottest first, at most `n`. Empty if the store does not know them. `map` may run under the shared lock
    /// of a part of the store.
    fn hottest<T>(&self, n: usize, map: impl FnMut(&K) -> T) -> Vec<T> {
        let _unknown = (n, map);
        Vec::new()
    }

    /// The number of records whose value may be served; with `home`, only of those with this home. Costs a
    /// pass over all entries.
    fn count(&self, home: Option<TierKind>) -> u64;

    /// How much the store holds now, including expired records that are not removed yet.
    fn usage(&self) -> Usage;

    /// Runs deferred work: evictions, and drops of removed values.
    fn settle(&self);

    /// The engine and the policy; `None` for a store without them.
    fn facts(&self) -> Option<StoreFacts> {
        None
    }
}
