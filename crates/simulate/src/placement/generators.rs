//! Scenarios: requests by formulas or from a trace, with sizes and load costs.

use crate::Workload;

use super::{EntrySpec, Scenario, Slowdown, TierSet, Times, mix};

/// Every generator.
pub const NAMES: [&str; 9] =
    ["small", "medium", "large", "everything", "cheap", "by-size", "scans", "shifting", "few"];

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * 1024.0;
const MICROS: f64 = 1e3;
const MILLIS: f64 = 1e6;
const SECONDS: f64 = 1e9;

/// How requests choose keys.
enum Keys {
    /// In proportion to `1 / n^exponent`.
    Zipf(f64),
    /// The same, and after each 5,000 requests 2,000 keys that are not asked for again for long.
    Scans(f64),
    /// Nine of ten for a twentieth of the keys, other ones after each tenth of the requests.
    Shifting,
}

/// What a generator makes.
struct Recipe {
    about: &'static str,
    keys: Keys,
    distinct: u32,
    bytes: (f64, f64),
    load: (f64, f64),
    /// The room in memory and beyond it, as shares of all bytes.
    room: (f64, f64),
    /// Whether a load takes longer the larger the entry is.
    is_by_size: bool,
}

/// What the recipes have in common.
const EVERYTHING: Recipe = Recipe {
    about: "50 B to 200 MiB, 10 µs to 10 s",
    keys: Keys::Zipf(0.8),
    distinct: 10_000,
    bytes: (50.0, 200.0 * MIB),
    load: (10.0 * MICROS, 10.0 * SECONDS),
    room: (0.05, 0.3),
    is_by_size: false,
};

fn recipe(name: &str) -> Option<Recipe> {
    by_range(name).or_else(|| by_pattern(name))
}

/// Recipes that differ by sizes and load costs.
fn by_range(name: &str) -> Option<Recipe> {
    Some(match name {
        "small" => Recipe {
            about: "50 B to 10 KiB, 10 µs to 10 ms",
            keys: Keys::Zipf(0.9),
            distinct: 100_000,
            bytes: (50.0, 10.0 * KIB),
            load: (10.0 * MICROS, 10.0 * MILLIS),
            ..EVERYTHING
        },
        "medium" => Recipe {
            about: "1 KiB to 1 MiB, 100 µs to 1 s",
            keys: Keys::Zipf(0.9),
            distinct: 30_000,
            bytes: (KIB, MIB),
            load: (100.0 * MICROS, SECONDS),
            ..EVERYTHING
        },
        "large" => Recipe {
            about: "1 MiB to 200 MiB, 10 ms to 10 s",
            keys: Keys::Zipf(0.8),
            distinct: 2_000,
            bytes: (MIB, 200.0 * MIB),
            load: (10.0 * MILLIS, 10.0 * SECONDS),
            ..EVERYTHING
        },
        "everything" => EVERYTHING,
        "cheap" => Recipe {
            about: "1 KiB to 1 MiB, 10 to 200 µs: a write may cost more than a load",
            distinct: 30_000,
            bytes: (KIB, MIB),
            load: (10.0 * MICROS, 200.0 * MICROS),
            ..EVERYTHING
        },
        "by-size" => Recipe {
            about: "50 B to 20 MiB, the larger the slower: 100 µs and 20 ns a byte, about",
            keys: Keys::Zipf(0.9),
            bytes: (50.0, 20.0 * MIB),
            is_by_size: true,
            ..EVERYTHING
        },
        _ => return None,
    })
}

/// Recipes that differ by the order of the requests, or by the room.
fn by_pattern(name: &str) -> Option<Recipe> {
    Some(match name {
        "scans" => Recipe {
            about: "100 B to 100 KiB, 50 µs to 50 ms, with scans",
            keys: Keys::Scans(0.9),
            distinct: 60_000,
            bytes: (100.0, 100.0 * KIB),
            load: (50.0 * MICROS, 50.0 * MILLIS),
            ..EVERYTHING
        },
        "shifting" => Recipe {
            about: "100 B to 1 MiB, 100 µs to 100 ms, other keys are hot after each tenth of the requests",
            keys: Keys::Shifting,
            distinct: 40_000,
            bytes: (100.0, MIB),
            load: (100.0 * MICROS, 100.0 * MILLIS),
            ..EVERYTHING
        },
        "few" => Recipe {
            about: "1,000 entries of 50 B to 1 MiB, 10 µs to 100 ms, and room for all beyond memory",
            keys: Keys::Zipf(0.7),
            distinct: 1_000,
            bytes: (50.0, MIB),
            load: (10.0 * MICROS, 100.0 * MILLIS),
            room: (0.1, 1.5),
            ..EVERYTHING
        },
        _ => return None,
    })
}

/// The scenario of a generator over a set of tiers. `None` for a name that is not in [`NAMES`].
pub fn generate(name: &str, set: &'static TierSet, requests: usize) -> Option<Scenario> {
    let recipe = recipe(name)?;
    let keys = keys(&recipe, requests);
    Some(scenario(name, recipe, keys, set))
}

/// The scenario of a trace, whose keys get sizes from 512 B to 64 KiB and load costs from 100 µs to 50 ms.
pub fn of_trace(workload: &Workload, set: &'static TierSet) -> Scenario {
    let recipe = Recipe {
        about: "a trace of block accesses, with 512 B to 64 KiB and 100 µs to 50 ms",
        keys: Keys::Shifting,
        distinct: workload.distinct,
        bytes: (512.0, 64.0 * KIB),
        load: (100.0 * MICROS, 50.0 * MILLIS),
        room: (0.02, 0.2),
        is_by_size: false,
    };
    scenario(&workload.name, recipe, workload.requests.clone(), set)
}

fn scenario(name: &str, recipe: Recipe, requests: Vec<u32>, set: &'static TierSet) -> Scenario {
    let share =
        |key: u32, purpose: u64| (mix(u64::from(key) << 2 | purpose) >> 11) as f64 / (1_u64 << 53) as f64;
    let between = |(low, high): (f64, f64), share: f64| (low.ln() + (high.ln() - low.ln()) * share).exp();
    let entry = |key: u32| {
        let bytes = between(recipe.bytes, share(key, 1));
        let load = match recipe.is_by_size {
            true => (100.0 * MICROS + 20.0 * bytes) * between((0.5, 2.0), share(key, 2)),
            false => between(recipe.load, share(key, 2)),
        };
        EntrySpec { bytes: bytes as u64, load }
    };
    let entries: Vec<EntrySpec> = (0..recipe.distinct).map(entry).collect();
    let all: u64 = entries.iter().map(|entry| entry.bytes).sum();
    let room = |share: f64| ((all as f64 * share) as u64).max(64 << 10);
    Scenario {
        name: name.to_owned(),
        about: recipe.about.to_owned(),
        memory_bytes: room(recipe.room.0),
        storage_bytes: room(recipe.room.1),
        times: Times::new(requests.len(), &entries, set),
        requests,
        entries,
        set,
        slowdown: None,
    }
}

impl Scenario {
    /// The same scenario, where a tier takes ten times as long from the middle on.
    #[must_use]
    pub fn with_slowdown(self) -> Self {
        let slowdown = Some(Slowdown { from: self.requests.len() / 2, factor: 10.0 });
        Self { name: format!("{}, slow", self.name), slowdown, ..self }
    }
}

fn keys(recipe: &Recipe, requests: usize) -> Vec<u32> {
    let mut random = Random(17);
    let distinct = recipe.distinct;
    match recipe.keys {
        Keys::Zipf(exponent) => {
            let zipf = Zipf::new(distinct, exponent);
            (0..requests).map(|_| zipf.key(random.share())).collect()
        }
        Keys::Scans(exponent) => {
            let hot = distinct / 2;
            let zipf = Zipf::new(hot, exponent);
            let key = |at: usize, random: &mut Random| match at % 7_000 {
                5_000.. => hot + (at / 7_000 * 2_000 + at % 7_000 - 5_000) as u32 % (distinct - hot),
                _ => zipf.key(random.share()),
            };
            (0..requests).map(|at| key(at, &mut random)).collect()
        }
        Keys::Shifting => {
            let hot = distinct / 20;
            let key = |at: usize, random: &mut Random| {
                let first = (at * 10 / requests) as u32 * hot;
                match random.share() < 0.9 {
                    true => (first + (random.share() * f64::from(hot)) as u32) % distinct,
                    false => (random.share() * f64::from(distinct)) as u32 % distinct,
                }
            };
            (0..requests).map(|at| key(at, &mut random)).collect()
        }
    }
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    /// At least 0 and below 1.
    fn share(&mut self) -> f64 {
        self.0 += 1;
        (mix(self.0 << 20) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weights = (1..=keys).map(|key| f64::from(key).powf(-exponent));
        Self {
            sums: weights
                .map(|weight| {
                    sum += weight;
                    sum
                })
                .collect(),
        }
    }

    fn key(&self, share: f64) -> u32 {
        let sum = self.sums.last().copied().unwrap_or(1.0);
        let at = self.sums.partition_point(|reached| *reached <= share * sum);
        // A rank is not the number of the key: sizes and costs go by that.
        at.min(self.sums.len() - 1) as u32
    }
}
