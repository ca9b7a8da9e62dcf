//! Copies the directory of a tier, so that its entries can be read without changing it.
//!
//! Opening a tier writes: journals are deleted, damaged data is dropped. A program
//! that only looks into a directory opens a copy instead, and sees what the next cache would see.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder_core::Result;

use crate::disk::layout::{DATABASES, JOURNAL, PACKS, SEGMENTS, make_private, unavailable};

/// Fills the new directory `to` with what a [`DiskTier`](super::DiskTier) needs to read the entries in
/// `from`.
///
/// Journals are copied, and databases of earlier builds. Sorted runs and segments, which no process changes,
/// are linked where the system has symbolic links. So the cost is that of the journals, a part of the
/// budget. Changes in `to` do not reach `from`.
///
/// No process may have `from` open meanwhile.
///
/// # Errors
/// A file that cannot be read or written, which is named.
pub fn copy_to_read(from: &Path, to: &Path) -> Result<()> {
    let from = fs::canonicalize(from).map_err(|error| unavailable(from, error))?;
    make_private(to).map_err(|error| unavailable(to, error))?;
    // Before the journal: a copy that is closed has the end of it.
    match fs::copy(from.join("marker"), to.join("marker")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unavailable(&from, error)),
        _ => {}
    }
    for (name, is_linked) in [(DATABASES, false), (JOURNAL, false), (PACKS, true), (SEGMENTS, true)] {
        let (source, target) = (from.join(name), to.join(name));
        copy_folder(&source, &target, is_linked).map_err(|error| unavailable(&source, error))?;
    }
    Ok(())
}

/// As [`copy_to_read`], of a directory that a process has open. Returns whether the copy is of use: whether the
/// process wrote no database meanwhile, and began and deleted no file.
///
/// What it appended to journals meanwhile does no harm.
///
/// # Errors
/// As [`copy_to_read`].
pub fn copy_while_open(from: &Path, to: &Path) -> Result<bool> {
    let before = state(from).map_err(|error| unavailable(from, error))?;
    if before.iter().any(|(_, stamp)| stamp.is_some_and(|(_, written)| is_recent(written))) {
        return Ok(false);
    }
    let copied = copy_to_read(from, to);
    let is_same = state(from).is_ok_and(|now| now == before);
    // A file that was deleted meanwhile is no error: the copy is made again.
    if is_same { copied.map(|()| true) } else { Ok(false) }
}

/// Whether a file was written so recently that another write might leave the same time.
fn is_recent(written: SystemTime) -> bool {
    SystemTime::now().duration_since(written).is_ok_and(|age| age < TIME_STEP)
}

/// More than the steps in which file systems count times of files.
const TIME_STEP: Duration = Duration::from_millis(20);

/// A file, with its length and its time if it is one of a database.
type FileState = (PathBuf, Option<(u64, SystemTime)>);

/// The names of the files, and the lengths and times of the databases among them.
fn state(dir: &Path) -> io::Result<Vec<FileState>> {
    let mut found = Vec::new();
    for (name, is_stamped) in [(DATABASES, true), (JOURNAL, false), (PACKS, false)] {
        list(&dir.join(name), is_stamped, &mut found)?;
    }
    found.sort_unstable();
    Ok(found)
}

fn list(dir: &Path, is_stamped: bool, found: &mut Vec<FileState>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            list(&entry.path(), is_stamped, found)?;
        } else {
            let stamp = if is_stamped { Some((metadata.len(), metadata.modified()?)) } else { None };
            found.push((entry.path(), stamp));
        }
    }
    Ok(())
}

/// Copies or links the files of a folder, and of those below it. A folder that is missing is empty. Skips
/// what is neither file nor folder.
fn copy_folder(from: &Path, to: &Path, is_linked: bool) -> io::Result<()> {
    make_private(to)?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &target, is_linked)?;
        } else if kind.is_file() {
            place(&entry.path(), &target, is_linked)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn place(from: &Path, to: &Path, is_linked: bool) -> io::Result<()> {
    if is_linked { std::os::unix::fs::symlink(from, to) } else { fs::copy(from, to).map(drop) }
}

#[cfg(not(unix))]
fn place(from: &Path, to: &Path, _: bool) -> io::Result<()> {
    fs::copy(from, to).map(drop)
}
