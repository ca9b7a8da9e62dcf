//! The thread that drives the connections of a tier.
//!
//! A call needs nothing of its caller's executor, and a call whose caller went away is carried on.

use std::future::Future;

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::failure::closed;

/// One thread with a runtime. It starts the calls in the order in which they are given to it.
pub(crate) struct TierThread {
    handle: Handle,
    /// Dropped to end the thread.
    stop: Mutex<Option<oneshot::Sender<()>>>,
}

impl TierThread {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(format!("larder-{name}"));
        thread.spawn(move || {
            // Ends when the sender is dropped.
            let _stopped = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, stop: Mutex::new(Some(stop)) })
    }

    /// Carries a call out on the thread, also if the returned future is dropped.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let started = self.handle.spawn(call);
        async move {
            started.await.unwrap_or_else(|ended| match ended.is_cancelled() {
                true => Err(closed()),
                false => Err(Error::new(ErrorKind::Io, "a call to the object storage panicked")),
            })
        }
    }

    /// Waits for the output of a call on this thread, which may block.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (give, take) = std::sync::mpsc::channel();
        self.handle.spawn(async move {
            // The receiver waits.
            let _given = give.send(call.await);
        });
        take.recv().unwrap_or_else(|_| Err(closed()))
    }

    /// Ends the thread. Calls in progress end with it.
    pub(crate) fn stop(&self) {
        drop(self.stop.lock().take());
    }
}

impl Drop for TierThread {
    fn drop(&mut self) {
        self.stop();
    }
}
