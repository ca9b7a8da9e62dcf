//! S3-FIFO (Yang, Zhang, Qiu, Yue and Rashmi, "FIFO Queues are All You Need for
//! Cache Eviction", SOSP 2023).

use super::Entries;
use super::ghosts::Ghosts;
use super::lists::Lists;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// Uses are counted up to this.
const USES: u8 = 3;

/// A small queue of a tenth of the budget for new entries, a main queue for those
/// used more than once in it and for those that come back soon, and a queue of
/// ghosts: the hashes of as many entries as are in the main queue.
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

    pub(super) fn insert(&mut self, slot: u32, entries: &dyn Entries) {
        let queue = if self.ghosts.take(entries.hash(slot)) { MAIN } else { SMALL };
        self.queues.push_front(queue, slot, entries.weight(slot));
    }

    pub(super) fn replaced(&mut self, slot: u32, former: u32, entries: &dyn Entries) {
        self.queues.reweigh(slot, former, entries.weight(slot));
    }

    pub(super) fn remove(&mut self, slot: u32, entries: &dyn Entries) {
        self.queues.unlink(slot, entries.weight(slot));
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn Entries) -> Option<u32> {
        if self.queues.len(SMALL) + self.queues.len(MAIN) <= u32::from(keep.is_some()) {
            return None;
        }
        loop {
            let full = self.queues.weight(SMALL) > self.budget / 10;
            let queue = match (self.queues.back(SMALL), self.queues.back(MAIN)) {
                (Some(back), Some(_)) if full && Some(back) != keep => SMALL,
                (Some(back), None) if Some(back) != keep => SMALL,
                (_, Some(_)) => MAIN,
                _ => SMALL,
            };
            if let Some(slot) = self.step(queue, keep, entries) {
                return Some(slot);
            }
        }
    }

    /// Looks at the back of `queue`: evicts the entry, or moves it.
    fn step(&mut self, queue: usize, keep: Option<u32>, entries: &dyn Entries) -> Option<u32> {
        let slot = self.queues.back(queue)?;
        let weight = entries.weight(slot);
        let uses = entries.uses(slot).min(USES);
        if Some(slot) == keep {
            self.queues.move_to_front(queue, slot, weight);
        } else if queue == SMALL && uses > 1 {
            entries.set_uses(slot, 0);
            self.queues.move_to_front(MAIN, slot, weight);
        } else if queue == MAIN && uses > 0 {
            entries.set_uses(slot, uses - 1);
            self.queues.move_to_front(MAIN, slot, weight);
        } else {
            self.queues.unlink(slot, weight);
            if queue == SMALL {
                let most = (self.queues.len(MAIN) + self.queues.len(SMALL)) as usize * 9 / 10;
                self.ghosts.add(entries.hash(slot), most);
            }
            return Some(slot);
        }
        None
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.ghosts.clear();
    }

    pub(super) fn demote(&mut self, slot: u32, entries: &dyn Entries) {
        let weight = entries.weight(slot);
        self.queues.unlink(slot, weight);
        self.queues.push_back(SMALL, slot, weight);
        entries.set_uses(slot, 0);
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn Entries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queues.iter(MAIN).chain(self.queues.iter(SMALL)).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(entries.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
