//! Freezes databases, and evicts sorted runs, segments or everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::{Durability, Result};
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::compaction::job::CompactionJob;
use crate::disk::db::database::Generation;
use crate::disk::db::databases::Databases;
use crate::disk::layout::{remove_file, rounded};
use crate::disk::recovery::{drop_generation, next_generation};
use crate::disk::row::{Pointer, Row};
use crate::disk::run::writer::RunWriter;
use crate::disk::segment::file::Segment;
use crate::disk::segment::files::Segments;
use crate::disk::store::Store;

/// Which entries of an evicted segment or sorted run are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Carry {
    /// Every valid row, and every frame that a row points to.
    Named,
    /// Entries that were read since they were written, up to half of all bytes.
    ///
    /// A copy counts as unread. So each eviction frees space, and an entry that is not read again
    /// is lost the next time.
    Read,
}

impl DiskTier {
    /// Freezes the newest database and creates a new one.
    pub(in crate::disk) fn freeze(&self) -> Result<()> {
        let number = self.with_store(|store| Ok(store.databases.newest.number))?;
        let fresh = next_generation(&self.ground(), number + 1)?;
        self.space.grow(fresh.bytes());
        let mut state = self.state.write();
        let Some(store) = state.as_mut() else { return Ok(()) };
        let frozen = std::mem::replace(&mut store.databases.newest, fresh);
        store.databases.frozen = Some(frozen);
        Ok(())
    }

    /// Begins to compact the frozen database, if there is one, together with the sorted runs in
    /// `retire`. Rows of those that are evicted must be in no journal, so this may make a
    /// checkpoint.
    ///
    /// Without a frozen database, only one sorted run is rewritten. It keeps its number, so its
    /// rows stay newer or older than others as before.
    ///
    /// At most `room` bytes of rows that were read are copied.
    pub(in crate::disk) fn begin_repack(
        &self,
        retire: &[(u64, Carry)],
        room: u64,
    ) -> Result<Option<CompactionJob>> {
        self.with_store(|store| {
            let Databases { frozen, packs, .. } = &store.databases;
            let find = |number| packs.iter().find(|pack| pack.number == number);
            let named = |(number, carry): &(u64, Carry)| find(*number).map(|pack| (pack, *carry));
            let most = if frozen.is_some() { usize::MAX } else { 1 };
            let retire: Vec<_> = retire.iter().filter_map(named).take(most).collect();
            if retire.iter().any(|(pack, _)| !store.journal.is_dropped(pack.journal)) {
                store.checkpoint()?;
            }
            let of_frozen = frozen.as_ref().map(|frozen| frozen.number);
            let of_packs = retire.first().map(|(pack, _)| pack.number);
            let Some(number) = of_frozen.or(of_packs) else { return Ok(None) };
            let draft = RunWriter::create(&self.layout, number, &self.space)?;
            CompactionJob::begin(draft, frozen.as_ref(), &retire, room).map(Some)
        })
    }

    /// Continues a compaction for `rows` rows. Puts the sorted run in place when it is complete.
    pub(in crate::disk) fn go_on(&self, upkeep: &mut Option<CompactionJob>, rows: u64) -> Result<()> {
        let Some(mut repack) = upkeep.take() else { return Ok(()) };
        if self.with_store(|store| repack.step(store, rows))? {
            return self.put_in_place(repack);
        }
        *upkeep = Some(repack);
        Ok(())
    }

    /// Puts a finished sorted run in place of its sources.
    ///
    /// Sources are deleted before they leave the list of places, because the removal of a row in an
    /// unlisted place is not recorded. After the run has its final name, no source may be dropped
    /// without that deletion: a source that cannot be deleted stays in the list, below the new run.
    fn put_in_place(&self, repack: CompactionJob) -> Result<()> {
        self.reaper.settle()?;
        let durability = self.marker.durability();
        let sync_names = || if durability == Durability::Synced { self.layout.sync_names() } else { Ok(()) };
        sync_names()?;
        let (draft, replaced) = repack.end();
        let pack = draft.finish(durability)?;
        let number = pack.as_ref().map(|pack| pack.number);
        let mut done = sync_names();
        let takes_frozen = replaced.frozen && done.is_ok();
        let mut retired = Vec::new();
        for pack in replaced.retired {
            // The rename of the new run replaced an old run of the same number.
            let is_replaced = Some(pack.number) == number;
            if !is_replaced {
                done = done.and_then(|()| remove_file(pack.path())).and_then(|()| sync_names());
            }
            if is_replaced || done.is_ok() {
                retired.push(pack);
            }
        }
        let frozen = {
            let mut state = self.state.write();
            let Some(store) = state.as_mut() else { return Ok(()) };
            let frozen = if takes_frozen { store.databases.frozen.take() } else { None };
            let of_frozen = frozen.as_ref().map(|frozen| &frozen.counts);
            let pack = pack.map(|mut pack| {
                of_frozen.into_iter().for_each(|counts| pack.counts.absorb(counts));
                retired.iter().for_each(|retired| pack.counts.absorb(&retired.carried()));
                pack.journal = store.journal.number();
                pack.is_rest = !replaced.frozen;
                Arc::new(pack)
            });
            store.databases.replace(&retired, pack);
            frozen
        };
        for retired in retired {
            self.space.shrink(rounded(retired.len()));
            let evicted = retired.counts.live().saturating_sub(retired.carried().live());
            self.evictions.fetch_add(evicted, Ordering::Relaxed);
        }
        frozen.map_or(Ok(()), |frozen| self.reaper.take(frozen))?;
        if number.is_none() {
            // No sorted run has the number of the database, so the database must be deleted at once.
            done = done.and_then(|()| self.reaper.settle());
        }
        // The counts are no longer exact. Opening the store again counts all rows.
        done.inspect_err(|_| self.suspect.store(true, Ordering::Release))
    }

    fn drop_database(&self, generation: Generation) -> Result<()> {
        let bytes = generation.bytes();
        drop_generation(&self.layout, generation)?;
        self.space.shrink(bytes);
        Ok(())
    }

    /// Evicts a segment and the rows that point to it. Frames chosen by `carry` are copied to the
    /// active segment.
    pub(in crate::disk) fn drop_segment(&self, number: u64, carry: Carry) -> Result<()> {
        self.with_store(|store| {
            let Some(segment) = store.segments.segment(number) else { return Ok(()) };
            let mut allowance = if carry == Carry::Named { u64::MAX } else { segment.len() / 2 };
            let drop_row = |row: &IVec| -> Result<()> {
                let _stripe = store.lock(row);
                let Some(pointer) = pointer_into(store, row, number)? else { return Ok(()) };
                let wanted = carry == Carry::Named || segment.was_read(pointer.offset);
                if wanted && pointer.len <= allowance && carry_frame(store, &segment, row, pointer) {
                    allowance -= pointer.len;
                } else if store.forget(row)? {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let rows = segment.take_rows();
            let dropped = rows.iter().rev().try_for_each(drop_row);
            if let Err(error) = dropped.and_then(|()| store.journal.settle()) {
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
    pub(in crate::disk) fn start_anew(&self) -> Result<()> {
        let mut upkeep = self.upkeep.write();
        self.reaper.settle()?;
        let number = self.with_store(|store| {
            store.segments.delete_sealed();
            Ok(store.databases.newest.number)
        })?;
        let newest = next_generation(&self.ground(), number + 1)?;
        let bytes = newest.bytes();
        let Some(former) = self.replace_store(Databases::of(newest))? else { return Ok(()) };
        *upkeep = None;
        self.space.grow(bytes);
        former.segments.delete_all();
        let Databases { newest, frozen, packs } = former.databases;
        let mut dropped = Ok(());
        for pack in packs.iter().rev() {
            let gone = remove_file(pack.path()).map(|()| self.space.shrink(rounded(pack.len())));
            dropped = dropped.and(gone);
        }
        for generation in frozen.into_iter().chain([newest]) {
            dropped = dropped.and(self.drop_database(generation));
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
            drop_generation(&self.layout, databases.newest)?;
            return Err(error);
        }
        let (next, journal) = (former.segments.next(), Arc::clone(&former.journal));
        let segments = Segments::empty(self.layout.clone(), self.space.clone(), next);
        Ok(state.replace(Store::new(databases, segments, journal)))
    }
}

/// The pointer of a row, if it points into segment `number`.
fn pointer_into(store: &Store, row: &[u8], number: u64) -> Result<Option<Pointer>> {
    let value = store.databases.get(row)?;
    Ok(value.as_deref().and_then(Row::pointer).filter(|pointer| pointer.segment == number))
}

/// Copies a frame to the active segment. Returns false if it cannot be read or written; the caller
/// drops the entry then.
fn carry_frame(store: &Store, segment: &Segment, row: &[u8], pointer: Pointer) -> bool {
    let Ok(Some(frame)) = segment.read(pointer.offset, pointer.len) else { return false };
    store.put_record(row, &frame, &[]).map(|replaced| store.release(replaced)).is_ok()
}
