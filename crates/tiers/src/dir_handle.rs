//! Detects that the directory of a tier was removed, replaced or unmounted.
//!
//! Files that are open at that time still accept writes, but those writes are lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_core::{Error, ErrorKind};
use parking_lot::Mutex;

use crate::durable_sync::is_at;

/// Shortest time between two checks that are made on behalf of single writes.
const PAUSE: Duration = Duration::from_millis(10);

/// An open handle to a directory, and the path it was opened at.
///
/// The open handle keeps the file system from reusing the inode number.
#[derive(Debug)]
pub(crate) struct DirHandle {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` on platforms that cannot open directories, and after the tier is closed.
    held: Option<File>,
    /// Time of the next check, since the start of the clock.
    due: Duration,
    /// The last check found the directory gone, and it was not renewed since. Nothing may be
    /// written.
    is_gone: bool,
}

impl DirHandle {
    /// Opens the directory at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        let state = State { held: open(path).ok().flatten(), due: Duration::ZERO, is_gone: false };
        Self { path: path.to_owned(), state: Mutex::new(state) }
    }

    /// Returns whether a write at `now` should check the directory.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        let is_due = state.is_gone || now >= state.due;
        if is_due {
            state.due = now + PAUSE;
        }
        is_due
    }

    /// Returns whether the path still leads to the open directory. Costs two system calls.
    pub(crate) fn still_exists(&self) -> bool {
        let mut state = self.state.lock();
        state.is_gone = state.held.as_ref().is_some_and(|held| !is_at(held, &self.path));
        !state.is_gone
    }

    /// Opens the directory that is at the path now, in place of the former one.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let held = open(&self.path)?;
        let mut state = self.state.lock();
        (state.held, state.is_gone) = (held, false);
        Ok(())
    }

    /// Closes the handle.
    pub(crate) fn close(&self) {
        self.state.lock().held = None;
    }

    /// The error of the call that finds the directory gone.
    pub(crate) fn removed_error(&self) -> Error {
        let message = format!(
            "{}: the directory or one of its files was removed while it was open; its entries are lost",
            self.path.display()
        );
        Error::new(ErrorKind::Unavailable, message)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    if cfg!(unix) { File::open(path).map(Some) } else { Ok(None) }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn removed_or_replaced_directory_is_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("tier");
        fs::create_dir(&path).unwrap();
        let dir_handle = DirHandle::new(&path);
        let is_due = |millis| dir_handle.is_due(Duration::from_millis(millis));
        assert_eq!([is_due(0), is_due(9), is_due(10), is_due(11)], [true, false, true, false]);
        assert!(dir_handle.still_exists());
        fs::remove_dir(&path).unwrap();
        assert!(!dir_handle.still_exists() && is_due(11), "it is looked at until it is there");
        fs::create_dir(&path).unwrap();
        assert!(!dir_handle.still_exists(), "it is another one");
        dir_handle.renew().unwrap();
        assert!(dir_handle.still_exists());
        fs::rename(&path, parent.path().join("elsewhere")).unwrap();
        assert!(!dir_handle.still_exists());
        dir_handle.close();
        assert!(dir_handle.still_exists());
    }
}
