//! The limits and the accounting of a store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use larder_core::memory::Bounds;
use larder_core::tier::Usage;

/// The limits of a store and its exact accounting, shared by all shards.
pub(super) struct Budget {
    entries_max: AtomicU64,
    bytes_max: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
}

impl Budget {
    pub(super) fn new(bounds: Bounds) -> Self {
        let budget = Self {
            entries_max: AtomicU64::new(0),
            bytes_max: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        };
        budget.set(bounds);
        budget
    }

    pub(super) fn set(&self, bounds: Bounds) {
        self.entries_max.store(bounds.entries.unwrap_or(u64::MAX), Relaxed);
        self.bytes_max.store(bounds.bytes.unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn bounds(&self) -> Bounds {
        let given = |bound: &AtomicU64| Some(bound.load(Relaxed)).filter(|bound| *bound != u64::MAX);
        Bounds { entries: given(&self.entries_max), bytes: given(&self.bytes_max) }
    }

    /// Whether the store can hold a record of this weight at all.
    #[inline]
    pub(super) fn fits(&self, weight: u32) -> bool {
        u64::from(weight) <= self.bytes_max.load(Relaxed) && self.entries_max.load(Relaxed) > 0
    }

    #[inline]
    pub(super) fn is_exceeded(&self) -> bool {
        self.entries.load(Relaxed) > self.entries_max.load(Relaxed)
            || self.bytes.load(Relaxed) > self.bytes_max.load(Relaxed)
    }

    #[inline]
    pub(super) fn add(&self, weight: u32) {
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(u64::from(weight), Relaxed);
    }

    #[inline]
    pub(super) fn subtract(&self, entries: u64, bytes: u64) {
        self.entries.fetch_sub(entries, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn reweigh(&self, from: u32, to: u32) {
        self.bytes.fetch_add(u64::from(to), Relaxed);
        self.bytes.fetch_sub(u64::from(from), Relaxed);
    }

    #[inline]
    pub(super) fn count_eviction(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// About how many entries fit; under a byte limit, by the current mean weight.
    pub(super) fn capacity(&self) -> u64 {
        let entries = self.entries.load(Relaxed).max(1);
        let weight = (self.bytes.load(Relaxed) / entries).max(1);
        (self.bytes_max.load(Relaxed) / weight).min(self.entries_max.load(Relaxed))
    }

    pub(super) fn usage(&self) -> Usage {
        // A store that is limited only by entries does not know their weights in bytes.
        let bytes = if self.bytes_max.load(Relaxed) == u64::MAX { 0 } else { self.bytes.load(Relaxed) };
        Usage { entries: self.entries(), bytes, evictions: self.evictions.load(Relaxed) }
    }
}
