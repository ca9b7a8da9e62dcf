//! A flight: one load in progress, and those who wait for it.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use event_listener::Event;

use crate::wait::Wait;

/// How a flight ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<V> {
    /// With a value.
    Value(V),
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
    outcome: OnceLock<Outcome<V>>,
    ended: Event,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The flights whose loaders are on this thread's stack.
    static RUNNING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl<V> Flight<V> {
    pub(crate) fn new(led_by_task: bool) -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Self { id, led_by_task, outcome: OnceLock::new(), ended: Event::new() }
    }

    /// Ends the flight; the first outcome counts.
    pub(crate) fn end(&self, outcome: Outcome<V>) {
        if self.outcome.set(outcome).is_ok() {
            self.ended.notify(usize::MAX);
        }
    }

    /// Whether a caller may wait here: not when its own loader is the one in
    /// progress, and not when waiting could stop the executor that must poll
    /// the leader.
    pub(crate) fn may_be_joined<W: Wait>(&self) -> bool {
        let is_reentry = RUNNING.with_borrow(|running| running.contains(&self.id));
        !is_reentry && (!self.led_by_task || W::may_wait_for_task())
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

    /// The loader, marked as running wherever it is polled.
    pub(crate) fn run<F: Future>(&self, loader: F) -> Running<F> {
        Running { id: self.id, loader: Box::pin(loader) }
    }
}

/// A loader that is known as running while it is polled.
pub(crate) struct Running<F> {
    id: u64,
    loader: Pin<Box<F>>,
}

impl<F: Future> Future for Running<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _mark = Mark::new(self.id);
        self.loader.as_mut().poll(context)
    }
}

struct Mark;

impl Mark {
    fn new(id: u64) -> Self {
        RUNNING.with_borrow_mut(|running| running.push(id));
        Self
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(|running| running.pop());
    }
}
