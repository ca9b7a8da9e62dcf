//! Finds the best tuning: simulates small caches over a sample of the keys.

use std::cell::Cell;

use hashbrown::HashTable;
use larder_core::memory::ReloadCost;

use super::adaptive::{Adaptive, Tuning};
use super::slots::{OrderEntry, Slots};
use super::{USES_MAX, Uses};

/// The candidate tunings, from frequency to recency.
const TUNINGS: [Tuning; 8] = [
    Tuning { period: 10, ..Tuning::FREQUENCY },
    Tuning::FREQUENCY,
    Tuning { counts_insert: true, ..Tuning::FREQUENCY },
    Tuning::START,
    Tuning { is_direct: true, ..Tuning::START },
    Tuning { window: 300, ..Tuning::START },
    Tuning { window: 600, ..Tuning::FREQUENCY },
    // The window is everything: CLOCK, close to LRU.
    Tuning { window: 1_000, ..Tuning::FREQUENCY },
];
/// One key in this many is in the sample, at least.
const RATIO_MIN: u64 = 32;
/// The same at most. A simulation of a large cache is exact enough with a smaller sample, and costs less.
const RATIO_MAX: u64 = 64;
/// The capacity that a simulation of a large cache has, in entries.
const ROOM: u64 = 512;
/// The minimum capacity of a simulation, in entries.
const ROOM_MIN: u64 = 4;
/// The minimum number of sampled accesses between two decisions.
const ROUND_MIN: u64 = 100;
/// The factor by which what was counted decays after each round.
const DECAY: f64 = 0.9;
/// The same for the comparison with the cache itself, which looks further back.
const DECAY_OF_LEADS: f64 = 0.99;
/// The gain, in standard deviations of what chance brings, for which the tuning changes: a change costs hits.
const DEVIATIONS: f64 = 2.0;

/// The sample of keys, the same for all accesses (spatial sampling).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The bits that are zero in the hash of a sampled key.
    mask: u64,
}

impl Sample {
    /// The sample of a cache without simulations: no key, or almost none.
    pub(crate) const NONE: Self = Self { mask: u64::MAX };

    /// The sample for a cache that holds about `entries`.
    pub(crate) fn of(entries: u64) -> Self {
        let ratio = (entries / ROOM).clamp(RATIO_MIN, RATIO_MAX).next_power_of_two().min(RATIO_MAX);
        Self { mask: (ratio - 1) << 36 }
    }

    /// Whether the key with this hash is in the sample.
    #[inline]
    pub(crate) fn takes(self, hash: u64) -> bool {
        hash & self.mask == 0
    }

    /// One key in this many is in the sample.
    fn ratio(self) -> u64 {
        (self.mask >> 36) + 1
    }
}

/// Simulates the cache with each tuning, scaled down to the sample (Waldspurger,
/// Saemundsson, Ahmad and Park, "Cache Modeling and Optimization using Miniature
/// Simulations", USENIX ATC 2017).
pub(crate) struct Shadows {
    sample: Sample,
    shadows: [Shadow; TUNINGS.len()],
    current: usize,
    /// For each simulation, how it compares with the cache itself.
    leads: [Lead; TUNINGS.len()],
    /// Accesses in this round.
    accesses: u64,
}

/// The accesses by which a simulation and another cache differ; those of earlier rounds are decayed.
#[derive(Clone, Copy, Default)]
struct Lead {
    /// Hits of the simulation alone.
    ahead: f64,
    /// Hits of the other cache alone.
    behind: f64,
}

impl Lead {
    fn gain(self) -> f64 {
        self.ahead - self.behind
    }

    /// Whether the simulation is better. If both were equally good, the gain would be random, with a deviation of
    /// the square root of all these accesses.
    fn is_sure(self) -> bool {
        self.gain() > DEVIATIONS * (self.ahead + self.behind).sqrt()
    }
}

struct Shadow {
    cache: Cache,
    tuning: Tuning,
    /// Accesses that hit here and not in each of the other simulations; those of earlier rounds are decayed.
    ahead: [f64; TUNINGS.len()],
}

impl Shadows {
    /// Simulations that prefer [`Tuning::START`] until they have seen accesses.
    pub(crate) fn new(sample: Sample) -> Self {
        let shadow = |tuning| Shadow { cache: Cache::new(tuning), tuning, ahead: [0.0; TUNINGS.len()] };
        let current = TUNINGS.iter().position(|tuning| *tuning == Tuning::START);
        Self {
            sample,
            shadows: TUNINGS.map(shadow),
            current: current.unwrap_or(0),
            leads: Default::default(),
            accesses: 0,
        }
    }

    /// Records an access to a key of the [`Sample`], in a cache with room for `capacity` entries, and whether it
    /// was a hit there. Returns the new tuning if it changes.
    ///
    /// Costs one look-up per tuning, about 200 ns, and about 500 ns for a miss.
    pub(crate) fn access(&mut self, hash: u64, capacity: u64, is_hit: bool) -> Option<Tuning> {
        let room = (capacity / self.sample.ratio()).max(ROOM_MIN);
        let mut hits = 0_u32;
        for (place, shadow) in self.shadows.iter_mut().enumerate() {
            hits |= u32::from(shadow.cache.access(hash, room)) << place;
        }
        // Until it is full, a simulation hits whatever its tuning is.
        if !self.shadows.iter().all(|shadow| shadow.cache.slots.len() as u64 >= room) {
            return None;
        }
        self.compare(hits);
        self.compare_with_cache(hits, is_hit);
        self.accesses += 1;
        if self.accesses < (room / 2).max(ROUND_MIN) {
            return None;
        }
        self.accesses = 0;
        self.decide()
    }

    /// Whether the simulation of the current tuning holds a key, as the cache would.
    #[cfg(test)]
    pub(super) fn holds(&self, hash: u64) -> bool {
        let cache = &self.shadows[self.current].cache;
        cache.slots.find(hash, |slot| cache.nodes.nodes[*slot as usize].0 == hash).is_some()
    }

    /// Counts for each pair of simulations which one alone had a hit.
    fn compare(&mut self, hits: u32) {
        if hits == 0 || hits == (1 << TUNINGS.len()) - 1 {
            return;
        }
        let is_hit = |place: usize| hits >> place & 1 == 1;
        for (_, shadow) in self.shadows.iter_mut().enumerate().filter(|(place, _)| is_hit(*place)) {
            for (other, ahead) in shadow.ahead.iter_mut().enumerate() {
                *ahead += f64::from(u8::from(!is_hit(other)));
            }
        }
    }

    /// Counts for each simulation whether it or the cache alone had a hit.
    fn compare_with_cache(&mut self, hits: u32, is_hit: bool) {
        for (place, lead) in self.leads.iter_mut().enumerate() {
            match (hits >> place & 1 == 1, is_hit) {
                (true, false) => lead.ahead += 1.0,
                (false, true) => lead.behind += 1.0,
                _ => {}
            }
        }
    }

    /// Ends a round: returns the new tuning, if it changes.
    ///
    /// If one simulation was better than the cache for long, its tuning is the one, whatever was best lately: the
    /// changes so far did not pay. Otherwise it is the best one lately, unless the current one is about as good.
    fn decide(&mut self) -> Option<Tuning> {
        let lately = |place: usize| Lead {
            ahead: self.shadows[place].ahead[self.current],
            behind: self.shadows[self.current].ahead[place],
        };
        let best = |lead: &dyn Fn(usize) -> Lead| {
            (0..TUNINGS.len()).max_by(|one, other| lead(*one).gain().total_cmp(&lead(*other).gain()))
        };
        let (for_long, recent) = (best(&|place| self.leads[place])?, best(&lately)?);
        let next = match self.leads[for_long].is_sure() {
            true => Some(for_long).filter(|place| *place != self.current),
            false => Some(recent).filter(|place| lately(*place).is_sure()),
        };
        self.decay();
        self.current = next?;
        Some(self.shadows[self.current].tuning)
    }

    fn decay(&mut self) {
        for shadow in &mut self.shadows {
            shadow.ahead.iter_mut().for_each(|ahead| *ahead *= DECAY);
        }
        for lead in &mut self.leads {
            lead.ahead *= DECAY_OF_LEADS;
            lead.behind *= DECAY_OF_LEADS;
        }
    }
}

/// A simulated cache of hashes, without values.
struct Cache {
    slots: HashTable<u32>,
    nodes: Nodes,
    entries: Slots,
    free: Vec<u32>,
    order: Adaptive,
    room: u64,
}

#[derive(Default)]
struct Nodes {
    nodes: Vec<(u64, Cell<u8>)>,
}

impl Uses for Nodes {
    fn uses(&self, slot: u32) -> u8 {
        self.nodes[slot as usize].1.get()
    }

    fn set_uses(&self, slot: u32, uses: u8) {
        self.nodes[slot as usize].1.set(uses);
    }
}

impl Cache {
    fn new(tuning: Tuning) -> Self {
        Self {
            slots: HashTable::new(),
            nodes: Nodes::default(),
            entries: Slots::default(),
            free: Vec::new(),
            order: Adaptive::new(tuning, 0),
            room: 0,
        }
    }

    /// Returns whether the access is a hit; inserts the hash otherwise.
    fn access(&mut self, hash: u64, room: u64) -> bool {
        let nodes = &self.nodes.nodes;
        if let Some(slot) = self.slots.find(hash, |slot| nodes[*slot as usize].0 == hash) {
            let uses = &nodes[*slot as usize].1;
            uses.set((uses.get() + 1).min(USES_MAX));
            return true;
        }
        if self.room != room {
            self.room = room;
            self.order.set_budget(room);
        }
        let slot = self.add(hash);
        let entry = OrderEntry { hash: hash as u32, weight: 1, cost: ReloadCost::default() };
        self.entries.enter(slot, entry);
        self.order.insert(&mut self.entries, slot);
        while self.slots.len() as u64 > room {
            let Some(victim) = self.order.victim(&mut self.entries, Some(slot), &self.nodes) else { break };
            let hash = self.nodes.nodes[victim as usize].0;
            if let Ok(entry) = self.slots.find_entry(hash, |slot| *slot == victim) {
                entry.remove();
            }
            self.free.push(victim);
        }
        false
    }

    fn add(&mut self, hash: u64) -> u32 {
        let node = (hash, Cell::new(0));
        let nodes = &mut self.nodes.nodes;
        let slot = match self.free.pop() {
            Some(slot) => {
                nodes[slot as usize] = node;
                slot
            }
            None => {
                nodes.push(node);
                nodes.len() as u32 - 1
            }
        };
        self.slots.insert_unique(hash, slot, |slot| nodes[*slot as usize].0);
        slot
    }
}
