//! Scopes: a context closes its caches when it ends, and removes its temporary data.

mod scope;
#[cfg(feature = "_codec")]
mod temporary_dir;

#[cfg(feature = "async")]
use std::future::Future;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;

use larder_core::{Error, Result};
use larder_exec::runtime::hand_off;

use self::scope::Plan;
pub(crate) use self::scope::Scope;
use crate::MemoryBuilder;
use crate::builder::{observe_options, tier_options, time_options};
use crate::options::Settings;
use crate::presets::Preset;

/// A scope that owns a directory and every cache that is built in it.
///
/// When a context ends, its inner contexts end first. Then its caches are closed, the newest first: writes in
/// progress finish, buffers are flushed, and locks are released. A temporary context then removes its
/// directory and its keys in Redis. A context ends by [`close`](Self::close), which returns the first error,
/// or when it is dropped, which logs errors. Inside a tokio runtime a drop does this work on the blocking
/// pool.
///
/// A handle that is used after the end loads without caching, and logs this once. Loads in progress at the
/// end continue, and their values are not stored.
///
/// Options of a context apply to the caches that are built afterwards and to inner contexts, unless these
/// override them. In Redis the caches of a context have their own namespace, named after the context; a
/// temporary context removes its namespace when it ends.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::CacheContext;
///
/// let nightly = CacheContext::new("nightly").dir(dir.path()).temporary();
/// let totals = nightly.ucache::<String, u64>("totals").build()?;
/// totals.insert("May".to_owned(), 7);
/// nightly.close()?;
/// assert_eq!(totals.get("May"), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a context ends when it is dropped"]
pub struct CacheContext {
    scope: Arc<Scope>,
}

impl CacheContext {
    /// Creates a context. Opens nothing before the first cache is built.
    ///
    /// Its caches are stored in `~scope-<name>` in the folder that `LARDER_DIR` names, or in the platform's
    /// cache folder of this executable, unless it has a [`dir`](Self::dir) or is
    /// [`temporary`](Self::temporary).
    pub fn new(name: impl Into<String>) -> Self {
        Self { scope: Arc::new(Scope::new(name.into(), None)) }
    }

    /// Creates a context inside this one. It ends at the latest with this one, stores its directory inside,
    /// and inherits its options.
    pub fn inner(&self, name: impl Into<String>) -> Self {
        let scope = Arc::new(Scope::new(name.into(), Some(Arc::clone(&self.scope))));
        self.scope.add_inner(&scope);
        Self { scope }
    }

    fn planned(self, change: impl FnOnce(&mut Plan)) -> Self {
        self.scope.change(change);
        self
    }

    /// Sets an option for the caches of the context.
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.planned(|plan| change(&mut plan.settings))
    }

    /// The folder in which the context creates its directory. Default: that of the outer context, else
    /// `LARDER_DIR` or the `dir` of all caches in the configuration file, else the platform's cache folder.
    pub fn dir(self, dir: impl Into<PathBuf>) -> Self {
        self.planned(|plan| plan.base = Some(dir.into()))
    }

    /// Makes the context temporary: it gets its own directory, and removes it and its keys in Redis when it
    /// ends. The next temporary context in the same folder removes the directories of killed processes; their
    /// keys in Redis expire within two minutes.
    pub fn temporary(self) -> Self {
        self.planned(|plan| plan.temporary = true)
    }

    /// Applies a set of options for a sort of values; see [`presets`](crate::presets).
    pub fn preset(self, preset: Preset) -> Self {
        self.planned(|plan| plan.preset = Some(preset))
    }

    /// Maximum number of entries that each cache holds in memory, in place of
    /// [`memory_bytes`](Self::memory_bytes); 0 keeps nothing in memory.
    pub fn capacity(self, entries: u64) -> Self {
        self.with(|settings| settings.capacity = Some(entries))
    }

    /// Maximum number of bytes that each cache holds in memory: 64 KiB to 16 TiB, or 0 for no memory tier if
    /// the cache has another tier.
    pub fn memory_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.memory_bytes = Some(bytes))
    }

    /// The eviction policy of memory. Default [`Policy::Auto`](crate::Policy::Auto).
    pub fn policy(self, policy: crate::Policy) -> Self {
        self.with(|settings| settings.policy = Some(policy))
    }

    /// The engine that stores the entries in memory. Default
    /// [`MemoryEngine::Sharded`](crate::MemoryEngine::Sharded).
    pub fn memory_engine(self, engine: crate::MemoryEngine) -> Self {
        self.with(|settings| settings.memory_engine = Some(engine))
    }

    tier_options!();
    time_options!();
    observe_options!();

    /// Returns the name of the context.
    pub fn name(&self) -> &str {
        self.scope.name()
    }

    /// As [`mcache`](fn@crate::mcache), in this scope.
    pub fn mcache<K, V>(&self, name: impl Into<String>) -> MemoryBuilder<K, V>
    where
        K: Hash + Eq + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        crate::mcache(name).within(&self.scope)
    }

    /// Ends the context, and waits until it has ended.
    ///
    /// # Errors
    /// The first failure; the rest is closed and removed all the same.
    pub fn close(self) -> Result<()> {
        self.scope.end()
    }

    /// As [`close`](Self::close), on the blocking pool.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    #[cfg(feature = "async")]
    pub async fn close_async(self) -> Result<()> {
        end_async(Arc::clone(&self.scope)).await
    }
}

#[cfg(feature = "_codec")]
macro_rules! builders {
    ($($(#[$feature:meta])? $name:ident,)+) => {
        impl CacheContext {$(
            #[doc = concat!("As [`", stringify!($name), "`](fn@crate::", stringify!($name), "), in this scope.")]
            $(#[$feature])?
            pub fn $name<K, V>(&self, name: impl Into<String>) -> crate::TieredBuilder<K, V>
            where
                K: Hash + Eq + serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
                V: Clone + serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
            {
                crate::$name(name).within(&self.scope)
            }
        )+}
    };
}

#[cfg(feature = "_codec")]
builders! {
    ucache,
    #[cfg(feature = "disk")] bcache,
    #[cfg(feature = "file")] fcache,
}

impl Drop for CacheContext {
    fn drop(&mut self) {
        end_on_drop(&self.scope);
    }
}

/// Ends a scope in the background and logs an error.
fn end_on_drop(scope: &Arc<Scope>) {
    if scope.is_ended() {
        return;
    }
    let scope = Arc::clone(scope);
    hand_off(move || {
        if let Err(error) = scope.end() {
            tracing::warn!(target: "larder", context = %scope.name(), ?error, "cannot clean up all data of a dropped context");
        }
    });
}

#[cfg(feature = "async")]
async fn end_async(scope: Arc<Scope>) -> Result<()> {
    use larder_exec::runtime::{Runtime, Tokio};
    Tokio::section(true, async move { scope.end() }).await?
}

/// Runs `work` in a context and ends the context afterwards, also if `work` fails or panics.
///
/// # Errors
/// The error of `work`, else the error of the end. If both fail, the error of the end is logged.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use larder::{CacheContext, with_context};
///
/// let context = CacheContext::new("nightly").dir(dir.path()).temporary();
/// let sum = with_context(context, |cx| -> larder::Result<u64> {
///     let features = cx.ucache::<String, Vec<u64>>("features").build()?;
///     Ok(features.get_with("a".to_owned(), || vec![1, 2, 3]).iter().sum())
/// })?;
/// assert_eq!(sum, 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn with_context<T, E: From<Error>>(
    context: CacheContext,
    work: impl FnOnce(&CacheContext) -> Result<T, E>,
) -> Result<T, E> {
    let outcome = work(&context);
    let scope = Arc::clone(&context.scope);
    combine(outcome, context.close(), &scope)
}

/// As [`with_context`], for tasks. If the future is dropped, the context ends on the blocking pool.
///
/// `work` gets the context in an `Arc`, so that tasks which it spawns can use it. The context ends when
/// `work` does, even if a task still holds it.
///
/// # Errors
/// As [`with_context`].
#[cfg(feature = "async")]
pub async fn with_context_async<T, E, F, Fut>(context: CacheContext, work: F) -> Result<T, E>
where
    E: From<Error>,
    F: FnOnce(Arc<CacheContext>) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    /// Ends the scope when the future is dropped.
    struct Guard(Arc<Scope>);

    impl Drop for Guard {
        fn drop(&mut self) {
            end_on_drop(&self.0);
        }
    }

    let guard = Guard(Arc::clone(&context.scope));
    // Holds the context until `work` has ended, even if `work` drops its own `Arc` earlier.
    let context = Arc::new(context);
    let outcome = work(Arc::clone(&context)).await;
    let ended = end_async(Arc::clone(&guard.0)).await;
    combine(outcome, ended, &guard.0)
}

fn combine<T, E: From<Error>>(outcome: Result<T, E>, ended: Result<()>, scope: &Scope) -> Result<T, E> {
    match (outcome, ended) {
        (Ok(value), ended) => ended.map(|()| value).map_err(E::from),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(also)) => {
            tracing::warn!(target: "larder", context = %scope.name(), error = ?also, "cannot clean up all data of a context");
            Err(error)
        }
    }
}
