//! Dropping a generation, a segment, or everything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use larder_core::{Durability, Result};

use super::DiskTier;
use super::databases::Databases;
use super::generation::Generation;
use super::recovery::{drop_generation, next_generation};
use super::row::{Pointer, Row};
use super::segment::Segment;
use super::segments::Segments;
use super::store::Store;

/// What of a segment lives on when it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    /// Every frame that a row names.
    Named,
    /// Those that were read since they were written, up to half of the
    /// segment; a copy counts as unread. So each eviction frees space, and a
    /// frame that is read no more goes the next time.
    Read,
}

impl DiskTier {
    /// Drops the older generation and begins a new one. The databases are
    /// flushed before, so that no journal speaks of a row that goes. What was not read
    /// since the last rotation is lost; pointers are not: they are few, and
    /// the bytes they name would go with them.
    pub(super) fn rotate(&self) -> Result<()> {
        let number = self.with_store(|store| {
            carry_pointers(store)?;
            store.checkpoint()?;
            Ok(store.databases.newest.number)
        })?;
        let fresh = next_generation(&self.layout, number + 1, self.cache_bytes)?;
        self.space.grow(fresh.bytes());
        match self.swap_in(fresh) {
            Some(dropped) => {
                self.evictions.fetch_add(dropped.live.load(Ordering::Acquire), Ordering::Relaxed);
                self.drop_database(dropped)
            }
            None => Ok(()),
        }
    }

    /// Makes `fresh` the newest; returns the generation that nobody reads any more.
    fn swap_in(&self, fresh: Generation) -> Option<Generation> {
        let mut state = self.state.write();
        let Some(store) = state.as_mut() else { return Some(fresh) };
        let older = std::mem::replace(&mut store.databases.newest, fresh);
        store.databases.older.replace(older)
    }

    fn drop_database(&self, generation: Generation) -> Result<()> {
        let bytes = generation.bytes();
        drop_generation(&self.layout, generation)?;
        self.space.shrink(bytes);
        Ok(())
    }

    /// Drops a segment and every row that names it, but carries some frames
    /// to the active segment.
    pub(super) fn drop_segment(&self, number: u64, carry: Carry) -> Result<()> {
        self.with_store(|store| {
            let Some(segment) = store.segments.segment(number) else { return Ok(()) };
            let mut allowance = if carry == Carry::Named { u64::MAX } else { segment.len() / 2 };
            for row in segment.take_rows().iter().rev() {
                let _stripe = store.lock(row);
                let Some(pointer) = pointer_into(store, row, number)? else { continue };
                let wanted = carry == Carry::Named || segment.was_read(pointer.offset);
                if wanted && pointer.len <= allowance && carry_frame(store, &segment, row, pointer) {
                    allowance -= pointer.len;
                } else if store.forget(row)? {
                    self.evictions.fetch_add(1, Ordering::Relaxed);
                }
            }
            store.journal.settle()?;
            store.segments.delete(number);
            Ok(())
        })
    }

    /// Begins anew: an empty database, no segments. Sealed segments go at once,
    /// so that a full disk has room for the database. Of the former ones the older database goes
    /// first, for without the newest it would show what was overwritten.
    pub(super) fn start_anew(&self) -> Result<()> {
        let _alone = self.upkeep.write();
        let number = self.with_store(|store| {
            store.segments.delete_sealed();
            Ok(store.databases.newest.number)
        })?;
        let newest = next_generation(&self.layout, number + 1, self.cache_bytes)?;
        let bytes = newest.bytes();
        let Some(former) = self.replace_store(Databases { newest, older: None })? else { return Ok(()) };
        self.space.grow(bytes);
        if let Some(older) = former.databases.older {
            self.drop_database(older)?;
        }
        self.drop_database(former.databases.newest)?;
        former.segments.delete_all();
        if self.marker.durability() == Durability::Synced {
            self.layout.sync_names()?;
        }
        self.with_store(Store::checkpoint)
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

/// Moves the pointers that are valid in the older generation to the newest.
fn carry_pointers(store: &Store) -> Result<()> {
    let Some(older) = &store.databases.older else { return Ok(()) };
    older.each(|row, value| {
        if Row::pointer(&value).is_some() {
            let _stripe = store.lock(&row);
            store.databases.promote(&row)?;
        }
        Ok(())
    })
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
