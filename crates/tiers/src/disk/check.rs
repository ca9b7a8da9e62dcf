//! Verifies every frame of a tier.

use larder_core::Result;
use larder_core::tier::TierKind;
use sled::IVec;

use crate::disk::DiskTier;
use crate::disk::row::{Row, RowKey, frame_of};
use crate::disk::store::Store;
use crate::entry_check::{EntryCheck, verified_key};

impl DiskTier {
    /// Reads every entry whole, and removes those that no reader would accept: frames that are not whole,
    /// frames of another key than that of the row, and rows without a frame.
    ///
    /// Costs a read of every frame. No entry is evicted or compacted meanwhile.
    ///
    /// # Errors
    /// Rows or frames that cannot be read, and removals that cannot be written.
    pub fn remove_damaged(&self) -> Result<EntryCheck> {
        let _alone = self.compaction.write();
        let removed = self.with_store(|store| {
            let mut check = EntryCheck::default();
            let mut damaged = Vec::new();
            store.tables.each(|_, row, value| {
                let is_whole = is_whole(store, &row, value)?;
                check.count(is_whole);
                if !is_whole {
                    damaged.push(row);
                }
                Ok(())
            })?;
            for row in &damaged {
                let _stripe = store.lock(row);
                if let Some(value) = store.tables.get(row)?
                    && !is_whole(store, row, value)?
                {
                    store.remove_row(row)?;
                }
            }
            store.journal.sync_all().map(|()| check)
        });
        removed.map_err(|error| error.in_tier(TierKind::Disk).during("check"))
    }
}

fn is_whole(store: &Store, row: &[u8], value: IVec) -> Result<bool> {
    let frame = match Row::parse(&value) {
        Some(Row::Record(pointer)) => store.segments.peek(pointer, pointer.len)?,
        _ => frame_of(row, value),
    };
    let key = frame.and_then(|frame| verified_key(&frame));
    Ok(key.is_some_and(|key| RowKey::of(&key).as_ref() == row))
}
