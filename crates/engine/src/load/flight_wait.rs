//! Waiting for the load of another call, and ending a flight that is overdue.
//!
//! A flight does not end at a time limit by itself: a caller that meets it ends it when it is due.
//! The flight of a `load` call ends for all callers at the hard timeout. A refresh ends when it
//! takes far longer than the loads of this cache do. The flight of a `get_with` call ends when its
//! future was woken and is no longer polled. The key is then free, and one of the waiters leads
//! next, with its own loader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome, Purpose};
use crate::load::poll_watch::PollWatch;
use larder_exec::runtime::Runtime;

/// How long the future of a `get_with` call that was woken may stay unpolled before a waiter takes
/// its key over.
pub const STALL: Duration = Duration::from_millis(250);
/// Minimum time, from its beginning, that a caller grants a refresh it waits for.
const REFRESH_PATIENCE_MIN: Duration = Duration::from_millis(500);
/// Maximum of that time, if the cache has no shorter hard timeout.
const REFRESH_PATIENCE_MAX: Duration = Duration::from_secs(10);

/// What a caller with a missing key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asks {
    /// Whether the caller accepts the knowledge that there is no value.
    pub(crate) absence: bool,
    /// Whose loader the caller brings. `load` obeys the time limits of the cache.
    pub(crate) purpose: Purpose,
}

impl Asks {
    /// The request of `get_with`: a value, however long it takes.
    pub(crate) const VALUE: Self = Self { absence: false, purpose: Purpose::Borrowed };
}

impl Engine {
    /// Creates a watch over the future of a call, if an executor polls it.
    pub(crate) fn watch<W: Runtime>(&self) -> Option<Arc<PollWatch>> {
        W::IS_TASK.then(|| PollWatch::new(&self.timeline))
    }

    /// Waits for the outcome of a flight, within the time limits for `purpose`. Past the soft
    /// timeout a `load` call with a stale value gets [`Outcome::Paused`].
    pub(crate) async fn outcome<W: Runtime>(
        &self,
        flight: &Arc<Flight>,
        hash: u64,
        purpose: Purpose,
    ) -> Outcome {
        let soft = self.expiry.said().soft_timeout.filter(|_| purpose != Purpose::Borrowed);
        let mut soft = soft.and_then(|span| flight.lasted(span));
        loop {
            if let Some(outcome) = flight.ended() {
                return outcome.clone();
            }
            let due = self.due(flight, purpose);
            let now = Instant::now();
            if self.end_if_overdue(flight, hash, purpose) {
                continue;
            }
            if soft.is_some_and(|soft| soft <= now) {
                if flight.stale(self.timeline.now()).is_some() {
                    return Outcome::Paused;
                }
                soft = None;
            }
            flight.wait::<W>(due.into_iter().chain(soft).min(), self.stall).await;
        }
    }

    /// Ends a flight that is overdue or whose leader is no longer polled. Returns whether it was.
    pub(crate) fn end_if_overdue(&self, flight: &Arc<Flight>, hash: u64, purpose: Purpose) -> bool {
        if self.due(flight, purpose).is_some_and(|due| due <= Instant::now()) {
            self.time_out(flight, hash);
            return true;
        }
        if flight.patience(self.stall) == Some(Duration::ZERO) {
            self.take_over(flight, hash);
            return true;
        }
        false
    }

    /// Returns when a flight is overdue for a caller with this `purpose`.
    fn due(&self, flight: &Flight, purpose: Purpose) -> Option<Instant> {
        let hard = self.expiry.said().hard_timeout;
        match (flight.purpose(), purpose) {
            (Purpose::Refresh, _) => flight.lasted(self.refresh_patience(hard)),
            (Purpose::Borrowed, Purpose::Borrowed) => None,
            _ => hard.and_then(|hard| flight.lasted(hard)),
        }
    }

    /// Returns how long a refresh may last while callers wait for it: four times the average load,
    /// within bounds.
    fn refresh_patience(&self, hard: Option<Duration>) -> Duration {
        let counts = self.counters.totals();
        let usual = Duration::from_nanos(counts.load_nanos / counts.loads.max(1));
        let patience = usual.saturating_mul(4).clamp(REFRESH_PATIENCE_MIN, REFRESH_PATIENCE_MAX);
        hard.map_or(patience, |hard| hard.min(patience))
    }

    /// Ends a flight that took too long. Its loader goes on, and its value is stored unless the
    /// entry changed meanwhile.
    fn time_out(&self, flight: &Arc<Flight>, hash: u64) {
        self.key_locks.forget(hash, flight);
        let is_refresh = flight.purpose() == Purpose::Refresh;
        // A caller that met a refresh did not ask for it, so it loads the value itself.
        if flight.end(if is_refresh { Outcome::Abandoned } else { Outcome::TimedOut }) {
            self.note_failure(flight, hash);
            self.counters.timeouts.increment();
        }
    }

    /// Ends a flight whose leader was woken and is not polled.
    fn take_over(&self, flight: &Arc<Flight>, hash: u64) {
        if flight.take_over() {
            self.key_locks.forget(hash, flight);
            self.counters.takeovers.increment();
            tracing::debug!(target: "larder", cache = self.lifecycle.name(), "another caller took over a load, because its future is not polled");
        }
    }

    /// Starts a backoff after a failed load, if callers have a stale value meanwhile.
    pub(crate) fn note_failure(&self, flight: &Flight, hash: u64) {
        let now = self.timeline.now();
        if flight.stale(now).is_some() {
            self.backoffs.failed(hash, now, self.chance(now));
        }
    }
}
