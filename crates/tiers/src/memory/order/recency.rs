//! LRU and FIFO, exact in order.

use super::OrderEntries;
use super::lists::Lists;

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

    pub(super) fn insert(&mut self, slot: u32) {
        self.queue.push_front(0, slot, 0);
    }

    pub(super) fn hit(&mut self, slot: u32) {
        if self.moves {
            self.queue.move_to_front(0, slot, 0);
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.queue.unlink(slot, 0);
    }

    pub(super) fn victim(&mut self, keep: Option<u32>) -> Option<u32> {
        let slot = self.queue.last(0, keep)?;
        self.queue.unlink(slot, 0);
        Some(slot)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// LRU: the slots from the front. FIFO: by use count, then from the front.
    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queue.iter(0).collect();
        if !self.moves {
            slots.sort_by_key(|slot| std::cmp::Reverse(entries.uses(*slot)));
        }
        slots.truncate(n);
        slots
    }
}
