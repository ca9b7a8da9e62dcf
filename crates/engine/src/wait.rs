//! How a caller waits: as a thread or as a task.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use event_listener::EventListener;
#[cfg(not(feature = "async"))]
use larder_core::Result;
#[cfg(feature = "async")]
use larder_core::{Error, ErrorKind, Result};

mod sealed {
    pub trait Sealed {}
}

/// The two ways of waiting.
pub trait Wait: sealed::Sealed + Send + Sync + 'static {
    /// Whether loads of this caller are polled by an executor.
    const IS_TASK: bool;

    /// Waits until the listener is notified.
    fn event(listener: EventListener) -> impl Future<Output = ()> + Send;

    /// Runs a section that may block. Once begun it runs to its end, even when
    /// the future returned here is dropped. `blocks` false promises that it
    /// does not block, so that it may run in place.
    fn section<T: Send + 'static>(
        blocks: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send;

    /// Whether this caller may wait for a flight that a task leads. A thread
    /// that drives a runtime may not: the task could need that very thread.
    fn may_wait_for_task() -> bool;
}

/// A thread: blocks where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Inline;

impl sealed::Sealed for Inline {}

impl Wait for Inline {
    const IS_TASK: bool = false;

    async fn event(listener: EventListener) {
        event_listener::Listener::wait(listener);
    }

    async fn section<T: Send + 'static>(
        _: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        Ok(section.await)
    }

    fn may_wait_for_task() -> bool {
        #[cfg(feature = "async")]
        return tokio::runtime::Handle::try_current().is_err();
        #[cfg(not(feature = "async"))]
        true
    }
}

/// A task of tokio: never blocks its executor.
///
/// Outside a runtime sections run in place, and block there.
#[cfg(feature = "async")]
#[derive(Clone, Copy, Debug)]
pub struct Tokio;

#[cfg(feature = "async")]
impl sealed::Sealed for Tokio {}

#[cfg(feature = "async")]
impl Wait for Tokio {
    const IS_TASK: bool = true;

    async fn event(listener: EventListener) {
        listener.await;
    }

    async fn section<T: Send + 'static>(
        blocks: bool,
        section: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if !blocks {
            return Ok(section.await);
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => match runtime.spawn_blocking(|| block_on(section)).await {
                Ok(value) => Ok(value),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down")),
            },
            Err(_) => Ok(block_on(section)),
        }
    }

    fn may_wait_for_task() -> bool {
        true
    }
}

/// Drives a future from this thread. One that is ready at once, as all of
/// [`Inline`] over blocking tiers are, costs a single poll.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => pollster::block_on(future),
    }
}
