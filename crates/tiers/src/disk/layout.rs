//! The names of everything in the directory, and how they are made and dropped.
//!
//! ```text
//! db/<20 digits>/            a generation: one sled database
//! packs/<20 digits>.pack     the rows of a former generation, sorted
//! packs/<20 digits>.new      one that is being written
//! segments/<20 digits>.seg   frames, one after another
//! journal/<20 digits>.log    what became of rows since the databases were flushed
//! db-dropped-<20 digits>/    a generation on its way out
//! db-torn-<20 digits>/       a generation that could not be read
//! probe                      written and deleted to see whether the disk takes writes
//! ```
//!
//! A directory is renamed before it is deleted, so one that is deleted by half
//! is never taken for a database. Names that are not ours are left alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use larder_core::{Error, ErrorKind, Result};

use crate::durable_sync::sync_dir;

const DATABASES: &str = "db";
const PACKS: &str = "packs";
const SEGMENTS: &str = "segments";
const JOURNAL: &str = "journal";
const DROPPED: &str = "db-dropped-";
const TORN: &str = "db-torn-";
const PROBE: &str = "probe";
const SUFFIX: &str = ".seg";
const LOG: &str = ".log";
const PACK: &str = ".pack";
const DRAFT: &str = ".new";
const DIGITS: usize = 20;

/// No number of ours comes near this; one above it is damage or not ours.
pub(in crate::disk) const NUMBER_MAX: u64 = u64::MAX / 2;

/// The directory of a tier.
#[derive(Clone, Debug)]
pub(in crate::disk) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing and deletes what was set aside earlier.
    pub(in crate::disk) fn prepare(dir: PathBuf) -> Result<Self> {
        let layout = Self { dir };
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

    fn folders(&self) -> [PathBuf; 4] {
        [DATABASES, PACKS, SEGMENTS, JOURNAL].map(|name| self.dir.join(name))
    }

    /// Whether there is nothing that a tier could have kept.
    pub(in crate::disk) fn is_empty(&self) -> Result<bool> {
        Ok(self.generations()?.is_empty()
            && self.packs()?.is_empty()
            && self.segments()?.is_empty()
            && self.journals()?.is_empty())
    }

    /// Deletes everything that is ours, what is older first: without the
    /// newest database it would show what was overwritten.
    pub(in crate::disk) fn discard_all(&self) -> Result<()> {
        for (_, path) in self.packs()? {
            remove_file(&path)?;
        }
        for (number, _) in self.generations()? {
            self.discard(number)?;
        }
        for (_, path) in self.journals()?.into_iter().chain(self.segments()?) {
            remove_file(&path)?;
        }
        self.sync_names()
    }

    /// Deletes the packs and generations below `number`.
    pub(in crate::disk) fn discard_below(&self, number: u64) -> Result<()> {
        for (_, path) in self.packs()?.into_iter().filter(|(found, _)| *found < number) {
            remove_file(&path)?;
        }
        let generations = self.generations()?.into_iter().map(|(found, _)| found);
        generations.filter(|found| *found < number).try_for_each(|found| self.discard(found))
    }

    /// Whether sled ever came to have a generation open: before that it makes `conf` and
    /// `blobs` alone. So if that cannot be told.
    pub(in crate::disk) fn was_open(&self, number: u64) -> bool {
        let Ok(mut entries) = fs::read_dir(self.generation(number)) else { return true };
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name() != "conf" && entry.file_name() != "blobs"))
    }

    /// Waits until the names of all there is are on the medium.
    pub(in crate::disk) fn sync_names(&self) -> Result<()> {
        for dir in self.folders() {
            sync_dir(&dir).map_err(|error| unavailable(&dir, error))?;
        }
        sync_dir(&self.dir).map_err(|error| unavailable(&self.dir, error))
    }

    /// The generations there are, lowest number first.
    pub(in crate::disk) fn generations(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(DATABASES), |name| Some(name))
    }

    /// The packs there are, lowest number first.
    pub(in crate::disk) fn packs(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(PACKS), |name| name.strip_suffix(PACK))
    }

    /// The segments there are, lowest number first.
    pub(in crate::disk) fn segments(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(SEGMENTS), |name| name.strip_suffix(SUFFIX))
    }

    /// The journals there are, lowest number first.
    pub(in crate::disk) fn journals(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(JOURNAL), |name| name.strip_suffix(LOG))
    }

    /// Where generation `number` lies.
    pub(in crate::disk) fn generation(&self, number: u64) -> PathBuf {
        self.dir.join(DATABASES).join(format!("{number:0DIGITS$}"))
    }

    /// Where pack `number` lies.
    pub(in crate::disk) fn pack(&self, number: u64) -> PathBuf {
        self.dir.join(PACKS).join(format!("{number:0DIGITS$}{PACK}"))
    }

    /// Where it lies until it is whole.
    pub(in crate::disk) fn draft(&self, number: u64) -> PathBuf {
        self.dir.join(PACKS).join(format!("{number:0DIGITS$}{DRAFT}"))
    }

    /// Where segment `number` lies.
    pub(in crate::disk) fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(SEGMENTS).join(format!("{number:0DIGITS$}{SUFFIX}"))
    }

    /// Where journal `number` lies.
    pub(in crate::disk) fn journal(&self, number: u64) -> PathBuf {
        self.dir.join(JOURNAL).join(format!("{number:0DIGITS$}{LOG}"))
    }

    /// Whether so many bytes can be written now. Tries it.
    pub(in crate::disk) fn takes(&self, bytes: usize) -> bool {
        let probe = self.dir.join(PROBE);
        let written = fs::write(&probe, vec![0; bytes]);
        let _ = fs::remove_file(&probe);
        written.is_ok()
    }

    /// Takes a generation out of sight, then deletes it. Once this succeeds it
    /// never opens again, whatever becomes of the deletion.
    pub(in crate::disk) fn discard(&self, number: u64) -> Result<()> {
        let aside = self.dir.join(format!("{DROPPED}{number:0DIGITS$}"));
        delete(&aside);
        rename(&self.generation(number), &aside)?;
        delete(&aside);
        Ok(())
    }

    /// Takes a generation out of sight and keeps it until the next open, for
    /// people to look at. Returns where it is now.
    pub(in crate::disk) fn set_aside(&self, number: u64) -> Result<PathBuf> {
        let aside = self.dir.join(format!("{TORN}{number:0DIGITS$}"));
        delete(&aside);
        rename(&self.generation(number), &aside)?;
        Ok(aside)
    }
}

/// Makes `dir` for its owner alone, unless it is there.
pub(in crate::disk) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Restricts what is in `dir` and below to its owner, as far as that goes: the
/// directory above is private already.
pub(in crate::disk) fn restrict(dir: &Path) {
    #[cfg(unix)]
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        use std::os::unix::fs::PermissionsExt;
        let Ok(meta) = entry.metadata() else { continue };
        let mode = if meta.is_dir() { 0o700 } else { 0o600 };
        if meta.permissions().mode() & 0o777 != mode {
            let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode));
        }
        if meta.is_dir() {
            restrict(&entry.path());
        }
    }
    #[cfg(not(unix))]
    let _ = dir;
}

/// What `dir` and all below it takes, as `du` counts it; what vanishes
/// meanwhile counts nothing.
pub(in crate::disk) fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => taken_by(&meta),
        Err(_) => 0,
    });
    fs::metadata(dir).map_or(0, |meta| taken_by(&meta)) + below.sum::<u64>()
}

/// What the five directories and the marker take that are always there.
pub(in crate::disk) const FIXED: u64 = 6 * BLOCK;

/// The unit in which most file systems hand out space.
const BLOCK: u64 = 4 << 10;

/// What a file of `len` bytes takes.
pub(in crate::disk) fn rounded(len: u64) -> u64 {
    len.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(unix)]
fn taken_by(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512)
}

#[cfg(not(unix))]
fn taken_by(meta: &fs::Metadata) -> u64 {
    rounded(meta.len())
}

/// An `Unavailable` that names `path`.
pub(in crate::disk) fn unavailable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{}: {error}", path.display())).with_source(error)
}

/// Deletes a file, if it is there.
pub(in crate::disk) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unavailable(path, error)),
        _ => Ok(()),
    }
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
            tracing::warn!(target: "larder", path = %dir.display(), %error, "cannot delete a dropped database");
        }
        _ => {}
    }
}
