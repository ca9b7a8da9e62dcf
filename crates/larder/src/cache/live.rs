//! Options that change while a cache is in use.

use std::hash::Hash;
use std::time::Duration;

use larder_core::{Error, Result};

use crate::Cache;
use crate::builder::{CAPACITY_MAX, MEMORY_BYTES, within};

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Changes the maximum number of entries in memory; 0 keeps nothing in memory, and a value above
    /// 4,294,967,295 counts as that. Evicts the excess before it returns. With `memory_bytes` both bounds apply.
    ///
    /// # Errors
    /// `ErrorKind::Unsupported` with the engine moka.
    ///
    /// ```
    /// let cache = larder::mcache::<u32, u32>("squares").capacity(1000).build()?;
    /// (0..1000).for_each(|n| cache.insert(n, n * n));
    /// cache.set_capacity(10)?;
    /// assert_eq!(cache.len(), 10);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn set_capacity(&self, entries: u64) -> Result<()> {
        let entries = entries.min(CAPACITY_MAX);
        self.inner.engine.set_bounds(|bounds| bounds.entries = Some(entries))
    }

    /// Changes the maximum number of bytes in memory, and evicts the excess before it returns.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value below 64 KiB or above 16 TiB, and for a cache that was built without this option, since its entries have no weights.
    /// `ErrorKind::Unsupported` with the engine moka.
    pub fn set_memory_bytes(&self, bytes: u64) -> Result<()> {
        within("memory_bytes", bytes, MEMORY_BYTES, "bytes")?;
        if self.inner.engine.bounds().bytes.is_none() {
            let given = "a new bound for a cache built with `capacity` alone";
            return Err(Error::config("memory_bytes", given, "only a cache built with `memory_bytes`"));
        }
        self.inner.engine.set_bounds(|bounds| bounds.bytes = Some(bytes))
    }

    /// Changes the default time to live of later writes; `None` means that entries do not expire.
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.inner.engine.set_ttl(ttl);
    }
}
