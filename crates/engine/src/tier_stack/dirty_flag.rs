//! The dirty flag of a tier: one byte in a file that says whether the tier may hold
//! outdated entries.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use larder_core::Result;
use parking_lot::Mutex;

const CLEAN: u8 = b'0';
const SET: u8 = b'1';

/// A dirty flag in a file of its own, one byte long.
///
/// The file is created while the disk has room, and the byte is overwritten in place,
/// because the flag may have to be set when the disk is full. A killed process leaves the
/// flag as it was last written. After a crash of the machine the tiers start empty
/// anyway.
pub struct DirtyFlag {
    /// `None` once the cache is closed.
    file: Mutex<Option<File>>,
    was_set: bool,
}

impl DirtyFlag {
    /// Opens the flag at `path`, or creates it.
    ///
    /// # Errors
    /// When the file cannot be opened, read or written.
    pub fn open(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        let mut byte = [CLEAN];
        if file.read(&mut byte)? == 0 {
            file.write_all(&[CLEAN])?;
        }
        // Any byte other than clean counts as set: that costs entries, but never returns
        // a wrong value.
        Ok(Self { file: Mutex::new(Some(file)), was_set: byte[0] != CLEAN })
    }

    /// Whether the flag was set when it was opened.
    pub(crate) fn was_set(&self) -> bool {
        self.was_set
    }

    pub(crate) fn set(&self, set: bool) -> std::io::Result<()> {
        let mut file = self.file.lock();
        let Some(file) = file.as_mut() else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[if set { SET } else { CLEAN }])
    }

    /// Closes the file.
    pub(crate) fn close(&self) {
        *self.file.lock() = None;
    }
}
