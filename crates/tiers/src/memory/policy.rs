//! How memory is bounded, and what leaves first.

use larder_core::memory::Record;

/// Which entries leave first when memory is full.
///
/// The default is [`TinyLfu`](Policy::TinyLfu).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// W-TinyLFU (Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient
    /// Cache Admission Policy", ACM Transactions on Storage 13(4), 2017): a new
    /// entry must be asked for more often than the one it would replace.
    #[default]
    TinyLfu,
    /// Least recently used: the better choice where what was asked for last is
    /// asked for next.
    Lru,
}

/// What the budget of memory counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Entries.
    Entries(u64),
    /// Weights, in bytes.
    Bytes(u64),
}

impl Bound {
    /// The budget in its unit.
    pub fn limit(self) -> u64 {
        match self {
            Self::Entries(limit) | Self::Bytes(limit) => limit,
        }
    }
    /// What `record` takes of the budget.
    pub(super) fn weight<V>(self, record: &Record<V>) -> u32 {
        match self {
            Self::Entries(_) => 1,
            Self::Bytes(_) => record.weight,
        }
    }
}
