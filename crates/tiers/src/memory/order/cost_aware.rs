//! GreedyDual-Size-Frequency: the entry that saves the least load time a byte leaves first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::OrderEntries;

/// The priority of an entry is `floor + uses * cost / weight`. The floor rises to the priority of each victim,
/// so that an entry that is not used any more leaves in the end, however dear it was.
pub(super) struct CostAware {
    /// The lowest priority first, and of equal ones the earliest. Holds outdated items too: see [`Slot::turn`].
    heap: BinaryHeap<Reverse<Item>>,
    slots: Vec<Slot>,
    floor: f64,
    len: usize,
    /// The number of the latest ranking.
    turn: u64,
}

#[derive(Clone, Copy)]
struct Item {
    priority: f64,
    slot: u32,
    turn: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    /// The turn of the only item of the heap that counts; zero without an entry.
    turn: u64,
    uses: u32,
}

impl Item {
    /// Whether this is the latest item of an entry.
    fn counts(self, slots: &[Slot]) -> bool {
        slots[self.slot as usize].turn == self.turn
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        self.priority.total_cmp(&other.priority).then(self.turn.cmp(&other.turn))
    }
}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item {}

impl CostAware {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), floor: 0.0, len: 0, turn: 0 }
    }

    pub(super) fn insert(&mut self, slot: u32, entries: &dyn OrderEntries) {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot { turn: 0, uses: 0 });
        }
        self.slots[index].uses = 1;
        self.len += 1;
        self.rank(slot, entries);
    }

    /// The cost and the weight may have changed.
    pub(super) fn replaced(&mut self, slot: u32, entries: &dyn OrderEntries) {
        self.rank(slot, entries);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.slots[slot as usize].turn = 0;
        self.len -= 1;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        let mut kept = None;
        let victim = loop {
            let Some(Reverse(item)) = self.heap.pop() else { break None };
            if !item.counts(&self.slots) {
                continue;
            }
            if Some(item.slot) == keep {
                kept = Some(Reverse(item));
            } else if entries.uses(item.slot) > 0 {
                self.rank(item.slot, entries);
            } else {
                break Some(item);
            }
        };
        self.heap.extend(kept);
        let Item { priority, slot, .. } = victim?;
        self.floor = self.floor.max(priority);
        self.remove(slot);
        Some(slot)
    }

    /// Gives an entry its present priority. Counts the uses since the last time.
    fn rank(&mut self, slot: u32, entries: &dyn OrderEntries) {
        let priority = self.floor + self.value(slot, entries);
        let known = &mut self.slots[slot as usize];
        known.uses = known.uses.saturating_add(u32::from(entries.uses(slot)));
        self.turn += 1;
        let turn = self.turn;
        known.turn = turn;
        entries.set_uses(slot, 0);
        self.heap.push(Reverse(Item { priority, slot, turn }));
        // Outdated items take at most as much room as those that count.
        if self.heap.len() > self.len * 2 + 16 {
            self.heap.retain(|Reverse(item)| item.counts(&self.slots));
        }
    }

    /// The load time that the entry saves, in microseconds a unit of weight. An entry that costs nothing counts
    /// as one of a microsecond.
    fn value(&self, slot: u32, entries: &dyn OrderEntries) -> f64 {
        let uses = f64::from(self.slots[slot as usize].uses) + f64::from(entries.uses(slot));
        uses * entries.cost(slot).micros().max(1.0) / f64::from(entries.weight(slot).max(1))
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let held = (0_u32..).zip(&self.slots).filter(|(_, slot)| slot.turn > 0).map(|(slot, _)| slot);
        let mut slots: Vec<u32> = held.collect();
        slots.sort_by(|one, other| self.value(*other, entries).total_cmp(&self.value(*one, entries)));
        slots.truncate(n);
        slots
    }
}
