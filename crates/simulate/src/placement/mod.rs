//! Simulates where entries are placed, and how long the requests for them take.
//!
//! A [`Scenario`] has requests for entries of known sizes and load costs, a set of tiers with measured times,
//! and the room in memory and beyond it. [`run`] replays it with a selector of Larder, the very code that a
//! cache runs, over the memory store of Larder. [`oracle`] replays it with placements that know the future,
//! and [`bound`] computes a time that no cache can be below.

pub mod bound;
mod generators;
pub mod oracle;
mod report;
mod store;
mod tiers;
mod world;

pub use generators::{NAMES, generate, of_trace};
pub use report::{Row, chart, dots, means, table};
pub use tiers::{SETS, TierModel, TierSet};
pub use world::{Simulated, run};

/// An entry: what its key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntrySpec {
    /// The size of its encoding.
    pub bytes: u64,
    /// Nanoseconds that a load of it takes.
    pub load: f64,
}

/// A tier that becomes slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    /// The number of the request from which on it is slow.
    pub from: usize,
    /// Its times are multiplied by this.
    pub factor: f64,
}

/// Requests, what is asked for, and the cache that they are made of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it is, in a few words.
    pub about: String,
    /// The keys, as positions in `entries`.
    pub requests: Vec<u32>,
    /// The entries.
    pub entries: Vec<EntrySpec>,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes beyond memory.
    pub storage_bytes: u64,
    /// The tiers beyond memory.
    pub set: &'static TierSet,
    /// Whether the first tier of the set becomes slow.
    pub slowdown: Option<Slowdown>,
    /// What does not change from one simulation to the next.
    times: Times,
}

/// The times of a scenario, computed once: simulations ask for them many times.
#[derive(Clone, Debug, Default)]
struct Times {
    /// Nanoseconds of a read and of a write, for each entry and tier.
    costs: Vec<(f64, f64)>,
    /// The factor of a request on a load, an absence, a read and a write.
    factors: Vec<[f32; 4]>,
}

/// What a factor is for: its position among those of a request.
#[derive(Clone, Copy)]
pub(crate) enum Factor {
    Load,
    Absence,
    Read,
    Write,
}

impl Times {
    fn new(requests: usize, entries: &[EntrySpec], set: &TierSet) -> Self {
        let of_entry = |entry: &EntrySpec| {
            let bytes = entry.bytes;
            set.tiers.iter().map(move |tier| tier.cost(bytes))
        };
        let factors = |at| [1, 2, 3, 4].map(|purpose| vary(at, purpose) as f32);
        Self {
            costs: entries.iter().flat_map(of_entry).collect(),
            factors: (0..requests).map(factors).collect(),
        }
    }
}

impl Scenario {
    /// Nanoseconds of a load. Loads vary by a third, in each simulation alike.
    pub(crate) fn load(&self, at: usize) -> f64 {
        self.entries[self.requests[at] as usize].load * self.factor(at, Factor::Load)
    }

    /// Nanoseconds of a read and of a write of an entry in a tier, without variation.
    pub(crate) fn cost(&self, key: u32, tier: usize) -> (f64, f64) {
        self.times.costs[key as usize * self.set.tiers.len() + tier]
    }

    /// What the time of a call is multiplied by at a request.
    pub(crate) fn factor(&self, at: usize, of: Factor) -> f64 {
        f64::from(self.times.factors[at][of as usize])
    }

    /// What a tier takes at a request, beside its variation.
    pub(crate) fn slowness(&self, tier: usize, at: usize) -> f64 {
        match self.slowdown {
            Some(slow) if tier == self.set.slow && at >= slow.from => slow.factor,
            _ => 1.0,
        }
    }

    /// The bytes that the entry of a request takes in memory.
    pub(crate) fn weight(&self, key: u32) -> u64 {
        self.entries[key as usize].bytes + 128 + 8
    }
}

/// A factor from two thirds to one and a half, the same for the same request and purpose.
fn vary(at: usize, purpose: u64) -> f64 {
    let mixed = mix((at as u64) << 3 | purpose);
    let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    1.5_f64.powf(share * 2.0 - 1.0)
}

/// A hash that is the same in every run.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed =
        (number ^ (number >> 30)).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
