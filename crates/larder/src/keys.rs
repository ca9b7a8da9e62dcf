//! Calls for many entries: batches, walks over keys, tags and values, and which entries are over.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;

use larder_core::Result;
use larder_core::entry_meta::{EntryOptions, Tag};
use larder_core::erased::{Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_engine::TaggedKey;

use crate::typed::{TypedEngine, any, borrowed};
use crate::{Cache, Invalidating};

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the values of `keys`, in their order. A tier that fails counts as a miss.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, char>("letters").build()?;
    /// cache.insert_many([(1, 'a'), (3, 'c')]);
    /// assert_eq!(cache.get_many(&[3, 2, 1]), [Some('c'), None, Some('a')]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_many<Q>(&self, keys: &[Q]) -> Vec<Option<V>>
    where
        Q: Lookup<K> + Sync,
    {
        let (mut values, missing) = self.inner.hits(keys);
        if !missing.is_empty() {
            let forms = borrowed::<K, Q>(missing.iter().map(|at| &keys[*at]));
            let found = self.inner.threads().get_many(&any(&forms));
            TypedEngine::<K, V>::fill(&mut values, &missing, found);
        }
        values
    }

    /// Stores several entries, as [`insert`](Self::insert) does for one.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        // Ignored: each failure is counted and logged. `try_insert_many` returns them.
        let _counted = self.try_insert_many(entries, EntryOptions::new());
    }

    /// Stores several entries with the same options; returns the result of each, in their order. If a key
    /// occurs several times, its last value stays.
    ///
    /// ```
    /// use larder::EntryOptions;
    /// let cache = larder::mcache::<u8, char>("letters").build()?;
    /// let stored = cache.try_insert_many([(1, 'a'), (2, 'b')], EntryOptions::new().tag("vowels or not"));
    /// assert!(stored.iter().all(Result::is_ok));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn try_insert_many(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        options: EntryOptions,
    ) -> Vec<Result<Placement>> {
        let entries = entries.into_iter().map(|(key, value)| (Key::new(key), Value::new(value)));
        self.inner.threads().insert_many(entries.collect(), options)
    }

    /// Removes several entries; returns how many existed.
    ///
    /// # Errors
    /// The first failure of a tier. The other keys are removed all the same, and a copy that remains in that
    /// tier is no longer served.
    pub fn remove_many<Q>(&self, keys: &[Q]) -> Result<u64>
    where
        Q: Lookup<K> + Sync,
    {
        self.inner.threads().remove_many(&any(&borrowed::<K, Q>(keys)))
    }

    /// Returns the values of `keys`, in their order; loads the missing ones with `loader`.
    ///
    /// The loader receives the missing keys that no other caller is loading, each once and in order. It may
    /// return values for some of them. Overlapping batches and single loads share one load a key. The loader
    /// is called again only for keys whose load by another caller ended without a value.
    ///
    /// ```
    /// let cache = larder::mcache::<u32, u32>("squares").build()?;
    /// cache.insert(2, 4);
    /// let squares = cache.get_many_with([1, 2, 3], |missing| {
    ///     assert_eq!(missing, [1, 3]);
    ///     vec![(1, 1)]
    /// });
    /// assert_eq!(squares, [Some(1), Some(4), None]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_many_with<L>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut loader: impl FnMut(Vec<K>) -> L,
    ) -> Vec<Option<V>>
    where
        K: Clone,
        L: IntoIterator<Item = (K, V)>,
    {
        match self.try_get_many_with(keys, |keys| Ok::<_, Infallible>(loader(keys))) {
            Ok(values) => values,
            Err(never) => match *never {},
        }
    }

    /// As [`get_many_with`](Self::get_many_with), for a loader that may fail.
    ///
    /// # Errors
    /// The error of the loader, shared with all callers that wait for one of its keys.
    pub fn try_get_many_with<L, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: impl FnMut(Vec<K>) -> Result<L, E>,
    ) -> Result<Vec<Option<V>>, Arc<E>>
    where
        K: Clone,
        L: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        self.inner.load_many_in_thread(keys.into_iter().collect(), loader)
    }

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

    /// Returns the keys of the entries with this tag that could be served now, each once, in no order. Scans
    /// every tier, as [`keys`](Self::keys) does: there is no index of tags.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    ///
    /// ```
    /// use larder::{EntryOptions, Tag};
    /// let cache = larder::mcache::<u32, &str>("sessions").build()?;
    /// cache.insert_with(1, "phone", EntryOptions::new().tag("user:7"));
    /// cache.insert_with(2, "laptop", EntryOptions::new().tag("user:8"));
    /// assert_eq!(cache.keys_by_tag("user:7")?, [std::sync::Arc::new(1)]);
    /// assert_eq!(cache.tags()?, [Tag::from("user:7"), Tag::from("user:8")]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn keys_by_tag(&self, tag: impl Into<Tag>) -> Result<Vec<Arc<K>>>
    where
        K: Clone,
    {
        Ok(with_tag(self.inner.threads().tagged_keys(self.inner.keys_in_memory())?, &tag.into()))
    }

    /// Returns the tags of the entries that could be served now, each once, sorted. Scans every tier, as
    /// [`keys`](Self::keys) does.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    pub fn tags(&self) -> Result<Vec<Tag>>
    where
        K: Clone,
    {
        Ok(distinct(self.inner.threads().tagged_keys(self.inner.keys_in_memory())?))
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
    /// `warm_restart`. Returns 0 without that option. An entry at home in memory is moved to disk or files, so
    /// this costs a write for each of them.
    ///
    /// # Errors
    /// If the list cannot be written, and after closing.
    pub fn snapshot(&self) -> Result<u64> {
        self.inner.threads().snapshot()
    }

    /// Removes expired and invalidated entries from memory, disk and files; returns their number. Rarely
    /// needed: memory frees an expired entry when a look-up finds it, or at a write from about 16 ms after its
    /// deadline on, before it evicts any other; the other tiers free theirs when they read them or make
    /// room. Costs a pass over the entries of every tier. Redis, and files that processes share, are left
    /// alone. After a failure, which the statistics count, it returns 0.
    #[doc(alias = "run_pending_tasks")]
    pub fn sweep(&self) -> u64 {
        self.try_sweep().unwrap_or(0)
    }

    /// As [`sweep`](Self::sweep), and returns the failure.
    ///
    /// # Errors
    /// If a tier cannot be scanned.
    pub fn try_sweep(&self) -> Result<u64> {
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
    #[doc(alias = "invalidate_entries_if")]
    #[doc(alias = "retain")]
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

fn with_tag<K: Send + Sync + 'static>(keys: Vec<TaggedKey>, tag: &Tag) -> Vec<Arc<K>> {
    let with_tag = keys.into_iter().filter(|(_, tags)| tags.contains(tag));
    with_tag.filter_map(|(key, _)| Key::into_shared(key)).collect()
}

fn distinct(keys: Vec<TaggedKey>) -> Vec<Tag> {
    let tags: BTreeSet<Tag> = keys.into_iter().flat_map(|(_, tags)| tags).collect();
    tags.into_iter().collect()
}

#[cfg(feature = "async")]
mod tasks {
    use std::future::Future;

    use super::{
        Arc, EntryOptions, Hash, Infallible, Key, Lookup, Placement, Result, Tag, TypedEngine, Value, any,
        borrowed, distinct, with_tag,
    };
    use crate::entries::Entries;
    use crate::{AsyncCache, Invalidating};

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        /// See [`Cache::get_many`](crate::Cache::get_many).
        pub async fn get_many<Q>(&self, keys: &[Q]) -> Vec<Option<V>>
        where
            Q: Lookup<K> + Sync,
        {
            let (mut values, missing) = self.inner.hits(keys);
            if !missing.is_empty() {
                let forms = borrowed::<K, Q>(missing.iter().map(|at| &keys[*at]));
                let found = self.inner.tasks().get_many(&any(&forms)).await;
                TypedEngine::<K, V>::fill(&mut values, &missing, found);
            }
            values
        }

        /// See [`Cache::insert_many`](crate::Cache::insert_many).
        pub async fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
            // Ignored: each failure is counted and logged. `try_insert_many` returns them.
            let _counted = self.try_insert_many(entries, EntryOptions::new()).await;
        }

        /// See [`Cache::try_insert_many`](crate::Cache::try_insert_many).
        pub async fn try_insert_many(
            &self,
            entries: impl IntoIterator<Item = (K, V)>,
            options: EntryOptions,
        ) -> Vec<Result<Placement>> {
            let entries = entries.into_iter().map(|(key, value)| (Key::new(key), Value::new(value)));
            self.inner.tasks().insert_many(entries.collect(), options).await
        }

        /// See [`Cache::remove_many`](crate::Cache::remove_many).
        pub async fn remove_many<Q>(&self, keys: &[Q]) -> Result<u64>
        where
            Q: Lookup<K> + Sync,
        {
            self.inner.tasks().remove_many(&any(&borrowed::<K, Q>(keys))).await
        }

        /// See [`Cache::get_many_with`](crate::Cache::get_many_with).
        pub async fn get_many_with<L, Fut>(
            &self,
            keys: impl IntoIterator<Item = K>,
            mut loader: impl FnMut(Vec<K>) -> Fut,
        ) -> Vec<Option<V>>
        where
            K: Clone,
            L: IntoIterator<Item = (K, V)>,
            Fut: Future<Output = L>,
        {
            let loader = |keys| {
                let loaded = loader(keys);
                async { Ok::<L, Infallible>(loaded.await) }
            };
            match self.try_get_many_with(keys, loader).await {
                Ok(values) => values,
                Err(never) => match *never {},
            }
        }

        /// See [`Cache::try_get_many_with`](crate::Cache::try_get_many_with).
        ///
        /// # Errors
        /// The error of the loader, shared with all callers that wait for one of its keys.
        pub async fn try_get_many_with<L, E, Fut>(
            &self,
            keys: impl IntoIterator<Item = K>,
            loader: impl FnMut(Vec<K>) -> Fut,
        ) -> Result<Vec<Option<V>>, Arc<E>>
        where
            K: Clone,
            L: IntoIterator<Item = (K, V)>,
            E: Send + Sync + 'static,
            Fut: Future<Output = Result<L, E>>,
        {
            self.inner.load_many_in_task(keys.into_iter().collect(), loader).await
        }

        /// See [`Cache::keys`](crate::Cache::keys).
        pub async fn keys(&self) -> Result<Vec<Arc<K>>>
        where
            K: Clone,
        {
            let keys = self.inner.tasks().keys(self.inner.keys_in_memory()).await?;
            Ok(keys.into_iter().filter_map(Key::into_shared).collect())
        }

        /// See [`Cache::sweep`](crate::Cache::sweep).
        pub async fn sweep(&self) -> u64 {
            self.try_sweep().await.unwrap_or(0)
        }

        /// See [`Cache::try_sweep`](crate::Cache::try_sweep).
        pub async fn try_sweep(&self) -> Result<u64> {
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

        /// See [`Cache::keys_by_tag`](crate::Cache::keys_by_tag).
        pub async fn keys_by_tag(&self, tag: impl Into<Tag>) -> Result<Vec<Arc<K>>>
        where
            K: Clone,
        {
            let tag = tag.into();
            Ok(with_tag(self.inner.tasks().tagged_keys(self.inner.keys_in_memory()).await?, &tag))
        }

        /// See [`Cache::tags`](crate::Cache::tags).
        pub async fn tags(&self) -> Result<Vec<Tag>>
        where
            K: Clone,
        {
            Ok(distinct(self.inner.tasks().tagged_keys(self.inner.keys_in_memory()).await?))
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
