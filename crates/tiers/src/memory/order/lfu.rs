//! LFU with ageing.

use super::lists::Lists;
use super::{OrderEntries, USES_MAX};

/// A list for each frequency.
const LISTS: usize = USES_MAX as usize + 1;

/// Least frequently used; of two entries with the same frequency the older one leaves first. Uses are counted
/// up to 15, when an entry is examined. All counts are halved each time that ten times as many uses as
/// entries were counted, as in TinyLFU.
pub(super) struct Lfu {
    lists: Lists<LISTS>,
    entries: u64,
    uses: u64,
}

impl Lfu {
    pub(super) fn new() -> Self {
        Self { lists: Lists::new(), entries: 0, uses: 0 }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        self.lists.push_front(0, slot, 0);
        self.entries += 1;
        self.uses += 1;
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.lists.unlink(slot, 0);
        self.entries -= 1;
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        if self.entries <= u64::from(keep.is_some()) {
            return None;
        }
        self.age();
        for list in 0..LISTS {
            let mut at = self.lists.back(list);
            while let Some(slot) = at {
                at = self.lists.prev(slot);
                if Some(slot) == keep {
                    continue;
                }
                let uses = entries.uses(slot);
                if uses == 0 || list == LISTS - 1 {
                    self.remove(slot);
                    return Some(slot);
                }
                entries.set_uses(slot, 0);
                self.uses += u64::from(uses);
                self.lists.move_to_front((list + usize::from(uses)).min(LISTS - 1), slot, 0);
            }
        }
        None
    }

    /// Halves the frequencies when it is time.
    fn age(&mut self) {
        if self.uses < self.entries.max(1) * 10 {
            return;
        }
        self.uses = 0;
        for list in 1..LISTS {
            while let Some(slot) = self.lists.back(list) {
                self.lists.move_to_front(list / 2, slot, 0);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.lists.clear();
        self.entries = 0;
        self.uses = 0;
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let mut slots: Vec<u32> = (0..LISTS).rev().flat_map(|list| self.lists.iter(list)).collect();
        slots
            .sort_by_key(|slot| std::cmp::Reverse(self.lists.list(*slot) + usize::from(entries.uses(*slot))));
        slots.truncate(n);
        slots
    }
}
