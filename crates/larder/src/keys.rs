//! Walks over the entries of a cache: their keys, values, and which of them are over.

use std::hash::Hash;
use std::sync::Arc;

use larder_core::Result;
use larder_core::erased::Key;

use crate::{Cache, Invalidating};

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the keys of the entries that could be served now, each once, in no order. Scans every tier.
    /// May miss entries that are written or removed meanwhile. Does not count as a use.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    pub fn keys(&self) -> Result<Vec<Arc<K>>>
    where
        K: Clone,
    {
        let keys = self.inner.threads().keys(self.inner.keys_in_memory())?;
        Ok(keys.into_iter().filter_map(Key::into_shared).collect())
    }

    /// Returns up to `n` keys that memory would evict last, hottest first. The order is approximate, since
    /// each shard of the memory engine has its own. Empty with the engine moka. Costs a pass over the entries
    /// in memory. Does not count as a use.
    ///
    /// ```
    /// let cache = larder::mcache::<u32, u32>("squares").build()?;
    /// (0..100).for_each(|n| cache.insert(n, n * n));
    /// (0..5).for_each(|_| drop(cache.get(&42)));
    /// assert!(cache.hottest(20).iter().any(|key| **key == 42));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn hottest(&self, n: usize) -> Vec<Arc<K>>
    where
        K: Clone,
    {
        self.inner.hottest(n)
    }

    /// Writes the keys of the hottest entries in memory into the directory, as closing does, and returns
    /// their number. They are read into memory again when the cache is opened: see the option
    /// `warm_restart`. Returns 0 without that option.
    ///
    /// # Errors
    /// If the list cannot be written, and after closing.
    pub fn snapshot(&self) -> Result<u64> {
        self.inner.threads().snapshot()
    }

    /// Removes expired and invalidated entries from memory, disk and files; returns their number. Rarely
    /// needed: memory frees an expired entry within about 16 ms after its deadline, before it evicts any
    /// other; the other tiers free theirs when they read them or make room. Costs a pass over the entries
    /// of every tier. Redis, and files that processes share, are left alone.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    pub fn sweep(&self) -> Result<u64> {
        self.inner.threads().sweep()
    }

    /// Invalidates every entry that `predicate` picks, in memory and in every tier, as
    /// [`invalidate`](Self::invalidate) does: within its stale window it may still serve if a load fails.
    ///
    /// Works on a thread in the background: the call returns at once, and what it returns gives the result.
    /// The predicate sees the entries that are there when that thread starts, each once, and runs without a
    /// lock; reading them counts as no use. An entry that is written meanwhile may be missed, or be
    /// invalidated in place of the one that the predicate saw. Costs a scan of every tier and a read of each
    /// entry. With Redis, that is every entry of all nodes.
    ///
    /// ```
    /// let prices = larder::mcache::<u32, u64>("prices").build()?;
    /// prices.insert_many((0..10).map(|n| (n, 100 * u64::from(n))));
    /// assert_eq!(prices.invalidate_if(|_, price| *price > 500).wait()?, 4);
    /// assert_eq!((prices.get(&5), prices.get(&6)), (Some(500), None));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn invalidate_if(&self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> Invalidating
    where
        K: Clone,
    {
        self.inner.invalidate_if(predicate)
    }

    /// Iterates over the entries, in no order. The keys are taken now; each value is read when the iterator
    /// reaches its key. Costs a call of [`keys`](Self::keys), and a [`get`](Self::get) for each entry, which
    /// counts as a use. May miss entries that are written or removed meanwhile.
    ///
    /// # Errors
    /// As [`keys`](Self::keys).
    ///
    /// ```
    /// let ages = larder::mcache::<String, u32>("ages").build()?;
    /// ages.insert("Ada".to_owned(), 36);
    /// ages.insert("Grace".to_owned(), 85);
    /// assert_eq!(ages.iter()?.map(|(_, age)| age).sum::<u32>(), 121);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn iter(&self) -> Result<impl Iterator<Item = (Arc<K>, V)>>
    where
        K: Clone,
    {
        let keys = self.keys()?;
        Ok(keys.into_iter().filter_map(|key| self.get(&*key).map(|value| (key, value))))
    }
}

#[cfg(feature = "async")]
mod tasks {
    use super::{Arc, Hash, Key, Result};
    use crate::entries::Entries;
    use crate::{AsyncCache, Invalidating};

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        /// See [`Cache::keys`](crate::Cache::keys).
        pub async fn keys(&self) -> Result<Vec<Arc<K>>>
        where
            K: Clone,
        {
            let keys = self.inner.tasks().keys(self.inner.keys_in_memory()).await?;
            Ok(keys.into_iter().filter_map(Key::into_shared).collect())
        }

        /// See [`Cache::sweep`](crate::Cache::sweep).
        pub async fn sweep(&self) -> Result<u64> {
            self.inner.tasks().sweep().await
        }

        /// See [`Cache::invalidate_if`](crate::Cache::invalidate_if). A task waits for the result with
        /// [`finished`](Invalidating::finished).
        pub fn invalidate_if(
            &self,
            predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        ) -> Invalidating
        where
            K: Clone,
        {
            self.inner.invalidate_if(predicate)
        }

        /// See [`Cache::snapshot`](crate::Cache::snapshot).
        pub async fn snapshot(&self) -> Result<u64> {
            self.inner.tasks().snapshot().await
        }

        /// See [`Cache::hottest`](crate::Cache::hottest).
        pub fn hottest(&self, n: usize) -> Vec<Arc<K>>
        where
            K: Clone,
        {
            self.inner.hottest(n)
        }

        /// See [`Cache::iter`](crate::Cache::iter).
        ///
        /// # Errors
        /// As [`keys`](Self::keys).
        ///
        /// ```
        /// # #[tokio::main(flavor = "current_thread")]
        /// # async fn main() -> larder::Result<()> {
        /// let ages = larder::mcache::<String, u32>("ages").build()?.to_async();
        /// ages.insert_many([("Ada".to_owned(), 36), ("Grace".to_owned(), 85)]).await;
        /// let (mut sum, mut entries) = (0, ages.iter().await?);
        /// while let Some((_, age)) = entries.next().await {
        ///     sum += age;
        /// }
        /// assert_eq!(sum, 121);
        /// # Ok(())
        /// # }
        /// ```
        pub async fn iter(&self) -> Result<Entries<K, V>>
        where
            K: Clone,
        {
            Ok(Entries::of(self.clone(), self.keys().await?))
        }
    }
}
