//! A loader, watched: counted, timed, and in a span.

use std::time::{Duration, Instant};

use larder_core::stats::CacheCounters;
use tracing::Span;
use tracing::field::{Empty, display};

use crate::engine::Engine;
use crate::load::Lead;

/// Times a loader, and counts it as failed unless it is told otherwise.
pub(crate) struct Watch<'a> {
    counters: &'a CacheCounters,
    started: Instant,
    failed: bool,
    span: Span,
}

impl<'a> Watch<'a> {
    pub(crate) fn start<K, V, M>(engine: &'a Engine<K, V, M>) -> Self {
        engine.counters.loads.increment();
        let cache = engine.life.name();
        let span = tracing::debug_span!(target: "larder", "larder.load", cache, key = Empty, outcome = Empty);
        Self { counters: &engine.counters, started: Instant::now(), failed: true, span }
    }

    /// The same for the loader of a flight, whose key the span names: by its
    /// digest, or by a number of this process where keys are not encoded.
    pub(crate) fn of<K, V>(self, lead: &Lead<K, V>) -> Self {
        if !self.span.is_disabled() {
            match &lead.encoded {
                Some(key) => self.span.record("key", display(format_args!("{:032x}", key.digest()))),
                None => self.span.record("key", display(format_args!("{:016x}", lead.leader.hash()))),
            };
        }
        self
    }

    /// What the loader runs in.
    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn succeeded(mut self) -> Duration {
        self.failed = false;
        self.started.elapsed()
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.failed {
            self.counters.load_failures.increment();
        }
        self.span.record("outcome", if self.failed { "failed" } else { "loaded" });
        let time = self.started.elapsed();
        self.counters.load_times.record(time);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counters.load_nanos.add(nanos);
    }
}
