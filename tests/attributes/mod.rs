//! The attributes for cached functions, in every form. Each function counts its executions.

mod batches;
mod configured;
mod events;
mod forms;
mod keys;
mod outcomes;
mod restart;
mod sequences;
mod tags;
mod tasks;
mod time;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Counts executions.
pub(crate) struct Runs(AtomicU32);

impl Runs {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    pub(crate) fn count(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// Returns the count since the last call.
    pub(crate) fn take(&self) -> u32 {
        self.0.swap(0, SeqCst)
    }
}

/// A folder for the caches of a test. They live as long as the process, so the folder is emptied
/// before use instead of afterwards.
pub(crate) fn folder(test: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("attributes").join(test)
}

pub(crate) fn empty(test: &str) -> PathBuf {
    let folder = folder(test);
    let _absent = std::fs::remove_dir_all(&folder);
    folder
}
