//! The counters that a process reports to the parent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The counts since the last report.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) gets: u64,
    pub(crate) loads: u64,
    /// Hits by tier, from the statistics of the cache.
    pub(crate) memory: u64,
    pub(crate) redis: u64,
    pub(crate) fallback: u64,
    pub(crate) unconfirmed: u64,
    pub(crate) changes: u64,
    /// The changes among them that Redis acknowledged.
    pub(crate) acknowledged: u64,
    /// The changes that reached Redis after it was back, and those that never reached it.
    pub(crate) repaired: u64,
    pub(crate) lost: u64,
    /// Reads that were stale beyond the lease.
    pub(crate) stale: u64,
    pub(crate) errors: u64,
    pub(crate) times: Times,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in self.each_mut().into_iter().zip(other.clone().each_mut()) {
            *sum += *more;
        }
        self.times.add(&other.times);
    }

    fn each_mut(&mut self) -> [&mut u64; 12] {
        let Self { gets, loads, memory, redis, fallback, unconfirmed, .. } = self;
        let Self { changes, acknowledged, repaired, lost, stale, errors, .. } = self;
        [
            gets,
            loads,
            memory,
            redis,
            fallback,
            unconfirmed,
            changes,
            acknowledged,
            repaired,
            lost,
            stale,
            errors,
        ]
    }
}

/// The latencies of gets: counts in sixteen buckets for each octave of nanoseconds.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Times(std::collections::BTreeMap<u32, u64>);

impl Times {
    pub(crate) fn note(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(16);
        let octave = nanos.ilog2();
        let sixteenth = (nanos >> (octave - 4)) as u32 & 15;
        *self.0.entry(octave * 16 + sixteenth).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// The quantile at `share`, with an error of up to a sixteenth.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let all: u64 = self.0.values().sum();
        let rank = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let bucket = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        bucket.map_or(Duration::ZERO, |(bucket, _)| {
            Duration::from_nanos(u64::from(bucket % 16 + 17) << (bucket / 16 - 4))
        })
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.quantile(1.0)
    }
}
