//! The end of a write: what became of the entry, and its copy in memory.

use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::Time;
use larder_core::entry_meta::EntryMeta;
use larder_core::erased::{Key, Value};
use larder_core::events::Writer;
use larder_core::memory::Record;
use larder_core::place::Placement;
use larder_core::tier::TierKind;
use larder_core::{Error, ErrorKind, Result};

use crate::coherence::CopyTag;
use crate::engine::Engine;
use crate::key_lock::reentrancy;
use crate::write::prepared_entry::reload_cost;

/// The outcome of a write.
pub(super) struct Stored {
    /// `None` if a later change by another node won.
    pub(super) placement: Option<Placement>,
    /// Identity of the stored frame.
    pub(super) identity: u64,
    /// Sequence number of the latest invalidation when the entry was stored.
    pub(super) stamp: u64,
    /// `false` if the entry belongs in the shared tier, but other nodes do not know of it.
    pub(super) is_told: bool,
}

impl Stored {
    /// An entry that is stored at this placement, and that no other node needs to know of.
    pub(super) fn at(placement: Placement, stamp: u64) -> Self {
        Self { placement: Some(placement), identity: 0, stamp, is_told: true }
    }
}

/// The part of an entry that its copy in memory has.
pub(super) struct StoredEntry {
    /// The key as events have it.
    pub(super) name: Option<Arc<Key>>,
    pub(super) key: Key,
    pub(super) value: Option<Value>,
    pub(super) terms: EntryMeta,
    pub(super) created: Time,
    pub(super) weight: u32,
    pub(super) load_cost: Option<Duration>,
    /// Taken before the write.
    pub(super) copy_tag: Option<CopyTag>,
}

impl Engine {
    /// Reports the outcome of a write, and copies the entry into memory if its placement says so. The caller
    /// holds the guard.
    pub(super) fn end_store(
        &self,
        StoredEntry { name, key, value, terms, created, weight, load_cost, copy_tag }: StoredEntry,
        by: Writer,
        stored: Result<Stored>,
    ) -> Result<Option<Placement>> {
        let stored = stored.and_then(|stored| self.fitted(stored, weight));
        // Before the entry is in memory: from then on memory may evict it and emit that event.
        self.emit_stored(name.clone(), stored.as_ref().map(|stored| stored.placement), by);
        match stored {
            Ok(Stored { placement: Some(placement), identity, stamp, is_told }) if placement.in_memory() => {
                // Other nodes do not know of the entry, so their notices do not confirm the copy.
                let copy_tag = copy_tag.map(|copy_tag| if is_told { copy_tag } else { CopyTag::UNHEARD });
                let checked = copy_tag.and_then(|copy_tag| copy_tag.of(identity));
                let cost = reload_cost(placement.home, &placement, load_cost);
                let home = placement.home;
                let terms = self.expiry.live(&self.terms_in(home, terms, created));
                let record = Record { value, created, stamp, terms, weight, home, checked, cost };
                if !self.keep(key, record) && home == TierKind::Memory {
                    self.emit_not_kept(name, weight);
                }
                Ok(Some(placement))
            }
            outcome => {
                self.discard(&key);
                reentrancy::within(|| drop((key, value)));
                outcome.map(|stored| stored.placement).inspect_err(|_| self.counters.dropped.increment())
            }
        }
    }

    /// Drops the copy in memory from the placement if memory cannot hold the entry.
    ///
    /// # Errors
    /// If memory is the home and cannot hold the entry.
    fn fitted(&self, stored: Stored, weight: u32) -> Result<Stored> {
        match stored.placement {
            Some(placement) if placement.in_memory() && !self.fits_memory(weight) => {
                if placement.home == TierKind::Memory {
                    return Err(self.too_heavy(weight));
                }
                let placement = Placement { copy_in_memory: false, ..placement };
                Ok(Stored { placement: Some(placement), ..stored })
            }
            _ => Ok(stored),
        }
    }

    fn too_heavy(&self, weight: u32) -> Error {
        let max = self.memory.bounds().bytes.unwrap_or(0);
        let message = format!("the entry has {weight} bytes; `memory_bytes` allows {max} for all entries");
        Error::new(ErrorKind::TooLarge, message).in_tier(TierKind::Memory).during("put")
    }

    /// Returns the metadata of the copy in memory of an entry that is at home in this tier.
    fn terms_in(&self, home: TierKind, terms: EntryMeta, created: Time) -> EntryMeta {
        let handle = self.stack.as_ref().and_then(|stack| stack.tier(home));
        match handle {
            Some(handle) => handle.cap(terms, created),
            None => terms,
        }
    }
}
