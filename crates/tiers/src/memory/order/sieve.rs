//! SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an
//! Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024).

use super::OrderEntries;
use super::lists::Lists;

/// One queue with new entries at its front. A hand moves from the back to the front; it spares entries used
/// since its last visit, which stay in place, and evicts the first unused one.
pub(super) struct Sieve {
    queue: Lists<1>,
    hand: Option<u32>,
}

impl Sieve {
    pub(super) fn new() -> Self {
        Self { queue: Lists::new(), hand: None }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        self.queue.push_front(0, slot, 0);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if self.hand == Some(slot) {
            self.hand = self.queue.prev(slot);
        }
        self.queue.unlink(slot, 0);
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        if self.queue.len(0) <= u32::from(keep.is_some()) {
            return None;
        }
        let mut at = self.hand.or_else(|| self.queue.back(0))?;
        while entries.uses(at) > 0 || Some(at) == keep {
            if Some(at) != keep {
                entries.set_uses(at, 0);
            }
            at = self.queue.prev(at).or_else(|| self.queue.back(0))?;
        }
        self.hand = self.queue.prev(at);
        self.queue.unlink(at, 0);
        Some(at)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.hand = None;
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queue.iter(0).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(entries.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
