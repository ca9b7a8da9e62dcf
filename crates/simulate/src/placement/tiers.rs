//! Sets of tiers with measured times.

use larder::{Capability, Sharing, TierFacts, TierKind};

/// A tier beyond memory, with its times by size.
#[derive(Debug)]
pub struct TierModel {
    /// Its kind.
    pub kind: TierKind,
    /// The largest entry, in bytes.
    pub bytes_max: u64,
    /// Microseconds that a read of an absent key takes.
    pub absent: f64,
    /// Bytes, and the microseconds of a read and of a write, ascending. Between two sizes the logarithms are
    /// interpolated.
    pub points: &'static [(f64, f64, f64)],
}

/// The tiers beyond memory, in the order in which they are read.
#[derive(Debug)]
pub struct TierSet {
    /// What it is called.
    pub name: &'static str,
    /// Who shares the entries.
    pub sharing: Sharing,
    /// The tiers.
    pub tiers: &'static [TierModel],
    /// The position of the tier that becomes slow where one does.
    pub slow: usize,
}

impl TierModel {
    /// Nanoseconds of a read and of a write.
    pub fn cost(&self, bytes: u64) -> (f64, f64) {
        let bytes = (bytes.max(1) as f64).ln();
        let above = self.points.iter().position(|point| point.0.ln() >= bytes);
        let above = above.unwrap_or(self.points.len() - 1).max(1);
        let (one, other) = (self.points[above - 1], self.points[above]);
        let share = ((bytes - one.0.ln()) / (other.0.ln() - one.0.ln())).max(0.0);
        let between = |one: f64, other: f64| (one.ln() + (other.ln() - one.ln()) * share).exp() * 1e3;
        (between(one.1, other.1), between(one.2, other.2))
    }

    /// The facts that a selector sees.
    pub fn facts(&self, sharing: Sharing) -> TierFacts {
        let is_redis = self.kind == TierKind::Redis;
        TierFacts {
            kind: self.kind,
            capability: Capability {
                stores: true,
                persistent: true,
                shared: is_redis,
                blocking: !is_redis,
                frame_bytes_max: self.bytes_max,
            },
            coherent: !is_redis || sharing == Sharing::Distributed,
            healthy: true,
            position: None,
        }
    }
}

/// Measured by `tier_times` of `benches/compare` on a virtual machine with two cores, a virtual disk and
/// Redis 7 on the same machine: medians of up to 2,000 calls.
const DISK: TierModel = TierModel {
    kind: TierKind::Disk,
    bytes_max: 1 << 30,
    absent: 0.4,
    points: &[
        (50.0, 2.0, 9.0),
        (1024.0, 2.5, 12.0),
        (10240.0, 4.0, 18.0),
        (102_400.0, 12.0, 60.0),
        (1_048_576.0, 60.0, 350.0),
        (10_485_760.0, 1500.0, 5000.0),
        (52_428_800.0, 9000.0, 30000.0),
        (209_715_200.0, 40000.0, 120_000.0),
    ],
};
const FILE: TierModel = TierModel {
    kind: TierKind::File,
    bytes_max: 1 << 40,
    absent: 2.0,
    points: &[
        (50.0, 15.0, 60.0),
        (1024.0, 15.0, 62.0),
        (10240.0, 17.0, 70.0),
        (102_400.0, 27.0, 110.0),
        (1_048_576.0, 110.0, 500.0),
        (10_485_760.0, 1500.0, 4500.0),
        (52_428_800.0, 9000.0, 25000.0),
        (209_715_200.0, 40000.0, 110_000.0),
    ],
};
const REDIS: TierModel = TierModel {
    kind: TierKind::Redis,
    bytes_max: 512 << 20,
    absent: 60.0,
    points: &[
        (50.0, 60.0, 60.0),
        (1024.0, 62.0, 62.0),
        (10240.0, 70.0, 70.0),
        (102_400.0, 110.0, 120.0),
        (1_048_576.0, 700.0, 900.0),
        (10_485_760.0, 8000.0, 9000.0),
        (52_428_800.0, 45000.0, 50000.0),
        (209_715_200.0, 180_000.0, 200_000.0),
    ],
};

/// All sets.
pub static SETS: [TierSet; 3] = [
    TierSet { name: "local", sharing: Sharing::Threads, tiers: &[DISK, FILE], slow: 0 },
    TierSet { name: "redis", sharing: Sharing::Distributed, tiers: &[REDIS], slow: 0 },
    TierSet { name: "all", sharing: Sharing::Threads, tiers: &[REDIS, DISK, FILE], slow: 1 },
];
