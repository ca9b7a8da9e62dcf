//! Counts the valid rows of one place, and a checksum over them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::journal::record::{self, Tally};

/// Number and checksum of valid rows, updated with each change. The next open compares them with
/// the rows it finds.
#[derive(Debug, Default)]
pub(in crate::disk) struct Counts {
    live: AtomicU64,
    sum: AtomicU64,
}

impl Counts {
    /// Counts a row that is now valid here.
    pub(in crate::disk) fn add(&self, row: &[u8], value: &[u8]) {
        self.live.fetch_add(1, Ordering::AcqRel);
        self.sum.fetch_add(record::hash_row(row, value), Ordering::AcqRel);
    }

    /// Stops counting a row.
    pub(in crate::disk) fn subtract(&self, row: &[u8], value: &[u8]) {
        let less = |live: u64| Some(live.saturating_sub(1));
        let _ = self.live.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
        self.sum.fetch_sub(record::hash_row(row, value), Ordering::AcqRel);
    }

    /// Adds the counts of `other`.
    pub(in crate::disk) fn add_all(&self, other: &Self) {
        self.live.fetch_add(other.live(), Ordering::AcqRel);
        self.sum.fetch_add(other.sum(), Ordering::AcqRel);
    }

    /// Sets the counts to those of a snapshot.
    pub(in crate::disk) fn set(&self, tally: Tally) {
        self.live.store(tally.rows, Ordering::Release);
        self.sum.store(tally.sum, Ordering::Release);
    }

    /// The counts, as a record of the journal has them.
    pub(in crate::disk) fn tally(&self) -> Tally {
        Tally { rows: self.live(), sum: self.sum() }
    }

    /// Resets the counts, before all rows are counted again.
    pub(in crate::disk) fn clear(&self) {
        self.live.store(0, Ordering::Release);
        self.sum.store(0, Ordering::Release);
    }

    /// Number of valid rows.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// Wrapping sum of the hashes of valid rows.
    pub(in crate::disk) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Acquire)
    }
}
