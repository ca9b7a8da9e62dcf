//! One cache for memory, disk, files and Redis.
//!
//! A [`Cache`] stores each entry in the tier that suits it: small entries in memory, entries that outlive the
//! process on disk, large entries in files, and entries that other nodes read in Redis. A [`Selector`]
//! chooses the tier by the size and the kind of each value; [`Cache::explain`] shows its choice. Concurrent
//! callers of a missing entry, threads and tasks alike, share one load.
//!
//! Four functions build a cache:
//!
//! | function | entries live in | values must be |
//! |---|---|---|
//! | [`mcache`](fn@mcache) | memory | `Clone` |
#![cfg_attr(
    feature = "disk",
    doc = "| [`bcache`](fn@bcache) | disk: an LSM tree and segments, hot ones in memory too | serde types |"
)]
#![cfg_attr(feature = "file", doc = "| [`fcache`](fn@fcache) | one file each | serde types |")]
#![cfg_attr(
    feature = "_codec",
    doc = "| [`ucache`](fn@ucache) | wherever the selector puts them | serde types |"
)]
//!
//! # Features
//!
//! | feature | brings | default |
//! |---|---|---|
//! | `disk` | `bcache`, the disk tier | yes |
//! | `file` | `fcache`, the file tier | yes |
//! | `zstd` | zstd compression | yes |
//! | `async` | `AsyncCache` (tokio's runtime handle) | yes |
//! | `macros` | the attributes | yes |
//! | `moka` | `MemoryEngine::Moka`, beside the default engine of memory | yes |
//! | `redis` | a Redis or Valkey that several nodes share | no |
//! | `redis-tls` | the same over TLS | no |
//! | `opendal` | object storage: S3 and other services of Apache OpenDAL; brings `file` | no |
//! | `encrypt` | sealed entries and names: XChaCha20-Poly1305, BLAKE2b | no |
//! | `config` | configuration files in TOML | no |
//! | `lz4` | LZ4, for payloads below 16 KiB | no |
//! | `json` | the JSON codec, `serde_json::Value` as JSON | no |
//! | `ndarray`, `image`, `arrow` | their types in their natural formats | no |
//! | `metrics` | statistics to the recorder of the crate `metrics` | no |
//! | `observe` | a look into a running process over a Unix socket, for `larder top` and `larder serve` | no |
//!
//! With `default-features = false` there is memory alone, without serde, sled and tokio. Each of `disk`, `file`
//! and `redis` brings `ucache`.
//!
//! # Memory alone
//!
//! ```
//! let squares = larder::mcache::<u64, u64>("squares").capacity(10_000).build()?;
//! assert_eq!(squares.get_with(12, || 12 * 12), 144);
//! assert_eq!(squares.get(&12), Some(144));
//! # Ok::<(), larder::Error>(())
//! ```
#![cfg_attr(
    feature = "_codec",
    doc = r#"
# Placed by size

```
# let dir = tempfile::tempdir()?;
use larder::{Persistence, TierKind, ucache};

let pages = ucache::<String, String>("pages")
    .dir(dir.path())
    .persistence(Persistence::LongTerm)
    .build()?;

let placement = pages.try_insert("index".to_owned(), "<html>".repeat(10))?;
assert_eq!(placement.home, TierKind::Disk);
pages.close()?;

// Later, perhaps in another process:
let pages = ucache::<String, String>("pages").dir(dir.path()).build()?;
assert_eq!(pages.get("index").map(|page| page.len()), Some(60));
# Ok::<(), Box<dyn std::error::Error>>(())
```
"#
)]
#![cfg_attr(
    feature = "macros",
    doc = r#"
# Functions that remember

An attribute of the same name as a builder gives a function a cache:

```
#[larder::mcache]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

assert_eq!(fibonacci(80), 23_416_728_348_467_685);
assert!(fibonacci::contains(79));
```

[The page on attributes](https://github.com/larder-rs/larder/blob/main/docs/attributes.md)
has their options.
"#
)]
#![cfg_attr(
    feature = "async",
    doc = r#"
# Tasks

[`Cache::to_async`] gives a handle for tasks over the same cache:

```
# #[tokio::main(flavor = "current_thread")]
# async fn main() -> larder::Result<()> {
let pages = larder::mcache::<u32, String>("pages").build()?.to_async();
let page = pages.get_with(7, async { "page 7".to_owned() }).await;
assert_eq!(pages.get(&7).await, Some(page));
# Ok(())
# }
```
"#
)]
//!
//! # From another cache
//!
//! `moka::sync::Cache::new(100)` is `mcache("name").capacity(100).build()?`; `#[cached(max_size = 100)]` is
//! `#[larder::mcache(capacity = 100)]`.
//! [The page on migrating](https://github.com/larder-rs/larder/blob/main/docs/migrating.md) has moka,
//! `cached`, redb, cacache, http-cache and the caches of Python.
//!
//! # Read on
//! [The pages](https://github.com/larder-rs/larder#read-on) describe what each part does and guarantees;
//! `CHANGELOG.md` lists the changes of each version.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(
    target_family = "wasm",
    any(feature = "async", feature = "disk", feature = "file", feature = "redis")
))]
compile_error!(
    "on WebAssembly Larder has caches in memory alone, by `mcache`: depend on it with \
     `default-features = false`, without the features `async`, `disk`, `file` and `redis`, which need threads"
);

mod assemble;
#[cfg(feature = "async")]
mod async_cache;
mod builder;
mod cache;
mod compute;
mod config;
mod context;
#[cfg(feature = "async")]
mod entries;
pub mod events;
mod keys;
#[cfg(feature = "_codec")]
mod locked_dir;
mod memo;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "observe")]
pub mod observation;
mod options;
pub mod presets;
mod registry;
#[cfg(feature = "_codec")]
mod seal;
mod stream;
mod typed;

#[cfg(all(feature = "async", any(feature = "disk", feature = "file", feature = "redis")))]
pub use assemble::OnRuntime;
#[cfg(feature = "async")]
pub use async_cache::AsyncCache;
#[cfg(feature = "disk")]
pub use builder::bcache;
#[cfg(feature = "file")]
pub use builder::fcache;
pub use builder::{CacheKey, CacheValue, MemoryBuilder, mcache};
#[cfg(any(feature = "disk", feature = "file", feature = "redis"))]
pub use builder::{EncodedCacheKey, EncodedCacheValue, TieredBuilder, ucache};
pub use cache::Cache;
#[cfg(feature = "async")]
pub use context::with_context_async;
pub use context::{CacheContext, with_context};
#[cfg(feature = "async")]
pub use entries::Entries;
#[cfg(feature = "redis")]
pub use larder_core::bus::Coherence;
pub use larder_core::clock::{Clock, SystemClock, Time};
pub use larder_core::codec::Codec;
pub use larder_core::compress::Compress;
pub use larder_core::entry_meta::{EntryOptions, Tag};
pub use larder_core::events::Event;
pub use larder_core::frame::{CodecId, Compression, Frame};
pub use larder_core::key::{EncodedKey, Equivalent, Lookup};
pub use larder_core::latency::{Latency, TierLatency};
#[cfg(any(feature = "image", feature = "arrow"))]
pub use larder_core::natural;
pub use larder_core::place::{
    Access, EntryHints, Facts, Hint, HintSource, HintsUsed, Kind, Lesson, Persistence, Placement, Reckoning,
    Selector, Sharing, SizeClass, Thresholds, TierFacts, TierList, Yield,
};
pub use larder_core::stats::{CacheCounts, ServerFacts, Stats, TierCounts, TierStats};
pub use larder_core::stream::ByteValue;
pub use larder_core::tier::{
    BoxFuture, Capability, FailedWrites, Position, SharedTier, StreamingTier, Tier, TierKind, TierName,
    TierOptions, Usage, VersionedTier,
};
pub use larder_core::{Bytes, Durability, Error, ErrorKind, Result, kinds};
pub use larder_engine::selector::{Adaptive, Table};
pub use larder_engine::{
    Answer, Compute, Counter, Entry, EntryReader, Explanation, Invalidating, LoadContext, LoadError, Loaded,
};
#[cfg(feature = "macros")]
pub use larder_macros::{bcache, fcache, mcache, ucache};
#[cfg(feature = "opendal")]
pub use larder_opendal::{ObjectStorage, OpendalTier, opendal};
#[cfg(feature = "encrypt")]
pub use larder_seal::{KeyId, Keys, SealingKey};
pub use larder_tiers::memory::{MemoryEngine, Policy};
#[cfg(feature = "_codec")]
pub use locked_dir::path_segment;
#[cfg(feature = "async")]
pub use memo::AsyncMemo;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub use memo::attribute as __private;
pub use memo::{Many, Memo};
#[cfg(feature = "observe")]
pub use observation::observe;
pub use options::{Explained, OptionRow, Source, options};
pub use presets::{Preset, configure_for};
pub use registry::{
    CacheInfo, CacheKind, NamedStats, all_stats, caches, clear, clear_all, close_all, destroy,
};

/// Compiles and runs the examples of the README and of the pages in `docs/`.
#[cfg(all(doctest, feature = "disk", feature = "file", feature = "async", feature = "macros"))]
mod pages {
    macro_rules! pages {
        ($($name:ident: $path:literal,)+) => {$(
            #[doc = include_str!($path)]
            mod $name {}
        )+};
    }
    pages! {
        readme: "../../../README.md",
        expiry: "../../../docs/expiry.md",
        policies: "../../../docs/policies.md",
        loading: "../../../docs/loading.md",
        getting_started: "../../../docs/getting-started.md",
        invalidation: "../../../docs/invalidation.md",
        reliability: "../../../docs/reliability.md",
        routing: "../../../docs/routing.md",
        tiers: "../../../docs/tiers.md",
        values: "../../../docs/values.md",
        format: "../../../docs/format.md",
        attributes: "../../../docs/attributes.md",
        migrating: "../../../docs/migrating.md",
        life_cycle: "../../../docs/life-cycle.md",
        contexts: "../../../docs/contexts.md",
        configuration: "../../../docs/configuration.md",
        presets: "../../../docs/presets.md",
        large_values: "../../../docs/large-values.md",
        compression: "../../../docs/compression.md",
        frameworks: "../../../docs/frameworks.md",
        own_tiers: "../../../docs/own-tiers.md",
        observability: "../../../docs/observability.md",
        live: "../../../docs/live.md",
    }
    #[cfg(feature = "encrypt")]
    pages! {
        sealing: "../../../docs/sealing.md",
    }
    #[cfg(feature = "opendal")]
    pages! {
        object_storage: "../../../docs/object-storage.md",
    }
    #[cfg(feature = "redis")]
    pages! {
        coherence: "../../../docs/coherence.md",
        redis: "../../../docs/redis.md",
        resilience: "../../../docs/resilience.md",
    }
}
