//! A log of invalidations in one file of a directory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use larder_core::invalidation::{InvalidationLog, InvalidationRecord};
use larder_core::{Durability, Error, Result};
use parking_lot::Mutex;

use crate::durable_sync::{is_at, sync_dir};
use crate::private_file;

/// An invalidation log in the file `marks`. Each record is appended with one `write` call.
///
/// If a write fails, the file is deleted. A missing file is known to be lost, while a truncated one
/// might go unnoticed.
#[derive(Debug)]
pub struct FileInvalidationLog {
    path: PathBuf,
    synced: bool,
    file: Mutex<Option<File>>,
}

/// A log that was opened, and the records it had.
#[derive(Debug)]
pub struct FoundInvalidations {
    /// The log, ready for appending.
    pub log: FileInvalidationLog,
    /// The records of the log. `None` if the file was missing or damaged: invalidations may be lost
    /// then, and no earlier entry may be served.
    pub invalidations: Option<Vec<InvalidationRecord>>,
}

impl FileInvalidationLog {
    /// Reads the records of the log in `dir`, without opening it. `None` if the log is missing or damaged:
    /// the next cache that opens the directory empties it then.
    ///
    /// # Errors
    /// Fails when the file cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Vec<InvalidationRecord>>> {
        read(&dir.join("marks"))
    }

    /// Opens the log in `dir`.
    ///
    /// If invalidations may be lost, the log refuses appends until it is
    /// [rewritten](InvalidationLog::rewrite). Before that, the caller must delete the earlier
    /// entries.
    ///
    /// # Errors
    /// Fails when the file cannot be opened or read.
    pub fn open(dir: &Path, durability: Durability) -> Result<FoundInvalidations> {
        let path = dir.join("marks");
        let invalidations = read(&path)?;
        let synced = durability == Durability::Synced;
        let log = Self { path, synced, file: Mutex::new(None) };
        if invalidations.is_some() {
            *log.file.lock() = Some(opened(OpenOptions::new().append(true), &log.path)?);
        }
        Ok(FoundInvalidations { log, invalidations })
    }
}

impl InvalidationLog for FileInvalidationLog {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        let mut file = self.file.lock();
        let Some(open) = file.as_mut() else {
            return Err(Error::new(larder_core::ErrorKind::Unavailable, "the invalidation log is lost"));
        };
        let written = match is_at(open, &self.path) {
            true => open.write_all(bytes).and_then(|()| self.sync(open)),
            false => Err(std::io::Error::new(ErrorKind::NotFound, "the invalidation log was removed")),
        };
        written.map_err(|error| {
            *file = None;
            let _gone = std::fs::remove_file(&self.path);
            Error::from(error)
        })
    }

    fn rewrite(&self, bytes: &[u8]) -> Result<()> {
        let next = self.path.with_extension("next");
        let mut options = OpenOptions::new();
        let mut file = opened(options.create(true).write(true).truncate(true), &next)?;
        file.write_all(bytes).and_then(|()| self.sync(&file))?;
        std::fs::rename(&next, &self.path)?;
        if self.synced {
            self.path.parent().map_or(Ok(()), sync_dir)?;
        }
        *self.file.lock() = Some(file);
        Ok(())
    }

    fn close(&self) {
        *self.file.lock() = None;
    }
}

impl FileInvalidationLog {
    fn sync(&self, file: &File) -> std::io::Result<()> {
        if self.synced { file.sync_data() } else { Ok(()) }
    }
}

fn opened(options: &mut OpenOptions, path: &Path) -> Result<File> {
    Ok(private_file::open(options, path)?)
}

fn read(path: &Path) -> Result<Option<Vec<InvalidationRecord>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut invalidations = Vec::new();
    let whole = InvalidationRecord::decode_all(&bytes, |marked| invalidations.push(marked));
    Ok(whole.then_some(invalidations))
}

#[cfg(test)]
mod tests {
    use larder_core::clock::Time;
    use larder_core::invalidation::Invalidation;

    use super::*;

    fn tag(name: &str) -> InvalidationRecord {
        InvalidationRecord {
            invalidation: Invalidation::Tag(name.into()),
            stamp: 1,
            at: Time::from_millis(2),
        }
    }

    #[test]
    fn reopened_log_keeps_its_records_and_accepts_more() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileInvalidationLog::open(dir.path(), Durability::Synced).unwrap();
        assert_eq!(first.invalidations, None);
        assert!(first.log.append(&tag("z").encode()).is_err());
        first.log.rewrite(&[]).unwrap();
        first.log.append(&tag("a").encode()).unwrap();
        first.log.append(&tag("b").encode()).unwrap();
        let second = FileInvalidationLog::open(dir.path(), Durability::Synced).unwrap();
        assert_eq!(second.invalidations, Some(vec![tag("a"), tag("b")]));
        second.log.rewrite(&tag("c").encode()).unwrap();
        second.log.append(&tag("d").encode()).unwrap();
        assert_eq!(
            FileInvalidationLog::open(dir.path(), Durability::Synced).unwrap().invalidations,
            Some(vec![tag("c"), tag("d")])
        );
    }

    #[cfg(unix)]
    #[test]
    fn removed_log_refuses_appends_until_it_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let FoundInvalidations { log, .. } =
            FileInvalidationLog::open(dir.path(), Durability::Buffered).unwrap();
        log.rewrite(&[]).unwrap();
        std::fs::remove_file(dir.path().join("marks")).unwrap();
        assert!(log.append(&tag("a").encode()).is_err());
        log.rewrite(&tag("a").encode()).unwrap();
        log.append(&tag("b").encode()).unwrap();
        let found = FileInvalidationLog::open(dir.path(), Durability::Buffered).unwrap();
        assert_eq!(found.invalidations, Some(vec![tag("a"), tag("b")]));
    }

    #[test]
    fn damaged_log_is_reported_as_lost_until_it_is_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = tag("a").encode();
        bytes.pop();
        std::fs::write(dir.path().join("marks"), bytes).unwrap();
        let found = FileInvalidationLog::open(dir.path(), Durability::Synced).unwrap();
        assert_eq!(found.invalidations, None);
        found.log.rewrite(&[]).unwrap();
        assert_eq!(
            FileInvalidationLog::open(dir.path(), Durability::Synced).unwrap().invalidations,
            Some(Vec::new())
        );
    }
}
