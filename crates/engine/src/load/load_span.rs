//! A loader, watched: counted, timed, and in a span.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Span;
use tracing::field::{Empty, display};

use crate::engine::Engine;
use crate::load::Leader;

/// Times a loader, and counts it as failed unless it is told otherwise.
pub(crate) struct LoadSpan {
    engine: Arc<Engine>,
    started: Instant,
    failed: bool,
    span: Span,
}

impl LoadSpan {
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        engine.counters.loads.increment();
        let cache = engine.lifecycle.name();
        let span = tracing::debug_span!(target: "larder", "larder.load", cache, key = Empty, outcome = Empty);
        Self { engine: Arc::clone(engine), started: Instant::now(), failed: true, span }
    }

    /// The same for the loader of a flight, whose key the span names: by its
    /// digest, or by a number of this process where keys are not encoded.
    pub(crate) fn of(self, lead: &Leader) -> Self {
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

impl Drop for LoadSpan {
    fn drop(&mut self) {
        if self.failed {
            self.engine.counters.load_failures.increment();
        }
        self.span.record("outcome", if self.failed { "failed" } else { "loaded" });
        let time = self.started.elapsed();
        self.engine.counters.load_times.record(time);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.engine.counters.load_nanos.add(nanos);
    }
}
