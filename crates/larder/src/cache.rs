//! The cache for threads.

use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;

use larder_core::Result;
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stats::Stats;
use larder_engine::wait::{Inline, block_on};
use larder_engine::{Engine, Entry, Explanation, LoadError};
use larder_tiers::memory::Store;

pub(crate) type CacheEngine<K, V> = Engine<K, V, Store<K, V>>;

/// A cache, as threads use it: a cheap handle, cloned and shared freely.
///
/// Values are handed out as clones: keep what is dear to clone in an `Arc`, or
/// bytes in [`Bytes`](crate::Bytes). Keys are found by their borrowed forms:
/// `&str` finds a `String`.
///
/// What was read or loaded is never stored over a change that came meanwhile:
/// an `insert`, `remove` or `clear` wins.
///
/// Calls on disk and files happen in the calling thread. Inside an async
/// runtime use [`to_async`](Self::to_async).
///
/// The last handle that goes takes what is in memory with it and leaves the
/// flushing to the tiers; [`close`](Self::close) does it at a known time, and
/// tells how it went.
pub struct Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) engine: Arc<CacheEngine<K, V>>,
}

impl<K, V> Clone for Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self { engine: Arc::clone(&self.engine) }
    }
}

impl<K, V> fmt::Debug for Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn over(engine: Arc<CacheEngine<K, V>>) -> Self {
        Self { engine }
    }

    /// The same cache for tasks. Both may be used at once; a load in progress
    /// is shared between them.
    #[cfg(feature = "async")]
    pub fn to_async(&self) -> crate::AsyncCache<K, V> {
        crate::AsyncCache::over(Arc::clone(&self.engine))
    }

    /// The value of `key`, from the nearest tier that has it; `None` when none
    /// does. A tier that fails counts as having none, and the failure is counted.
    ///
    /// A hit in memory costs what moka's costs. A hit beyond is copied into
    /// memory where its placement says so.
    ///
    /// ```
    /// let cache = larder::mcache::<String, u32>("ages").build()?;
    /// cache.insert("Ada".to_owned(), 36);
    /// assert_eq!(cache.get("Ada"), Some(36));
    /// assert_eq!(cache.get("Grace"), None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.engine.hit(key) {
            Some(value) => Some(value),
            None => self.get_beyond(key).ok().flatten(),
        }
    }

    /// As [`get`](Self::get), and a failure is returned when no tier had the
    /// entry.
    ///
    /// # Errors
    /// The last failure of a tier; [`ErrorKind::Codec`](crate::ErrorKind::Codec)
    /// for a key that cannot be encoded.
    #[inline]
    pub fn try_get<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.engine.hit(key) {
            Some(value) => Ok(Some(value)),
            None => self.get_beyond(key),
        }
    }

    #[cold]
    fn get_beyond<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.get::<Inline, Q>(key))
    }

    /// The value with its provenance: which tier answered, which one is its
    /// home, how old it is.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    ///
    /// ```
    /// let cache = larder::mcache::<u8, &str>("names").build()?;
    /// cache.insert(1, "one");
    /// let entry = cache.inspect(&1)?.unwrap();
    /// assert_eq!((entry.value, entry.tier), ("one", larder::TierKind::Memory));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn inspect<Q>(&self, key: &Q) -> Result<Option<Entry<V>>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.inspect::<Inline, Q>(key))
    }

    /// The value of `key`; where it is missing, from `loader`, which is stored
    /// and returned.
    ///
    /// Among all who ask meanwhile, threads and tasks, one runs its loader and
    /// the others share the value. When the leader panics, one of those who
    /// wait leads next, with its own loader. A loader may ask for other keys;
    /// when it asks for its own, it loads without waiting.
    ///
    /// Inside an async runtime a thread does not wait for a load that a task
    /// leads, which could deadlock: it loads by itself and stores nothing.
    ///
    /// ```
    /// let cache = larder::mcache::<u64, u64>("squares").build()?;
    /// assert_eq!(cache.get_with(7, || 49), 49);
    /// assert_eq!(cache.get_with(7, || unreachable!()), 49);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_with(&self, key: K, loader: impl FnOnce() -> V) -> V {
        match self.engine.hit(&key) {
            Some(value) => value,
            None => block_on(self.engine.get_with::<Inline, _, _>(key, || async { loader() })),
        }
    }

    /// As [`get_with`](Self::get_with), for a loader that may fail. Nothing is
    /// stored then, and those who waited with a loader of the same error type
    /// share the error; the others lead next.
    ///
    /// # Errors
    /// That of the loader.
    ///
    /// ```
    /// let cache = larder::mcache::<String, i32>("parsed").build()?;
    /// let parse = |text: &str| cache.try_get_with(text.to_owned(), || text.parse::<i32>());
    /// assert_eq!(parse("7").unwrap(), 7);
    /// assert!(parse("seven").is_err());
    /// assert_eq!(cache.get("seven"), None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn try_get_with<E>(&self, key: K, loader: impl FnOnce() -> Result<V, E>) -> Result<V, Arc<E>>
    where
        E: Send + Sync + 'static,
    {
        match self.engine.hit(&key) {
            Some(value) => Ok(value),
            None => block_on(self.engine.try_get_with::<Inline, E, _, _>(key, || async { loader() })),
        }
    }

    /// As [`try_get_with`](Self::try_get_with); a panic of the loader is caught
    /// and shared like an error.
    ///
    /// # Errors
    /// [`LoadError::Loader`] with the error of the loader, shared;
    /// [`LoadError::Panicked`] when it panicked.
    ///
    /// ```
    /// use larder::LoadError;
    ///
    /// let cache = larder::mcache::<u8, u8>("loads").build()?;
    /// assert!(matches!(cache.load(1, || Ok::<_, std::io::Error>(2)), Ok(2)));
    /// let failed = cache.load(3, || Err::<u8, _>("no source"));
    /// assert!(matches!(failed, Err(LoadError::Loader(error)) if *error == "no source"));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn load<E, F>(&self, key: K, loader: F) -> Result<V, LoadError<E>>
    where
        E: Send + Sync + 'static,
        F: FnOnce() -> Result<V, E> + Send + 'static,
    {
        match self.engine.hit(&key) {
            Some(value) => Ok(value),
            None => block_on(self.engine.load::<Inline, E, _, _>(key, || async { loader() })),
        }
    }

    /// Stores `value` under `key`, in place of what was there. What goes wrong
    /// is counted and logged, and the former entry is gone in any case.
    pub fn insert(&self, key: K, value: V) {
        // Counted and logged where it happened; `try_insert` returns it.
        let _counted = self.try_insert(key, value);
    }

    /// As [`insert`](Self::insert), and says where the entry went and by which
    /// rule.
    ///
    /// # Errors
    /// When no tier took the entry. The former one is gone.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("placed").build()?;
    /// assert_eq!(cache.try_insert(1, 2)?.to_string(), "memory: memory is the only tier");
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn try_insert(&self, key: K, value: V) -> Result<Placement> {
        block_on(self.engine.insert::<Inline>(key, value))
    }

    /// Removes the entry of `key` from every tier; whether there was one.
    ///
    /// Where a tier fails to remove its copy, that copy is not served any more.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.remove::<Inline, Q>(key)).unwrap_or(false)
    }

    /// Removes the entry of `key` and returns its value. Of many who take, one
    /// gets it.
    ///
    /// # Errors
    /// When a tier failed. The entry is not served any more, and its value is lost.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("once").build()?;
    /// cache.insert(1, 2);
    /// assert_eq!(cache.take(&1)?, Some(2));
    /// assert_eq!(cache.take(&1)?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.take::<Inline, Q>(key))
    }

    /// Whether there is an entry for `key`. Not counted as a use of it. Reads
    /// no payload: an entry that turns out to be torn is still there for this call.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.contains_key::<Inline, Q>(key)).unwrap_or(false)
    }

    /// Removes every entry of every tier.
    ///
    /// # Errors
    /// When a tier failed; it is not asked any more until a later `clear` succeeds.
    pub fn clear(&self) -> Result<()> {
        block_on(self.engine.clear::<Inline>())
    }

    /// How many entries there are: local and approximate. With tiers beyond
    /// memory it costs a pass over the entries in memory.
    pub fn len(&self) -> u64 {
        self.engine.len()
    }

    /// Whether there are none, as [`len`](Self::len) counts.
    pub fn is_empty(&self) -> bool {
        self.engine.is_empty()
    }

    /// Bytes in all tiers: weights in memory (zero where the bound is a
    /// capacity), bytes of files beyond. Local and approximate.
    pub fn bytes(&self) -> u64 {
        self.engine.bytes()
    }

    /// The keys, each once, in no order. Scans every tier. Entries that come
    /// or go meanwhile may be missed.
    ///
    /// # Errors
    /// When a tier cannot be scanned.
    pub fn keys(&self) -> Result<Vec<Arc<K>>> {
        block_on(self.engine.keys::<Inline>())
    }

    /// The directory of the cache; `None` for one in memory alone. When another
    /// process has the directory of this name, it is a private one beside it.
    pub fn dir(&self) -> Option<&Path> {
        self.engine.dir()
    }

    /// Statistics of this moment; they print as a table.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Where the entry of `key` is, and where an insert would put it, by which
    /// rule. For people: it reads the whole frame.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("why").build()?;
    /// assert_eq!(cache.explain(&1)?.to_string(), "absent");
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn explain<Q>(&self, key: &Q) -> Result<Explanation>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        block_on(self.engine.explain::<Inline, Q>(key))
    }

    /// Hands what tiers have buffered to the operating system: it survives the
    /// end of the process from here on.
    ///
    /// # Errors
    /// The first failure of a tier; the others are flushed all the same.
    pub fn flush(&self) -> Result<()> {
        block_on(self.engine.flush::<Inline>())
    }

    /// Ends the cache for all its handles: waits for writes in progress,
    /// flushes, and lets go of files and locks. From then on look-ups miss,
    /// inserts are dropped and counted, and loads pass through.
    ///
    /// # Errors
    /// The first failure of a tier; the others are closed all the same.
    pub fn close(&self) -> Result<()> {
        block_on(self.engine.close::<Inline>())
    }
}
