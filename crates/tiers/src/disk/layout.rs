//! The names of all files in the directory, and how they are created and deleted.
//!
//! ```text
//! db/<20 digits>/            a sled database of an earlier build
//! packs/<20 digits>.pack     a sorted run: the rows of former memtables
//! packs/<20 digits>.new      a sorted run that is being written
//! segments/<20 digits>.seg   frames, one after another
//! journal/<20 digits>.log    row changes that are in no sorted run yet
//! db-dropped-<20 digits>/    a database that is being deleted
//! db-torn-<20 digits>/       a database that could not be read
//! index                      a snapshot of what an open would collect, after a clean close
//! probe                      written and deleted to test whether the disk accepts writes
//! ```
//!
//! A directory is renamed before it is deleted. So one that is half deleted is never opened as a
//! database. Foreign names are ignored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder_core::{Error, ErrorKind, Result};

use crate::disk::space::deferred::Deferred;
use crate::durable_sync::sync_dir;
use crate::private_file;

pub(in crate::disk) const DATABASES: &str = "db";
pub(in crate::disk) const PACKS: &str = "packs";
pub(in crate::disk) const SEGMENTS: &str = "segments";
pub(in crate::disk) const JOURNAL: &str = "journal";
const DROPPED: &str = "db-dropped-";
const TORN: &str = "db-torn-";
const PROBE: &str = "probe";
const SNAPSHOT: &str = "index";
const SUFFIX: &str = ".seg";
const LOG: &str = ".log";
const PACK: &str = ".pack";
const DRAFT: &str = ".new";
const DIGITS: usize = 20;

/// Largest valid number. A larger one is damage or foreign.
pub(in crate::disk) const NUMBER_MAX: u64 = u64::MAX / 2;

/// The directory of a tier.
#[derive(Clone, Debug)]
pub(in crate::disk) struct Layout {
    dir: PathBuf,
    deferred: Arc<Deferred>,
}

impl Layout {
    /// Creates missing directories, and deletes databases that were set aside earlier.
    pub(in crate::disk) fn prepare(dir: PathBuf) -> Result<Self> {
        let layout = Self { dir, deferred: Arc::default() };
        make_private(&layout.dir).map_err(|error| unavailable(&layout.dir, error))?;
        for dir in layout.folders() {
            make_private(&dir).map_err(|error| unavailable(&dir, error))?;
        }
        let _ = fs::remove_file(layout.dir.join(PROBE));
        for (_, path) in numbered(&layout.dir.join(PACKS), |name| name.strip_suffix(DRAFT))? {
            remove_file(&path)?;
        }
        for prefix in [DROPPED, TORN] {
            for (_, path) in numbered(&layout.dir, |name| name.strip_prefix(prefix))? {
                delete(&path);
            }
        }
        Ok(layout)
    }

    /// The directory itself.
    pub(in crate::disk) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is deleted, and released a part at a time.
    pub(in crate::disk) fn deferred(&self) -> &Deferred {
        &self.deferred
    }

    fn folders(&self) -> [PathBuf; 4] {
        [DATABASES, PACKS, SEGMENTS, JOURNAL].map(|name| self.dir.join(name))
    }

    /// Returns whether the directory has no data of a tier.
    pub(in crate::disk) fn is_empty(&self) -> Result<bool> {
        Ok(self.databases()?.is_empty()
            && self.runs()?.is_empty()
            && self.segments()?.is_empty()
            && self.journals()?.is_empty())
    }

    /// Deletes all data of a tier, older data first: without the newest database, older data would
    /// show overwritten values.
    pub(in crate::disk) fn discard_all(&self) -> Result<()> {
        for (_, path) in self.runs()? {
            remove_file(&path)?;
        }
        for (number, _) in self.databases()? {
            self.discard(number)?;
        }
        for (_, path) in self.journals()?.into_iter().chain(self.segments()?) {
            remove_file(&path)?;
        }
        self.sync_names()
    }

    /// Deletes the sorted runs and databases below `number`.
    pub(in crate::disk) fn discard_below(&self, number: u64) -> Result<()> {
        for (_, path) in self.runs()?.into_iter().filter(|(found, _)| *found < number) {
            remove_file(&path)?;
        }
        let databases = self.databases()?.into_iter().map(|(found, _)| found);
        databases.filter(|found| *found < number).try_for_each(|found| self.discard(found))
    }

    /// Deletes the databases up to `number`.
    pub(in crate::disk) fn discard_databases(&self, number: u64) -> Result<()> {
        let databases = self.databases()?.into_iter().map(|(found, _)| found);
        databases.filter(|found| *found <= number).try_for_each(|found| self.discard(found))
    }

    /// Returns whether sled ever opened a database here: before that it creates only `conf` and
    /// `blobs`. True if that cannot be read.
    pub(in crate::disk) fn has_sled_files(&self, number: u64) -> bool {
        let Ok(mut entries) = fs::read_dir(self.database(number)) else { return true };
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name() != "conf" && entry.file_name() != "blobs"))
    }

    /// Waits until the entries of all directories are durable.
    pub(in crate::disk) fn sync_names(&self) -> Result<()> {
        for dir in self.folders() {
            sync_dir(&dir).map_err(|error| unavailable(&dir, error))?;
        }
        sync_dir(&self.dir).map_err(|error| unavailable(&self.dir, error))
    }

    /// The databases, lowest number first.
    pub(in crate::disk) fn databases(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(DATABASES), |name| Some(name))
    }

    /// The sorted runs, lowest number first.
    pub(in crate::disk) fn runs(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(PACKS), |name| name.strip_suffix(PACK))
    }

    /// The segments, lowest number first.
    pub(in crate::disk) fn segments(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(SEGMENTS), |name| name.strip_suffix(SUFFIX))
    }

    /// The journals, lowest number first.
    pub(in crate::disk) fn journals(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(JOURNAL), |name| name.strip_suffix(LOG))
    }

    /// The path of database `number`.
    pub(in crate::disk) fn database(&self, number: u64) -> PathBuf {
        self.dir.join(DATABASES).join(format!("{number:0DIGITS$}"))
    }

    /// The path of sorted run `number`.
    pub(in crate::disk) fn run(&self, number: u64) -> PathBuf {
        self.dir.join(PACKS).join(format!("{number:0DIGITS$}{PACK}"))
    }

    /// The path of sorted run `number` while it is written.
    pub(in crate::disk) fn draft(&self, number: u64) -> PathBuf {
        self.dir.join(PACKS).join(format!("{number:0DIGITS$}{DRAFT}"))
    }

    /// The path of segment `number`.
    pub(in crate::disk) fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(SEGMENTS).join(format!("{number:0DIGITS$}{SUFFIX}"))
    }

    /// The path of journal `number`.
    pub(in crate::disk) fn journal(&self, number: u64) -> PathBuf {
        self.dir.join(JOURNAL).join(format!("{number:0DIGITS$}{LOG}"))
    }

    /// The path of the snapshot.
    pub(in crate::disk) fn snapshot(&self) -> PathBuf {
        self.dir.join(SNAPSHOT)
    }

    /// Returns whether `bytes` can be written now. Tries it with a probe file.
    pub(in crate::disk) fn accepts_writes(&self, bytes: usize) -> bool {
        let probe = self.dir.join(PROBE);
        let written = fs::write(&probe, vec![0; bytes]);
        let _ = fs::remove_file(&probe);
        written.is_ok()
    }

    /// Renames a database, then deletes it. After the rename it is never opened again, even if the
    /// deletion fails.
    pub(in crate::disk) fn discard(&self, number: u64) -> Result<()> {
        let aside = self.dir.join(format!("{DROPPED}{number:0DIGITS$}"));
        delete(&aside);
        rename(&self.database(number), &aside)?;
        delete(&aside);
        Ok(())
    }

    /// Renames a database and keeps it until the next open, for inspection. Returns its new path.
    pub(in crate::disk) fn set_aside(&self, number: u64) -> Result<PathBuf> {
        let aside = self.dir.join(format!("{TORN}{number:0DIGITS$}"));
        delete(&aside);
        rename(&self.database(number), &aside)?;
        Ok(aside)
    }
}

/// Creates `dir` with access for its owner only, unless it exists.
pub(in crate::disk) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Disk usage of `dir` and everything in it, as `du` counts it. Files that vanish meanwhile count
/// as zero.
#[cfg(test)]
pub(in crate::disk) fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => taken_by(&meta),
        Err(_) => 0,
    });
    fs::metadata(dir).map_or(0, |meta| taken_by(&meta)) + below.sum::<u64>()
}

/// Disk usage of the five directories and the marker that always exist.
pub(in crate::disk) const FIXED: u64 = 6 * BLOCK;

/// The unit in which most file systems allocate space.
const BLOCK: u64 = 4 << 10;

/// Disk usage of a file of `len` bytes.
pub(in crate::disk) fn rounded(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(all(test, unix))]
fn taken_by(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512)
}

#[cfg(all(test, not(unix)))]
fn taken_by(meta: &fs::Metadata) -> u64 {
    rounded(meta.len())
}

/// An error of kind `Unavailable` that names `path`.
pub(in crate::disk) fn unavailable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{}: {error}", path.display())).with_source(error)
}

/// Deletes a file, if it exists.
pub(in crate::disk) fn remove_file(path: &Path) -> Result<()> {
    private_file::remove(path).map_err(|error| unavailable(path, error))
}

fn numbered(dir: &Path, digits: impl Fn(&str) -> Option<&str>) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|error| unavailable(dir, error))? {
        let entry = entry.map_err(|error| unavailable(dir, error))?;
        let name = entry.file_name();
        if let Some(number) = name.to_str().and_then(&digits).and_then(number) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn number(digits: &str) -> Option<u64> {
    let ours = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    ours.then(|| digits.parse().ok()).flatten().filter(|number| *number <= NUMBER_MAX)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unavailable(from, error)),
        _ => Ok(()),
    }
}

fn delete(dir: &Path) {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(target: "larder", path = %dir.display(), %error, "cannot delete a database");
        }
        _ => {}
    }
}
