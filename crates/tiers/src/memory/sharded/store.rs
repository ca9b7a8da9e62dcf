//! The contract of a memory store, over the shards.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use foldhash::quality::RandomState;
use larder_core::Result;
use larder_core::key::Equivalent;
use larder_core::memory::{
    Bounds, Hashed, Lifespan, Lifetimes, MemoryStore, NotRemoved, Record, Removed, StoreFacts,
};
use larder_core::tier::{TierKind, Usage};

use super::node::ValueHandle;
use super::{Lane, ShardedStore, share_of};
use crate::memory::Policy;

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
        let (record, value) =
            self.read(key, |shard, slot, node| Some((shard.record(slot, node), node.handle())))?;
        Some(Record { value: value.map(ValueHandle::into_value), ..record })
    }

    fn peek<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Record<V>> {
        let (record, value) =
            self.peek_node(key, |shard, slot, node| (shard.record(slot, node), node.handle()))?;
        Some(Record { value: value.map(ValueHandle::into_value), ..record })
    }

    #[inline]
    fn value<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        fresh: impl FnOnce(Lifespan<'_>) -> bool,
    ) -> Option<V> {
        let handle = self.read(key, |shard, slot, node| {
            if node.has_value() && fresh(shard.lifespan(slot, node)) { node.handle() } else { None }
        });
        if handle.is_none() {
            self.note_miss(key);
        }
        handle.map(ValueHandle::into_value)
    }

    fn insert(&self, key: K, record: Record<V>) -> bool {
        let hash = self.hasher.hash_one(&key);
        self.insert_under(Hashed { hash, key }, record, (), || true).unwrap_or(false)
    }

    #[inline]
    fn releases_locks(&self) -> bool {
        true
    }

    #[inline]
    fn hasher(&self) -> Option<RandomState> {
        Some(self.hasher.clone())
    }

    #[inline]
    fn uses_cost(&self) -> bool {
        self.policy == Policy::CostAware
    }

    fn insert_under<L>(
        &self,
        Hashed { hash, key }: Hashed<K>,
        record: Record<V>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<bool, (K, Record<V>)> {
        let (lane, fits) = (self.lane(hash), self.budget.fits(record.weight));
        let shard = lane.shard.write();
        if !may() {
            return Err((key, record));
        }
        let stored = self.work((lane, shard), lock, |shard, context| {
            if !fits {
                shard.remove(hash as u32, &key, context);
                return None;
            }
            shard.expire_some(context);
            shard.search(context);
            let slot = shard.insert((hash as u32, key), record, context)?;
            self.make_room_here(shard, slot, context);
            Some(slot)
        });
        if let Some(slot) = stored
            && self.budget.is_exceeded()
        {
            self.make_room(Some((lane, slot)));
        }
        Ok(stored.is_some())
    }

    fn remove<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Removed> {
        self.remove_under(Hashed { hash: self.hasher.hash_one(key), key }, (), || true).ok().flatten()
    }

    fn remove_under<Q: Hash + Equivalent<K> + ?Sized, L>(
        &self,
        Hashed { hash, key }: Hashed<&Q>,
        lock: L,
        may: impl FnOnce() -> bool,
    ) -> std::result::Result<Option<Removed>, NotRemoved> {
        let lane = self.lane(hash);
        let shard = lane.shard.write();
        if !may() {
            return Err(NotRemoved);
        }
        Ok(self.work((lane, shard), lock, |shard, context| shard.remove(hash as u32, key, context)))
    }

    fn contains_hashed<Q: Hash + Equivalent<K> + ?Sized>(&self, Hashed { hash, key }: Hashed<&Q>) -> bool {
        self.lane(hash).shard.read().find(hash as u32, key).is_some()
    }

    fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.peek_node(key, |_, _, _| ()).is_some()
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
        if bounds.bytes.is_some() && !self.budget.counts_bytes() {
            // The only place that locks more than one shard.
            let shards: Vec<_> = self.shards.iter().map(|lane| lane.shard.write()).collect();
            self.budget.count_bytes(shards.iter().map(|shard| shard.weight()).sum());
        }
        self.budget.set(bounds);
        let share = share_of(bounds, self.shards.len());
        for lane in &self.shards {
            let mut shard = lane.shard.write();
            shard.set_budget(share);
            shard.evict_weightless(bounds.entries.is_some());
        }
        self.make_room(None);
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        self.budget.bounds()
    }

    #[inline]
    fn fits(&self, weight: u32) -> bool {
        self.budget.fits(weight)
    }

    fn keys<T>(&self, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let now = self.lifetimes().now();
        let mut keys = Vec::new();
        for lane in &self.shards {
            let shard = lane.shard.read();
            let live = shard.nodes().filter(|found| self.is_live(&shard, *found, now));
            keys.extend(live.map(|(_, node)| map(&node.key)));
        }
        keys
    }

    fn hottest<T>(&self, n: usize, mut map: impl FnMut(&K) -> T) -> Vec<T> {
        let now = self.lifetimes().now();
        let mut by_shard: Vec<_> = Vec::with_capacity(self.shards.len());
        for lane in &self.shards {
            let shard = lane.shard.read();
            let live = shard.hottest(n).filter(|found| self.is_live(&shard, *found, now));
            by_shard.push(live.map(|(_, node)| map(&node.key)).collect::<Vec<T>>().into_iter());
        }
        // Each shard knows only its own order: take the hottest of each, then the second of each.
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
        let counted = |lane: &Lane<K, V>| {
            let shard = lane.shard.read();
            let of_home = shard.nodes().filter(|(_, node)| home.is_none_or(|home| node.home() == home));
            of_home.filter(|found| self.is_live(&shard, *found, now)).count() as u64
        };
        self.shards.iter().map(counted).sum()
    }

    fn usage(&self) -> Usage {
        self.expire_all();
        self.budget.usage(self.shards.iter().map(|lane| lane.evictions.load(Relaxed)).sum())
    }

    fn settle(&self) {
        self.expire_all();
    }

    fn facts(&self) -> Option<StoreFacts> {
        Some(StoreFacts { engine: "sharded", policy: self.policy.name() })
    }
}
