//! Reads the sled databases that builds before memtables wrote.
//!
//! Such a build kept the rows that changed last in a sled database, and those of the one before until they
//! were in a sorted run. An open reads both into the memtable; they are deleted when a sorted run has its
//! rows. sled panics on damage that it did not expect, so every call to it is guarded. Its `mode` option is
//! read nowhere in 0.34.7, so it is not set.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use sled::IVec;

use crate::disk::layout::{self, Layout};
use crate::disk::table::memtable::Memtable;

/// Longest wait for sled's threads to release a database after it was dropped.
const RELEASE_WAIT_MAX: Duration = Duration::from_secs(10);
const CACHE_BYTES: u64 = 8 << 20;

/// Why a database could not be read.
enum ReadError {
    /// The files are not a database that sled can read.
    Torn(String),
    /// Any other failure, which may be temporary.
    Failed(Error),
}

/// What the databases of a directory are.
pub(in crate::disk) enum Found {
    /// There are none.
    Nothing,
    /// Their rows.
    Rows {
        /// The rows, under the number of the newest database.
        table: Memtable,
        /// Whether a database before the newest one was damaged, so that no sorted run was left.
        distrusts_runs: bool,
    },
    /// The newest one was damaged, so that nothing older was left. Its number.
    Damaged(u64),
}

/// Reads the rows of the newest database, and of the one before it if no sorted run has them. Deletes
/// databases whose rows a sorted run has.
pub(in crate::disk) fn read(layout: &Layout) -> Result<Found> {
    let numbers = layout.databases()?.into_iter().map(|(number, _)| number);
    let (mut numbers, begun): (Vec<u64>, Vec<u64>) =
        numbers.partition(|number| layout.has_sled_files(*number));
    begun.into_iter().try_for_each(|number| layout.discard(number))?;
    let last_run = layout.runs()?.last().map_or(0, |(number, _)| *number);
    let mut not_compacted = numbers.split_off(numbers.partition_point(|number| *number <= last_run));
    numbers.into_iter().try_for_each(|number| layout.discard(number))?;
    let Some(newest) = not_compacted.pop() else { return Ok(Found::Nothing) };
    let mut table = Memtable::new(newest, 0);
    if !copy_rows(layout, newest, &table)? {
        return Ok(Found::Damaged(newest));
    }
    if table.is_empty()
        && not_compacted.len() > 1
        && let Some(before) = not_compacted.pop()
    {
        // An empty database of a clear whose journal record was not written.
        layout.discard(newest)?;
        table.number = before;
        if !copy_rows(layout, before, &table)? {
            return Ok(Found::Damaged(before));
        }
    }
    let frozen = not_compacted.pop();
    not_compacted.into_iter().try_for_each(|number| layout.discard(number))?;
    let distrusts_runs = match frozen {
        Some(number) => !copy_rows(layout, number, &table)?,
        None => false,
    };
    Ok(Found::Rows { table, distrusts_runs })
}

/// Adds the rows of a database that `table` lacks. Returns false if the database is damaged: then all older data
/// is deleted, and the database set aside.
fn copy_rows(layout: &Layout, number: u64, table: &Memtable) -> Result<bool> {
    match rows_of(&layout.database(number)) {
        Ok(rows) => {
            for (row, value) in rows {
                if !table.contains(&row) {
                    table.insert(&row, value);
                }
            }
            Ok(true)
        }
        Err(ReadError::Failed(error)) => Err(error),
        Err(ReadError::Torn(reason)) => {
            // Older data first: without this database it would show overwritten values.
            for (_, path) in layout.runs()? {
                layout::remove_file(&path)?;
            }
            layout.discard_databases(number.saturating_sub(1))?;
            let path = layout.set_aside(number)?;
            tracing::warn!(target: "larder", path = %path.display(), %reason, "a damaged database was set aside; its entries are lost");
            Ok(false)
        }
    }
}

fn rows_of(path: &Path) -> Result<Vec<(IVec, IVec)>, ReadError> {
    if !is_released(path) {
        let message = format!("{}: another cache uses the database", path.display());
        return Err(ReadError::Failed(Error::new(ErrorKind::Busy, message)));
    }
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None)
        .use_compression(false)
        .print_profile_on_drop(false);
    let read = || config.open().and_then(|db| db.iter().collect());
    let rows = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(read_error(path, error)),
        Err(_) => Err(ReadError::Torn("sled panicked".to_owned())),
    };
    if !is_released(path) {
        tracing::warn!(target: "larder", path = %path.display(), "sled did not release the files of a closed database");
    }
    rows
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

fn read_error(path: &Path, error: sled::Error) -> ReadError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        sled::Error::Io(error) if !matches!(error.kind(), InvalidData | UnexpectedEof) => {
            ReadError::Failed(layout::unavailable(path, error))
        }
        other => ReadError::Torn(other.to_string()),
    }
}
