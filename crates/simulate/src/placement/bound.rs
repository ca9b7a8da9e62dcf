//! A time that no cache can be below, whatever it knows and whatever it evicts.
//!
//! Every key by itself may be held in memory and in one tier at a time, for a rent: a price for each byte and
//! request. The cheapest course of a key is found by dynamic programming over its requests. The sum over all
//! keys, less the rent of all the room for all requests, is the Lagrangian dual of the problem in which the
//! *mean* number of bytes that are held fits into the room. That problem has every course of a real cache
//! among its solutions, so for any prices the value is at most the time of the best one. The prices that give
//! the highest value are searched. It is the bound PFOO-L (Berger, Beckmann and Harchol-Balter, "Practical
//! Bounds on Optimal Caching with Variable Object Sizes", SIGMETRICS 2018), for two levels with writes.

use super::oracle::next_requests;
use super::world::MEMORY_HIT;
use super::{Factor, Scenario};

/// Steps of the search for each price.
const STEPS: usize = 9;

/// Nanoseconds that the requests of a scenario take at least.
pub fn least(scenario: &Scenario) -> f64 {
    let next = next_requests(scenario);
    let at = |prices| dual(scenario, &next, prices);
    // The value is concave in the logarithm of no price, but it has one maximum along each of them.
    let (mut prices, mut best) = ((0.0, 0.0), at((0.0, 0.0)));
    for round in 0..3 {
        let factor = [30.0, 3.0, 1.3][round];
        for which in 0..2 {
            let middle = match (which, prices) {
                (0, (0.0, _)) | (1, (_, 0.0)) => 1e-4,
                (0, (memory, _)) => memory,
                (_, (_, stored)) => stored,
            };
            for step in 0..STEPS {
                let price = middle * f64::powi(factor, step as i32 - STEPS as i32 / 2);
                let tried = if which == 0 { (price, prices.1) } else { (prices.0, price) };
                let value = at(tried);
                if value > best {
                    (best, prices) = (value, tried);
                }
            }
        }
    }
    best
}

/// Where an entry is: bit 0 stands for memory, and the tier comes above it, 0 for none.
const MEMORY: usize = 1;

fn dual(scenario: &Scenario, next: &[u32], (memory_price, stored_price): (f64, f64)) -> f64 {
    let tiers = scenario.set.tiers.len();
    let states = 2 * (tiers + 1);
    // What the rest of a key costs, by where its entry is when it is asked for next.
    let mut rest = vec![0.0; scenario.entries.len() * states];
    let mut is_first = vec![true; scenario.entries.len()];
    for at in (0..scenario.requests.len()).rev() {
        let key = scenario.requests[at];
        let entry = scenario.entries[key as usize];
        let costs = &mut rest[key as usize * states..][..states];
        let held = if next[at] == u32::MAX { 0.0 } else { f64::from(next[at]) - at as f64 };
        let mut after = [0.0; 16];
        for (state, after) in after[..states].iter_mut().enumerate() {
            let memory = if state & MEMORY == 0 { 0.0 } else { memory_price * scenario.weight(key) as f64 };
            let stored = if state < 2 { 0.0 } else { stored_price * entry.bytes as f64 };
            *after = costs[state] + (memory + stored) * held;
        }
        let mut tier_costs = [(0.0, 0.0); 8];
        for (tier, cost) in tier_costs[..tiers].iter_mut().enumerate() {
            let (read, write) = scenario.cost(key, tier);
            let slow = scenario.slowness(tier, at);
            let factor = |of| slow * scenario.factor(at, of);
            *cost = (read * factor(Factor::Read), write * factor(Factor::Write));
        }
        let cost = |tier: usize| tier_costs[tier];
        let cheapest = |from: usize, can_write: bool| {
            let kept = (0..states).filter(|to| *to < 2 || to >> 1 == from >> 1).map(|to| after[to]);
            let written = (2..states).filter(|to| can_write && to >> 1 != from >> 1);
            let written = written.map(|to| after[to] + cost((to >> 1) - 1).1);
            kept.chain(written).fold(f64::INFINITY, f64::min)
        };
        let mut now = [0.0; 16];
        for (state, now) in now[..states].iter_mut().enumerate() {
            let got = match state {
                _ if state & MEMORY != 0 => MEMORY_HIT,
                _ if state >= 2 => MEMORY_HIT + cost((state >> 1) - 1).0,
                _ => MEMORY_HIT + scenario.load(at),
            };
            *now = got + cheapest(state, true);
        }
        costs.copy_from_slice(&now[..states]);
        is_first[key as usize] = false;
    }
    let all: f64 =
        (0..scenario.entries.len()).filter(|key| !is_first[*key]).map(|key| rest[key * states]).sum();
    let requests = scenario.requests.len() as f64;
    let rent = memory_price * scenario.memory_bytes as f64 + stored_price * scenario.storage_bytes as f64;
    all - rent * requests
}
