//! The circuit breaker layer: stops calling a tier while it fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::{Clock, Time};
use larder_core::events::Line;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::{ServerFacts, TierCounters};
use larder_core::stream::Stored;
use larder_core::tier::{
    BoxFuture, Capability, EntryVersion, LastRemoval, LoadLease, Tier, TierKind, Upload, Usage,
    VersionedFrame,
};
use larder_core::{Bytes, Error, ErrorKind, Result};

use super::circuit::{Change, Circuit};

/// A tier behind circuit breakers, which refuse calls while the tier fails.
///
/// There are three circuits, because these fail independently: reads (`get`, `head`,
/// `contains`, `scan`), writes (`put`, `put_if_unchanged`, `replace`) and removals
/// (`remove`, `take`, `clear`). Each call of a batch counts. For example, a full disk
/// opens the circuit of writes and is still read. While a circuit is open, its calls fail
/// at once with `ErrorKind::Unavailable`. `flush` and `close` always reach the tier,
/// because callers need their outcome.
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

    fn circuit(&self, line: Line) -> &Circuit {
        match line {
            Line::Reads => &self.reads,
            Line::Writes => &self.writes,
            _ => &self.removals,
        }
    }

    async fn through<R>(&self, line: Line, call: impl Future<Output = Result<R>>) -> Result<R> {
        let Some(permit) = self.circuit(line).enter() else { return Err(self.refuse(line)) };
        let result = call.await;
        let failed = is_failed(line, &result);
        let away = failed && !self.tier.healthy();
        self.counters.signals.seen(away);
        if !away {
            self.note(line, permit.report(failed));
        }
        result
    }

    /// Guards a batch of `count` calls as [`through`](Self::through) does.
    async fn through_many<R>(
        &self,
        line: Line,
        count: usize,
        calls: impl Future<Output = Vec<Result<R>>>,
    ) -> Vec<Result<R>> {
        if count == 0 {
            return Vec::new();
        }
        let Some(permit) = self.circuit(line).enter() else {
            return (0..count).map(|_| Err(self.refuse(line))).collect();
        };
        let results = calls.await;
        let failures = results.iter().filter(|result| is_failed(line, result)).count();
        let away = failures > 0 && !self.tier.healthy();
        self.counters.signals.seen(away);
        if !away {
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

impl<T: Tier> Tier for Breaker<T> {
    fn kind(&self) -> TierKind {
        self.tier.kind()
    }

    fn capability(&self) -> Capability {
        self.tier.capability()
    }

    fn get<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(self.through(Line::Reads, self.tier.get(key)))
    }

    fn head<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(self.through(Line::Reads, self.tier.head(key)))
    }

    fn open<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Stored>>> {
        Box::pin(self.through(Line::Reads, self.tier.open(key)))
    }

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Upload>> {
        Box::pin(self.through(Line::Writes, self.tier.draft(key, head_len)))
    }

    fn append<'a>(&'a self, draft: &'a mut Upload, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Writes, self.tier.append(draft, bytes)))
    }

    fn publish<'a>(
        &'a self,
        key: &'a EncodedKey,
        draft: Upload,
        head: &'a [u8],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Writes, self.tier.publish(key, draft, head)))
    }

    fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tier.stamp(key)
    }

    fn put<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Writes, self.tier.put(key, frame)))
    }

    fn remove<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.through(Line::Removals, self.tier.remove(key)))
    }

    fn contains<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.through(Line::Reads, self.tier.contains(key)))
    }

    fn clear(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.through(Line::Removals, self.tier.clear()))
    }

    fn scan<'a>(&'a self, visit: &'a mut (dyn FnMut(&[u8]) + Send)) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Reads, self.tier.scan(visit)))
    }

    fn usage(&self) -> Usage {
        self.tier.usage()
    }

    fn servers(&self) -> Vec<ServerFacts> {
        self.tier.servers()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.destroy()
    }

    fn get_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<Option<Bytes>>>> {
        Box::pin(self.through_many(Line::Reads, keys.len(), self.tier.get_many(keys)))
    }

    fn put_many<'a>(&'a self, entries: &'a [(EncodedKey, Frame)]) -> BoxFuture<'a, Vec<Result<()>>> {
        Box::pin(self.through_many(Line::Writes, entries.len(), self.tier.put_many(entries)))
    }

    fn remove_many<'a>(&'a self, keys: &'a [EncodedKey]) -> BoxFuture<'a, Vec<Result<bool>>> {
        Box::pin(self.through_many(Line::Removals, keys.len(), self.tier.remove_many(keys)))
    }

    fn era(&self, key: &EncodedKey) -> u64 {
        self.tier.era(key)
    }

    fn shared_time(&self, key: &EncodedKey) -> Option<Time> {
        self.tier.shared_time(key)
    }

    fn last_removal(&self, key: &EncodedKey, found: &VersionedFrame) -> LastRemoval {
        self.tier.last_removal(key, found)
    }

    fn lease_load<'a>(
        &'a self,
        key: &'a EncodedKey,
        span: Duration,
    ) -> BoxFuture<'a, Result<Option<LoadLease>>> {
        Box::pin(self.through(Line::Writes, self.tier.lease_load(key, span)))
    }

    fn lease_loads<'a>(
        &'a self,
        keys: &'a [EncodedKey],
        span: Duration,
    ) -> BoxFuture<'a, Vec<Result<Option<LoadLease>>>> {
        Box::pin(self.through_many(Line::Writes, keys.len(), self.tier.lease_loads(keys, span)))
    }

    fn get_many_versioned<'a>(
        &'a self,
        keys: &'a [EncodedKey],
    ) -> BoxFuture<'a, Vec<Result<VersionedFrame>>> {
        Box::pin(self.through_many(Line::Reads, keys.len(), self.tier.get_many_versioned(keys)))
    }

    fn put_many_if_unchanged<'a>(
        &'a self,
        entries: &'a [(EncodedKey, Frame)],
    ) -> BoxFuture<'a, Vec<Result<bool>>> {
        let stored = self.tier.put_many_if_unchanged(entries);
        Box::pin(self.through_many(Line::Writes, entries.len(), stored))
    }

    fn release_loads(&self, leases: Vec<(EncodedKey, u64)>) {
        self.tier.release_loads(leases);
    }

    fn get_versioned<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<VersionedFrame>> {
        Box::pin(self.through(Line::Reads, self.tier.get_versioned(key)))
    }

    fn put_if_unchanged<'a>(&'a self, key: &'a EncodedKey, frame: &'a Frame) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.through(Line::Writes, self.tier.put_if_unchanged(key, frame)))
    }

    fn take<'a>(&'a self, key: &'a EncodedKey) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(self.through(Line::Removals, self.tier.take(key)))
    }

    fn lacks(&self, key: &EncodedKey) -> bool {
        self.tier.lacks(key)
    }

    fn trouble(&self) -> Option<Arc<str>> {
        self.tier.trouble()
    }

    fn healthy(&self) -> bool {
        self.is_healthy() && self.tier.healthy()
    }
}
