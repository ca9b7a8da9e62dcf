//! Waiting until the medium has what was written.

use std::fs::File;
#[cfg(any(feature = "disk", not(target_os = "linux")))]
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

/// Waits until the names in `dir` are on the medium, where directories can be
/// opened.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Waits until every file in `dir` and below is on the medium, and every name.
#[cfg(any(feature = "disk", not(target_os = "linux")))]
pub(crate) fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let synced = match entry.file_type() {
            Ok(kind) if kind.is_dir() => sync_tree(&entry.path()),
            _ => open_to_sync(&entry.path()).and_then(|file| file.sync_all()),
        };
        match synced {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_dir(dir)
}

/// The same for a directory of many files: all of its file system at once,
/// where there is such a call.
#[cfg(all(feature = "file", target_os = "linux"))]
pub(crate) fn sync_many(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// The same for a directory of many files.
#[cfg(all(feature = "file", not(target_os = "linux")))]
pub(crate) fn sync_many(dir: &Path) -> io::Result<()> {
    sync_tree(dir)
}

/// Windows flushes only what is open for writing.
#[cfg(any(feature = "disk", not(target_os = "linux")))]
fn open_to_sync(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)
}
