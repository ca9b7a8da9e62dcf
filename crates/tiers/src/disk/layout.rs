//! The names of everything in the directory, and how they are made and dropped.
//!
//! ```text
//! db/<20 digits>/            a generation: one sled database
//! segments/<20 digits>.seg   frames, one after another
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

const DATABASES: &str = "db";
const SEGMENTS: &str = "segments";
const DROPPED: &str = "db-dropped-";
const TORN: &str = "db-torn-";
const PROBE: &str = "probe";
const SUFFIX: &str = ".seg";
const DIGITS: usize = 20;

/// No number of ours comes near this; one above it is damage or not ours.
pub(super) const NUMBER_MAX: u64 = u64::MAX / 2;

/// The directory of a tier.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Makes the directories that are missing and deletes what was set aside earlier.
    pub(super) fn prepare(dir: PathBuf) -> Result<Self> {
        let layout = Self { dir };
        for dir in [layout.dir.clone(), layout.dir.join(DATABASES), layout.dir.join(SEGMENTS)] {
            make_private(&dir).map_err(|error| unavailable(&dir, error))?;
        }
        let _ = fs::remove_file(layout.dir.join(PROBE));
        for prefix in [DROPPED, TORN] {
            for (_, path) in numbered(&layout.dir, |name| name.strip_prefix(prefix))? {
                delete(&path);
            }
        }
        Ok(layout)
    }

    /// The generations there are, lowest number first.
    pub(super) fn generations(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(DATABASES), |name| Some(name))
    }

    /// The segments there are, lowest number first.
    pub(super) fn segments(&self) -> Result<Vec<(u64, PathBuf)>> {
        numbered(&self.dir.join(SEGMENTS), |name| name.strip_suffix(SUFFIX))
    }

    /// Where generation `number` lies.
    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.dir.join(DATABASES).join(format!("{number:0DIGITS$}"))
    }

    /// Where segment `number` lies.
    pub(super) fn segment(&self, number: u64) -> PathBuf {
        self.dir.join(SEGMENTS).join(format!("{number:0DIGITS$}{SUFFIX}"))
    }

    /// Whether so many bytes can be written now. Tries it.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        let probe = self.dir.join(PROBE);
        let written = fs::write(&probe, vec![0; bytes]);
        let _ = fs::remove_file(&probe);
        written.is_ok()
    }

    /// Takes a generation out of sight, then deletes it. Once this succeeds it
    /// never opens again, whatever becomes of the deletion.
    pub(super) fn discard(&self, number: u64) -> Result<()> {
        let aside = self.dir.join(format!("{DROPPED}{number:0DIGITS$}"));
        rename(&self.generation(number), &aside)?;
        delete(&aside);
        Ok(())
    }

    /// Takes a generation out of sight and keeps it until the next open, for
    /// people to look at. Returns where it is now.
    pub(super) fn set_aside(&self, number: u64) -> Result<PathBuf> {
        let aside = self.dir.join(format!("{TORN}{number:0DIGITS$}"));
        rename(&self.generation(number), &aside)?;
        Ok(aside)
    }
}

/// Makes `dir` for its owner alone, unless it is there.
pub(super) fn make_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Restricts the files in `dir` to their owner, as far as that goes: the
/// directory above is private already.
pub(super) fn restrict(dir: &Path) {
    #[cfg(unix)]
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        use std::os::unix::fs::PermissionsExt;
        let mode = if entry.path().is_dir() { 0o700 } else { 0o600 };
        let _ = fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = dir;
}

/// Bytes of the files in `dir` and below, by their lengths; what vanishes
/// meanwhile counts nothing.
pub(super) fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// An `Unavailable` that names `path`.
pub(super) fn unavailable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{}: {error}", path.display())).with_source(error)
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
            tracing::warn!(path = %dir.display(), %error, "cannot delete a dropped database");
        }
        _ => {}
    }
}
