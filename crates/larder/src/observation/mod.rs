//! Looks into the caches of this process while it runs: statistics, hot keys, events, explanations.
//!
//! A cache that is built with `observe`, or while the variable `LARDER_OBSERVE` is `true`, is served over a Unix
//! socket; [`observe`] serves every cache of the process. `larder top` and `larder serve` are
//! clients. `docs/live.md` describes the protocol.

mod answer;
mod keys;
mod report;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod socket;
mod trace;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use larder_core::Result;
use larder_core::memory::OnDeparture;
#[cfg(not(unix))]
use larder_core::{Error, ErrorKind};
use larder_engine::Engine;
use larder_engine::observation::{LookupTrace, Observer};
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use crate::options::Settings;
use crate::registry::CacheKind;
use keys::Finder;
pub(crate) use keys::{KeyNames, KeyPrinter};

/// The version of the protocol: the field `larder` of the first line of a connection.
pub const PROTOCOL: u64 = 1;

/// Whether every cache of the process is observed.
static PROCESS: AtomicBool = AtomicBool::new(false);
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static CACHES: Lazy<Mutex<Vec<Listed>>> = Lazy::new(Mutex::default);

/// A cache that can be observed.
struct Listed {
    engine: Weak<Engine>,
    observed: Observed,
    /// Whether it was built with `observe`.
    is_asked_for: bool,
    /// Whether it holds the server.
    is_held: bool,
}

/// What is known of an observed cache beside its engine.
#[derive(Clone)]
struct Observed {
    id: u64,
    kind: CacheKind,
    may_control: bool,
    disk_bytes: Option<u64>,
    finder: Finder,
}

/// How a cache is to be observed.
#[derive(Clone, Copy)]
pub(crate) struct ObservationPlan {
    is_observed: bool,
    may_control: bool,
    disk_bytes: Option<u64>,
}

impl ObservationPlan {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            is_observed: settings.observe.unwrap_or(false),
            may_control: settings.observe_control.unwrap_or(false),
            disk_bytes: None,
        }
    }

    /// Sets the budget on disk, which is shown beside what is used of it.
    #[cfg(feature = "_codec")]
    pub(crate) fn with_disk_bytes(self, bytes: u64) -> Self {
        Self { disk_bytes: Some(bytes), ..self }
    }

    /// Whether a cache that is built now has an observer.
    pub(crate) fn is_sampled(self) -> bool {
        self.is_observed || PROCESS.load(Ordering::Acquire)
    }
}

/// What a builder says of the keys of an observed cache.
#[derive(Default)]
pub(crate) struct KeyOptions {
    /// How a key is printed.
    pub(crate) text: Option<KeyPrinter>,
    /// The file in which look-ups are recorded.
    pub(crate) trace: Option<PathBuf>,
}

/// The observer of a cache that is being built.
pub(crate) struct ObserverParts {
    pub(crate) observer: Option<Arc<Observer>>,
    plan: ObservationPlan,
    finder: Finder,
}

impl ObserverParts {
    /// # Errors
    /// If the file of a trace cannot be created.
    pub(crate) fn new(plan: ObservationPlan, names: KeyNames, trace: Option<PathBuf>) -> Result<Self> {
        let trace = trace.map(|path| trace::TraceRecorder::create(&path)).transpose()?;
        let trace = trace.map(|recorder| Box::new(recorder) as Box<dyn LookupTrace>);
        let is_there = plan.is_sampled() || trace.is_some();
        let observer = is_there.then(|| Arc::new(Observer::new(names.name).with_trace(trace)));
        Ok(Self { observer, plan, finder: names.finder })
    }

    /// Adds the observer to what memory reports departures to.
    pub(crate) fn on_departure(&self, listener: Option<OnDeparture>) -> Option<OnDeparture> {
        match &self.observer {
            Some(observer) => Some(observer.on_departure(listener)),
            None => listener,
        }
    }

    /// Lists the cache, and serves it if it is observed. A failure to serve it is logged.
    pub(crate) fn list(self, engine: &Arc<Engine>, kind: CacheKind) {
        let observed = Observed {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            kind,
            may_control: self.plan.may_control,
            disk_bytes: self.plan.disk_bytes,
            finder: self.finder,
        };
        let is_asked_for = self.plan.is_observed;
        let listed = Listed { engine: Arc::downgrade(engine), observed, is_asked_for, is_held: false };
        let mut caches = CACHES.lock();
        caches.retain(|listed| listed.engine.strong_count() > 0);
        caches.push(listed);
        drop(caches);
        if (is_asked_for || PROCESS.load(Ordering::Acquire))
            && let Err(error) = hold_server()
        {
            tracing::warn!(target: "larder", cache = engine.name(), %error, "the cache cannot be observed");
        }
    }
}

/// The caches that are observed and open, in the order in which they were built.
fn observed() -> Vec<(Arc<Engine>, Observed)> {
    let is_process = PROCESS.load(Ordering::Acquire);
    let caches = CACHES.lock();
    let visible = caches.iter().filter(|listed| is_process || listed.is_asked_for);
    let engines = visible.filter_map(|listed| Some((listed.engine.upgrade()?, listed.observed.clone())));
    // An engine that turns out to be the last reference must not be dropped under the lock.
    let engines: Vec<_> = engines.collect();
    drop(caches);
    engines.into_iter().filter(|(engine, _)| !engine.is_ended()).collect()
}

/// Lets every observed cache hold the server, and starts it for the first.
fn hold_server() -> Result<()> {
    let is_process = PROCESS.load(Ordering::Acquire);
    let caches = CACHES.lock();
    let wanted = caches.iter().filter(|listed| !listed.is_held && (is_process || listed.is_asked_for));
    let new: Vec<_> =
        wanted.filter_map(|listed| Some((listed.engine.upgrade()?, listed.observed.id))).collect();
    drop(caches);
    let mut outcome = Ok(());
    for (engine, id) in new {
        let served = serve(&engine);
        if served.is_ok() {
            let mut caches = CACHES.lock();
            let listed = caches.iter_mut().find(|listed| listed.observed.id == id);
            _ = listed.map(|listed| listed.is_held = true);
        }
        outcome = outcome.and(served);
    }
    outcome
}

#[cfg(unix)]
fn serve(engine: &Arc<Engine>) -> Result<()> {
    engine.hold(Box::new(server::Token::take(engine.dir())?));
    Ok(())
}

#[cfg(not(unix))]
fn serve(_: &Arc<Engine>) -> Result<()> {
    Err(unsupported())
}

#[cfg(not(unix))]
fn unsupported() -> Error {
    Error::config("observe", "true", "false, since this platform is not Unix")
}

/// Serves every cache of this process to its user, over a Unix socket: those that are open, and those that are
/// built from now on. The socket is removed and its thread ends when no cache is open any more, and the next cache
/// brings them back.
///
/// Caches that were built before have statistics and explanations, but neither hot keys nor events.
///
/// # Errors
/// - [`ErrorKind::Config`](crate::ErrorKind::Config) on platforms other than Unix.
/// - [`ErrorKind::Io`](crate::ErrorKind::Io) if the socket cannot be created.
///
/// ```
/// # if cfg!(unix) {
/// larder::observe()?;
/// let tides = larder::mcache::<u32, f32>("tides").build()?;
/// assert!(!larder::observation::sockets().is_empty());
/// # }
/// # Ok::<(), larder::Error>(())
/// ```
pub fn observe() -> Result<()> {
    PROCESS.store(true, Ordering::Release);
    #[cfg(not(unix))]
    return Err(unsupported());
    #[cfg(unix)]
    hold_server()
}

/// Answers a request of the protocol as the socket does: one line of JSON for one line of JSON. For a page or a
/// tool within the process.
///
/// May block, since an explanation reads the tiers: inside an async runtime call it in `spawn_blocking`. A failure
/// is an answer with a field `error`.
///
/// ```
/// let answer = larder::observation::answer(r#"{"op":"hello"}"#);
/// assert!(answer.starts_with(r#"{"ok":{"larder":1,"#), "{answer}");
/// ```
pub fn answer(request: &str) -> String {
    answer::line(request)
}

/// The sockets of this process. Empty while none of its caches is observed.
pub fn sockets() -> Vec<PathBuf> {
    #[cfg(unix)]
    return server::sockets();
    #[cfg(not(unix))]
    Vec::new()
}

/// The folder with the sockets of the caches that have no directory: `larder` in `$XDG_RUNTIME_DIR`, or else
/// `larder-` and the number of the user in the folder for temporary files. `None` on platforms other than Unix.
pub fn runtime_dir() -> Option<PathBuf> {
    #[cfg(unix)]
    return Some(socket::runtime_dir());
    #[cfg(not(unix))]
    None
}

/// The name of this program, for people.
fn program() -> String {
    let path = std::env::current_exe().ok();
    let stem = path.as_deref().and_then(std::path::Path::file_stem);
    stem.map_or_else(|| "unknown".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
