//! The caches that requests are replayed against.

use foldhash::fast::RandomState;
use larder::{MemoryEngine, Policy, Result};
use moka::policy::EvictionPolicy;

use larder_simulate::policies::{POLICIES, cache};
use larder_simulate::{Weights, Workload};

/// The policy that is compared with all others.
pub(crate) const AUTO: &str = "larder Auto";
/// The cache that times are compared with.
pub(crate) const MEASURE: &str = "moka TinyLFU";

/// The names of the policies of Larder, in the order of [`POLICIES`].
const NAMES: [&str; 8] = [
    AUTO,
    "larder TinyLfu",
    "larder Lru",
    "larder Lfu",
    "larder S3Fifo",
    "larder Sieve",
    "larder Fifo",
    "larder Random",
];

/// A cache with its name.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    cache: Box<dyn Replay>,
}

impl Contender {
    fn new(name: &'static str, cache: impl Replay + 'static) -> Self {
        Self { name, cache: Box::new(cache) }
    }

    /// Makes these requests. Returns the number of hits.
    pub(crate) fn replay(&self, requests: &[u32], weights: &Weights) -> u64 {
        self.cache.replay(requests, weights)
    }
}

/// A new cache of each kind, with this bound.
///
/// # Errors
/// A bound that Larder does not allow.
pub(crate) fn all(workload: &Workload, room: u64) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for (name, (_, policy)) in NAMES.into_iter().zip(POLICIES) {
        contenders.push(Contender::new(name, cache(workload, room, MemoryEngine::Sharded, policy)?));
    }
    let engine = cache(workload, room, MemoryEngine::Moka, Policy::TinyLfu)?;
    contenders.push(Contender::new("larder, engine moka", engine));
    contenders.push(Contender::new(MEASURE, moka(workload, room, EvictionPolicy::tiny_lfu())));
    contenders.push(Contender::new("moka LRU", moka(workload, room, EvictionPolicy::lru())));
    contenders.push(Contender::new("foyer S3-FIFO", foyer(room, foyer::S3FifoConfig::default())));
    contenders.push(Contender::new("foyer LFU", foyer(room, foyer::LfuConfig::default())));
    contenders.push(Contender::new("foyer LRU", foyer(room, foyer::LruConfig::default())));
    contenders.push(Contender::new("quick_cache", quick(workload, room)));
    Ok(contenders)
}

type Larder = larder::Cache<u64, u32>;
type Moka = moka::sync::Cache<u64, u32, RandomState>;
type Foyer = foyer::Cache<u64, u32, RandomState>;
type Quick = quick_cache::sync::Cache<u64, u32, ByValue, RandomState>;

fn moka(workload: &Workload, room: u64, policy: EvictionPolicy) -> Moka {
    let builder = moka::sync::Cache::builder().max_capacity(room).eviction_policy(policy);
    match workload.weights {
        Weights::Entries => builder.build_with_hasher(RandomState::default()),
        Weights::Bytes(_) => builder.weigher(|_, weight| *weight).build_with_hasher(RandomState::default()),
    }
}

fn foyer(room: u64, config: impl Into<foyer::EvictionConfig>) -> Foyer {
    foyer::CacheBuilder::new(room as usize)
        .with_eviction_config(config)
        .with_hash_builder(RandomState::default())
        .with_weighter(|_: &u64, weight: &u32| *weight as usize)
        .build()
}

fn quick(workload: &Workload, room: u64) -> Quick {
    let (entries, hasher) = (workload.entries(room) as usize, RandomState::default());
    Quick::with(entries, room, ByValue, hasher, quick_cache::sync::DefaultLifecycle::default())
}

/// Weighs an entry by its value, which is its weight.
#[derive(Clone)]
struct ByValue;

impl quick_cache::Weighter<u64, u32> for ByValue {
    fn weight(&self, _: &u64, weight: &u32) -> u64 {
        u64::from(*weight)
    }
}

/// A cache of weights.
trait Weighing {
    fn find(&self, key: u64) -> Option<u32>;
    fn keep(&self, key: u64, weight: u32);
}

/// Makes many requests by one dynamic call.
trait Replay {
    fn replay(&self, requests: &[u32], weights: &Weights) -> u64;
}

impl<C: Weighing> Replay for C {
    fn replay(&self, requests: &[u32], weights: &Weights) -> u64 {
        let mut hits = 0;
        for key in requests {
            match self.find(u64::from(*key)) {
                Some(_) => hits += 1,
                None => self.keep(u64::from(*key), weights.of(*key)),
            }
        }
        hits
    }
}

impl Weighing for Larder {
    fn find(&self, key: u64) -> Option<u32> {
        self.get(&key)
    }
    fn keep(&self, key: u64, weight: u32) {
        self.insert(key, weight);
    }
}

impl Weighing for Moka {
    fn find(&self, key: u64) -> Option<u32> {
        self.get(&key)
    }
    fn keep(&self, key: u64, weight: u32) {
        self.insert(key, weight);
    }
}

impl Weighing for Foyer {
    fn find(&self, key: u64) -> Option<u32> {
        self.get(&key).map(|entry| *entry.value())
    }
    fn keep(&self, key: u64, weight: u32) {
        let _entry = self.insert(key, weight);
    }
}

impl Weighing for Quick {
    fn find(&self, key: u64) -> Option<u32> {
        self.get(&key)
    }
    fn keep(&self, key: u64, weight: u32) {
        self.insert(key, weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cache_hits_what_it_has_room_for() {
        let requests = (0..10).cycle().take(1_000);
        let entries = Workload::new("loop", String::new(), requests.clone());
        let bytes = Workload::new("loop", String::new(), requests).weighed(|_| 1_000);
        for (workload, room) in [(entries, 10_000), (bytes, 10_000_000)] {
            let contenders = all(&workload, room).unwrap();
            assert!(contenders.iter().any(|contender| contender.name == AUTO));
            assert!(contenders.iter().any(|contender| contender.name == MEASURE));
            for contender in contenders {
                let hits = contender.replay(&workload.requests, &workload.weights);
                assert_eq!(hits, 990, "{}", contender.name);
            }
        }
    }

    #[test]
    fn no_cache_hits_more_than_the_optimum() {
        let mut random = fastrand::Rng::with_seed(3);
        let workload = Workload::new("uniform", String::new(), (0..50_000).map(|_| random.u64(0..5_000)));
        let optimum = larder_simulate::optimum::share(&workload, 1_000);
        for contender in all(&workload, 1_000).unwrap() {
            let hits = contender.replay(&workload.requests, &workload.weights);
            let share = hits as f64 / workload.requests.len() as f64;
            assert!(share > 0.1 && share < optimum, "{}: {share} of {optimum}", contender.name);
        }
    }
}
