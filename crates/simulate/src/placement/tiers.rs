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
/// Redis on the same machine, under the load of several builds, which makes large writes slow: medians of up
/// to 2,000 calls.
const DISK: TierModel = TierModel {
    kind: TierKind::Disk,
    bytes_max: 1 << 30,
    absent: 0.4,
    points: &[
        (50.0, 0.6, 3.1),
        (1024.0, 1.9, 4.6),
        (10240.0, 4.1, 11.3),
        (102_400.0, 14.8, 229.4),
        (1_048_576.0, 81.9, 9961.5),
        (10_485_760.0, 819.2, 28311.6),
        (52_428_800.0, 62914.6, 50331.6),
        (209_715_200.0, 159_383.0, 318_767.0),
    ],
};
const FILE: TierModel = TierModel {
    kind: TierKind::File,
    bytes_max: 1 << 40,
    absent: 0.1,
    points: &[
        (50.0, 7.4, 65.5),
        (1024.0, 7.9, 426.0),
        (10240.0, 11.3, 753.7),
        (102_400.0, 20.5, 1245.2),
        (1_048_576.0, 73.7, 6815.7),
        (10_485_760.0, 622.6, 83886.1),
        (52_428_800.0, 50331.6, 285_212.0),
        (209_715_200.0, 285_212.0, 436_207.0),
    ],
};
const REDIS: TierModel = TierModel {
    kind: TierKind::Redis,
    bytes_max: 512 << 20,
    absent: 36.9,
    points: &[
        (50.0, 36.9, 41.0),
        (1024.0, 36.9, 77.8),
        (10240.0, 94.2, 110.6),
        (102_400.0, 221.2, 229.4),
        (1_048_576.0, 491.5, 6029.3),
        (10_485_760.0, 52428.8, 88080.4),
        (52_428_800.0, 335_544.0, 503_316.0),
    ],
};

/// All sets.
pub static SETS: [TierSet; 3] = [
    TierSet { name: "local", sharing: Sharing::Threads, tiers: &[DISK, FILE], slow: 0 },
    TierSet { name: "redis", sharing: Sharing::Distributed, tiers: &[REDIS], slow: 0 },
    TierSet { name: "all", sharing: Sharing::Threads, tiers: &[REDIS, DISK, FILE], slow: 1 },
];
