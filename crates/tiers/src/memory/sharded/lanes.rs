//! The part of a store that is not generic over keys and values.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use foldhash::quality::RandomState;
use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::Freshness;
use larder_core::erased::{AnyForm, Key, Memory, Value, VisitKey};
use larder_core::memory::{
    Bounds, Departure, DepartureCause, Hashed, Lifespan, Lifetimes, Record, Removed, StoreFacts,
};
use larder_core::tier::{TierKind, Usage};

use super::budget::Budget;
use super::node::Head;
use super::sampler::Sampler;
use super::shard::{AnyShard, Context, ShardCore};
use super::{AnyLane, shard_count, share_of};
use crate::memory::Policy;
use crate::memory::order::{USES_MAX, Uses};

/// What the shards of a store have in common.
pub(super) struct Common {
    pub(super) hasher: RandomState,
    pub(super) budget: Budget,
    pub(super) policy: Policy,
    /// Whether the policy moves entries on each hit, under the exclusive lock.
    pub(super) moves_on_hit: bool,
    pub(super) sampler: Sampler,
    /// The number of shards, a power of two.
    pub(super) shards: usize,
    lifetimes: OnceLock<Arc<dyn Lifetimes>>,
    /// The shard where the next eviction begins.
    next: AtomicUsize,
}

/// Used before [`attach`](Memory::attach): time stands still, and nothing expires.
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

impl Common {
    pub(super) fn new(bounds: Bounds, policy: Policy) -> Self {
        let shards = shard_count(bounds);
        Self {
            hasher: RandomState::default(),
            budget: Budget::new(bounds),
            policy,
            moves_on_hit: ShardCore::new(policy, 1).moves_on_hit(),
            sampler: Sampler::new(policy, bounds),
            shards,
            lifetimes: OnceLock::new(),
            next: AtomicUsize::new(0),
        }
    }

    /// A shard without entries.
    pub(super) fn shard(&self) -> ShardCore {
        let bounds = self.budget.bounds();
        let mut shard = ShardCore::new(self.policy, share_of(bounds, self.shards));
        if bounds.entries.is_none() {
            shard.pin_weightless();
        }
        shard
    }

    /// The lane of a hash. Uses other bits than the table of a shard, which uses the lower half.
    #[inline]
    pub(super) fn lane_of(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.shards - 1)
    }

    pub(super) fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        let _first_counts = self.lifetimes.set(lifetimes);
    }

    #[inline]
    fn lifetimes(&self) -> &dyn Lifetimes {
        self.lifetimes.get().map_or(&Timeless, |lifetimes| &**lifetimes)
    }

    /// Begins an exclusive operation on a shard.
    #[inline]
    pub(super) fn context(&self) -> Context<'_> {
        Context { account: self.budget.account(), lifetimes: self.lifetimes(), shards: self.shards }
    }

    pub(super) fn departure(&self, cause: DepartureCause, weight: u32, home: TierKind) -> Departure {
        let bytes = self.budget.bounds().bytes.map(|_| u64::from(weight));
        Departure { cause, bytes, home }
    }

    fn hash(&self, key: &dyn AnyForm) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        key.feed(&mut hasher);
        hasher.finish()
    }
}

/// The shards of a store, with keys and values of any type.
pub(super) trait Lanes: Send + Sync {
    fn common(&self) -> &Common;

    fn at(&self, lane: usize) -> &AnyLane;

    /// Runs an operation under the exclusive lock of a shard. Reports and drops the entries that left after the
    /// lock is released.
    fn exclusively(&self, lane: usize, work: &mut dyn FnMut(&mut AnyShard, &mut Context<'_>));

    /// Stores a record; see [`Memory::insert`].
    fn insert_any(&self, key: Key, record: Record<Value>) -> bool;
}

impl dyn Lanes + '_ {
    fn all(&self) -> impl Iterator<Item = &AnyLane> {
        (0..self.common().shards).map(|lane| self.at(lane))
    }

    /// Runs an operation under the exclusive lock of each shard in turn.
    fn in_each(&self, mut work: impl FnMut(&mut AnyShard, &mut Context<'_>)) {
        (0..self.common().shards).for_each(|lane| self.exclusively(lane, &mut work));
    }

    /// Finds the record of `key`, without its value, and passes it on with its shard. Counts a use if `is_use`.
    fn find<R>(&self, key: &dyn AnyForm, is_use: bool, found: impl FnOnce(&AnyShard, u32) -> R) -> Option<R> {
        let common = self.common();
        let hash = common.hash(key);
        let lane = self.at(common.lane_of(hash));
        let result = if is_use && common.moves_on_hit {
            let mut shard = lane.shard.write();
            shard.find_any(hash as u32, key).map(|slot| {
                shard.core.move_on_hit(slot);
                found(&shard, slot)
            })
        } else {
            let shard = lane.shard.read();
            shard.find_any(hash as u32, key).map(|slot| {
                if is_use {
                    count_use(&shard.nodes, slot);
                }
                found(&shard, slot)
            })
        };
        if is_use && common.sampler.takes(hash) {
            self.sample(hash, result.is_some());
        }
        result
    }

    /// Passes an access to the simulations, and applies the tuning that they found best.
    #[cold]
    pub(super) fn sample(&self, hash: u64, is_hit: bool) {
        let common = self.common();
        // As long as nothing had to leave, no policy has more hits than another.
        if is_hit && self.at(common.lane_of(hash)).evictions.load(Relaxed) == 0 {
            return;
        }
        if let Some(tuning) = common.sampler.access(hash, common.budget.capacity(), is_hit) {
            self.all().for_each(|lane| lane.shard.write().core.tune(tuning));
        }
    }

    /// Counts a miss for the policy, if it asks for that and the lock is free.
    #[cold]
    pub(super) fn note_miss(&self, hash: u64, key: &dyn AnyForm) {
        let lane = self.at(self.common().lane_of(hash));
        if let Some(mut shard) = lane.shard.try_write()
            && shard.find_any(hash as u32, key).is_none()
        {
            shard.core.missed(hash as u32);
        }
    }

    /// Evicts from the shards in turn until the limits hold. Spares the slot `keep` of a lane.
    #[cold]
    pub(super) fn make_room(&self, keep: Option<(usize, u32)>) {
        let common = self.common();
        let count = common.shards;
        let mut in_vain = 0;
        while common.budget.is_exceeded() && in_vain < count * 2 {
            let lane = common.next.fetch_add(1, Relaxed) % count;
            // First from the shards that hold more than their share, then from any.
            let share = common.budget.entries() / count as u64;
            if in_vain < count && (self.at(lane).len.load(Relaxed) as u64) < share {
                in_vain += 1;
                continue;
            }
            let keep = keep.filter(|(kept, _)| *kept == lane).map(|(_, slot)| slot);
            let mut is_evicted = false;
            self.exclusively(lane, &mut |shard, context| {
                is_evicted = shard.core.evict(keep, &mut shard.nodes, context);
            });
            in_vain = if is_evicted { 0 } else { in_vain + 1 };
        }
    }

    /// Returns whether a record holds a value that may be served now. The record of an absence holds none.
    fn is_live(&self, shard: &ShardCore, (slot, head): (u32, Head), now: Time) -> bool {
        let freshness = |life| self.common().lifetimes().freshness(life, now);
        head.has_value && freshness(shard.life(slot, head)) == Freshness::Fresh
    }

    pub(super) fn get(&self, key: &dyn AnyForm, is_use: bool) -> Option<Record<Value>> {
        self.find(key, is_use, |shard, slot| {
            Some(Record {
                value: shard.nodes.value(slot),
                ..shard.core.record(slot, shard.nodes.head(slot)?)
            })
        })?
    }

    pub(super) fn contains_hashed(&self, Hashed { hash, key }: Hashed<&dyn AnyForm>) -> bool {
        self.at(self.common().lane_of(hash)).shard.read().find_any(hash as u32, key).is_some()
    }

    /// Whether there is an entry of a key that the shard lacked when it had made this number of changes.
    pub(super) fn contains_since(&self, Hashed { hash, key }: Hashed<&dyn AnyForm>, changes: u64) -> bool {
        let shard = self.at(self.common().lane_of(hash)).shard.read();
        shard.core.changes() != changes && shard.find_any(hash as u32, key).is_some()
    }

    pub(super) fn contains(&self, key: &dyn AnyForm) -> bool {
        self.contains_hashed(Hashed { hash: self.common().hash(key), key })
    }

    pub(super) fn remove(&self, key: &dyn AnyForm) -> Option<Removed> {
        let hash = self.common().hash(key);
        let mut removed = None;
        self.exclusively(self.common().lane_of(hash), &mut |shard, context| {
            let slot = shard.find_any(hash as u32, key);
            removed = slot.and_then(|slot| shard.core.remove(slot, &mut shard.nodes, context));
        });
        removed
    }

    pub(super) fn clear(&self) {
        self.in_each(|shard, context| shard.core.clear(&mut shard.nodes, context));
    }

    pub(super) fn sweep(&self) -> u64 {
        let mut gone = 0;
        self.in_each(|shard, context| gone += shard.core.sweep(&mut shard.nodes, context));
        gone
    }

    /// Removes all entries that are due.
    pub(super) fn expire_all(&self) {
        self.in_each(|shard, context| shard.core.expire(usize::MAX, &mut shard.nodes, context));
    }

    pub(super) fn set_bounds(&self, bounds: Bounds) {
        let budget = &self.common().budget;
        if bounds.bytes.is_some() && !budget.counts_bytes() {
            // The only place that locks more than one shard.
            let shards: Vec<_> = self.all().map(|lane| lane.shard.write()).collect();
            budget.count_bytes(shards.iter().map(|shard| shard.core.weight(&shard.nodes)).sum());
        }
        budget.set(bounds);
        let share = share_of(bounds, self.common().shards);
        for lane in self.all() {
            let shard = &mut *lane.shard.write();
            shard.core.set_budget(share);
            shard.core.evict_weightless(bounds.entries.is_some(), &shard.nodes);
        }
        self.make_room(None);
    }

    pub(super) fn for_each_key(&self, visit: &mut VisitKey<'_>) {
        let now = self.common().lifetimes().now();
        for lane in self.all() {
            let shard = lane.shard.read();
            let live =
                shard.core.occupied(&shard.nodes).filter(|found| self.is_live(&shard.core, *found, now));
            live.filter_map(|(slot, _)| shard.nodes.key(slot)).for_each(&mut *visit);
        }
    }

    pub(super) fn hottest(&self, n: usize, visit: &mut VisitKey<'_>) -> Vec<usize> {
        let now = self.common().lifetimes().now();
        let (mut by_shard, mut visited) = (Vec::with_capacity(self.common().shards), 0);
        for lane in self.all() {
            let (shard, first) = (lane.shard.read(), visited);
            for found in shard.core.hottest(n, &shard.nodes) {
                if self.is_live(&shard.core, found, now)
                    && let Some(key) = shard.nodes.key(found.0)
                {
                    visit(key);
                    visited += 1;
                }
            }
            by_shard.push(first..visited);
        }
        // Each shard knows only its own order: take the hottest of each, then the second of each.
        let mut hottest = Vec::with_capacity(n.min(visited));
        while hottest.len() < n.min(visited) {
            hottest.extend(by_shard.iter_mut().filter_map(Iterator::next));
        }
        hottest.truncate(n);
        hottest
    }

    pub(super) fn count(&self, home: Option<TierKind>) -> u64 {
        let now = self.common().lifetimes().now();
        let counted = |lane: &AnyLane| {
            let shard = lane.shard.read();
            let entries = shard.core.occupied(&shard.nodes);
            let of_home = entries.filter(|(_, head)| home.is_none_or(|home| head.home == home));
            of_home.filter(|found| self.is_live(&shard.core, *found, now)).count() as u64
        };
        self.all().map(counted).sum()
    }

    pub(super) fn usage(&self) -> Usage {
        self.expire_all();
        self.common().budget.usage(self.all().map(|lane| lane.evictions.load(Relaxed)).sum())
    }

    pub(super) fn facts(&self) -> StoreFacts {
        StoreFacts { engine: "sharded", policy: self.common().policy.name() }
    }
}

fn count_use(nodes: &dyn Uses, slot: u32) {
    let uses = nodes.uses(slot);
    if uses < USES_MAX {
        nodes.set_uses(slot, uses + 1);
    }
}

/// A store for callers that do not know its types.
pub(super) struct ErasedStore(Arc<dyn Lanes>);

impl ErasedStore {
    // Not inlined: the trait object is made here, once.
    #[inline(never)]
    pub(super) fn over(lanes: Arc<dyn Lanes>) -> Arc<dyn Memory> {
        Arc::new(Self(lanes))
    }
}

impl Memory for ErasedStore {
    fn attach(&self, lifetimes: Arc<dyn Lifetimes>) {
        self.0.common().attach(lifetimes);
    }

    fn hasher(&self) -> Option<RandomState> {
        Some(self.0.common().hasher.clone())
    }

    fn releases_locks(&self) -> bool {
        true
    }

    fn uses_cost(&self) -> bool {
        self.0.common().policy == Policy::CostAware
    }

    fn get(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.0.get(key, true)
    }

    fn peek(&self, key: &dyn AnyForm) -> Option<Record<Value>> {
        self.0.get(key, false)
    }

    fn contains(&self, key: &dyn AnyForm) -> bool {
        self.0.contains(key)
    }

    fn contains_hashed(&self, key: Hashed<&dyn AnyForm>) -> bool {
        self.0.contains_hashed(key)
    }

    fn contains_since(&self, key: Hashed<&dyn AnyForm>, changes: u64) -> bool {
        self.0.contains_since(key, changes)
    }

    fn insert(&self, key: Key, record: Record<Value>) -> bool {
        self.0.insert_any(key, record)
    }

    fn remove(&self, key: &dyn AnyForm) -> Option<Removed> {
        self.0.remove(key)
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn sweep(&self) -> u64 {
        self.0.sweep()
    }

    fn set_bounds(&self, bounds: Bounds) -> Result<()> {
        self.0.set_bounds(bounds);
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        self.0.common().budget.bounds()
    }

    fn fits(&self, weight: u32) -> bool {
        self.0.common().budget.fits(weight)
    }

    fn count(&self, home: Option<TierKind>) -> u64 {
        self.0.count(home)
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn settle(&self) {
        self.0.expire_all();
    }

    fn facts(&self) -> Option<StoreFacts> {
        Some(self.0.facts())
    }

    fn for_each_key(&self, visit: &mut VisitKey<'_>) {
        self.0.for_each_key(visit);
    }

    fn hottest(&self, n: usize, visit: &mut VisitKey<'_>) -> Vec<usize> {
        self.0.hottest(n, visit)
    }
}
