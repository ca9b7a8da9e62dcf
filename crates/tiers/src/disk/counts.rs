//! How many entries have their valid row in one place, and a sum over them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::journal::record;

/// Counted with each change, so that the rows of a store are known again.
#[derive(Debug, Default)]
pub(in crate::disk) struct Counts {
    live: AtomicU64,
    sum: AtomicU64,
}

impl Counts {
    /// Counts a row as valid here.
    pub(in crate::disk) fn enter(&self, row: &[u8], value: &[u8]) {
        self.live.fetch_add(1, Ordering::AcqRel);
        self.sum.fetch_add(record::hash_row(row, value), Ordering::AcqRel);
    }

    /// Counts it no more.
    pub(in crate::disk) fn leave(&self, row: &[u8], value: &[u8]) {
        let less = |live: u64| Some(live.saturating_sub(1));
        let _ = self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.sum.fetch_sub(record::hash_row(row, value), Ordering::AcqRel);
    }

    /// Counts what is counted there as well.
    pub(in crate::disk) fn absorb(&self, other: &Self) {
        self.live.fetch_add(other.live(), Ordering::AcqRel);
        self.sum.fetch_add(other.sum(), Ordering::AcqRel);
    }

    /// Counts nothing, before rows are counted anew.
    pub(in crate::disk) fn clear(&self) {
        self.live.store(0, Ordering::Release);
        self.sum.store(0, Ordering::Release);
    }

    /// Valid rows.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// The sum over them; it wraps.
    pub(in crate::disk) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Acquire)
    }
}
