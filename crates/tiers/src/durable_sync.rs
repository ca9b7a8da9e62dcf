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

/// How many bytes, and how many files and directories, this process may still take of the
/// file system of `dir`; `None` where there is no call that tells, or it fails.
#[cfg(all(any(feature = "disk", feature = "file"), target_os = "linux"))]
pub(crate) fn available(dir: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(dir).ok()?;
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    // A file system that makes inodes as it needs them says that it has none.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Some((bytes, files))
}

/// How much of the file system of `dir` is available: not known here.
#[cfg(all(any(feature = "disk", feature = "file"), not(target_os = "linux")))]
pub(crate) fn available(_dir: &Path) -> Option<(u64, u64)> {
    None
}

/// Whether `path` leads to what is open; so where that cannot be told.
#[cfg(unix)]
pub(crate) fn is_at(held: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (held.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        (_, Err(error)) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        (Err(_), _) => true,
    }
}

/// Whether there is anything at `path`: here nothing is deleted that is open.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    std::fs::exists(path).unwrap_or(true)
}

/// Whether the file that is open has a name no more.
#[cfg(all(any(feature = "disk", feature = "file"), unix))]
pub(crate) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) == 0)
}

/// Whether the file that is open has a name no more: here that cannot be.
#[cfg(all(any(feature = "disk", feature = "file"), not(unix)))]
pub(crate) fn is_removed(_: &File) -> bool {
    false
}

/// Windows flushes only what is open for writing.
#[cfg(any(feature = "disk", not(target_os = "linux")))]
fn open_to_sync(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)
}
