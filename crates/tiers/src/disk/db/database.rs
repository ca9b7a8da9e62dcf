//! One generation: a sled database of its own.
//!
//! sled never shrinks its files and panics where it finds damage it did not
//! expect, so every call to it is guarded, and space comes back by dropping a
//! whole database. Its `mode` option is read nowhere in 0.34.7, so there is
//! nothing to choose.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use sled::{Db, IVec};

use crate::disk::counts::Counts;
use crate::disk::layout::{self, Layout};
use crate::durable_sync::{sync_dir, sync_tree};

/// How long sled's threads may hold on to a database after it was dropped.
const LINGER_MAX: Duration = Duration::from_secs(10);
const FLUSH_EVERY_MS: u64 = 500;
/// What an empty database takes at least.
pub(in crate::disk) const EMPTY_BYTES: u64 = 512 << 10;
/// What sled adds to a change of a row, about.
const ROW_OVERHEAD: u64 = 48;

/// Why a database did not open.
pub(in crate::disk) enum OpenError {
    /// What lies there is not a database that sled can read.
    Torn(String),
    /// Something else, which may pass.
    Failed(Error),
}

/// A database and what is counted of it.
pub(in crate::disk) struct Generation {
    /// Later generations have higher numbers.
    pub(in crate::disk) number: u64,
    /// Entries whose valid row is here.
    pub(in crate::disk) counts: Counts,
    path: PathBuf,
    db: Db,
    bytes: AtomicU64,
    /// What it took when it was empty.
    bytes_at_open: u64,
    written: AtomicU64,
    measured_at: AtomicU64,
    /// Whether a call of sled failed: it may fail for good then.
    failed: AtomicBool,
}

impl Generation {
    /// Opens the database of that number, or makes one.
    pub(in crate::disk) fn open(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Self, OpenError> {
        let path = layout.generation(number);
        layout::make_private(&path).map_err(|error| OpenError::Failed(layout::unavailable(&path, error)))?;
        if !is_released(&path) {
            let message = format!("{}: in use by another cache", path.display());
            return Err(OpenError::Failed(Error::new(ErrorKind::Busy, message)));
        }
        let config = sled::Config::new()
            .path(&path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .use_compression(false)
            .print_profile_on_drop(false);
        let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => db,
            Ok(Err(error)) => return Err(open_error(&path, error)),
            Err(_) => return Err(OpenError::Torn("sled panicked".to_owned())),
        };
        layout::restrict(&path);
        let bytes = layout::bytes_in(&path);
        let bytes_at_open = if db.is_empty() { bytes } else { bytes.min(EMPTY_BYTES) };
        Ok(Self {
            number,
            counts: Counts::default(),
            path,
            db,
            bytes: AtomicU64::new(bytes),
            bytes_at_open,
            written: AtomicU64::new(0),
            measured_at: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        })
    }

    /// The value of a row.
    pub(in crate::disk) fn get(&self, row: &[u8]) -> Result<Option<IVec>> {
        self.guarded(|| self.db.get(row))
    }

    /// Whether there is such a row.
    pub(in crate::disk) fn contains(&self, row: &[u8]) -> Result<bool> {
        self.guarded(|| self.db.contains_key(row))
    }

    /// Sets a row; returns what it held.
    pub(in crate::disk) fn insert(&self, row: &[u8], value: impl Into<IVec>) -> Result<Option<IVec>> {
        let value = value.into();
        self.note(row.len() + value.len());
        self.guarded(|| self.db.insert(row, value))
    }

    /// Deletes a row; returns what it held. A look-up when it is not there.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<Option<IVec>> {
        let removed = self.guarded(|| self.db.remove(row))?;
        if removed.is_some() {
            self.note(row.len());
        }
        Ok(removed)
    }

    /// Calls sled, and remembers a failure.
    fn guarded<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        guarded(call).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    /// Whether the file of rows was removed by others.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        !std::fs::exists(self.path.join("db")).unwrap_or(true)
    }

    /// Whether a call of sled failed.
    pub(in crate::disk) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether there is no row.
    pub(in crate::disk) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// All rows and their values, in the order of rows.
    pub(in crate::disk) fn rows(&self) -> Rows {
        Rows(self.db.iter())
    }

    /// Writes what is buffered, and waits until it is on the medium.
    pub(in crate::disk) fn flush(&self) -> Result<()> {
        self.guarded(|| self.db.flush()).map(|_| ())
    }

    /// Waits until what was flushed is on the medium; sled waits for less.
    pub(in crate::disk) fn sync(&self) -> Result<()> {
        let named = || self.path.parent().map_or(Ok(()), sync_dir);
        sync_tree(&self.path).and_then(|()| named()).map_err(|error| layout::unavailable(&self.path, error))
    }

    /// Bytes of the files, when they were last measured.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Whether the files have more than those of an empty database.
    pub(in crate::disk) fn has_grown(&self) -> bool {
        self.bytes() > self.bytes_at_open
    }

    /// Measures the files, and keeps those that sled made since to their owner;
    /// returns the bytes before and now.
    pub(in crate::disk) fn measure(&self) -> (u64, u64) {
        self.measured_at.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
        layout::restrict(&self.path);
        let now = layout::bytes_in(&self.path);
        (self.bytes.swap(now, Ordering::AcqRel), now)
    }

    /// Whether `bytes` were handed to the database since it was measured.
    pub(in crate::disk) fn is_due(&self, bytes: u64) -> bool {
        let measured_at = self.measured_at.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed).saturating_sub(measured_at) >= bytes
    }

    fn note(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64 + ROW_OVERHEAD, Ordering::Relaxed);
    }

    /// Lets go of the files, and waits until sled's threads have done so too.
    pub(in crate::disk) fn close(self) {
        let path = self.path;
        if catch_unwind(AssertUnwindSafe(|| drop(self.db))).is_err() {
            tracing::warn!(target: "larder", path = %path.display(), "sled panicked while it closed");
        }
        if !is_released(&path) {
            tracing::warn!(target: "larder", path = %path.display(), "sled still holds its files after it was closed");
        }
    }
}

/// Rows of a database, in order.
pub(in crate::disk) struct Rows(sled::Iter);

impl Rows {
    /// The next one and its value.
    pub(in crate::disk) fn next(&mut self) -> Result<Option<(IVec, IVec)>> {
        guarded(|| self.0.next().transpose())
    }
}

/// Waits until no handle locks the database any more; whether that came true.
fn is_released(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("db")) else { return true };
    let started = Instant::now();
    let (never, bell) = (Mutex::new(()), Condvar::new());
    loop {
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) if started.elapsed() < LINGER_MAX => {
                bell.wait_for(&mut never.lock(), Duration::from_millis(1));
            }
            Err(std::fs::TryLockError::WouldBlock) => return false,
            _ => return true,
        }
    }
}

/// Calls sled, and turns its panics and errors into ours.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(error),
        Err(_) => Err(Error::new(ErrorKind::Corrupt, "sled panicked")),
    }
}

fn error(error: sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => error.into(),
        sled::Error::Corruption { .. } => Error::new(ErrorKind::Corrupt, "the database is damaged"),
        other => Error::new(ErrorKind::Io, other.to_string()).with_source(other),
    }
}

fn open_error(path: &Path, error: sled::Error) -> OpenError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        sled::Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => {
            OpenError::Failed(layout::unavailable(path, error))
        }
        other => OpenError::Torn(other.to_string()),
    }
}
