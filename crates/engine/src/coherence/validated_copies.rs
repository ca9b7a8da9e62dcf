//! Copies in memory of entries that other processes change.
//!
//! A tier that other processes write to has stamps: a number an entry that
//! changes with every change by anyone. Then memory never answers by itself. A
//! copy is taken when an entry is read, with the stamp from before the read, and
//! serves as long as the stamp is still that one. Writes leave none lagging.

use larder_core::clock::Time;
use larder_core::entry_meta::{EntryMeta, Freshness};
use larder_core::erased::Value;
use larder_core::frame::{CodecId, Compression, Header};
use larder_core::key::EncodedKey;
use larder_core::memory::Record;
use larder_core::tier::{EntryVersion, TierKind};

use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::{Decoded, TierStack};

impl Engine {
    /// The stamp of `key` now, where a tier has stamps.
    pub(crate) fn stamp(&self, key: &EncodedKey) -> Option<EntryVersion> {
        let stamping = |handle: &&crate::TierHandle| handle.facts().capability.stamps;
        self.tiers().iter().find(stamping)?.inner().stamp(key)
    }

    /// The key of a load that begins now: what another process stores or
    /// removes meanwhile wins over it.
    pub(crate) fn based_on_now(&self, key: EncodedKey) -> EncodedKey {
        if !self.stamps {
            return key;
        }
        let stamp = self.stamp(&key).unwrap_or(EntryVersion::NONE);
        key.based_on(stamp)
    }

    /// The copy of `key` in memory, if it still has this stamp.
    pub(crate) fn checked_copy(
        &self,
        stack: &TierStack,
        key: &EncodedKey,
        stamp: Option<EntryVersion>,
    ) -> Option<Found> {
        let native = stack.keys.decode(key.as_bytes()).ok()?;
        let record = self.memory.get(&native)?;
        if stamp.is_none() || record.checked != stamp || self.freshness(&record) != Freshness::Fresh {
            return None;
        }
        self.memory_hits.increment();
        Some(found_in_memory(record, Freshness::Fresh))
    }
}

pub(crate) fn found_in_memory(record: Record<Value>, freshness: Freshness) -> Found {
    let terms = record.terms.map_or(EntryMeta::PLAIN, |terms| terms.current());
    let decoded =
        Decoded { value: record.value, header: header(record.created, &terms), terms, offset: None };
    Found { tier: TierKind::Memory, home: record.home, decoded, freshness, confirmed: true }
}

/// What memory knows of an entry: when it was written, and until when it lives.
fn header(created: Time, terms: &EntryMeta) -> Header {
    Header {
        codec: CodecId::Raw,
        compression: Compression::None,
        kind: larder_core::place::Kind::Other,
        schema: 0,
        shape: 0,
        created,
        deadline: terms.until(),
        stale_deadline: terms.stale_until(),
        generation: 0,
        value_len: 0,
        load_cost: None,
    }
}
