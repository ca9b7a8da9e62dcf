//! Which entries the invalidations of a cache apply to.

use std::collections::HashMap;
use std::path::Path;

use larder_core::entry_meta::Tag;
use larder_core::invalidation::{Invalidation, InvalidationRecord};
use larder_tiers::FileInvalidationLog;

use crate::exit::Outcome;

/// The highest sequence numbers of the invalidations of a cache. An invalidation applies to entries that are
/// stamped with a lower number.
#[derive(Debug, Default)]
pub(crate) struct Invalidated {
    cleared: u64,
    all: u64,
    tags: HashMap<Box<str>, u64>,
    /// The highest sequence number of all invalidations.
    pub(crate) last: u64,
}

impl Invalidated {
    /// Reads the log in the directory of a cache. `None` if the log is missing or damaged. Fails
    /// if it cannot be read.
    pub(crate) fn read(dir: &Path) -> Outcome<Option<Self>> {
        Ok(FileInvalidationLog::read(dir)?.map(Self::of))
    }

    /// The invalidations of these records.
    pub(crate) fn of(records: Vec<InvalidationRecord>) -> Self {
        let mut invalidated = Self::default();
        for record in records {
            let number = match record.invalidation {
                Invalidation::Cleared => &mut invalidated.cleared,
                Invalidation::All => &mut invalidated.all,
                Invalidation::Tag(tag) => invalidated.tags.entry(tag).or_default(),
                _ => continue,
            };
            *number = record.stamp.max(*number);
            invalidated.last = invalidated.last.max(record.stamp);
        }
        invalidated
    }

    /// Returns whether an invalidation applies to an entry with this sequence number and these tags.
    pub(crate) fn covers(&self, number: u64, tags: &[Tag]) -> bool {
        let by_tag = tags.iter().filter_map(|tag| self.tags.get(tag.as_str()));
        by_tag.chain([&self.cleared, &self.all]).any(|invalidation| number < *invalidation)
    }

    /// The latest invalidation that applies to an entry with this sequence number and these tags, and its
    /// own number.
    pub(crate) fn latest(&self, number: u64, tags: &[Tag]) -> Option<(Invalidation, u64)> {
        let of_tag =
            |tag: &Tag| Some((Invalidation::Tag(tag.as_str().into()), *self.tags.get(tag.as_str())?));
        let of_all = [(Invalidation::Cleared, self.cleared), (Invalidation::All, self.all)];
        let all = tags.iter().filter_map(of_tag).chain(of_all);
        all.filter(|(_, invalidation)| number < *invalidation).max_by_key(|(_, invalidation)| *invalidation)
    }
}
