//! Whether the directory of a tier is still the one that was opened.
//!
//! A directory can be removed, replaced or unmounted while files in it are open.
//! They are written to as before then, and lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_core::{Error, ErrorKind};
use parking_lot::Mutex;

use crate::durable_sync::is_at;

/// So often at most it is looked at on behalf of single writes.
const PAUSE: Duration = Duration::from_millis(10);

/// A directory that is open, so that nothing else comes to have its number.
#[derive(Debug)]
pub(crate) struct Anchor {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` where directories cannot be opened, and once the tier is closed.
    held: Option<File>,
    /// When it is to be looked at again, since the start of the clock.
    due: Duration,
    /// It was found gone, and was not renewed since: nothing may be written.
    is_gone: bool,
}

impl Anchor {
    /// Holds the directory at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        let state = State { held: open(path).ok().flatten(), due: Duration::ZERO, is_gone: false };
        Self { path: path.to_owned(), state: Mutex::new(state) }
    }

    /// Whether it is to be looked at on behalf of a write at `now`.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        let mut state = self.state.lock();
        let is_due = state.is_gone || now >= state.due;
        if is_due {
            state.due = now + PAUSE;
        }
        is_due
    }

    /// Whether the directory is there. Costs two calls of the system.
    pub(crate) fn is_there(&self) -> bool {
        let mut state = self.state.lock();
        state.is_gone = state.held.as_ref().is_some_and(|held| !is_at(held, &self.path));
        !state.is_gone
    }

    /// Holds the directory that is at the path now.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let held = open(&self.path)?;
        let mut state = self.state.lock();
        (state.held, state.is_gone) = (held, false);
        Ok(())
    }

    /// Lets go of it.
    pub(crate) fn close(&self) {
        self.state.lock().held = None;
    }

    /// The error of the call that finds it gone.
    pub(crate) fn lost(&self) -> Error {
        let message = format!(
            "{}: the directory, or a file of it, was removed while it was open, and its entries are lost",
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
    fn a_directory_that_was_removed_or_replaced_is_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("tier");
        fs::create_dir(&path).unwrap();
        let anchor = Anchor::new(&path);
        let is_due = |millis| anchor.is_due(Duration::from_millis(millis));
        assert_eq!([is_due(0), is_due(9), is_due(10), is_due(11)], [true, false, true, false]);
        assert!(anchor.is_there());
        fs::remove_dir(&path).unwrap();
        assert!(!anchor.is_there() && is_due(11), "it is looked at until it is there");
        fs::create_dir(&path).unwrap();
        assert!(!anchor.is_there(), "it is another one");
        anchor.renew().unwrap();
        assert!(anchor.is_there());
        fs::rename(&path, parent.path().join("elsewhere")).unwrap();
        assert!(!anchor.is_there());
        anchor.close();
        assert!(anchor.is_there());
    }
}
