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
use super::policy::Policy;
use larder_core::memory::ReloadCost;

/// The highest use count of an entry; further uses do not change it.
pub(crate) const USES_MAX: u8 = 15;

/// The properties of entries that an order reads.
pub(crate) trait OrderEntries {
    /// Uses of the entry since the last [`set_uses`](Self::set_uses), at most [`USES_MAX`].
    fn uses(&self, slot: u32) -> u8;

    /// Sets the use count of the entry.
    fn set_uses(&self, slot: u32, uses: u8);

    /// The hash of the entry's key, well mixed in all bits.
    fn hash(&self, slot: u32) -> u64;

    /// The weight of the entry in the budget.
    fn weight(&self, slot: u32) -> u32;

    /// What it takes to have the entry again. Only [`Policy::CostAware`] asks.
    fn cost(&self, slot: u32) -> ReloadCost {
        let _no_cost = slot;
        ReloadCost::default()
    }
}

/// The eviction order of a shard.
pub(crate) struct Order {
    queues: Queues,
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
        Self { queues }
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

    /// Adds a new entry, whose use count is 0.
    pub(crate) fn insert(&mut self, slot: u32, entries: &dyn OrderEntries) {
        match &mut self.queues {
            Queues::Recency(order) => order.insert(slot),
            Queues::Lfu(order) => order.insert(slot),
            Queues::S3Fifo(order) => order.insert(slot, entries),
            Queues::Sieve(order) => order.insert(slot),
            Queues::Random(order) => order.insert(slot),
            Queues::Adaptive(order) => order.insert(slot, entries),
            Queues::CostAware(order) => order.insert(slot, entries),
        }
    }

    /// Records that the entry has another value, and weighed `former` before. LRU counts this as a use.
    pub(crate) fn replaced(&mut self, slot: u32, former: u32, entries: &dyn OrderEntries) {
        match &mut self.queues {
            Queues::Recency(order) => order.hit(slot),
            Queues::S3Fifo(order) => order.replaced(slot, former, entries),
            Queues::Adaptive(order) => order.replaced(slot, former, entries),
            Queues::CostAware(order) => order.replaced(slot, entries),
            _ => {}
        }
    }

    /// Records a use of the entry; called only if [`moves_on_hit`](Self::moves_on_hit).
    pub(crate) fn hit(&mut self, slot: u32) {
        if let Queues::Recency(order) = &mut self.queues {
            order.hit(slot);
        }
    }

    /// Removes an entry that was removed or has expired, while `entries` still has its slot. Eviction removes
    /// its victim itself.
    pub(crate) fn remove(&mut self, slot: u32, entries: &dyn OrderEntries) {
        match &mut self.queues {
            Queues::Recency(order) => order.remove(slot),
            Queues::Lfu(order) => order.remove(slot),
            Queues::S3Fifo(order) => order.remove(slot, entries),
            Queues::Sieve(order) => order.remove(slot),
            Queues::Random(order) => order.remove(slot),
            Queues::Adaptive(order) => order.remove(slot, entries),
            Queues::CostAware(order) => order.remove(slot),
        }
    }

    /// Removes and returns the next entry to evict, never `keep`, the entry that is being inserted. `None` if
    /// there is no other.
    pub(crate) fn victim(&mut self, keep: Option<u32>, entries: &dyn OrderEntries) -> Option<u32> {
        match &mut self.queues {
            Queues::Recency(order) => order.victim(keep),
            Queues::Lfu(order) => order.victim(keep, entries),
            Queues::S3Fifo(order) => order.victim(keep, entries),
            Queues::Sieve(order) => order.victim(keep, entries),
            Queues::Random(order) => order.victim(keep),
            Queues::Adaptive(order) => order.victim(keep, entries),
            Queues::CostAware(order) => order.victim(keep, entries),
        }
    }

    /// Counts a miss: it adds to the frequency of the entry, should it be inserted.
    pub(crate) fn missed(&mut self, hash: u64) {
        if let Queues::Adaptive(order) = &mut self.queues {
            order.missed(hash);
        }
    }

    /// Removes all entries and the history.
    pub(crate) fn clear(&mut self) {
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

    /// At most `n` slots, the hottest first. Costs a pass over all entries.
    pub(crate) fn hottest(&self, n: usize, entries: &dyn OrderEntries) -> Vec<u32> {
        match &self.queues {
            Queues::Recency(order) => order.hottest(n, entries),
            Queues::Lfu(order) => order.hottest(n, entries),
            Queues::S3Fifo(order) => order.hottest(n, entries),
            Queues::Sieve(order) => order.hottest(n, entries),
            Queues::Random(order) => order.hottest(n, entries),
            Queues::Adaptive(order) => order.hottest(n, entries),
            Queues::CostAware(order) => order.hottest(n, entries),
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
