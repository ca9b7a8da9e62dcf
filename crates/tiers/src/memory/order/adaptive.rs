//! The order of `Policy::Auto` and `Policy::TinyLfu`: a window for new entries, a
//! main queue, and the history of entries that left.

use std::cmp::Reverse;

use super::history::History;
use super::lists::Lists;
use super::{Entries, USES_MAX};

const WINDOW: usize = 0;
const MAIN: usize = 1;

/// What `Policy::Auto` adapts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// The share of the budget that the window has, in thousandths.
    pub(crate) window: u16,
    /// Whether entries used in the window go to the main queue, instead of around it.
    pub(crate) promotes: bool,
    /// Frequencies are halved when this many uses were counted for each entry.
    pub(crate) period: u8,
}

impl Tuning {
    /// What `Policy::TinyLfu` keeps, and `Policy::Auto` starts with for small caches.
    pub(crate) const FREQUENCY: Self = Self { window: 10, promotes: false, period: 8 };
    /// Between frequency and recency.
    pub(crate) const BALANCED: Self = Self { window: 200, promotes: false, period: 6 };
}

/// New entries pass a window. One that reaches its end unused is compared with the
/// entry that the main queue would evict: it takes the place of that entry when it was
/// used more often, and is evicted otherwise. In both queues, entries used since
/// they were looked at go around (CLOCK), so that a hit only raises a use count.
///
/// The frequency of an entry is the sum of its uses, and starts with those of its
/// former stays, from the history.
pub(super) struct Adaptive {
    queues: Lists<2>,
    history: History,
    tuning: Tuning,
    budget: u64,
    /// Halvings of all frequencies so far: those of entries are halved when looked at.
    epoch: u16,
    /// Uses counted since the last halving.
    uses: u64,
}

impl Adaptive {
    pub(super) fn new(tuning: Tuning, budget: u64) -> Self {
        Self { queues: Lists::new(), history: History::new(), tuning, budget, epoch: 0, uses: 0 }
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
    }

    pub(super) fn insert(&mut self, slot: u32, entries: &dyn Entries) {
        self.queues.push_front(WINDOW, slot, entries.weight(slot));
        self.history.reserve(self.len());
        let known = self.history.take(entries.hash(slot));
        let epoch = self.epoch;
        let link = self.queues.link_mut(slot);
        (link.frequency, link.epoch) = (known, epoch);
        self.count(1);
    }

    pub(super) fn replaced(&mut self, slot: u32, former: u32, entries: &dyn Entries) {
        self.queues.reweigh(slot, former, entries.weight(slot));
    }

    pub(super) fn remove(&mut self, slot: u32, entries: &dyn Entries) {
        self.queues.unlink(slot, entries.weight(slot));
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.history.clear();
    }

    pub(super) fn demote(&mut self, slot: u32, entries: &dyn Entries) {
        let weight = entries.weight(slot);
        let queue = self.queues.list(slot);
        self.queues.unlink(slot, weight);
        self.queues.push_back(queue, slot, weight);
        self.queues.link_mut(slot).frequency = 0;
        entries.set_uses(slot, 0);
    }

    pub(super) fn victim(&mut self, keep: Option<u32>, entries: &dyn Entries) -> Option<u32> {
        let share = (self.budget * u64::from(self.tuning.window) / 1000).max(1);
        loop {
            let over = self.queues.weight(WINDOW) > share;
            let last = match self.queues.back(WINDOW) {
                Some(slot) if Some(slot) == keep => self.queues.prev(slot),
                last => last,
            };
            let slot = match last {
                Some(slot) if over => slot,
                _ => return self.coldest(keep, entries).or(last).map(|slot| self.evict(slot, entries)),
            };
            let weight = entries.weight(slot);
            let used = self.refresh(slot, entries);
            if used && !self.tuning.promotes {
                self.queues.move_to_front(WINDOW, slot, weight);
            } else if used || self.queues.weight(MAIN) + share < self.budget {
                self.enter_main(slot, weight);
            } else {
                return Some(self.contest(slot, keep, entries));
            }
        }
    }

    /// The candidate at the end of the window, or the entry whose place it takes.
    fn contest(&mut self, candidate: u32, keep: Option<u32>, entries: &dyn Entries) -> u32 {
        let frequency = self.queues.link(candidate).frequency;
        match self.coldest(keep, entries) {
            Some(coldest) if frequency > self.queues.link(coldest).frequency => {
                self.enter_main(candidate, entries.weight(candidate));
                self.evict(coldest, entries)
            }
            _ => self.evict(candidate, entries),
        }
    }

    /// The entry that the main queue evicts next.
    fn coldest(&mut self, keep: Option<u32>, entries: &dyn Entries) -> Option<u32> {
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
        let link = self.queues.link_mut(slot);
        link.frequency = (link.frequency + 1).min(USES_MAX);
    }

    fn evict(&mut self, slot: u32, entries: &dyn Entries) -> u32 {
        self.refresh(slot, entries);
        // The insert is a use as well, counted once the entry leaves the window.
        let insert = u8::from(self.queues.list(slot) == WINDOW);
        self.history.add(entries.hash(slot), self.queues.link(slot).frequency + insert);
        self.queues.unlink(slot, entries.weight(slot));
        slot
    }

    /// Moves the uses of `slot` into its frequency. Returns whether there were any.
    fn refresh(&mut self, slot: u32, entries: &dyn Entries) -> bool {
        let epoch = self.epoch;
        let link = self.queues.link_mut(slot);
        link.frequency >>= epoch.wrapping_sub(link.epoch).min(7);
        link.epoch = epoch;
        let uses = entries.uses(slot);
        if uses == 0 {
            return false;
        }
        entries.set_uses(slot, 0);
        link.frequency = (link.frequency + uses).min(USES_MAX);
        self.count(u64::from(uses));
        true
    }

    fn count(&mut self, uses: u64) {
        self.uses += uses;
        if self.uses >= u64::from(self.tuning.period) * self.len().max(16) {
            self.uses = 0;
            self.epoch = self.epoch.wrapping_add(1);
            self.history.halve();
        }
    }

    fn len(&self) -> u64 {
        u64::from(self.queues.len(WINDOW) + self.queues.len(MAIN))
    }

    pub(super) fn hottest(&self, n: usize, entries: &dyn Entries) -> Vec<u32> {
        let mut slots: Vec<u32> = self.queues.iter(MAIN).chain(self.queues.iter(WINDOW)).collect();
        slots.sort_by_key(|slot| Reverse(self.queues.link(*slot).frequency + entries.uses(*slot)));
        slots.truncate(n);
        slots
    }
}
