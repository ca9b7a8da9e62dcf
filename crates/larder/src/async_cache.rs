//! The async cache.

use std::any::TypeId;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, Tag};
use larder_core::erased::{AnyError, Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stats::Stats;
use larder_engine::{
    Answer, Answered, Boxed, Counter, Entry, Explanation, Increment, LoadContext, LoadError, LoadRequest,
    Loader,
};

use crate::Cache;
use crate::cache::{Nothing, infallible};
use crate::typed::{TypedEngine, own, typed};

/// An async cache handle for tasks, with the state and the methods of [`Cache`].
///
/// No call blocks an executor thread. I/O on disk and files, and the encoding for it, run on tokio's blocking
/// pool, which costs a hop of some microseconds. Redis needs no hop: the task awaits the reply, and encodes
/// and decodes values up to 64 KiB itself. A hit in memory costs neither. Outside a tokio runtime everything
/// runs in place.
///
/// A write that has begun runs to its end. This holds if its future is dropped, and if its future is kept
/// without being polled and another call waits for the write.
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
pub struct AsyncCache<K, V> {
    pub(crate) inner: TypedEngine<K, V>,
}

impl<K, V> Clone for AsyncCache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V> fmt::Debug for AsyncCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncCache").finish_non_exhaustive()
    }
}

impl<K, V> AsyncCache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn over(inner: TypedEngine<K, V>) -> Self {
        Self { inner }
    }

    /// See [`Cache::new`].
    #[doc(hidden)]
    pub fn new<B: crate::cache::ConstructorArgument>(argument: B) -> Self {
        Cache::new(argument).to_async()
    }

    /// Returns the value if it is in memory.
    #[inline]
    pub(crate) fn hit<Q: Lookup<K> + Sync + ?Sized>(&self, key: &Q) -> Option<V> {
        self.inner.hit(key)
    }

    /// Returns a synchronous handle of the same cache.
    pub fn to_sync(&self) -> Cache<K, V> {
        Cache::over(self.inner.clone())
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
        match self.inner.hit(key) {
            Some(value) => Ok(Some(value)),
            None if self.inner.engine.misses_at_once(&Borrowed::<K, Q>::new(key)) => Ok(None),
            None => self.inner.tasks().get(&Borrowed::<K, Q>::new(key)).await.map(|value| value.map(typed)),
        }
    }

    /// See [`Cache::inspect`].
    pub async fn inspect<Q>(&self, key: &Q) -> Result<Option<Entry<V>>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        let entry = self.inner.tasks().inspect(&Borrowed::<K, Q>::new(key)).await?;
        Ok(entry.and_then(|entry| entry.and_then(|value| Some(typed(value)))))
    }

    /// Returns the value of `key`. On a miss it polls `loader`, stores the value and returns it. Concurrent
    /// callers wait and share the value. If this future is dropped before its loader is done, a waiter
    /// becomes the leader and polls its own loader. A loader that is not needed is never polled.
    ///
    /// **The loader makes progress only while this future is polled. Do not poll it once, keep it, and wait
    /// for the same key elsewhere**, as the body of a loop over a `buffered` stream of look-ups does, or a
    /// branch of `select!`. In these cases use [`load`](Self::load), whose loader runs in its own task, or
    /// spawn this call. If it happens all the same, a waiter becomes the leader, with its own loader, 250 ms
    /// after this future was woken and not polled. This call then returns the value of its own loader and
    /// does not store it. The same holds for [`try_get_with`](Self::try_get_with),
    /// [`optionally_get_with`](Self::optionally_get_with) and [`get_many_with`](Self::get_many_with).
    ///
    /// See [`Cache::get_with`].
    pub async fn get_with(&self, key: K, loader: impl Future<Output = V>) -> V {
        match self.inner.hit(&key) {
            Some(value) => value,
            None => {
                infallible(self.inner.load_in_task(key, async { Ok::<_, Infallible>(loader.await) }).await)
            }
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
        match self.inner.hit(&key) {
            Some(value) => Ok(value),
            None => self.inner.load_in_task(key, loader).await,
        }
    }

    /// See [`Cache::optionally_get_with`].
    pub async fn optionally_get_with(&self, key: K, loader: impl Future<Output = Option<V>>) -> Option<V> {
        self.try_get_with(key, async { loader.await.ok_or(Nothing) }).await.ok()
    }

    /// Loads a value with the time limits, the stale window and the refresh-ahead of the cache; see
    /// [`Cache::load`]. The loader runs in its own task: the load continues if this call is dropped, and its
    /// waiters get the outcome. Outside a tokio runtime the loader runs in this call, and there is no refresh
    /// ahead in the background.
    ///
    /// # Errors
    /// See [`Cache::load`]; [`LoadError::Closed`] when the runtime shuts down first.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// let cache = larder::mcache::<u8, u8>("loads").build()?.to_async();
    /// let loaded = cache.load(1, |_| async { Ok::<_, std::io::Error>(2) }).await;
    /// assert!(matches!(loaded, Ok(2)));
    /// # Ok::<(), larder::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::manual_async_fn, reason = "an `async fn` cannot declare its future `Send`")]
    pub fn load<A, E, F, Fut>(
        &self,
        key: K,
        loader: F,
    ) -> impl Future<Output = Result<A::Found, LoadError<E>>> + Send
    where
        A: Answer<V> + Send + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<A, E>> + Send + 'static,
    {
        async move {
            if let Some(value) = self.inner.hit_of_load(&key) {
                return A::found(Some(value)).ok_or(LoadError::Closed);
            }
            let loaded = self.inner.tasks().load(Key::new(key), request(loader)).await;
            A::found(loaded.map_err(LoadError::typed)?.map(typed)).ok_or(LoadError::Closed)
        }
    }

    /// See [`Cache::insert`].
    pub async fn insert(&self, key: K, value: V) {
        if let Some((key, value)) = self.inner.insert_at_once(key, value) {
            self.insert_with(key, value, EntryOptions::new()).await;
        }
    }

    /// See [`Cache::try_insert`].
    pub async fn try_insert(&self, key: K, value: V) -> Result<Placement> {
        match self.inner.insert_at_once(key, value) {
            None => Ok(Placement::MEMORY_ONLY),
            Some((key, value)) => self.try_insert_with(key, value, EntryOptions::new()).await,
        }
    }

    /// See [`Cache::insert_with`].
    pub async fn insert_with(&self, key: K, value: V, options: EntryOptions) {
        // Ignored: the failure is counted and logged. `try_insert_with` returns it.
        let _counted = self.try_insert_with(key, value, options).await;
    }

    /// See [`Cache::try_insert_with`].
    pub async fn try_insert_with(&self, key: K, value: V, options: EntryOptions) -> Result<Placement> {
        self.inner.tasks().insert(Key::new(key), Value::new(value), options).await
    }

    /// See [`Cache::insert_if_absent`].
    pub async fn insert_if_absent(&self, key: K, value: V) -> Result<bool> {
        self.insert_if_absent_with(key, value, EntryOptions::new()).await
    }

    /// See [`Cache::insert_if_absent_with`].
    pub async fn insert_if_absent_with(&self, key: K, value: V, options: EntryOptions) -> Result<bool> {
        self.inner.tasks().insert_if_absent(Key::new(key), Value::new(value), options).await
    }

    /// See [`Cache::increment`].
    pub async fn increment(&self, key: K, delta: V, start: V) -> Result<V>
    where
        V: Counter,
    {
        self.inner.tasks().increment(Key::new(key), Increment::new(delta, start)).await.map(typed)
    }

    /// See [`Cache::touch`].
    pub async fn touch<Q>(&self, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.tasks().touch(&own::<K, Q>(key)).await
    }

    /// See [`Cache::expire_in`].
    pub async fn expire_in<Q>(&self, key: &Q, span: Duration) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.tasks().expire_in(&own::<K, Q>(key), span).await
    }

    /// See [`Cache::expire_at`].
    pub async fn expire_at<Q>(&self, key: &Q, time: Time) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.tasks().expire_at(&own::<K, Q>(key), time).await
    }

    /// See [`Cache::set_capacity`]. Evicts in this call.
    ///
    /// # Errors
    /// As [`Cache::set_capacity`].
    pub fn set_capacity(&self, entries: u64) -> Result<()> {
        self.to_sync().set_capacity(entries)
    }

    /// See [`Cache::set_memory_bytes`]. Evicts in this call.
    ///
    /// # Errors
    /// As [`Cache::set_memory_bytes`].
    pub fn set_memory_bytes(&self, bytes: u64) -> Result<()> {
        self.to_sync().set_memory_bytes(bytes)
    }

    /// See [`Cache::set_ttl`].
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.inner.engine.set_ttl(ttl);
    }

    /// See [`Cache::invalidate`].
    pub async fn invalidate<Q>(&self, key: &Q) -> Result<()>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.tasks().invalidate(&own::<K, Q>(key)).await
    }

    /// See [`Cache::invalidate_tag`].
    pub async fn invalidate_tag(&self, tag: impl Into<Tag>) -> Result<()> {
        self.inner.tasks().invalidate_tags(vec![tag.into()]).await
    }

    /// See [`Cache::invalidate_tags`].
    pub async fn invalidate_tags<T: Into<Tag>>(&self, tags: impl IntoIterator<Item = T>) -> Result<()> {
        let tags = tags.into_iter().map(Into::into).collect();
        self.inner.tasks().invalidate_tags(tags).await
    }

    /// See [`Cache::invalidate_all`].
    pub async fn invalidate_all(&self) -> Result<()> {
        self.inner.tasks().invalidate_all().await
    }

    /// See [`Cache::remove`].
    pub async fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.try_remove(key).await.unwrap_or(false)
    }

    /// See [`Cache::try_remove`].
    pub async fn try_remove<Q>(&self, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.inner.remove_at_once(key) {
            Some(removed) => Ok(removed),
            None => self.inner.tasks().remove(&Borrowed::<K, Q>::new(key)).await,
        }
    }

    /// See [`Cache::take`].
    pub async fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.tasks().take(&Borrowed::<K, Q>::new(key)).await.map(|value| value.map(typed))
    }

    /// See [`Cache::contains_key`].
    pub async fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.tasks().contains_key(&Borrowed::<K, Q>::new(key)).await.unwrap_or(false)
    }

    /// See [`Cache::clear`].
    pub async fn clear(&self) -> Result<()> {
        self.inner.tasks().clear().await
    }

    /// See [`Cache::len`].
    pub fn len(&self) -> u64 {
        self.inner.engine.len()
    }

    /// See [`Cache::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.inner.engine.is_empty()
    }

    /// See [`Cache::bytes`].
    pub fn bytes(&self) -> u64 {
        self.inner.engine.bytes()
    }

    /// See [`Cache::dir`].
    pub fn dir(&self) -> Option<&Path> {
        self.inner.engine.dir()
    }

    /// See [`Cache::is_private`].
    pub fn is_private(&self) -> bool {
        self.inner.engine.is_private()
    }

    /// See [`Cache::stats`].
    pub fn stats(&self) -> Stats {
        self.inner.engine.stats()
    }

    /// See [`Cache::explain`].
    pub async fn explain<Q>(&self, key: &Q) -> Result<Explanation>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.tasks().explain(&Borrowed::<K, Q>::new(key)).await
    }

    /// See [`Cache::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.inner.tasks().flush().await
    }

    /// See [`Cache::close`].
    pub async fn close(&self) -> Result<()> {
        self.inner.tasks().close().await
    }

    /// See [`Cache::destroy`].
    pub async fn destroy(&self) -> Result<()> {
        self.inner.tasks().destroy().await
    }

    /// See [`Cache::set_enabled`].
    pub async fn set_enabled(&self, enabled: bool) -> Result<()> {
        self.inner.tasks().set_enabled(enabled).await
    }

    /// See [`Cache::is_enabled`].
    pub fn is_enabled(&self) -> bool {
        self.inner.engine.is_enabled()
    }

    /// See [`Cache::name`].
    pub fn name(&self) -> &str {
        self.inner.engine.name()
    }
}

/// Erases the types of a loader.
fn request<V, A, E, F, Fut>(loader: F) -> LoadRequest
where
    V: Clone + Send + Sync + 'static,
    A: Answer<V> + Send + 'static,
    E: Send + Sync + 'static,
    F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<A, E>> + Send + 'static,
{
    let loader = move |context: LoadContext<Value>| -> Boxed<'static, Answered> {
        let answer = loader(context.typed());
        Box::pin(async { answer.await.map(|answer| answer.into_loaded().erased()).map_err(AnyError::new) })
    };
    let loader = Loader::Task(Box::new(loader));
    LoadRequest { loader, error: TypeId::of::<E>(), absence: A::MAY_BE_ABSENT }
}
