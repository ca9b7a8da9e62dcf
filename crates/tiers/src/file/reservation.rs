//! Reservations in the disk budget.

use std::sync::Arc;

use crate::BudgetShare;

/// A reservation: bytes of a share that count as used, but are not written yet. Dropping it
/// releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    share: Arc<BudgetShare>,
    bytes: u64,
}

impl Reservation {
    /// Reserves `bytes`, if another `spare` bytes stay free. On failure, returns by how many bytes
    /// both exceed the budget.
    ///
    /// Counts before it checks. So if two tiers reserve at the same time, at least one sees the
    /// other.
    pub(super) fn reserve(share: &Arc<BudgetShare>, bytes: u64, spare: u64) -> Result<Self, u64> {
        share.grow(bytes);
        let reservation = Self { share: Arc::clone(share), bytes };
        match share.excess(spare) {
            0 => Ok(reservation),
            excess => Err(excess),
        }
    }

    /// Bytes reserved.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds the reservation `other`, of the same share.
    pub(super) fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Turns `bytes` of the reservation into permanent usage. The rest is released on drop.
    pub(super) fn commit(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskBudget;

    #[test]
    fn reservation_is_released_unless_it_is_committed() {
        let budget = DiskBudget::new(10);
        let share = Arc::new(budget.share());
        drop(Reservation::reserve(&share, 10, 0).unwrap());
        assert_eq!(share.used(), 0);
        Reservation::reserve(&share, 10, 0).unwrap().commit(4);
        assert_eq!(share.used(), 4);
        assert_eq!(Reservation::reserve(&share, 7, 0).unwrap_err(), 1);
        assert_eq!(Reservation::reserve(&share, 6, 2).unwrap_err(), 2);
        assert_eq!(share.used(), 4);
        let mut reservation = Reservation::reserve(&share, 2, 0).unwrap();
        reservation.merge(Reservation::reserve(&share, 3, 0).unwrap());
        assert_eq!((reservation.bytes(), share.used()), (5, 9));
        drop(reservation);
        assert_eq!(share.used(), 4);
    }
}
