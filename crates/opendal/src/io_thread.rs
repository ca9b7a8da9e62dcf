//! The thread that drives the connections of a tier.
//!
//! A call needs nothing of its caller's executor, and a call whose caller went away is carried on.

use std::future::Future;
use std::thread::{self, JoinHandle};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::failure::closed;

/// One thread with a runtime. It starts the calls in the order in which they are given to it.
pub(crate) struct TierThread {
    handle: Handle,
    /// The thread, and what is dropped to end it; `None` once it ends.
    running: Mutex<Option<(JoinHandle<()>, oneshot::Sender<()>)>>,
}

impl TierThread {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(format!("larder-{name}"));
        let thread = thread.spawn(move || {
            // Ends when the sender is dropped.
            let _stopped = runtime.block_on(stopped);
            // A hanging name look-up must not block the joining thread.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, running: Mutex::new(Some((thread, stop))) })
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

    /// Ends the thread and waits for its end, unless called on it. Calls in progress end with it.
    pub(crate) fn stop(&self) {
        let Some((thread, stop)) = self.running.lock().take() else { return };
        drop(stop);
        // The last handle may be dropped in a call on this thread, which cannot join itself.
        if thread.thread().id() != thread::current().id() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for TierThread {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn calls_in_progress_are_gone_once_the_thread_is_stopped() {
        let thread = TierThread::start("test").unwrap();
        let held = Arc::new(());
        let of_call = Arc::clone(&held);
        let call = thread.run(async move {
            std::future::pending::<()>().await;
            drop(of_call);
            Ok(())
        });
        thread.stop();
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(
            futures_util::FutureExt::now_or_never(call).unwrap().unwrap_err().kind(),
            ErrorKind::Closed
        );
        thread.stop();
    }
}
