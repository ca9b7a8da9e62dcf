//! The cache of a function, with its name and flags.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::bounds::{Kept, Keyed};
use super::flusher;
use crate::Cache;

/// The cache of a function, with its synchronous and its async handle.
pub struct Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    name: String,
    cache: Cache<K, V>,
    #[cfg(feature = "async")]
    tasks: crate::AsyncCache<K, V>,
    /// Counts removals: a recording that began before a removal is not stored.
    removals: AtomicU64,
    /// Whether a flush is scheduled.
    unflushed: AtomicBool,
}

impl<K, V> Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    pub(super) fn new(name: String, cache: Cache<K, V>) -> Self {
        Self {
            name,
            #[cfg(feature = "async")]
            tasks: cache.to_async(),
            cache,
            removals: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
        }
    }

    /// The synchronous cache.
    #[inline]
    pub(super) fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }

    /// The async cache.
    #[cfg(feature = "async")]
    #[inline]
    pub(super) fn tasks(&self) -> &crate::AsyncCache<K, V> {
        &self.tasks
    }

    /// The number of removals and the number of invalidations so far.
    pub(super) fn changes(&self) -> [u64; 2] {
        [self.removals.load(Ordering::Acquire), self.cache.inner.engine.invalidations()]
    }

    /// Counts a removal that is about to begin.
    pub(super) fn removing(&self) {
        self.removals.fetch_add(1, Ordering::AcqRel);
    }

    /// Logs that a batch returned a wrong number of answers.
    pub(super) fn log_count_mismatch(&self) {
        tracing::error!(
            target: "larder", function = self.name,
            "a batch function must return one result per item; no result was stored"
        );
    }

    /// Schedules a flush after a write, since a static is never dropped.
    pub(super) fn stored(&'static self) {
        if self.cache.dir().is_some() && !self.unflushed.swap(true, Ordering::AcqRel) {
            flusher::enqueue(self);
        }
    }
}

impl<K, V> flusher::Flush for Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    fn flush(&self) {
        // Cleared first: a write from here on schedules another flush.
        self.unflushed.store(false, Ordering::Release);
        if let Err(error) = self.cache.flush() {
            tracing::warn!(target: "larder", function = self.name, %error, "cannot flush the cache of a function");
        }
    }
}

impl<K, V> fmt::Debug for Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the handle unchanged; the closure is never called and only fixes the type of the key.
pub fn keyed_by<A, K, V>(
    handle: Option<&'static Handle<K, V>>,
    _key: impl FnOnce(A) -> K,
) -> Option<&'static Handle<K, V>>
where
    K: Keyed,
    V: Kept,
{
    handle
}
