//! The sets of tiers over which a promise about entries is tested.

use std::hash::Hash;
use std::path::Path;

use larder::{Cache, Persistence, TieredBuilder};
use larder_testkit::ManualClock;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs a check over memory alone and over each set of tiers, with changed options of the builder.
macro_rules! each_tier_set {
    (<$key:ty, $value:ty>, |$builder:ident| $options:expr, $check:expr) => {{
        let check = $check;
        let clock = larder_testkit::ManualClock::default();
        let $builder = larder::mcache::<$key, $value>("cache").clock(clock.clone());
        check("memory", $options.build().unwrap(), clock);
        for tier_set in $crate::tier_sets::TIER_SETS {
            let dir = tempfile::tempdir().unwrap();
            let clock = larder_testkit::ManualClock::default();
            let $builder = $crate::tier_sets::tiered::<$key, $value>(tier_set, dir.path(), &clock);
            let cache = $options.build().unwrap();
            check(tier_set, cache.clone(), clock);
            cache.close().unwrap();
        }
    }};
}

pub(crate) use each_tier_set;

pub(crate) const TIER_SETS: [&str; 5] =
    ["all tiers", "disk", "disk without memory", "files", "files without memory"];

/// Returns a builder of one set of tiers.
pub(crate) fn tiered<K, V>(tier_set: &str, dir: &Path, clock: &ManualClock) -> TieredBuilder<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let builder = match tier_set {
        "all tiers" => larder::ucache("cache").persistence(Persistence::LongTerm),
        "disk" => larder::bcache("cache"),
        "disk without memory" => larder::bcache("cache").memory_bytes(0),
        "files" => larder::fcache("cache"),
        _ => larder::fcache("cache").memory_bytes(0),
    };
    builder.dir(dir).disk_bytes(16 << 20).clock(clock.clone())
}

/// Closes a cache over a directory and opens the directory again.
pub(crate) fn reopened<K, V>(cache: Cache<K, V>, builder: TieredBuilder<K, V>) -> Cache<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    cache.close().unwrap();
    drop(cache);
    builder.build().unwrap()
}
