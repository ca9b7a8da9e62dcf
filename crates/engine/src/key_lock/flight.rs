//! A flight: one load in progress, with its waiters.
//!
//! A caller inside a loader never waits for a flight that waits for that loader
//! ([`wait_graph`](crate::key_lock::wait_graph)). Work that a loader hands to another thread or
//! task is not recognized as part of the loader.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use event_listener::Event;
use larder_core::clock::Time;
use larder_core::erased::{AnyError, Value};
use parking_lot::Mutex;

use crate::coherence::load_lease::LeaseGuard;
use crate::key_lock::reentrancy;
use crate::key_lock::wait_graph::{Running, WaitEdge};
use crate::load::poll_watch::PollWatch;
use larder_exec::runtime::Runtime;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// With a value.
    Value(Value),
    /// The loader answered that there is no value.
    Absent,
    /// The loader did not run, because earlier loads failed and the backoff is not over. Also the
    /// answer to a waiter past its soft timeout while there is a stale value.
    Paused,
    /// It exceeded the time limit.
    TimedOut,
    /// The loader answered that the former value still holds, but there was none.
    NothingToKeep,
    /// With an error of the loader, of any type.
    Failed(AnyError),
    /// The loader panicked, and the panic was caught.
    Panicked,
    /// Without an outcome: the leader was cancelled or unwound, or a waiter took the key over. One
    /// of the waiters leads next.
    Abandoned,
}

/// Whose loader a flight runs. Decides how long others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The loader of a `get_with` call, which runs it itself. No time limit.
    Borrowed,
    /// The loader of a `load` call. The hard timeout applies.
    Owned,
    /// A refresh ahead of the deadline.
    Refresh,
}

/// What is known when a flight begins.
pub(crate) struct Start {
    pub(crate) purpose: Purpose,
    /// Watches whether the leader's future is polled, if an executor polls it.
    pub(crate) watch: Option<Arc<PollWatch>>,
    /// Sequence number of the latest invalidation when the flight began.
    pub(crate) stamp: u64,
}

/// One load in progress. Threads and tasks wait for it in the same queue.
pub(crate) struct Flight {
    id: u64,
    start: Start,
    began: Instant,
    /// What the flight depends on: [`LED`], [`LAUNCHED`] or [`TAKEN_OVER`].
    hold: AtomicU8,
    /// The stale value that callers get if the load fails or takes long, and its deadline.
    stale: OnceLock<(Value, Time)>,
    /// The lease among all nodes. Released when the flight ends.
    lease: Mutex<LeaseGuard>,
    outcome: OnceLock<Outcome>,
    /// The outcome of the loader, if the flight had ended before it.
    late: OnceLock<Outcome>,
    ended: Event,
}

/// The flight advances only while the leader's call is polled.
const LED: u8 = 0;
/// The flight advances by itself, even if the call that began it is dropped.
const LAUNCHED: u8 = 1;
/// A waiter loads the key instead.
const TAKEN_OVER: u8 = 2;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Returns the id of a flight that begins now.
pub(super) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

impl Flight {
    pub(crate) fn new(start: Start) -> Self {
        Self::begun(next_id(), start, Instant::now())
    }

    /// Creates a flight that has begun with this id.
    pub(super) fn begun(id: u64, start: Start, began: Instant) -> Self {
        Self {
            id,
            start,
            began,
            hold: AtomicU8::new(LED),
            stale: OnceLock::new(),
            lease: Mutex::new(LeaseGuard::NONE),
            outcome: OnceLock::new(),
            late: OnceLock::new(),
            ended: Event::new(),
        }
    }

    /// Returns the id. A flight has a larger id than every flight that began before it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the moment at which the flight began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.start.purpose
    }

    /// Returns the moment at which the flight has lasted for `span`.
    pub(crate) fn lasted(&self, span: Duration) -> Option<Instant> {
        self.began.checked_add(span)
    }

    /// Sets the stale value that callers may fall back on, until a time.
    pub(crate) fn set_stale(&self, value: Value, until: Time) {
        let _first_counts = self.stale.set((value, until));
    }

    /// Returns the stale value that callers may fall back on now.
    pub(crate) fn stale(&self, now: Time) -> Option<&Value> {
        self.stale.get().filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// Returns the sequence number of the latest invalidation when the flight began. A caller that
    /// comes after a newer invalidation must not use the result.
    pub(crate) fn stamp(&self) -> u64 {
        self.start.stamp
    }

    /// Holds a lease until the flight ends.
    pub(crate) fn hold(&self, lease: LeaseGuard) {
        let mut held = self.lease.lock();
        // Check while the mutex is held: `end` takes the lease after it has set the outcome.
        let given_up = if self.has_ended() { lease } else { std::mem::replace(&mut *held, lease) };
        drop(held);
        drop(given_up);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Returns the outcome, once the flight has ended.
    pub(crate) fn ended(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Returns the outcome of the loader, if the flight had ended before it.
    pub(crate) fn late(&self) -> Option<&Outcome> {
        self.late.get()
    }

    /// Returns whether the flight was abandoned. Its leader may still exist.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.outcome.get(), Some(Outcome::Abandoned))
    }

    /// Ends the flight. The first outcome counts. Returns whether this was the first.
    pub(crate) fn end(&self, outcome: Outcome) -> bool {
        if let Err(outcome) = self.outcome.set(outcome) {
            let _first_counts = self.late.set(outcome);
            return false;
        }
        let lease = std::mem::replace(&mut *self.lease.lock(), LeaseGuard::NONE);
        drop(lease);
        self.ended.notify(usize::MAX);
        true
    }

    /// Makes the load independent of the call that began it. Returns `false` if a waiter took it
    /// over before.
    pub(crate) fn launch(&self) -> bool {
        self.hold.compare_exchange(LED, LAUNCHED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends a flight whose call is no longer polled. Returns `false` if it does not depend on it.
    pub(crate) fn take_over(&self) -> bool {
        self.hold.compare_exchange(LED, TAKEN_OVER, Ordering::AcqRel, Ordering::Acquire).is_ok()
            && self.end(Outcome::Abandoned)
    }

    /// Returns how long a waiter may wait before it checks the leader again. Zero if the leader was
    /// woken at least `stall` ago and not polled since. `None` if no executor polls it.
    pub(crate) fn patience(&self, stall: Option<Duration>) -> Option<Duration> {
        let (stall, watch) = (stall?, self.start.watch.as_ref()?);
        if self.hold.load(Ordering::Acquire) != LED {
            return None;
        }
        Some(stall.saturating_sub(watch.neglected_for().unwrap_or_default()))
    }

    /// Returns the right to wait for this flight. `None` where the wait might never end:
    ///
    /// - the caller is part of this flight's loader, or of a loader that this flight waits for;
    /// - the caller is a thread that the leader's executor may need;
    /// - the caller is user code that runs while an entry is stored.
    pub(crate) fn edge<W: Runtime>(&self) -> Option<WaitEdge> {
        if reentrancy::is_up() || !W::may_wait(self.start.watch.is_some()) {
            return None;
        }
        WaitEdge::take(self.id)
    }

    /// Waits until the flight ends, the moment `until` comes, or the leader is no longer polled.
    /// May return early.
    pub(crate) async fn wait<W: Runtime>(&self, until: Option<Instant>, stall: Option<Duration>) {
        let listener = self.ended.listen();
        let patience = self.patience(stall);
        if self.has_ended() || patience.is_some_and(|patience| patience.is_zero()) {
            return;
        }
        let look = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut waiting = pin!(W::event_until(listener, until.into_iter().chain(look).min()));
        poll_fn(|context| match self.patience(stall) {
            Some(Duration::ZERO) => Poll::Ready(()),
            _ => waiting.as_mut().poll(context),
        })
        .await;
    }

    /// Wraps the loader so that its calls of the cache are recognized wherever it is polled.
    pub(crate) fn run<F: Future>(&self, loader: F) -> Running<F> {
        Running::call([self.id], loader)
    }
}
