//! Scans the directory for entries.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use larder_core::Result;

use super::layout::error_at;

/// A file whose name and place are those of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) digest: u128,
    pub(super) len: u64,
    written: SystemTime,
}

/// Returns the entries in the directory `entries`, those written longest ago first.
///
/// Costs a read of each directory and a `stat` of each file. Deletes empty directories. Skips
/// foreign files, and logs the first of them.
pub(super) fn walk(entries: &Path) -> Result<Vec<Found>> {
    found_by(Walk { deletes_empty: true, ..Walk::default() }, entries)
}

/// Like [`walk`], but deletes nothing.
pub(super) fn list(entries: &Path) -> Result<Vec<Found>> {
    found_by(Walk::default(), entries)
}

fn found_by(mut walk: Walk, entries: &Path) -> Result<Vec<Found>> {
    for (first, upper) in walk.folders(entries)? {
        let before = walk.found.len();
        for (second, leaf) in walk.folders(&upper)? {
            walk.leaf(&format!("{first}{second}"), &leaf)?;
        }
        if walk.deletes_empty && walk.found.len() == before {
            let _ = fs::remove_dir(&upper);
        }
    }
    if let Some(path) = &walk.foreign {
        tracing::debug!(target: "larder", path = %path.display(), count = walk.foreign_count, "the directory contains files that are not entries; they are kept");
    }
    walk.found.sort_by_key(|found| (found.written, found.digest));
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    foreign: Option<PathBuf>,
    foreign_count: u64,
    deletes_empty: bool,
}

impl Walk {
    /// The subdirectories whose names are two hexadecimal digits.
    fn folders(&mut self, path: &Path) -> Result<Vec<(String, PathBuf)>> {
        let mut folders = Vec::new();
        for entry in children(path)? {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match hex_name(&entry, 2) {
                Some(name) if is_folder => folders.push((name, entry.path())),
                _ => self.pass_over(&entry),
            }
        }
        Ok(folders)
    }

    /// Collects the entries of one lower directory. Deletes the directory if it is empty.
    fn leaf(&mut self, prefix: &str, path: &Path) -> Result<()> {
        let children = children(path)?;
        if self.deletes_empty && children.is_empty() {
            let _ = fs::remove_dir(path);
        }
        for entry in children {
            match found(prefix, &entry) {
                Some(found) => self.found.push(found),
                None => self.pass_over(&entry),
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, entry: &DirEntry) {
        self.foreign_count += 1;
        self.foreign.get_or_insert_with(|| entry.path());
    }
}

fn children(path: &Path) -> Result<Vec<DirEntry>> {
    match fs::read_dir(path).and_then(Iterator::collect) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        children => children.map_err(|error| error_at(path, error)),
    }
}

fn found(prefix: &str, entry: &DirEntry) -> Option<Found> {
    let name = hex_name(entry, 28)?;
    let digest = u128::from_str_radix(&format!("{prefix}{name}"), 16).ok()?;
    let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
    let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Some(Found { digest, len: metadata.len(), written })
}

/// The name, if it is `digits` lower-case hexadecimal digits.
fn hex_name(entry: &DirEntry, digits: usize) -> Option<String> {
    let name = entry.file_name().into_string().ok()?;
    let is_hex = name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && name.len() == digits).then_some(name)
}
