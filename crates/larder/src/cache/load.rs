//! Look-ups that load what is missing.

use std::any::TypeId;
use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;

use larder_core::erased::{AnyError, Key, Value};
use larder_core::key::Lookup;
use larder_engine::{Answer, LoadContext, LoadError, LoadRequest, Loader};

use crate::Cache;
use crate::typed::typed;

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns the value of `key`. On a miss it runs `loader`, stores the value and returns it.
    ///
    /// Concurrent callers of one key, threads and tasks, form a single flight: one caller, the leader, runs
    /// its loader, and the waiters share the value. If the leader panics, a waiter becomes the leader and
    /// runs its own loader. A loader may load other keys. If a loader loads its own key, or if loaders of
    /// several keys would wait for one another in a cycle, the last caller loads without waiting. Each level
    /// of nested loaders takes stack. A loader that waits for other threads (of rayon, say) can deadlock if
    /// these load its key: see [the page on
    /// loading](https://github.com/larder-rs/larder/blob/main/docs/loading.md).
    ///
    /// Inside an async runtime a thread does not wait for a load that a task leads, since that could
    /// deadlock: it runs its own loader and stores nothing. In a single-threaded runtime it waits for no load
    /// of another caller at all.
    ///
    /// ```
    /// let cache = larder::mcache::<u64, u64>("squares").build()?;
    /// assert_eq!(cache.get_with(7, || 49), 49);
    /// assert_eq!(cache.get_with(7, || unreachable!()), 49);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "or_insert_with")]
    #[doc(alias = "get_or_insert_with")]
    pub fn get_with(&self, key: K, loader: impl FnOnce() -> V) -> V {
        match self.inner.hit_or_miss(&key) {
            Ok(value) => value,
            Err(miss) => infallible(self.inner.load_in_thread((key, miss), || Ok::<_, Infallible>(loader()))),
        }
    }

    /// As [`get_with`](Self::get_with), for a loader that may fail. An error stores nothing. Waiters whose
    /// loaders have the same error type share the error; one of the others becomes the next leader.
    ///
    /// # Errors
    /// The error of the loader.
    ///
    /// ```
    /// let cache = larder::mcache::<String, i32>("parsed").build()?;
    /// let parse = |text: &str| cache.try_get_with(text.to_owned(), || text.parse::<i32>());
    /// assert_eq!(parse("7").unwrap(), 7);
    /// assert!(parse("seven").is_err());
    /// assert_eq!(cache.get("seven"), None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "or_try_insert_with")]
    #[doc(alias = "get_or_insert_with")]
    pub fn try_get_with<E>(&self, key: K, loader: impl FnOnce() -> Result<V, E>) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        match self.inner.hit_or_miss(&key) {
            Ok(value) => Ok(value),
            Err(miss) => self.inner.load_in_thread((key, miss), loader),
        }
    }

    /// As [`get_with`](Self::get_with), for a loader that may return `None`. `None` is not stored; concurrent
    /// callers of this method share it.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, char>("letters").build()?;
    /// assert_eq!(cache.optionally_get_with(1, || None), None);
    /// assert_eq!(cache.optionally_get_with(1, || Some('a')), Some('a'));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "or_optionally_insert_with")]
    pub fn optionally_get_with(&self, key: K, loader: impl FnOnce() -> Option<V>) -> Option<V> {
        self.try_get_with(key, || loader().ok_or(Nothing)).ok()
    }

    /// As [`get_with`](Self::get_with), for a borrowed form of the key. A hit allocates nothing; a miss makes
    /// the key and clones it.
    ///
    /// ```
    /// let cache = larder::mcache::<String, usize>("lengths").build()?;
    /// assert_eq!(cache.get_with_by_ref("larder", || 6), 6);
    /// assert_eq!(cache.get_with_by_ref("larder", || unreachable!()), 6);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_with_by_ref<Q>(&self, key: &Q, loader: impl FnOnce() -> V) -> V
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        match self.inner.hit_or_miss(key) {
            Ok(value) => value,
            Err(miss) => infallible(
                self.inner.load_in_thread((key.with_key(K::clone), miss), || Ok::<_, Infallible>(loader())),
            ),
        }
    }

    /// As [`try_get_with`](Self::try_get_with), for a borrowed form of the key; see
    /// [`get_with_by_ref`](Self::get_with_by_ref).
    ///
    /// # Errors
    /// The error of the loader.
    pub fn try_get_with_by_ref<Q, E>(
        &self,
        key: &Q,
        loader: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, Arc<E>>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
        E: Send + Sync + 'static,
    {
        match self.inner.hit_or_miss(key) {
            Ok(value) => Ok(value),
            Err(miss) => self.inner.load_in_thread((key.with_key(K::clone), miss), loader),
        }
    }

    /// As [`optionally_get_with`](Self::optionally_get_with), for a borrowed form of the key; see
    /// [`get_with_by_ref`](Self::get_with_by_ref).
    pub fn optionally_get_with_by_ref<Q>(&self, key: &Q, loader: impl FnOnce() -> Option<V>) -> Option<V>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.try_get_with_by_ref(key, || loader().ok_or(Nothing)).ok()
    }

    /// Returns the value of `key`. On a miss it runs `loader`, with the time limits and the stale window of the
    /// cache. The loader belongs to the flight and not to its first caller: a panic is caught and shared like an
    /// error. A stale value serves if the loader fails or takes long. With `refresh_ahead`, a hit near its
    /// deadline starts a refresh.
    ///
    /// The loader receives the former value, where one is left, and returns a value or a
    /// [`Loaded`](crate::Loaded): a value with its own time to live and tags, "not modified", "absent", or a
    /// value that is not to be stored. With a plain value this method returns a value; with a `Loaded` it
    /// returns `None` if the answer was "absent".
    ///
    /// The loader runs in this thread. It runs in a bounded pool of threads if the cache has a
    /// [`hard_timeout`](crate::MemoryBuilder::hard_timeout), if it has a
    /// [`soft_timeout`](crate::MemoryBuilder::soft_timeout) and a stale value, or if the call only starts a
    /// refresh. A cache has one pool, of at most 64 threads, which end when they are idle.
    ///
    /// # Errors
    /// See [`LoadError`]: the loader failed, panicked or took too long, and there is no stale value to serve
    /// instead; it answered "not modified" without a former value; or the cache was closed meanwhile.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{EntryOptions, LoadError, Loaded};
    /// let cache = larder::mcache::<u8, u8>("loads").build()?;
    /// assert!(matches!(cache.load(1, |_| Ok::<_, std::io::Error>(2)), Ok(2)));
    /// let failed = cache.load(3, |_| Err::<u8, _>("no source")).unwrap_err();
    /// assert_eq!(failed.to_string(), "the loader failed: no source");
    /// assert!(matches!(failed, LoadError::Loader(error) if *error == "no source"));
    /// let hour = Duration::from_secs(3600);
    /// let tagged = move |_| Ok::<_, ()>(Loaded::Value(5).with(EntryOptions::new().ttl(hour).tag("odd")));
    /// assert!(matches!(cache.load(4, tagged), Ok(Some(5))));
    /// let absent = move |_| Ok::<_, ()>(Loaded::Absent { ttl: hour });
    /// assert!(matches!(cache.load(6, absent), Ok(None)));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn load<A, E, F>(&self, key: K, loader: F) -> Result<A::Found, LoadError<E>>
    where
        A: Answer<V> + Send + 'static,
        E: Send + Sync + 'static,
        F: FnOnce(LoadContext<V>) -> Result<A, E> + Send + 'static,
    {
        if let Some(value) = self.inner.hit_of_load(&key) {
            return A::found(Some(value)).ok_or(LoadError::Closed);
        }
        let loader = move |context: LoadContext<Value>| {
            loader(context.typed()).map(|answer| answer.into_loaded().erased()).map_err(AnyError::new)
        };
        let loader = Loader::Call(Box::new(loader));
        let request = LoadRequest { loader, error: TypeId::of::<E>(), absence: A::MAY_BE_ABSENT };
        let loaded = self.inner.threads().load(Key::new(key), request).map_err(LoadError::typed)?;
        A::found(loaded.map(typed)).ok_or(LoadError::Closed)
    }
}

/// The error of a loader that returned `None`.
#[derive(Debug)]
pub(crate) struct Nothing;

/// Unwraps the result of a loader that cannot fail.
pub(crate) fn infallible<V>(loaded: Result<V, Arc<Infallible>>) -> V {
    match loaded {
        Ok(value) => value,
        Err(never) => match *never {},
    }
}

#[cfg(feature = "async")]
mod tasks {
    use super::{Arc, Hash, Infallible, Lookup, Nothing, infallible};
    use crate::AsyncCache;

    impl<K, V> AsyncCache<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        /// As [`get_with`](Self::get_with), for a borrowed form of the key; see
        /// [`Cache::get_with_by_ref`](crate::Cache::get_with_by_ref).
        pub async fn get_with_by_ref<Q>(&self, key: &Q, loader: impl Future<Output = V>) -> V
        where
            Q: Lookup<K> + Sync + ?Sized,
            K: Clone,
        {
            match self.inner.hit(key) {
                Some(value) => value,
                None => {
                    let loader = async { Ok::<_, Infallible>(loader.await) };
                    infallible(self.inner.load_in_task(key.with_key(K::clone), loader).await)
                }
            }
        }

        /// As [`try_get_with`](Self::try_get_with), for a borrowed form of the key.
        ///
        /// # Errors
        /// See [`Cache::try_get_with`](crate::Cache::try_get_with).
        pub async fn try_get_with_by_ref<Q, E>(
            &self,
            key: &Q,
            loader: impl Future<Output = Result<V, E>>,
        ) -> Result<V, Arc<E>>
        where
            Q: Lookup<K> + Sync + ?Sized,
            K: Clone,
            E: Send + Sync + 'static,
        {
            match self.inner.hit(key) {
                Some(value) => Ok(value),
                None => self.inner.load_in_task(key.with_key(K::clone), loader).await,
            }
        }

        /// As [`optionally_get_with`](Self::optionally_get_with), for a borrowed form of the key.
        pub async fn optionally_get_with_by_ref<Q>(
            &self,
            key: &Q,
            loader: impl Future<Output = Option<V>>,
        ) -> Option<V>
        where
            Q: Lookup<K> + Sync + ?Sized,
            K: Clone,
        {
            self.try_get_with_by_ref(key, async { loader.await.ok_or(Nothing) }).await.ok()
        }
    }
}
