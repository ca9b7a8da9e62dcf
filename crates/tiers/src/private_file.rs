//! Files that only their owner may read and write.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a file. One that is created gets the mode 0600.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options.open(path)
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
