//! The contract of a store of native values in memory.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;

use crate::Result;
use crate::clock::Time;
use crate::entry_meta::{Freshness, LiveEntryMeta};
use crate::erased::Key;
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

/// A key, or a borrowed form of it, with its hash by the [`hasher`](crate::erased::Memory::hasher) of the store.
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

impl Record<()> {
    /// The record of `value`. Takes the metadata out of this one.
    pub fn take_for<V>(&mut self, value: Option<V>) -> Record<V> {
        let Self { created, stamp, weight, home, checked, cost, .. } = *self;
        Record { value, created, stamp, terms: self.terms.take(), weight, home, checked, cost }
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
pub type OnDeparture = Box<dyn Fn(Key, Departure) + Send + Sync>;

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

/// A lock of the caller under which it changes a store.
#[expect(missing_debug_implementations, reason = "it has only functions")]
pub struct Permit<'a> {
    /// Whether the change may be made.
    pub may: &'a dyn Fn() -> bool,
    /// Releases the lock. Called at most once.
    pub release: &'a mut dyn FnMut(),
}

/// A look-up that found no entry.
#[derive(Clone, Copy, Debug)]
pub struct Miss {
    /// The hash of the key by the [`hasher`](crate::erased::Memory::hasher) of the store.
    pub hash: u64,
    /// A number that rises with each insert into the part of the store that the key belongs to.
    pub changes: u64,
}

impl Miss {
    /// Not the number of changes of any store.
    pub const UNKNOWN: u64 = u64::MAX;
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
        fresh: impl Fn(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        self.value_if(key, &mut |life, _| fresh(life))
    }

    /// As [`value`](Self::value), and returns what is known after a miss, if the store knows it.
    ///
    /// # Errors
    /// If there is no value.
    #[inline]
    fn value_or_miss<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl Fn(Lifespan<'_>) -> bool,
    ) -> std::result::Result<V, Option<Miss>> {
        self.value(key, fresh).ok_or(None)
    }

    /// As [`value`](Self::value), with the version of the entry in its home. Compiled once a type of keys.
    fn value_if<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        accepts: &mut dyn FnMut(Lifespan<'_>, Option<EntryVersion>) -> bool,
    ) -> Option<V> {
        self.get(key).filter(|record| accepts(record.lifespan(), record.checked))?.value
    }

    /// Stores `record` in place of the former one. Returns false, and stores nothing, if the record alone
    /// exceeds the limit.
    fn insert(&self, key: K, record: Record<V>) -> bool;

    /// As [`insert`](Self::insert), under a lock of the caller and if its permit says that it may.
    ///
    /// # Behavior
    /// - Releases the lock after the record is stored. If the store [releases locks], no value is dropped and no
    ///   listener is called before.
    /// - Such a store asks the permit under the lock that each look-up and each change of the key takes. If one
    ///   of these comes before the insert, the permit sees what its thread did earlier; if it comes after it, it
    ///   finds the record. `may` must not take a lock or call the store.
    /// - Such a store makes no change if the record alone exceeds the limit.
    ///
    /// [releases locks]: crate::erased::Memory::releases_locks
    ///
    /// Takes `entry`, and returns true, if the change was made; does not release the lock otherwise.
    fn insert_under(
        &self,
        hash: u64,
        entry: &mut Option<(K, V)>,
        record: &mut Record<()>,
        permit: &mut Permit<'_>,
    ) -> bool {
        let _unused = hash;
        if !(permit.may)() {
            return false;
        }
        if let Some((key, value)) = entry.take() {
            self.insert(key, record.take_for(Some(value)));
        }
        (permit.release)();
        true
    }

    /// As [`remove`](Self::remove), as [`insert_under`](Self::insert_under) is as [`insert`](Self::insert).
    ///
    /// # Errors
    /// If the permit says that the change may not be made. Does not release the lock then.
    fn remove_under<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        Hashed { hash, key }: Hashed<&Q>,
        permit: &mut Permit<'_>,
    ) -> std::result::Result<Option<Removed>, NotRemoved> {
        let _unused = hash;
        if !(permit.may)() {
            return Err(NotRemoved);
        }
        let removed = self.remove(key);
        (permit.release)();
        Ok(removed)
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
