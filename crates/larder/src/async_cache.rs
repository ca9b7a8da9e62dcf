//! The cache for tasks.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use larder_core::Result;
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stats::Stats;
use larder_engine::wait::Tokio;
use larder_engine::{Entry, Explanation, LoadError};

use crate::Cache;
use crate::cache::CacheEngine;

/// A cache, as tasks use it: the same state and the same verbs as [`Cache`].
///
/// Nothing in it blocks an executor thread: work on disk and files, and the
/// encoding that goes with it, run on tokio's blocking pool, which costs a hop
/// of some microseconds. A hit in memory needs none of it. Outside a tokio
/// runtime that work happens in place.
///
/// A write that has begun is finished, also when its future is dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder::Result<()> {
/// let cache = larder::mcache::<u64, u64>("squares").build()?.to_async();
/// assert_eq!(cache.get_with(7, async { 49 }).await, 49);
/// assert_eq!(cache.get(&7).await, Some(49));
/// # Ok(())
/// # }
/// ```
pub struct AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) engine: Arc<CacheEngine<K, V>>,
}

impl<K, V> Clone for AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<K, V> fmt::Debug for AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncCache").finish_non_exhaustive()
    }
}

impl<K, V> AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn over(engine: Arc<CacheEngine<K, V>>) -> Self {
        Self { engine }
    }

    /// The same cache for threads.
    pub fn to_sync(&self) -> Cache<K, V> {
        Cache::over(Arc::clone(&self.engine))
    }

    /// See [`Cache::get`].
    pub async fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.try_get(key).await.ok().flatten()
    }

    /// See [`Cache::try_get`].
    pub async fn try_get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.engine.hit(key) {
            Some(value) => Ok(Some(value)),
            None => self.engine.get::<Tokio, Q>(key).await,
        }
    }

    /// See [`Cache::inspect`].
    pub async fn inspect<Q>(&self, key: &Q) -> Result<Option<Entry<V>>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.engine.inspect::<Tokio, Q>(key).await
    }

    /// The value of `key`; where it is missing, from `loader`, which is polled
    /// by this call while the others wait and share the value. When this call
    /// is dropped before its loader is done, one of those who wait leads next,
    /// with its own loader. A future that is not needed is never polled.
    ///
    /// See [`Cache::get_with`].
    pub async fn get_with(&self, key: K, loader: impl Future<Output = V>) -> V {
        match self.engine.hit(&key) {
            Some(value) => value,
            None => self.engine.get_with::<Tokio, _, _>(key, || loader).await,
        }
    }

    /// As [`get_with`](Self::get_with), for a loader that may fail.
    ///
    /// # Errors
    /// See [`Cache::try_get_with`].
    pub async fn try_get_with<E>(
        &self,
        key: K,
        loader: impl Future<Output = Result<V, E>>,
    ) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        match self.engine.hit(&key) {
            Some(value) => Ok(value),
            None => self.engine.try_get_with::<Tokio, E, _, _>(key, || loader).await,
        }
    }

    /// The value of `key`; where it is missing, from `loader`, which runs as a
    /// task of its own: the load goes on when this call is dropped, and those
    /// who wait for it get its outcome. Outside a tokio runtime the loader
    /// belongs to this call.
    ///
    /// # Errors
    /// See [`Cache::load`]; [`LoadError::Closed`] when the runtime shuts down first.
    pub async fn load<E, F>(&self, key: K, loader: F) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        if let Some(value) = self.engine.hit(&key) {
            return Ok(value);
        }
        let engine = Arc::clone(&self.engine);
        let flight = async move { engine.load::<Tokio, E, _, _>(key, || loader).await };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn(flight).await.unwrap_or(Err(LoadError::Closed)),
            Err(_) => flight.await,
        }
    }

    /// See [`Cache::insert`].
    pub async fn insert(&self, key: K, value: V) {
        // Counted and logged where it happened; `try_insert` returns it.
        let _counted = self.try_insert(key, value).await;
    }

    /// See [`Cache::try_insert`].
    pub async fn try_insert(&self, key: K, value: V) -> Result<Placement> {
        self.engine.insert::<Tokio>(key, value).await
    }

    /// See [`Cache::remove`].
    pub async fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.engine.remove::<Tokio, Q>(key).await.unwrap_or(false)
    }

    /// See [`Cache::take`].
    pub async fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.engine.take::<Tokio, Q>(key).await
    }

    /// See [`Cache::contains_key`].
    pub async fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.engine.contains_key::<Tokio, Q>(key).await.unwrap_or(false)
    }

    /// See [`Cache::clear`].
    pub async fn clear(&self) -> Result<()> {
        self.engine.clear::<Tokio>().await
    }

    /// See [`Cache::len`].
    pub fn len(&self) -> u64 {
        self.engine.len()
    }

    /// See [`Cache::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.engine.is_empty()
    }

    /// See [`Cache::bytes`].
    pub fn bytes(&self) -> u64 {
        self.engine.bytes()
    }

    /// See [`Cache::keys`].
    pub async fn keys(&self) -> Result<Vec<Arc<K>>> {
        self.engine.keys::<Tokio>().await
    }

    /// See [`Cache::dir`].
    pub fn dir(&self) -> Option<&Path> {
        self.engine.dir()
    }

    /// See [`Cache::stats`].
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// See [`Cache::explain`].
    pub async fn explain<Q>(&self, key: &Q) -> Result<Explanation>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.engine.explain::<Tokio, Q>(key).await
    }

    /// See [`Cache::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.engine.flush::<Tokio>().await
    }

    /// See [`Cache::close`].
    pub async fn close(&self) -> Result<()> {
        self.engine.close::<Tokio>().await
    }
}
