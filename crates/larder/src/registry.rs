//! The live caches of this process.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_core::Result;
use larder_core::stats::Stats;
use larder_engine::wait::{self, Inline, block_on};
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::cache::CacheEngine;

/// How long caches that were dropped inside a runtime are waited for.
pub(crate) const DROPPED_LIMIT: Duration = Duration::from_secs(10);

/// In the order in which they were built. Weak: to be listed keeps nothing alive.
static LIVE: Lazy<Mutex<Vec<Weak<dyn Living>>>> = Lazy::new(Mutex::default);

/// A cache of whatever types, as far as its life is concerned.
pub(crate) trait Living: Send + Sync {
    fn name(&self) -> &str;
    fn stats(&self) -> Stats;
    fn is_ended(&self) -> bool;
    fn end(self: Arc<Self>) -> Result<()>;
}

impl<K, V> Living for CacheEngine<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        CacheEngine::name(self)
    }

    fn stats(&self) -> Stats {
        CacheEngine::stats(self)
    }

    fn is_ended(&self) -> bool {
        CacheEngine::is_ended(self)
    }

    fn end(self: Arc<Self>) -> Result<()> {
        block_on(self.close::<Inline>())
    }
}

/// Lists a cache that was just built, and forgets those that are gone.
pub(crate) fn enlist(cache: Weak<dyn Living>) {
    let mut live = LIVE.lock();
    live.retain(|cache| cache.strong_count() > 0);
    live.push(cache);
}

/// The caches that anybody has a handle of, closed ones too. Collected first, so
/// that no lock is held while they are asked: the last handle of one may go
/// meanwhile.
pub(crate) fn held() -> Vec<Arc<dyn Living>> {
    LIVE.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Those of them that were not closed.
pub(crate) fn live() -> Vec<Arc<dyn Living>> {
    held().into_iter().filter(|cache| !cache.is_ended()).collect()
}

/// Closes every live cache of this process, the newest first, and waits for
/// those that are being closed already, by a call of `close` or because their last
/// handle went inside a runtime.
///
/// For the end of a program: it blocks until all is written. Inside an async
/// runtime call it by `spawn_blocking`. Caches that are built meanwhile are
/// not waited for.
///
/// # Errors
/// The first failure; the other caches are closed all the same.
///
/// ```
/// let numbers = larder::mcache::<u64, u64>("numbers").build()?;
/// numbers.insert(1, 2);
/// larder::close_all()?;
/// assert_eq!(numbers.get(&1), None);
/// # Ok::<(), larder::Error>(())
/// ```
pub fn close_all() -> Result<()> {
    let mut outcome = Ok(());
    for cache in held().into_iter().rev() {
        // How it ended is for who began it, who may still be about it.
        let is_others = cache.is_ended();
        let ended = cache.end();
        outcome = outcome.and(if is_others { Ok(()) } else { ended });
    }
    wait::dropped_are_closed(DROPPED_LIMIT);
    outcome
}

/// A live cache in [`all_stats`]: its name and its statistics. `Display`
/// prints both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedStats {
    /// The name that the cache was built with; two caches in memory may share one.
    pub name: String,
    /// Its statistics.
    pub stats: Stats,
}

impl fmt::Display for NamedStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.stats)
    }
}

/// The statistics of every live cache of this process, in the order in which
/// they were built. Costs what [`Cache::stats`](crate::Cache::stats) costs for each.
///
/// ```
/// let ages = larder::mcache::<String, u8>("ages").build()?;
/// ages.insert("Ada".to_owned(), 36);
/// let all = larder::all_stats();
/// let found = all.iter().find(|cache| cache.name == "ages").unwrap();
/// assert_eq!(found.stats.cache.insertions, 1);
/// # Ok::<(), larder::Error>(())
/// ```
pub fn all_stats() -> Vec<NamedStats> {
    let row =
        |cache: Arc<dyn Living>| NamedStats { name: cache.name().to_owned(), stats: Living::stats(&*cache) };
    live().into_iter().map(row).collect()
}
