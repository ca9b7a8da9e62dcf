//! Seals what a cache stores, if it was built with keys.

use std::any::Any;
#[cfg(feature = "encrypt")]
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "redis")]
use larder_core::bus::Bus;
use larder_core::hot_keys::HotKeyList;
#[cfg(feature = "redis")]
use larder_core::invalidation::SharedInvalidations;
use larder_core::invalidation::{InvalidationLog, InvalidationRecord};
use larder_core::tier::Tier;
#[cfg(feature = "encrypt")]
use larder_core::{Error, Result};
#[cfg(feature = "encrypt")]
use larder_seal::{CacheKeys, Keys, SealedHotKeys, SealedLog};
#[cfg(all(feature = "encrypt", feature = "redis"))]
use larder_seal::{SealedBus, SealedInvalidations};

#[cfg(feature = "encrypt")]
use crate::Cache;

/// A log of invalidations, and the records that it had.
type FoundLog = (Box<dyn InvalidationLog>, Vec<InvalidationRecord>);
/// What nodes tell one another.
#[cfg(feature = "redis")]
type Shared = (Arc<dyn Bus>, Arc<dyn SharedInvalidations>);

/// The keys that the builder was given.
#[cfg(feature = "encrypt")]
pub(crate) type GivenKeys = Option<Keys>;
/// No keys: the feature `encrypt` is off.
#[cfg(not(feature = "encrypt"))]
#[derive(Default)]
pub(crate) struct GivenKeys;

/// What the parts of a cache are sealed with. Without keys every method returns what it got.
///
/// The keys of the user are here while the cache is assembled, and nowhere afterwards.
pub(crate) struct Seal {
    #[cfg(feature = "encrypt")]
    keys: Option<(Keys, Arc<CacheKeys>)>,
}

#[cfg(feature = "encrypt")]
impl Seal {
    /// Seals the cache with this name.
    pub(crate) fn new(keys: GivenKeys, cache: &str) -> Self {
        let derived = |keys: Keys| {
            let of_cache = Arc::new(CacheKeys::new(&keys, cache));
            (keys, of_cache)
        };
        Self { keys: keys.map(derived) }
    }

    /// Seals the entries of a tier. `place` tells it from the other tiers of the cache.
    pub(crate) fn tier(&self, tier: Arc<dyn Tier>, place: &str) -> Arc<dyn Tier> {
        match &self.keys {
            Some((keys, of_cache)) => of_cache.seal(tier, place, keys),
            None => tier,
        }
    }

    /// Seals the tags of a log.
    pub(crate) fn log(&self, (log, records): FoundLog) -> FoundLog {
        let Some((_, of_cache)) = &self.keys else { return (log, records) };
        let (log, records) = SealedLog::new(log, records, of_cache);
        (Box::new(log), records)
    }

    /// Opens the tags of records that are only read.
    pub(crate) fn records(&self, records: Vec<InvalidationRecord>) -> Vec<InvalidationRecord> {
        match &self.keys {
            Some((_, of_cache)) => of_cache.opened(records),
            None => records,
        }
    }

    /// The list of the hottest keys in a directory, sealed. `None` in a build without disk and files.
    pub(crate) fn hot_keys(&self, dir: &Path) -> Option<Box<dyn HotKeyList>> {
        let list = plain_hot_keys(dir)?;
        Some(match &self.keys {
            Some((_, of_cache)) => Box::new(SealedHotKeys::new(list, of_cache)),
            None => list,
        })
    }

    /// Seals what nodes tell one another about the tier that was sealed last.
    #[cfg(feature = "redis")]
    pub(crate) fn shared(&self, (bus, invalidations): Shared) -> Shared {
        let Some((_, of_cache)) = &self.keys else { return (bus, invalidations) };
        let invalidations = SealedInvalidations::new(invalidations, of_cache);
        (Arc::new(SealedBus::new(bus, of_cache)), Arc::new(invalidations))
    }

    /// The version of the entries, as a number that tells neither the schema nor the type.
    #[cfg(feature = "redis")]
    pub(crate) fn version(&self, schema: u32, fingerprint: u64) -> u64 {
        let version = larder_tiers::redis::program_version(schema, fingerprint);
        self.keys.as_ref().map_or(version, |(_, of_cache)| of_cache.version(version))
    }

    /// What changes the keys later.
    pub(crate) fn rotation(self) -> Option<Box<dyn Any + Send + Sync>> {
        self.keys.map(|(_, of_cache)| Box::new(of_cache) as _)
    }
}

#[cfg(not(feature = "encrypt"))]
impl Seal {
    pub(crate) fn new(_: GivenKeys, _: &str) -> Self {
        Self {}
    }

    pub(crate) fn tier(&self, tier: Arc<dyn Tier>, _: &str) -> Arc<dyn Tier> {
        tier
    }

    pub(crate) fn log(&self, found: FoundLog) -> FoundLog {
        found
    }

    pub(crate) fn records(&self, records: Vec<InvalidationRecord>) -> Vec<InvalidationRecord> {
        records
    }

    pub(crate) fn hot_keys(&self, dir: &Path) -> Option<Box<dyn HotKeyList>> {
        plain_hot_keys(dir)
    }

    #[cfg(feature = "redis")]
    pub(crate) fn shared(&self, shared: Shared) -> Shared {
        shared
    }

    #[cfg(feature = "redis")]
    pub(crate) fn version(&self, schema: u32, fingerprint: u64) -> u64 {
        larder_tiers::redis::program_version(schema, fingerprint)
    }

    pub(crate) fn rotation(self) -> Option<Box<dyn Any + Send + Sync>> {
        None
    }
}

#[cfg(any(feature = "disk", feature = "file"))]
fn plain_hot_keys(dir: &Path) -> Option<Box<dyn HotKeyList>> {
    Some(Box::new(larder_tiers::FileHotKeys::new(dir)))
}

/// No directory with Redis alone.
#[cfg(not(any(feature = "disk", feature = "file")))]
fn plain_hot_keys(_: &Path) -> Option<Box<dyn HotKeyList>> {
    None
}

#[cfg(feature = "encrypt")]
fn rotate(engine: &larder_engine::Engine, keys: &Keys) -> Result<()> {
    match engine.rotation().and_then(|rotation| rotation.downcast_ref::<Arc<CacheKeys>>()) {
        Some(of_cache) => of_cache.rotate(keys),
        None => Err(Error::config(
            "encrypt",
            "keys for a cache without",
            "keys for a cache that was built with some",
        )),
    }
}

#[cfg(feature = "encrypt")]
impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Changes the keys of a sealed cache, for all its handles and without a stop: the next write uses the key
    /// that writes, and reads accept the keys that read. The first key, which names entries, stays.
    ///
    /// Processes that share entries rotate in two steps, see [`Keys`]. Entries that only a retired key opens are
    /// misses, counted as [`unopened`](crate::TierCounts::unopened), and stay until they are overwritten or
    /// evicted.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if another key names entries, and for a cache that was
    /// built without keys.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use larder::{Keys, SealingKey, bcache};
    ///
    /// let keys = Keys::new(SealingKey::generate()?);
    /// let pages = bcache::<u32, String>("pages").dir(dir.path()).encrypt(keys.clone()).build()?;
    /// pages.insert(1, "old".to_owned());
    /// pages.rotate_keys(&keys.rotate(SealingKey::generate()?))?;
    /// assert_eq!(pages.get(&1).as_deref(), Some("old"));
    /// # pages.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rotate_keys(&self, keys: &Keys) -> Result<()> {
        rotate(&self.inner.engine, keys)
    }
}

#[cfg(all(feature = "encrypt", feature = "async"))]
impl<K, V> crate::AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// See [`Cache::rotate_keys`].
    ///
    /// # Errors
    /// Those of [`Cache::rotate_keys`].
    pub fn rotate_keys(&self, keys: &Keys) -> Result<()> {
        rotate(&self.inner.engine, keys)
    }
}
