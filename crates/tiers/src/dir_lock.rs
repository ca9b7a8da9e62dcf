//! The lock of a directory.
//!
//! It consists of two locks: one of the directory itself, and one of the file `lock` in it. A cleaner of
//! temporary folders can delete the file, and another process would then create and lock a new one; the
//! directory remains while it has content. The file lock is for file systems that cannot lock directories,
//! and for older builds that only lock the file.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::private_file;
use larder_core::{Error, ErrorKind, Result};

/// How often to retry if the locked file was deleted meanwhile.
const TRIES: usize = 16;

/// A lock held while a directory is in use. The operating system releases it when the process ends.
///
/// ```
/// use larder_tiers::DirLock;
///
/// # fn main() -> larder_core::Result<()> {
/// let dir = tempfile::tempdir()?;
/// let held = DirLock::take(dir.path(), false)?;
/// assert!(held.is_some());
/// assert!(DirLock::take(dir.path(), false)?.is_none(), "it is locked");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DirLock {
    /// `None` where directories cannot be locked.
    dir: Option<File>,
    /// `None` for a directory without the file, which is about to be deleted.
    file: Option<File>,
}

/// The outcome of an attempt to lock.
enum Attempt {
    Held(DirLock),
    /// Another process holds the lock.
    Busy,
    /// The locked file is no longer at the path.
    Gone,
}

impl DirLock {
    /// Locks an existing directory, exclusively or shared; `None` if another process or another lock of this
    /// process holds it. Creates the file `lock`.
    ///
    /// # Errors
    /// A directory that is missing or that this user may not write, which is named.
    pub fn take(dir: &Path, shared: bool) -> Result<Option<Self>> {
        for _ in 0..TRIES {
            match attempt(dir, shared).map_err(|error| dir_error(dir, error))? {
                Attempt::Held(lock) => return Ok(Some(lock)),
                Attempt::Busy => return Ok(None),
                Attempt::Gone => {}
            }
        }
        let message = format!(
            "the directory {}: its lock file was deleted during each of {TRIES} attempts to lock it",
            dir.display()
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Locks a directory exclusively, without creating a file; `None` if a process holds it. For a directory
    /// that may be orphaned and is deleted then, and for a look whether a process has the directory.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn of_orphan(dir: &Path) -> io::Result<Option<Self>> {
        let Ok(of_dir) = lock_dir(dir, false)? else { return Ok(None) };
        let file = match OpenOptions::new().write(true).open(dir.join("lock")) {
            Ok(file) if try_lock(&file, false)? => Some(file),
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Self { dir: of_dir, file }))
    }

    /// Waits for the lock of a directory that each process holds only for a moment.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn wait_for(dir: &Path) -> io::Result<Self> {
        let of_dir = open_dir(dir)?.filter(|of_dir| of_dir.lock().is_ok());
        let file = open_file(dir)?;
        file.lock()?;
        Ok(Self { dir: of_dir, file: Some(file) })
    }

    /// Whether this lock still belongs to the directory at `dir`.
    pub fn is_of(&self, dir: &Path) -> bool {
        let is_dir = self.dir.as_ref().is_none_or(|held| is_at(held, dir));
        is_dir && self.file.as_ref().is_some_and(|held| is_at(held, &dir.join("lock")))
    }

    /// Locks the directory at `dir` again after it was recreated or lost its lock file; false if another
    /// process holds it.
    ///
    /// # Errors
    /// Those of [`take`](Self::take).
    pub fn renew(&mut self, dir: &Path, shared: bool) -> Result<bool> {
        if self.dir.as_ref().is_some_and(|held| is_at(held, dir)) {
            // The directory lock excludes other processes, so no other process creates the file.
            let file = open_file(dir).map_err(|error| dir_error(dir, error))?;
            let is_locked = try_lock(&file, shared).map_err(|error| dir_error(dir, error))?;
            if is_locked {
                self.file = Some(file);
            }
            return Ok(is_locked);
        }
        let renewed = Self::take(dir, shared)?;
        let is_locked = renewed.is_some();
        renewed.into_iter().for_each(|lock| *self = lock);
        Ok(is_locked)
    }
}

fn dir_error(dir: &Path, error: io::Error) -> Error {
    let source = Error::from(error);
    Error::new(source.kind(), format!("the directory {}: {source}", dir.display())).with_source(source)
}

fn attempt(dir: &Path, shared: bool) -> io::Result<Attempt> {
    let Ok(of_dir) = lock_dir(dir, shared)? else { return Ok(Attempt::Busy) };
    let file = open_file(dir)?;
    if !try_lock(&file, shared)? {
        return Ok(Attempt::Busy);
    }
    let lock = DirLock { dir: of_dir, file: Some(file) };
    Ok(if lock.is_of(dir) { Attempt::Held(lock) } else { Attempt::Gone })
}

/// Another process holds the lock.
struct Taken;

/// Locks the directory itself; `Ok(None)` if directories cannot be locked.
fn lock_dir(dir: &Path, shared: bool) -> io::Result<Result<Option<File>, Taken>> {
    let Some(file) = open_dir(dir)? else { return Ok(Ok(None)) };
    match try_lock(&file, shared) {
        Ok(true) => Ok(Ok(Some(file))),
        Ok(false) => Ok(Err(Taken)),
        // Some network file systems lock only files that are open for writing.
        Err(_) => Ok(Ok(None)),
    }
}

/// Opens a directory to lock it; `None` on platforms that cannot lock directories.
fn open_dir(dir: &Path) -> io::Result<Option<File>> {
    if cfg!(unix) { File::open(dir).map(Some) } else { Ok(None) }
}

fn open_file(dir: &Path) -> io::Result<File> {
    private_file::open(OpenOptions::new().create(true).truncate(false).write(true), &dir.join("lock"))
}

/// Tries to lock the file; false if another process holds it.
fn try_lock(file: &File, shared: bool) -> io::Result<bool> {
    match if shared { file.try_lock_shared() } else { file.try_lock() } {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` is the open file.
#[cfg(unix)]
fn is_at(held: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(held), Ok(found)) = (held.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

/// Whether `path` exists; an open file cannot be deleted on this platform.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    fs::exists(path).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(dir: &Path, shared: bool) -> Option<DirLock> {
        DirLock::take(dir, shared).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn directory_stays_locked_after_its_lock_file_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        for shared in [false, true] {
            let held = take(dir.path(), shared).unwrap();
            fs::remove_file(dir.path().join("lock")).unwrap();
            assert!(take(dir.path(), false).is_none(), "shared: {shared}");
            assert_eq!(take(dir.path(), true).is_some(), shared);
            drop(held);
            assert!(take(dir.path(), false).is_some());
        }
    }

    #[cfg(unix)]
    #[test]
    fn lock_is_renewed_after_its_file_or_directory_is_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("cache");
        fs::create_dir(&dir).unwrap();
        let mut held = take(&dir, false).unwrap();
        assert!(held.is_of(&dir));
        fs::remove_file(dir.join("lock")).unwrap();
        assert!(!held.is_of(&dir));
        assert!(held.renew(&dir, false).unwrap() && held.is_of(&dir));
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        assert!(!held.is_of(&dir));
        assert!(held.renew(&dir, false).unwrap() && held.is_of(&dir));
        assert!(take(&dir, false).is_none());
        fs::remove_dir_all(&dir).unwrap();
        fs::create_dir(&dir).unwrap();
        let others = take(&dir, false).unwrap();
        assert!(!held.renew(&dir, false).unwrap(), "another one was faster");
        drop(others);
    }

    #[test]
    fn lock_file_locked_by_an_older_build_keeps_the_directory_locked() {
        let dir = tempfile::tempdir().unwrap();
        let file = open_file(dir.path()).unwrap();
        file.try_lock().unwrap();
        assert!(take(dir.path(), false).is_none());
        assert!(DirLock::of_orphan(dir.path()).unwrap().is_none());
        drop(file);
        assert!(take(dir.path(), false).is_some());
    }

    #[cfg(unix)]
    #[test]
    fn live_directory_without_lock_file_is_not_orphaned() {
        let dir = tempfile::tempdir().unwrap();
        let held = take(dir.path(), false).unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        assert!(DirLock::of_orphan(dir.path()).unwrap().is_none());
        drop(held);
        assert!(DirLock::of_orphan(dir.path()).unwrap().is_some());
    }
}
