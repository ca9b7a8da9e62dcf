//! The cache for threads.

use std::any::TypeId;
use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::{EntryOptions, Tag};
use larder_core::erased::{AnyError, Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stats::Stats;
use larder_engine::{
    Answer, Counter, Engine, Entry, Explanation, Increment, LoadContext, LoadError, LoadRequest, Loader,
};
use larder_tiers::memory::Store;

use crate::registry::{self, Living};
use crate::typed::{TypedEngine, any, borrowed, own, typed};

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
/// The last handle that goes takes what is in memory with it and closes the
/// tiers: in place, or on the blocking pool where it goes inside a tokio
/// runtime. What fails then is logged; [`close`](Self::close) does it at a
/// known time, and tells how it went.
pub struct Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) inner: TypedEngine<K, V>,
}

impl<K, V> Clone for Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
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
    pub(crate) fn over(inner: TypedEngine<K, V>) -> Self {
        Self { inner }
    }

    /// A new cache.
    pub(crate) fn new(engine: Arc<Engine>, memory: Arc<Store<K, V>>, name: &str) -> Self {
        engine.set_name(name);
        #[cfg(feature = "metrics")]
        engine.set_on_last_handle(crate::metrics::publish_last);
        let cache = Self::over(TypedEngine::new(engine, memory));
        registry::enlist(cache.living());
        cache
    }

    /// The cache as far as its life is concerned; keeps nothing alive.
    pub(crate) fn living(&self) -> Weak<dyn Living> {
        let engine: Weak<Engine> = Arc::downgrade(&self.inner.engine);
        engine
    }

    /// The value, where it is in memory.
    #[inline]
    pub(crate) fn hit<Q: Lookup<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.inner.hit(key)
    }

    /// The same cache for tasks. Both may be used at once; a load in progress
    /// is shared between them.
    #[cfg(feature = "async")]
    pub fn to_async(&self) -> crate::AsyncCache<K, V> {
        crate::AsyncCache::over(self.inner.clone())
    }

    /// The value of `key`, from the nearest tier that has it; `None` when none
    /// does. A tier that fails counts as having none, and the failure is counted.
    ///
    /// A use of the entry: the eviction policy counts it, and its idle time starts anew.
    /// A hit in a tier beyond memory is copied into memory where its placement says so.
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
        match self.inner.hit(key) {
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
        match self.inner.hit(key) {
            Some(value) => Ok(Some(value)),
            None => self.get_beyond(key),
        }
    }

    #[cold]
    fn get_beyond<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.threads().get(&Borrowed::<K, Q>::new(key)).map(|value| value.map(typed))
    }

    /// The value with its provenance: which tier answered, which one is its
    /// home, how old it is. A use of the entry for the eviction policy, not for its idle time.
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
        let entry = self.inner.threads().inspect(&Borrowed::<K, Q>::new(key))?;
        Ok(entry.and_then(|entry| entry.and_then(|value| Some(typed(value)))))
    }

    /// The value of `key`; where it is missing, from `loader`, which is stored
    /// and returned.
    ///
    /// Among all who ask meanwhile, threads and tasks, one runs its loader and
    /// the others share the value. When the leader panics, one of those who
    /// wait leads next, with its own loader. A loader may ask for other keys.
    /// Where it asks for its own, or loaders of several keys would wait for one
    /// another in a ring, the last to ask loads without waiting. Each level of loaders
    /// takes stack, and a loader that waits for other threads (rayon's, say) can
    /// deadlock if these ask for its key: see
    /// [the page on loading](https://github.com/larder-rs/larder/blob/main/docs/loading.md).
    ///
    /// Inside an async runtime a thread does not wait for a load that a task
    /// leads, which could deadlock: it loads by itself and stores nothing. In a
    /// runtime of one thread it waits for no load of others at all.
    ///
    /// ```
    /// let cache = larder::mcache::<u64, u64>("squares").build()?;
    /// assert_eq!(cache.get_with(7, || 49), 49);
    /// assert_eq!(cache.get_with(7, || unreachable!()), 49);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn get_with(&self, key: K, loader: impl FnOnce() -> V) -> V {
        match self.inner.hit(&key) {
            Some(value) => value,
            None => infallible(self.inner.load_here(key, || Ok::<_, Infallible>(loader()))),
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
        match self.inner.hit(&key) {
            Some(value) => Ok(value),
            None => self.inner.load_here(key, loader),
        }
    }

    /// As [`get_with`](Self::get_with), for a loader that may find nothing.
    /// Nothing is stored then; those who wait with this call share that.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, char>("letters").build()?;
    /// assert_eq!(cache.optionally_get_with(1, || None), None);
    /// assert_eq!(cache.optionally_get_with(1, || Some('a')), Some('a'));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn optionally_get_with(&self, key: K, loader: impl FnOnce() -> Option<V>) -> Option<V> {
        self.try_get_with(key, || loader().ok_or(Nothing)).ok()
    }

    /// The full form of loading. The loader belongs to the flight, not to its
    /// first caller: a panic of it is caught and shared like an error, the time
    /// limits of the cache apply, a stale value serves where it fails or takes
    /// long, and an entry close to its deadline is refreshed ahead.
    ///
    /// The loader is told what is left of the former value, and answers with a
    /// value or with a [`Loaded`](crate::Loaded): a value with a time to live
    /// and tags of its own, «not modified», «absent», or a value that is not to
    /// be stored. With a plain value this finds a value; with a `Loaded` it
    /// finds `None` where the answer was that there is none.
    ///
    /// It runs in this thread, unless the cache has a
    /// [`hard_timeout`](crate::MemoryBuilder::hard_timeout), or a
    /// [`soft_timeout`](crate::MemoryBuilder::soft_timeout) and a stale value,
    /// or only refreshes: then in a bounded pool of threads that end when they
    /// are idle.
    ///
    /// # Errors
    /// See [`LoadError`]: the loader failed, panicked or took too long, and
    /// there is no stale value to serve instead.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{EntryOptions, LoadError, Loaded};
    ///
    /// let cache = larder::mcache::<u8, u8>("loads").build()?;
    /// assert!(matches!(cache.load(1, |_| Ok::<_, std::io::Error>(2)), Ok(2)));
    /// let failed = cache.load(3, |_| Err::<u8, _>("no source"));
    /// assert!(matches!(failed, Err(LoadError::Loader(error)) if *error == "no source"));
    ///
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
        match self.inner.insert_at_once(key, value) {
            Ok(placement) => Ok(placement),
            Err((key, value)) => self.try_insert_with(key, value, EntryOptions::new()),
        }
    }

    /// As [`insert`](Self::insert), with a time to live or tags of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::EntryOptions;
    ///
    /// let cache = larder::mcache::<&str, u32>("prices").build()?;
    /// cache.insert_with("rye", 3, EntryOptions::new().ttl(Duration::from_secs(60)).tag("grain"));
    /// cache.invalidate_tag("grain")?;
    /// assert_eq!(cache.get(&"rye"), None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert_with(&self, key: K, value: V, options: EntryOptions) {
        // Counted and logged where it happened; `try_insert_with` returns it.
        let _counted = self.try_insert_with(key, value, options);
    }

    /// As [`insert_with`](Self::insert_with), and says where the entry went.
    ///
    /// # Errors
    /// As [`try_insert`](Self::try_insert);
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for options out of their
    /// ranges, and nothing is changed then.
    pub fn try_insert_with(&self, key: K, value: V, options: EntryOptions) -> Result<Placement> {
        self.inner.threads().insert(Key::new(key), Value::new(value), options)
    }

    /// Stores `value` unless there is an entry; whether it was stored. Of many
    /// who call, one stores. An expired entry is as good as none.
    ///
    /// # Errors
    /// Those of [`try_insert`](Self::try_insert); when a tier that may have the
    /// entry failed, and nothing is stored then.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("first").build()?;
    /// assert!(cache.insert_if_absent(1, 2)?);
    /// assert!(!cache.insert_if_absent(1, 3)?);
    /// assert_eq!(cache.get(&1), Some(2));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<bool> {
        self.inner.threads().insert_if_absent(Key::new(key), Value::new(value), EntryOptions::new())
    }

    /// Adds `delta` to the entry of `key`, or to `start` where there is none,
    /// and returns the sum. No two callers read the same value. An entry that
    /// is there keeps its time to live and tags.
    ///
    /// # Errors
    /// When the sum cannot be represented, or a tier that may have the entry
    /// failed; nothing changes then. Those of [`try_insert`](Self::try_insert).
    ///
    /// ```
    /// let cache = larder::mcache::<&str, u64>("visits").build()?;
    /// assert_eq!(cache.increment("home", 1, 0)?, 1);
    /// assert_eq!(cache.increment("home", 2, 0)?, 3);
    /// assert!(cache.increment("home", u64::MAX, 0).is_err());
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn increment(&self, key: K, delta: V, start: V) -> Result<V>
    where
        V: Counter,
    {
        self.inner.threads().increment(Key::new(key), Increment::new(delta, start)).map(typed)
    }

    /// Starts the time to live and the idle time of an entry anew; whether it
    /// was there. Beyond memory it writes the entry again.
    ///
    /// # Errors
    /// When a tier failed: there the entry has the deadline of before, or is gone.
    pub fn touch<Q>(&self, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().touch(&own::<K, Q>(key))
    }

    /// Has an entry expire after `span`; whether it was there. `Duration::MAX` means never.
    ///
    /// # Errors
    /// See [`touch`](Self::touch).
    pub fn expire_in<Q>(&self, key: &Q, span: Duration) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().expire_in(&own::<K, Q>(key), span)
    }

    /// Has an entry expire when the wall clock shows `time`; whether it was there.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use larder::{Clock, SystemClock};
    ///
    /// let cache = larder::mcache::<u8, u8>("until").build()?;
    /// cache.insert(1, 2);
    /// assert!(cache.expire_at(&1, SystemClock.now().after(Duration::from_secs(60)))?);
    /// # Ok::<(), larder::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`touch`](Self::touch).
    pub fn expire_at<Q>(&self, key: &Q, time: Time) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().expire_at(&own::<K, Q>(key), time)
    }

    /// Changes the most entries that memory holds, and evicts what exceeds it. With
    /// `memory_bytes` both bounds hold.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of the range of the
    /// option `capacity`, `ErrorKind::Unsupported` with the engine moka.
    ///
    /// ```
    /// let cache = larder::mcache::<u32, u32>("squares").capacity(1000).build()?;
    /// (0..1000).for_each(|n| cache.insert(n, n * n));
    /// cache.set_capacity(10)?;
    /// assert_eq!(cache.len(), 10);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn set_capacity(&self, entries: u64) -> Result<()> {
        crate::builder::within("capacity", entries, crate::builder::CAPACITY, "entries")?;
        self.inner.engine.set_bounds(|bounds| bounds.entries = Some(entries))
    }

    /// Changes the most bytes that memory holds, and evicts what exceeds it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a value out of the range of the
    /// option `memory_bytes`, and for a cache that was built without it: its entries were
    /// not weighed. `ErrorKind::Unsupported` with the engine moka.
    pub fn set_memory_bytes(&self, bytes: u64) -> Result<()> {
        crate::builder::within("memory_bytes", bytes, crate::builder::MEMORY_BYTES, "bytes")?;
        if self.inner.engine.bounds().bytes.is_none() {
            let given = "bytes for a cache that counts entries";
            return Err(crate::Error::config("memory_bytes", given, "a cache built with `memory_bytes`"));
        }
        self.inner.engine.set_bounds(|bounds| bounds.bytes = Some(bytes))
    }

    /// Sets the time to live of later writes; `None` for none.
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        self.inner.engine.set_ttl(ttl);
    }

    /// Removes the entries in memory that may not be served any more, and returns how many.
    /// Rarely needed: expired entries leave by themselves in the course of inserts, within
    /// about 16 ms after their deadline, and before any other entry. Costs a pass over the
    /// entries in memory. Other tiers remove theirs when they are read or make room.
    pub fn sweep(&self) -> u64 {
        self.inner.engine.sweep()
    }

    /// Expires an entry, and what is being loaded of it now. Within its stale
    /// window it may still serve where a load fails; without one it is removed.
    ///
    /// # Errors
    /// When a tier failed. What may be left there is not served.
    pub fn invalidate<Q>(&self, key: &Q) -> Result<()>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().invalidate(&own::<K, Q>(key))
    }

    /// Expires every entry with this tag, in every tier, and what is being
    /// loaded now. Costs the same however many entries there are.
    ///
    /// # Errors
    /// When it could not be written down: this cache goes by it all the same,
    /// and the next one over the same directory begins empty.
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) while Redis is
    /// away: this node goes by it, the others once Redis is back.
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a directory
    /// that processes share: then nothing is invalidated.
    pub fn invalidate_tag(&self, tag: impl Into<Tag>) -> Result<()> {
        self.invalidate_tags([tag])
    }

    /// Expires every entry with one of these tags, in one step.
    ///
    /// # Errors
    /// See [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_tags<T: Into<Tag>>(&self, tags: impl IntoIterator<Item = T>) -> Result<()> {
        let tags = tags.into_iter().map(Into::into).collect();
        self.inner.threads().invalidate_tags(tags)
    }

    /// Expires every entry, in every tier, and what is being loaded now. They
    /// may still serve as stale; [`clear`](Self::clear) leaves nothing.
    ///
    /// # Errors
    /// See [`invalidate_tag`](Self::invalidate_tag).
    pub fn invalidate_all(&self) -> Result<()> {
        self.inner.threads().invalidate_all()
    }

    /// Removes the entry of `key` from every tier; whether there was one that could be served.
    ///
    /// Where a tier fails to remove its copy, that copy is not served any more.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.threads().remove(&Borrowed::<K, Q>::new(key)).unwrap_or(false)
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
        self.inner.threads().take(&Borrowed::<K, Q>::new(key)).map(|value| value.map(typed))
    }

    /// Whether there is an entry for `key`. Not a use of it: neither the eviction policy
    /// nor the idle time sees it. Reads no payload: a corrupt entry is still there for this
    /// call.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.threads().contains_key(&Borrowed::<K, Q>::new(key)).unwrap_or(false)
    }

    /// The values of `keys`, in their order. A tier that fails counts as having
    /// none.
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

    /// Stores entries, as [`insert`](Self::insert) does one.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) {
        // Counted and logged where it happened; `try_insert_many` returns it.
        let _counted = self.try_insert_many(entries, EntryOptions::new());
    }

    /// Stores entries with the same options.
    ///
    /// # Errors
    /// The first failure; the other entries are stored all the same.
    pub fn try_insert_many(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        options: EntryOptions,
    ) -> Result<()> {
        let entries = entries.into_iter().map(|(key, value)| (Key::new(key), Value::new(value)));
        self.inner.threads().insert_many(entries.collect(), options)
    }

    /// Removes entries; how many there were.
    ///
    /// # Errors
    /// The first failure of a tier; what is left there is not served any more,
    /// and the other keys are removed all the same.
    pub fn remove_many<Q>(&self, keys: &[Q]) -> Result<u64>
    where
        Q: Lookup<K> + Sync,
    {
        self.inner.threads().remove_many(&any(&borrowed::<K, Q>(keys)))
    }

    /// The values of `keys`, in their order; the missing ones from `loader`.
    ///
    /// The loader sees the missing keys that nobody else is loading, each once
    /// and in order, and may answer for some. Each key is loaded once among all
    /// who ask, one by one or in batches that overlap. The loader is called
    /// again only for keys whose load by another ended without a value.
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
    /// That of the loader, shared with all who wait for one of its keys.
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
        self.inner.load_many_here(keys.into_iter().collect(), loader)
    }

    /// Removes every entry of every tier.
    ///
    /// # Errors
    /// When a tier failed; it is not asked any more until a later `clear` succeeds.
    pub fn clear(&self) -> Result<()> {
        self.inner.threads().clear()
    }

    /// How many entries there are. In memory those count that could be served now: neither
    /// expired nor invalidated ones, and none of which memory only knows that there is no
    /// value; other tiers count those they have not removed yet as well. Costs a pass over
    /// the entries in memory.
    pub fn len(&self) -> u64 {
        self.inner.engine.len()
    }

    /// Whether there are none, as [`len`](Self::len) counts.
    pub fn is_empty(&self) -> bool {
        self.inner.engine.is_empty()
    }

    /// Bytes in all tiers: weights in memory (zero where the bound is a
    /// capacity), bytes of files beyond. Local and approximate.
    pub fn bytes(&self) -> u64 {
        self.inner.engine.bytes()
    }

    /// The keys of the entries that could be served now, each once, in no order. Scans
    /// every tier. Entries that come or go meanwhile may be missed. Not a use of them.
    ///
    /// # Errors
    /// When a tier cannot be scanned.
    pub fn keys(&self) -> Result<Vec<Arc<K>>>
    where
        K: Clone,
    {
        let keys = self.inner.threads().keys(self.inner.keys_in_memory())?;
        Ok(keys.into_iter().filter_map(Key::into_shared).collect())
    }

    /// The keys of the entries that memory would evict last, the hottest first, at most `n`:
    /// about so, since each shard of the memory engine knows its own order. Empty with the
    /// engine moka. Costs a pass over the entries in memory. Not a use of them.
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

    /// The entries, in no order: the keys there are now, and of each the value
    /// that it has when its turn comes. Costs what [`keys`](Self::keys) costs and
    /// a [`get`](Self::get) an entry, which counts as one. Entries that come or
    /// go meanwhile may be missed.
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

    /// The directory of the cache; `None` for one in memory alone. When another
    /// process has the directory of this name, it is a private one beside it.
    pub fn dir(&self) -> Option<&Path> {
        self.inner.engine.dir()
    }

    /// Statistics of this moment; they print as a table.
    pub fn stats(&self) -> Stats {
        self.inner.engine.stats()
    }

    /// Where the entry of `key` is, and where an insert would put it, by which
    /// rule. For people: it reads the whole frame. Not a use of the entry.
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
        self.inner.threads().explain(&Borrowed::<K, Q>::new(key))
    }

    /// Hands what tiers have buffered to the operating system: it survives the
    /// end of the process from here on.
    ///
    /// # Errors
    /// The first failure of a tier; the others are flushed all the same.
    pub fn flush(&self) -> Result<()> {
        self.inner.threads().flush()
    }

    /// Ends the cache for all its handles: waits for writes in progress,
    /// flushes, and lets go of files and locks. From then on look-ups miss,
    /// inserts are dropped and counted, and loads pass through.
    ///
    /// A second call waits for the end of the first and has the same outcome.
    ///
    /// # Errors
    /// The first failure of a tier; the others are closed all the same.
    pub fn close(&self) -> Result<()> {
        self.inner.threads().close()
    }

    /// Removes every entry and the directory of the cache, and ends it for all
    /// its handles.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when it was closed
    /// before, and nothing is removed: its directory may belong to another
    /// cache by now. Else the first failure; the rest is removed all the same.
    pub fn destroy(&self) -> Result<()> {
        self.inner.threads().destroy()
    }

    /// Switches the cache off, or on again: a way out while a cache is under
    /// suspicion. While it is off, look-ups miss, loads pass through and store
    /// nothing, and writes are dropped and counted. A write or a removal still
    /// removes the former entry, so nothing outdated is there when the cache
    /// is switched on again; what nobody touched meanwhile is.
    ///
    /// Switching off empties memory. A hit costs the same as without the switch.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when it was closed before.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("suspect").build()?;
    /// cache.set_enabled(false)?;
    /// cache.insert(1, 1);
    /// assert_eq!(cache.get(&1), None);
    /// assert_eq!(cache.get_with(1, || 2), 2);
    /// cache.set_enabled(true)?;
    /// assert_eq!(cache.get_with(1, || 3), 3);
    /// assert_eq!(cache.get(&1), Some(3));
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn set_enabled(&self, enabled: bool) -> Result<()> {
        self.inner.threads().set_enabled(enabled)
    }

    /// Whether it is switched on, see [`set_enabled`](Self::set_enabled).
    pub fn is_enabled(&self) -> bool {
        self.inner.engine.is_enabled()
    }

    /// The name it was built with.
    pub fn name(&self) -> &str {
        self.inner.engine.name()
    }
}

/// What a loader found that found nothing.
#[derive(Debug)]
pub(crate) struct Nothing;

/// What a loader gave that cannot fail.
pub(crate) fn infallible<V>(loaded: Result<V, Arc<Infallible>>) -> V {
    match loaded {
        Ok(value) => value,
        Err(never) => match *never {},
    }
}
