//! The simulation: requests one after another, and the time that each takes.

use std::time::Duration;

use larder::{Cache, Facts, Kind, Lesson, Placement, Result, Selector, TierFacts, TierKind, Usage};

use super::store::Storage;
use super::{Scenario, mix, vary};

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
    /// Places the entry of the request at this position, which this tier had or which was loaded.
    fn place(&mut self, request: (usize, Option<usize>), facts: &Facts, tiers: &[TierFacts]) -> Placement;

    fn learn(&mut self, lesson: Lesson<'_>);
}

/// A selector as a cache uses it.
struct BySelector<'a>(&'a dyn Selector);

impl Decider for BySelector<'_> {
    fn place(&mut self, _: (usize, Option<usize>), facts: &Facts, tiers: &[TierFacts]) -> Placement {
        self.0.place(facts, tiers)
    }

    fn learn(&mut self, lesson: Lesson<'_>) {
        self.0.learn(lesson);
    }
}

/// Replays a scenario with a selector. Memory is the memory store of Larder with the default policy.
///
/// # Errors
/// A size of memory that Larder does not allow.
pub fn run(scenario: &Scenario, selector: &dyn Selector) -> Result<Simulated> {
    run_with(scenario, &mut BySelector(selector))
}

pub(crate) fn run_with(scenario: &Scenario, decide: &mut dyn Decider) -> Result<Simulated> {
    let mut world = World::new(scenario)?;
    for at in 0..scenario.requests.len() {
        world.request(at, decide);
    }
    Ok(world.outcome)
}

struct World<'a> {
    scenario: &'a Scenario,
    memory: Cache<u32, u32>,
    store: Storage,
    tiers: Vec<TierFacts>,
    outcome: Simulated,
    beyond: u64,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self> {
        let memory = larder::mcache::<u32, u32>("placement").memory_bytes(scenario.memory_bytes);
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
        Ok(Self {
            scenario,
            memory: memory.weigher(|_, weight| *weight).build()?,
            store: Storage::new(scenario.storage_bytes, scenario.entries.len(), set.tiers.len()),
            tiers: std::iter::once(memory_facts).chain(tiers).collect(),
            outcome: Simulated::default(),
            beyond: 0,
        })
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
        let facts = self.facts(key, hash, cost, found.is_some());
        match found {
            Some(tier) => nanos += self.read(at, key, tier, decide),
            None => nanos += load,
        }
        let placement = decide.place((at, found), &facts, &self.tiers);
        let found_in = found.map(|tier| self.scenario.set.tiers[tier].kind);
        decide.learn(Lesson::Requested { facts: &facts, found: found_in });
        if found.is_none() {
            nanos += self.write(at, key, placement, decide);
        }
        let is_in_memory = placement.home == TierKind::Memory || placement.copy_in_memory;
        if is_in_memory {
            nanos += MEMORY_INSERT;
            self.memory.insert(key, u32::try_from(self.scenario.weight(key)).unwrap_or(u32::MAX));
        }
        self.outcome.add(at, nanos);
    }

    fn facts(&self, key: u32, hash: u64, load: f64, is_read: bool) -> Facts {
        let mut facts = Facts::new(self.scenario.entries[key as usize].bytes, Kind::Other);
        facts.load_cost = Some(Duration::from_nanos(load as u64));
        facts.sharing = self.scenario.set.sharing;
        facts.is_read = is_read;
        facts.key = Some(hash);
        facts
    }

    /// The tiers that are asked before the one that has the entry, or all.
    fn walk(&self, at: usize, key: u32) -> f64 {
        let asked = self.store.tier(key).unwrap_or(self.scenario.set.tiers.len());
        let absent = |tier: usize| {
            self.scenario.set.tiers[tier].absent * 1e3 * self.scenario.slowness(tier, at) * vary(at, 2)
        };
        (0..asked).map(absent).sum()
    }

    fn read(&mut self, at: usize, key: u32, tier: usize, decide: &mut dyn Decider) -> f64 {
        self.outcome.tier_hits += 1;
        self.store.note_read(key);
        let bytes = self.scenario.entries[key as usize].bytes;
        let model = &self.scenario.set.tiers[tier];
        let nanos = model.cost(bytes).0 * self.scenario.slowness(tier, at) * vary(at, 3);
        decide.learn(Lesson::Read { tier: model.kind, bytes, time: Duration::from_nanos(nanos as u64) });
        nanos
    }

    fn write(&mut self, at: usize, key: u32, placement: Placement, decide: &mut dyn Decider) -> f64 {
        let mut models = self.scenario.set.tiers.iter();
        let Some(tier) = models.position(|model| model.kind == placement.home) else { return 0.0 };
        let (model, bytes) = (&self.scenario.set.tiers[tier], self.scenario.entries[key as usize].bytes);
        let nanos = model.cost(bytes).1 * self.scenario.slowness(tier, at) * vary(at, 4);
        self.store.insert(key, tier, bytes);
        decide.learn(Lesson::Written { tier: model.kind, bytes, time: Duration::from_nanos(nanos as u64) });
        nanos
    }

    fn tell_filled(&self, decide: &mut dyn Decider) {
        for (tier, model) in self.scenario.set.tiers.iter().enumerate() {
            let usage =
                Usage { entries: 0, bytes: self.store.used(tier), evictions: self.store.evictions[tier] };
            let capacity = (model.kind != TierKind::Redis).then_some(self.scenario.storage_bytes);
            decide.learn(Lesson::Filled { tier: model.kind, usage, capacity });
        }
    }
}
