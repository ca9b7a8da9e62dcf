//! Two generations of databases: the newest takes writes, the older one is
//! still read.
//!
//! - The row in the newest is the valid one; a row in the older one is valid
//!   only where the newest has none. Moving a row to the newest leaves the old
//!   row in place, so that a reader on its way from one to the other cannot
//!   miss it.
//! - Whoever changes a row holds its stripe, given by the caller. Readers hold none.
//! - `live` counts an entry in the generation of its valid row. Dropping the
//!   older generation therefore loses exactly its `live` entries.

use std::sync::atomic::Ordering;

use larder_core::Result;
use sled::IVec;

use super::generation::Generation;
use super::record::Tally;

/// The newest generation and the one before.
pub(super) struct Databases {
    /// Takes writes.
    pub(super) newest: Generation,
    /// Is read until it is dropped.
    pub(super) older: Option<Generation>,
}

impl Databases {
    /// The valid value of a row.
    pub(super) fn get(&self, row: &[u8]) -> Result<Option<IVec>> {
        match self.newest.get(row)? {
            Some(value) => Ok(Some(value)),
            None => self.get_older(row),
        }
    }

    /// Whether a row is there.
    pub(super) fn contains(&self, row: &[u8]) -> Result<bool> {
        Ok(self.newest.contains(row)?
            || self.older.as_ref().map_or(Ok(false), |older| older.contains(row))?)
    }

    /// The value in the older generation, valid or not.
    pub(super) fn get_older(&self, row: &[u8]) -> Result<Option<IVec>> {
        self.older.as_ref().map_or(Ok(None), |older| older.get(row))
    }

    /// Sets a row; returns its former valid value.
    pub(super) fn insert(&self, row: &[u8], value: impl Into<IVec>) -> Result<Option<IVec>> {
        let value = value.into();
        let replaced = self.newest.insert(row, value.clone())?;
        self.newest.enter(row, &value);
        if let Some(replaced) = replaced {
            self.newest.leave(row, &replaced);
            return Ok(Some(replaced));
        }
        let shadowed = self.get_older(row)?;
        self.leave_older(row, shadowed.as_ref());
        Ok(shadowed)
    }

    /// Deletes a row from both generations; returns its former valid value.
    ///
    /// The older one goes first: were the newest row gone alone, a row that
    /// was overwritten long ago would be valid for a moment.
    pub(super) fn remove(&self, row: &[u8]) -> Result<Option<IVec>> {
        let shadowed = self.older.as_ref().map_or(Ok(None), |older| older.remove(row))?;
        let removed = self.newest.remove(row)?;
        match &removed {
            Some(removed) => self.newest.leave(row, removed),
            None => self.leave_older(row, shadowed.as_ref()),
        }
        Ok(removed.or(shadowed))
    }

    /// Moves a row that is valid in the older generation to the newest.
    pub(super) fn promote(&self, row: &[u8]) -> Result<()> {
        let Some(value) = self.get_older(row)? else { return Ok(()) };
        if self.newest.insert_if_absent(row, value.clone())? {
            self.newest.enter(row, &value);
            self.leave_older(row, Some(&value));
        }
        Ok(())
    }

    /// Entries in both.
    pub(super) fn live(&self) -> u64 {
        self.each_generation().map(|generation| generation.live.load(Ordering::Acquire)).sum()
    }

    /// Bytes of both, when they were last measured.
    pub(super) fn bytes(&self) -> u64 {
        self.each_generation().map(Generation::bytes).sum()
    }

    /// The older one, then the newest.
    pub(super) fn each_generation(&self) -> impl Iterator<Item = &Generation> {
        self.older.iter().chain(std::iter::once(&self.newest))
    }

    /// Calls `visit` with every row that is valid, and its value. Rows must
    /// not move from one generation to the other meanwhile.
    pub(super) fn each(&self, mut visit: impl FnMut(IVec, IVec) -> Result<()>) -> Result<()> {
        if let Some(older) = &self.older {
            older.each(|row, value| if self.newest.contains(&row)? { Ok(()) } else { visit(row, value) })?;
        }
        self.newest.each(visit)
    }

    /// What both have, to be known again.
    pub(super) fn tally(&self) -> Tally {
        let sums = self.each_generation().map(Generation::sum);
        Tally { rows: self.live(), sum: sums.fold(0, u64::wrapping_add) }
    }

    fn leave_older(&self, row: &[u8], value: Option<&IVec>) {
        if let (Some(older), Some(value)) = (&self.older, value) {
            older.leave(row, value);
        }
    }
}
