//! The store of an open tier: tables of rows, segments and journal, and the locks between them.
//!
//! - A row changes only under the lock of its stripe, in `put`, `remove` and eviction. So no change
//!   undoes another. A `get` takes the lock only when the frame that its row points to is missing.
//! - A frame is written to its segment before a row points to it. A change of a row is written to
//!   the journal before it is made in the memtable.
//! - If a `get` does not find the frame of a pointer, it reads the row again under the lock,
//!   because an eviction may have copied the frame in between. If the frame is still missing, the
//!   row is removed.

use std::sync::Arc;

use larder_core::frame::Frame;
use larder_core::{Bytes, Durability, Result};
use parking_lot::{Mutex, MutexGuard};
use sled::IVec;

use crate::disk::journal::writer::Journal;
use crate::disk::row::{self, Pointer, Row, RowKey};
use crate::disk::segment::files::Segments;
use crate::disk::table::tables::Tables;

const STRIPES: usize = 64;

/// Bytes of memory that are kept for the next value of a stripe.
const VALUE_BYTES_KEPT: usize = 4 << 10;

/// The data of a tier while it is open.
pub(in crate::disk) struct Store {
    /// Rows.
    pub(in crate::disk) tables: Tables,
    /// Large frames.
    pub(in crate::disk) segments: Segments,
    /// Row changes that are in no sorted run yet.
    pub(in crate::disk) journal: Arc<Journal>,
    /// Each with the memory that the last value of a row was encoded in, for the next one.
    stripes: Box<[Mutex<Vec<u8>>]>,
}

impl Store {
    /// Creates a store of its three parts.
    pub(in crate::disk) fn new(tables: Tables, segments: Segments, journal: Arc<Journal>) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self { tables, segments, journal, stripes }
    }

    /// Reads the frame of a row.
    pub(in crate::disk) fn get(&self, key: &RowKey) -> Result<Option<Bytes>> {
        let Some(value) = self.tables.read(key.as_ref())? else { return Ok(None) };
        match Row::parse(&value) {
            Some(Row::Record(pointer)) => match self.segments.read(pointer)? {
                None => self.get_again(key.as_ref()),
                found => Ok(found),
            },
            _ => match row::frame_of(key.as_ref(), value) {
                None => self.get_again(key.as_ref()),
                found => Ok(found),
            },
        }
    }

    fn get_again(&self, row: &[u8]) -> Result<Option<Bytes>> {
        let _stripe = self.lock(row);
        let Some(value) = self.tables.get(row)? else { return Ok(None) };
        let found = match Row::parse(&value) {
            Some(Row::Record(pointer)) => self.segments.read(pointer)?,
            _ => row::frame_of(row, value),
        };
        if found.is_none() {
            self.remove_row(row)?;
        }
        Ok(found)
    }

    /// Stores a frame: in the row if it has fewer bytes than `crossover`, in a segment otherwise.
    pub(in crate::disk) fn put(&self, key: &RowKey, frame: &Frame, crossover: u64) -> Result<()> {
        let row = key.as_ref();
        let mut stripe = self.lock(row);
        let replaced = if (frame.len() as u64) < crossover {
            row::inline(row, frame, &mut stripe);
            let value = IVec::from(&stripe[..]);
            stripe.shrink_to(VALUE_BYTES_KEPT);
            self.set(row, value)?
        } else {
            self.put_record(row, frame.head(), frame.body())?
        };
        self.release(replaced);
        Ok(())
    }

    /// Writes a frame to the active segment and points the row to it. Returns the row's former
    /// value. The caller holds the stripe lock.
    pub(in crate::disk) fn put_record(&self, row: &[u8], head: &[u8], body: &[u8]) -> Result<Option<IVec>> {
        let pointer = self.segments.append(row, head, body)?;
        let durable = match self.journal.durability() {
            Durability::Synced => self.segments.sync(pointer),
            _ => Ok(()),
        };
        let replaced = durable.and_then(|()| self.set(row, (&pointer.to_value()[..]).into()));
        if replaced.is_err() && !self.points_to(row, pointer) {
            self.segments.release(pointer);
        }
        replaced
    }

    /// Returns whether a row points to `pointer`.
    fn points_to(&self, row: &[u8], pointer: Pointer) -> bool {
        self.tables.newest.get(row).as_deref().and_then(Row::pointer) == Some(pointer)
    }

    /// Sets the value of a row. Returns the former value. The caller holds the stripe lock.
    ///
    /// If the former value cannot be read, the journal records the row as removed.
    fn set(&self, row: &[u8], value: IVec) -> Result<Option<IVec>> {
        self.journal.set(row, &value)?;
        self.tables.insert(row, value).inspect_err(|_| {
            let _ = self.journal.remove(row);
        })
    }

    /// Removes a row. Returns whether it existed.
    ///
    /// Waits for the journal even if the row is absent, because an eviction may have recorded its
    /// removal a moment ago.
    pub(in crate::disk) fn remove(&self, key: &RowKey) -> Result<bool> {
        let _stripe = self.lock(key.as_ref());
        let found = self.tables.contains(key.as_ref())? && self.remove_row(key.as_ref())?;
        self.journal.sync_all().map(|()| found)
    }

    /// Returns whether the row has a frame.
    pub(in crate::disk) fn contains(&self, key: &RowKey) -> Result<bool> {
        let value = self.tables.get(key.as_ref())?;
        Ok(match value.as_deref().and_then(Row::parse) {
            Some(Row::Inline(_) | Row::Compact(_)) => true,
            Some(Row::Record(pointer)) => self.segments.holds(pointer),
            None => false,
        })
    }

    /// Deletes the journal files whose changes are in sorted runs.
    pub(in crate::disk) fn drop_journals(&self, withdrawals: u64) -> Result<()> {
        self.journal.drop_before(self.first_journal(), withdrawals)
    }

    /// The first journal file with a row of a memtable.
    fn first_journal(&self) -> u64 {
        self.tables.frozen.as_ref().unwrap_or(&self.tables.newest).first_journal
    }

    /// Deletes journal files that could not be deleted before. Rows of a sorted run may be evicted only
    /// afterwards: replayed, such a file would bring them back, also after their removal, which is recorded only
    /// for rows that exist.
    pub(in crate::disk) fn drop_lingering_journals(&self) -> Result<()> {
        if self.journal.has_before(self.first_journal()) { self.drop_journals(0) } else { Ok(()) }
    }

    /// Calls `visit` with the head of each frame. More of the frame may follow the head.
    ///
    /// Rows must not move meanwhile. Values that are not frames are skipped.
    pub(in crate::disk) fn scan(&self, visit: &mut (dyn FnMut(&[u8]) + Send)) -> Result<()> {
        self.tables.each(|_, row, value| {
            match Row::parse(&value) {
                Some(Row::Inline(frame)) => visit(frame),
                Some(Row::Record(pointer)) => super::heads::visit_head(&self.segments, pointer, visit),
                _ => row::frame_of(&row, value).iter().for_each(|frame| visit(frame)),
            }
            Ok(())
        })
    }

    /// Records in the journal how many rows there are, for the next open to check.
    pub(in crate::disk) fn record_tally(&self) -> Result<()> {
        self.journal.tally(self.tables.tally())
    }

    /// Returns whether a file was removed without which the next open would find fewer entries, or
    /// older values. No sorted run may be added or removed meanwhile.
    pub(in crate::disk) fn has_lost_files(&self) -> bool {
        self.journal.is_removed()
            || self.segments.is_removed()
            || self.tables.runs.iter().any(|run| run.is_removed())
    }

    /// Removes a row and releases its frame. The caller holds the stripe lock.
    pub(in crate::disk) fn remove_row(&self, row: &[u8]) -> Result<bool> {
        self.journal.remove(row)?;
        let removed = self.tables.remove(row)?;
        let found = removed.is_some();
        self.release(removed);
        Ok(found)
    }

    /// Locks the stripe of a row, so that no other thread changes the row.
    pub(in crate::disk) fn lock(&self, row: &[u8]) -> MutexGuard<'_, Vec<u8>> {
        self.stripes[row::stripe(row) % STRIPES].lock()
    }

    /// Releases the frame that a former value points to.
    pub(in crate::disk) fn release(&self, value: Option<IVec>) {
        if let Some(pointer) = value.as_deref().and_then(Row::pointer) {
            self.segments.release(pointer);
        }
    }
}
