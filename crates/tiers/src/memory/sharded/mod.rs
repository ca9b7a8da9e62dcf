//! The default memory engine: a sharded hash table with its own eviction policies.
//!
//! A hit takes the shared lock of one shard, clones a handle of the value and increments the use count of the
//! entry. All other operations take the exclusive lock of a shard. Limits and accounting are global: an entry
//! may use the space of any other shard. Removed values are dropped after the locks are released and before
//! the call returns.
//!
//! A hit, and what puts keys and values into slots and drops them, is compiled for each pair of types
//! (`store.rs`, `node.rs`). All else is compiled once (`lanes.rs`, `shard.rs`).

mod budget;
mod dismissal;
mod facts;
mod lanes;
mod node;
mod sampler;
mod shard;
mod slab;
mod store;
mod table;
mod timers;

#[cfg(test)]
mod tests;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

use larder_core::erased::Memory;
use larder_core::memory::{Bounds, OnDeparture};
use parking_lot::RwLock;

use self::dismissal::Waiting;
use self::lanes::{Common, ErasedStore, Lanes};
use self::node::{AnyNodes, Nodes, clones_in_place};
use self::shard::{Shard, ShardCore};
use super::Policy;

/// The minimum number of entries per shard, so that its policy has a choice.
const ENTRIES_PER_SHARD: u64 = 1024;
/// The same in bytes, for entries of about 256 bytes.
const BYTES_PER_SHARD: u64 = 256 << 10;
const SHARDS_PER_CPU: usize = 4;
const SHARDS_MAX: usize = 256;

/// A sharded memory store.
pub struct ShardedStore<K, V> {
    lanes: Box<[Lane<Nodes<K, V>>]>,
    common: Common,
    /// Whether hits clone values under the lock.
    in_place: bool,
    on_departure: Option<OnDeparture>,
    waiting: Waiting<K, V>,
}

/// A shard with its lock, in its own cache lines.
#[repr(align(128))]
struct Lane<N: ?Sized> {
    /// Number of entries in the shard, readable without the lock.
    len: AtomicUsize,
    /// Number of evictions from the shard, readable without the lock.
    evictions: AtomicU64,
    shard: RwLock<Shard<N>>,
}

/// A lane whose types are not known.
type AnyLane = Lane<dyn AnyNodes>;

impl<N: Default> Lane<N> {
    fn new(core: ShardCore) -> Self {
        let shard = RwLock::new(Shard { core, nodes: N::default() });
        Self { len: AtomicUsize::new(0), evictions: AtomicU64::new(0), shard }
    }
}

impl<N: ?Sized> Lane<N> {
    #[inline]
    fn note(&self, shard: &ShardCore) {
        self.len.store(shard.len(), Relaxed);
        self.evictions.store(shard.evictions(), Relaxed);
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
    pub fn with(bounds: Bounds, policy: Policy, on_departure: Option<OnDeparture>) -> Self {
        let common = Common::new(bounds, policy);
        Self {
            lanes: (0..common.shards).map(|_| Lane::new(common.shard())).collect(),
            common,
            in_place: clones_in_place::<V>(),
            on_departure,
            waiting: Waiting::default(),
        }
    }

    /// The same store for callers that do not know its types.
    pub fn erased(self: Arc<Self>) -> Arc<dyn Memory> {
        ErasedStore::over(self)
    }

    #[inline]
    fn lane(&self, hash: u64) -> &Lane<Nodes<K, V>> {
        &self.lanes[self.common.lane_of(hash)]
    }

    /// The store without its types.
    fn any(&self) -> &dyn Lanes {
        self
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
