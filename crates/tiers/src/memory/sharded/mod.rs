//! The default memory engine: a sharded hash table with its own eviction policies.
//!
//! A hit takes the shared lock of one shard, clones a handle of the value and increments the use count of the
//! entry. All other operations take the exclusive lock of a shard. Limits and accounting are global: an entry
//! may use the space of any other shard. Removed values are dropped after the locks are released and before
//! the call returns.

mod budget;
mod dismissal;
mod node;
mod sampler;
mod shard;
mod slab;
mod store;
mod table;
mod timers;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use foldhash::quality::RandomState;
use larder_core::clock::Time;
use larder_core::entry_meta::Freshness;
use larder_core::key::Equivalent;
use larder_core::memory::{Bounds, Departure, Lifespan, Lifetimes, OnDeparture};
use parking_lot::{RwLock, RwLockWriteGuard};

use self::budget::Budget;
use self::dismissal::{Departed, Leaving, Waiting};
use self::node::Node;
use self::sampler::Sampler;
use self::shard::{Context, Shard};
use super::Policy;

/// The minimum number of entries per shard, so that its policy has a choice.
const ENTRIES_PER_SHARD: u64 = 1024;
/// The same in bytes, for entries of about 256 bytes.
const BYTES_PER_SHARD: u64 = 256 << 10;
const SHARDS_PER_CPU: usize = 4;
const SHARDS_MAX: usize = 256;

/// A sharded memory store.
pub struct ShardedStore<K, V> {
    shards: Box<[Lane<K, V>]>,
    hasher: RandomState,
    budget: Budget,
    policy: Policy,
    /// Whether the policy moves entries on each hit, under the exclusive lock.
    moves_on_hit: bool,
    sampler: Sampler,
    lifetimes: OnceLock<Arc<dyn Lifetimes>>,
    /// The shard where the next eviction begins.
    next: AtomicUsize,
    on_departure: Option<OnDeparture<K>>,
    waiting: Waiting<K, V>,
}

/// A shard with its lock, in its own cache lines.
#[repr(align(128))]
struct Lane<K, V> {
    shard: RwLock<Shard<K, V>>,
    /// Number of entries in the shard, readable without the lock.
    len: AtomicUsize,
    /// Number of evictions from the shard, readable without the lock.
    evictions: AtomicU64,
}

impl<K, V> Lane<K, V> {
    #[inline]
    fn note(&self, shard: &Shard<K, V>) {
        self.len.store(shard.len(), Relaxed);
        self.evictions.store(shard.evictions(), Relaxed);
    }
}

/// Used before [`attach`](MemoryStore::attach): time stands still, and nothing expires.
struct Timeless;

impl Lifetimes for Timeless {
    fn now(&self) -> Time {
        Time::from_millis(0)
    }

    fn freshness(&self, _: Lifespan<'_>, _: Time) -> Freshness {
        Freshness::Fresh
    }

    fn invalidations(&self) -> u64 {
        0
    }
}

impl<K, V> ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates a store within `bounds`.
    pub fn new(bounds: Bounds, policy: Policy) -> Self {
        Self::with(bounds, policy, None)
    }

    /// Creates a store within `bounds` that calls `on_departure` for each record that it drops by itself.
    pub fn with(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture<K>>) -> Self {
        let count = shard_count(bounds);
        let share = share_of(bounds, count);
        let lane = || {
            let mut shard = Shard::new(policy, share);
            shard.evict_weightless(bounds.entries.is_some());
            Lane { shard: RwLock::new(shard), len: AtomicUsize::new(0), evictions: AtomicU64::new(0) }
        };
        Self {
            shards: (0..count).map(|_| lane()).collect(),
            hasher: RandomState::default(),
            budget: Budget::new(bounds),
            policy,
            moves_on_hit: Shard::<K, V>::new(policy, share).moves_on_hit(),
            sampler: Sampler::new(policy, bounds),
            lifetimes: OnceLock::new(),
            next: AtomicUsize::new(0),
            on_departure,
            waiting: Waiting::default(),
        }
    }

    #[inline]
    fn lane(&self, hash: u64) -> &Lane<K, V> {
        // Uses other bits than the table of a shard, which uses the lower half.
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)]
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self.lifetimes.get().map_or(&Timeless, |lifetimes| &**lifetimes)
    }

    /// Finds the node of `key` and passes it to `read`; counts a use if `read` returns a value.
    #[inline]
    fn read<Q: Hash + Equivalent<K> + ?Sized, R>(
        &self,
        key: &Q,
        read: impl FnOnce(&Shard<K, V>, u32, &Node<K, V>) -> Option<R>,
    ) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        let lane = self.lane(hash);
        let found = if self.moves_on_hit {
            Self::read_and_move(lane, (hash as u32, key), read)
        } else {
            Self::read_shared(lane, (hash as u32, key), read)
        };
        if self.sampler.takes(hash) {
            self.sample(hash, found.is_some().then_some(lane));
        }
        found
    }

    /// As [`read`](Self::read), under the shared lock.
    #[inline]
    fn read_shared<Q: Equivalent<K> + ?Sized, R>(
        lane: &Lane<K, V>,
        (hash, key): (u32, &Q),
        read: impl FnOnce(&Shard<K, V>, u32, &Node<K, V>) -> Option<R>,
    ) -> Option<R> {
        let shard = lane.shard.read();
        let (slot, node) = shard.find(hash, key)?;
        let found = read(&shard, slot, node)?;
        node.used();
        Some(found)
    }

    /// As [`read`](Self::read), under the exclusive lock.
    #[cold]
    fn read_and_move<Q: Equivalent<K> + ?Sized, R>(
        lane: &Lane<K, V>,
        (hash, key): (u32, &Q),
        read: impl FnOnce(&Shard<K, V>, u32, &Node<K, V>) -> Option<R>,
    ) -> Option<R> {
        let mut shard = lane.shard.write();
        let (slot, node) = shard.find(hash, key)?;
        let found = read(&shard, slot, node)?;
        shard.move_on_hit(slot);
        Some(found)
    }

    /// Passes an access to the simulations, and applies the tuning that they found best. `hit` is the lane of
    /// an entry that is there.
    #[cold]
    fn sample(&self, hash: u64, hit: Option<&Lane<K, V>>) {
        // As long as nothing had to leave, no policy has more hits than another.
        if hit.is_some_and(|lane| lane.evictions.load(Relaxed) == 0) {
            return;
        }
        if let Some(tuning) = self.sampler.access(hash, self.budget.capacity(), hit.is_some()) {
            self.shards.iter().for_each(|lane| lane.shard.write().tune(tuning));
        }
    }

    /// Counts a miss for the policy, if it asks for that and the lock is free.
    #[cold]
    fn note_miss<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) {
        // `Auto` does not count misses: each would take the exclusive lock.
        if self.policy != Policy::TinyLfu {
            return;
        }
        let hash = self.hasher.hash_one(key);
        let (lane, hash) = (self.lane(hash), hash as u32);
        if let Some(mut shard) = lane.shard.try_write()
            && shard.find(hash, key).is_none()
        {
            shard.missed(hash);
        }
    }

    fn peek_node<Q: Hash + Equivalent<K> + ?Sized, R>(
        &self,
        key: &Q,
        read: impl FnOnce(&Shard<K, V>, u32, &Node<K, V>) -> R,
    ) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        let shard = self.lane(hash).shard.read();
        let (slot, node) = shard.find(hash as u32, key)?;
        Some(read(&shard, slot, node))
    }

    /// Runs an operation under the exclusive lock of a shard. Reports and drops the removed entries after the
    /// lock is released.
    fn exclusively<R>(
        &self,
        lane: &Lane<K, V>,
        work: impl FnOnce(&mut Shard<K, V>, &mut Context<'_, K, V>) -> R,
    ) -> R {
        self.work((lane, lane.shard.write()), (), work)
    }

    /// As [`exclusively`](Self::exclusively), with the lock taken, and under a lock of the caller: both are
    /// released.
    #[inline]
    fn work<R, L>(
        &self,
        (lane, mut shard): (&Lane<K, V>, RwLockWriteGuard<'_, Shard<K, V>>),
        lock: L,
        work: impl FnOnce(&mut Shard<K, V>, &mut Context<'_, K, V>) -> R,
    ) -> R {
        let mut leaving = Leaving::new();
        let mut context =
            Context { account: self.budget.account(), lifetimes: self.lifetimes(), leaving: &mut leaving };
        let done = work(&mut shard, &mut context);
        drop(context);
        lane.note(&shard);
        drop(shard);
        drop(lock);
        match &self.on_departure {
            None => self.waiting.dismiss(&mut leaving, None),
            Some(report) => self.waiting.dismiss(&mut leaving, Some(&|departed| self.end(departed, report))),
        }
        done
    }

    /// Reports an entry that was dropped by the store itself, and drops it.
    fn end(&self, departed: Departed<K, V>, report: &OnDeparture<K>) {
        if let Departed::Entry(gone) = departed
            && let Some(cause) = gone.cause
        {
            let bytes = self.budget.bounds().bytes.map(|_| u64::from(gone.weight));
            let departure = Departure { cause, bytes, home: gone.node.home() };
            report(Arc::new(gone.node.key), departure);
        }
    }

    /// Evicts from the shards in turn until the limits hold.
    #[cold]
    fn make_room(&self, keep: Option<(&Lane<K, V>, u32)>) {
        let count = self.shards.len();
        let mut in_vain = 0;
        while self.budget.is_exceeded() && in_vain < count * 2 {
            let lane = &self.shards[self.next.fetch_add(1, Relaxed) % count];
            // First from the shards that hold more than their share, then from any.
            let share = self.budget.entries() / count as u64;
            if in_vain < count && (lane.len.load(Relaxed) as u64) < share {
                in_vain += 1;
                continue;
            }
            let keep = keep.filter(|(kept, _)| std::ptr::eq(*kept, lane)).map(|(_, slot)| slot);
            let evicted = self.exclusively(lane, |shard, context| shard.evict(keep, context));
            in_vain = if evicted { 0 } else { in_vain + 1 };
        }
    }

    /// Evicts from the shard of a new record while that shard holds at least its share of the entries.
    #[inline]
    fn make_room_here(&self, shard: &mut Shard<K, V>, keep: u32, context: &mut Context<'_, K, V>) {
        let count = self.shards.len() as u64;
        while context.account.is_exceeded()
            && shard.len() as u64 * count >= context.account.entries()
            && shard.evict(Some(keep), context)
        {}
    }

    /// Returns whether a record holds a value that may be served now. The record of an absence holds none.
    fn is_live(&self, shard: &Shard<K, V>, (slot, node): (u32, &Node<K, V>), now: Time) -> bool {
        node.has_value() && self.lifetimes().freshness(shard.lifespan(slot, node), now) == Freshness::Fresh
    }

    /// Removes all entries that are due.
    fn expire_all(&self) {
        for lane in &self.shards {
            self.exclusively(lane, |shard, context| shard.expire(usize::MAX, context));
        }
    }
}

/// The number of shards, a power of two so that a mask finds the shard of a hash.
fn shard_count(bounds: Bounds) -> usize {
    let cpus = available_parallelism().map_or(1, usize::from);
    let by_cpus = (cpus * SHARDS_PER_CPU).next_power_of_two().min(SHARDS_MAX);
    let by_entries = bounds.entries.map_or(u64::MAX, |entries| entries / ENTRIES_PER_SHARD);
    let by_bytes = bounds.bytes.map_or(u64::MAX, |bytes| bytes / BYTES_PER_SHARD);
    let wanted = usize::try_from(by_entries.min(by_bytes)).unwrap_or(usize::MAX).clamp(1, by_cpus);
    if wanted.is_power_of_two() { wanted } else { wanted.next_power_of_two() / 2 }
}

/// The limit of one of `count` shards, in the unit of record weights.
fn share_of(bounds: Bounds, count: usize) -> u64 {
    bounds.bytes.or(bounds.entries).unwrap_or(u64::MAX).div_ceil(count as u64).max(1)
}
