//! An async function with a cache in front of it.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use larder_core::Result;
use larder_core::key::Lookup;
use larder_core::stats::Stats;

use super::threads::Many;
use crate::AsyncCache;

/// A memoized async function; created by [`AsyncCache::memoize`].
///
/// See [`Memo`](crate::Memo), the synchronous variant.
pub struct AsyncMemo<K, V, F> {
    cache: AsyncCache<K, V>,
    function: F,
}

impl<K, V> AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Wraps `function` with this cache: a call returns the cached result, or runs the function and stores
    /// its result.
    ///
    /// The function gets an owned key, so that its future borrows nothing.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let squares = larder::mcache::<u64, u64>("squares").build()?.to_async();
    /// let square = squares.memoize(|n| async move { n * n });
    /// assert_eq!(square.call(&7).await, 49);
    /// assert!(square.contains(&7).await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn memoize<F, Fut>(&self, function: F) -> AsyncMemo<K, V, F>
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = V>,
    {
        AsyncMemo { cache: self.clone(), function }
    }

    /// As [`memoize`](Self::memoize), for a function of many keys. See
    /// [`Cache::memoize_many`](crate::Cache::memoize_many).
    pub fn memoize_many<F, Fut, L>(&self, function: F) -> AsyncMemo<K, V, Many<F>>
    where
        F: Fn(Vec<K>) -> Fut,
        Fut: Future<Output = L>,
        L: IntoIterator<Item = (K, V)>,
    {
        AsyncMemo { cache: self.clone(), function: Many(function) }
    }
}

impl<K, V, F, Fut, L> AsyncMemo<K, V, Many<F>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(Vec<K>) -> Fut,
    Fut: Future<Output = L>,
    L: IntoIterator<Item = (K, V)>,
{
    /// Returns the results for many keys, in their order. Calls the function for the missing keys that no
    /// other caller is loading.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let squares = larder::mcache::<u32, u32>("squares").build()?.to_async();
    /// let square = squares.memoize_many(async |ns: Vec<u32>| ns.into_iter().map(|n| (n, n * n)).collect::<Vec<_>>());
    /// assert_eq!(square.call_many([1, 2, 1]).await, [Some(1), Some(4), Some(1)]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call_many(&self, keys: impl IntoIterator<Item = K>) -> Vec<Option<V>> {
        self.cache.get_many_with(keys, |missing| (self.function.0)(missing)).await
    }

    /// Calls the function. Reads and stores nothing.
    pub async fn uncached(&self, keys: impl IntoIterator<Item = K>) -> L {
        (self.function.0)(keys.into_iter().collect()).await
    }
}

impl<K, V, F, Fut> AsyncMemo<K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(K) -> Fut,
    Fut: Future<Output = V>,
{
    /// See [`Memo::call`](crate::Memo::call).
    pub async fn call<Q>(&self, key: &Q) -> V
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        match self.cache.hit(key) {
            Some(value) => value,
            None => self.load(key.with_key(K::clone)).await,
        }
    }

    async fn load(&self, key: K) -> V
    where
        K: Clone,
    {
        let loader = (self.function)(key.clone());
        self.cache.get_with(key, loader).await
    }

    /// Returns the results for many keys, in their order. Reads the cache in one batch, and calls the
    /// function for each missing key. For a function of many keys see
    /// [`memoize_many`](AsyncCache::memoize_many).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let squares = larder::mcache::<u32, u32>("squares").build()?.to_async();
    /// let square = squares.memoize(|n| async move { n * n });
    /// assert_eq!(square.call_many([1, 2, 1]).await, [1, 4, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call_many(&self, keys: impl IntoIterator<Item = K>) -> Vec<V>
    where
        K: Clone,
    {
        let keys: Vec<K> = keys.into_iter().collect();
        let found = self.cache.get_many_with(keys.clone(), |missing| self.with_values(missing)).await;
        let mut values = Vec::with_capacity(keys.len());
        for (value, key) in found.into_iter().zip(keys) {
            values.push(match value {
                Some(value) => value,
                None => (self.function)(key).await,
            });
        }
        values
    }

    async fn with_values(&self, keys: Vec<K>) -> Vec<(K, V)>
    where
        K: Clone,
    {
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let value = (self.function)(key.clone()).await;
            entries.push((key, value));
        }
        entries
    }

    /// See [`Memo::uncached`](crate::Memo::uncached).
    pub async fn uncached<Q>(&self, key: &Q) -> V
    where
        Q: Lookup<K> + ?Sized,
        K: Clone,
    {
        (self.function)(key.with_key(K::clone)).await
    }
}

impl<K, V, F> AsyncMemo<K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// See [`Memo::purge`](crate::Memo::purge).
    pub async fn purge<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.cache.remove(key).await
    }

    /// See [`Memo::contains`](crate::Memo::contains).
    pub async fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.cache.contains_key(key).await
    }

    /// See [`Memo::clear`](crate::Memo::clear).
    ///
    /// # Errors
    /// See [`Cache::clear`](crate::Cache::clear).
    pub async fn clear(&self) -> Result<()> {
        self.cache.clear().await
    }

    /// See [`Cache::set_ttl`](crate::Cache::set_ttl).
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.cache.set_ttl(ttl);
    }

    /// See [`Cache::stats`](crate::Cache::stats).
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Returns the cache.
    pub fn cache(&self) -> &AsyncCache<K, V> {
        &self.cache
    }
}

impl<K, V, F: Clone> Clone for AsyncMemo<K, V, F> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), function: self.function.clone() }
    }
}

impl<K, V, F> fmt::Debug for AsyncMemo<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncMemo").finish_non_exhaustive()
    }
}
