use std::io;
use std::mem::ManuallyDrop;

use shuttle::thread;

/// As `std::thread::JoinHandle`, but dropping the handle does not detach the thread. A run is over
/// when every thread has ended, and a thread that never ends is a fault.
#[derive(Debug)]
pub struct JoinHandle<T>(ManuallyDrop<thread::JoinHandle<T>>);

impl<T> JoinHandle<T> {
    /// As in `std`.
    pub fn thread(&self) -> &thread::Thread {
        self.0.thread()
    }

    /// As in `std`.
    ///
    /// # Errors
    /// The payload of the panic of the thread.
    pub fn join(self) -> std::thread::Result<T> {
        ManuallyDrop::into_inner(self.0).join()
    }
}

/// As `std::thread::Builder`.
#[derive(Debug, Default)]
pub struct Builder(thread::Builder);

impl Builder {
    /// As in `std`.
    pub fn new() -> Self {
        Self::default()
    }

    /// As in `std`.
    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    /// As in `std`, but every thread has the stack size of the run.
    #[must_use]
    pub fn stack_size(self, _: usize) -> Self {
        self
    }

    /// As in `std`.
    ///
    /// # Errors
    /// Never.
    pub fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        Ok(JoinHandle(ManuallyDrop::new(self.0.spawn(work)?)))
    }
}

/// As `std::thread::spawn`.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    JoinHandle(ManuallyDrop::new(thread::spawn(work)))
}
