//! How fresh the records of the memory store are.

use std::sync::Arc;

use larder_core::clock::Time;
use larder_core::entry_meta::{Freshness, LiveEntryMeta};
use larder_core::memory::{Lifespan, Lifetimes};

use crate::invalidation::log::{EntryAge, Invalidations};
use crate::time::timeline::Timeline;

/// Tells the memory store how fresh its records are.
pub(crate) struct RecordLifetimes {
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) invalidations: Arc<Invalidations>,
}

impl Lifetimes for RecordLifetimes {
    fn now(&self) -> Time {
        self.timeline.now()
    }

    fn freshness(&self, lifecycle: Lifespan<'_>, now: Time) -> Freshness {
        match lifecycle.terms {
            None => freshness_without_terms(&self.invalidations, lifecycle.stamp),
            Some(terms) => freshness_at(&self.invalidations, (lifecycle.stamp, terms), now),
        }
    }

    fn invalidations(&self) -> u64 {
        self.invalidations.stamp()
    }
}

/// Without metadata there is no stale window.
pub(crate) fn freshness_without_terms(invalidations: &Invalidations, stamp: u64) -> Freshness {
    if invalidations.spares(stamp) { Freshness::Fresh } else { Freshness::Gone }
}

/// Returns the freshness by the metadata and by the invalidations.
pub(crate) fn freshness_at(
    invalidations: &Invalidations,
    (stamp, terms): (u64, &LiveEntryMeta),
    now: Time,
) -> Freshness {
    terms.freshness(now).min(invalidations.freshness(EntryAge::new(stamp, terms.written()), now))
}
