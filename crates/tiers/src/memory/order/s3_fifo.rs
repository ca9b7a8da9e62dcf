//! S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO Queues are All You Need for
//! Cache Eviction", SOSP 2023).

use super::Uses;
use super::ghosts::Ghosts;
use super::lists::Lists;
use super::slots::Slots;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// The highest use count that matters.
const USES: u8 = 3;

/// A small queue with a tenth of the budget for new entries; a main queue for entries used more than once in
/// it and for those that come back soon; and a ghost queue with the hashes of as many evicted entries as the
/// main queue holds.
pub(super) struct S3Fifo {
    queues: Lists<2>,
    ghosts: Ghosts,
    budget: u64,
}

impl S3Fifo {
    pub(super) fn new(budget: u64) -> Self {
        Self { queues: Lists::new(), ghosts: Ghosts::new(), budget }
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }

    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        let queue = if self.ghosts.take(slots.hash(slot)) { MAIN } else { SMALL };
        self.queues.push_front(slots, queue, slot);
    }

    pub(super) fn replaced(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        self.queues.reweigh(slots, slot, weight);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        self.queues.unlink(slots, slot);
    }

    pub(super) fn victim(&mut self, slots: &mut Slots, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        loop {
            let small = self.queues.last(slots, SMALL, keep);
            let main = self.queues.last(slots, MAIN, keep);
            let full = self.queues.weight(SMALL) > self.budget / 10;
            let victim = match (small, main) {
                (Some(slot), _) if full || main.is_none() => self.leave_small(slots, slot, uses),
                (_, Some(slot)) => self.leave_main(slots, slot, uses),
                _ => return None,
            };
            if victim.is_some() {
                return victim;
            }
        }
    }

    /// Evicts the oldest entry of the small queue, or moves it to the main queue.
    fn leave_small(&mut self, slots: &mut Slots, slot: u32, uses: &dyn Uses) -> Option<u32> {
        if uses.uses(slot) > 1 {
            uses.set_uses(slot, 0);
            self.queues.move_to_front(slots, MAIN, slot);
            return None;
        }
        self.queues.unlink(slots, slot);
        let kept = (self.queues.len(SMALL) + self.queues.len(MAIN)) as usize;
        self.ghosts.add(slots.hash(slot), kept * 9 / 10);
        Some(slot)
    }

    /// Evicts the oldest entry of the main queue, or moves it to the front.
    fn leave_main(&mut self, slots: &mut Slots, slot: u32, uses: &dyn Uses) -> Option<u32> {
        let used = uses.uses(slot).min(USES);
        if used > 0 {
            uses.set_uses(slot, used - 1);
            self.queues.move_to_front(slots, MAIN, slot);
            return None;
        }
        self.queues.unlink(slots, slot);
        Some(slot)
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.ghosts.clear();
    }

    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let (main, small) = (self.queues.iter(slots, MAIN), self.queues.iter(slots, SMALL));
        let mut hottest: Vec<u32> = main.chain(small).collect();
        hottest.sort_by_key(|slot| std::cmp::Reverse(uses.uses(*slot)));
        hottest.truncate(n);
        hottest
    }
}
