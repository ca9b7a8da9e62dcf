//! The directory of a cache: its path, its lock, and its owners.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};

use larder_core::{Error, ErrorKind, Result};
use larder_engine::OpenedDir;
use larder_exec::runtime::dropped_are_closed;
use larder_tiers::{CacheDir, DirLock, temporary_dir};
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;

use crate::registry::DROPPED_LIMIT;

/// The directories of the live caches of this process.
static OPEN: Lazy<Mutex<HashSet<PathBuf>>> = Lazy::new(Mutex::default);

/// A directory that this cache owns while the value lives, or shares with other processes.
///
/// Dropping it releases the lock and deletes a private directory.
#[derive(Debug)]
pub(crate) struct LockedDir {
    path: PathBuf,
    shared: bool,
    lock: Mutex<DirLock>,
    private: Option<TempDir>,
    /// Dropped last: a path that is free in the register has a free lock.
    _registered: Registered,
}

/// How often a private directory may be deleted before it is locked.
const PRIVATE_TRIES: usize = 8;

impl LockedDir {
    /// Opens the directory of the cache `name` in `dir`, or in the platform's cache folder. Several processes
    /// may open a shared directory at once, if all of them share it.
    pub(crate) fn open(dir: Option<PathBuf>, name: &str, shared: bool) -> Result<Self> {
        let path = path_in(dir, name)?;
        Self::at(&path, shared).map_err(|error| error.during("open"))
    }

    fn at(path: &Path, shared: bool) -> Result<Self> {
        create(path)?;
        let path = path.canonicalize().map_err(|error| dir_error(path, error))?;
        sweep(path.parent().unwrap_or(&path));
        let registered = Registered::when_free(&path)?;
        match DirLock::take(&path, shared)? {
            Some(lock) => {
                Ok(Self { path, shared, lock: Mutex::new(lock), private: None, _registered: registered })
            }
            None if shared => Err(not_shared(&path)),
            None => Self::private(&path, registered),
        }
    }

    /// Creates a private directory beside the one that another process uses.
    fn private(shared: &Path, registered: Registered) -> Result<Self> {
        let (private, lock) = private_directory(shared.parent().unwrap_or(shared))?;
        let path = private.path().to_path_buf();
        tracing::warn!(
            target: "larder",
            directory = %shared.display(),
            private = %path.display(),
            "another process uses the directory of this cache; the cache gets a private one, which is deleted at its end"
        );
        let lock = Mutex::new(lock);
        Ok(Self { path, shared: false, lock, private: Some(private), _registered: registered })
    }

    /// What the engine knows of the directory.
    pub(crate) fn opened(&self) -> OpenedDir {
        OpenedDir { path: self.path.clone(), is_private: self.private.is_some() }
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl CacheDir for LockedDir {
    fn ensure(&self) -> Result<()> {
        let mut lock = self.lock.lock();
        if lock.is_of(&self.path) {
            return Ok(());
        }
        create(&self.path)?;
        if lock.renew(&self.path, self.shared)? {
            return Ok(());
        }
        let message =
            format!("the directory {} was removed, and another process uses it now", self.path.display());
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// The entry of a path in the register of live caches; removed on drop.
#[derive(Debug)]
struct Registered(PathBuf);

impl Registered {
    /// Registers a path. A cache that was dropped inside a runtime releases its directory a little later;
    /// this waits for it.
    fn when_free(path: &Path) -> Result<Self> {
        Self::new(path).or_else(|_| {
            dropped_are_closed(DROPPED_LIMIT);
            Self::new(path)
        })
    }

    fn new(path: &Path) -> Result<Self> {
        if OPEN.lock().insert(path.to_path_buf()) { Ok(Self(path.to_path_buf())) } else { Err(busy(path)) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        OPEN.lock().remove(&self.0);
    }
}

fn busy(path: &Path) -> Error {
    let message = format!("a live cache of this process uses the directory {}", path.display());
    Error::new(ErrorKind::Busy, message)
}

pub(crate) fn dir_error(path: &Path, error: io::Error) -> Error {
    let source = Error::from(error);
    Error::new(source.kind(), format!("the directory {}: {source}", path.display())).with_source(source)
}

pub(crate) fn create(path: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| dir_error(path, error))
}

fn not_shared(path: &Path) -> Error {
    let message = format!(
        "another process uses the directory {} alone: every cache that shares it must be built with \
         `sharing(Sharing::Processes)`",
        path.display()
    );
    Error::new(ErrorKind::Busy, message)
}

/// Creates a directory in `beside` and locks it. Retries if the directory is deleted before it is locked.
fn private_directory(beside: &Path) -> Result<(TempDir, DirLock)> {
    let prefix = format!("~{}-", std::process::id());
    let mut failure = busy(beside);
    for _ in 0..PRIVATE_TRIES {
        let private = temporary_dir(&prefix, beside).map_err(|error| dir_error(beside, error))?;
        match DirLock::take(private.path(), false) {
            Ok(Some(lock)) => return Ok((private, lock)),
            Ok(None) => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Deletes the private directories in `beside` whose processes have ended.
fn sweep(beside: &Path) {
    for entry in fs::read_dir(beside).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_private) {
            let path = entry.path();
            match delete_orphan(&path) {
                Ok(true) => {
                    tracing::info!(target: "larder", directory = %path.display(), "deleted the private directory of an ended process")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(target: "larder", directory = %path.display(), %error, "cannot delete the private directory of an ended process")
                }
            }
        }
    }
}

/// Deletes a private directory unless a process holds its lock. A process whose directory is deleted before
/// it has locked it creates another one.
fn delete_orphan(path: &Path) -> io::Result<bool> {
    match DirLock::of_orphan(path)? {
        Some(_lock) => fs::remove_dir_all(path).map(|()| true),
        None => Ok(false),
    }
}

/// Whether a directory has the name of a private one: `~<digits>-<letters and digits>`.
fn is_private(name: &str) -> bool {
    let parts = name.strip_prefix('~').and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(id, random)| {
        !id.is_empty()
            && id.bytes().all(|byte| byte.is_ascii_digit())
            && random.len() == 6
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The directory of the cache `name` in `dir`, or in the platform's cache folder.
pub(crate) fn path_in(dir: Option<PathBuf>, name: &str) -> Result<PathBuf> {
    Ok(dir.map_or_else(default_base, Ok)?.join(path_segment(name)))
}

pub(crate) fn default_base() -> Result<PathBuf> {
    let cache = dirs::cache_dir().ok_or_else(|| {
        Error::config("dir", "nothing, and the platform has no cache directory", "a directory")
    })?;
    Ok(cache.join("larder").join(path_segment(&executable())))
}

/// The name of the executable, without its extension.
pub(crate) fn executable() -> String {
    let executable = std::env::current_exe().ok();
    let stem = executable.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
    stem.unwrap_or("unknown").to_owned()
}

/// Keeps lower-case letters, digits, `-` and `_`, and encodes everything else. So no character has a meaning
/// in a path, and names do not collide on a case-insensitive file system.
const ENCODED: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// A longer encoding is cut and gets a digest to stay unique.
const SEGMENT_LEN_MAX: usize = 120;

/// Device names that some platforms reserve.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Encodes the name of a cache as the name of its directory; different names get different ones.
/// `docs/format.md` has the encoding.
///
/// ```
/// assert_eq!(larder::path_segment("reports/2024"), "reports%2F2024");
/// ```
pub fn path_segment(name: &str) -> String {
    let encoded = utf8_percent_encode(name, ENCODED).to_string();
    if encoded.is_empty() {
        return "%".to_owned();
    }
    if encoded.len() > SEGMENT_LEN_MAX {
        let digest = larder_core::key::EncodedKey::new(name.as_bytes()).digest();
        return format!("{}%~{digest:032x}", &encoded[..SEGMENT_LEN_MAX / 2]);
    }
    if RESERVED.iter().any(|device| encoded.trim_end_matches(|c: char| c.is_ascii_digit()) == *device) {
        return format!("{encoded}%");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn any_cache_name_becomes_one_safe_path_segment() {
        let long = "x".repeat(5000);
        let longer = "x".repeat(5001);
        let names = [
            "",
            ".",
            "..",
            "../../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "A",
            "a",
            "con",
            "con%",
            "COM1",
            "%",
            "\0",
            "ß",
        ];
        let mut seen = HashSet::new();
        for name in names.into_iter().chain([long.as_str(), longer.as_str()]) {
            let segment = path_segment(name);
            assert!(segment.len() <= 255 && !segment.is_empty(), "{name:?}");
            assert!(segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_%~".contains(&b)), "{segment}");
            assert!(seen.insert(segment.to_lowercase()), "{name:?} meets another");
        }
        assert_eq!(path_segment("reports-2"), "reports-2");
    }
}
