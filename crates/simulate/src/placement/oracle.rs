//! Placements that know the future.
//!
//! The oracle decides what a selector decides: home, copy in memory, admission, and moves. It knows when each
//! key is asked for again, what each load will take, and when a tier becomes slow. It does not choose what memory
//! and the tiers evict, but the better of two policies of memory. For each price of a byte in memory and beyond it, an entry is placed where it saves most
//! until its next requests, less the price of its bytes for that time. The prices are those of the run that
//! takes the least time in a search. So it is a strong heuristic, not a bound: [`bound`](super::bound) is one.

use larder::{Facts, Lesson, Placement, Policy, Selector, Sharing, Table, TierFacts, TierKind};

use super::Scenario;
use super::world::{Decider, MEMORY_HIT, Simulated, run, run_with};

/// No later request.
const NEVER: u32 = u32::MAX;
/// Later requests that a write to a tier is weighed against.
const AHEAD: usize = 8;
/// The share of intervals between requests that are not worth the price, in the search.
const SHARES: [f64; 6] = [0.2, 0.4, 0.6, 0.75, 0.9, 0.97];

/// The next request for the same key, for each request.
pub(crate) fn next_requests(scenario: &Scenario) -> Vec<u32> {
    let mut next = vec![NEVER; scenario.requests.len()];
    let mut seen = vec![NEVER; scenario.entries.len()];
    for (at, key) in scenario.requests.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut seen[*key as usize], at as u32);
    }
    next
}

/// The best outcome of the oracle, which is at most that of [`Table`].
pub fn best(scenario: &Scenario) -> Simulated {
    let next = next_requests(scenario);
    let prices = Prices::of(scenario, &next);
    let by_policy = [Policy::Auto, Policy::CostAware].map(|policy| {
        let replay = |memory, stored| {
            let mut oracle =
                Oracle { scenario, next: &next, policy, memory_price: memory, stored_price: stored };
            run_with(scenario, &mut oracle)
        };
        best_of(&prices, replay)
    });
    let all = by_policy.into_iter().chain([run(scenario, &Table)]);
    all.min_by(|one, other| one.total.total_cmp(&other.total)).unwrap_or_default()
}

/// The best outcome of a search for both prices.
fn best_of(prices: &Prices, replay: impl Fn(f64, f64) -> Simulated) -> Simulated {
    let (mut memory, mut stored) = (0.0, 0.0);
    let mut best = replay(memory, stored);
    for is_last in [false, true] {
        for price in &prices.stored {
            let outcome = replay(memory, *price);
            if outcome.total < best.total {
                (best, stored) = (outcome, *price);
            }
        }
        for price in prices.memory.iter().filter(|_| !is_last) {
            let outcome = replay(*price, stored);
            if outcome.total < best.total {
                (best, memory) = (outcome, *price);
            }
        }
    }
    best
}

/// Prices to try, in nanoseconds a byte and request.
struct Prices {
    memory: Vec<f64>,
    stored: Vec<f64>,
}

impl Prices {
    fn of(scenario: &Scenario, next: &[u32]) -> Self {
        let (mut memory, mut stored) = (Vec::new(), Vec::new());
        for (at, next) in next.iter().enumerate().filter(|(_, next)| **next != NEVER) {
            let key = scenario.requests[at];
            let entry = scenario.entries[key as usize];
            let distance = (*next as usize - at) as f64;
            let reads = (0..scenario.set.tiers.len()).map(|tier| scenario.cost(key, tier).0);
            let read = reads.fold(f64::INFINITY, f64::min);
            memory.push(read.min(entry.load) / (scenario.weight(key) as f64 * distance));
            stored.push(entry.load / (entry.bytes as f64 * distance));
        }
        Self { memory: quantiles(memory), stored: quantiles(stored) }
    }
}

fn quantiles(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((values.len() as f64 * share) as usize).copied();
    std::iter::once(0.0).chain(SHARES.iter().filter_map(|share| at(*share))).collect()
}

struct Oracle<'a> {
    scenario: &'a Scenario,
    next: &'a [u32],
    policy: Policy,
    memory_price: f64,
    stored_price: f64,
}

impl Oracle<'_> {
    /// What a tier saves by the entry until requests become too rare, with a write now unless it has the entry.
    fn saved_by(&self, (at, found): (usize, Option<usize>), tier: usize) -> f64 {
        let key = self.scenario.requests[at];
        let bytes = self.scenario.entries[key as usize].bytes;
        let (read, write) = self.scenario.cost(key, tier);
        let write = if found == Some(tier) { 0.0 } else { write };
        let mut saved = -write * self.scenario.slowness(tier, at);
        let mut best = saved;
        let mut now = at;
        for _ in 0..AHEAD {
            let next = self.next[now];
            if next == NEVER {
                break;
            }
            let then = next as usize;
            let held = self.stored_price * bytes as f64 * (then - now) as f64;
            saved += self.scenario.load(then) - read * self.scenario.slowness(tier, then) - held;
            best = best.max(saved);
            now = then;
        }
        best
    }

    /// Whether a copy in memory saves more than the price until the next request.
    fn is_worth_memory(&self, at: usize, saves: f64) -> bool {
        let next = self.next[at];
        let key = self.scenario.requests[at];
        let held =
            |next: u32| self.memory_price * self.scenario.weight(key) as f64 * (next as usize - at) as f64;
        next != NEVER && saves - MEMORY_HIT > held(next)
    }
}

impl Decider for Oracle<'_> {
    fn policy(&self) -> Policy {
        self.policy
    }

    fn moves(&self) -> bool {
        true
    }

    fn place(
        &mut self,
        (at, found): (usize, Option<usize>),
        facts: &Facts,
        tiers: &[TierFacts],
    ) -> Placement {
        let base = Table.place(facts, tiers);
        let allowed = |kind: TierKind| base.home == kind || base.alternatives.contains(kind);
        let models = &self.scenario.set.tiers;
        let taken = (0..models.len()).filter(|tier| allowed(models[*tier].kind));
        let best = taken
            .map(|tier| (tier, self.saved_by((at, found), tier)))
            .max_by(|one, other| one.1.total_cmp(&other.1));
        // What others share has to be stored, and an entry that a tier has is at least there.
        let is_free = self.scenario.set.sharing == Sharing::Threads && found.is_none();
        let home = best.filter(|(_, saved)| !is_free || *saved > 0.0).map(|(tier, _)| tier).or(found);
        let next = self.next[at];
        let fits = tiers[0].capability.frame_bytes_max >= facts.bytes + 1024;
        match home {
            Some(tier) => {
                let then = if next == NEVER { at } else { next as usize };
                let key = self.scenario.requests[at];
                let read = self.scenario.cost(key, tier).0 * self.scenario.slowness(tier, then);
                let copy = fits && tiers[1 + tier].coherent && self.is_worth_memory(at, read);
                Placement { home: models[tier].kind, copy_in_memory: copy, rule: "oracle", ..base }
            }
            None => {
                let load = if next == NEVER { 0.0 } else { self.scenario.load(next as usize) };
                let is_near = fits && allowed(TierKind::Memory) && self.is_worth_memory(at, load);
                let home = if is_near { TierKind::Memory } else { TierKind::Null };
                Placement { home, copy_in_memory: false, rule: "oracle", ..base }
            }
        }
    }

    fn learn(&mut self, _: Lesson<'_>) {}
}
