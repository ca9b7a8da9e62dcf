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
use larder_core::stats::HotCount;
use larder_core::tier::{EntryVersion, TierKind};

use crate::coherence::port::CoherencePort;
use crate::engine::Engine;
use crate::read::Found;
use crate::tier_stack::{Decoded, TierStack};
use crate::write::precondition::Precondition;

/// Processes of one machine share a tier whose versions cost no I/O.
pub(crate) struct VersionCoherence;

impl CoherencePort for VersionCoherence {
    fn confirms_copies(&self) -> bool {
        true
    }

    fn begin_copy(&self, engine: &Engine, key: &EncodedKey) -> Option<EntryVersion> {
        engine.tiers().iter().find_map(|handle| handle.versioned())?.version(key)
    }

    fn validated_copy(
        &self,
        engine: &Engine,
        stack: &TierStack,
        key: &EncodedKey,
        version: Option<EntryVersion>,
    ) -> Option<Found> {
        let native = stack.keys.decode(key.as_bytes()).ok()?;
        let record = engine.memory.get(&native)?;
        if version.is_none() || record.checked != version || engine.freshness(&record) != Freshness::Fresh {
            return None;
        }
        engine.counters.hot.increment(HotCount::Hits);
        Some(found_in_memory(record, Freshness::Fresh))
    }

    /// Other processes may have removed the entries since.
    fn lists_copies(&self) -> bool {
        false
    }

    fn reads_one_by_one(&self) -> bool {
        true
    }

    /// A change by another process during the load wins over it.
    fn precondition_now(&self, engine: &Engine, key: &EncodedKey) -> Precondition {
        Precondition::of(self.begin_copy(engine, key))
    }

    fn precondition_at_read(&self, begun: Option<EntryVersion>) -> Precondition {
        Precondition::of(begun)
    }

    /// Entries of other processes carry sequence numbers of their own, so a recorded invalidation would
    /// not fit them.
    fn records_clears(&self) -> bool {
        false
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
