//! Placements that know the future.
//!
//! The oracle decides what a selector decides: home, copy in memory, and admission. It knows when each key is
//! asked for again, what each load will take, and when a tier becomes slow. It does not choose what memory and
//! the tiers evict. For each price of a byte in memory and beyond it, an entry is placed where it saves most
//! until its next requests, less the price of its bytes for that time. The prices are those of the run that
//! takes the least time in a search. So it is a strong heuristic, not a bound: [`bound`](super::bound) is one.

use larder::{Facts, Lesson, Placement, Result, Selector, Sharing, Table, TierFacts, TierKind};

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
///
/// # Errors
/// A size of memory that Larder does not allow.
pub fn best(scenario: &Scenario) -> Result<Simulated> {
    let next = next_requests(scenario);
    let prices = Prices::of(scenario, &next);
    let mut best = run(scenario, &Table)?;
    let (mut memory, mut stored) = (0.0, 0.0);
    for is_last in [false, true] {
        for price in &prices.stored {
            let outcome = run_with(scenario, &mut Oracle::new(scenario, &next, (memory, *price)))?;
            if outcome.total < best.total {
                (best, stored) = (outcome, *price);
            }
        }
        for price in prices.memory.iter().filter(|_| !is_last) {
            let outcome = run_with(scenario, &mut Oracle::new(scenario, &next, (*price, stored)))?;
            if outcome.total < best.total {
                (best, memory) = (outcome, *price);
            }
        }
    }
    Ok(best)
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
            let read =
                scenario.set.tiers.iter().map(|tier| tier.cost(entry.bytes).0).fold(f64::INFINITY, f64::min);
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
    memory_price: f64,
    stored_price: f64,
}

impl<'a> Oracle<'a> {
    fn new(scenario: &'a Scenario, next: &'a [u32], (memory_price, stored_price): (f64, f64)) -> Self {
        Self { scenario, next, memory_price, stored_price }
    }

    /// What a tier saves by the entry until requests become too rare, with a write now.
    fn saved_by(&self, at: usize, tier: usize) -> f64 {
        let (key, model) = (self.scenario.requests[at], &self.scenario.set.tiers[tier]);
        let bytes = self.scenario.entries[key as usize].bytes;
        let (read, write) = model.cost(bytes);
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
        let best =
            taken.map(|tier| (tier, self.saved_by(at, tier))).max_by(|one, other| one.1.total_cmp(&other.1));
        // What others share has to be stored.
        let is_free = self.scenario.set.sharing == Sharing::Threads;
        let home = found.or_else(|| best.filter(|(_, saved)| !is_free || *saved > 0.0).map(|(tier, _)| tier));
        let next = self.next[at];
        let fits = tiers[0].capability.frame_bytes_max >= facts.bytes + 1024;
        match home {
            Some(tier) => {
                let then = if next == NEVER { at } else { next as usize };
                let read = models[tier].cost(facts.bytes).0 * self.scenario.slowness(tier, then);
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
