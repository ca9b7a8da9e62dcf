//! An outcome that other callers wait for.

use std::sync::{Arc, OnceLock};

use event_listener::Event;
use larder_core::{Error, Result};
use larder_exec::runtime::Runtime;

/// The outcome of work that is done once, for any number of waiters.
#[derive(Debug)]
pub(crate) struct Promise<T> {
    outcome: OnceLock<Result<T, Arc<Error>>>,
    ended: Event,
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self { outcome: OnceLock::new(), ended: Event::new() }
    }
}

impl<T: Copy> Promise<T> {
    /// Sets the outcome and wakes the waiters. The first one counts.
    pub(crate) fn set(&self, outcome: Result<T>) {
        if self.outcome.set(outcome.map_err(Arc::new)).is_ok() {
            self.ended.notify(usize::MAX);
        }
    }

    /// Returns the outcome, if it is there. Each call returns an error anew.
    pub(crate) fn get(&self) -> Option<Result<T>> {
        self.outcome.get().map(|outcome| outcome.as_ref().map_err(Error::again).copied())
    }

    /// Waits for the outcome.
    pub(crate) async fn wait<W: Runtime>(&self) -> Result<T> {
        loop {
            let listener = self.ended.listen();
            if let Some(outcome) = self.get() {
                return outcome;
            }
            W::event(listener).await;
        }
    }
}
