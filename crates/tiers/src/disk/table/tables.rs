//! All rows: the memtable that takes writes, the frozen one, and the sorted runs.
//!
//! The newest memtable takes writes. The frozen memtable takes no more writes and is being compacted into a
//! sorted run. The sorted runs hold the rows of earlier memtables.
//!
//! - The valid row is the one in the first place that has it, in this order: newest, frozen, sorted
//!   runs by descending number. Rows of the same key in later places are dead.
//! - The frozen memtable and the sorted runs are immutable. A row in them is removed by a tombstone
//!   in the newest memtable. Compaction drops a tombstone when no older place has the row.
//! - The caller changes a row under its stripe lock. Readers hold no stripe lock. Places are added
//!   and removed only under `state`.
//! - Each place counts the valid rows in it.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::counts::Counts;
use crate::disk::journal::record::Tally;
use crate::disk::row::REMOVED;
use crate::disk::run::filter;
use crate::disk::run::merge::Merge;
use crate::disk::run::sorted_run::{Found, SortedRun};
use crate::disk::table::memtable::Memtable;

/// All places that have rows.
pub(in crate::disk) struct Tables {
    /// Takes writes.
    pub(in crate::disk) newest: Memtable,
    /// Read-only, until its rows are in a sorted run.
    pub(in crate::disk) frozen: Option<Memtable>,
    /// Sorted runs, highest number first.
    pub(in crate::disk) runs: Vec<Arc<SortedRun>>,
}

/// Where a valid row is, other than in the newest memtable.
enum Place<'a> {
    Frozen(&'a Memtable),
    SortedRun(&'a SortedRun, u32),
}

impl Place<'_> {
    fn leave(&self, row: &[u8], value: &[u8]) {
        match self {
            Self::Frozen(frozen) => frozen.counts.subtract(row, value),
            Self::SortedRun(run, ordinal) => run.leave(*ordinal, row, value),
        }
    }
}

impl Tables {
    /// The rows of one memtable, without others before it.
    pub(in crate::disk) fn of(newest: Memtable) -> Self {
        Self { newest, frozen: None, runs: Vec::new() }
    }

    /// The valid value of a row.
    pub(in crate::disk) fn get(&self, row: &[u8]) -> Result<Option<IVec>> {
        match self.newest.get(row) {
            Some(value) => Ok(present(value)),
            None => Ok(self.find_below_newest(row)?.map(|(_, value)| value)),
        }
    }

    /// The valid value of a row. Marks the row as read.
    pub(in crate::disk) fn read(&self, row: &[u8]) -> Result<Option<IVec>> {
        if let Some(value) = self.newest.get(row) {
            return Ok(present(value));
        }
        let Some((place, value)) = self.find_below_newest(row)? else { return Ok(None) };
        if let Place::SortedRun(run, ordinal) = place {
            run.mark_read(ordinal);
        }
        Ok(Some(value))
    }

    /// Returns whether the row exists.
    pub(in crate::disk) fn contains(&self, row: &[u8]) -> Result<bool> {
        Ok(self.get(row)?.is_some())
    }

    /// Finds the row that is valid if the newest memtable does not have it.
    fn find_below_newest(&self, row: &[u8]) -> Result<Option<(Place<'_>, IVec)>> {
        if let Some(frozen) = &self.frozen
            && let Some(value) = frozen.get(row)
        {
            return Ok(present(value).map(|value| (Place::Frozen(frozen), value)));
        }
        let Some((run, Found { ordinal, value })) = find(&self.runs, row)? else { return Ok(None) };
        Ok(present(value).map(|value| (Place::SortedRun(run, ordinal), value)))
    }

    /// Returns whether the frozen memtable has the row, valid or not.
    fn frozen_has(&self, row: &[u8]) -> bool {
        self.frozen.as_ref().is_some_and(|frozen| frozen.contains(row))
    }

    /// Returns whether the frozen memtable or a sorted run may have the row, valid or not.
    fn may_be_below(&self, row: &[u8]) -> bool {
        self.frozen_has(row) || !self.runs.is_empty() && self.runs_may_hold(row, |_| true)
    }

    /// Returns whether one of the sorted runs that `which` accepts may have the row, valid or not.
    pub(in crate::disk) fn runs_may_hold(&self, row: &[u8], which: impl Fn(&SortedRun) -> bool) -> bool {
        let hash = filter::hash(row);
        self.runs.iter().any(|run| which(run) && run.may_hold(hash))
    }

    /// Returns whether a newer place than sorted run `number` has the row, so that it is dead in
    /// that run.
    pub(in crate::disk) fn is_shadowed(&self, row: &[u8], number: u64) -> Result<bool> {
        if self.newest.contains(row) || self.frozen_has(row) {
            return Ok(true);
        }
        let newer = self.runs.partition_point(|run| run.number > number);
        Ok(find(&self.runs[..newer], row)?.is_some())
    }

    /// Sets a row. Returns its former valid value.
    pub(in crate::disk) fn insert(&self, row: &[u8], value: impl Into<IVec>) -> Result<Option<IVec>> {
        let value = value.into();
        let replaced = self.newest.insert(row, value.clone());
        self.newest.counts.add(row, &value);
        self.uncount_former(row, replaced)
    }

    /// Deletes a row in all places, with a tombstone if an older place may have it. Returns its
    /// former valid value.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<Option<IVec>> {
        let removed = if self.may_be_below(row) {
            self.newest.insert(row, REMOVED.into())
        } else {
            self.newest.remove(row)
        };
        self.uncount_former(row, removed)
    }

    /// Stops counting the former valid row, which was in the newest memtable or in an older place.
    /// Returns its value.
    fn uncount_former(&self, row: &[u8], of_newest: Option<IVec>) -> Result<Option<IVec>> {
        match of_newest.map(present) {
            Some(former) => {
                former.iter().for_each(|former| self.newest.counts.subtract(row, former));
                Ok(former)
            }
            None => Ok(self.find_below_newest(row)?.map(|(place, value)| {
                place.leave(row, &value);
                value
            })),
        }
    }

    /// Number of valid rows in all places.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.each_counts().map(Counts::live).sum()
    }

    /// Bytes of all sorted runs.
    pub(in crate::disk) fn run_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.len()).sum()
    }

    /// The newest memtable, then the frozen one.
    pub(in crate::disk) fn each_memtable(&self) -> impl Iterator<Item = &Memtable> {
        std::iter::once(&self.newest).chain(&self.frozen)
    }

    /// The counts of all places, in the order of look-up.
    pub(in crate::disk) fn each_counts(&self) -> impl Iterator<Item = &Counts> {
        let memtables = self.each_memtable().map(|memtable| &memtable.counts);
        memtables.chain(self.runs.iter().map(|run| &run.counts))
    }

    /// Removes the sorted runs `replaced`, and adds `run`.
    pub(in crate::disk) fn replace(&mut self, replaced: &[Arc<SortedRun>], run: Option<Arc<SortedRun>>) {
        self.runs.retain(|run| !replaced.iter().any(|replaced| Arc::ptr_eq(replaced, run)));
        self.runs.extend(run);
        self.runs.sort_by_key(|run| std::cmp::Reverse(run.number));
    }

    /// Calls `visit` with each valid row, its value, and the counts of its place. No place may be
    /// added or removed meanwhile.
    pub(in crate::disk) fn each(
        &self,
        mut visit: impl FnMut(&Counts, IVec, IVec) -> Result<()>,
    ) -> Result<()> {
        let counts: Vec<&Counts> = self.each_counts().collect();
        let mut merge = Merge::new(self)?;
        while let Some((place, row, value)) = merge.next()? {
            if let (Some(value), Some(counts)) = (present(value), counts.get(place)) {
                visit(counts, row, value)?;
            }
        }
        Ok(())
    }

    /// The number and the checksum of all valid rows, which the next open compares.
    pub(in crate::disk) fn tally(&self) -> Tally {
        let sums = self.each_counts().map(Counts::sum);
        Tally { rows: self.live(), sum: sums.fold(0, u64::wrapping_add) }
    }
}

/// Finds a row in the first sorted run that has it.
fn find<'a>(runs: &'a [Arc<SortedRun>], row: &[u8]) -> Result<Option<(&'a SortedRun, Found)>> {
    if runs.is_empty() {
        return Ok(None);
    }
    let hash = filter::hash(row);
    for run in runs {
        if let Some(found) = run.find(row, hash)? {
            return Ok(Some((run, found)));
        }
    }
    Ok(None)
}

/// The value, or `None` for a tombstone.
fn present(value: IVec) -> Option<IVec> {
    (&*value != REMOVED).then_some(value)
}
