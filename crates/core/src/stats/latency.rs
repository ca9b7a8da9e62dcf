//! Latency histograms that many threads record into.
//!
//! The buckets are those of HdrHistogram (Gil Tene, <https://hdrhistogram.org>): each power of two is divided
//! into sixteen buckets of equal width. So a time has a relative error of at most a sixteenth at any
//! magnitude, in one array of fixed length and without a lock. The crate `hdrhistogram` has no atomic counts.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Each power of two has two to the power of this many buckets.
const PART_BITS: u32 = 4;
const PARTS: usize = 1 << PART_BITS;
/// Longer times, from 73 minutes on, count in the last bucket.
const NANO_BITS: u32 = 42;
const BUCKETS: usize = PARTS * (1 + (NANO_BITS - PART_BITS) as usize);

/// A histogram of times. Takes 5 KiB once the first time is recorded.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: OnceLock<Box<[AtomicU64]>>,
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl Histogram {
    /// Records a time. Costs three atomic operations, and an allocation the first time.
    pub fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        buckets[bucket_of(nanos)].fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
        if nanos > self.max_nanos.load(Relaxed) {
            self.max_nanos.fetch_max(nanos, Relaxed);
        }
    }

    /// A snapshot of the recorded times.
    pub fn snapshot(&self) -> Latency {
        let buckets = self.buckets.get().map_or(&[][..], |buckets| buckets);
        let counts = buckets.iter().map(|count| count.load(Relaxed)).enumerate();
        Latency {
            buckets: counts.filter(|(_, count)| *count > 0).collect(),
            sum_nanos: self.sum_nanos.load(Relaxed),
            max_nanos: self.max_nanos.load(Relaxed),
        }
    }
}

fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min((1 << NANO_BITS) - 1);
    let Some(power) = nanos.checked_ilog2().filter(|power| *power >= PART_BITS) else {
        return nanos as usize;
    };
    let shift = power - PART_BITS;
    shift as usize * PARTS + (nanos >> shift) as usize
}

/// The longest time of a bucket, in nanoseconds.
fn end_of(bucket: usize) -> u64 {
    let Some(shift) = (bucket / PARTS).checked_sub(1) else { return bucket as u64 };
    let part = (bucket % PARTS + PARTS) as u64;
    ((part + 1) << shift) - 1
}

/// A snapshot of a histogram: how long an operation took.
///
/// A quantile is the end of its bucket, so it is never below the measured time and at most a sixteenth above
/// it. Mean, sum and maximum are exact; in quantiles, times above 73 minutes count as 73 minutes. Everything
/// is zero if nothing was recorded. `Display` prints one line.
///
/// ```
/// use std::time::Duration;
///
/// let times = larder_core::latency::Histogram::default();
/// (1..=1000).for_each(|millis| times.record(Duration::from_millis(millis)));
/// let latency = times.snapshot();
/// assert_eq!((latency.count(), latency.max()), (1000, Duration::from_secs(1)));
/// assert!(latency.p99() >= Duration::from_millis(990));
/// assert!(latency.p99() <= Duration::from_millis(990).mul_f64(1.0 + 1.0 / 16.0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The nonempty buckets, in order.
    buckets: Vec<(usize, u64)>,
    sum_nanos: u64,
    max_nanos: u64,
}

impl Latency {
    /// The number of recorded times.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The sum of the times.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// The mean time.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.checked_div(self.count()).unwrap_or(0))
    }

    /// The longest time.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The time that this share of all times, from 0 to 1, does not exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = self.buckets.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        let end = reached.map_or(0, |(bucket, _)| end_of(*bucket));
        Duration::from_nanos(end.min(self.max_nanos))
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The time that 90 % do not exceed.
    pub fn p90(&self) -> Duration {
        self.quantile(0.9)
    }

    /// The time that 99 % do not exceed.
    pub fn p99(&self) -> Duration {
        self.quantile(0.99)
    }

    /// The time that 99.9 % do not exceed.
    pub fn p999(&self) -> Duration {
        self.quantile(0.999)
    }

    /// The nonempty buckets, shortest first: the longest time of each, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.buckets.iter().map(|(bucket, count)| (Duration::from_nanos(end_of(*bucket)), *count))
    }

    /// Adds the times of another snapshot, as if they had been recorded here.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            match self.buckets.binary_search_by_key(bucket, |(held, _)| *held) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*bucket, *count)),
            }
        }
        self.sum_nanos = self.sum_nanos.wrapping_add(other.sum_nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// The times recorded since `before`, an earlier snapshot of the same histogram: the longest time and the
    /// count of each bucket.
    pub fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (Duration, u64)> + 'a {
        let held = |bucket: &usize| {
            let at = before.buckets.binary_search_by_key(bucket, |(held, _)| *held);
            at.map_or(0, |at| before.buckets[at].1)
        };
        let new =
            self.buckets.iter().map(move |(bucket, count)| (*bucket, count.saturating_sub(held(bucket))));
        new.filter(|(_, count)| *count > 0)
            .map(|(bucket, count)| (Duration::from_nanos(end_of(bucket).min(self.max_nanos)), count))
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {:.1?} on average, p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p999 {:.1?}, max {:.1?}",
            self.count(),
            self.mean(),
            self.p50(),
            self.p90(),
            self.p99(),
            self.p999(),
            self.max()
        )
    }
}

/// Histograms of the operations of a tier.
#[derive(Debug, Default)]
pub struct TierTimes {
    /// Reads.
    pub get: Histogram,
    /// Writes.
    pub put: Histogram,
    /// Removals.
    pub remove: Histogram,
}

impl TierTimes {
    /// A snapshot of the recorded times.
    pub fn snapshot(&self) -> TierLatency {
        TierLatency { get: self.get.snapshot(), put: self.put.snapshot(), remove: self.remove.snapshot() }
    }
}

/// How long the I/O operations of a tier took. A batch is one operation. Calls that a circuit breaker refused
/// are not included; calls that failed in the tier are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierLatency {
    /// Reads.
    pub get: Latency,
    /// Writes.
    pub put: Latency,
    /// Removals.
    pub remove: Latency,
}

impl TierLatency {
    /// Adds the times of another tier.
    pub fn merge(&mut self, other: &Self) {
        self.get.merge(&other.get);
        self.put.merge(&other.put);
        self.remove.merge(&other.remove);
    }

    /// Each histogram with its name.
    pub fn each(&self) -> [(&'static str, &Latency); 3] {
        [("get", &self.get), ("put", &self.put), ("remove", &self.remove)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nanos: impl IntoIterator<Item = u64>) -> Latency {
        let histogram = Histogram::default();
        nanos.into_iter().for_each(|nanos| histogram.record(Duration::from_nanos(nanos)));
        histogram.snapshot()
    }

    #[test]
    fn buckets_are_contiguous() {
        for bucket in 1..BUCKETS {
            let begin = end_of(bucket - 1) + 1;
            assert_eq!((bucket_of(begin), bucket_of(end_of(bucket))), (bucket, bucket));
        }
        assert_eq!(end_of(BUCKETS - 1), (1 << NANO_BITS) - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantile_is_at_most_a_sixteenth_too_long() {
        let mut seed = 7_u64;
        let mut times: Vec<u64> = (0..10_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> (24 + seed % 30)
            })
            .collect();
        let latency = of(times.iter().copied());
        times.sort_unstable();
        for share in [0.0, 0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let rank = ((share * 10_000.0_f64).ceil() as usize).max(1);
            let (exact, told) = (times[rank - 1], latency.quantile(share).as_nanos() as u64);
            assert!(told >= exact && told <= exact + exact / 16, "{share}: {exact} is told as {told}");
        }
        assert_eq!(latency.max().as_nanos() as u64, times[9_999]);
        assert_eq!(latency.sum().as_nanos() as u64, times.iter().sum::<u64>());
    }

    #[test]
    fn empty_histogram_is_zero_and_longest_time_is_kept() {
        let nothing = of([]);
        assert_eq!((nothing.count(), nothing.p99(), nothing.mean()), (0, Duration::ZERO, Duration::ZERO));
        let long = of([u64::MAX]);
        assert_eq!(long.p50().as_nanos(), (1 << NANO_BITS) - 1);
        assert_eq!(long.max(), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn merge_equals_recording_together_and_since_reverses_it() {
        let (few, many) = ([1, 5, 900, 7_000_000], [5, 800, 901, 902, 5_000_000_000]);
        let mut merged = of(few);
        merged.merge(&of(many));
        assert_eq!(merged, of(few.into_iter().chain(many)));
        let came: u64 = merged.since(&of(few)).map(|(_, count)| count).sum();
        assert_eq!(came, many.len() as u64);
        assert_eq!(merged.buckets().map(|(_, count)| count).sum::<u64>(), 9);
    }

    #[test]
    fn concurrent_threads_lose_no_time() {
        let histogram = Histogram::default();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let histogram = &histogram;
                scope.spawn(move || {
                    (0..1000).for_each(|n| histogram.record(Duration::from_nanos(n * thread)))
                });
            }
        });
        assert_eq!(histogram.snapshot().count(), 4000);
    }
}
