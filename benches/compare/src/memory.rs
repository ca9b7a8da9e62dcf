//! Hits and inserts in memory, compared with moka with its defaults and the same hasher, quick_cache, and a
//! sharded map without eviction.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::harness::{Row, shuffled};

type Value = Arc<[u8; 64]>;

const ENTRIES: usize = 100_000;
const OPERATIONS: usize = 200_000;

/// A map in 64 locked shards: a lower bound for the cost of a cache.
struct Sharded {
    shards: Vec<RwLock<HashMap<u64, Value, RandomState>>>,
    hasher: RandomState,
}

impl Sharded {
    fn new() -> Self {
        Self { shards: (0..64).map(|_| RwLock::default()).collect(), hasher: RandomState::default() }
    }

    fn shard(&self, key: u64) -> &RwLock<HashMap<u64, Value, RandomState>> {
        &self.shards[(self.hasher.hash_one(key) >> 58) as usize]
    }

    fn get(&self, key: u64) -> Option<Value> {
        self.shard(key).read().get(&key).cloned()
    }

    fn insert(&self, key: u64, value: Value) {
        self.shard(key).write().insert(key, value);
    }
}

type Quick = quick_cache::sync::Cache<u64, Value, quick_cache::UnitWeighter, RandomState>;

fn quick(capacity: usize) -> Quick {
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    Quick::with(capacity, capacity as u64, quick_cache::UnitWeighter, RandomState::default(), lifecycle)
}

struct Rivals {
    moka: moka::sync::Cache<u64, Value, RandomState>,
    larder: larder::Cache<u64, Value>,
    quick: Quick,
    sharded: Sharded,
}

impl Rivals {
    fn new(capacity: usize) -> larder::Result<Self> {
        let moka = moka::sync::Cache::builder()
            .max_capacity(capacity as u64)
            .build_with_hasher(RandomState::default());
        let larder = larder::mcache("compare").capacity(capacity as u64).build()?;
        let quick = quick(capacity);
        Ok(Self { moka, larder, quick, sharded: Sharded::new() })
    }

    fn fill(&self, value: &Value) {
        for key in 0..ENTRIES as u64 {
            self.moka.insert(key, Arc::clone(value));
            self.larder.insert(key, Arc::clone(value));
            self.quick.insert(key, Arc::clone(value));
            self.sharded.insert(key, Arc::clone(value));
        }
        self.moka.run_pending_tasks();
        let _settled = self.larder.stats();
    }
}

/// Prints the rows of memory.
pub(crate) fn run() -> larder::Result<()> {
    let value: Value = Arc::new([7; 64]);
    hits(&value)?;
    inserts(&value)?;
    loads(&value)?;
    removals(&value)?;
    loads_of_tasks(&value)?;
    bytes_kept(&value)?;
    allocations(&value)
}

fn hits(value: &Value) -> larder::Result<()> {
    let rivals = Rivals::new(ENTRIES * 2)?;
    rivals.fill(value);
    let order = shuffled(ENTRIES);
    let key = |operation: usize| order[operation % ENTRIES] as u64;
    Row::new("memory hit, one thread (100,000 entries, u64 to Arc of 64 bytes)", OPERATIONS)
        .with("moka, same hasher", |n| drop(black_box(rivals.moka.get(&key(n)))))
        .with("larder mcache", |n| drop(black_box(rivals.larder.get(&key(n)))))
        .with("quick_cache", |n| drop(black_box(rivals.quick.get(&key(n)))))
        .with("sharded map, no eviction", |n| drop(black_box(rivals.sharded.get(key(n)))))
        .run();
    both_cores(&rivals, &order);
    Ok(())
}

fn both_cores(rivals: &Rivals, order: &[usize]) {
    const BATCH: usize = 50_000;
    fn twice(order: &[usize], get: impl Fn(u64) + Sync) {
        std::thread::scope(|scope| {
            for half in 0..2 {
                let get = &get;
                scope.spawn(move || {
                    for n in 0..BATCH {
                        get(order[(n * 2 + half) % ENTRIES] as u64);
                    }
                });
            }
        });
    }
    Row::new("memory hit, two threads (an operation is 100,000 hits)", 4)
        .with("moka, same hasher", |_| twice(order, |key| drop(black_box(rivals.moka.get(&key)))))
        .with("larder mcache", |_| twice(order, |key| drop(black_box(rivals.larder.get(&key)))))
        .with("quick_cache", |_| twice(order, |key| drop(black_box(rivals.quick.get(&key)))))
        .with("sharded map, no eviction", |_| twice(order, |key| drop(black_box(rivals.sharded.get(key)))))
        .run();
}

fn inserts(value: &Value) -> larder::Result<()> {
    let rivals = Rivals::new(ENTRIES / 2)?;
    rivals.fill(value);
    let order = shuffled(ENTRIES);
    let key = |operation: usize| order[operation % ENTRIES] as u64;
    Row::new("memory insert, twice as many keys as fit", OPERATIONS / 2)
        .with("moka, same hasher", |n| rivals.moka.insert(key(n), Arc::clone(value)))
        .with("larder mcache", |n| rivals.larder.insert(key(n), Arc::clone(value)))
        .with("quick_cache", |n| rivals.quick.insert(key(n), Arc::clone(value)))
        .with("sharded map, no eviction", |n| rivals.sharded.insert(key(n), Arc::clone(value)))
        .run();
    Ok(())
}

/// A key that is not in the cache: each call returns another one.
fn unused_keys() -> impl FnMut() -> u64 {
    let mut next = 0_u64;
    move || {
        next += 1;
        next.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn loads(value: &Value) -> larder::Result<()> {
    let rivals = Rivals::new(ENTRIES / 2)?;
    rivals.fill(value);
    let (mut of_moka, mut of_larder, mut of_quick) = (unused_keys(), unused_keys(), unused_keys());
    Row::new("memory get_with, miss, loads at once", OPERATIONS / 2)
        .with("moka, same hasher", |_| {
            drop(black_box(rivals.moka.get_with(of_moka(), || Arc::clone(value))));
        })
        .with("larder mcache", |_| {
            drop(black_box(rivals.larder.get_with(of_larder(), || Arc::clone(value))));
        })
        .with("quick_cache", |_| {
            let load = || Ok::<_, ()>(Arc::clone(value));
            drop(black_box(rivals.quick.get_or_insert_with(&of_quick(), load)));
        })
        .run();
    Ok(())
}

fn removals(value: &Value) -> larder::Result<()> {
    let rivals = Rivals::new(ENTRIES * 2)?;
    rivals.fill(value);
    let order = shuffled(ENTRIES);
    let key = |operation: usize| order[operation % ENTRIES] as u64;
    // Removed keys are inserted again by the other half of the operations.
    let inserts = |operation: usize| (operation / ENTRIES).is_multiple_of(2);
    Row::new("memory remove, and insert again (half of the operations each)", ENTRIES)
        .with("moka, same hasher", |n| match inserts(n) {
            true => rivals.moka.invalidate(&key(n)),
            false => rivals.moka.insert(key(n), Arc::clone(value)),
        })
        .with("larder mcache", |n| match inserts(n) {
            true => {
                black_box(rivals.larder.remove(&key(n)));
            }
            false => rivals.larder.insert(key(n), Arc::clone(value)),
        })
        .with("quick_cache", |n| match inserts(n) {
            true => drop(black_box(rivals.quick.remove(&key(n)))),
            false => rivals.quick.insert(key(n), Arc::clone(value)),
        })
        .run();
    Ok(())
}

/// Loads of tasks, 100 in one operation.
fn loads_of_tasks(value: &Value) -> larder::Result<()> {
    const BATCH: usize = 100;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| larder::Error::config("tokio", error, "a runtime"))?;
    let moka = moka::future::Cache::builder()
        .max_capacity(ENTRIES as u64 / 2)
        .build_with_hasher(RandomState::default());
    let larder = larder::mcache::<u64, Value>("tasks").capacity(ENTRIES as u64 / 2).build()?.to_async();
    let (mut of_moka, mut of_larder) = (unused_keys(), unused_keys());
    Row::new("memory get_with of a task, miss, loads at once (an operation is 100 of them)", 500)
        .with("moka, same hasher", |_| {
            runtime.block_on(async {
                for _ in 0..BATCH {
                    drop(black_box(moka.get_with(of_moka(), async { Arc::clone(value) }).await));
                }
            });
        })
        .with("larder mcache", |_| {
            runtime.block_on(async {
                for _ in 0..BATCH {
                    drop(black_box(larder.get_with(of_larder(), async { Arc::clone(value) }).await));
                }
            });
        })
        .run();
    Ok(())
}

/// Prints the bytes that a full cache keeps for an entry, beside the value.
fn bytes_kept(value: &Value) -> larder::Result<()> {
    let kept = |fill: &dyn Fn() -> Box<dyn std::any::Any>| {
        let mut cache: Option<Box<dyn std::any::Any>> = None;
        let measured = allocation_counter::measure(|| cache = Some(fill()));
        drop(cache);
        measured.bytes_current / ENTRIES as i64
    };
    let moka = kept(&|| {
        let cache = moka::sync::Cache::builder()
            .max_capacity(ENTRIES as u64)
            .build_with_hasher(RandomState::default());
        (0..ENTRIES as u64 * 2).for_each(|key| cache.insert(key, Arc::clone(value)));
        cache.run_pending_tasks();
        Box::new(cache)
    });
    let quick = kept(&|| {
        let cache = quick(ENTRIES);
        (0..ENTRIES as u64 * 2).for_each(|key| cache.insert(key, Arc::clone(value)));
        Box::new(cache)
    });
    let cache = larder::mcache::<u64, Value>("kept").capacity(ENTRIES as u64).build()?;
    let larder = kept(&|| {
        (0..ENTRIES as u64 * 2).for_each(|key| cache.insert(key, Arc::clone(value)));
        Box::new(())
    });
    println!("\nbytes kept an entry, key and pointer to the value (16 B) included");
    println!("  moka {moka}, larder {larder}, quick_cache {quick}");
    Ok(())
}

/// Counts the allocations of 10,000 hits.
fn allocations(value: &Value) -> larder::Result<()> {
    let rivals = Rivals::new(ENTRIES * 2)?;
    rivals.fill(value);
    let count = |get: &dyn Fn(u64)| {
        (0..1000).for_each(get);
        allocation_counter::measure(|| (0..10_000).for_each(get)).count_total
    };
    let moka = count(&|key| drop(black_box(rivals.moka.get(&key))));
    let larder = count(&|key| drop(black_box(rivals.larder.get(&key))));
    println!("\nallocations in 10,000 memory hits: moka {moka}, larder {larder}");
    Ok(())
}
