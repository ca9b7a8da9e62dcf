//! Compares each order with a simple model of its policy, over random operations.

mod adaptive;
mod bounds;
mod cost_aware;
mod exact;
mod models;
mod shadows;

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use larder_core::memory::ReloadCost;

use super::{Order, OrderEntry, USES_MAX, Uses};
use crate::memory::Policy;

/// Nodes, as in a shard.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
}

struct Node {
    key: u64,
    uses: Cell<u8>,
}

impl Uses for Nodes {
    fn uses(&self, slot: u32) -> u8 {
        self.nodes[slot as usize].uses.get()
    }
    fn set_uses(&self, slot: u32, uses: u8) {
        self.nodes[slot as usize].uses.set(uses);
    }
}

fn entry(key: u64, weight: u32) -> OrderEntry {
    OrderEntry { hash: hash(key) as u32, weight, cost: ReloadCost::of(load_time(key)) }
}

/// How long the load of a key takes: from 1 µs to 524 ms, by the key.
pub(super) fn load_time(key: u64) -> Duration {
    Duration::from_micros(1 << (hash(key) % 20))
}

/// The finalizer of MurmurHash3.
pub(super) fn hash(key: u64) -> u64 {
    let key = (key ^ key >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let key = (key ^ key >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ key >> 33
}

/// A shard of keys without values.
pub(super) struct Shard {
    pub(super) order: Order,
    pub(super) nodes: Nodes,
    pub(super) slots: HashMap<u64, u32>,
    free: Vec<u32>,
    pub(super) budget: u64,
    pub(super) weight: u64,
}

impl Shard {
    pub(super) fn new(policy: Policy, budget: u64) -> Self {
        Self {
            order: Order::new(policy, budget),
            nodes: Nodes::default(),
            slots: HashMap::new(),
            free: Vec::new(),
            budget,
            weight: 0,
        }
    }

    pub(super) fn get(&mut self, key: u64) -> bool {
        let Some(slot) = self.slots.get(&key) else { return false };
        let uses = &self.nodes.nodes[*slot as usize].uses;
        uses.set((uses.get() + 1).min(USES_MAX));
        if self.order.moves_on_hit() {
            self.order.hit(*slot);
        }
        true
    }

    /// Inserts or replaces; returns the evicted keys in order.
    pub(super) fn insert(&mut self, key: u64, weight: u32) -> Vec<u64> {
        let slot = match self.slots.get(&key) {
            Some(slot) => {
                let cost = entry(key, weight).cost;
                self.weight -= u64::from(self.order.replaced(*slot, (weight, cost), &self.nodes));
                *slot
            }
            None => self.add(key, weight),
        };
        self.weight += u64::from(weight);
        let mut left = Vec::new();
        while self.weight > self.budget {
            let Some(victim) = self.order.victim(Some(slot), &self.nodes) else { break };
            left.push(self.take_out(victim));
        }
        left
    }

    fn add(&mut self, key: u64, weight: u32) -> u32 {
        let node = Node { key, uses: Cell::new(0) };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.nodes.push(node);
                self.nodes.nodes.len() as u32 - 1
            }
        };
        self.slots.insert(key, slot);
        self.order.insert(slot, entry(key, weight), &self.nodes);
        slot
    }

    pub(super) fn remove(&mut self, key: u64) {
        if let Some(slot) = self.slots.get(&key).copied() {
            self.order.remove(slot);
            self.take_out(slot);
        }
    }

    /// Evicts the next entry, as if the budget were smaller.
    pub(super) fn evict(&mut self) -> Option<u64> {
        let victim = self.order.victim(None, &self.nodes)?;
        Some(self.take_out(victim))
    }

    pub(super) fn hottest(&self, n: usize) -> Vec<u64> {
        let slots = self.order.hottest(n, &self.nodes);
        slots.into_iter().map(|slot| self.nodes.nodes[slot as usize].key).collect()
    }

    fn take_out(&mut self, slot: u32) -> u64 {
        let key = self.nodes.nodes[slot as usize].key;
        assert_eq!(self.slots.remove(&key), Some(slot), "the victim is an entry of the shard");
        self.weight -= u64::from(self.order.entry(slot).weight);
        self.free.push(slot);
        key
    }
}

/// A model of a policy, for entries of weight 1.
pub(super) trait Model {
    fn get(&mut self, key: u64) -> bool;
    /// Inserts an absent key; returns the evicted key.
    fn insert(&mut self, key: u64) -> Option<u64>;
    fn remove(&mut self, key: u64);
}

/// Runs random operations on both, and checks that all answers and victims are equal.
pub(super) fn compare(policy: Policy, capacity: usize, model: &mut dyn Model) {
    let mut shard = Shard::new(policy, capacity as u64);
    let mut random = fastrand::Rng::with_seed(capacity as u64);
    for step in 0..20_000_u64 {
        // A popular set that changes, with scans in between.
        let key = match random.u8(0..10) {
            0..6 => random.u64(0..capacity as u64) * random.u64(0..3) + step / 5_000,
            6..9 => random.u64(0..capacity as u64 * 4),
            _ => 1_000 + step % 100,
        };
        if random.u8(0..50) == 0 {
            shard.remove(key);
            model.remove(key);
            continue;
        }
        let hit = shard.get(key);
        assert_eq!(hit, model.get(key), "step {step}, key {key}");
        if !hit {
            let left = shard.insert(key, 1);
            assert_eq!(left, Vec::from_iter(model.insert(key)), "step {step}, key {key}");
        }
    }
    assert!(shard.slots.len() <= capacity);
}
