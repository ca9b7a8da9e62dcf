//! One sled database.
//!
//! sled never shrinks its files, so space is freed by deleting a whole database. It panics on
//! damage that it did not expect, so every call to it is guarded. Its `mode` option is read nowhere
//! in 0.34.7, so it is not set.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use sled::IVec;

use crate::disk::counts::Counts;
use crate::disk::layout::{self, Layout};
use crate::durable_sync::{sync_dir, sync_tree};

/// Longest wait for sled's threads to release a database after it was dropped.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(10);
const FLUSH_EVERY_MS: u64 = 500;
/// Smallest disk usage of an empty database.
pub(in crate::disk) const EMPTY_BYTES: u64 = 512 << 10;
/// Bytes that sled adds to a change of a row, approximately.
const ROW_OVERHEAD: u64 = 48;

/// Why a database could not be opened.
pub(in crate::disk) enum OpenError {
    /// The files are not a database that sled can read.
    Torn(String),
    /// Any other failure, which may be temporary.
    Failed(Error),
}

/// A sled database and its counters.
pub(in crate::disk) struct Database {
    /// Later databases have higher numbers.
    pub(in crate::disk) number: u64,
    /// Counts the entries whose valid row is in this database.
    pub(in crate::disk) counts: Counts,
    path: PathBuf,
    db: sled::Db,
    bytes: AtomicU64,
    /// Disk usage when it was empty.
    bytes_at_open: u64,
    written: AtomicU64,
    measured_at: AtomicU64,
    /// Whether a call of sled failed. All later calls may fail too.
    failed: AtomicBool,
}

impl Database {
    /// Opens database `number`, or creates it.
    pub(in crate::disk) fn open(layout: &Layout, number: u64, cache_bytes: u64) -> Result<Self, OpenError> {
        let path = layout.database(number);
        layout::make_private(&path).map_err(|error| OpenError::Failed(layout::unavailable(&path, error)))?;
        if !is_released(&path) {
            let message = format!("{}: another cache uses the database", path.display());
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

    /// Returns whether the row exists.
    pub(in crate::disk) fn contains(&self, row: &[u8]) -> Result<bool> {
        self.guarded(|| self.db.contains_key(row))
    }

    /// Sets a row. Returns its former value.
    pub(in crate::disk) fn insert(&self, row: &[u8], value: impl Into<IVec>) -> Result<Option<IVec>> {
        let value = value.into();
        self.count_written(row.len() + value.len());
        self.guarded(|| self.db.insert(row, value))
    }

    /// Deletes a row. Returns its former value. Costs only a look-up if the row does not exist.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<Option<IVec>> {
        let removed = self.guarded(|| self.db.remove(row))?;
        if removed.is_some() {
            self.count_written(row.len());
        }
        Ok(removed)
    }

    /// Calls sled, and records a failure.
    fn guarded<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        guarded(call).inspect_err(|_| self.failed.store(true, Ordering::Release))
    }

    /// Returns whether another program removed the database file.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        !std::fs::exists(self.path.join("db")).unwrap_or(true)
    }

    /// Returns whether a call of sled failed.
    pub(in crate::disk) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Returns whether the database has no rows.
    pub(in crate::disk) fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    /// Iterates over all rows and their values, in key order.
    pub(in crate::disk) fn rows(&self) -> Rows {
        Rows(self.db.iter())
    }

    /// Writes buffered changes. Returns when sled has synced them.
    pub(in crate::disk) fn flush(&self) -> Result<()> {
        self.guarded(|| self.db.flush()).map(|_| ())
    }

    /// Waits until all flushed files and directory entries are durable. sled itself syncs fewer of
    /// them.
    pub(in crate::disk) fn sync(&self) -> Result<()> {
        let named = || self.path.parent().map_or(Ok(()), sync_dir);
        sync_tree(&self.path).and_then(|()| named()).map_err(|error| layout::unavailable(&self.path, error))
    }

    /// Disk usage when it was last measured.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Returns whether the database takes more space than an empty one.
    pub(in crate::disk) fn has_grown(&self) -> bool {
        self.bytes() > self.bytes_at_open
    }

    /// Measures the disk usage, and makes files private that sled created since. Returns the usage
    /// before and now.
    pub(in crate::disk) fn measure(&self) -> (u64, u64) {
        self.measured_at.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
        layout::restrict(&self.path);
        let now = layout::bytes_in(&self.path);
        (self.bytes.swap(now, Ordering::AcqRel), now)
    }

    /// Returns whether at least `bytes` were written to the database since it was last measured.
    pub(in crate::disk) fn is_due(&self, bytes: u64) -> bool {
        let measured_at = self.measured_at.load(Ordering::Relaxed);
        self.written.load(Ordering::Relaxed).saturating_sub(measured_at) >= bytes
    }

    fn count_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64 + ROW_OVERHEAD, Ordering::Relaxed);
    }

    /// Drops the database, and waits until sled's threads have released its files.
    pub(in crate::disk) fn close(self) {
        let path = self.path;
        if catch_unwind(AssertUnwindSafe(|| drop(self.db))).is_err() {
            tracing::warn!(target: "larder", path = %path.display(), "sled panicked while it closed a database");
        }
        if !is_released(&path) {
            tracing::warn!(target: "larder", path = %path.display(), "sled did not release the files of a closed database");
        }
    }
}

/// An iterator over the rows of a database, in key order.
pub(in crate::disk) struct Rows(sled::Iter);

impl Rows {
    /// The next row and its value.
    pub(in crate::disk) fn next(&mut self) -> Result<Option<(IVec, IVec)>> {
        guarded(|| self.0.next().transpose())
    }
}

/// Waits until no handle locks the database any more. Returns false if that took too long.
fn is_released(path: &Path) -> bool {
    let Ok(file) = File::open(path.join("db")) else { return true };
    let started = Instant::now();
    let (never, wait) = (Mutex::new(()), Condvar::new());
    loop {
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) if started.elapsed() < RELEASE_WAIT_MAX => {
                wait.wait_for(&mut never.lock(), Duration::from_millis(1));
            }
            Err(std::fs::TryLockError::WouldBlock) => return false,
            _ => return true,
        }
    }
}

/// Calls sled, and converts its panics and errors.
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
