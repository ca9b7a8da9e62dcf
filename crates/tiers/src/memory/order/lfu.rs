//! LFU with ageing.

use super::lists::{Lists, before};
use super::slots::Slots;
use super::{USES_MAX, Uses};

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

    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        self.lists.push_front(slots, 0, slot);
        self.entries += 1;
        self.uses += 1;
    }

    pub(super) fn replaced(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        self.lists.reweigh(slots, slot, weight);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        self.lists.unlink(slots, slot);
        self.entries -= 1;
    }

    pub(super) fn victim(&mut self, slots: &mut Slots, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        if self.entries <= u64::from(keep.is_some()) {
            return None;
        }
        self.age(slots);
        for list in 0..LISTS {
            let mut at = self.lists.back(list);
            while let Some(slot) = at {
                at = before(slots, slot);
                if Some(slot) == keep {
                    continue;
                }
                let used = uses.uses(slot);
                if used == 0 || list == LISTS - 1 {
                    self.remove(slots, slot);
                    return Some(slot);
                }
                uses.set_uses(slot, 0);
                self.uses += u64::from(used);
                self.lists.move_to_front(slots, (list + usize::from(used)).min(LISTS - 1), slot);
            }
        }
        None
    }

    /// Halves the frequencies when it is time.
    fn age(&mut self, slots: &mut Slots) {
        if self.uses < self.entries.max(1) * 10 {
            return;
        }
        self.uses = 0;
        for list in 1..LISTS {
            while let Some(slot) = self.lists.back(list) {
                self.lists.move_to_front(slots, list / 2, slot);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.lists.clear();
        self.entries = 0;
        self.uses = 0;
    }

    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let mut hottest: Vec<u32> = (0..LISTS).rev().flat_map(|list| self.lists.iter(slots, list)).collect();
        hottest.sort_by_key(|slot| std::cmp::Reverse(slots.get(*slot).list + uses.uses(*slot)));
        hottest.truncate(n);
        hottest
    }
}
