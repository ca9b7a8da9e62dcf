//! `mcache`: the builder of memory-only caches.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

use larder_core::clock::{Clock, SystemClock};
use larder_core::memory::Bounds;
use larder_core::{Error, Result};
use larder_engine::{Engine, EventSink, TtlBy, Weigher};
use larder_tiers::memory::Policy;

use super::listener::listener_option;
use super::observe::{observe_keys_option, observe_options};
use super::time::{self, time_options, ttl_by_option};
use super::{CAPACITY_MAX, CacheKey, CacheValue, GivenOptions, MEMORY_BYTES, within};
use crate::Cache;
use crate::assemble::{self, MemoryOnlyParts, MemoryPlan, OpenStore, open};
use crate::context::Scope;
use crate::options::values::size_text;
use crate::options::{Explained, Resolved, Settings};
use crate::typed::of_entry;

/// A cache in memory. Keys and values are stored as they are, without encoding, and need no serde.
///
/// The name is a label for logs and statistics; two caches may share it.
///
/// ```
/// use std::sync::Arc;
///
/// let words = larder::mcache::<String, Arc<[u32]>>("word positions").capacity(50_000).build()?;
/// words.insert("larder".to_owned(), Arc::from([3, 14]));
/// assert_eq!(words.get("larder").map(|positions| positions.len()), Some(2));
/// # Ok::<(), larder::Error>(())
/// ```
pub fn mcache<K, V>(name: impl Into<String>) -> MemoryBuilder<K, V>
where
    K: CacheKey,
    V: CacheValue,
{
    MemoryBuilder {
        untyped: MemoryOptions::new(name.into()),
        #[cfg(feature = "observe")]
        key_options: Default::default(),
        types: PhantomData,
    }
}

/// Builder of a cache in memory; created by [`mcache`].
#[must_use = "a builder does nothing until `build()`"]
pub struct MemoryBuilder<K, V> {
    untyped: MemoryOptions,
    #[cfg(feature = "observe")]
    key_options: crate::observation::KeyOptions,
    types: PhantomData<fn(K) -> V>,
}

/// The part of a builder that does not depend on the types, compiled once.
struct MemoryOptions {
    given: GivenOptions,
    weigher: Option<Weigher>,
    ttl_by: Option<TtlBy>,
    clock: Arc<dyn Clock>,
    listener: Option<EventSink>,
}

impl<K, V> fmt::Debug for MemoryBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder").field("given", &self.untyped.given).finish_non_exhaustive()
    }
}

/// The capacity in entries, by default.
const DEFAULT_CAPACITY: u64 = 10_000;

impl<K, V> MemoryBuilder<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Maximum number of entries. Default 10,000, unless [`memory_bytes`](Self::memory_bytes) is set; with
    /// both, both bounds apply. With 0 the cache keeps nothing: writes succeed, look-ups miss, and loads are
    /// still shared. A store holds 4,294,967,295 entries at most, and a larger capacity counts as that.
    #[doc(alias = "max_capacity")]
    pub fn capacity(self, entries: u64) -> Self {
        self.with(|settings| settings.capacity = Some(entries))
    }

    /// Bounds neither the entries nor their bytes: the largest [`capacity`](Self::capacity). Entries leave the
    /// cache only if they expire or are removed, so the process needs memory for all of them.
    pub fn unbounded(self) -> Self {
        self.capacity(u64::MAX)
    }

    /// Maximum number of bytes, in place of the default capacity: 64 KiB to 16 TiB.
    ///
    /// The [`weigher`](Self::weigher) gives the weight of an entry. Without one, types that own no heap
    /// memory weigh their size and 128 bytes of overhead; for other types `build()` returns an error. An
    /// entry that alone exceeds the bound is not stored: `try_insert` fails, and the former entry is removed.
    pub fn memory_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.memory_bytes = Some(bytes))
    }

    /// Sets the function that returns the weight of an entry in bytes. Called once an insert. Only used with
    /// [`memory_bytes`](Self::memory_bytes): a capacity counts each entry as one.
    ///
    /// **Entries of weight zero are not bounded**: without a [`capacity`](Self::capacity) beside the bytes none
    /// is evicted, as that would make no room. Do not cast a length to `u32` with `as`: it can turn a
    /// very large length into a small number.
    ///
    /// ```
    /// let pages = larder::mcache::<String, String>("pages")
    ///     .memory_bytes(1 << 20)
    ///     .weigher(|url, page| u32::try_from(url.len() + page.len()).unwrap_or(u32::MAX))
    ///     .build()?;
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.untyped.weigher = Some(Box::new(of_entry(weigher)));
        self
    }

    /// The eviction policy. Default [`Policy::Auto`].
    #[doc(alias = "eviction_policy")]
    pub fn policy(self, policy: Policy) -> Self {
        self.with(|settings| settings.policy = Some(policy))
    }

    /// The engine that stores the entries in memory. Default
    /// [`MemoryEngine::Sharded`](crate::MemoryEngine::Sharded).
    pub fn memory_engine(self, engine: crate::MemoryEngine) -> Self {
        self.with(|settings| settings.memory_engine = Some(engine))
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

    /// Builds the cache.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an option that is out of its range.
    pub fn build(self) -> Result<Cache<K, V>> {
        #[cfg(feature = "observe")]
        let crate::observation::KeyOptions { text, trace } = self.key_options;
        let parts = MemoryParts {
            plain_size: plain_size::<K, V>(),
            #[cfg(feature = "observe")]
            names: (crate::observation::KeyNames::of_memory::<K>(text), trace),
        };
        open(|open| self.untyped.build(parts, open))
    }

    /// Lists each option with its value and its source. Meant for debugging.
    ///
    /// # Errors
    /// As [`build`](Self::build), for errors in variables and files.
    pub fn explain_config(&self) -> Result<Vec<Explained>> {
        Ok(self.untyped.resolved(plain_size::<K, V>().is_some())?.explain())
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
}

/// What of a cache in memory depends on its types.
struct MemoryParts {
    /// The weight of an entry, if its types own no heap memory.
    plain_size: Option<u32>,
    #[cfg(feature = "observe")]
    names: (crate::observation::KeyNames, Option<std::path::PathBuf>),
}

impl MemoryOptions {
    fn new(name: String) -> Self {
        Self {
            given: GivenOptions::new(name),
            weigher: None,
            ttl_by: None,
            clock: Arc::new(SystemClock),
            listener: None,
        }
    }

    fn build(mut self, parts: MemoryParts, open: &mut OpenStore<'_>) -> Result<Arc<Engine>> {
        let settings = self.resolved(parts.plain_size.is_some())?.settings;
        let plan = self.plan(&settings, parts.plain_size)?;
        let expiry = time::expiry(&settings, self.ttl_by.take())?;
        #[cfg(feature = "observe")]
        let (names, trace) = parts.names;
        let parts = MemoryOnlyParts {
            expiry,
            clock: self.clock,
            listener: self.listener,
            #[cfg(feature = "observe")]
            observer: crate::observation::ObserverParts::new(
                crate::observation::ObservationPlan::of(&settings),
                names,
                trace,
            )?,
        };
        let (name, scope) = (&self.given.name, self.given.scope.as_ref());
        Scope::adopt_new(scope, || Ok(assemble::memory_only(name, plan, (parts, open))))
    }

    fn plan(&mut self, settings: &Settings, plain_size: Option<u32>) -> Result<MemoryPlan> {
        let weigher = self.weigher.take();
        let bytes = settings.memory_bytes;
        let entries = settings.capacity.or_else(|| bytes.is_none().then_some(DEFAULT_CAPACITY));
        let entries = entries.map(|entries| entries.min(CAPACITY_MAX));
        let weigher = match bytes {
            None => None,
            Some(bytes) => {
                within("memory_bytes", bytes, MEMORY_BYTES, "bytes")?;
                Some(weigher.map_or_else(|| plain_weigher(plain_size, bytes), Ok)?)
            }
        };
        MemoryPlan::new(Bounds { entries, bytes }, settings, weigher)
    }

    /// Resolves the options. Drops a `memory_bytes` that did not come from this builder and that this cache
    /// cannot apply: a variable for all caches must not fail the caches that cannot weigh their entries.
    fn resolved(&self, is_plain: bool) -> Result<Resolved> {
        let mut resolved = self.given.resolve_without_urls()?;
        let can_weigh = self.weigher.is_some() || is_plain;
        let is_ours = self.given.code.memory_bytes.is_some();
        let is_set_aside = |bytes: u64| !is_ours && (!can_weigh || bytes == 0);
        if resolved.settings.memory_bytes.is_some_and(is_set_aside) {
            let bytes = resolved.forget_memory_bytes();
            tracing::debug!(
                target: "larder", cache = %self.given.name, bytes,
                "`memory_bytes` does not apply to this cache; `capacity` applies"
            );
        }
        Ok(resolved)
    }
}

/// The weight of an entry of types that own no heap memory.
fn plain_size<K, V>() -> Option<u32> {
    let is_plain = !std::mem::needs_drop::<K>() && !std::mem::needs_drop::<V>();
    is_plain.then(|| u32::try_from(size_of::<K>() + size_of::<V>() + 128).unwrap_or(u32::MAX))
}

/// A weigher for types that own no heap memory.
fn plain_weigher(plain_size: Option<u32>, given: u64) -> Result<Weigher> {
    let Some(size) = plain_size else {
        return Err(Error::config(
            "memory_bytes",
            format_args!("{} for types whose size is not known", size_text(&given)),
            "with a `weigher`, or for types that own nothing on the heap",
        ));
    };
    Ok(Box::new(move |_, _| size))
}
