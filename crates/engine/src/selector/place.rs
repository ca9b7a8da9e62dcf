//! Asks the selector of a cache where an entry belongs.

use std::time::Duration;

use larder_core::entry_meta::EntryMeta;
use larder_core::memory::Bounds;
use larder_core::place::{Facts, Placement, TIERS_MAX, TierFacts};
use larder_core::tier::TierKind;

use crate::engine::{Engine, OVERHEAD};
use crate::tier_stack::TierStack;

/// Returns the weight of the heaviest entry that a tiered cache places in memory: a quarter of its bytes.
pub fn weight_max(bounds: Bounds) -> u64 {
    bounds.bytes.map_or(u64::MAX, |bytes| bytes / 4).min(u64::from(u32::MAX))
}

impl Engine {
    /// Returns the facts for placing an entry of `bytes`, with the hints of the entry and of the cache.
    pub(crate) fn facts(&self, bytes: u64, load_cost: Option<Duration>, terms: &EntryMeta) -> Facts {
        self.hints.facts(bytes, load_cost, terms)
    }

    /// Returns where an entry with these facts is placed now.
    pub(crate) fn place(&self, stack: &TierStack, facts: &Facts) -> Placement {
        self.place_with(stack, facts, None)
    }

    /// As [`place`](Self::place), as if the tier `well` were healthy.
    pub(crate) fn place_with(&self, stack: &TierStack, facts: &Facts, well: Option<TierKind>) -> Placement {
        let bounds = self.memory.bounds();
        let memory = TierFacts {
            healthy: self.memory_weight_max > 0 && bounds.entries != Some(0),
            ..TierFacts::of_memory(weight_max(bounds).saturating_sub(OVERHEAD))
        };
        // Most caches have few tiers, and the large array costs more than the choice.
        let (mut few, mut many);
        let len = 1 + stack.tiers.len().min(TIERS_MAX);
        let tiers = if len <= 4 {
            few = [memory; 4];
            &mut few[..len]
        } else {
            many = [memory; TIERS_MAX + 1];
            &mut many[..len]
        };
        for (row, handle) in tiers[1..].iter_mut().zip(&stack.tiers) {
            *row = handle.facts();
            row.healthy |= well == Some(handle.kind());
        }
        stack.selector.place(facts, tiers)
    }
}
