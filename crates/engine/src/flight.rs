//! A flight: one load in progress, and those who wait for it.
//!
//! A loader may ask for other keys, of this cache or another. So every caller
//! knows the flights whose loaders it is part of (`RUNNING`), and `WAITS` knows
//! which flights wait for which. Who would wait for its own flight, or close a
//! ring of flights that wait for one another, does not wait: it loads.
//!
//! What a loader hands to a thread or a task of its own is not seen as part of it.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::Event;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use larder_core::clock::Time;
use parking_lot::Mutex;

use crate::shield;
use crate::wait::Wait;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<V> {
    /// With a value.
    Value(V),
    /// With the knowledge that there is no value.
    Absent,
    /// It did not run: the last ones failed, and it is too early for another.
    Paused,
    /// It took longer than its callers wait.
    TimedOut,
    /// It answered that the former value still holds, and there was none.
    NothingToKeep,
    /// With an error of the loader, whatever its type.
    Failed(Arc<dyn Any + Send + Sync>),
    /// The loader panicked, and the panic was caught.
    Panicked,
    /// The leader is gone without an outcome: cancelled, or unwinding.
    Abandoned,
}

/// One load in progress. Threads and tasks wait for it in one queue.
pub(crate) struct Flight<V> {
    id: u64,
    led_by_task: bool,
    began: Instant,
    /// What callers of a load get where it fails or takes long, and until when.
    stale: OnceLock<(V, Time)>,
    /// How many invalidations there had been when it began.
    stamp: u64,
    outcome: OnceLock<Outcome<V>>,
    ended: Event,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The flights that the loader of a flight waits for now.
static WAITS: Mutex<HashMap<u64, Vec<u64>, FixedState>> =
    Mutex::new(HashMap::with_hasher(FixedState::with_seed(0)));

std::thread_local! {
    /// The flights whose loaders are on this thread's stack.
    static RUNNING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The flights whose loaders the caller is part of.
pub(crate) fn running() -> Vec<u64> {
    RUNNING.with_borrow(Clone::clone)
}

impl<V> Flight<V> {
    pub(crate) fn new(led_by_task: bool, stamp: u64) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            led_by_task,
            began: Instant::now(),
            stale: OnceLock::new(),
            stamp,
            outcome: OnceLock::new(),
            ended: Event::new(),
        }
    }

    /// Larger than that of every flight that began before.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The moment when it has lasted for `span`.
    pub(crate) fn lasted(&self, span: Duration) -> Option<Instant> {
        self.began.checked_add(span)
    }

    /// What its callers may fall back on, until a time.
    pub(crate) fn set_stale(&self, value: V, until: Time) {
        let _first_counts = self.stale.set((value, until));
    }

    /// What its callers may fall back on now.
    pub(crate) fn stale(&self, now: Time) -> Option<&V> {
        self.stale.get().filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// How many invalidations there had been when it began: a later caller may
    /// not be content with what it loads.
    pub(crate) fn stamp(&self) -> u64 {
        self.stamp
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Ends the flight; the first outcome counts. Whether this was it.
    pub(crate) fn end(&self, outcome: Outcome<V>) -> bool {
        let first = self.outcome.set(outcome).is_ok();
        if first {
            self.ended.notify(usize::MAX);
        }
        first
    }

    /// Leave to wait here. `None` where that might never end: for the loader of
    /// this very flight, for one that it waits for, for a thread whose executor
    /// must poll the leader, for user code that runs while an entry is stored.
    pub(crate) fn seat<W: Wait>(&self) -> Option<Seat> {
        if shield::is_up() || !W::may_wait(self.led_by_task) {
            return None;
        }
        Seat::take(self.id, running())
    }

    /// Waits for the end.
    pub(crate) async fn outcome<W: Wait>(&self) -> &Outcome<V> {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            let listener = self.ended.listen();
            if self.outcome.get().is_none() {
                W::event(listener).await;
            }
        }
    }

    /// Waits for the end, or until the moment.
    pub(crate) async fn outcome_until<W: Wait>(&self, until: Option<Instant>) -> Option<&Outcome<V>> {
        let listener = self.ended.listen();
        if self.outcome.get().is_none() {
            W::event_until(listener, until).await;
        }
        self.outcome.get()
    }

    /// The loader, known as running wherever it is polled.
    pub(crate) fn run<F: Future>(&self, loader: F) -> Running<F> {
        Running::within(vec![self.id], loader)
    }
}

/// Leave to wait for a flight, on behalf of the flights that the caller is part of.
pub(crate) struct Seat {
    waiting: Vec<u64>,
    target: u64,
}

impl Seat {
    fn take(target: u64, waiting: Vec<u64>) -> Option<Self> {
        if waiting.is_empty() {
            return Some(Self { waiting, target });
        }
        let mut waits = WAITS.lock();
        if reaches(&waits, target, &waiting) {
            return None;
        }
        for flight in &waiting {
            waits.entry(*flight).or_default().push(target);
        }
        Some(Self { waiting, target })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waits = WAITS.lock();
        for flight in &self.waiting {
            let Some(targets) = waits.get_mut(flight) else { continue };
            if let Some(at) = targets.iter().position(|target| *target == self.target) {
                targets.swap_remove(at);
            }
            if targets.is_empty() {
                waits.remove(flight);
            }
        }
    }
}

/// Whether `from` is one of `ends`, or waits for one of them, over however many others.
fn reaches(waits: &HashMap<u64, Vec<u64>, FixedState>, from: u64, ends: &[u64]) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(flight) = seen.get(next).copied() {
        if ends.contains(&flight) {
            return true;
        }
        for target in waits.get(&flight).into_iter().flatten() {
            if !seen.contains(target) {
                seen.push(*target);
            }
        }
        next += 1;
    }
    false
}

/// A future that is known as part of some loaders while it is polled.
pub(crate) struct Running<F> {
    flights: Vec<u64>,
    future: Pin<Box<F>>,
}

impl<F: Future> Running<F> {
    /// Polls `future` as a part of the loaders of `flights`.
    pub(crate) fn within(flights: Vec<u64>, future: F) -> Self {
        Self { flights, future: Box::pin(future) }
    }
}

impl<F: Future> Future for Running<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _mark = Mark::new(&self.flights);
        self.future.as_mut().poll(context)
    }
}

/// Takes its flights off the stack again, also when the loader panics.
struct Mark {
    len_before: usize,
}

impl Mark {
    fn new(flights: &[u64]) -> Self {
        RUNNING.with_borrow_mut(|running| {
            let len_before = running.len();
            running.extend_from_slice(flights);
            Self { len_before }
        })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(|running| running.truncate(self.len_before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_of_waiters_is_not_closed() {
        let (a, b, c) = (1 << 40, 2 << 40, 3 << 40);
        let _a_for_b = Seat::take(b, vec![a]).unwrap();
        let b_for_c = Seat::take(c, vec![b]).unwrap();
        assert!(Seat::take(a, vec![a]).is_none(), "itself");
        assert!(Seat::take(a, vec![c]).is_none(), "over two others");
        assert!(Seat::take(a, vec![4 << 40, c]).is_none(), "from within another loader");
        drop(b_for_c);
        assert!(Seat::take(a, vec![c]).is_some(), "the ring is open again");
    }
}
