//! Tells a forked child from the process that built a cache.

use crate::runtime::process_id;

/// The process that built a cache.
#[derive(Debug)]
pub struct Origin {
    process: u32,
    /// `None` if the system had no room for the handler of forks.
    guard: Option<forkguard::Guard>,
}

impl Origin {
    /// The present process.
    pub fn here() -> Self {
        Self { process: process_id(), guard: forkguard::Guard::try_new().ok() }
    }

    /// Returns whether this is a forked child of the process.
    ///
    /// Costs an atomic load; a system call where the handler could not be set. A child of `clone(2)` itself,
    /// past the handlers of the C library, is not noticed.
    pub fn is_forked(&self) -> bool {
        match &self.guard {
            Some(guard) => guard.clone().detected_fork(),
            None => process_id() != self.process,
        }
    }
}
