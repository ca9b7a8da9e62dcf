//! The thread that drives all Redis connections of this process.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use larder_core::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

static SHARED: Mutex<Weak<IoThread>> = Mutex::new(Weak::new());

/// A thread with its own runtime, so that callers need none. It ends, and is joined, when the last tier of
/// the process releases it.
#[derive(Debug)]
pub(in crate::redis) struct IoThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// The thread of this process, started if there is none.
    pub(in crate::redis) fn shared() -> Result<Arc<Self>> {
        let mut shared = SHARED.lock();
        if let Some(io) = shared.upgrade() {
            return Ok(io);
        }
        let io = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&io);
        Ok(io)
    }

    fn start() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("larder-redis".to_owned()).spawn(move || {
            // An error means that the sender was dropped, which also stops the thread.
            let _stopped = runtime.block_on(stopped);
            // A hanging name look-up must not block the joining thread.
            runtime.shutdown_background();
        });
        Ok(Self { handle, stop: Some(stop), thread: Some(thread.map_err(Error::from)?) })
    }

    /// Whether the caller runs on this thread.
    pub(in crate::redis) fn is_current_thread(&self) -> bool {
        let thread = self.thread.as_ref().map(|thread| thread.thread().id());
        thread == Some(thread::current().id())
    }

    pub(in crate::redis) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for IoThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The last handle may be dropped in a task of this thread, which cannot join itself.
        let is_itself = self.is_current_thread();
        if let Some(thread) = self.thread.take().filter(|_| !is_itself) {
            let _panicked = thread.join();
        }
    }
}
