//! `ucache`, `bcache` and `fcache`: the builder of caches with byte tiers behind memory.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use larder_core::Result;
use larder_core::clock::{Clock, SystemClock};
use larder_core::codec::{Codec, ValueCodec};
use larder_core::erased::{AnyKeyCodec, Value};
use larder_core::key::CanonicalForm;
use larder_core::kinds;
use larder_core::memory::Bounds;
use larder_core::place::Kind;
use larder_core::tier::{Position, Tier, TierKind};
use larder_engine::{Engine, EventSink, TtlBy, Weigher};
use larder_tiers::memory::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::listener::listener_option;
use super::observe::{observe_keys_option, observe_options};
use super::plan::{key_codec, value_codec};
use super::tiers::tier_options;
use super::time::{self, time_options, ttl_by_option};
use super::{CAPACITY_MAX, EncodedCacheKey, EncodedCacheValue, GivenOptions, MEMORY_BYTES, plan, within};
use crate::Cache;
use crate::assemble::{self, CodedParts, MemoryPlan, OpenStore, OwnTier, TieredPlan, open};
use crate::config::url::UrlConfig;
use crate::context::Scope;
use crate::options::values::Urls;
use crate::options::{Explained, Resolved, Settings, Source};
use crate::presets::Preset;
use crate::registry::CacheKind;
use crate::seal::GivenKeys;
use crate::typed::of_entry;

/// A cache whose selector places each entry in memory, on disk or in a file.
///
/// The name of the cache determines its directory; see [`dir`](TieredBuilder::dir).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::{TierKind, ucache};
///
/// let results = ucache::<u32, Vec<f64>>("results").dir(dir.path()).build()?;
/// assert_eq!(results.try_insert(1, vec![0.5; 10])?.home, TierKind::Memory);
/// assert_eq!(results.try_insert(2, vec![0.5; 1_000_000])?.home, TierKind::File);
/// # results.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ucache<K, V>(name: impl Into<String>) -> TieredBuilder<K, V>
where
    K: EncodedCacheKey,
    V: EncodedCacheValue,
{
    TieredBuilder::new(name.into(), None, DEFAULT_MEMORY_BYTES)
}

/// A cache on disk, with a small memory tier for hot entries.
///
/// Entries survive the process. Values below the size crossover are stored in an LSM tree, larger ones in segment
/// files beside it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::{TierKind, bcache};
///
/// let reports = bcache::<String, (u64, String)>("reports").dir(dir.path()).disk_bytes(64 << 20).build()?;
/// let placement = reports.try_insert("may".to_owned(), (7, "fine".to_owned()))?;
/// assert_eq!(placement.home, TierKind::Disk);
/// # reports.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "disk")]
pub fn bcache<K, V>(name: impl Into<String>) -> TieredBuilder<K, V>
where
    K: EncodedCacheKey,
    V: EncodedCacheValue,
{
    TieredBuilder::new(name.into(), Some(TierKind::Disk), FRONT_MEMORY_BYTES)
}

/// A cache that stores each entry in its own file, for large values.
///
/// Entries survive the process. Memory keeps copies of values below 1 MiB.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::{Bytes, Compress, fcache};
///
/// let renders = fcache::<u64, Bytes>("renders").dir(dir.path()).compress(Compress::zstd(3)).build()?;
/// renders.insert(1, Bytes::from(vec![0; 2 << 20]));
/// assert_eq!(renders.get(&1).map(|image| image.len()), Some(2 << 20));
/// # renders.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "file")]
pub fn fcache<K, V>(name: impl Into<String>) -> TieredBuilder<K, V>
where
    K: EncodedCacheKey,
    V: EncodedCacheValue,
{
    TieredBuilder::new(name.into(), Some(TierKind::File), FRONT_MEMORY_BYTES)
}

/// The memory budget of `ucache`, by default.
const DEFAULT_MEMORY_BYTES: u64 = 64 << 20;
/// The memory budget of `bcache` and `fcache`, by default.
#[cfg(any(feature = "disk", feature = "file"))]
const FRONT_MEMORY_BYTES: u64 = 16 << 20;
/// Builder of a cache with byte tiers; created by [`ucache`], `bcache` and `fcache`.
#[must_use = "a builder does nothing until `build()`"]
pub struct TieredBuilder<K, V> {
    pub(super) untyped: Untyped,
    canonical: Option<CanonicalForm<K>>,
    #[cfg(feature = "observe")]
    key_options: crate::observation::KeyOptions,
    values: PhantomData<fn() -> V>,
}

/// The part of a builder that does not depend on the types, compiled once.
pub(super) struct Untyped {
    given: GivenOptions,
    home: Option<TierKind>,
    default_memory_bytes: u64,
    weigher: Option<Weigher>,
    ttl_by: Option<TtlBy>,
    listener: Option<EventSink>,
    clock: Arc<dyn Clock>,
    own: Vec<OwnTier>,
    pub(super) keys: GivenKeys,
    /// Whether the directory is opened for reading.
    pub(super) is_read_only: bool,
}

impl<K, V> fmt::Debug for TieredBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder")
            .field("given", &self.untyped.given)
            .field("home", &self.untyped.home)
            .finish_non_exhaustive()
    }
}

impl<K, V> TieredBuilder<K, V>
where
    K: Hash + Eq + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn new(name: String, home: Option<TierKind>, default_memory_bytes: u64) -> Self {
        let untyped = Untyped {
            given: GivenOptions::new(name),
            home,
            default_memory_bytes,
            weigher: None,
            ttl_by: None,
            listener: None,
            clock: Arc::new(SystemClock),
            own: Vec::new(),
            keys: Default::default(),
            is_read_only: false,
        };
        Self {
            untyped,
            canonical: None,
            #[cfg(feature = "observe")]
            key_options: Default::default(),
            values: PhantomData,
        }
    }

    /// Sets an option from a method of the builder.
    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.untyped.given.code);
        self
    }

    /// Builds the cache inside `scope`.
    pub(crate) fn within(mut self, scope: &Arc<Scope>) -> Self {
        self.untyped.given.scope = Some(Arc::clone(scope));
        self
    }

    /// Describes tiers and options by URLs, one for each tier, separated by spaces. Schemes: `disk:///dir`
    /// and `file:///dir` with an absolute path, `redis://host`, `s3://bucket/prefix`, `null:` for a tier that
    /// stores nothing, and `memory:`, which adds a memory tier in front of the others; without it there is none.
    /// Options are parameters, as in `disk:///dir?compress=zstd:3&ttl=1h+30m`. Options set by methods of the
    /// builder override them. A variable or the configuration file can set the URLs too; see [the page on
    /// configuration][page].
    ///
    /// [page]: https://github.com/larder-rs/larder/blob/main/docs/configuration.md
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let url = format!("memory: disk://{}?disk_bytes=64+MiB", dir.path().display());
    /// let reports = larder::ucache::<u32, String>("reports").url(url).build()?;
    /// reports.insert(1, "fine".to_owned());
    /// # reports.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn url(mut self, urls: impl Into<String>) -> Self {
        self.untyped.given.code.url = Some(Urls::new(urls.into()));
        self
    }

    /// Applies a set of options for a sort of values; see [`presets`](crate::presets). Options set by methods
    /// of the builder override it.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.untyped.given.preset = Some(preset);
        self
    }

    /// Maximum number of entries in memory, in place of [`memory_bytes`](Self::memory_bytes); 0 for no memory
    /// tier. A store holds 4,294,967,295 entries at most, and a larger capacity counts as that.
    #[doc(alias = "max_capacity")]
    pub fn capacity(self, entries: u64) -> Self {
        self.with(|settings| settings.capacity = Some(entries))
    }

    /// Maximum number of bytes in memory: 64 KiB to 16 TiB, or 0 for no memory tier. Default 64 MiB for
    /// `ucache`, 16 MiB for `bcache` and `fcache`.
    ///
    /// The weight of an entry is its encoded size, its key and 128 bytes of overhead, unless a
    /// [`weigher`](Self::weigher) is set. An entry that exceeds a quarter of the budget is not kept in
    /// memory.
    pub fn memory_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.memory_bytes = Some(bytes))
    }

    /// Sets the function that returns the weight of an entry in memory in bytes, in place of its measured
    /// size.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.untyped.weigher = Some(Box::new(of_entry(weigher)));
        self
    }

    /// Sets the function that returns the canonical form of a key: an equal key that is the same for all
    /// equal keys. Default: Larder derives the form itself.
    ///
    /// Tiers beyond memory compare keys by their encodings. For most types Larder ensures by itself that
    /// equal keys have one encoding, among them paths, timestamps with offsets, decimals and case-insensitive
    /// text. Set this function for other types, such as keys that round numbers. Called once for each
    /// operation beyond memory.
    ///
    /// A form that is not equal to its key is an error of each call
    /// ([`ErrorKind::Codec`](crate::ErrorKind::Codec)), since two keys could share an entry.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use std::hash::{Hash, Hasher};
    ///
    /// use serde::{Deserialize, Serialize};
    ///
    /// /// A place, as exact as a hundredth of a degree.
    /// #[derive(Serialize, Deserialize)]
    /// struct Spot(f64, f64);
    ///
    /// impl Spot {
    ///     fn cell(&self) -> (i32, i32) {
    ///         ((self.0 * 100.0).floor() as i32, (self.1 * 100.0).floor() as i32)
    ///     }
    /// }
    /// # impl PartialEq for Spot {
    /// #     fn eq(&self, other: &Self) -> bool {
    /// #         self.cell() == other.cell()
    /// #     }
    /// # }
    /// # impl Eq for Spot {}
    /// # impl Hash for Spot {
    /// #     fn hash<H: Hasher>(&self, state: &mut H) {
    /// #         self.cell().hash(state);
    /// #     }
    /// # }
    /// // `Eq` and `Hash` look at the cell alone.
    /// let centre = |spot: &Spot| {
    ///     let (x, y) = spot.cell();
    ///     Spot((f64::from(x) + 0.5) / 100.0, (f64::from(y) + 0.5) / 100.0)
    /// };
    /// let weather = larder::ucache::<Spot, String>("weather").dir(dir.path()).key_with(centre).build()?;
    /// weather.insert(Spot(52.521, 13.413), "rain".to_owned());
    /// assert_eq!(weather.get(&Spot(52.529, 13.418)).as_deref(), Some("rain"));
    /// # weather.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key_with(mut self, canonical: impl Fn(&K) -> K + Send + Sync + 'static) -> Self {
        self.canonical = Some(Box::new(canonical));
        self
    }

    /// The eviction policy of memory. Default [`Policy::Auto`], and [`Policy::CostAware`] with a selector that
    /// learns.
    #[doc(alias = "eviction_policy")]
    pub fn policy(self, policy: Policy) -> Self {
        self.with(|settings| settings.policy = Some(policy))
    }

    /// The engine that stores the entries in memory. Default
    /// [`MemoryEngine::Sharded`](crate::MemoryEngine::Sharded).
    pub fn memory_engine(self, engine: crate::MemoryEngine) -> Self {
        self.with(|settings| settings.memory_engine = Some(engine))
    }

    /// The folder in which the cache creates its directory, named after the cache. Default: the platform's
    /// cache folder, then `larder/<executable>`.
    ///
    /// Any cache name is safe: characters with a meaning in a path are encoded.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.untyped.given.code.dir = Some(dir.into());
        self
    }

    tier_options!();

    /// Adds a tier of your own, for example a database or an object store. May be called for up to eight
    /// tiers, each with a kind of its own by [`TierKind::own`]: by that name statistics, events,
    /// [`explain`](Cache::explain), [`require`](Self::require) and selectors know it.
    ///
    /// `position` is its place in the order in which the tiers are read, and in each row of [`Table`](crate::Table):
    /// [`Position::Before`]`(TierKind::Disk)` is preferred wherever disk is. It gets the time limit, the
    /// breaker and the counters that other tiers have, and is closed with the cache. See [the page on own
    /// tiers][page].
    ///
    /// [page]: https://github.com/larder-rs/larder/blob/main/docs/own-tiers.md
    pub fn tier(mut self, position: Position, tier: impl Tier) -> Self {
        self.untyped.own.push(OwnTier { position, tier: Arc::new(tier) });
        self
    }

    time_options!();
    observe_options!();
    observe_keys_option!();
    ttl_by_option!();

    fn with_ttl_by(mut self, ttl: TtlBy) -> Self {
        self.untyped.ttl_by = Some(ttl);
        self
    }
    listener_option!();

    fn with_listener(mut self, listener: EventSink) -> Self {
        self.untyped.listener = Some(listener);
        self
    }

    /// The clock of the cache. Default: the wall clock of the system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.untyped.clock = Arc::new(clock);
        self
    }

    /// Builds the cache and opens its directory.
    ///
    /// Costs a pass over the entries on disk, to rebuild the index.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`](crate::ErrorKind::Config) for an option that is out of its range.
    /// - [`ErrorKind::Busy`](crate::ErrorKind::Busy) if a live cache of this process uses the directory. If
    ///   another process uses it, the cache gets a private directory, which is deleted when the cache closes,
    ///   and logs a warning. If this cache is to share the directory and the other process does not share it,
    ///   the build fails with this error.
    /// - [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or [`ErrorKind::Io`](crate::ErrorKind::Io)
    ///   if the directory cannot be used.
    pub fn build(self) -> Result<Cache<K, V>> {
        let parts = TieredParts {
            keys: key_codec(self.canonical),
            values: value_codec::<V>,
            kind: kinds::of::<V>,
            #[cfg(feature = "observe")]
            key_options: self.key_options,
        };
        open(|open| self.untyped.build(parts, open))
    }

    /// Lists each option with its value and its source: code, a URL, a preset, a context, a variable, a file,
    /// or the default. Meant for debugging; opens nothing.
    ///
    /// # Errors
    /// As [`build`](Self::build), for errors in variables and files.
    pub fn explain_config(&self) -> Result<Vec<Explained>> {
        Ok(self.untyped.resolved()?.0.explain())
    }
}

/// What of a cache with tiers depends on its types.
struct TieredParts {
    keys: Box<dyn AnyKeyCodec>,
    values: fn(Codec) -> Box<dyn ValueCodec<Value>>,
    kind: fn() -> Kind,
    #[cfg(feature = "observe")]
    key_options: crate::observation::KeyOptions,
}

impl Untyped {
    fn build(mut self, parts: TieredParts, open: &mut OpenStore<'_>) -> Result<Arc<Engine>> {
        let (scope, listener) = (self.given.scope.clone(), self.listener.take());
        let (plan, codec) = self.plan(parts.kind)?;
        let parts = CodedParts {
            keys: parts.keys,
            values: (parts.values)(codec),
            listener,
            #[cfg(feature = "observe")]
            key_options: parts.key_options,
        };
        Scope::adopt_new(scope.as_ref(), || assemble::tiered(plan, parts, open))
    }

    /// Resolves the options into a plan and the codec of the values, whose kind `kind` tells.
    fn plan(mut self, kind: fn() -> Kind) -> Result<(TieredPlan, Codec)> {
        let (resolved, url_config) = self.resolved()?;
        let (sharing_by, required_by) = (resolved.by("sharing"), resolved.by("require"));
        let is_of_one_cache = resolved.is_of_one_cache("tier_options");
        let settings = resolved.settings;
        let tiers = plan::tiers(&settings, self.home, url_config.as_ref());
        if let Some(config) = &url_config {
            self.own.extend(assemble::objects::tiers(&config.objects, &self.given.name)?);
        }
        plan::check_own(&self.own)?;
        plan::check_read_only(self.is_read_only, tiers, &self.own)?;
        let mut tier_options = plan::tier_options(&settings, is_of_one_cache, tiers, &self.own)?;
        if self.is_read_only {
            tier_options.iter_mut().for_each(|(_, options)| *options = options.read_only());
        }
        let home = plan::home(&settings, self.home, url_config.as_ref())?.filter(|_| {
            // The one tier on disk that URLs name is not the only one if there are others.
            self.home.is_some() || self.own.is_empty()
        });
        let plan = TieredPlan {
            memory: self.memory_plan(&settings)?,
            tiers,
            own: self.own,
            tier_options,
            keys: self.keys,
            is_read_only: self.is_read_only,
            disk_bytes: plan::disk_bytes(&settings)?,
            #[cfg(feature = "observe")]
            observation: crate::observation::ObservationPlan::of(&settings),
            durability: settings.durability.unwrap_or_default(),
            warm_restart: plan::warm_restart(&settings)?,
            #[cfg(feature = "redis")]
            shared: plan::shared(&settings, self.given.scope.as_deref())?,
            required: settings.require.unwrap_or_default(),
            required_by,
            compress: plan::compress(&settings)?,
            schema: settings.version.unwrap_or_default(),
            hints: plan::hints(&settings, kind, home, (tiers, &sharing_by))?,
            selector: settings.selector.clone().unwrap_or_default().make(),
            expiry: time::expiry(&settings, self.ttl_by)?,
            clock: self.clock,
            dir: settings.dir,
            kind: match self.home {
                None => CacheKind::Universal,
                Some(TierKind::File) => CacheKind::File,
                Some(_) => CacheKind::Disk,
            },
            name: self.given.name,
        };
        Ok((plan, settings.codec.unwrap_or_default()))
    }

    /// Resolves the options. If this builder names the tiers, drops a server that another source set: a
    /// variable for all caches is not meant for caches with other tiers.
    fn resolved(&self) -> Result<(Resolved, Option<UrlConfig>)> {
        let (mut resolved, url_config) = self.given.resolve(self.home.is_none())?;
        let names_tiers = self.home.is_some() || url_config.is_some();
        let server = resolved.source("redis");
        let is_ours = matches!(server, None | Some(Source::Code | Source::Url))
            || url_config.is_some() && server == resolved.source("url");
        if names_tiers && !is_ours {
            tracing::debug!(target: "larder", cache = %self.given.name, "`redis` is ignored: this cache has no shared tier");
            resolved.forget_server();
        }
        Ok((resolved, url_config))
    }

    fn memory_plan(&mut self, settings: &Settings) -> Result<Option<MemoryPlan>> {
        let entries = settings.capacity.map(|entries| entries.min(CAPACITY_MAX));
        let bytes = settings.memory_bytes.or_else(|| entries.is_none().then_some(self.default_memory_bytes));
        if bytes == Some(0) || entries == Some(0) {
            return Ok(None);
        }
        if let Some(bytes) = bytes {
            within("memory_bytes", bytes, MEMORY_BYTES, "bytes")?;
        }
        let plan = MemoryPlan::new(Bounds { entries, bytes }, settings, self.weigher.take())?;
        Ok(Some(plan.among_tiers(settings)))
    }
}
