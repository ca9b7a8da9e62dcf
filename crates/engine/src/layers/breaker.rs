//! Leaves a tier alone while it fails.

use std::fmt;
use std::sync::Arc;

use larder_core::clock::Clock;
use larder_core::frame::Frame;
use larder_core::key::EncodedKey;
use larder_core::stats::TierCounters;
use larder_core::stream::Stored;
use larder_core::tier::{BoxFuture, Capability, Draft, Stamp, Tier, TierKind, Usage};
use larder_core::{Bytes, Error, ErrorKind, Result};

use super::circuit::{Change, Circuit};

/// A tier that is not asked while it fails; otherwise the tier it holds.
///
/// There are three circuits, for what fails apart from one another: reads
/// (`get`, `contains`, `scan`), writes (`put`) and removals (`remove`,
/// `clear`). A full disk opens the second and is read on. While a circuit is
/// open its calls fail at once with `ErrorKind::Unavailable`. `flush` and
/// `close` always reach the tier: their outcome is what they are called for.
///
/// A failure is what may pass by itself: `Unavailable`, `Busy`, `Io`, and
/// `Full` for a write. What is wrong with one entry (`TooLarge`, `Codec`,
/// `Corrupt`) says nothing about the tier.
pub struct Breaker<T> {
    tier: T,
    counters: Arc<TierCounters>,
    reads: Circuit,
    writes: Circuit,
    removals: Circuit,
}

/// Marks the error of a call that a breaker refused.
#[derive(Debug, thiserror::Error)]
#[error("too many calls failed: the tier is left alone for a while")]
pub(super) struct Refused;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Reads,
    Writes,
    Removals,
}

impl Line {
    fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Removals => "removals",
        }
    }

    fn is_failure(self, kind: ErrorKind) -> bool {
        match kind {
            ErrorKind::Full => self == Self::Writes,
            kind => kind.is_retryable(),
        }
    }
}

impl<T: Tier> Breaker<T> {
    /// Watches the calls of `tier`, by the time of `clock`.
    pub fn new(tier: T, counters: Arc<TierCounters>, clock: &Arc<dyn Clock>) -> Self {
        let circuit = || Circuit::new(Arc::clone(clock));
        Self { tier, counters, reads: circuit(), writes: circuit(), removals: circuit() }
    }

    /// Whether a new entry may be placed here: reads and writes would be let
    /// through. True as well when a probe is due, or none would ever be made.
    pub fn is_healthy(&self) -> bool {
        self.reads.is_ready() && self.writes.is_ready()
    }

    /// Whether a removal would be let through.
    pub fn takes_removals(&self) -> bool {
        self.removals.is_ready()
    }

    fn circuit(&self, line: Line) -> &Circuit {
        match line {
            Line::Reads => &self.reads,
            Line::Writes => &self.writes,
            Line::Removals => &self.removals,
        }
    }

    async fn through<R>(&self, line: Line, call: impl Future<Output = Result<R>>) -> Result<R> {
        let Some(permit) = self.circuit(line).enter() else {
            self.counters.refusals.increment();
            let message = format!("{} are refused: too many failed", line.name());
            return Err(Error::new(ErrorKind::Unavailable, message).with_source(Refused));
        };
        let result = call.await;
        let failed = result.as_ref().is_err_and(|error| line.is_failure(error.kind()));
        self.note(line, permit.report(failed));
        result
    }

    fn note(&self, line: Line, change: Change) {
        let (tier, line) = (self.tier.kind(), line.name());
        match change {
            Change::None => {}
            Change::Opened(pause) => {
                self.counters.openings.increment();
                tracing::warn!(target: "larder", %tier, line, ?pause, "the tier fails and is left alone");
            }
            Change::Closed => {
                self.counters.closings.increment();
                tracing::info!(target: "larder", %tier, line, "the tier is back");
            }
        }
    }
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

    fn draft<'a>(&'a self, key: &'a EncodedKey, head_len: usize) -> BoxFuture<'a, Result<Draft>> {
        Box::pin(self.through(Line::Writes, self.tier.draft(key, head_len)))
    }

    fn append<'a>(&'a self, draft: &'a mut Draft, bytes: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Writes, self.tier.append(draft, bytes)))
    }

    fn publish<'a>(&'a self, key: &'a EncodedKey, draft: Draft, head: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.through(Line::Writes, self.tier.publish(key, draft, head)))
    }

    fn stamp(&self, key: &EncodedKey) -> Option<Stamp> {
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

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.flush()
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.tier.close()
    }
}
