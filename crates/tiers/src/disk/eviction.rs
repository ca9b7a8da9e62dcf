//! Evicts a segment, or all entries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::Result;
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::db::database::Database;
use crate::disk::db::databases::Databases;
use crate::disk::layout::{remove_file, rounded};
use crate::disk::recovery::{create_database, delete_database};
use crate::disk::row::{Pointer, Row};
use crate::disk::segment::file::Segment;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;

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
    fn drop_database(&self, database: Database) -> Result<()> {
        let bytes = database.bytes();
        delete_database(&self.layout, database)?;
        self.budget.shrink(bytes);
        Ok(())
    }

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

    /// Deletes all entries and starts with an empty database.
    ///
    /// Sealed segments are deleted first, so that a full disk has room for the new database. Of the
    /// rest, older data is deleted first: without the newest database, older data would show
    /// overwritten values.
    pub(in crate::disk) fn start_empty(&self) -> Result<()> {
        let mut compaction = self.compaction.write();
        self.reaper.wait()?;
        let number = self.with_store(|store| {
            store.segments.delete_sealed();
            Ok(store.databases.newest.number)
        })?;
        let newest = create_database(&self.context(), number + 1)?;
        let bytes = newest.bytes();
        let Some(former) = self.replace_store(Databases::of(newest))? else { return Ok(()) };
        *compaction = None;
        self.budget.grow(bytes);
        former.segments.delete_all();
        let Databases { newest, frozen, runs } = former.databases;
        let mut dropped = Ok(());
        for run in runs.iter().rev() {
            let gone = remove_file(run.path()).map(|()| self.budget.shrink(rounded(run.len())));
            dropped = dropped.and(gone);
        }
        for database in frozen.into_iter().chain([newest]) {
            dropped = dropped.and(self.drop_database(database));
        }
        // A checkpoint deletes the remains before the journal file that says that they are void.
        dropped.and_then(|()| self.with_store(Store::checkpoint))
    }

    /// Creates a store with `databases` and no segments. Returns the former store. After the record
    /// in the journal, no entry of the former store can come back.
    fn replace_store(&self, databases: Databases) -> Result<Option<Store>> {
        let mut state = self.state.write();
        let Some(former) = state.as_ref() else { return Ok(None) };
        if let Err(error) = former.journal.clear(databases.newest.number) {
            delete_database(&self.layout, databases.newest)?;
            return Err(error);
        }
        let (next, journal) = (former.segments.next(), Arc::clone(&former.journal));
        let segments = Segments::empty(self.layout.clone(), self.budget.clone(), next);
        Ok(state.replace(Store::new(databases, segments, journal)))
    }
}

/// The pointer of a row, if it points into segment `number`.
pub(in crate::disk) fn pointer_into(store: &Store, row: &[u8], number: u64) -> Result<Option<Pointer>> {
    let value = store.databases.get(row)?;
    Ok(value.as_deref().and_then(Row::pointer).filter(|pointer| pointer.segment == number))
}

/// Copies a frame to the active segment. Returns false if it cannot be read or written; the caller
/// drops the entry then.
fn copy_frame(store: &Store, segment: &Segment, row: &[u8], pointer: Pointer) -> bool {
    let Ok(Some(frame)) = segment.read(pointer.offset, pointer.len) else { return false };
    store.put_record(row, &frame, &[]).map(|replaced| store.release(replaced)).is_ok()
}
