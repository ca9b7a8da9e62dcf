//! The eviction order of a shard: policies over slot numbers.
//!
//! An order knows neither keys nor values, so it is compiled once. The shard calls it under its exclusive
//! lock. Hits run under the shared lock and only increment the use count of the entry, which the order reads
//! when it looks for a victim.

mod adaptive;
mod cost_aware;
mod ghosts;
mod history;
mod lfu;
mod lists;
mod random;
mod recency;
mod s3_fifo;
mod shadows;
mod sieve;
mod slots;

use self::adaptive::Adaptive;
pub(crate) use self::adaptive::Tuning;
use self::cost_aware::CostAware;
use self::lfu::Lfu;
use self::random::Random;
use self::recency::Recency;
use self::s3_fifo::S3Fifo;
#[allow(unused_imports, reason = "the store feeds them with a sample of its accesses")]
pub(crate) use self::shadows::{Sample, Shadows};
use self::sieve::Sieve;
pub(crate) use self::slots::OrderEntry;
use self::slots::Slots;
use super::policy::Policy;
use larder_core::memory::ReloadCost;

/// The highest use count of an entry; further uses do not change it.
pub(crate) const USES_MAX: u8 = 15;

/// The use counts of the entries of a shard.
pub(crate) trait Uses {
    /// Uses of the entry since the last [`set_uses`](Self::set_uses), at most [`USES_MAX`].
    fn uses(&self, slot: u32) -> u8;

    /// Sets the use count of the entry.
    fn set_uses(&self, slot: u32, uses: u8);
}

/// The eviction order of a shard.
pub(crate) struct Order {
    slots: Slots,
    queues: Queues,
    /// Whether entries without weight are in no queue, so that they are never evicted.
    pins_weightless: bool,
}

#[expect(clippy::large_enum_variant, reason = "one in each shard")]
enum Queues {
    Recency(Recency),
    Lfu(Lfu),
    S3Fifo(S3Fifo),
    Sieve(Sieve),
    Random(Random),
    Adaptive(Adaptive),
    CostAware(CostAware),
}

impl Order {
    /// The order of `policy` for a shard that may hold `budget` units of weight.
    pub(crate) fn new(policy: Policy, budget: u64) -> Self {
        let queues = match policy {
            Policy::Auto => Queues::Adaptive(Adaptive::new(Tuning::START, budget)),
            Policy::TinyLfu => Queues::Adaptive(Adaptive::new(Tuning::FREQUENCY, budget)),
            Policy::Lru => Queues::Recency(Recency::new(true)),
            Policy::Fifo => Queues::Recency(Recency::new(false)),
            Policy::Lfu => Queues::Lfu(Lfu::new()),
            Policy::S3Fifo => Queues::S3Fifo(S3Fifo::new(budget)),
            Policy::Sieve => Queues::Sieve(Sieve::new()),
            Policy::Random => Queues::Random(Random::new()),
            Policy::CostAware => Queues::CostAware(CostAware::new()),
        };
        Self { slots: Slots::default(), queues, pins_weightless: false }
    }

    /// Never evicts entries without weight: under a limit of bytes alone that makes no room.
    pub(crate) fn pin_weightless(&mut self) {
        self.pins_weightless = true;
    }

    /// Puts the entries without weight among `occupied` into the order, as new: a limit of entries counts
    /// them.
    pub(crate) fn unpin_weightless(&mut self, occupied: &[u32], uses: &dyn Uses) {
        if std::mem::take(&mut self.pins_weightless) {
            let weightless = occupied.iter().filter(|slot| self.slots.weight(**slot) == 0);
            weightless.copied().collect::<Vec<_>>().into_iter().for_each(|slot| self.link(slot, uses));
        }
    }

    /// Whether the entry in a slot is in no queue.
    #[inline]
    pub(crate) fn is_pinned(&self, slot: u32) -> bool {
        self.pins_weightless && self.slots.weight(slot) == 0
    }

    /// Whether [`hit`](Self::hit) must be called for each hit, under the exclusive
    /// lock: for exact LRU.
    pub(crate) fn moves_on_hit(&self) -> bool {
        matches!(&self.queues, Queues::Recency(queue) if queue.moves())
    }

    /// Sets the budget of the shard. If it is exceeded, the next victims make room.
    pub(crate) fn set_budget(&mut self, budget: u64) {
        match &mut self.queues {
            Queues::S3Fifo(order) => order.set_budget(budget),
            Queues::Adaptive(order) => order.set_budget(budget),
            _ => {}
        }
    }

    /// The entry that is, or was last, in a slot.
    #[inline]
    pub(crate) fn entry(&self, slot: u32) -> OrderEntry {
        let slot = self.slots.get(slot);
        OrderEntry { hash: slot.hash, weight: slot.weight, cost: slot.cost }
    }

    /// Half of the hash of the entry in a slot.
    #[inline]
    pub(crate) fn hash(&self, slot: u32) -> u32 {
        self.slots.get(slot).hash
    }

    /// Adds a new entry, whose use count is 0.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32, entry: OrderEntry, uses: &dyn Uses) {
        self.slots.enter(slot, entry);
        if !self.is_pinned(slot) {
            self.link(slot, uses);
        }
    }

    #[inline]
    fn link(&mut self, slot: u32, uses: &dyn Uses) {
        let slots = &mut self.slots;
        match &mut self.queues {
            Queues::Recency(order) => order.insert(slots, slot),
            Queues::Lfu(order) => order.insert(slots, slot),
            Queues::S3Fifo(order) => order.insert(slots, slot),
            Queues::Sieve(order) => order.insert(slots, slot),
            Queues::Random(order) => order.insert(slot),
            Queues::Adaptive(order) => order.insert(slots, slot),
            Queues::CostAware(order) => order.insert(slots, slot, uses),
        }
    }

    /// Records that the entry has another value, with this weight and cost. LRU counts this as a use. Returns
    /// the former weight.
    pub(crate) fn replaced(&mut self, slot: u32, (weight, cost): (u32, ReloadCost), uses: &dyn Uses) -> u32 {
        let former = self.slots.weight(slot);
        self.slots.get_mut(slot).cost = cost;
        if self.pins_weightless && (former == 0 || weight == 0) {
            self.repin(slot, weight, uses);
            return former;
        }
        let slots = &mut self.slots;
        match &mut self.queues {
            Queues::Recency(order) => order.replaced(slots, slot, weight),
            Queues::Lfu(order) => order.replaced(slots, slot, weight),
            Queues::S3Fifo(order) => order.replaced(slots, slot, weight),
            Queues::Sieve(order) => order.replaced(slots, slot, weight),
            Queues::Random(_) => slots.get_mut(slot).weight = weight,
            Queues::Adaptive(order) => order.replaced(slots, slot, weight),
            Queues::CostAware(order) => {
                slots.get_mut(slot).weight = weight;
                order.replaced(slots, slot, uses);
            }
        }
        former
    }

    /// Replaces an entry that has no weight, or loses it.
    #[cold]
    fn repin(&mut self, slot: u32, weight: u32, uses: &dyn Uses) {
        self.remove(slot);
        self.slots.get_mut(slot).weight = weight;
        if weight > 0 {
            self.link(slot, uses);
        }
    }

    /// Records a use of the entry; called only if [`moves_on_hit`](Self::moves_on_hit).
    pub(crate) fn hit(&mut self, slot: u32) {
        if let Queues::Recency(order) = &mut self.queues
            && !(self.pins_weightless && self.slots.weight(slot) == 0)
        {
            order.hit(&mut self.slots, slot);
        }
    }

    /// Removes an entry that was removed or has expired. Eviction removes its victim itself.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        if self.is_pinned(slot) {
            return;
        }
        let slots = &mut self.slots;
        match &mut self.queues {
            Queues::Recency(order) => order.remove(slots, slot),
            Queues::Lfu(order) => order.remove(slots, slot),
            Queues::S3Fifo(order) => order.remove(slots, slot),
            Queues::Sieve(order) => order.remove(slots, slot),
            Queues::Random(order) => order.remove(slot),
            Queues::Adaptive(order) => order.remove(slots, slot),
            Queues::CostAware(order) => order.remove(slot),
        }
    }

    /// Removes and returns the next entry to evict, never `keep`, the entry that is being inserted. `None` if
    /// there is no other.
    #[inline]
    pub(crate) fn victim(&mut self, keep: Option<u32>, uses: &dyn Uses) -> Option<u32> {
        let keep = keep.filter(|slot| !self.is_pinned(*slot));
        let slots = &mut self.slots;
        match &mut self.queues {
            Queues::Recency(order) => order.victim(slots, keep),
            Queues::Lfu(order) => order.victim(slots, keep, uses),
            Queues::S3Fifo(order) => order.victim(slots, keep, uses),
            Queues::Sieve(order) => order.victim(slots, keep, uses),
            Queues::Random(order) => order.victim(keep),
            Queues::Adaptive(order) => order.victim(slots, keep, uses),
            Queues::CostAware(order) => order.victim(slots, keep, uses),
        }
    }

    /// Counts a miss: it adds to the frequency of the entry, should it be inserted.
    pub(crate) fn missed(&mut self, hash: u32) {
        if let Queues::Adaptive(order) = &mut self.queues {
            order.missed(hash);
        }
    }

    /// Removes all entries and the history.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        match &mut self.queues {
            Queues::Recency(order) => order.clear(),
            Queues::Lfu(order) => order.clear(),
            Queues::S3Fifo(order) => order.clear(),
            Queues::Sieve(order) => order.clear(),
            Queues::Random(order) => order.clear(),
            Queues::Adaptive(order) => order.clear(),
            Queues::CostAware(order) => order.clear(),
        }
    }

    /// At most `n` slots of entries that may be evicted, the hottest first. Costs a pass over all entries.
    pub(crate) fn hottest(&self, n: usize, uses: &dyn Uses) -> Vec<u32> {
        let slots = &self.slots;
        match &self.queues {
            Queues::Recency(order) => order.hottest(slots, n, uses),
            Queues::Lfu(order) => order.hottest(slots, n, uses),
            Queues::S3Fifo(order) => order.hottest(slots, n, uses),
            Queues::Sieve(order) => order.hottest(slots, n, uses),
            Queues::Random(order) => order.hottest(n, uses),
            Queues::Adaptive(order) => order.hottest(slots, n, uses),
            Queues::CostAware(order) => order.hottest(slots, n, uses),
        }
    }

    /// Applies the tuning that the simulations found best; other policies ignore it.
    pub(crate) fn tune(&mut self, tuning: Tuning) {
        if let Queues::Adaptive(order) = &mut self.queues {
            order.tune(tuning);
        }
    }
}

#[cfg(test)]
mod tests;
