//! Dropping a database, a pack, a segment, or everything.

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

/// What of a segment or a pack lives on when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) enum Carry {
    /// Every frame that a row names, and every valid row.
    Named,
    /// Those that were read since they were written, up to half of all; a copy counts as unread. So each eviction frees space, and a
    /// frame that is read no more goes the next time.
    Read,
}

impl DiskTier {
    /// Freezes the newest database and begins a new one.
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

    /// Begins to pack the frozen database, if there is one, together with what is
    /// to live on of other packs. What of those is evicted must be in no journal.
    ///
    /// Without a frozen database one pack alone is written anew, and keeps its number:
    /// what others have of its rows is newer or older as before.
    ///
    /// Of what was read no more than `room` bytes are carried on.
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

    /// Goes on with a pack for so many rows; puts it in place when it is whole.
    pub(in crate::disk) fn go_on(&self, upkeep: &mut Option<CompactionJob>, rows: u64) -> Result<()> {
        let Some(mut repack) = upkeep.take() else { return Ok(()) };
        if self.with_store(|store| repack.step(store, rows))? {
            return self.put_in_place(repack);
        }
        *upkeep = Some(repack);
        Ok(())
    }

    /// What goes is deleted before it goes out of sight: a removal of a row that
    /// nobody sees is not written down. From the moment that the pack has its name
    /// nothing is given up: what could not be deleted stays in sight, below it.
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
            // One of the same number went when this one got its name.
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
            // No pack says that the database is spent: it must be gone at once.
            done = done.and_then(|()| self.reaper.settle());
        }
        // What is counted does not hold any more: opened again, it is counted anew.
        done.inspect_err(|_| self.suspect.store(true, Ordering::Release))
    }

    fn drop_database(&self, generation: Generation) -> Result<()> {
        let bytes = generation.bytes();
        drop_generation(&self.layout, generation)?;
        self.space.shrink(bytes);
        Ok(())
    }

    /// Drops a segment and every row that names it, but carries some frames
    /// to the active segment.
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

    /// Begins anew: an empty database, no segments. Sealed segments go at once,
    /// so that a full disk has room for the database. Of the rest what is older goes
    /// first, for without the newest it would show what was overwritten.
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
        // What is left is deleted before the journal forgets that it is void.
        dropped.and_then(|()| self.with_store(Store::checkpoint))
    }

    /// Begins a store with `databases` and no segments; returns the former one.
    /// From the record in the journal on, nothing of that one comes back.
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

/// Where in segment `number` the frame of a row lies, if it lies there.
fn pointer_into(store: &Store, row: &[u8], number: u64) -> Result<Option<Pointer>> {
    let value = store.databases.get(row)?;
    Ok(value.as_deref().and_then(Row::pointer).filter(|pointer| pointer.segment == number))
}

/// Copies a frame to the active segment; false when it cannot be read or
/// written, and is lost then.
fn carry_frame(store: &Store, segment: &Segment, row: &[u8], pointer: Pointer) -> bool {
    let Ok(Some(frame)) = segment.read(pointer.offset, pointer.len) else { return false };
    store.put_record(row, &frame, &[]).map(|replaced| store.release(replaced)).is_ok()
}
