//! A synchronous function with a cache in front of it.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use larder_core::Result;
use larder_core::key::Lookup;
use larder_core::stats::Stats;

use crate::Cache;

/// A memoized function; created by [`Cache::memoize`].
///
/// A cheap handle like the cache if the function is `Clone`. Several may share one cache; they then share
/// results.
pub struct Memo<K, V, F> {
    cache: Cache<K, V>,
    function: F,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Wraps `function` with this cache: a call returns the cached result, or runs the function and stores
    /// its result.
    ///
    /// ```
    /// let lengths = larder::mcache::<String, usize>("lengths").build()?.memoize(|word| word.len());
    /// assert_eq!(lengths.call("larder"), 6);
    /// assert!(lengths.contains("larder"));
    /// assert!(lengths.purge("larder"));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn memoize<F>(&self, function: F) -> Memo<K, V, F>
    where
        F: Fn(&K) -> V,
    {
        Memo { cache: self.clone(), function }
    }

    /// As [`memoize`](Self::memoize), for a function of many keys: it gets the missing keys, in their order,
    /// and returns entries for all or some of them. See [`get_many_with`](Self::get_many_with).
    ///
    /// ```
    /// let cache = larder::mcache::<u32, String>("names").build()?;
    /// let names = cache.memoize_many(|ids| {
    ///     // One query for all of them.
    ///     ids.into_iter().filter(|id| *id < 10).map(|id| (id, format!("user {id}"))).collect::<Vec<_>>()
    /// });
    /// let found = names.call_many([1, 2, 11]);
    /// assert_eq!(found, [Some("user 1".to_owned()), Some("user 2".to_owned()), None]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn memoize_many<F, L>(&self, function: F) -> Memo<K, V, Many<F>>
    where
        F: Fn(Vec<K>) -> L,
        L: IntoIterator<Item = (K, V)>,
    {
        Memo { cache: self.clone(), function: Many(function) }
    }
}

/// A function of many keys, in a [`Memo`].
#[cfg_attr(feature = "async", doc = "Also in an [`AsyncMemo`](crate::AsyncMemo).")]
#[derive(Clone, Copy, Debug)]
pub struct Many<F>(pub(super) F);

impl<K, V, F, L> Memo<K, V, Many<F>>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(Vec<K>) -> L,
    L: IntoIterator<Item = (K, V)>,
{
    /// Returns the results for many keys, in their order. Calls the function for the missing keys that no
    /// other caller is loading.
    pub fn call_many(&self, keys: impl IntoIterator<Item = K>) -> Vec<Option<V>> {
        self.cache.get_many_with(keys, |missing| (self.function.0)(missing))
    }

    /// Calls the function. Reads and stores nothing.
    pub fn uncached(&self, keys: impl IntoIterator<Item = K>) -> L {
        (self.function.0)(keys.into_iter().collect())
    }
}

impl<K, V, F> Memo<K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(&K) -> V,
{
    /// Returns the result for `key`, from the cache or from the function. Concurrent callers share one call
    /// of the function. See [`Cache::get_with`].
    ///
    /// A hit costs one [`Cache::get`]. A miss lends the key to the function and clones it for the cache.
    pub fn call<Q>(&self, key: &Q) -> V
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        match self.cache.hit(key) {
            Some(value) => value,
            None => key.with_key(|key| self.cache.get_with(key.clone(), || (self.function)(key))),
        }
    }

    /// Returns the results for many keys, in their order. Reads the cache in one batch, and calls the
    /// function for each missing key. For a function of many keys see [`Cache::memoize_many`].
    ///
    /// ```
    /// let square = larder::mcache::<u32, u32>("squares").build()?.memoize(|n| n * n);
    /// assert_eq!(square.call_many([1, 2, 1]), [1, 4, 1]);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn call_many(&self, keys: impl IntoIterator<Item = K>) -> Vec<V>
    where
        K: Clone,
    {
        let keys: Vec<K> = keys.into_iter().collect();
        let load = |missing: Vec<K>| missing.into_iter().map(|key| self.with_value(key)).collect::<Vec<_>>();
        let values = self.cache.get_many_with(keys.iter().cloned(), load);
        let values = values.into_iter().zip(&keys);
        values.map(|(value, key)| value.unwrap_or_else(|| (self.function)(key))).collect()
    }

    fn with_value(&self, key: K) -> (K, V) {
        let value = (self.function)(&key);
        (key, value)
    }

    /// Calls the function. Reads and stores nothing.
    pub fn uncached<Q>(&self, key: &Q) -> V
    where
        Q: Lookup<K> + ?Sized,
    {
        key.with_key(&self.function)
    }
}

impl<K, V, F> Memo<K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Removes the result for `key`; returns whether there was one.
    pub fn purge<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.cache.remove(key)
    }

    /// Returns whether there is a result for `key`.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.cache.contains_key(key)
    }

    /// Removes all results.
    ///
    /// # Errors
    /// See [`Cache::clear`].
    pub fn clear(&self) -> Result<()> {
        self.cache.clear()
    }

    /// See [`Cache::set_ttl`].
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.cache.set_ttl(ttl);
    }

    /// See [`Cache::stats`].
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Returns the cache.
    pub fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }
}

impl<K, V, F: Clone> Clone for Memo<K, V, F> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), function: self.function.clone() }
    }
}

impl<K, V, F> fmt::Debug for Memo<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}
