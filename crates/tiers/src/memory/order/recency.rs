//! LRU and FIFO, exact in order.

use super::Uses;
use super::lists::Lists;
use super::slots::Slots;

/// One queue. LRU moves an entry to the front on each use, FIFO does not.
pub(super) struct Recency {
    queue: Lists<1>,
    moves: bool,
}

impl Recency {
    pub(super) fn new(moves: bool) -> Self {
        Self { queue: Lists::new(), moves }
    }

    pub(super) fn moves(&self) -> bool {
        self.moves
    }

    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        self.queue.push_front(slots, 0, slot);
    }

    pub(super) fn replaced(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        self.queue.reweigh(slots, slot, weight);
        self.hit(slots, slot);
    }

    pub(super) fn hit(&mut self, slots: &mut Slots, slot: u32) {
        if self.moves {
            self.queue.move_to_front(slots, 0, slot);
        }
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        self.queue.unlink(slots, slot);
    }

    pub(super) fn victim(&mut self, slots: &mut Slots, keep: Option<u32>) -> Option<u32> {
        let slot = self.queue.last(slots, 0, keep)?;
        self.queue.unlink(slots, slot);
        Some(slot)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// LRU: the slots from the front. FIFO: by use count, then from the front.
    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let mut hottest: Vec<u32> = self.queue.iter(slots, 0).collect();
        if !self.moves {
            hottest.sort_by_key(|slot| std::cmp::Reverse(uses.uses(*slot)));
        }
        hottest.truncate(n);
        hottest
    }
}
