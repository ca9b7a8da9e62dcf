//! The directories of temporary contexts, and the removal of those of killed processes.
//!
//! Temporary directories are siblings in `~temporary`. Each has a lock that its process holds; a directory
//! whose lock is free is orphaned and is removed. A process holds the lock of `~temporary` itself while it
//! creates a directory or lists them, so that no directory is visible before its lock is held.

use std::fs;
use std::io::ErrorKind as Io;
use std::path::{Path, PathBuf};

use larder_core::Result;
use larder_tiers::{DirLock, temporary_dir};

use crate::locked_dir::{create, dir_error, path_segment};

/// The directory of a temporary context, held while the context lives.
#[derive(Debug)]
pub(super) struct TemporaryDir {
    path: PathBuf,
    _lock: DirLock,
}

/// A directory of a process that has ended, with its lock while it is removed.
struct Orphan {
    path: PathBuf,
    _lock: DirLock,
}

impl TemporaryDir {
    /// Creates a directory in `base`, and removes orphaned ones.
    pub(super) fn open(base: &Path, name: &str) -> Result<Self> {
        let root = base.join("~temporary");
        create(&root)?;
        // Each process holds this lock only for a moment, so this waits for it.
        let guard = DirLock::wait_for(&root).map_err(|error| dir_error(&root, error))?;
        let orphans = orphans(&root);
        let dir = Self::make(&root, name);
        drop(guard);
        orphans.into_iter().for_each(Orphan::remove);
        dir
    }

    fn make(root: &Path, name: &str) -> Result<Self> {
        let prefix = format!("{}-", path_segment(name));
        let path = temporary_dir(&prefix, root).map_err(|error| dir_error(root, error))?.keep();
        match DirLock::take(&path, false)? {
            Some(lock) => Ok(Self { path, _lock: lock }),
            None => Err(dir_error(&path, Io::WouldBlock.into())),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(self) -> Result<()> {
        remove(&self.path).map_err(|error| dir_error(&self.path, error).during("close"))
    }
}

impl Orphan {
    fn remove(self) {
        match remove(&self.path) {
            Ok(()) => {
                tracing::info!(target: "larder", path = %self.path.display(), "removed the temporary directory of an ended process")
            }
            Err(error) => {
                tracing::warn!(target: "larder", path = %self.path.display(), %error, "cannot remove the temporary directory of an ended process");
            }
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != Io::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directories whose lock is free. Skips those that cannot be inspected.
fn orphans(root: &Path) -> Vec<Orphan> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.filter_map(|entry| orphan(entry.path())).collect()
}

fn orphan(path: PathBuf) -> Option<Orphan> {
    let lock = DirLock::of_orphan(&path).ok().flatten()?;
    Some(Orphan { path, _lock: lock })
}
