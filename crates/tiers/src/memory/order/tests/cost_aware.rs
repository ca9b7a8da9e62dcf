//! Eviction by load time.

use larder_core::memory::ReloadCost;

use super::{Model, Shard, compare, load_time};
use crate::memory::Policy;

/// A model of GreedyDual-Size-Frequency for entries of the weight 1, whose uses count when the policy looks.
struct GreedyDual {
    capacity: usize,
    entries: Vec<Entry>,
    floor: f64,
    /// Breaks ties: of equal priorities the earlier one leaves.
    ranked: u32,
}

struct Entry {
    key: u64,
    priority: f64,
    ranked: u32,
    uses: f64,
    unseen: u8,
}

impl GreedyDual {
    fn place(&self, key: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key == key)
    }

    fn rank(&mut self, at: usize) {
        self.ranked += 1;
        let entry = &mut self.entries[at];
        entry.uses += f64::from(std::mem::take(&mut entry.unseen));
        let cost = ReloadCost::of(load_time(entry.key)).micros().max(1.0);
        entry.priority = self.floor + entry.uses * cost;
        entry.ranked = self.ranked;
    }
}

impl Model for GreedyDual {
    fn get(&mut self, key: u64) -> bool {
        let Some(at) = self.place(key) else { return false };
        self.entries[at].unseen = (self.entries[at].unseen + 1).min(15);
        true
    }

    fn insert(&mut self, key: u64) -> Option<u64> {
        let mut victim = None;
        // The new entry is ranked first, and is not a victim itself.
        self.ranked += 1;
        let cost = ReloadCost::of(load_time(key)).micros().max(1.0);
        let (priority, ranked) = (self.floor + cost, self.ranked);
        let new = Entry { key, priority, ranked, uses: 1.0, unseen: 0 };
        while self.entries.len() == self.capacity && victim.is_none() {
            let lowest = |one: &usize, other: &usize| {
                let (one, other) = (&self.entries[*one], &self.entries[*other]);
                one.priority.total_cmp(&other.priority).then(one.ranked.cmp(&other.ranked))
            };
            let at = (0..self.entries.len()).min_by(lowest)?;
            if self.entries[at].unseen > 0 {
                self.rank(at);
            } else {
                self.floor = self.floor.max(self.entries[at].priority);
                victim = Some(self.entries.remove(at).key);
            }
        }
        self.entries.push(new);
        victim
    }

    fn remove(&mut self, key: u64) {
        if let Some(at) = self.place(key) {
            self.entries.remove(at);
        }
    }
}

/// Requests of a skewed popularity to a cache of 200; returns the load time, in seconds.
fn time_to_load(policy: Policy) -> f64 {
    let mut random = fastrand::Rng::with_seed(11);
    let mut shard = Shard::new(policy, 200);
    let mut time = 0.0;
    for _ in 0..200_000 {
        let key = (10_000.0 * random.f64().powi(4)) as u64;
        if !shard.get(key) {
            time += load_time(key).as_secs_f64();
            shard.insert(key, 1);
        }
    }
    time
}

#[test]
fn cost_aware_order_saves_load_time() {
    let (aware, auto) = (time_to_load(Policy::CostAware), time_to_load(Policy::Auto));
    assert!(aware < auto * 0.8, "{aware:.1} s, {auto:.1} s");
}

#[test]
fn dear_entry_that_is_not_used_leaves_in_the_end() {
    let dear = (0..).find(|key| load_time(*key).as_micros() == 1 << 12).unwrap();
    let mut shard = Shard::new(Policy::CostAware, 10);
    shard.insert(dear, 1);
    let cheap = (1_000_000..).filter(|key| load_time(*key).as_micros() == 1 << 6);
    let survived = cheap.take_while(|key| {
        shard.insert(*key, 1);
        shard.slots.contains_key(&dear)
    });
    let survived = survived.take(10_000).count();
    // Each round of victims raises the floor by 64 µs; the entry has 4,096.
    assert!((100..2_000).contains(&survived), "{survived}");
}

#[test]
fn cost_aware_order_evicts_what_its_model_evicts() {
    for capacity in [1, 2, 10, 60] {
        let mut model = GreedyDual { capacity, entries: Vec::new(), floor: 0.0, ranked: 0 };
        compare(Policy::CostAware, capacity, &mut model);
    }
}
