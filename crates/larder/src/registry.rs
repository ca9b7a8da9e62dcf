//! The live caches of this process.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_core::Result;
use larder_core::stats::Stats;
use larder_engine::Engine;
use larder_exec::runtime;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

/// How long a caller waits for caches that were dropped inside a runtime to close.
pub(crate) const DROPPED_LIMIT: Duration = Duration::from_secs(10);

/// The length of the list at which dead entries are removed for the first time.
const PRUNE_MIN: usize = 16;

static LIVE: Lazy<Mutex<Live>> = Lazy::new(Mutex::default);

/// The caches of this process, in the order in which they were built.
#[derive(Default)]
struct Live {
    /// Weak: the list keeps no cache alive.
    caches: Vec<(Weak<dyn AnyCache>, CacheKind)>,
    /// The length at which dead entries are removed next.
    prune_at: usize,
}

impl Live {
    /// Adds a cache. Removes dead entries when the list has twice the length that the last removal left, so
    /// that adding takes amortized constant time.
    fn add(&mut self, cache: Weak<dyn AnyCache>, kind: CacheKind) {
        if self.caches.len() >= self.prune_at.max(PRUNE_MIN) {
            self.caches.retain(|(cache, _)| cache.strong_count() > 0);
            self.prune_at = 2 * self.caches.len();
        }
        self.caches.push((cache, kind));
    }
}

/// A cache of any types, as the registry and the contexts use it.
pub(crate) trait AnyCache: Send + Sync {
    fn name(&self) -> &str;
    fn stats(&self) -> Stats;
    fn is_ended(&self) -> bool;
    fn end(self: Arc<Self>) -> Result<()>;
    fn clear(self: Arc<Self>) -> Result<()>;
    fn destroy(self: Arc<Self>) -> Result<()>;
}

impl AnyCache for Engine {
    fn name(&self) -> &str {
        Engine::name(self)
    }

    fn stats(&self) -> Stats {
        Engine::stats(self)
    }

    fn is_ended(&self) -> bool {
        Engine::is_ended(self)
    }

    fn end(self: Arc<Self>) -> Result<()> {
        self.threads().close()
    }

    fn clear(self: Arc<Self>) -> Result<()> {
        self.threads().clear()
    }

    fn destroy(self: Arc<Self>) -> Result<()> {
        self.threads().destroy()
    }
}

/// The builder that a cache came from. `Display` prints its name, for example `ucache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheKind {
    /// `mcache`: memory alone.
    Memory,
    /// `bcache`: on disk.
    Disk,
    /// `fcache`: a file for each entry.
    File,
    /// `ucache`: the selector decides.
    Universal,
}

impl fmt::Display for CacheKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memory => "mcache",
            Self::Disk => "bcache",
            Self::File => "fcache",
            Self::Universal => "ucache",
        })
    }
}

/// Adds a new cache to the list.
pub(crate) fn register(cache: Weak<dyn AnyCache>, kind: CacheKind) {
    LIVE.lock().add(cache, kind);
}

/// The caches with a live handle, including closed ones. Upgrades them first, so that the lock is not held
/// during calls on them: the last handle of one may be dropped meanwhile.
fn listed() -> Vec<(Arc<dyn AnyCache>, CacheKind)> {
    let live = LIVE.lock();
    live.caches.iter().filter_map(|(cache, kind)| Some((cache.upgrade()?, *kind))).collect()
}

/// As [`listed`], without their kinds.
pub(crate) fn caches_with_handles() -> Vec<Arc<dyn AnyCache>> {
    listed().into_iter().map(|(cache, _)| cache).collect()
}

/// The caches with a live handle that are not closed.
pub(crate) fn live() -> Vec<Arc<dyn AnyCache>> {
    caches_with_handles().into_iter().filter(|cache| !cache.is_ended()).collect()
}

/// A live cache, as [`caches`] lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheInfo {
    /// The name that the cache was built with; two caches in memory may share one.
    pub name: String,
    /// The builder that it came from.
    pub kind: CacheKind,
    /// Its statistics.
    pub stats: Stats,
}

/// Lists the live caches of this process, in the order in which they were built. Costs one
/// [`Cache::stats`](crate::Cache::stats) for each cache.
///
/// ```
/// let tides = larder::mcache::<u32, f32>("tides").build()?;
/// tides.insert(6, 1.25);
/// let found = larder::caches().into_iter().find(|cache| cache.name == "tides").unwrap();
/// assert_eq!((found.kind, found.stats.cache.insertions), (larder::CacheKind::Memory, 1));
/// # Ok::<(), larder::Error>(())
/// ```
pub fn caches() -> Vec<CacheInfo> {
    let live = listed().into_iter().filter(|(cache, _)| !cache.is_ended());
    let info = |(cache, kind): (Arc<dyn AnyCache>, CacheKind)| CacheInfo {
        name: cache.name().to_owned(),
        kind,
        stats: AnyCache::stats(&*cache),
    };
    live.map(info).collect()
}

/// Removes every entry of the live caches of this name, as [`Cache::clear`](crate::Cache::clear) does.
/// Returns how many caches that were: 0 if there is none of this name.
///
/// Blocks: inside an async runtime call it in `spawn_blocking`.
///
/// # Errors
/// The first failure; the other caches are cleared all the same.
///
/// ```
/// let tides = larder::mcache::<u32, f32>("springs").build()?;
/// tides.insert(6, 1.25);
/// assert_eq!((larder::clear("springs")?, larder::clear("neaps")?), (1, 0));
/// assert!(tides.is_empty());
/// # Ok::<(), larder::Error>(())
/// ```
pub fn clear(name: &str) -> Result<usize> {
    each(|cache| cache.name() == name, AnyCache::clear)
}

/// Removes every entry and the directory of the live caches of this name, and closes them, as
/// [`Cache::destroy`](crate::Cache::destroy) does. Returns how many caches that were: 0 if there is none of
/// this name.
///
/// Blocks: inside an async runtime call it in `spawn_blocking`.
///
/// # Errors
/// The first failure; the other caches are destroyed all the same.
pub fn destroy(name: &str) -> Result<usize> {
    each(|cache| cache.name() == name, AnyCache::destroy)
}

/// Removes every entry of every live cache of this process, as [`Cache::clear`](crate::Cache::clear) does.
/// Returns how many caches that were.
///
/// Blocks: inside an async runtime call it in `spawn_blocking`.
///
/// # Errors
/// The first failure; the other caches are cleared all the same.
pub fn clear_all() -> Result<usize> {
    each(|_| true, AnyCache::clear)
}

/// Makes a call on the live caches that are picked. Returns their number.
fn each(
    picks: impl Fn(&dyn AnyCache) -> bool,
    call: impl Fn(Arc<dyn AnyCache>) -> Result<()>,
) -> Result<usize> {
    let (mut count, mut outcome) = (0, Ok(()));
    for cache in live().into_iter().filter(|cache| picks(&**cache)) {
        count += 1;
        outcome = outcome.and(call(cache));
    }
    outcome.map(|()| count)
}

/// Closes every live cache of this process, the newest first. Also waits for caches that are already being
/// closed, by a call of `close` or because their last handle was dropped inside a runtime.
///
/// Call it at the end of a program: it blocks until all data is written. Inside an async runtime call it in
/// `spawn_blocking`. It does not wait for caches that are built meanwhile.
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
    for cache in caches_with_handles().into_iter().rev() {
        // An error of a close that another caller began is returned to that caller, not here.
        let is_others = cache.is_ended();
        let ended = cache.end();
        outcome = outcome.and(if is_others { Ok(()) } else { ended });
    }
    runtime::dropped_are_closed(DROPPED_LIMIT);
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

/// Returns the statistics of every live cache of this process, in the order in which they were built. Costs
/// one [`Cache::stats`](crate::Cache::stats) for each cache.
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
    let row = |cache: Arc<dyn AnyCache>| NamedStats {
        name: cache.name().to_owned(),
        stats: AnyCache::stats(&*cache),
    };
    live().into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nameless;

    impl AnyCache for Nameless {
        fn name(&self) -> &str {
            "nameless"
        }

        fn stats(&self) -> Stats {
            Stats::default()
        }

        fn is_ended(&self) -> bool {
            false
        }

        fn end(self: Arc<Self>) -> Result<()> {
            Ok(())
        }

        fn clear(self: Arc<Self>) -> Result<()> {
            Ok(())
        }

        fn destroy(self: Arc<Self>) -> Result<()> {
            Ok(())
        }
    }

    fn add_one(live: &mut Live) -> Arc<dyn AnyCache> {
        let cache: Arc<dyn AnyCache> = Arc::new(Nameless);
        live.add(Arc::downgrade(&cache), CacheKind::Memory);
        cache
    }

    /// Fault: each build scanned the list of all live caches; with 16,000 of them a build took six times as
    /// long.
    #[test]
    fn adding_a_cache_does_not_scan_all_caches() {
        let (mut live, mut looks) = (Live::default(), 0);
        let held: Vec<_> = (0..100_000)
            .map(|_| {
                let before = live.prune_at;
                let cache = add_one(&mut live);
                looks += usize::from(live.prune_at != before);
                cache
            })
            .collect();
        assert!(looks < 20, "{looks} looks");
        assert_eq!(live.caches.len(), held.len());
    }

    #[test]
    fn dropped_caches_take_no_more_entries_than_live_ones() {
        let mut live = Live::default();
        let held: Vec<_> = (0..50).map(|_| add_one(&mut live)).collect();
        for _ in 0..1000 {
            drop(add_one(&mut live));
            assert!(live.caches.len() <= 2 * held.len() + PRUNE_MIN, "{}", live.caches.len());
        }
        let left: Vec<_> = live.caches.iter().filter_map(|(cache, _)| cache.upgrade()).collect();
        assert!(left.iter().zip(&held).all(|(left, held)| Arc::ptr_eq(left, held)), "in their order");
        assert_eq!(left.len(), held.len());
    }
}
