//! The order of `Policy::Auto` and `Policy::TinyLfu`: a window for new entries, a main queue, and the history
//! of evicted entries.

use std::cmp::Reverse;

use super::history::History;
use super::lists::Lists;
use super::slots::{NONE, Slots};
use super::{USES_MAX, Uses};

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
    /// Whether the insert of an entry counts as a use of it, so that a new entry is preferred to one that was not
    /// used for long.
    pub(crate) counts_insert: bool,
}

impl Tuning {
    /// The fixed tuning of `Policy::TinyLfu`.
    pub(crate) const FREQUENCY: Self =
        Self { window: 10, promotes: false, period: 4, is_direct: false, counts_insert: false };
    /// The initial tuning of `Policy::Auto`: between frequency and recency.
    pub(crate) const START: Self = Self { window: 100, promotes: true, ..Self::FREQUENCY };

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
    /// The share that the tuning asks for, which `share` approaches.
    target: u64,
    /// Number of halvings so far; the frequency of an entry is halved when it is read.
    epoch: u16,
    /// Uses counted since the last halving.
    uses: u64,
}

impl Adaptive {
    pub(super) fn new(tuning: Tuning, budget: u64) -> Self {
        let (queues, history) = (Lists::new(), History::new());
        let share = tuning.share(budget);
        Self { queues, history, tuning, budget, share, target: share, epoch: 0, uses: 0 }
    }

    pub(super) fn set_budget(&mut self, budget: u64) {
        self.budget = budget;
        self.target = self.tuning.share(budget);
        self.share = self.target;
    }

    pub(super) fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        self.target = tuning.share(self.budget);
    }

    #[inline]
    pub(super) fn insert(&mut self, slots: &mut Slots, slot: u32) {
        if self.share != self.target {
            self.approach(STEP * u64::from(slots.weight(slot)));
        }
        self.history.reserve(self.len() + 1);
        let known = self.history.take(slots.hash(slot));
        let queue = if self.tuning.is_direct && known > 0 { MAIN } else { WINDOW };
        self.queues.push_front(slots, queue, slot);
        self.set_frequency(slots, slot, known + u8::from(self.tuning.counts_insert));
        self.count(1);
    }

    pub(super) fn replaced(&mut self, slots: &mut Slots, slot: u32, weight: u32) {
        self.queues.reweigh(slots, slot, weight);
    }

    pub(super) fn remove(&mut self, slots: &mut Slots, slot: u32) {
        self.queues.unlink(slots, slot);
    }

    pub(super) fn missed(&mut self, hash: u32) {
        self.history.reserve(self.len());
        let known = self.history.take(u64::from(hash));
        self.history.add(u64::from(hash), (known + 1).min(USES_MAX), self.len());
    }

    pub(super) fn clear(&mut self) {
        self.queues.clear();
        self.history.clear();
    }

    #[inline]
    pub(super) fn victim(&mut self, slots: &mut Slots, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        let slot = self.choose(slots, keep.unwrap_or(NONE), uses);
        if slot == NONE {
            return None;
        }
        // The insert counts as a use too, once the entry leaves the window.
        let insert = u8::from(usize::from(slots.get(slot).list) == WINDOW);
        let frequency = self.frequency(slots, slot) + insert;
        self.history.add(slots.hash(slot), frequency, self.len());
        self.queues.unlink(slots, slot);
        Some(slot)
    }

    /// Chooses an entry whose uses are part of its frequency. Here and below, [`NONE`] is no entry.
    fn choose(&mut self, slots: &mut Slots, keep: u32, uses: &dyn Uses) -> u32 {
        let (slot, is_candidate) = loop {
            let end = self.queues.end(WINDOW);
            let slot = if end == keep && end != NONE { slots.get(end).prev } else { end };
            if slot == NONE || self.queues.weight(WINDOW) <= self.share {
                break (slot, false);
            }
            // The share has become smaller: the main queue gets the rest without a contest. This does not
            // depend on the budget, since a shard may hold a little less than its part of it.
            let is_excess = self.queues.weight(WINDOW) - u64::from(slots.weight(slot)) > self.share;
            if self.tuning.is_direct {
                let used = uses.uses(slot);
                self.refresh(slots, slot, uses);
                if !is_excess && used < 2 {
                    return slot;
                }
                self.enter_main(slots, slot);
                continue;
            }
            let used = self.refresh(slots, slot, uses);
            if used && !self.tuning.promotes {
                self.queues.move_to_front(slots, WINDOW, slot);
            } else if used || is_excess {
                self.enter_main(slots, slot);
            } else {
                break (slot, true);
            }
        };
        match self.coldest(slots, keep, uses) {
            NONE if is_candidate => slot,
            NONE => self.refreshed(slots, slot, uses),
            // The candidate enters the main queue when it is examined again: a large one must win against all
            // entries that have to leave for it.
            coldest if is_candidate && !self.is_denser(slots, slot, coldest) => slot,
            coldest => coldest,
        }
    }

    /// Whether an entry has more uses per unit of weight than another one.
    fn is_denser(&self, slots: &Slots, slot: u32, other: u32) -> bool {
        let uses = |slot| u64::from(self.frequency(slots, slot));
        let weight = |slot| u64::from(slots.weight(slot).max(1));
        uses(slot) * weight(other) > uses(other) * weight(slot)
    }

    /// The entry that the main queue evicts next.
    #[inline]
    fn coldest(&mut self, slots: &mut Slots, keep: u32, uses: &dyn Uses) -> u32 {
        loop {
            let slot = self.queues.end(MAIN);
            if slot == NONE || slot == keep && self.queues.len(MAIN) == 1 {
                return NONE;
            }
            if slot != keep && !self.refresh(slots, slot, uses) {
                return slot;
            }
            self.queues.move_to_front(slots, MAIN, slot);
        }
    }

    fn enter_main(&mut self, slots: &mut Slots, slot: u32) {
        self.queues.move_to_front(slots, MAIN, slot);
        let frequency = self.frequency(slots, slot);
        self.set_frequency(slots, slot, frequency + 1);
    }

    fn refreshed(&mut self, slots: &mut Slots, slot: u32, uses: &dyn Uses) -> u32 {
        if slot != NONE {
            self.refresh(slots, slot, uses);
        }
        slot
    }

    /// Adds the uses of `slot` to its frequency. Returns whether there were any.
    #[inline]
    fn refresh(&mut self, slots: &mut Slots, slot: u32, uses: &dyn Uses) -> bool {
        let used = uses.uses(slot);
        if used > 0 {
            let frequency = self.frequency(slots, slot);
            self.set_frequency(slots, slot, frequency + used);
            uses.set_uses(slot, 0);
            self.count(u64::from(used));
        }
        used > 0
    }

    /// The current frequency, without the uses since `slot` was last examined.
    #[inline]
    fn frequency(&self, slots: &Slots, slot: u32) -> u8 {
        let slot = slots.get(slot);
        slot.frequency >> self.epoch.wrapping_sub(slot.epoch).min(7)
    }

    fn set_frequency(&self, slots: &mut Slots, slot: u32, frequency: u8) {
        let slot = slots.get_mut(slot);
        (slot.frequency, slot.epoch) = (frequency.min(USES_MAX), self.epoch);
    }

    #[inline]
    fn count(&mut self, uses: u64) {
        self.uses += uses;
        if self.uses >= u64::from(self.tuning.period) * self.len().max(16) {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.uses = 0;
        self.epoch = self.epoch.wrapping_add(1);
        self.history.halve();
    }

    /// Moves the window's share by at most `step` towards that of the tuning.
    fn approach(&mut self, step: u64) {
        self.share = self.target.clamp(self.share.saturating_sub(step), self.share.saturating_add(step));
    }

    fn len(&self) -> u64 {
        u64::from(self.queues.len(WINDOW) + self.queues.len(MAIN))
    }

    pub(super) fn hottest(&self, slots: &Slots, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let (main, window) = (self.queues.iter(slots, MAIN), self.queues.iter(slots, WINDOW));
        let mut hottest: Vec<u32> = main.chain(window).collect();
        hottest.sort_by_key(|slot| Reverse(self.frequency(slots, *slot) + uses.uses(*slot)));
        hottest.truncate(n);
        hottest
    }
}
