//! What became of rows since the databases were flushed: a file that is only
//! appended to, one `write(2)` a change.
//!
//! sled hands changes over twice a second. A process that is killed in between
//! leaves databases that show what was removed or overwritten. So a change is
//! written down here before a database hears of it, and opening the directory
//! goes by the last word on each row (`replay`).
//!
//! # Invariants
//! - Whoever changes a row writes it down first and holds the row's stripe
//!   for both. So the order of records is the order of changes.
//! - What is in a file that [`turn`](Journal::turn) ended is dropped once both
//!   databases were flushed after it, and not before.
//! - Of a row that is not there, no record has a value as the last word. So the
//!   removal of an absent row needs no record. (A row goes with a pack only when
//!   the files are gone that may have a record of it.)
//! - A file is not appended to after a failure: what was torn is its end.
//! - A removal that cannot be written down takes the marker away, so that
//!   nothing is trusted should the process end before the next flush.

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
use crate::disk::recovery::Ground;
use crate::disk_budget::Share;
use crate::durable_sync::{is_removed, sync_dir};

const MAGIC: &[u8; 4] = b"LRDJ";
const VERSION: u8 = 1;
/// Magic, version, three bytes of zero, number.
pub(in crate::disk) const HEADER_LEN: usize = 16;

/// The journal of an open tier.
pub(in crate::disk) struct Journal {
    layout: Layout,
    space: Arc<Share>,
    marker: Arc<Marker>,
    durability: Durability,
    tail: Mutex<Tail>,
    counted: AtomicU64,
    /// Files below this number are gone.
    dropped_below: AtomicU64,
    /// Generations and packs below this number are void, and may still be there.
    void_below: AtomicU64,
    synced: Mutex<Synced>,
}

/// The file that is appended to.
struct Tail {
    file: Option<Arc<File>>,
    number: u64,
    len: u64,
}

/// How far which file is on the medium.
#[derive(Default)]
struct Synced {
    number: u64,
    len: u64,
    failed: u64,
}

/// Where a record ends.
struct Written {
    file: Arc<File>,
    number: u64,
    end: u64,
}

impl Journal {
    /// A journal whose first file will have a number above `last`. Makes no
    /// file before the first record. Files that are there are counted.
    pub(in crate::disk) fn after(last: u64, ground: &Ground<'_>) -> Result<Self> {
        let Ground { layout, space, marker, .. } = ground;
        let counted: u64 = layout.journals()?.iter().map(|(_, path)| rounded_len(path)).sum();
        space.grow(counted);
        Ok(Self {
            layout: (*layout).clone(),
            space: Arc::clone(space),
            marker: Arc::clone(marker),
            durability: marker.durability(),
            tail: Mutex::new(Tail { file: None, number: last + 1, len: 0 }),
            counted: AtomicU64::new(counted),
            dropped_below: AtomicU64::new(if counted == 0 { last + 1 } else { 0 }),
            void_below: AtomicU64::new(0),
            synced: Mutex::default(),
        })
    }

    /// How often the marker was withdrawn, see [`drop_before`](Self::drop_before).
    pub(in crate::disk) fn withdrawals(&self) -> u64 {
        self.marker.withdrawals()
    }

    /// What was asked for when the directory was opened.
    pub(in crate::disk) fn durability(&self) -> Durability {
        self.durability
    }

    /// Writes down that `row` is about to be given `value`.
    pub(in crate::disk) fn set(&self, row: &[u8], value: &[u8]) -> Result<()> {
        let change = Change::to(value, self.durability > Durability::Buffered);
        self.write_down(&Record::Row(row, change))
    }

    /// Writes down that `row` is about to go; [`settle`](Self::settle) waits
    /// for that. Where it fails the marker goes, which is as safe; an error
    /// says that this failed as well.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<()> {
        self.append(&Record::Row(row, Change::Removed)).map(drop).or_else(|error| {
            tracing::warn!(target: "larder", %error, "a removal is not in the journal; a killed process would lose all entries");
            self.marker.withdraw().map_err(|_| error)
        })
    }

    /// Waits, where all is synced, until what was written down is on the
    /// medium. Costs a lock when it is there already.
    pub(in crate::disk) fn settle(&self) -> Result<()> {
        if self.durability != Durability::Synced {
            return Ok(());
        }
        let written = match &*self.tail.lock() {
            Tail { file: Some(file), number, len } => {
                Written { file: Arc::clone(file), number: *number, end: *len }
            }
            _ => return Ok(()),
        };
        self.sync(&written)
    }

    /// Writes down that what was before is void, with every generation below
    /// `generation`.
    pub(in crate::disk) fn clear(&self, generation: u64) -> Result<()> {
        self.write_down(&Record::Cleared(generation))?;
        self.void_below.fetch_max(generation, Ordering::AcqRel);
        Ok(())
    }

    /// Writes down what the databases have, as they are let go.
    pub(in crate::disk) fn tally(&self, tally: Tally) -> Result<()> {
        self.write_down(&Record::Tally(tally))
    }

    fn write_down(&self, record: &Record<'_>) -> Result<()> {
        let written = self.append(record)?;
        match self.durability {
            Durability::Synced => self.sync(&written),
            _ => Ok(()),
        }
    }

    fn append(&self, record: &Record<'_>) -> Result<Written> {
        let mut tail = self.tail.lock();
        let file = self.file_of(&mut tail)?;
        let bytes = record.encode(tail.number);
        if let Err(error) = (&*file).write_all(&bytes) {
            let _ = file.set_len(tail.len);
            tail.end();
            return Err(error.into());
        }
        self.advance(&mut tail, bytes.len() as u64);
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
        let file = Arc::new(file);
        tail.file = Some(Arc::clone(&file));
        self.advance(tail, HEADER_LEN as u64);
        Ok(file)
    }

    fn advance(&self, tail: &mut Tail, bytes: u64) {
        let grown = rounded(tail.len + bytes) - rounded(tail.len);
        tail.len += bytes;
        self.space.grow(grown);
        self.counted.fetch_add(grown, Ordering::AcqRel);
    }

    /// Waits until a record is on the medium. Those who wait meanwhile are
    /// served by one call.
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
                self.tail.lock().end_if(written.number);
                let failed = || io::Error::other("an earlier record did not reach the medium");
                self.marker.withdraw()?;
                Err(outcome.err().unwrap_or_else(failed).into())
            }
        }
    }

    /// The number of the present file.
    pub(in crate::disk) fn number(&self) -> u64 {
        self.tail.lock().number
    }

    /// Whether the file of this number and all before it are gone.
    pub(in crate::disk) fn is_dropped(&self, number: u64) -> bool {
        self.dropped_below.load(Ordering::Acquire) > number
    }

    /// Whether the present file was removed by others.
    pub(in crate::disk) fn is_removed(&self) -> bool {
        self.tail.lock().file.as_ref().is_some_and(|file| is_removed(file))
    }

    /// How large a file grows before the databases are flushed.
    fn file_bytes_max(&self) -> u64 {
        (self.space.budget() / 32).clamp(128 << 10, 16 << 20)
    }

    /// Whether the databases should be flushed, so that the journal can be dropped.
    pub(in crate::disk) fn is_due(&self) -> bool {
        self.tail.lock().len >= self.file_bytes_max()
    }

    /// Whether that cannot wait.
    pub(in crate::disk) fn is_overdue(&self) -> bool {
        self.counted.load(Ordering::Acquire) > self.file_bytes_max().saturating_mul(4)
    }

    /// Ends the present file; returns the number that the next one will have.
    pub(in crate::disk) fn turn(&self) -> Result<u64> {
        let mut synced = self.synced.lock();
        let mut tail = self.tail.lock();
        let (ended, number) = (tail.file.clone(), tail.number);
        let ended = ended.filter(|_| self.durability == Durability::Synced);
        let on_medium = ended.map_or(Ok(()), |file| file.sync_data());
        match &on_medium {
            Ok(()) if synced.failed != number => (synced.number, synced.len) = (number, tail.len),
            Ok(()) => {}
            Err(_) => synced.failed = number,
        }
        tail.end();
        let next = tail.number;
        drop((tail, synced));
        if on_medium.is_err() {
            self.marker.withdraw()?;
        }
        on_medium.map(|()| next).map_err(Into::into)
    }

    /// Deletes the files below `number`: both databases were flushed since
    /// they ended, and that makes up for the first `withdrawals`. What a clear left
    /// goes first, for nothing would say any more that it is void.
    pub(in crate::disk) fn drop_before(&self, number: u64, withdrawals: u64) -> Result<()> {
        let void = self.void_below.load(Ordering::Acquire);
        if void > 0 {
            self.layout.discard_below(void)?;
        }
        if self.durability == Durability::Synced {
            self.layout.sync_names()?;
        }
        self.void_below.store(0, Ordering::Release);
        for (found, path) in self.layout.journals()? {
            if found < number {
                let bytes = rounded_len(&path);
                remove_file(&path)?;
                self.forget(bytes);
            }
        }
        self.dropped_below.fetch_max(number, Ordering::AcqRel);
        self.marker.restore(withdrawals).map_err(|error| unavailable(self.layout.dir(), error))
    }

    fn forget(&self, bytes: u64) {
        let less = |counted: u64| Some(counted.saturating_sub(bytes));
        let counted = self.counted.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.space.shrink(counted.unwrap_or(0).min(bytes));
    }
}

impl Tail {
    fn end(&mut self) {
        if self.file.take().is_some() {
            self.number += 1;
            self.len = 0;
        }
    }

    fn end_if(&mut self, number: u64) {
        if self.number == number {
            self.end();
        }
    }
}

fn rounded_len(path: &Path) -> u64 {
    path.metadata().map_or(0, |meta| rounded(meta.len()))
}

fn create(path: &Path, number: u64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
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
