//! Scopes: what was built inside is closed on the way out, and cleaned up.

#[cfg(feature = "_codec")]
mod place;
mod scope;

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
use crate::builder::{tier_options, time_options};
use crate::options::Settings;
use crate::presets::Preset;

/// A scope: it owns a directory and every cache that is built by it.
///
/// When it ends, its inner contexts end first, then its caches are closed, the
/// newest first: writes in progress finish, buffers are flushed, locks are let
/// go of. A temporary one removes its directory and its keys in Redis too. It ends by
/// [`close`](Self::close), which tells how it went, or when it is dropped,
/// which logs what failed; inside a tokio runtime that is done on the blocking pool.
///
/// A handle that is used afterwards loads without caching, and says so once in
/// the log. Loads in progress at the end go on, and are not stored.
///
/// Options count for the caches that are built afterwards and for inner
/// contexts, unless those say something else. The caches of a context have a part
/// of a Redis server for themselves, named after it; those of a temporary one have
/// it until that ends.
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
    /// A context of this name. Nothing is opened before the first cache is built.
    ///
    /// Its caches lie in `~scope-<name>` in the folder that `LARDER_DIR` names,
    /// or the platform's cache folder of this executable, unless it has a
    /// [`dir`](Self::dir) or is [`temporary`](Self::temporary).
    pub fn new(name: impl Into<String>) -> Self {
        Self { scope: Arc::new(Scope::new(name.into(), None)) }
    }

    /// A context within this one: it ends with it at the latest, has its
    /// directory inside, and inherits its options.
    pub fn inner(&self, name: impl Into<String>) -> Self {
        let scope = Arc::new(Scope::new(name.into(), Some(Arc::clone(&self.scope))));
        self.scope.add_inner(&scope);
        Self { scope }
    }

    fn planned(self, change: impl FnOnce(&mut Plan)) -> Self {
        self.scope.change(change);
        self
    }

    /// The same with an option of its caches that a method says.
    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.planned(|plan| change(&mut plan.settings))
    }

    /// The folder in which the context makes its own. Default that of the
    /// context around it, else `LARDER_DIR` or the `dir` of all caches in the
    /// configuration file, else the platform's cache folder.
    pub fn dir(self, dir: impl Into<PathBuf>) -> Self {
        self.planned(|plan| plan.base = Some(dir.into()))
    }

    /// Gives it a directory of its own that is removed when it ends, and so are
    /// its keys in Redis. What killed processes left in the same folder is
    /// removed when the next temporary context opens there; what they left in
    /// Redis expires within two minutes.
    pub fn temporary(self) -> Self {
        self.planned(|plan| plan.temporary = true)
    }

    /// Options for values of some sort, see [`presets`](crate::presets).
    pub fn preset(self, preset: Preset) -> Self {
        self.planned(|plan| plan.preset = Some(preset))
    }

    /// The most entries that each cache holds in memory: 1 to 4,294,967,295, in
    /// place of [`memory_bytes`](Self::memory_bytes).
    pub fn capacity(self, entries: u64) -> Self {
        self.with(|settings| settings.capacity = Some(entries))
    }

    /// The most bytes that each cache holds in memory: 64 KiB to 16 TiB, or 0 for
    /// no memory at all where there is another tier.
    pub fn memory_bytes(self, bytes: u64) -> Self {
        self.with(|settings| settings.memory_bytes = Some(bytes))
    }

    /// Which entries leave memory first when it is full. Default
    /// [`Policy::Auto`](crate::Policy::Auto).
    pub fn policy(self, policy: crate::Policy) -> Self {
        self.with(|settings| settings.policy = Some(policy))
    }

    /// What holds the entries in memory. Default [`MemoryEngine::Sharded`](crate::MemoryEngine::Sharded).
    pub fn memory_engine(self, engine: crate::MemoryEngine) -> Self {
        self.with(|settings| settings.memory_engine = Some(engine))
    }

    tier_options!();
    time_options!();

    /// The name.
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

    /// Ends it, and waits for that.
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
        end_unattended(&self.scope);
    }
}

/// Ends a scope where nobody waits for it.
fn end_unattended(scope: &Arc<Scope>) {
    if scope.is_ended() {
        return;
    }
    let scope = Arc::clone(scope);
    hand_off(move || {
        if let Err(error) = scope.end() {
            tracing::warn!(target: "larder", context = %scope.name(), ?error, "a context was dropped, and not all of it could be cleaned up");
        }
    });
}

#[cfg(feature = "async")]
async fn end_async(scope: Arc<Scope>) -> Result<()> {
    use larder_exec::runtime::{Runtime, Tokio};
    Tokio::section(true, async move { scope.end() }).await?
}

/// Runs `work` in a context and ends it afterwards, also when `work` fails or panics.
///
/// # Errors
/// That of `work`; else that of the end. When both fail, the one of the end is logged.
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
    both(outcome, context.close(), &scope)
}

/// As [`with_context`], for tasks. When the future is dropped, the context
/// ends on the blocking pool.
///
/// The context is lent in an `Arc`, so that it can be used in tasks that
/// `work` spawns; it ends when `work` does, whoever still has it.
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
            end_unattended(&self.0);
        }
    }

    let guard = Guard(Arc::clone(&context.scope));
    // Kept here as well: the scope does not end before `work` does, wherever
    // that lets go of its own.
    let context = Arc::new(context);
    let outcome = work(Arc::clone(&context)).await;
    let ended = end_async(Arc::clone(&guard.0)).await;
    both(outcome, ended, &guard.0)
}

fn both<T, E: From<Error>>(outcome: Result<T, E>, ended: Result<()>, scope: &Scope) -> Result<T, E> {
    match (outcome, ended) {
        (Ok(value), ended) => ended.map(|()| value).map_err(E::from),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(also)) => {
            tracing::warn!(target: "larder", context = %scope.name(), error = ?also, "not all of a context could be cleaned up");
            Err(error)
        }
    }
}
