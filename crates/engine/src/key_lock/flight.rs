//! A flight: one load in progress, and those who wait for it.
//!
//! A caller that is part of a loader waits for no flight that waits for that
//! loader ([`reentrancy`](crate::key_lock::wait_graph)). What a loader hands to a thread or a
//! task of its own is not seen as part of it.

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
    /// With the knowledge that there is no value.
    Absent,
    /// It did not run: the last ones failed, and it is too early for another.
    Paused,
    /// It took longer than its callers wait.
    TimedOut,
    /// It answered that the former value still holds, and there was none.
    NothingToKeep,
    /// With an error of the loader, whatever its type.
    Failed(AnyError),
    /// The loader panicked, and the panic was caught.
    Panicked,
    /// Without an outcome: the leader was cancelled or unwound, or a waiter took
    /// the key over. One of the waiters leads next.
    Abandoned,
}

/// Whose loader a flight runs, which says how long others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// That of a call of `get_with`, which runs it. No limits.
    Borrowed,
    /// That of a call of `load`. The hard timeout holds.
    Owned,
    /// A refresh ahead of its need.
    Refresh,
}

/// What is known of a flight when it begins.
pub(crate) struct Start {
    pub(crate) purpose: Purpose,
    /// Watches the future of the leader, where that is polled by an executor.
    pub(crate) watch: Option<Arc<PollWatch>>,
    /// How many invalidations there had been.
    pub(crate) stamp: u64,
}

/// One load in progress. Threads and tasks wait for it in one queue.
pub(crate) struct Flight {
    id: u64,
    start: Start,
    began: Instant,
    /// What it depends on: [`LED`], [`LAUNCHED`], [`TAKEN_OVER`].
    hold: AtomicU8,
    /// What callers of a load get where it fails or takes long, and until when.
    stale: OnceLock<(Value, Time)>,
    /// The right to load among all nodes; given up when the flight ends.
    lease: Mutex<LeaseGuard>,
    outcome: OnceLock<Outcome>,
    /// How the loader ended, where the flight had ended before.
    late: OnceLock<Outcome>,
    ended: Event,
}

/// The future of the call that leads it has to be polled.
const LED: u8 = 0;
/// It goes on by itself, whatever becomes of the call that began it.
const LAUNCHED: u8 = 1;
/// A waiter loads the key instead.
const TAKEN_OVER: u8 = 2;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Flight {
    pub(crate) fn new(start: Start) -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            start,
            began: Instant::now(),
            hold: AtomicU8::new(LED),
            stale: OnceLock::new(),
            lease: Mutex::new(LeaseGuard::NONE),
            outcome: OnceLock::new(),
            late: OnceLock::new(),
            ended: Event::new(),
        }
    }

    /// Larger than that of every flight that began before.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.start.purpose
    }

    /// The moment when it has lasted for `span`.
    pub(crate) fn lasted(&self, span: Duration) -> Option<Instant> {
        self.began.checked_add(span)
    }

    /// What its callers may fall back on, until a time.
    pub(crate) fn set_stale(&self, value: Value, until: Time) {
        let _first_counts = self.stale.set((value, until));
    }

    /// What its callers may fall back on now.
    pub(crate) fn stale(&self, now: Time) -> Option<&Value> {
        self.stale.get().filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// How many invalidations there had been when it began: a later caller may
    /// not be content with what it loads.
    pub(crate) fn stamp(&self) -> u64 {
        self.start.stamp
    }

    /// Holds a lease until the flight ends.
    pub(crate) fn hold(&self, lease: LeaseGuard) {
        let mut held = self.lease.lock();
        // Looked at under the lock: `end` takes the lease after it set the outcome.
        let given_up = if self.has_ended() { lease } else { std::mem::replace(&mut *held, lease) };
        drop(held);
        drop(given_up);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// How it ended.
    pub(crate) fn ended(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// How its loader ended, where the flight had ended before.
    pub(crate) fn late(&self) -> Option<&Outcome> {
        self.late.get()
    }

    /// Whether others lead its key next, though its leader may still be there.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.outcome.get(), Some(Outcome::Abandoned))
    }

    /// Ends the flight; the first outcome counts. Whether this was it.
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

    /// Has the load go on by itself from here on, whatever becomes of the call that
    /// began it. False where it was taken over before.
    pub(crate) fn launch(&self) -> bool {
        self.hold.compare_exchange(LED, LAUNCHED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Ends the flight of a call that is no longer polled; false where it goes on.
    pub(crate) fn take_over(&self) -> bool {
        self.hold.compare_exchange(LED, TAKEN_OVER, Ordering::AcqRel, Ordering::Acquire).is_ok()
            && self.end(Outcome::Abandoned)
    }

    /// How long a waiter may wait before it looks again whether the leader is still
    /// polled; zero where it was woken `stall` ago and not polled since. `None`
    /// where the leader is not polled by an executor.
    pub(crate) fn patience(&self, stall: Option<Duration>) -> Option<Duration> {
        let (stall, watch) = (stall?, self.start.watch.as_ref()?);
        if self.hold.load(Ordering::Acquire) != LED {
            return None;
        }
        Some(stall.saturating_sub(watch.neglected_for().unwrap_or_default()))
    }

    /// Leave to wait here. `None` where that might never end: for the loader of
    /// this very flight, for one that it waits for, for a thread whose executor
    /// must poll the leader, for user code that runs while an entry is stored.
    pub(crate) fn edge<W: Runtime>(&self) -> Option<WaitEdge> {
        if reentrancy::is_up() || !W::may_wait(self.start.watch.is_some()) {
            return None;
        }
        WaitEdge::take(self.id)
    }

    /// Waits for the end, or until the moment, or until the leader is no longer
    /// polled. May return early.
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

    /// The loader, known as running wherever it is polled.
    pub(crate) fn run<F: Future>(&self, loader: F) -> Running<F> {
        Running::call([self.id], loader)
    }
}
