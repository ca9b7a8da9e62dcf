//! The write-ahead log: row changes that are in no sorted run yet.
//!
//! Each change is appended with one `write(2)` before it is made in the memtable, so a process that is killed
//! loses none. The next open applies the last record of each row (`replay`).
//!
//! # Invariants
//! - The writer of a row records the change first, and holds the row's stripe lock for both. So the
//!   order of records is the order of changes.
//! - A memtable is frozen together with the present file: [`rotate`](Journal::rotate) ends the file, and
//!   later changes are in later files.
//! - A file that was ended is deleted after the changes in it are in sorted runs. The oldest file is deleted
//!   first, so no older value can outlive a newer record.
//! - A file is not appended to after a failure, so only its end can be torn.
//! - If a removal cannot be recorded, the marker is deleted. So nothing is trusted if the process
//!   ends before the memtable is in a sorted run.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{Durability, Result};
use parking_lot::Mutex;

use crate::boot_marker::Marker;
use crate::disk::journal::record::{Change, Record, Tally};
use crate::disk::layout::{Layout, remove_file, rounded, unavailable};
use crate::disk::recovery::OpenContext;
use crate::disk_budget::BudgetShare;
use crate::durable_sync::sync_dir;
use crate::private_file;

const MAGIC: &[u8; 4] = b"LRDJ";
const VERSION: u8 = 1;
/// Magic, version, three bytes of zero, number.
pub(in crate::disk) const HEADER_LEN: usize = 16;

/// Bytes of memory that are kept for the next record.
const BUFFER_BYTES_KEPT: usize = 4 << 10;

/// The journal of an open tier.
pub(in crate::disk) struct Journal {
    layout: Layout,
    budget: Arc<BudgetShare>,
    marker: Arc<Marker>,
    durability: Durability,
    tail: Mutex<Tail>,
    counted: AtomicU64,
    /// The files that exist, by number, with the bytes of those that were ended.
    files: Mutex<BTreeMap<u64, u64>>,
    /// Sorted runs below this number were cleared, but may not be deleted yet.
    void_below: AtomicU64,
    synced: Mutex<Synced>,
}

/// The file that is appended to.
struct Tail {
    file: Option<Arc<File>>,
    number: u64,
    len: u64,
    /// The last record of all files, if it is a tally.
    last_tally: Option<Tally>,
    /// The record that was written last. Its memory is used again.
    buffer: Vec<u8>,
}

/// Which part of which file is durable.
#[derive(Default)]
struct Synced {
    number: u64,
    len: u64,
    failed: u64,
}

/// The end of a record that was appended.
struct Written {
    file: Arc<File>,
    number: u64,
    end: u64,
}

impl Journal {
    /// Creates a journal whose first file has a number above `last`. The file is created with the
    /// first record. Existing files are counted as usage.
    ///
    /// `last_tally` is the last record of the existing files, if it is a tally.
    pub(in crate::disk) fn after(
        last: u64,
        last_tally: Option<Tally>,
        context: &OpenContext<'_>,
    ) -> Result<Self> {
        let OpenContext { layout, budget, marker, .. } = context;
        let journals = layout.journals()?;
        let files: BTreeMap<u64, u64> =
            journals.into_iter().map(|(number, path)| (number, rounded_len(&path))).collect();
        let counted: u64 = files.values().sum();
        budget.grow(counted);
        Ok(Self {
            layout: (*layout).clone(),
            budget: Arc::clone(budget),
            marker: Arc::clone(marker),
            durability: marker.durability(),
            tail: Mutex::new(Tail {
                file: None,
                number: last + 1,
                len: 0,
                last_tally: last_tally.filter(|_| counted > 0),
                buffer: Vec::new(),
            }),
            counted: AtomicU64::new(counted),
            files: Mutex::new(files),
            void_below: AtomicU64::new(0),
            synced: Mutex::default(),
        })
    }

    /// How often the marker was withdrawn, for [`drop_before`](Self::drop_before).
    pub(in crate::disk) fn withdrawals(&self) -> u64 {
        self.marker.withdrawals()
    }

    /// The durability that the directory was opened with.
    pub(in crate::disk) fn durability(&self) -> Durability {
        self.durability
    }

    /// Records that `row` is about to get `value`.
    pub(in crate::disk) fn set(&self, row: &[u8], value: &[u8]) -> Result<()> {
        self.append_durably(&Record::Row(row, Change::Value(value)))
    }

    /// Records that `row` is about to be removed. The caller waits for durability with
    /// [`sync_all`](Self::sync_all).
    ///
    /// If that fails, this deletes the marker, which is as safe. Returns an error only if that
    /// fails too.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<()> {
        self.append(&Record::Row(row, Change::Removed)).map(drop).or_else(|error| {
            tracing::warn!(target: "larder", %error, "cannot record a removal in the journal; if the process is killed before the next sorted run, the next open starts empty");
            self.marker.withdraw().map_err(|_| error)
        })
    }

    /// Waits until all records are durable, if the tier is synced. Costs only a lock if they are.
    pub(in crate::disk) fn sync_all(&self) -> Result<()> {
        if self.durability != Durability::Synced {
            return Ok(());
        }
        let written = match &*self.tail.lock() {
            Tail { file: Some(file), number, len, .. } => {
                Written { file: Arc::clone(file), number: *number, end: *len }
            }
            _ => return Ok(()),
        };
        self.sync(&written)
    }

    /// Records that everything before is cleared, including all sorted runs below number `below`.
    pub(in crate::disk) fn clear(&self, below: u64) -> Result<()> {
        self.append_durably(&Record::Cleared(below))?;
        self.void_below.fetch_max(below, Ordering::AcqRel);
        Ok(())
    }

    /// Records how many rows there are when the tier is closed, and their checksum. Does nothing if that is the
    /// last record already.
    pub(in crate::disk) fn tally(&self, tally: Tally) -> Result<()> {
        if self.tail.lock().last_tally == Some(tally) {
            return Ok(());
        }
        self.append_durably(&Record::Tally(tally))
    }

    fn append_durably(&self, record: &Record<'_>) -> Result<()> {
        let written = self.append(record)?;
        match self.durability {
            Durability::Synced => self.sync(&written),
            _ => Ok(()),
        }
    }

    fn append(&self, record: &Record<'_>) -> Result<Written> {
        let mut tail = self.tail.lock();
        let file = self.file_of(&mut tail)?;
        let number = tail.number;
        record.encode(number, &mut tail.buffer);
        if let Err(error) = (&*file).write_all(&tail.buffer) {
            let _ = file.set_len(tail.len);
            // Who waits for an earlier record finds another file, or none.
            if self.durability == Durability::Synced && file.sync_data().is_err() {
                self.marker.withdraw()?;
            }
            self.end(&mut tail);
            return Err(error.into());
        }
        tail.last_tally = match record {
            Record::Tally(tally) => Some(*tally),
            _ => None,
        };
        let bytes = tail.buffer.len() as u64;
        tail.buffer.shrink_to(BUFFER_BYTES_KEPT);
        self.advance(&mut tail, bytes);
        Ok(Written { file, number: tail.number, end: tail.len })
    }

    fn file_of(&self, tail: &mut Tail) -> Result<Arc<File>> {
        if let Some(file) = &tail.file {
            return Ok(Arc::clone(file));
        }
        let path = self.layout.journal(tail.number);
        let file = create(&path, tail.number).inspect_err(|_| {
            let _ = remove_file(&path);
        })?;
        if self.durability == Durability::Synced {
            path.parent().map_or(Ok(()), sync_dir)?;
        }
        self.files.lock().insert(tail.number, 0);
        let file = Arc::new(file);
        tail.file = Some(Arc::clone(&file));
        self.advance(tail, HEADER_LEN as u64);
        Ok(file)
    }

    fn advance(&self, tail: &mut Tail, bytes: u64) {
        let grown = rounded(tail.len + bytes) - rounded(tail.len);
        tail.len += bytes;
        if grown > 0 {
            self.budget.grow(grown);
            self.counted.fetch_add(grown, Ordering::AcqRel);
        }
    }

    /// Waits until a record is durable. One sync serves all threads that wait at the same time.
    fn sync(&self, written: &Written) -> Result<()> {
        let mut synced = self.synced.lock();
        if synced.number == written.number && synced.len >= written.end {
            return Ok(());
        }
        let len = match &*self.tail.lock() {
            tail if tail.number == written.number => tail.len,
            _ => written.end,
        };
        let failed_before = synced.failed == written.number;
        match written.file.sync_data() {
            Ok(()) if !failed_before => {
                if synced.number <= written.number {
                    (synced.number, synced.len) = (written.number, len);
                }
                Ok(())
            }
            outcome => {
                synced.failed = written.number;
                let mut tail = self.tail.lock();
                if tail.number == written.number {
                    self.end(&mut tail);
                }
                drop(tail);
                let failed = || io::Error::other("an earlier record of the journal was not synced to disk");
                self.marker.withdraw()?;
                Err(outcome.err().unwrap_or_else(failed).into())
            }
        }
    }

    /// The number of the present file.
    pub(in crate::disk) fn number(&self) -> u64 {
        self.tail.lock().number
    }

    /// Bytes of the files from `number` on.
    pub(in crate::disk) fn bytes_from(&self, number: u64) -> u64 {
        let present = self.tail.lock().len;
        present + self.files.lock().range(number..).map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Returns whether a file below `number` was not deleted yet.
    pub(in crate::disk) fn has_before(&self, number: u64) -> bool {
        self.files.lock().first_key_value().is_some_and(|(oldest, _)| *oldest < number)
    }

    /// Ends the present file.
    fn end(&self, tail: &mut Tail) {
        if tail.file.take().is_some() {
            self.files.lock().insert(tail.number, rounded(tail.len));
            tail.number += 1;
            tail.len = 0;
        }
    }

    /// Bytes that all files take on disk.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.counted.load(Ordering::Acquire)
    }

    /// Number of files.
    pub(in crate::disk) fn files(&self) -> usize {
        self.files.lock().len()
    }

    /// Returns whether another program removed a file.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        let files = self.files.lock();
        files.keys().any(|number| !std::fs::exists(self.layout.journal(*number)).unwrap_or(true))
    }

    /// Ends the present file. Returns the number of the next one.
    pub(in crate::disk) fn rotate(&self) -> Result<u64> {
        let mut synced = self.synced.lock();
        let mut tail = self.tail.lock();
        let (ended, number) = (tail.file.clone(), tail.number);
        let ended = ended.filter(|_| self.durability == Durability::Synced);
        let durable = ended.map_or(Ok(()), |file| file.sync_data());
        match &durable {
            Ok(()) if synced.failed != number => (synced.number, synced.len) = (number, tail.len),
            Ok(()) => {}
            Err(_) => synced.failed = number,
        }
        self.end(&mut tail);
        let next = tail.number;
        drop((tail, synced));
        if durable.is_err() {
            self.marker.withdraw()?;
        }
        durable.map(|()| next).map_err(Into::into)
    }

    /// Deletes the files below `number`, whose changes are in sorted runs, oldest first.
    ///
    /// The runs also lack the rows of the first `withdrawals` withdrawals of the marker, so the marker is
    /// restored if there were no more. Remains of a clear are deleted first, because only the journal says
    /// that they are void.
    pub(in crate::disk) fn drop_before(&self, number: u64, withdrawals: u64) -> Result<()> {
        let void = self.void_below.load(Ordering::Acquire);
        if void > 0 {
            self.layout.discard_below(void)?;
        }
        if self.durability == Durability::Synced {
            self.layout.sync_names()?;
        }
        self.void_below.store(0, Ordering::Release);
        if self.has_before(number) {
            self.tail.lock().last_tally = None;
        }
        let mut files = self.files.lock();
        while let Some(oldest) = files.keys().next().copied().filter(|oldest| *oldest < number) {
            let path = self.layout.journal(oldest);
            let bytes = rounded_len(&path);
            self.layout.deferred().delete(&path, None)?;
            files.remove(&oldest);
            if self.durability == Durability::Synced {
                // The next file may not be gone before this one.
                path.parent().map_or(Ok(()), sync_dir)?;
            }
            self.forget(bytes);
        }
        drop(files);
        self.marker.restore(withdrawals).map_err(|error| unavailable(self.layout.dir(), error))
    }

    fn forget(&self, bytes: u64) {
        let less = |counted: u64| Some(counted.saturating_sub(bytes));
        let counted = self.counted.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.budget.shrink(counted.unwrap_or(0).min(bytes));
    }
}

fn rounded_len(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| rounded(meta.len()))
}

fn create(path: &Path, number: u64) -> io::Result<File> {
    let file = private_file::open(OpenOptions::new().append(true).create_new(true), path)?;
    (&file).write_all(&header(number))?;
    Ok(file)
}

/// The first bytes of journal `number`.
pub(in crate::disk) fn header(number: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(MAGIC);
    header[4] = VERSION;
    header[8..].copy_from_slice(&number.to_le_bytes());
    header
}
