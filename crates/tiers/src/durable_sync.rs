//! Waits until files and directories are durable, and asks the file system for its free space.

use std::fs::File;
#[cfg(any(feature = "disk", not(target_os = "linux")))]
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(all(any(feature = "disk", feature = "file"), unix))]
use xxhash_rust::xxh3::xxh3_64;

/// Waits until the entries of the directory `dir` are durable. Does nothing on platforms that
/// cannot open directories.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Waits until `dir`, and every file and directory below it, is durable.
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

/// Like `sync_tree`, for a directory of many files: one `syncfs` call for the whole file system.
#[cfg(all(feature = "file", target_os = "linux"))]
pub(crate) fn sync_many(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Like `sync_tree`: this platform has no call for a whole file system.
#[cfg(all(feature = "file", not(target_os = "linux")))]
pub(crate) fn sync_many(dir: &Path) -> io::Result<()> {
    sync_tree(dir)
}

/// Returns how many bytes, and how many inodes, this process may still take of the file system of
/// `dir`.
///
/// `None` on platforms without such a call, and where it fails.
#[cfg(all(any(feature = "disk", feature = "file"), target_os = "linux"))]
pub(crate) fn available(dir: &Path) -> Option<(u64, u64)> {
    let found = rustix::fs::statvfs(dir).ok()?;
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    // File systems that create inodes on demand report a total of zero.
    let files = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Some((bytes, files))
}

/// Returns the free bytes and inodes of the file system of `dir`: unknown on this platform.
#[cfg(all(any(feature = "disk", feature = "file"), not(target_os = "linux")))]
pub(crate) fn available(_dir: &Path) -> Option<(u64, u64)> {
    None
}

/// Identifies a file as it was last written: a hash of its inode number, its length and its times.
/// `None` if there is no file.
#[cfg(all(any(feature = "disk", feature = "file"), unix))]
pub(crate) fn stamp(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()].map(i64::cast_unsigned);
    let words = [meta.ino(), meta.len()].into_iter().chain(times);
    Some(xxh3_64(&words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()))
}

/// Identifies a file as it was last written: unknown on this platform.
#[cfg(all(any(feature = "disk", feature = "file"), not(unix)))]
pub(crate) fn stamp(_path: &Path) -> Option<u64> {
    None
}

/// Returns whether `path` leads to the open file or directory `held`. True where that cannot be
/// determined.
#[cfg(unix)]
pub(crate) fn is_at(held: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (held.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        (_, Err(error)) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        (Err(_), _) => true,
    }
}

/// Returns whether anything exists at `path`. On this platform an open file cannot be deleted.
#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    std::fs::exists(path).unwrap_or(true)
}

/// Returns whether the open file was unlinked.
#[cfg(all(any(feature = "disk", feature = "file"), unix))]
pub(crate) fn is_removed(file: &File) -> bool {
    file.metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::nlink(&meta) == 0)
}

/// Returns whether the open file was unlinked, which is impossible on this platform.
#[cfg(all(any(feature = "disk", feature = "file"), not(unix)))]
pub(crate) fn is_removed(_: &File) -> bool {
    false
}

/// Opens a file to sync it. Windows flushes only files that are open for writing.
#[cfg(any(feature = "disk", not(target_os = "linux")))]
fn open_to_sync(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(cfg!(windows)).open(path)
}
