//! A memtable: the rows that changed last, in memory. The journal has the same changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use sled::IVec;

use crate::disk::counts::Counts;
use crate::disk::row;

/// Readers and writers of different shards do not wait for each other.
const SHARDS: usize = 64;

/// Bytes that a row takes in a journal beside its key and its value.
const ROW_OVERHEAD: usize = 24;

type Shard = RwLock<BTreeMap<IVec, IVec>>;

/// Rows in memory, in key order within each shard.
pub(in crate::disk) struct Memtable {
    /// Later memtables have higher numbers. The sorted run of its rows gets the same number.
    pub(in crate::disk) number: u64,
    /// Counts the entries whose valid row is in this memtable.
    pub(in crate::disk) counts: Counts,
    /// The first journal file that has its changes, but those of an earlier process.
    pub(in crate::disk) first_journal: u64,
    /// How often the marker was withdrawn before the memtable was frozen.
    pub(in crate::disk) withdrawals: u64,
    shards: Arc<[Shard]>,
    bytes: AtomicU64,
}

impl Memtable {
    /// Creates an empty memtable.
    pub(in crate::disk) fn new(number: u64, first_journal: u64) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self {
            number,
            counts: Counts::default(),
            first_journal,
            withdrawals: 0,
            shards,
            bytes: AtomicU64::new(0),
        }
    }

    /// The value of a row.
    pub(in crate::disk) fn get(&self, row: &[u8]) -> Option<IVec> {
        self.shard(row).read().get(row).cloned()
    }

    /// Returns whether the row exists.
    pub(in crate::disk) fn contains(&self, row: &[u8]) -> bool {
        self.shard(row).read().contains_key(row)
    }

    /// Sets a row. Returns its former value.
    pub(in crate::disk) fn insert(&self, row: &[u8], value: IVec) -> Option<IVec> {
        let len = value.len();
        let mut shard = self.shard(row).write();
        let former = match shard.get_mut(row) {
            Some(place) => Some(std::mem::replace(place, value)),
            None => shard.insert(IVec::from(row), value),
        };
        drop(shard);
        self.bytes.fetch_add(bytes_of(row, len), Ordering::Relaxed);
        self.forget(row, former.as_ref());
        former
    }

    /// Deletes a row. Returns its former value.
    pub(in crate::disk) fn remove(&self, row: &[u8]) -> Option<IVec> {
        let former = self.shard(row).write().remove(row);
        self.forget(row, former.as_ref());
        former
    }

    fn forget(&self, row: &[u8], former: Option<&IVec>) {
        if let Some(former) = former {
            self.bytes.fetch_sub(bytes_of(row, former.len()), Ordering::Relaxed);
        }
    }

    fn shard(&self, row: &[u8]) -> &Shard {
        &self.shards[row::stripe(row) % SHARDS]
    }

    /// Frees the rows of one shard. Returns whether there were any.
    pub(in crate::disk) fn release_some(&self) -> bool {
        let rows = self.shards.iter().find(|shard| !shard.read().is_empty());
        rows.map(|shard| std::mem::take(&mut *shard.write())).is_some()
    }

    /// Bytes that the rows take in a file, about.
    pub(in crate::disk) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns whether there are no rows.
    pub(in crate::disk) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Iterates over all rows and their values, in key order. Rows that change meanwhile appear as
    /// they are when the iterator comes to them.
    pub(in crate::disk) fn rows(&self) -> Rows {
        let first = |shard: &Shard| shard.read().keys().next().cloned();
        let heads = self.shards.iter().enumerate();
        let heads = heads.filter_map(|(at, shard)| Some(Reverse((first(shard)?, at)))).collect();
        Rows { shards: Arc::clone(&self.shards), heads }
    }
}

fn bytes_of(row: &[u8], value_len: usize) -> u64 {
    (row.len() + value_len + ROW_OVERHEAD) as u64
}

/// An iterator over the rows of a memtable, in key order.
pub(in crate::disk) struct Rows {
    shards: Arc<[Shard]>,
    /// The next row of each shard.
    heads: BinaryHeap<Reverse<(IVec, usize)>>,
}

impl Iterator for Rows {
    type Item = (IVec, IVec);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Reverse((row, at)) = self.heads.pop()?;
            let shard = self.shards[at].read();
            let value = shard.get(&row).cloned();
            let next =
                shard.range::<[u8], _>((Excluded(&*row), Unbounded)).next().map(|(row, _)| row.clone());
            drop(shard);
            self.heads.extend(next.map(|next| Reverse((next, at))));
            if let Some(value) = value {
                return Some((row, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_key_order_and_counted() {
        let table = Memtable::new(1, 1);
        assert!(table.is_empty());
        for number in (0..1000_u16).rev() {
            assert_eq!(table.insert(&number.to_be_bytes(), IVec::from(&[1][..])), None);
        }
        let bytes = table.bytes();
        assert_eq!(table.insert(&7_u16.to_be_bytes(), IVec::from(&[2][..])).as_deref(), Some(&[1][..]));
        assert_eq!(table.bytes(), bytes);
        let mut rows = table.rows();
        let keys = |rows: &mut Rows, most| rows.take(most).map(|(row, _)| row.to_vec()).collect::<Vec<_>>();
        let expected = |numbers: std::ops::Range<u16>| numbers.map(|number| number.to_be_bytes().to_vec());
        assert_eq!(keys(&mut rows, 500), expected(0..500).collect::<Vec<_>>());
        for number in 600..1000_u16 {
            assert!(table.remove(&number.to_be_bytes()).is_some());
        }
        assert_eq!(keys(&mut rows, 500), expected(500..600).collect::<Vec<_>>(), "without removed rows");
        for number in 0..600_u16 {
            table.remove(&number.to_be_bytes());
        }
        assert!(table.is_empty() && table.rows().next().is_none());
    }
}
