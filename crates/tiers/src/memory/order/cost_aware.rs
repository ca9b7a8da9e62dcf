//! GreedyDual-Size-Frequency: the entry that saves the least load time a byte leaves first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::Uses;
use super::slots::Slots;

/// The priority of an entry is `floor + uses * cost / weight`. The floor rises to the priority of each victim,
/// so that an entry that is not used any more leaves in the end, however dear it was.
pub(super) struct CostAware {
    /// The lowest priority first, and of equal ones the earliest. Holds outdated items too: see [`Ranking::turn`].
    heap: BinaryHeap<Reverse<Item>>,
    known: Vec<Ranking>,
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
struct Ranking {
    /// The turn of the only item of the heap that counts; zero without an entry.
    turn: u64,
    uses: u32,
}

impl Item {
    /// Whether this is the latest item of an entry.
    fn counts(self, known: &[Ranking]) -> bool {
        known[self.slot as usize].turn == self.turn
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
        Self { heap: BinaryHeap::new(), known: Vec::new(), floor: 0.0, len: 0, turn: 0 }
    }

    pub(super) fn insert(&mut self, slots: &Slots, slot: u32, uses: &dyn Uses) {
        let index = slot as usize;
        if self.known.len() <= index {
            self.known.resize(index + 1, Ranking { turn: 0, uses: 0 });
        }
        self.known[index].uses = 1;
        self.len += 1;
        self.rank(slots, slot, uses);
    }

    /// The cost and the weight may have changed.
    pub(super) fn replaced(&mut self, slots: &Slots, slot: u32, uses: &dyn Uses) {
        self.rank(slots, slot, uses);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.known[slot as usize].turn = 0;
        self.len -= 1;
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn victim(&mut self, slots: &Slots, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        let mut kept = None;
        let victim = loop {
            let Some(Reverse(item)) = self.heap.pop() else { break None };
            if !item.counts(&self.known) {
                continue;
            }
            if Some(item.slot) == keep {
                kept = Some(Reverse(item));
            } else if uses.uses(item.slot) > 0 {
                self.rank(slots, item.slot, uses);
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
    fn rank(&mut self, slots: &Slots, slot: u32, uses: &dyn Uses) {
        let priority = self.floor + self.value(slots, slot, uses);
        let known = &mut self.known[slot as usize];
        known.uses = known.uses.saturating_add(u32::from(uses.uses(slot)));
        self.turn += 1;
        let turn = self.turn;
        known.turn = turn;
        uses.set_uses(slot, 0);
        self.heap.push(Reverse(Item { priority, slot, turn }));
        // Outdated items take at most as much room as those that count.
        if self.heap.len() > self.len * 2 + 16 {
            self.heap.retain(|Reverse(item)| item.counts(&self.known));
        }
    }

    /// The load time that the entry saves, in microseconds a unit of weight. An entry that costs nothing counts
    /// as one of a microsecond.
    fn value(&self, slots: &Slots, slot: u32, uses: &dyn Uses) -> f64 {
        let used = f64::from(self.known[slot as usize].uses) + f64::from(uses.uses(slot));
        used * slots.get(slot).cost.micros().max(1.0) / f64::from(slots.weight(slot).max(1))
    }

    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let held = (0_u32..).zip(&self.known).filter(|(_, known)| known.turn > 0).map(|(slot, _)| slot);
        let mut hottest: Vec<u32> = held.collect();
        let value = |slot: &u32| self.value(slots, *slot, uses);
        hottest.sort_by(|one, other| value(other).total_cmp(&value(one)));
        hottest.truncate(n);
        hottest
    }
}
