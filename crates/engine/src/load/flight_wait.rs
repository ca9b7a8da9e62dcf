//! Waiting for the load of another call, and ending one that is overdue.
//!
//! Nothing ends a flight by itself: each of those who meet it does, when it is due.
//! A flight of `load` is over for everyone at the hard timeout; a refresh, which was
//! ahead of its need, when it takes far longer than loads of this cache do; that of
//! `get_with` when its future was woken and is no longer polled. The key is free
//! then, and one of those who wait leads next, with its own loader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::key_lock::flight::{Flight, Outcome, Purpose};
use crate::load::poll_watch::PollWatch;
use larder_exec::runtime::Runtime;

/// How long the future of a `get_with` may be left unpolled after it was woken
/// before one of those who wait for it takes its key over.
pub const STALL: Duration = Duration::from_millis(250);
/// How long a caller waits at least for a refresh that it met, from its beginning.
const REFRESH_PATIENCE_MIN: Duration = Duration::from_millis(500);
/// And at most, where the cache has no hard timeout.
const REFRESH_PATIENCE_MAX: Duration = Duration::from_secs(10);

/// What a caller with a missing key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asks {
    /// The knowledge that there is no value will do.
    pub(crate) absence: bool,
    /// Whose loader it brings. `load` keeps to the time limits of the cache.
    pub(crate) purpose: Purpose,
}

impl Asks {
    /// Those of `get_with`: a value, however long it takes.
    pub(crate) const VALUE: Self = Self { absence: false, purpose: Purpose::Borrowed };
}

impl Engine {
    /// A watch over the future of a call, where an executor polls it.
    pub(crate) fn watch<W: Runtime>(&self) -> Option<Arc<PollWatch>> {
        W::IS_TASK.then(|| PollWatch::new(&self.timeline))
    }

    /// The outcome of a flight, for a caller that keeps to `purpose`. Past the soft
    /// timeout a stale value will do for `load`: [`Outcome::Paused`].
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

    /// Ends a flight that is overdue or whose leader is no longer polled; whether
    /// it was.
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

    /// When a flight is overdue for a caller that keeps to `purpose`.
    fn due(&self, flight: &Flight, purpose: Purpose) -> Option<Instant> {
        let hard = self.expiry.said().hard_timeout;
        match (flight.purpose(), purpose) {
            (Purpose::Refresh, _) => flight.lasted(self.refresh_patience(hard)),
            (Purpose::Borrowed, Purpose::Borrowed) => None,
            _ => hard.and_then(|hard| flight.lasted(hard)),
        }
    }

    /// How long a refresh may last that callers wait for: four times what a load
    /// takes on average, within bounds.
    fn refresh_patience(&self, hard: Option<Duration>) -> Duration {
        let loads = self.counters.loads.get().max(1);
        let usual = Duration::from_nanos(self.counters.load_nanos.get() / loads);
        let patience = usual.saturating_mul(4).clamp(REFRESH_PATIENCE_MIN, REFRESH_PATIENCE_MAX);
        hard.map_or(patience, |hard| hard.min(patience))
    }

    /// Ends a flight that took too long. Its loader goes on; what it loads is
    /// stored unless the entry changed meanwhile.
    fn time_out(&self, flight: &Arc<Flight>, hash: u64) {
        self.key_locks.forget(hash, flight);
        let is_refresh = flight.purpose() == Purpose::Refresh;
        // A caller that met a refresh did not ask for it, and loads by itself.
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
            tracing::debug!(target: "larder", cache = self.lifecycle.name(), "a load was taken over: its future is not polled");
        }
    }

    /// Where callers can do with a stale value, the next attempt has to wait.
    pub(crate) fn note_failure(&self, flight: &Flight, hash: u64) {
        let now = self.timeline.now();
        if flight.stale(now).is_some() {
            self.backoffs.failed(hash, now, self.chance(now));
        }
    }
}
