//! The sets of tiers over which a promise about entries is tested.

use std::hash::Hash;
use std::path::Path;

use larder::{Cache, Persistence, TieredBuilder};
use larder_testkit::ManualClock;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use larder_testkit::ManualClock as Hands;

/// Runs a check over memory alone and over each set of tiers, with changed options of the builder.
macro_rules! each_shelf {
    (<$key:ty, $value:ty>, |$builder:ident| $options:expr, $check:expr) => {{
        let check = $check;
        let clock = $crate::tier_sets::Hands::default();
        let $builder = larder::mcache::<$key, $value>("shelf").clock(clock.clone());
        check("memory", $options.build().unwrap(), clock);
        for shelf in $crate::tier_sets::TIERED {
            let dir = tempfile::tempdir().unwrap();
            let clock = $crate::tier_sets::Hands::default();
            let $builder = $crate::tier_sets::tiered::<$key, $value>(shelf, dir.path(), &clock);
            let cache = $options.build().unwrap();
            check(shelf, cache.clone(), clock);
            cache.close().unwrap();
        }
    }};
}

pub(crate) use each_shelf;

pub(crate) const TIERED: [&str; 5] =
    ["all tiers", "disk", "disk without memory", "files", "files without memory"];

/// Returns a builder of one set of tiers.
pub(crate) fn tiered<K, V>(shelf: &str, dir: &Path, clock: &ManualClock) -> TieredBuilder<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let builder = match shelf {
        "all tiers" => larder::ucache("shelf").persistence(Persistence::LongTerm),
        "disk" => larder::bcache("shelf"),
        "disk without memory" => larder::bcache("shelf").memory_bytes(0),
        "files" => larder::fcache("shelf"),
        _ => larder::fcache("shelf").memory_bytes(0),
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
