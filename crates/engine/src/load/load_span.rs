//! Counts and times the run of a loader, in a tracing span.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_core::erased::Key;
use larder_core::stats::HotCount;
use tracing::Span;
use tracing::field::{Empty, display};

use crate::engine::Engine;
use crate::load::Leader;

/// The run of a loader. It counts as failed unless [`stop`](Self::stop) is called.
pub(crate) struct LoadSpan {
    engine: Arc<Engine>,
    started: Instant,
    /// How long the loader ran, once it has succeeded.
    took: Option<Duration>,
    /// The key, if the cache is observed.
    key: Option<Key>,
    span: Span,
}

impl LoadSpan {
    /// Starts the span and counts the load.
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        engine.counters.hot.increment(HotCount::Loads);
        Self::counted(engine, Instant::now())
    }

    /// As [`start`](Self::start), for a load that was counted and is about to run since a moment just now.
    pub(crate) fn counted(engine: &Arc<Engine>, started: Instant) -> Self {
        Self { engine: Arc::clone(engine), started, took: None, key: None, span: load_span(engine) }
    }

    /// Goes on with a run that was counted, and that began and may have ended.
    pub(crate) fn going_on(
        engine: &Arc<Engine>,
        (started, took): (Instant, Option<Duration>),
        span: Span,
    ) -> Self {
        Self { engine: Arc::clone(engine), started, took, key: None, span }
    }

    /// Records the key of the flight in the span: its digest, or its hash in this process if keys
    /// are not encoded.
    pub(crate) fn of(mut self, lead: &Leader) -> Self {
        if self.engine.observer().is_some() {
            self.key = lead.leader.key().cloned();
        }
        if !self.span.is_disabled() {
            match &lead.encoded {
                Some(key) => self.span.record("key", display(format_args!("{:032x}", key.digest()))),
                None => self.span.record("key", display(format_args!("{:016x}", lead.leader.hash()))),
            };
        }
        self
    }

    /// Returns the engine whose load this is.
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Returns the span that the loader runs in.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Marks the run as successful. Returns its duration.
    pub(crate) fn stop(&mut self) -> Duration {
        *self.took.get_or_insert_with(|| self.started.elapsed())
    }

    /// Marks the run as successful, and ends the span. Returns its duration.
    pub(crate) fn succeeded(mut self) -> Duration {
        self.stop()
    }
}

impl Drop for LoadSpan {
    fn drop(&mut self) {
        let time = count_load(&self.engine, &self.span, (self.started, self.took));
        if let (Some(observer), Some(key)) = (self.engine.observer(), &self.key) {
            observer.loaded(key, time);
        }
    }
}

/// Creates the span of a load.
pub(crate) fn load_span(engine: &Engine) -> Span {
    let cache = engine.lifecycle.name();
    tracing::debug_span!(target: "larder", "larder.load", cache, key = Empty, outcome = Empty)
}

/// Counts a run that ends now, or has ended after a time if it succeeded. Returns how long it took.
pub(crate) fn count_load(
    engine: &Engine,
    span: &Span,
    (started, took): (Instant, Option<Duration>),
) -> Duration {
    if took.is_none() {
        engine.counters.load_failures.increment();
    }
    if !span.is_disabled() {
        span.record("outcome", if took.is_none() { "failed" } else { "loaded" });
    }
    let time = took.unwrap_or_else(|| started.elapsed());
    engine.counters.load_times.record(time);
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    engine.counters.hot.add([(HotCount::LoadNanos, nanos)]);
    time
}
