//! Copies in memory that are validated by the version of the entry, for tiers that other
//! processes write to.
//!
//! Such a tier keeps a version for each entry, which every change by any process changes.
//! Memory then never answers by itself. A copy is made when an entry is read, with the
//! version from before the read. It serves while the tier still reports that version. A
//! write leaves no outdated copy behind.

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
use crate::write::precondition::Precondition;

impl Engine {
    /// Returns the current version of `key`, if a tier has versions.
    pub(crate) fn version(&self, key: &EncodedKey) -> Option<EntryVersion> {
        self.tiers().iter().find_map(|handle| handle.versioned())?.version(key)
    }

    /// Returns the precondition of a load that begins now. A change by another process
    /// during the load wins over it.
    pub(crate) fn precondition_now(&self, key: &EncodedKey) -> Precondition {
        match self.has_versions {
            true => Precondition::of(self.version(key)),
            false => Precondition::None,
        }
    }

    /// Returns the copy of `key` in memory, if it still has this version and is fresh.
    pub(crate) fn checked_copy(
        &self,
        stack: &TierStack,
        key: &EncodedKey,
        version: Option<EntryVersion>,
    ) -> Option<Found> {
        let native = stack.keys.decode(key.as_bytes()).ok()?;
        let record = self.memory.get(&native)?;
        if version.is_none() || record.checked != version || self.freshness(&record) != Freshness::Fresh {
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

/// Returns a frame header with what memory knows of an entry: when it was written, and
/// its deadlines.
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
