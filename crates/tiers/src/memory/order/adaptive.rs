//! The order of `Policy::Auto` and `Policy::TinyLfu`: a window for new entries, a main queue, and the history
//! of evicted entries.

use std::cmp::Reverse;

use super::history::History;
use super::lists::Lists;
use super::{OrderEntries, USES_MAX};

const WINDOW: usize = 0;
const MAIN: usize = 1;
/// The window's share changes by at most this many times the weight of each new entry, so that no single
/// insert pays for a whole change of tuning.
const STEP: u64 = 8;

/// The parameters that `Policy::Auto` adapts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// The window's share of the budget, in thousandths.
    pub(crate) window: u16,
    /// Whether entries used in the window move to the main queue; otherwise they go around the window again.
    pub(crate) promotes: bool,
    /// Frequencies are halved after this many uses per entry.
    pub(crate) period: u8,
    /// Whether known keys enter the main queue at once, and entries that were not used twice in the window
    /// leave without a comparison, as in S3-FIFO.
    pub(crate) is_direct: bool,
}

impl Tuning {
    /// The fixed tuning of `Policy::TinyLfu`.
    pub(crate) const FREQUENCY: Self = Self { window: 10, promotes: false, period: 4, is_direct: false };
    /// The initial tuning of `Policy::Auto`: between frequency and recency.
    pub(crate) const START: Self = Self { window: 100, promotes: true, period: 4, is_direct: false };

    /// The weight that the window may have.
    fn share(self, budget: u64) -> u64 {
        (budget.saturating_mul(u64::from(self.window)) / 1000).max(1)
    }
}

/// New entries pass through a window. An unused entry at its end is compared with the entry that the main
/// queue would evict: it replaces that entry if it was used more often, and is evicted otherwise. In both
/// queues, entries used since they were last examined go around (CLOCK), so that a hit only increments a use
/// count.
///
/// The frequency of an entry is the sum of its uses. It starts with those of its former stays, from the
/// history.
pub(super) struct Adaptive {
    queues: Lists<2>,
    history: History,
    tuning: Tuning,
    budget: u64,
    /// The weight that the window may have.
    share: u64,
    /// Number of halvings so far; the frequency of an entry is halved when it is read.
    epoch: u16,
    /// Uses counted since the last halving.
    uses: u64,
}

impl Adaptive {
    pub(super) fn new(tuning: Tuning, budget: u64) -> Self {
        let (queues, history) = (Lists::new(), History::new());
        Self { queues, history, tuning, budget, share: tuning.share(budget), epoch: 0, uses: 0 }
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
        self.share = self.tuning.share(budget);
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
    }

    pub(super) fn insert(&mut self, slot: u32, entries: &dyn OrderEntries) {
        let weight = entries.weight(slot);
        self.approach(STEP * u64::from(weight));
        self.history.reserve(self.len() + 1);
        let known = self.history.take(entries.hash(slot));
        let queue = if self.tuning.is_direct && known > 0 { MAIN } else { WINDOW };
        self.queues.push_front(queue, slot, weight);
        self.set_frequency(slot, known);
        self.count(1);
    }

    pub(super) fn replaced(&mut self, slot: u32, former: u32, entries: &dyn OrderEntries) {
        self.queues.reweigh(slot, former, entries.weight(slot));
    }

    pub(super) fn remove(&mut self, slot: u32, entries: &dyn OrderEntries) {
        self.queues.unlink(slot, entries.weight(slot));
    }

    pub(super) fn missed(&mut self, hash: u64) {
        self.history.reserve(self.len());
        let known = self.history.take(hash);
        self.history.add(hash, (known + 1).min(USES_MAX));
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.history.clear();
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        let slot = self.choose(keep, entries)?;
        self.evict(slot, entries);
        Some(slot)
    }

    fn choose(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        loop {
            let last = self.queues.last(WINDOW, keep);
            let slot = match last {
                Some(slot) if self.queues.weight(WINDOW) > self.share => slot,
                _ => return self.coldest(keep, entries).or(last),
            };
            let weight = entries.weight(slot);
            // The share has become smaller: the main queue gets the rest without a contest. This does not
            // depend on the budget, since a shard may hold a little less than its part of it.
            let is_excess = self.queues.weight(WINDOW) - u64::from(weight) > self.share;
            if self.tuning.is_direct {
                if !is_excess && entries.uses(slot) < 2 {
                    return Some(slot);
                }
                self.refresh(slot, entries);
                self.enter_main(slot, weight);
                continue;
            }
            let used = self.refresh(slot, entries);
            if used && !self.tuning.promotes {
                self.queues.move_to_front(WINDOW, slot, weight);
            } else if used || is_excess {
                self.enter_main(slot, weight);
            } else {
                return Some(self.contest(slot, keep, entries));
            }
        }
    }

    /// Returns the candidate at the end of the window, or the main-queue entry that it replaces. The
    /// candidate enters the main queue when it is examined again: a large one must win against all entries
    /// that have to leave for it.
    fn contest(&mut self, candidate: u32, keep: Option<u32>, entries: &dyn OrderEntries) -> u32 {
        match self.coldest(keep, entries) {
            Some(coldest) if self.frequency(candidate) > self.frequency(coldest) => coldest,
            _ => candidate,
        }
    }

    /// The entry that the main queue evicts next.
    fn coldest(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        loop {
            let slot = self.queues.back(MAIN)?;
            if Some(slot) == keep && self.queues.len(MAIN) == 1 {
                return None;
            }
            if Some(slot) != keep && !self.refresh(slot, entries) {
                return Some(slot);
            }
            self.queues.move_to_front(MAIN, slot, entries.weight(slot));
        }
    }

    fn enter_main(&mut self, slot: u32, weight: u32) {
        self.queues.move_to_front(MAIN, slot, weight);
        let frequency = self.frequency(slot);
        self.set_frequency(slot, frequency + 1);
    }

    fn evict(&mut self, slot: u32, entries: &dyn OrderEntries) {
        self.refresh(slot, entries);
        // The insert counts as a use too, once the entry leaves the window.
        let insert = u8::from(self.queues.list(slot) == WINDOW);
        self.history.add(entries.hash(slot), self.frequency(slot) + insert);
        self.queues.unlink(slot, entries.weight(slot));
    }

    /// Adds the uses of `slot` to its frequency. Returns whether there were any.
    fn refresh(&mut self, slot: u32, entries: &dyn OrderEntries) -> bool {
        let uses = entries.uses(slot);
        let frequency = self.frequency(slot);
        self.set_frequency(slot, frequency + uses);
        if uses > 0 {
            entries.set_uses(slot, 0);
            self.count(u64::from(uses));
        }
        uses > 0
    }

    /// The current frequency, without the uses since `slot` was last examined.
    fn frequency(&self, slot: u32) -> u8 {
        let link = self.queues.link(slot);
        link.frequency >> self.epoch.wrapping_sub(link.epoch).min(7)
    }

    fn set_frequency(&mut self, slot: u32, frequency: u8) {
        let epoch = self.epoch;
        let link = self.queues.link_mut(slot);
        (link.frequency, link.epoch) = (frequency.min(USES_MAX), epoch);
    }

    fn count(&mut self, uses: u64) {
        self.uses += uses;
        if self.uses >= u64::from(self.tuning.period) * self.len().max(16) {
            self.uses = 0;
            self.epoch = self.epoch.wrapping_add(1);
            self.history.halve();
        }
    }

    /// Moves the window's share by at most `step` towards the tuning.
    fn approach(&mut self, step: u64) {
        let share = self.tuning.share(self.budget);
        self.share = share.clamp(self.share.saturating_sub(step), self.share.saturating_add(step));
    }

    fn len(&self) -> u64 {
        u64::from(self.queues.len(WINDOW) + self.queues.len(MAIN))
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queues.iter(MAIN).chain(self.queues.iter(WINDOW)).collect();
        slots.sort_by_key(|slot| Reverse(self.frequency(*slot) + entries.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
