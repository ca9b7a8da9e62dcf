//! Whether a copy of what is read from disk or a file pays.
//!
//! Where far more entries are read than memory holds, copies are evicted before they are used. Each of them
//! costs about half as much as the read itself, for nothing. So the cache looks back after each round of reads:
//! if memory answered few look-ups and evicted most of what was copied, only some of the next reads are
//! copied. Those tell whether copies are used again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Reads that might be copied, between two looks back.
const ROUND: u64 = 1024;
/// Copies pay if memory answers this many look-ups in a round: one copy in sixteen.
const HITS_MIN: u64 = ROUND / 16;
/// While copies do not pay, one read in so many is copied.
const COPIED_ONE_IN: u64 = 16;

/// Decides for each read whether it is copied into memory.
#[derive(Debug, Default)]
pub(crate) struct Promotions {
    /// Reads that might be copied, since the cache was opened.
    reads: AtomicU64,
    are_rare: AtomicBool,
    at_last_look: Mutex<MemoryCounts>,
}

/// What memory has counted since the cache was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemoryCounts {
    pub(crate) hits: u64,
    pub(crate) evictions: u64,
}

impl Promotions {
    /// Returns whether the read at hand is copied. `count` is called once a round.
    pub(crate) fn pay(&self, count: impl FnOnce() -> MemoryCounts) -> bool {
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        let is_copied = !self.are_rare.load(Ordering::Relaxed) || read.is_multiple_of(COPIED_ONE_IN);
        if read % ROUND == ROUND - 1 {
            self.look_back(count());
        }
        is_copied
    }

    fn look_back(&self, now: MemoryCounts) {
        let mut last = self.at_last_look.lock();
        let copied = if self.are_rare.load(Ordering::Relaxed) { ROUND / COPIED_ONE_IN } else { ROUND };
        let hits = now.hits.wrapping_sub(last.hits);
        let evictions = now.evictions.wrapping_sub(last.evictions);
        self.are_rare.store(hits < HITS_MIN && evictions >= copied / 2, Ordering::Relaxed);
        *last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many reads of a round are copied, and ends the round with these counts.
    fn round(promotions: &Promotions, counts: &mut MemoryCounts, hits: u64, evictions: u64) -> usize {
        counts.hits += hits;
        counts.evictions += evictions;
        (0..ROUND).filter(|_| promotions.pay(|| *counts)).count()
    }

    #[test]
    fn reads_are_copied_seldom_while_copies_are_evicted_unused() {
        let (promotions, mut counts) = (Promotions::default(), MemoryCounts::default());
        let all = ROUND as usize;
        let few = all / COPIED_ONE_IN as usize;
        assert_eq!(round(&promotions, &mut counts, 0, 0), all, "there is room");
        assert_eq!(round(&promotions, &mut counts, HITS_MIN, ROUND), all, "copies are used");
        // That these were copied for few hits is known at their end.
        assert_eq!(round(&promotions, &mut counts, HITS_MIN - 1, ROUND), all);
        assert_eq!(round(&promotions, &mut counts, 0, ROUND / COPIED_ONE_IN), few);
        assert_eq!(round(&promotions, &mut counts, HITS_MIN, ROUND / COPIED_ONE_IN), few);
        assert_eq!(round(&promotions, &mut counts, HITS_MIN, ROUND), all, "copies are used again");
    }
}
