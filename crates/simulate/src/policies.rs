//! The eviction policies of Larder, and the hits of each.

use larder::{Cache, MemoryEngine, Policy, Result};

use crate::{Weights, Workload};

/// Every policy with its name, the default first.
pub const POLICIES: [(&str, Policy); 8] = [
    ("Auto", Policy::Auto),
    ("TinyLfu", Policy::TinyLfu),
    ("Lru", Policy::Lru),
    ("Lfu", Policy::Lfu),
    ("S3Fifo", Policy::S3Fifo),
    ("Sieve", Policy::Sieve),
    ("Fifo", Policy::Fifo),
    ("Random", Policy::Random),
];

/// A cache with this bound, whose values are their weights.
///
/// # Errors
/// A bound that Larder does not allow.
pub fn cache(
    workload: &Workload,
    room: u64,
    engine: MemoryEngine,
    policy: Policy,
) -> Result<Cache<u64, u32>> {
    let builder = larder::mcache("replay").memory_engine(engine).policy(policy);
    match workload.weights {
        Weights::Entries => builder.capacity(room).build(),
        Weights::Bytes(_) => builder.memory_bytes(room).weigher(|_, weight| *weight).build(),
    }
}

/// The share of hits of a policy, in a cache with this bound. Zero for a workload without requests.
///
/// ```
/// use larder_simulate::{Workload, policies};
///
/// let workload = Workload::new("loop", String::new(), (0..10).cycle().take(100));
/// assert_eq!(policies::share(&workload, 1_000, larder::Policy::Auto)?, 0.9);
/// # Ok::<(), larder::Error>(())
/// ```
///
/// # Errors
/// A bound that Larder does not allow.
pub fn share(workload: &Workload, room: u64, policy: Policy) -> Result<f64> {
    let cache = cache(workload, room, MemoryEngine::Sharded, policy)?;
    let mut hits = 0_u64;
    for key in &workload.requests {
        match cache.get(&u64::from(*key)) {
            Some(_) => hits += 1,
            None => cache.insert(u64::from(*key), workload.weights.of(*key)),
        }
    }
    Ok(hits as f64 / workload.requests.len().max(1) as f64)
}
