//! The circuit breaker layer: stops calling a tier while it fails.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use larder_core::clock::Clock;
use larder_core::events::Line;
use larder_core::stats::TierCounters;
use larder_core::tier::{
    BatchItem, BlockingTier, BoxFuture, Call, Layer, Operation, OperationClass, Tier, TierReply, forward_tier,
};
use larder_core::{Error, ErrorKind, Result};

use super::circuit::{Change, Circuit, Permit};
use super::lazy;

/// A tier behind circuit breakers, which refuse calls while the tier fails.
///
/// There are three circuits, because these fail independently: reads, writes and removals
/// ([`OperationClass`]). Each call of a batch counts. For example, a full disk
/// opens the circuit of writes and is still read. While a circuit is open, its calls fail
/// at once with `ErrorKind::Unavailable`. `flush`, `close` and `destroy` always
/// reach the tier, because callers need their outcome.
///
/// A failure is an error that may pass: `Unavailable`, `Busy`, `Io`, and `Full` for a
/// write. An error of one entry (`TooLarge`, `Codec`, `Corrupt`) says nothing about the
/// tier. A failure does not count either while the tier itself reports that it is
/// unavailable ([`Tier::healthy`]). Such a tier refuses calls at once and knows first
/// when it is back; a pause here would only delay that.
pub struct Breaker<T> {
    tier: T,
    counters: Arc<TierCounters>,
    reads: Circuit,
    writes: Circuit,
    removals: Circuit,
}

/// Marks the error of a call that a breaker refused.
#[derive(Debug, thiserror::Error)]
#[error("too many calls failed; the tier is not called for a while")]
pub(super) struct Refused;

impl<T: Tier> Breaker<T> {
    /// Wraps `tier`; `clock` times the windows and pauses.
    pub fn new(tier: T, counters: Arc<TierCounters>, clock: &Arc<dyn Clock>) -> Self {
        let circuit = || Circuit::new(Arc::clone(clock));
        Self { tier, counters, reads: circuit(), writes: circuit(), removals: circuit() }
    }

    /// Whether a new entry may be placed here: reads and writes would be let through.
    /// Also true when a probe is due, or no probe would ever be made.
    pub fn is_healthy(&self) -> bool {
        self.reads.is_ready() && self.writes.is_ready()
    }

    /// Whether a removal would be let through, and the tier is available.
    pub fn takes_removals(&self) -> bool {
        self.removals.is_ready() && self.tier.healthy()
    }

    /// The operations whose circuit is not closed.
    pub(crate) fn open_lines(&self) -> Vec<Line> {
        let lines = [Line::Reads, Line::Writes, Line::Removals];
        lines.into_iter().filter(|line| !self.circuit(*line).is_closed()).collect()
    }

    fn circuit(&self, line: Line) -> &Circuit {
        match line {
            Line::Reads => &self.reads,
            Line::Writes => &self.writes,
            _ => &self.removals,
        }
    }

    /// Returns whether a failure is due to a tier that itself reports to be unavailable.
    fn is_away(&self, failed: bool) -> bool {
        let away = failed && !self.tier.healthy();
        self.counters.signals.seen(away);
        away
    }

    /// Reports how a call ended.
    fn ended<A>(&self, line: Line, permit: Permit<'_>, result: Result<A>) -> Result<A> {
        let failed = is_failed(line, &result);
        if !self.is_away(failed) {
            self.note(line, permit.report(failed));
        }
        result
    }

    /// As [`around`](Layer::around), without a box.
    pub(super) async fn guarded<A: TierReply>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Result<A>> + Send,
    ) -> Result<A> {
        let Some(line) = line(call.operation) else { return made.await };
        let Some(permit) = self.circuit(line).enter() else { return Err(self.refuse(line)) };
        self.ended(line, permit, made.await)
    }

    /// As [`around_many`](Layer::around_many), without a box. Each call of the batch counts.
    pub(super) async fn guarded_many<A: TierReply>(
        &self,
        call: Call<'_>,
        made: impl Future<Output = Vec<Result<A>>> + Send,
    ) -> Vec<Result<A>> {
        let Some(line) = line(call.operation).filter(|_| call.keys > 0) else { return made.await };
        let Some(permit) = self.circuit(line).enter() else {
            return (0..call.keys).map(|_| Err(self.refuse(line))).collect();
        };
        let results = made.await;
        let failures = results.iter().filter(|result| is_failed(line, result)).count();
        if !self.is_away(failures > 0) {
            let successes = (results.len() - failures) as u64;
            self.note(line, permit.report_many(successes, failures as u64));
        }
        results
    }

    fn refuse(&self, line: Line) -> Error {
        self.counters.refusals.increment();
        let message = format!("the circuit breaker rejects {}: too many failed", line.name());
        Error::new(ErrorKind::Unavailable, message).with_source(Refused)
    }

    fn note(&self, line: Line, change: Change) {
        let tier = self.tier.kind();
        match change {
            Change::None => {}
            Change::Opened(backoff) => {
                self.counters.openings.increment();
                self.counters.signals.turned(line, false);
                tracing::warn!(target: "larder", cache = self.counters.signals.cache(), %tier, %line, ?backoff, "the circuit breaker of a tier opened: too many calls failed");
            }
            Change::Closed => {
                self.counters.closings.increment();
                self.counters.signals.turned(line, true);
                tracing::info!(target: "larder", cache = self.counters.signals.cache(), %tier, %line, "the circuit breaker of a tier closed: the tier works again");
            }
        }
    }
}

/// The circuit of an operation; `None` for one that always reaches the tier.
fn line(operation: Operation) -> Option<Line> {
    match operation.class() {
        OperationClass::Read => Some(Line::Reads),
        OperationClass::Write => Some(Line::Writes),
        OperationClass::Removal => Some(Line::Removals),
        OperationClass::Lifecycle => None,
    }
}

fn is_failed<R>(line: Line, result: &Result<R>) -> bool {
    result.as_ref().is_err_and(|error| match error.kind() {
        ErrorKind::Full => line == Line::Writes,
        kind => kind.is_retryable(),
    })
}

impl<T: Tier> fmt::Debug for Breaker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("tier", &self.tier.kind())
            .field("healthy", &self.is_healthy())
            .finish_non_exhaustive()
    }
}

impl<T: Tier> Layer for Breaker<T> {
    type Inner = T;

    fn inner(&self) -> &T {
        &self.tier
    }

    fn around<'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        make: impl FnOnce() -> BoxFuture<'a, Result<A>> + Send + 'a,
    ) -> BoxFuture<'a, Result<A>> {
        Box::pin(self.guarded(call, lazy(make)))
    }

    fn around_blocking<A: TierReply>(&self, call: Call<'_>, make: impl FnOnce() -> Result<A>) -> Result<A> {
        let Some(line) = line(call.operation) else { return make() };
        let Some(permit) = self.circuit(line).enter() else { return Err(self.refuse(line)) };
        self.ended(line, permit, make())
    }

    fn inner_blocking(&self) -> Option<&dyn BlockingTier> {
        self.tier.blocking()
    }

    fn around_many<'a, K: BatchItem + 'a, A: TierReply + 'a>(
        &'a self,
        call: Call<'a>,
        items: &'a [K],
        make: impl FnOnce(Cow<'a, [K]>) -> BoxFuture<'a, Vec<Result<A>>> + Send + 'a,
    ) -> BoxFuture<'a, Vec<Result<A>>> {
        Box::pin(self.guarded_many(call, lazy(|| make(Cow::Borrowed(items)))))
    }

    fn is_usable(&self) -> bool {
        self.is_healthy() && self.tier.healthy()
    }
}

forward_tier!([T: Tier] Breaker<T>);
