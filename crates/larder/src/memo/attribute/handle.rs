//! The cache of a function, and what is known beside it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::bounds::{Kept, Keyed};
use super::flusher;
use crate::Cache;

/// The cache of a function, for threads and for tasks.
pub struct Handle<K, V>
where
    K: Keyed,
    V: Kept,
{
    name: String,
    cache: Cache<K, V>,
    #[cfg(feature = "async")]
    tasks: crate::AsyncCache<K, V>,
    /// Counts what was taken out: a record that began before is not stored.
    removals: AtomicU64,
    /// Whether it waits to be flushed.
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

    /// The cache for threads.
    #[inline]
    pub(super) fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }

    /// The cache for tasks.
    #[cfg(feature = "async")]
    #[inline]
    pub(super) fn tasks(&self) -> &crate::AsyncCache<K, V> {
        &self.tasks
    }

    /// How often something was taken out, and how often entries were invalidated.
    pub(super) fn changes(&self) -> [u64; 2] {
        [self.removals.load(Ordering::Acquire), self.cache.inner.engine.invalidations()]
    }

    /// Something is about to be taken out.
    pub(super) fn removing(&self) {
        self.removals.fetch_add(1, Ordering::AcqRel);
    }

    /// A batch had more answers than it had items, or fewer.
    pub(super) fn tell_uneven(&self) {
        tracing::error!(
            target: "larder", function = self.name,
            "a batch has to have a result for each item; nothing of it is stored"
        );
    }

    /// Something was stored: it is flushed in the background, since a static
    /// is never dropped.
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
        // What is stored from here on asks for another turn.
        self.unflushed.store(false, Ordering::Release);
        if let Err(error) = self.cache.flush() {
            tracing::warn!(target: "larder", function = self.name, %error, "not flushed");
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

/// The handle as it is; the closure, which is never called, tells the type of
/// the key.
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
