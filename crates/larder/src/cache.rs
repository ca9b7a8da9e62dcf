//! The synchronous cache.

use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use larder_core::Result;
use larder_core::clock::Time;
use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{Borrowed, Key, Value};
use larder_core::key::Lookup;
use larder_core::place::Placement;
use larder_core::stats::Stats;
use larder_engine::{Counter, Entry, Explanation, Increment};

use crate::typed::{TypedEngine, own, typed};

mod invalidate;
mod live;
mod load;

#[cfg(feature = "async")]
pub(crate) use load::{Nothing, infallible};

/// A synchronous cache handle for threads: cheap to clone and to share.
///
/// A read returns a clone of the value: wrap a value that is expensive to clone in an `Arc`, or use
/// [`Bytes`](crate::Bytes). Look-ups accept borrowed forms of the key: `&str` finds a `String`.
///
/// A value that was read or loaded never overwrites a later change: a concurrent `insert`, `remove` or
/// `clear` wins.
///
/// Disk and file I/O run in the calling thread.
#[cfg_attr(feature = "async", doc = "Inside an async runtime use [`to_async`](Self::to_async).")]
///
/// Dropping the last handle discards the entries in memory and closes the tiers: in place, or on the blocking
/// pool inside a tokio runtime. Errors of this close are logged. [`close`](Self::close) closes the cache at a
/// known time and returns the error. After that, changes fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed),
/// look-ups miss, and loads run without caching.
pub struct Cache<K, V> {
    pub(crate) inner: TypedEngine<K, V>,
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
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

    /// Refuses to compile, and names the builders: `Cache::new(100)` of other crates.
    #[doc(hidden)]
    pub fn new<B: ConstructorArgument>(_: B) -> Self {
        unreachable!("no type implements `ConstructorArgument`")
    }

    /// Returns the value if it is in memory.
    #[inline]
    pub(crate) fn hit<Q: Lookup<K> + Sync + ?Sized>(&self, key: &Q) -> Option<V> {
        self.inner.hit(key)
    }

    /// Returns an async handle of the same cache. Both handles may be used at once and share loads in
    /// progress.
    #[cfg(feature = "async")]
    pub fn to_async(&self) -> crate::AsyncCache<K, V> {
        crate::AsyncCache::over(self.inner.clone())
    }

    /// Returns the value of `key` from the nearest tier that has it, or `None`. A tier that fails counts as a
    /// miss, and the failure is counted.
    ///
    /// The read counts as a use: it informs the eviction policy and restarts the idle time. A hit in a tier
    /// beyond memory is copied into memory if the placement of the entry asks for it.
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

    /// As [`get`](Self::get), but returns an error if a tier failed and no other tier had the entry.
    ///
    /// # Errors
    /// The error of the last tier that failed; [`ErrorKind::Codec`](crate::ErrorKind::Codec) for a key that
    /// cannot be encoded.
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
        if self.inner.engine.misses_at_once(&Borrowed::<K, Q>::new(key)) {
            return Ok(None);
        }
        self.inner.threads().get(&Borrowed::<K, Q>::new(key)).map(|value| value.map(typed))
    }

    /// Returns the value and its metadata: the tier that answered, the home tier and the age. Returns a stale
    /// entry as well, which `get` does not: see [`Entry::stale`]. Counts as a use for the eviction policy, but
    /// does not restart the idle time.
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

    /// Stores `value` under `key`, and replaces the former entry. If no tier stores the value, the former entry
    /// is removed all the same. A closed cache, or a key that cannot be encoded, changes nothing. A failure is
    /// counted and logged.
    pub fn insert(&self, key: K, value: V) {
        let rest = self.inner.insert_at_once(key, value);
        rest.into_iter().for_each(|(key, value)| self.insert_with(key, value, EntryOptions::new()));
    }

    /// As [`insert`](Self::insert), and returns where the entry was stored and by which rule.
    ///
    /// # Errors
    /// `ErrorKind::TooLarge` if no tier accepts the size; `Codec` for a key or a value that cannot be encoded;
    /// `Closed`; `Unavailable` while the cache is switched off; else the error of the last tier that failed.
    /// The former entry is removed, except with `Closed` and for a key that cannot be encoded.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("placed").build()?;
    /// assert_eq!(cache.try_insert(1, 2)?.to_string(), "memory: memory is the only tier");
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn try_insert(&self, key: K, value: V) -> Result<Placement> {
        match self.inner.insert_at_once(key, value) {
            None => Ok(Placement::MEMORY_ONLY),
            Some((key, value)) => self.try_insert_with(key, value, EntryOptions::new()),
        }
    }

    /// As [`insert`](Self::insert), with a time to live or tags for this entry.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::EntryOptions;
    /// let cache = larder::mcache::<&str, u32>("prices").build()?;
    /// cache.insert_with("rye", 3, EntryOptions::new().ttl(Duration::from_secs(60)).tag("grain"));
    /// cache.invalidate_tag("grain")?;
    /// assert_eq!(cache.get(&"rye"), None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    pub fn insert_with(&self, key: K, value: V, options: EntryOptions) {
        // Ignored: the failure is counted and logged. `try_insert_with` returns it.
        let _counted = self.try_insert_with(key, value, options);
    }

    /// As [`insert_with`](Self::insert_with), and returns where the entry was stored.
    ///
    /// # Errors
    /// Those of [`try_insert`](Self::try_insert); [`ErrorKind::Config`](crate::ErrorKind::Config) for more than
    /// 64 tags, a tag above 1,024 bytes or a validator above 4,096. The former entry is removed then as well.
    pub fn try_insert_with(&self, key: K, value: V, options: EntryOptions) -> Result<Placement> {
        self.inner.threads().insert(Key::new(key), Value::new(value), options)
    }

    /// Stores `value` if `key` has no entry; returns whether it was stored. Of concurrent callers exactly one
    /// stores its value. An expired entry counts as absent.
    ///
    /// # Errors
    /// The errors of [`try_insert`](Self::try_insert). Also fails, and stores nothing, if a tier failed that
    /// may have the entry.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("first").build()?;
    /// assert!(cache.insert_if_absent(1, 2)?);
    /// assert!(!cache.insert_if_absent(1, 3)?);
    /// assert_eq!(cache.get(&1), Some(2));
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "or_insert")]
    #[doc(alias = "put_if_absent")]
    #[doc(alias = "add")]
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<bool> {
        self.insert_if_absent_with(key, value, EntryOptions::new())
    }

    /// As [`insert_if_absent`](Self::insert_if_absent), with a time to live or tags for this entry.
    ///
    /// # Errors
    /// Those of [`insert_if_absent`](Self::insert_if_absent), and of
    /// [`try_insert_with`](Self::try_insert_with) for the options.
    pub fn insert_if_absent_with(&self, key: K, value: V, options: EntryOptions) -> Result<bool> {
        self.inner.threads().insert_if_absent(Key::new(key), Value::new(value), options)
    }

    /// Adds `delta` to the value of `key`, or to `start` if there is none, and returns the sum. The update is
    /// atomic. An existing entry keeps its time to live and its tags.
    ///
    /// # Errors
    /// The errors of [`try_insert`](Self::try_insert). Also fails, and changes nothing: `ErrorKind::Unsupported`
    /// if the sum overflows the integer type, and the error of a tier that failed and may have the entry,
    /// `Unavailable` while Redis is unreachable.
    ///
    /// ```
    /// let cache = larder::mcache::<&str, u64>("visits").build()?;
    /// assert_eq!(cache.increment("home", 1, 0)?, 1);
    /// assert_eq!(cache.increment("home", 2, 0)?, 3);
    /// assert!(cache.increment("home", u64::MAX, 0).is_err());
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "incr")]
    pub fn increment(&self, key: K, delta: V, start: V) -> Result<V>
    where
        V: Counter,
    {
        self.inner.threads().increment(Key::new(key), Increment::new(delta, start)).map(typed)
    }

    /// Restarts the time to live and the idle time of an entry; returns whether it exists. Tiers beyond
    /// memory write the entry again.
    ///
    /// # Errors
    /// If a tier failed. The entry there keeps its former deadline or is removed.
    pub fn touch<Q>(&self, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().touch(&own::<K, Q>(key))
    }

    /// Sets an entry to expire after `span`; returns whether it exists. `Duration::MAX` means never.
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

    /// Sets an entry to expire at the wall clock time `time`; returns whether it exists.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{Clock, SystemClock};
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

    /// Expires an entry and the load of its key that is in progress. Within its stale window the entry may
    /// still serve if a load fails; without a stale window it is removed.
    ///
    /// # Errors
    /// If a tier failed. A copy that remains there is not served.
    pub fn invalidate<Q>(&self, key: &Q) -> Result<()>
    where
        Q: Lookup<K> + Sync + ?Sized,
        K: Clone,
    {
        self.inner.threads().invalidate(&own::<K, Q>(key))
    }

    /// Removes the entry of `key` from every tier; returns whether there was one that could be served.
    /// A copy that a tier fails to remove is no longer served. Returns false if a tier failed, as for an
    /// absent entry; [`try_remove`](Self::try_remove) tells the two apart.
    pub fn remove<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.try_remove(key).unwrap_or(false)
    }

    /// As [`remove`](Self::remove), and returns the failure.
    ///
    /// # Errors
    /// If a tier failed to remove the entry. This node does not serve what is left there. While Redis is
    /// unreachable (`ErrorKind::Unavailable`) the removal is a pending write, and other nodes may serve the
    /// entry until it is applied.
    pub fn try_remove<Q>(&self, key: &Q) -> Result<bool>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        match self.inner.remove_at_once(key) {
            Some(removed) => Ok(removed),
            None => self.inner.threads().remove(&Borrowed::<K, Q>::new(key)),
        }
    }

    /// Removes the entry of `key` and returns its value. Of concurrent callers exactly one gets it.
    ///
    /// # Errors
    /// If a tier failed. The entry is no longer served, and its value is lost; but while Redis is away, an
    /// entry that nodes share stays (`ErrorKind::Unavailable`), unless only the answer was lost.
    ///
    /// ```
    /// let cache = larder::mcache::<u8, u8>("once").build()?;
    /// cache.insert(1, 2);
    /// assert_eq!(cache.take(&1)?, Some(2));
    /// assert_eq!(cache.take(&1)?, None);
    /// # Ok::<(), larder::Error>(())
    /// ```
    #[doc(alias = "pop")]
    #[doc(alias = "getdel")]
    pub fn take<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.threads().take(&Borrowed::<K, Q>::new(key)).map(|value| value.map(typed))
    }

    /// Returns whether `key` has an entry that [`get`](Self::get) would return; false if a tier failed. Counts as
    /// no use in memory, and restarts no idle time; the disk tier marks the entry as read. Reads the payload
    /// only if the head does not tell whether the type matches (MessagePack and JSON); otherwise a corrupt
    /// payload counts as present.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        Q: Lookup<K> + Sync + ?Sized,
    {
        self.inner.threads().contains_key(&Borrowed::<K, Q>::new(key)).unwrap_or(false)
    }

    /// Returns the number of entries. Memory counts the entries that could be served now: no expired or
    /// invalidated entries, and no recorded absences. Other tiers also count absences, and expired and
    /// invalidated entries that they have not removed yet. Redis counts the entries of all nodes as of the last
    /// survey: exactly up to 20,000 keys in the database of a server, an estimate beyond. Costs a pass over the
    /// entries in memory.
    #[doc(alias = "entry_count")]
    pub fn len(&self) -> u64 {
        self.inner.engine.len()
    }

    /// Returns whether [`len`](Self::len) is zero. Costs as much.
    pub fn is_empty(&self) -> bool {
        self.inner.engine.is_empty()
    }

    /// Returns the bytes in all tiers, without I/O: weights in memory (zero if only a capacity bounds it), bytes on
    /// disk, and for Redis an estimate for the entries of all nodes as of the last survey.
    #[doc(alias = "weighted_size")]
    pub fn bytes(&self) -> u64 {
        self.inner.engine.bytes()
    }

    /// Returns the directory of the cache; `None` for a cache without a tier on disk. If another process uses the
    /// directory of this name, this is a private directory beside it.
    pub fn dir(&self) -> Option<&Path> {
        self.inner.engine.dir()
    }

    /// Returns whether [`dir`](Self::dir) is a private directory, which began empty and is deleted when the
    /// cache ends, because another process uses the directory of this name. [`stats`](Self::stats) and
    /// [`explain`](Self::explain) say it too. False for a cache without a tier on disk.
    pub fn is_private(&self) -> bool {
        self.inner.engine.is_private()
    }

    /// Returns current statistics, which print as a table.
    pub fn stats(&self) -> Stats {
        self.inner.engine.stats()
    }

    /// Explains where the entry of `key` is, where an insert would put it, and by which rule. Meant for
    /// debugging: it reads the whole frame. Counts as no use in memory, and restarts no idle time; the disk tier
    /// marks the entry as read.
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

    /// Passes buffered writes of all tiers to the operating system, so that they survive the end of the
    /// process.
    ///
    /// # Errors
    /// The first failure of a tier; the others are flushed all the same.
    #[doc(alias = "sync")]
    pub fn flush(&self) -> Result<()> {
        self.inner.threads().flush()
    }

    /// Closes the cache for all its handles: waits for writes in progress, flushes, and releases files and
    /// locks. Afterwards look-ups miss, inserts are dropped and counted, and loads run without caching.
    ///
    /// A second call waits for the first and returns the same result.
    ///
    /// # Errors
    /// The first failure of a tier; the others are closed all the same.
    pub fn close(&self) -> Result<()> {
        self.inner.threads().close()
    }

    /// Removes every entry and the directory of the cache, and closes it for all its handles.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the cache was closed before; nothing is removed,
    /// since another cache may use the directory by now. Otherwise the first failure; the rest is removed all
    /// the same.
    pub fn destroy(&self) -> Result<()> {
        self.inner.threads().destroy()
    }

    /// Switches the cache off or on, for instance to rule it out as the cause of a fault. While it is off,
    /// look-ups miss, loads run but store nothing, and writes are dropped and counted. A write or a removal
    /// still removes the former entry, so the cache has no outdated entry when it is switched on again. Other
    /// entries beyond memory are kept.
    /// Switching off empties memory. The switch adds no cost to a hit.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) if the cache was closed before.
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

    /// Returns whether the cache is switched on; see [`set_enabled`](Self::set_enabled).
    pub fn is_enabled(&self) -> bool {
        self.inner.engine.is_enabled()
    }

    /// Returns the name that the cache was built with.
    pub fn name(&self) -> &str {
        self.inner.engine.name()
    }
}

/// Implemented by no type: the bound of [`Cache::new`], for its message.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a `Cache` has no constructor: a builder creates it",
    label = "not an argument of a builder",
    note = "in memory, as `Cache::new(100)` of other crates: `larder::mcache(\"a name\").capacity(100).build()?`",
    note = "with disk, files or Redis: `larder::ucache(\"a name\").build()?`"
)]
pub trait ConstructorArgument {}
