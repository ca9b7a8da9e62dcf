//! Files and directories that only their owner may read and write.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Opens a file. One that is created gets the mode 0600.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
}

/// Creates a directory of mode 0700 in `parent`, with `prefix` and a random name, which is deleted when the result is
/// dropped.
///
/// # Errors
/// If the directory cannot be created.
pub fn temporary_dir(prefix: &str, parent: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix(prefix).tempdir_in(parent)
}

/// Creates a file for writing, or empties the one that is there.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn create(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().create(true).write(true).truncate(true), path)
}

/// Deletes a file, if it is there.
#[cfg(any(feature = "disk", feature = "file"))]
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
