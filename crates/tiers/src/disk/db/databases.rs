//! Where rows are: the newest database takes writes; the one before is *frozen*
//! and being packed; packs hold what was in those before.
//!
//! - A row is valid in the first place that has it, in the order newest, frozen,
//!   packs from the highest number to the lowest. What others have of it is dead.
//! - Frozen and packs never change. A row that they have is removed by a row in the
//!   newest that says so; it goes when nothing older has the row.
//! - Whoever changes a row holds its stripe, given by the caller. Readers hold none:
//!   places come and go under `state` alone.
//! - Each place counts the rows that are valid there.

use std::sync::Arc;

use larder_core::Result;
use sled::IVec;

use crate::disk::counts::Counts;
use crate::disk::db::database::Generation;
use crate::disk::journal::record::Tally;
use crate::disk::row::REMOVED;
use crate::disk::run::filter;
use crate::disk::run::merge::Merge;
use crate::disk::run::sorted_run::{Found, SortedRun};

/// All that has rows.
pub(in crate::disk) struct Databases {
    /// Takes writes.
    pub(in crate::disk) newest: Generation,
    /// Is read until it is packed.
    pub(in crate::disk) frozen: Option<Generation>,
    /// Highest number first.
    pub(in crate::disk) packs: Vec<Arc<SortedRun>>,
}

/// Where a valid row is.
enum Place<'a> {
    Frozen(&'a Generation),
    SortedRun(&'a SortedRun, u32),
}

impl Place<'_> {
    fn leave(&self, row: &[u8], value: &[u8]) {
        match self {
            Self::Frozen(frozen) => frozen.counts.leave(row, value),
            Self::SortedRun(pack, ordinal) => pack.leave(*ordinal, row, value),
        }
    }
}

impl Databases {
    /// A database and nothing before it.
    pub(in crate::disk) fn of(newest: Generation) -> Self {
        Self { newest, frozen: None, packs: Vec::new() }
    }

    /// The valid value of a row.
    pub(in crate::disk) fn get(&self, row: &[u8]) -> Result<Option<IVec>> {
        match self.newest.get(row)? {
            Some(value) => Ok(present(value)),
            None => Ok(self.below(row)?.map(|(_, value)| value)),
        }
    }

    /// The same, and that it was read.
    pub(in crate::disk) fn read(&self, row: &[u8]) -> Result<Option<IVec>> {
        if let Some(value) = self.newest.get(row)? {
            return Ok(present(value));
        }
        let Some((place, value)) = self.below(row)? else { return Ok(None) };
        if let Place::SortedRun(pack, ordinal) = place {
            pack.mark(ordinal);
        }
        Ok(Some(value))
    }

    /// Whether a row is there.
    pub(in crate::disk) fn contains(&self, row: &[u8]) -> Result<bool> {
        Ok(self.get(row)?.is_some())
    }

    /// Where the row is that is valid if the newest has none.
    fn below(&self, row: &[u8]) -> Result<Option<(Place<'_>, IVec)>> {
        if let Some(frozen) = &self.frozen
            && let Some(value) = frozen.get(row)?
        {
            return Ok(present(value).map(|value| (Place::Frozen(frozen), value)));
        }
        let Some((pack, Found { ordinal, value })) = find(&self.packs, row)? else { return Ok(None) };
        Ok(present(value).map(|value| (Place::SortedRun(pack, ordinal), value)))
    }

    /// Whether frozen has the row, valid or not.
    fn frozen_has(&self, row: &[u8]) -> Result<bool> {
        self.frozen.as_ref().map_or(Ok(false), |frozen| frozen.contains(row))
    }

    /// Whether frozen or a pack may have the row, valid or not.
    fn may_be_below(&self, row: &[u8]) -> Result<bool> {
        Ok(self.frozen_has(row)? || !self.packs.is_empty() && self.packs_may_hold(row, |_| true))
    }

    /// Whether one of these packs may have the row, valid or not.
    pub(in crate::disk) fn packs_may_hold(&self, row: &[u8], which: impl Fn(&SortedRun) -> bool) -> bool {
        let hash = filter::hash(row);
        self.packs.iter().any(|pack| which(pack) && pack.may_hold(hash))
    }

    /// Whether what a pack has of a row is dead, as something newer has the row too.
    pub(in crate::disk) fn is_shadowed(&self, row: &[u8], number: u64) -> Result<bool> {
        if self.newest.contains(row)? || self.frozen_has(row)? {
            return Ok(true);
        }
        let newer = self.packs.partition_point(|pack| pack.number > number);
        Ok(find(&self.packs[..newer], row)?.is_some())
    }

    /// Sets a row; returns its former valid value.
    pub(in crate::disk) fn insert(&self, row: &[u8], value: impl Into<IVec>) -> Result<Option<IVec>> {
        let value = value.into();
        let replaced = self.newest.insert(row, value.clone())?;
        self.newest.counts.enter(row, &value);
        self.left(row, replaced)
    }

    /// Deletes a row everywhere; returns its former valid value.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Result<Option<IVec>> {
        let removed = if self.may_be_below(row)? {
            self.newest.insert(row, REMOVED)?
        } else {
            self.newest.remove(row)?
        };
        self.left(row, removed)
    }

    /// Counts a former row no more, which the newest had or something older.
    fn left(&self, row: &[u8], of_newest: Option<IVec>) -> Result<Option<IVec>> {
        match of_newest.map(present) {
            Some(former) => {
                former.iter().for_each(|former| self.newest.counts.leave(row, former));
                Ok(former)
            }
            None => Ok(self.below(row)?.map(|(place, value)| {
                place.leave(row, &value);
                value
            })),
        }
    }

    /// Entries in all places.
    pub(in crate::disk) fn live(&self) -> u64 {
        self.each_counts().map(Counts::live).sum()
    }

    /// Bytes of the databases, when they were last measured.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.each_generation().map(Generation::bytes).sum()
    }

    /// Bytes of all packs.
    pub(in crate::disk) fn pack_bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.len()).sum()
    }

    /// The newest, then the frozen one.
    pub(in crate::disk) fn each_generation(&self) -> impl Iterator<Item = &Generation> {
        std::iter::once(&self.newest).chain(&self.frozen)
    }

    /// The counts of all places, in the order in which they are looked at.
    pub(in crate::disk) fn each_counts(&self) -> impl Iterator<Item = &Counts> {
        let generations = self.each_generation().map(|generation| &generation.counts);
        generations.chain(self.packs.iter().map(|pack| &pack.counts))
    }

    /// Puts a pack in its place, and takes others away.
    pub(in crate::disk) fn replace(&mut self, retired: &[Arc<SortedRun>], pack: Option<Arc<SortedRun>>) {
        self.packs.retain(|pack| !retired.iter().any(|retired| Arc::ptr_eq(retired, pack)));
        self.packs.extend(pack);
        self.packs.sort_by_key(|pack| std::cmp::Reverse(pack.number));
    }

    /// Calls `visit` with every row that is valid, its value, and the counts of
    /// where it is. Places must not come or go meanwhile.
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

    /// What all of them have, to be known again.
    pub(in crate::disk) fn tally(&self) -> Tally {
        let sums = self.each_counts().map(Counts::sum);
        Tally { rows: self.live(), sum: sums.fold(0, u64::wrapping_add) }
    }
}

/// The first of these packs that has the row.
fn find<'a>(packs: &'a [Arc<SortedRun>], row: &[u8]) -> Result<Option<(&'a SortedRun, Found)>> {
    if packs.is_empty() {
        return Ok(None);
    }
    let hash = filter::hash(row);
    for pack in packs {
        if let Some(found) = pack.find(row, hash)? {
            return Ok(Some((pack, found)));
        }
    }
    Ok(None)
}

/// A value, unless it says that the row was removed.
fn present(value: IVec) -> Option<IVec> {
    (&*value != REMOVED).then_some(value)
}
