//! The limits and the accounting of a store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use larder_core::memory::Bounds;
use larder_core::tier::Usage;

/// The limits of a store and its exact accounting, shared by all shards.
pub(super) struct Budget {
    entries_max: AtomicU64,
    bytes_max: AtomicU64,
    entries: AtomicU64,
    /// Stays zero unless bytes are counted.
    bytes: AtomicU64,
    counts_bytes: AtomicBool,
}

impl Budget {
    pub(super) fn new(bounds: Bounds) -> Self {
        let budget = Self {
            entries_max: AtomicU64::new(0),
            bytes_max: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            counts_bytes: AtomicBool::new(bounds.bytes.is_some()),
        };
        budget.set(bounds);
        budget
    }

    /// Whether the budget counts bytes: once there was a limit of bytes.
    pub(super) fn counts_bytes(&self) -> bool {
        self.counts_bytes.load(Relaxed)
    }

    /// Counts bytes from now on. `bytes` are those of all records; the caller has locked all shards.
    pub(super) fn count_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
        self.counts_bytes.store(true, Relaxed);
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
        self.account().is_exceeded()
    }

    /// Begins an operation on one shard, which is locked until the account is dropped.
    #[inline]
    pub(super) fn account(&self) -> Account<'_> {
        Account { budget: self, entries: 0, bytes: 0 }
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }

    /// About how many entries fit; under a byte limit, by the current mean weight.
    pub(super) fn capacity(&self) -> u64 {
        let entries = self.entries.load(Relaxed).max(1);
        let weight = (self.bytes.load(Relaxed) / entries).max(1);
        (self.bytes_max.load(Relaxed) / weight).min(self.entries_max.load(Relaxed)).max(1)
    }

    /// The usage, given the number of evictions.
    pub(super) fn usage(&self, evictions: u64) -> Usage {
        // A store that is limited only by entries does not know their weights in bytes.
        let bytes = if self.bytes_max.load(Relaxed) == u64::MAX { 0 } else { self.bytes.load(Relaxed) };
        Usage { entries: self.entries(), bytes, evictions }
    }
}

/// What one operation on a shard adds and removes. Entered into the budget at its end, so that an insert that
/// evicts an entry of the same weight changes nothing there.
pub(super) struct Account<'a> {
    budget: &'a Budget,
    /// Entries and bytes added; two's complement if more were removed.
    entries: u64,
    bytes: u64,
}

impl Account<'_> {
    #[inline]
    pub(super) fn add(&mut self, weight: u32) {
        self.entries = self.entries.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(weight));
    }

    #[inline]
    pub(super) fn subtract(&mut self, entries: u64, bytes: u64) {
        self.entries = self.entries.wrapping_sub(entries);
        self.bytes = self.bytes.wrapping_sub(bytes);
    }

    pub(super) fn reweigh(&mut self, from: u32, to: u32) {
        self.bytes = self.bytes.wrapping_add(u64::from(to)).wrapping_sub(u64::from(from));
    }

    /// Entries of the whole store, this operation included.
    #[inline]
    pub(super) fn entries(&self) -> u64 {
        self.budget.entries.load(Relaxed).wrapping_add(self.entries)
    }

    /// Whether a limit is exceeded, this operation included.
    #[inline]
    pub(super) fn is_exceeded(&self) -> bool {
        let bytes = self.budget.bytes.load(Relaxed).wrapping_add(self.bytes);
        self.entries() > self.budget.entries_max.load(Relaxed) || bytes > self.budget.bytes_max.load(Relaxed)
    }
}

impl Drop for Account<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.entries != 0 {
            self.budget.entries.fetch_add(self.entries, Relaxed);
        }
        if self.bytes != 0 && self.budget.counts_bytes() {
            self.budget.bytes.fetch_add(self.bytes, Relaxed);
        }
    }
}
