//! The simulation: requests one after another, and the time that each takes.

use std::time::Duration;

use larder::{Facts, Kind, Lesson, Placement, Selector, TierFacts, TierKind, Usage};

use larder_core::clock::Time;
use larder_core::memory::{Bounds, MemoryStore, Record, ReloadCost};
use larder_tiers::memory::{Policy, ShardedStore};

use super::store::Storage;
use super::{Factor, Scenario, mix};

/// Nanoseconds of a hit in memory, and of an insert.
pub(crate) const MEMORY_HIT: f64 = 150.0;
const MEMORY_INSERT: f64 = 300.0;
/// After this many requests beyond memory, the selector learns how full the tiers are.
const FILLED_EVERY: u64 = 256;

/// What a simulation took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulated {
    /// Nanoseconds of all requests.
    pub total: f64,
    /// Nanoseconds of the requests of each window, see [`WINDOW`](Simulated::WINDOW).
    pub windows: Vec<f64>,
    /// Requests that memory answered.
    pub memory_hits: u64,
    /// Requests that a tier beyond memory answered.
    pub tier_hits: u64,
}

impl Simulated {
    /// The requests of a window.
    pub const WINDOW: usize = 2_500;

    fn add(&mut self, at: usize, nanos: f64) {
        self.total += nanos;
        let window = at / Self::WINDOW;
        if self.windows.len() <= window {
            self.windows.resize(window + 1, 0.0);
        }
        self.windows[window] += nanos;
    }

    /// Nanoseconds of the windows from one request to another one.
    pub fn between(&self, from: usize, to: usize) -> f64 {
        let window = |at: usize| (at / Self::WINDOW).min(self.windows.len());
        self.windows[window(from)..window(to)].iter().sum()
    }
}

/// Who decides in a simulation.
pub(crate) trait Decider {
    /// The eviction policy of memory.
    fn policy(&self) -> Policy;

    /// Whether an entry that was read moves to another tier, if the placement says so.
    fn moves(&self) -> bool;

    /// Places the entry of the request at this position, which this tier had or which was loaded.
    fn place(&mut self, request: (usize, Option<usize>), facts: &Facts, tiers: &[TierFacts]) -> Placement;

    fn learn(&mut self, lesson: Lesson<'_>);
}

/// A selector as a cache uses it.
struct BySelector<'a>(&'a dyn Selector);

impl Decider for BySelector<'_> {
    fn policy(&self) -> Policy {
        if self.0.learns() { Policy::CostAware } else { Policy::Auto }
    }

    fn moves(&self) -> bool {
        self.0.learns()
    }

    fn place(&mut self, _: (usize, Option<usize>), facts: &Facts, tiers: &[TierFacts]) -> Placement {
        self.0.place(facts, tiers)
    }

    fn learn(&mut self, lesson: Lesson<'_>) {
        self.0.learn(lesson);
    }
}

/// Replays a scenario with a selector. Memory is the memory store of Larder with the policy that a cache with
/// this selector has by default.
pub fn run(scenario: &Scenario, selector: &dyn Selector) -> Simulated {
    run_with(scenario, &mut BySelector(selector))
}

pub(crate) fn run_with(scenario: &Scenario, decide: &mut dyn Decider) -> Simulated {
    let mut world = World::new(scenario, decide.policy());
    for at in 0..scenario.requests.len() {
        world.request(at, decide);
    }
    world.outcome
}

struct World<'a> {
    scenario: &'a Scenario,
    memory: ShardedStore<u32, ()>,
    store: Storage,
    tiers: Vec<TierFacts>,
    outcome: Simulated,
    beyond: u64,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, policy: Policy) -> Self {
        let memory = ShardedStore::new(Bounds::bytes(scenario.memory_bytes), policy);
        let set = scenario.set;
        let memory_facts = TierFacts::of_memory(scenario.memory_bytes / 4 - 128);
        let tiers = set.tiers.iter().map(|tier| {
            let mut facts = tier.facts(set.sharing);
            facts.capability.frame_bytes_max = tier.bytes_max.min(match tier.kind {
                TierKind::Disk => scenario.storage_bytes / 4,
                _ => scenario.storage_bytes,
            });
            facts
        });
        Self {
            scenario,
            memory,
            store: Storage::new(scenario.storage_bytes, scenario.entries.len(), set.tiers.len()),
            tiers: std::iter::once(memory_facts).chain(tiers).collect(),
            outcome: Simulated::default(),
            beyond: 0,
        }
    }

    fn request(&mut self, at: usize, decide: &mut dyn Decider) {
        let key = self.scenario.requests[at];
        let hash = mix(u64::from(key));
        if self.memory.get(&key).is_some() {
            self.outcome.memory_hits += 1;
            self.outcome.add(at, MEMORY_HIT);
            return;
        }
        self.beyond += 1;
        if self.beyond.is_multiple_of(FILLED_EVERY) {
            self.tell_filled(decide);
        }
        let mut nanos = MEMORY_HIT + self.walk(at, key);
        let found = self.store.tier(key);
        let load = self.scenario.load(at);
        let cost = match found {
            Some(_) => self.scenario.entries[key as usize].load,
            None => load,
        };
        let facts = self.facts(key, hash, cost, found);
        match found {
            Some(tier) => nanos += self.read(at, key, tier, decide),
            None => nanos += load,
        }
        let placement = decide.place((at, found), &facts, &self.tiers);
        decide.learn(Lesson::Requested { facts: &facts, found: facts.found });
        let home = self.scenario.set.tiers.iter().position(|tier| tier.kind == placement.home);
        if found.is_none() || (decide.moves() && home.is_some_and(|_| home != found)) {
            nanos += self.write(at, key, placement, decide);
        }
        let is_in_memory = placement.home == TierKind::Memory || placement.copy_in_memory;
        if is_in_memory {
            nanos += MEMORY_INSERT;
            let read = |tier| self.scenario.cost(key, tier).0 * self.scenario.slowness(tier, at);
            let measured = placement.reckoning.map(|reckoning| reckoning.read.as_nanos() as f64);
            self.copy(key, placement.home, home.map_or(cost, |tier| measured.unwrap_or_else(|| read(tier))));
        }
        self.outcome.add(at, nanos);
    }

    /// Copies an entry into memory, of which a hit saves so many nanoseconds.
    fn copy(&self, key: u32, home: TierKind, saved: f64) {
        let weight = u32::try_from(self.scenario.weight(key)).unwrap_or(u32::MAX);
        let record = Record {
            value: Some(()),
            created: Time::from_millis(0),
            stamp: 0,
            terms: None,
            weight,
            home,
            checked: None,
            cost: ReloadCost::of(Duration::from_nanos(saved as u64)),
        };
        self.memory.insert(key, record);
    }

    fn facts(&self, key: u32, hash: u64, load: f64, found: Option<usize>) -> Facts {
        let mut facts = Facts::new(self.scenario.entries[key as usize].bytes, Kind::Other);
        facts.load_cost = Some(Duration::from_nanos(load as u64));
        facts.sharing = self.scenario.set.sharing;
        facts.found = found.map(|tier| self.scenario.set.tiers[tier].kind);
        facts.key = Some(hash);
        facts
    }

    /// The tiers that are asked before the one that has the entry, or all.
    fn walk(&self, at: usize, key: u32) -> f64 {
        let asked = self.store.tier(key).unwrap_or(self.scenario.set.tiers.len());
        let absent = |tier: usize| {
            self.scenario.set.tiers[tier].absent
                * 1e3
                * self.scenario.slowness(tier, at)
                * self.scenario.factor(at, Factor::Absence)
        };
        (0..asked).map(absent).sum()
    }

    fn read(&mut self, at: usize, key: u32, tier: usize, decide: &mut dyn Decider) -> f64 {
        self.outcome.tier_hits += 1;
        self.store.note_read(key);
        let bytes = self.scenario.entries[key as usize].bytes;
        let model = &self.scenario.set.tiers[tier];
        let factor = self.scenario.slowness(tier, at) * self.scenario.factor(at, Factor::Read);
        let nanos = self.scenario.cost(key, tier).0 * factor;
        decide.learn(Lesson::Read { tier: model.kind, bytes, time: Duration::from_nanos(nanos as u64) });
        nanos
    }

    fn write(&mut self, at: usize, key: u32, placement: Placement, decide: &mut dyn Decider) -> f64 {
        let mut models = self.scenario.set.tiers.iter();
        let Some(tier) = models.position(|model| model.kind == placement.home) else { return 0.0 };
        let (model, bytes) = (&self.scenario.set.tiers[tier], self.scenario.entries[key as usize].bytes);
        let factor = self.scenario.slowness(tier, at) * self.scenario.factor(at, Factor::Write);
        let nanos = self.scenario.cost(key, tier).1 * factor;
        self.store.insert(key, tier, bytes);
        decide.learn(Lesson::Written { tier: model.kind, bytes, time: Duration::from_nanos(nanos as u64) });
        nanos
    }

    fn tell_filled(&self, decide: &mut dyn Decider) {
        let (usage, capacity) =
            (MemoryStore::<u32, ()>::usage(&self.memory), Some(self.scenario.memory_bytes));
        decide.learn(Lesson::Filled { tier: TierKind::Memory, usage, capacity });
        for (tier, model) in self.scenario.set.tiers.iter().enumerate() {
            let usage =
                Usage { entries: 0, bytes: self.store.used(tier), evictions: self.store.evictions[tier] };
            let capacity = (model.kind != TierKind::Redis).then_some(self.scenario.storage_bytes);
            decide.learn(Lesson::Filled { tier: model.kind, usage, capacity });
        }
    }
}
