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
        let cache = engine.lifecycle.name();
        let span = tracing::debug_span!(target: "larder", "larder.load", cache, key = Empty, outcome = Empty);
        Self { engine: Arc::clone(engine), started, took: None, key: None, span }
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
        if self.took.is_none() {
            self.engine.counters.load_failures.increment();
        }
        self.span.record("outcome", if self.took.is_none() { "failed" } else { "loaded" });
        let time = self.took.unwrap_or_else(|| self.started.elapsed());
        self.engine.counters.load_times.record(time);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.engine.counters.hot.add([(HotCount::LoadNanos, nanos)]);
        if let (Some(observer), Some(key)) = (self.engine.observer(), &self.key) {
            observer.loaded(key, time);
        }
    }
}
