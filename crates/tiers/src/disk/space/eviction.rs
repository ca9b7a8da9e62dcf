//! Evicts a segment, or all entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::Result;
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::layout::{remove_file, rounded};
use crate::disk::row::{Pointer, Row};
use crate::disk::segment::file::Segment;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;
use crate::disk::table::memtable::Memtable;
use crate::disk::table::tables::Tables;

/// Which entries of an evicted segment or sorted run are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Survivors {
    /// Every valid row, and every frame that a row points to.
    Live,
    /// Entries that were read since they were written, up to half of all bytes.
    ///
    /// A copy counts as unread. So each eviction frees space, and an entry that is not read again
    /// is lost the next time.
    Read,
}

impl DiskTier {
    /// Evicts a segment and the rows that point to it. Frames chosen by `survivors` are copied to the
    /// active segment.
    pub(in crate::disk) fn drop_segment(&self, number: u64, survivors: Survivors) -> Result<()> {
        self.with_store(|store| {
            let Some(segment) = store.segments.segment(number) else { return Ok(()) };
            let mut allowance = if survivors == Survivors::Live { u64::MAX } else { segment.len() / 2 };
            let drop_row = |row: &IVec| -> Result<()> {
                let _stripe = store.lock(row);
                let Some(pointer) = pointer_into(store, row, number)? else { return Ok(()) };
                let wanted = survivors == Survivors::Live || segment.was_read(pointer.offset);
                if wanted && pointer.len <= allowance && copy_frame(store, &segment, row, pointer) {
                    allowance -= pointer.len;
                } else if store.remove_row(row)? {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let rows = segment.take_rows();
            let dropped = rows.iter().rev().try_for_each(drop_row);
            if let Err(error) = dropped.and_then(|()| store.journal.sync_all()) {
                segment.put_back(rows);
                return Err(error);
            }
            store.segments.delete(number);
            Ok(())
        })
    }

    /// Deletes all entries and starts with an empty memtable.
    ///
    /// Older data is deleted first: without the newest, older data would show overwritten values.
    pub(in crate::disk) fn start_empty(&self) -> Result<()> {
        let mut compaction = self.compaction.write();
        self.with_store(|store| {
            store.segments.delete_sealed();
            Ok(())
        })?;
        let withdrawals = self.marker.withdrawals();
        let Some(former) = self.replace_store()? else { return Ok(()) };
        *compaction = None;
        former.segments.delete_all();
        let mut dropped = Ok(());
        for run in former.tables.runs.iter().rev() {
            let gone = remove_file(run.path()).map(|()| self.budget.shrink(rounded(run.len())));
            dropped = dropped.and(gone);
        }
        // The remains are deleted before the journal file that says that they are void.
        dropped.and_then(|()| self.with_store(|store| store.drop_journals(withdrawals)))
    }

    /// Puts an empty store in place. Returns the former store. After the record in the journal, no entry of
    /// the former store can come back.
    fn replace_store(&self) -> Result<Option<Store>> {
        let mut state = self.state.write();
        let Some(former) = state.as_ref() else { return Ok(None) };
        let number = former.tables.newest.number + 1;
        former.journal.clear(number)?;
        if let Err(error) = former.journal.rotate() {
            tracing::debug!(target: "larder", %error, "cannot sync a journal file; nothing is trusted after a crash");
        }
        let journal = Arc::clone(&former.journal);
        let tables = Tables::of(Memtable::new(number, journal.number()));
        let segments = Segments::empty(self.layout.clone(), self.budget.clone(), former.segments.next());
        Ok(state.replace(Store::new(tables, segments, journal)))
    }
}

/// The pointer of a row, if it points into segment `number`.
pub(in crate::disk) fn pointer_into(store: &Store, row: &[u8], number: u64) -> Result<Option<Pointer>> {
    let value = store.tables.get(row)?;
    Ok(value.as_deref().and_then(Row::pointer).filter(|pointer| pointer.segment == number))
}

/// Copies a frame to the active segment. Returns false if it cannot be read or written; the caller
/// drops the entry then.
fn copy_frame(store: &Store, segment: &Segment, row: &[u8], pointer: Pointer) -> bool {
    let Ok(Some(frame)) = segment.read(pointer.offset, pointer.len) else { return false };
    store.put_record(row, &frame, &[]).map(|replaced| store.release(replaced)).is_ok()
}
