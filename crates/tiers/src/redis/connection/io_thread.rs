//! The thread that drives every connection to Redis of this process.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use larder_core::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

static SHARED: Mutex<Weak<Io>> = Mutex::new(Weak::new());

/// A thread with a runtime of its own, so that callers need none. It ends, and
/// is joined, when the last tier of the process lets go of it.
#[derive(Debug)]
pub(in crate::redis) struct Io {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Io {
    /// The thread of this process, started where there is none.
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
            // An error says that the sender is gone, which means the same.
            let _stopped = runtime.block_on(stopped);
            // A look-up of a name that hangs must not hold the joining thread.
            runtime.shutdown_background();
        });
        Ok(Self { handle, stop: Some(stop), thread: Some(thread.map_err(Error::from)?) })
    }

    /// Whether this is the thread itself.
    pub(in crate::redis) fn is_current_thread(&self) -> bool {
        let thread = self.thread.as_ref().map(|thread| thread.thread().id());
        thread == Some(thread::current().id())
    }

    pub(in crate::redis) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The last handle may go within a task of the thread itself.
        let is_itself = self.is_current_thread();
        if let Some(thread) = self.thread.take().filter(|_| !is_itself) {
            let _panicked = thread.join();
        }
    }
}
