//! S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO Queues are All You Need for
//! Cache Eviction", SOSP 2023).

use super::OrderEntries;
use super::ghosts::Ghosts;
use super::lists::Lists;

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

    pub(super) fn insert(&mut self, slot: u32, entries: &dyn OrderEntries) {
        let queue = if self.ghosts.take(entries.hash(slot)) { MAIN } else { SMALL };
        self.queues.push_front(queue, slot, entries.weight(slot));
    }

    pub(super) fn replaced(&mut self, slot: u32, former: u32, entries: &dyn OrderEntries) {
        self.queues.reweigh(slot, former, entries.weight(slot));
    }

    pub(super) fn remove(&mut self, slot: u32, entries: &dyn OrderEntries) {
        self.queues.unlink(slot, entries.weight(slot));
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        loop {
            let small = self.queues.last(SMALL, keep);
            let main = self.queues.last(MAIN, keep);
            let full = self.queues.weight(SMALL) > self.budget / 10;
            let victim = match (small, main) {
                (Some(slot), _) if full || main.is_none() => self.leave_small(slot, entries),
                (_, Some(slot)) => self.leave_main(slot, entries),
                _ => return None,
            };
            if victim.is_some() {
                return victim;
            }
        }
    }

    /// Evicts the oldest entry of the small queue, or moves it to the main queue.
    fn leave_small(&mut self, slot: u32, entries: &dyn OrderEntries) -> Option<u32> {
        let weight = entries.weight(slot);
        if entries.uses(slot) > 1 {
            entries.set_uses(slot, 0);
            self.queues.move_to_front(MAIN, slot, weight);
            return None;
        }
        self.queues.unlink(slot, weight);
        let kept = (self.queues.len(SMALL) + self.queues.len(MAIN)) as usize;
        self.ghosts.add(entries.hash(slot), kept * 9 / 10);
        Some(slot)
    }

    /// Evicts the oldest entry of the main queue, or moves it to the front.
    fn leave_main(&mut self, slot: u32, entries: &dyn OrderEntries) -> Option<u32> {
        let weight = entries.weight(slot);
        let uses = entries.uses(slot).min(USES);
        if uses > 0 {
            entries.set_uses(slot, uses - 1);
            self.queues.move_to_front(MAIN, slot, weight);
            return None;
        }
        self.queues.unlink(slot, weight);
        Some(slot)
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.ghosts.clear();
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queues.iter(MAIN).chain(self.queues.iter(SMALL)).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(entries.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
