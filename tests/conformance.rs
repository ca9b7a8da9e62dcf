//! Conformance of every tier to the `Tier` trait: bare, wrapped, and behind pointers.

use std::sync::Arc;
use std::time::Duration;

use larder_core::Durability;
use larder_core::clock::{Clock, SystemClock};
use larder_core::memory::Bounds;
use larder_core::stats::TierCounters;
use larder_core::tier::Tier;
use larder_engine::layers::{Breaker, Layered, Limit, Observe};
use larder_testkit::conformance::{self, Subject, TypedMemory};
use larder_testkit::{HashMapTier, MapStorage, SharedMapStorage, SharedMapTier};
use larder_tiers::disk::{CROSSOVER_BYTES, DiskOptions, DiskTier};
use larder_tiers::file::{FileOptions, FileTier};
use larder_tiers::memory::{MemoryEngine, Policy, ShardedStore, Store};
use larder_tiers::{DiskBudget, NullTier};

fn check(subject: &Subject) {
    conformance::run(subject).assert_all();
    conformance::run(&subject.through_arc()).assert_all();
    conformance::run(&subject.through_box()).assert_all();
    conformance::run(&subject.wrapped("in all layers", |tier| Box::new(layered(tier)))).assert_all();
}

/// Wraps a tier in the layers that the engine uses.
pub(crate) fn layered<T: Tier>(tier: T) -> impl Tier {
    Layered::new(tier, Arc::default(), &(Arc::new(SystemClock) as Arc<dyn Clock>), Duration::from_secs(60))
}

/// Wraps a tier in the same layers, each a tier of its own.
fn in_each_layer<T: Tier>(tier: T) -> impl Tier {
    let counters = Arc::new(TierCounters::default());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let limited = Limit::new(tier, Arc::clone(&counters), Duration::from_secs(60));
    Observe::new(Breaker::new(limited, Arc::clone(&counters), &clock), counters)
}

fn disk(name: &str, crossover: u64, durability: Durability) -> Subject {
    Subject::new(name, move || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let dir = dir.path().join("disk");
            let budget = DiskBudget::new(256 << 20).share();
            DiskTier::open(DiskOptions { dir, budget, crossover, durability }).unwrap()
        }
    })
}

fn files(name: &str, durability: Durability) -> Subject {
    Subject::new(name, move || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let dir = dir.path().join("files");
            FileTier::open(FileOptions {
                dir,
                shared: false,
                budget: DiskBudget::new(256 << 20).share(),
                durability,
            })
            .unwrap()
        }
    })
}

fn hash_map() -> Subject {
    Subject::new("hash map", || {
        let storage = MapStorage::default();
        move || HashMapTier::on(&storage)
    })
}

fn shared_map() -> Subject {
    Subject::new("shared map", || {
        let storage = SharedMapStorage::default();
        move || SharedMapTier::on(&storage)
    })
}

/// Streams, versions and what nodes share reach the inner tier through every wrapper.
#[test]
fn reference_tiers_conform_in_all_layers() {
    check(&hash_map());
    check(&shared_map());
}

#[test]
fn reference_tiers_conform_in_layers_that_are_tiers_of_their_own() {
    for subject in [hash_map(), shared_map()] {
        conformance::run(&subject.wrapped("in each layer", |tier| Box::new(in_each_layer(tier))))
            .assert_all();
    }
}

#[test]
fn null_tier_conforms() {
    check(&Subject::new("null", || || NullTier));
}

fn shared_files() -> Subject {
    Subject::new("file, shared", || {
        let dir = tempfile::tempdir().unwrap();
        move || {
            let dir = dir.path().join("files");
            let budget = DiskBudget::new(256 << 20).share();
            FileTier::open(FileOptions { dir, shared: true, budget, durability: Durability::Buffered })
                .unwrap()
        }
    })
}

#[test]
fn shared_file_tier_conforms() {
    check(&shared_files());
}

#[test]
fn file_tier_conforms() {
    check(&files("file", Durability::Buffered));
}

#[test]
fn disk_tier_conforms() {
    check(&disk("disk", CROSSOVER_BYTES, Durability::Buffered));
}

#[test]
fn disk_tier_with_all_entries_in_segments_conforms() {
    conformance::run(&disk("disk, segments alone", 0, Durability::Buffered)).assert_all();
}

#[test]
fn disk_and_file_tiers_conform_under_every_durability() {
    for durability in [Durability::Flushed, Durability::Synced] {
        conformance::run(&disk(&format!("disk, {durability}"), CROSSOVER_BYTES, durability)).assert_all();
        conformance::run(&files(&format!("file, {durability}"), durability)).assert_all();
    }
}

#[test]
fn every_memory_engine_and_policy_conforms() {
    let ours = POLICIES.map(|policy| (MemoryEngine::Sharded, policy));
    let engines = [(MemoryEngine::Moka, Policy::TinyLfu), (MemoryEngine::Moka, Policy::Lru)];
    for (engine, policy) in ours.into_iter().chain(engines) {
        for (bounds, max) in [(Bounds::entries(1000), None), (Bounds::bytes(10_000), Some(10_000))] {
            let name = format!("{engine:?}, {policy:?}, {bounds:?}");
            let store = || Store::<u64, String>::new(engine, bounds, policy, None);
            conformance::memory(&name, max, || TypedMemory::over(Arc::clone(store().erased()))).assert_all();
            if engine == MemoryEngine::Sharded {
                conformance::memory(&name, max, || ShardedStore::new(bounds, policy)).assert_all();
            }
        }
    }
}

const POLICIES: [Policy; 9] = [
    Policy::Auto,
    Policy::TinyLfu,
    Policy::Lru,
    Policy::Lfu,
    Policy::S3Fifo,
    Policy::Sieve,
    Policy::Fifo,
    Policy::Random,
    Policy::CostAware,
];
