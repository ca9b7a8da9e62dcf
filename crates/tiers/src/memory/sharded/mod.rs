//! The default memory engine: a sharded table with an eviction policy of its own.
//!
//! A hit takes the shared lock of one shard, clones a handle of the value and raises
//! the use count of the entry. Everything else takes the exclusive lock of a shard.
//! The bounds and the accounts are global: any entry may take the room of any other.
//! What leaves is dropped after the locks are released, before the call returns.

mod budget;
mod dismissal;
mod node;
mod shard;
mod slab;
mod timers;

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use foldhash::fast::RandomState;
use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::Freshness;
use larder_core::key::Equivalent;
use larder_core::memory::{
    Bounds, Departure, Lifespan, Lifetimes, MemoryStore, OnDeparture, Record, Removed,
};
use larder_core::tier::{TierKind, Usage};
use parking_lot::{Mutex, RwLock};

use self::budget::Budget;
use self::dismissal::{Departed, Leaving, Waiting};
use self::node::{Held, Node};
use self::shard::{Context, Shard};
use super::Policy;
use super::order::{Sample, Shadows};

/// Entries that a shard holds at least, so that its policy has something to choose from.
const ENTRIES_PER_SHARD: u64 = 1024;
/// The same where the bound is in bytes, for entries of about 256 bytes.
const BYTES_PER_SHARD: u64 = 256 << 10;
const SHARDS_PER_CPU: usize = 4;
const SHARDS_MAX: usize = 256;

/// A memory store of our own.
pub struct ShardedStore<K, V> {
    shards: Box<[Lane<K, V>]>,
    hasher: RandomState,
    budget: Budget,
    /// The policy moves entries on each hit, under the exclusive lock.
    moves_on_hit: bool,
    /// The policy counts how often absent keys are asked for, as W-TinyLFU does. `Auto` does
    /// not: a miss would cost the exclusive lock.
    counts_misses: bool,
    /// Sampled accesses that tune [`Policy::Auto`].
    shadows: Option<Box<Mutex<Sampled>>>,
    lifetimes: OnceLock<Arc<dyn Lifetimes>>,
    /// The shard at which a search for room begins next.
    next: AtomicUsize,
    on_departure: Option<OnDeparture<K>>,
    waiting: Waiting<K, V>,
}

/// The shadows of the policy, and the access that they saw last.
struct Sampled {
    shadows: Shadows,
    last: u64,
}

/// A shard with its lock, in cache lines of its own.
#[repr(align(128))]
struct Lane<K, V> {
    shard: RwLock<Shard<K, V>>,
    /// Entries in the shard, for a look without the lock.
    len: AtomicUsize,
}

impl<K, V> Lane<K, V> {
    fn note_len(&self, shard: &Shard<K, V>) {
        self.len.store(shard.len(), Relaxed);
    }
}

/// Where no engine attached itself: time stands still, and nothing expires.
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
    /// A store within `bounds`.
    pub fn new(bounds: Bounds, policy: Policy) -> Self {
        Self::with(bounds, policy, None)
    }

    /// A store within `bounds` that calls `on_departure` for each record that leaves by itself.
    pub fn with(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture<K>>) -> Self {
        let count = shard_count(bounds);
        let share = share_of(bounds, count);
        let lane = || Lane { shard: RwLock::new(Shard::new(policy, share)), len: AtomicUsize::new(0) };
        Self {
            shards: (0..count).map(|_| lane()).collect(),
            hasher: RandomState::default(),
            budget: Budget::new(bounds),
            moves_on_hit: Shard::<K, V>::new(policy, share).moves_on_hit(),
            counts_misses: policy == Policy::TinyLfu,
            shadows: (policy == Policy::Auto)
                .then(|| Box::new(Mutex::new(Sampled { shadows: Shadows::new(), last: 0 }))),
            lifetimes: OnceLock::new(),
            next: AtomicUsize::new(0),
            on_departure,
            waiting: Waiting::default(),
        }
    }

    #[inline]
    fn lane(&self, hash: u64) -> &Lane<K, V> {
        // The table of a shard uses the lowest and the highest bits.
        &self.shards[(hash >> 32) as usize & (self.shards.len() - 1)]
    }

    fn lifetimes(&self) -> &dyn Lifetimes {
        self.lifetimes.get().map_or(&Timeless, |lifetimes| &**lifetimes)
    }

    /// Finds the node of `key`, has `read` look at it, and counts a use where it says so.
    #[inline]
    fn read<Q: Hash + Equivalent<K> + ?Sized, R>(
        &self,
        key: &Q,
        read: impl FnOnce(&Node<K, V>) -> Option<R>,
    ) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        let lane = self.lane(hash);
        if self.shadows.is_some() && Sample.takes(hash) {
            self.sample(hash);
        }
        if self.moves_on_hit {
            let mut shard = lane.shard.write();
            let slot = shard.find(hash, key)?;
            let found = shard.node_at(slot).and_then(read)?;
            shard.move_on_hit(slot);
            return Some(found);
        }
        let shard = lane.shard.read();
        let node = shard.node(hash, key)?;
        let found = read(node)?;
        node.used();
        Some(found)
    }

    /// Shows the shadows of the policy an access, and takes over what they found best.
    #[cold]
    fn sample(&self, hash: u64) {
        let Some(sampled) = &self.shadows else { return };
        // An access that meets another one is not seen: a sample need not be complete.
        let Some(mut sampled) = sampled.try_lock() else { return };
        // The steps of one miss look more than once.
        if std::mem::replace(&mut sampled.last, hash) == hash {
            return;
        }
        let tuning = sampled.shadows.access(hash, self.budget.capacity());
        drop(sampled);
        if let Some(tuning) = tuning {
            self.shards.iter().for_each(|lane| lane.shard.write().tune(tuning));
        }
    }

    /// Counts a miss for the policy, unless that would have to wait.
    #[cold]
    fn note_miss<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) {
        let hash = self.hasher.hash_one(key);
        if let Some(mut shard) = self.lane(hash).shard.try_write()
            && shard.find(hash, key).is_none()
        {
            shard.missed(hash);
        }
    }

    fn peek_node<Q: Hash + Equivalent<K> + ?Sized, R>(
        &self,
        key: &Q,
        read: impl FnOnce(&Node<K, V>) -> R,
    ) -> Option<R> {
        let hash = self.hasher.hash_one(key);
        self.lane(hash).shard.read().node(hash, key).map(read)
    }

    /// Runs an exclusive operation on a shard; what left is told and dropped after the lock.
    fn exclusively<R>(
        &self,
        lane: &Lane<K, V>,
        work: impl FnOnce(&mut Shard<K, V>, &mut Context<'_, K, V>) -> R,
    ) -> R {
        let mut leaving = Leaving::new();
        let mut context =
            Context { budget: &self.budget, lifetimes: self.lifetimes(), leaving: &mut leaving };
        let mut shard = lane.shard.write();
        let done = work(&mut shard, &mut context);
        lane.note_len(&shard);
        drop(shard);
        self.waiting.dismiss(leaving, |departed| self.end(departed));
        done
    }

    /// Tells that an entry left by itself, and drops it.
    fn end(&self, departed: Departed<K, V>) {
        if let Departed::Entry(node, Some(cause)) = departed
            && let Some(on_departure) = &self.on_departure
        {
            let departure = Departure { cause, weight: node.weight, home: node.home };
            on_departure(Arc::new(node.key), departure);
        }
    }

    /// Evicts from the shards in turn until the bounds hold again.
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

    /// Evicts from the shard of a new record while that has its share of the entries or more.
    #[inline]
    fn make_room_here(&self, shard: &mut Shard<K, V>, keep: u32, context: &mut Context<'_, K, V>) {
        let count = self.shards.len() as u64;
        while self.budget.is_exceeded()
            && shard.len() as u64 * count >= self.budget.entries()
            && shard.evict(Some(keep), context)
        {}
    }

    fn is_live(&self, node: &Node<K, V>, now: Time) -> bool {
        self.lifetimes().freshness(node.lifespan(), now) == Freshness::Fresh
    }

    /// Does all that is due at once.
    fn expire_all(&self) {
        for lane in &self.shards {
            self.exclusively(lane, |shard, context| shard.expire(usize::MAX, context));
        }
    }
}

impl<K, V> MemoryStore<K, V> for ShardedStore<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        let _first_counts = self.lifetimes.set(lifetimes);
    }

    #[inline]
    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let (record, value) = self.read(key, |node| Some((node.record(), node.value.handle())))?;
        Some(Record { value: value.into_value(), ..record })
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let (record, value) = self.peek_node(key, |node| (node.record(), node.value.handle()))?;
        Some(Record { value: value.into_value(), ..record })
    }

    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl FnOnce(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        let handle = self.read(key, |node| match node.value {
            Held::Absent => None,
            _ => fresh(node.lifespan()).then(|| node.value.handle()),
        });
        if handle.is_none() && self.counts_misses {
            self.note_miss(key);
        }
        handle?.into_value()
    }

    fn insert(&self, key: K, record: Record<V>) -> bool {
        if !self.budget.fits(record.weight) {
            self.remove(&key);
            return false;
        }
        let hash = self.hasher.hash_one(&key);
        let lane = self.lane(hash);
        let stored = self.exclusively(lane, |shard, context| {
            shard.expire_some(context);
            shard.search(context);
            let slot = shard.insert((hash, key), record, context)?;
            self.make_room_here(shard, slot, context);
            Some(slot)
        });
        let Some(slot) = stored else { return false };
        if self.budget.is_exceeded() {
            self.make_room(Some((lane, slot)));
        }
        true
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        let hash = self.hasher.hash_one(key);
        let node =
            self.exclusively(self.lane(hash), |shard, context| shard.remove(hash, key, context.budget))?;
        Some(node.removed())
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.peek_node(key, |_| ()).is_some()
    }

    fn clear(&self) {
        for lane in &self.shards {
            self.exclusively(lane, |shard, context| shard.clear(context));
        }
    }

    fn sweep(&self) -> u64 {
        self.shards.iter().map(|lane| self.exclusively(lane, |shard, context| shard.sweep(context))).sum()
    }

    fn set_bounds(&self, bounds: Bounds) -> Result<()> {
        self.budget.set(bounds);
        let share = share_of(bounds, self.shards.len());
        self.shards.iter().for_each(|lane| lane.shard.write().set_budget(share));
        self.make_room(None);
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        self.budget.bounds()
    }

    fn keys<T>(&self, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let now = self.lifetimes().now();
        let mut keys = Vec::new();
        for lane in &self.shards {
            let shard = lane.shard.read();
            keys.extend(shard.nodes().filter(|node| self.is_live(node, now)).map(|node| map(&node.key)));
        }
        keys
    }

    fn hottest<T>(&self, n: usize, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let now = self.lifetimes().now();
        let mut by_shard: Vec<_> = Vec::with_capacity(self.shards.len());
        for lane in &self.shards {
            let shard = lane.shard.read();
            let live = shard.hottest(n).filter(|node| self.is_live(node, now));
            by_shard.push(live.map(|node| map(&node.key)).collect::<Vec<T>>().into_iter());
        }
        // A shard knows its own order alone: the hottest of each, then the second of each.
        let mut hottest = Vec::with_capacity(n.min(self.budget.entries() as usize));
        while hottest.len() < n {
            let before = hottest.len();
            hottest.extend(by_shard.iter_mut().filter_map(Iterator::next));
            if hottest.len() == before {
                break;
            }
        }
        hottest.truncate(n);
        hottest
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        let now = self.lifetimes().now();
        let is_counted =
            |node: &&Node<K, V>| home.is_none_or(|home| node.home == home) && self.is_live(node, now);
        self.shards.iter().map(|lane| lane.shard.read().nodes().filter(is_counted).count() as u64).sum()
    }

    fn usage(&self) -> Usage {
        self.expire_all();
        self.budget.usage()
    }

    fn settle(&self) {
        self.expire_all();
    }
}

/// A power of two, so that the shard of a hash is a mask away.
fn shard_count(bounds: Bounds) -> usize {
    let cpus = available_parallelism().map_or(1, usize::from);
    let by_cpus = (cpus * SHARDS_PER_CPU).next_power_of_two().min(SHARDS_MAX);
    let by_entries = bounds.entries.map_or(u64::MAX, |entries| entries / ENTRIES_PER_SHARD);
    let by_bytes = bounds.bytes.map_or(u64::MAX, |bytes| bytes / BYTES_PER_SHARD);
    let wanted = usize::try_from(by_entries.min(by_bytes)).unwrap_or(usize::MAX).clamp(1, by_cpus);
    if wanted.is_power_of_two() { wanted } else { wanted.next_power_of_two() / 2 }
}

/// What one of `count` shards holds, in the unit in which records weigh.
fn share_of(bounds: Bounds, count: usize) -> u64 {
    bounds.bytes.or(bounds.entries).unwrap_or(u64::MAX).div_ceil(count as u64)
}
