//! The state of a context, and the order in which it ends.

use std::fmt;
#[cfg(feature = "_codec")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
#[cfg(feature = "redis")]
use std::time::Duration;

use larder_core::{Error, ErrorKind, Result};
use larder_engine::Engine;
use larder_exec::runtime;
use parking_lot::{Mutex, RwLock};

#[cfg(feature = "_codec")]
use super::temporary_dir::TemporaryDir;
use crate::options::{Level, Settings, Source};
use crate::presets::Preset;
use crate::registry::{AnyCache, DROPPED_LIMIT};

/// The state of a context, shared with the builders and contexts inside it.
pub(crate) struct Scope {
    name: String,
    /// Random; distinguishes this scope from every other scope of any process.
    #[cfg(feature = "redis")]
    token: u64,
    outer: Option<Arc<Scope>>,
    plan: Mutex<Plan>,
    /// Read-locked while a cache is built, so that the end waits for the build.
    ended: RwLock<bool>,
    owned: Mutex<Owned>,
}

/// The options of a context.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) temporary: bool,
    pub(super) base: Option<PathBuf>,
    pub(super) settings: Settings,
    pub(super) preset: Option<Preset>,
}

#[derive(Default)]
struct Owned {
    caches: Vec<Weak<dyn AnyCache>>,
    inner: Vec<Weak<Scope>>,
    #[cfg(feature = "_codec")]
    temporary_dir: Option<TemporaryDir>,
}

impl Scope {
    pub(super) fn new(name: String, outer: Option<Arc<Self>>) -> Self {
        Self {
            name,
            #[cfg(feature = "redis")]
            token: token(),
            outer,
            plan: Mutex::default(),
            ended: RwLock::new(false),
            owned: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock());
    }

    pub(super) fn is_ended(&self) -> bool {
        *self.ended.read()
    }

    /// Adds an inner scope. If this scope has ended, the inner scope has ended too.
    pub(super) fn add_inner(&self, inner: &Arc<Self>) {
        let ended = self.ended.read();
        *inner.ended.write() = *ended;
        self.owned.lock().inner.push(Arc::downgrade(inner));
    }

    /// Builds a cache, inside `scope` if there is one.
    pub(crate) fn adopt_new(
        scope: Option<&Arc<Self>>,
        build: impl FnOnce() -> Result<Arc<Engine>>,
    ) -> Result<Arc<Engine>> {
        let Some(scope) = scope else { return build() };
        let ended = scope.ended.read();
        if *ended {
            return Err(scope.ended_error());
        }
        let engine = build()?;
        let cache: Weak<Engine> = Arc::downgrade(&engine);
        scope.owned.lock().caches.push(cache);
        Ok(engine)
    }

    fn ended_error(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("the context `{}` has ended", self.name))
    }

    /// The options of this scope and of those around it, from the inside out.
    ///
    /// # Errors
    /// For an option that is out of its range; names the option and the context.
    pub(crate) fn levels(&self) -> Result<Vec<Level>> {
        let Plan { settings: mut own, preset, .. } = self.plan.lock().clone();
        let source = Source::Context(self.name.clone());
        own.check(&source)?;
        own.dir = self.dir()?;
        let mut levels = vec![vec![(own, source)]];
        levels.extend(preset.map(|preset| vec![(preset.settings(), Source::Preset(preset.name()))]));
        if let Some(outer) = &self.outer {
            levels.extend(outer.levels()?);
        }
        Ok(levels)
    }

    #[cfg(not(feature = "_codec"))]
    fn dir(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    /// The directory in which its caches create theirs. Creates the directory of a temporary scope.
    #[cfg(feature = "_codec")]
    fn dir(&self) -> Result<Option<PathBuf>> {
        let Plan { temporary, base, .. } = self.plan.lock().clone();
        let base = match (base, &self.outer) {
            (Some(base), _) => base,
            (None, Some(outer)) => outer.dir()?.unwrap_or_default(),
            (None, None) => match crate::config::dir(crate::config::variable)? {
                Some(given) => given,
                None => crate::locked_dir::default_base()?,
            },
        };
        if temporary {
            return self.temporary_dir(&base).map(Some);
        }
        // Cannot collide with the directory of a cache: cache names have `~` encoded.
        Ok(Some(base.join(format!("~scope-{}", crate::locked_dir::path_segment(&self.name)))))
    }

    #[cfg(feature = "_codec")]
    fn temporary_dir(&self, base: &Path) -> Result<PathBuf> {
        let ended = self.ended.read();
        if *ended {
            return Err(self.ended_error());
        }
        let mut owned = self.owned.lock();
        if owned.temporary_dir.is_none() {
            owned.temporary_dir = Some(TemporaryDir::open(base, &self.name)?);
        }
        Ok(owned.temporary_dir.as_ref().map(|dir| dir.path().to_path_buf()).unwrap_or_default())
    }

    /// The namespace of its caches on a shared server: the given namespace, then the names of the scopes from
    /// the outside in.
    #[cfg(feature = "redis")]
    pub(crate) fn namespace(&self, given: String) -> String {
        let around = match &self.outer {
            Some(outer) => outer.namespace(given),
            None => given,
        };
        let name = crate::locked_dir::path_segment(&self.name);
        match self.plan.lock().temporary {
            true => format!("{around}~{name}-{:016x}", self.token),
            false => format!("{around}~{name}"),
        }
    }

    /// How long keys on a server outlive the process; `None` for keys that do not expire.
    #[cfg(feature = "redis")]
    pub(crate) fn ephemeral_ttl(&self) -> Option<Duration> {
        let outer = || self.outer.as_ref().and_then(|outer| outer.ephemeral_ttl());
        if self.plan.lock().temporary { Some(EPHEMERAL_TTL) } else { outer() }
    }

    /// Ends the scope: first the inner scopes, then its caches, the newest first, then its directory. A
    /// second call does nothing.
    pub(super) fn end(&self) -> Result<()> {
        if std::mem::replace(&mut *self.ended.write(), true) {
            return Ok(());
        }
        let owned = std::mem::take(&mut *self.owned.lock());
        let mut outcome = Ok(());
        for inner in owned.inner.iter().rev().filter_map(Weak::upgrade) {
            outcome = outcome.and(inner.end());
        }
        for cache in owned.caches.iter().rev().filter_map(Weak::upgrade) {
            outcome = outcome.and(cache.end());
        }
        runtime::dropped_are_closed(DROPPED_LIMIT);
        #[cfg(feature = "_codec")]
        if let Some(dir) = owned.temporary_dir {
            outcome = outcome.and(dir.remove());
        }
        outcome
    }
}

/// How long the keys of a temporary scope remain after its process was killed.
#[cfg(feature = "redis")]
const EPHEMERAL_TTL: Duration = Duration::from_secs(120);

/// A random 64-bit number, unique in practice.
#[cfg(feature = "redis")]
fn token() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The keys of the hasher come from the operating system's random numbers.
    RandomState::new().hash_one(std::process::id())
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("name", &self.name).field("plan", &self.plan).finish_non_exhaustive()
    }
}
