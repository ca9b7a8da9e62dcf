//! Loading with a loader that the flight owns. The flight survives its first caller, obeys time
//! limits, and falls back to a stale value. Hits [refresh](crate::load::refresh) entries ahead of their
//! deadlines.

use std::any::TypeId;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use larder_core::entry_meta::EntryOptions;
use larder_core::erased::{AnyError, Key, Value};
use larder_core::stats::HotCount;
use tracing::Instrument;

use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome, Purpose};
use crate::key_lock::wait_graph::{Loaders, Running};
use crate::load::flight_wait::Asks;
use crate::load::load_span::LoadSpan;
use crate::load::outcome::{LoadContext, LoadError, Loaded};
use crate::load::poll_watch::{PollWatch, watched};
use crate::load::{Leader, LoadRole, Stale};
use crate::write::prepared_entry::NewValue;
use larder_exec::runtime::{Launch, Runtime};

/// The answer of a loader.
pub type Answered = Result<Loaded<Value>, AnyError>;

/// The future of a loader.
type BoxedAnswer = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// A loader that the engine runs, on any thread.
pub enum Loader {
    /// A function, which may block its thread.
    Call(Box<dyn FnOnce(LoadContext<Value>) -> Answered + Send>),
    /// A function that returns a future.
    Task(Box<dyn FnOnce(LoadContext<Value>) -> BoxedAnswer + Send>),
}

/// The arguments of a `load` call.
pub struct LoadRequest {
    /// The loader.
    pub loader: Loader,
    /// The type of the loader's errors.
    pub error: TypeId,
    /// Whether the caller accepts the knowledge that there is no value.
    pub absence: bool,
}

impl Engine {
    /// Returns the value of `key`. If it is missing, runs the loader and catches its panic. All
    /// waiters share the outcome.
    pub(crate) async fn load<W: Runtime>(
        self: &Arc<Self>,
        key: Key,
        request: LoadRequest,
    ) -> Result<Option<Value>, LoadError<AnyError>> {
        let absence = request.absence;
        self.observe_request(&key);
        if let Some(record) = self.recall(&key).filter(|record| absence || record.value.is_some()) {
            self.counters.hot.increment(HotCount::Hits);
            return Ok(self.refreshed::<W>(key, record, request.loader).await);
        }
        let watch = self.watch::<W>();
        // On the heap: a nested loader would have this in its stack frame.
        watched(watch.clone(), Box::pin(self.load_missing::<W>(key, watch, request))).await
    }

    /// As [`load`](Self::load), for a key that memory does not have.
    async fn load_missing<W: Runtime>(
        self: &Arc<Self>,
        mut key: Key,
        watch: Option<Arc<PollWatch>>,
        LoadRequest { loader, error, absence }: LoadRequest,
    ) -> Result<Option<Value>, LoadError<AnyError>> {
        let asks = Asks { absence, purpose: Purpose::Owned };
        loop {
            let hash = self.key_locks.hash(&key);
            match Box::pin(self.take_role::<W>(key, asks, watch.clone())).await {
                LoadRole::Have(have) => return Ok(have),
                LoadRole::Due(due) => return Ok(self.refreshed_beyond::<W>(*due, loader).await),
                LoadRole::Alone => return self.load_alone(loader).await,
                LoadRole::Leader(lead) if !W::launches() || lead.leader.flight.launch() => {
                    return Box::pin(self.lead_load::<W>(lead, loader, error)).await;
                }
                // A waiter took the flight over while this leader looked beyond memory.
                LoadRole::Leader(lead) => match lead.give_way() {
                    Ok(key_back) => key = key_back,
                    Err(_) => return self.load_alone(loader).await,
                },
                LoadRole::Join(flight, edge, key_back) => {
                    let outcome = self.outcome::<W>(&flight, hash, Purpose::Owned).await;
                    drop(edge);
                    self.counters.joins.increment();
                    match self.conclude(&flight, outcome, error) {
                        Some(Ok(None)) if !asks.absence => key = key_back,
                        Some(result) => return result,
                        None => key = key_back,
                    }
                }
            }
        }
    }

    /// Starts the flight of this caller, and waits for it.
    async fn lead_load<W: Runtime>(
        self: &Arc<Self>,
        lead: Leader,
        loader: Loader,
        error: TypeId,
    ) -> Result<Option<Value>, LoadError<AnyError>> {
        let flight = Arc::clone(&lead.leader.flight);
        let hash = lead.leader.hash();
        if self.is_paused(&lead) {
            lead.leader.end(Outcome::Paused);
        } else {
            self.start_load::<W>(lead, loader).await;
        }
        let outcome = match self.outcome::<W>(&flight, hash, Purpose::Owned).await {
            // Taken over: the answer of its own loader is just as good.
            Outcome::Abandoned => flight.late().cloned().unwrap_or(Outcome::Abandoned),
            outcome => outcome,
        };
        self.conclude(&flight, outcome, error).unwrap_or(Err(LoadError::Closed))
    }

    /// Translates the outcome of a flight for a caller. `None` if the caller must try again.
    fn conclude(
        &self,
        flight: &Flight,
        outcome: Outcome,
        expects: TypeId,
    ) -> Option<Result<Option<Value>, LoadError<AnyError>>> {
        let error = match outcome {
            Outcome::Value(value) => return Some(Ok(Some(value))),
            Outcome::Absent => return Some(Ok(None)),
            Outcome::Abandoned => return None,
            Outcome::Failed(error) => error.is(expects).then(|| LoadError::Loader(Arc::new(error))),
            Outcome::Panicked => Some(LoadError::Panicked),
            Outcome::TimedOut => Some(LoadError::Timeout),
            Outcome::NothingToKeep => Some(LoadError::NothingToKeep),
            Outcome::Paused => None,
        };
        if let Some(stale) = flight.stale(self.timeline.now()) {
            self.counters.stale_serves.increment();
            return Some(Ok(Some(stale.clone())));
        }
        error.map(Err)
    }

    fn is_paused(&self, lead: &Leader) -> bool {
        let now = self.timeline.now();
        lead.leader.flight.stale(now).is_some() && self.backoffs.holds(lead.leader.hash(), now)
    }

    /// Starts the flight inside the loaders that its caller is part of.
    async fn start_load<W: Runtime>(self: &Arc<Self>, lead: Leader, loader: Loader) {
        let said = self.expiry.said();
        let limited = said.hard_timeout.is_some() || said.soft_timeout.is_some() && lead.stale.is_some();
        let engine = Arc::clone(self);
        // On the heap at once: nested loads move it several times on one stack.
        let flight = Box::pin(async move { engine.run_load::<W>(lead, loader).await });
        let flight = flight.in_current_span();
        let Some(loaders) = Loaders::current() else {
            return W::launch(&self.pool, Launch::Here, flight).await;
        };
        let launch = match limited {
            false => Launch::Here,
            true if loaders.is_empty() => Launch::Queued,
            true => Launch::Nested,
        };
        W::launch(&self.pool, launch, Running::within(loaders, flight)).await;
    }

    /// Runs the flight: calls the loader, stores its answer, and ends the flight.
    pub(super) async fn run_load<W: Runtime>(self: Arc<Self>, lead: Leader, loader: Loader) {
        let flight = Arc::clone(&lead.leader.flight);
        let watch = LoadSpan::start(&self).of(&lead);
        let context = LoadContext {
            stale: lead.stale.as_ref().map(|stale| stale.value.clone()),
            validator: lead.stale.as_ref().and_then(|stale| stale.options.validator.clone()),
        };
        let loaded = match flight.run(caught(loader, context).instrument(watch.span())).await {
            Ok(loaded) => loaded,
            Err(trouble) => {
                // Before the flight ends, so that the next leader finds the backoff.
                if !flight.has_ended() {
                    self.note_failure(&flight, lead.leader.hash());
                }
                lead.leader.end(trouble.into_outcome());
                return;
            }
        };
        let cost = watch.succeeded();
        match said(loaded, lead.stale.as_deref(), cost) {
            Task::Store(said) => self.publish::<W>(lead, said).await,
            Task::Skip(value) => lead.leader.end(Outcome::Value(value)),
            Task::NothingToKeep => lead.leader.end(Outcome::NothingToKeep),
        }
    }

    /// Runs a loader without a flight. Stores nothing.
    async fn load_alone(self: &Arc<Self>, loader: Loader) -> Result<Option<Value>, LoadError<AnyError>> {
        let watch = LoadSpan::start(self);
        let context = LoadContext { stale: None, validator: None };
        let loaded = match caught(loader, context).instrument(watch.span()).await {
            Ok(loaded) => loaded,
            Err(Trouble::Failed(error)) => return Err(LoadError::Loader(Arc::new(error))),
            Err(Trouble::Panicked) => return Err(LoadError::Panicked),
        };
        match said(loaded, None, watch.succeeded()) {
            Task::Store(said) => Ok(said.value),
            Task::Skip(value) => Ok(Some(value)),
            Task::NothingToKeep => Err(LoadError::NothingToKeep),
        }
    }
}

/// What to do with the answer of a loader.
enum Task {
    Store(NewValue),
    Skip(Value),
    NothingToKeep,
}

fn said(loaded: Loaded<Value>, stale: Option<&Stale>, cost: Duration) -> Task {
    let store = |value, options| Task::Store(NewValue { value, load_cost: Some(cost), options });
    match loaded {
        Loaded::Value(value) => store(Some(value), EntryOptions::new()),
        Loaded::ValueWith(value, options) => store(Some(value), options),
        Loaded::Absent { ttl } => store(None, EntryOptions::new().ttl(ttl)),
        Loaded::Skip(value) => Task::Skip(value),
        Loaded::NotModified => match stale {
            None => Task::NothingToKeep,
            Some(stale) => store(Some(stale.value.clone()), stale.options.clone()),
        },
    }
}

/// Why a loader has no answer.
enum Trouble {
    Failed(AnyError),
    Panicked,
}

impl Trouble {
    fn into_outcome(self) -> Outcome {
        match self {
            Self::Failed(error) => Outcome::Failed(error),
            Self::Panicked => Outcome::Panicked,
        }
    }
}

/// Runs a loader. Catches its panic, both when it is called and when it is polled.
async fn caught(loader: Loader, context: LoadContext<Value>) -> Result<Loaded<Value>, Trouble> {
    let answered = match loader {
        Loader::Call(loader) => catch_unwind(AssertUnwindSafe(|| loader(context))).ok(),
        Loader::Task(loader) => match catch_unwind(AssertUnwindSafe(|| loader(context))) {
            Ok(future) => Caught { future }.await,
            Err(_) => None,
        },
    };
    answered.ok_or(Trouble::Panicked)?.map_err(Trouble::Failed)
}

/// A future that yields `None` if its inner future panics.
struct Caught {
    future: BoxedAnswer,
}

impl Future for Caught {
    type Output = Option<Answered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
