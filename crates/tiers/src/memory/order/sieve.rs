//! SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU: an
//! Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024).

use super::Uses;
use super::lists::{Lists, before};
use super::slots::Slots;

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

    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        self.queue.push_front(slots, 0, slot);
    }

    pub(super) fn replaced(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        self.queue.reweigh(slots, slot, weight);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        if self.hand == Some(slot) {
            self.hand = before(slots, slot);
        }
        self.queue.unlink(slots, slot);
    }

    pub(super) fn victim(&mut self, slots: &mut Slots, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        if self.queue.len(0) <= u32::from(keep.is_some()) {
            return None;
        }
        let mut at = self.hand.or_else(|| self.queue.back(0))?;
        while uses.uses(at) > 0 || Some(at) == keep {
            if Some(at) != keep {
                uses.set_uses(at, 0);
            }
            at = before(slots, at).or_else(|| self.queue.back(0))?;
        }
        self.hand = before(slots, at);
        self.queue.unlink(slots, at);
        Some(at)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.hand = None;
    }

    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let mut hottest: Vec<u32> = self.queue.iter(slots, 0).collect();
        hottest.sort_by_key(|slot| std::cmp::Reverse(uses.uses(*slot)));
        hottest.truncate(n);
        hottest
    }
}
