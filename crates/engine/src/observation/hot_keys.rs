//! The keys that weigh most in a stream of samples, by the algorithm Space-Saving.
//!
//! Metwally, Agrawal, El Abbadi: "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 05.
//! A key that is in the sketch has a counter; a key that is not takes the counter with the least weight over,
//! and inherits that weight as its possible error. Any key with more than a 128th of the total weight is in it.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::KeyName;

/// The number of counters.
const COUNTERS: usize = 128;
/// The samples after which the share of sampled look-ups is adapted.
const ROUND: u64 = 256;
/// The samples a second that the share aims at.
const SAMPLES_PER_SECOND: f64 = 1000.0;
/// The least share: one look-up in this many.
const PERIOD_MAX: f64 = 65_536.0;
/// All weights are halved after this time, so that the past counts less.
const HALVING: Duration = Duration::from_secs(30);
/// The golden ratio as a fraction of 2^64. Its multiples are spread evenly whatever the rhythm of a program.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A key and its share of the samples.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// The key.
    pub key: KeyName,
    /// The estimated weight: look-ups, or nanoseconds of loads. The past counts less.
    pub weight: u64,
    /// How much of the weight may belong to other keys.
    pub error: u64,
    /// The estimated number of look-ups or loads.
    pub times: u64,
}

/// The heaviest keys among samples.
///
/// Takes at most 128 names of 1 KiB. A sample costs the name of its key and a scan of the counters under a lock;
/// there are about 1000 samples a second, whatever the number of look-ups.
#[derive(Debug)]
pub struct HotKeys {
    /// A look-up is sampled if its number, times the golden ratio, is at most this.
    bound: AtomicU64,
    count: AtomicU64,
    sketch: Mutex<Sketch>,
}

#[derive(Debug)]
struct Sketch {
    /// The counters, each with the hash of its key: a scan compares numbers.
    counters: Vec<(u64, HotKey)>,
    total: u64,
    /// One look-up in this many is sampled.
    period: f64,
    /// The samples of this round, and when it began.
    samples: u64,
    began: Instant,
    halved: Instant,
}

impl Default for HotKeys {
    fn default() -> Self {
        let now = Instant::now();
        let sketch =
            Sketch { counters: Vec::new(), total: 0, period: 1.0, samples: 0, began: now, halved: now };
        Self { bound: AtomicU64::new(u64::MAX), count: AtomicU64::new(0), sketch: Mutex::new(sketch) }
    }
}

impl HotKeys {
    /// Whether the look-up with this number is sampled.
    #[inline]
    pub(crate) fn picks(&self, number: u64) -> bool {
        number.wrapping_mul(GOLDEN) <= self.bound.load(Ordering::Relaxed)
    }

    /// Counts a look-up, and returns whether it is sampled.
    pub(crate) fn picks_next(&self) -> bool {
        self.picks(self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// How many hits of a thread after a sample its next sample is: a number without a rhythm, on average the
    /// inverse of the share of sampled look-ups.
    pub(crate) fn gap(&self) -> u64 {
        let period = u64::MAX / self.bound.load(Ordering::Relaxed).max(1);
        let spread = self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        // A number below 2 * period - 1, in proportion to `spread`.
        let below = (u128::from(spread) * u128::from(2 * period - 1)) >> 64;
        1 + below as u64
    }

    /// Adds a sample of this weight. Does nothing while another thread adds one, rather than wait.
    pub(crate) fn add(&self, key: KeyName, weight: u64) {
        let Some(mut sketch) = self.sketch.try_lock() else { return };
        let dropped = sketch.add(key, weight);
        if sketch.samples >= ROUND {
            let took = sketch.began.elapsed();
            self.adapt(&mut sketch, took);
        }
        drop(sketch);
        drop(dropped);
    }

    /// The heaviest keys, at most `n`, and the total weight of all keys.
    pub fn top(&self, n: usize) -> (Vec<HotKey>, u64) {
        let mut sketch = self.sketch.lock();
        // A program that became quiet has few samples to adapt by.
        let took = sketch.began.elapsed();
        if took >= Duration::from_secs(1) {
            self.adapt(&mut sketch, took);
        }
        sketch.halve();
        let mut keys: Vec<_> = sketch.counters.iter().map(|(_, counter)| counter.clone()).collect();
        let total = sketch.total;
        drop(sketch);
        keys.sort_by_key(|key| std::cmp::Reverse(key.weight));
        keys.truncate(n);
        (keys, total)
    }

    /// Chooses the share of sampled look-ups by the samples of the round, which `took` so long, and begins another
    /// round.
    fn adapt(&self, sketch: &mut Sketch, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-6);
        let wanted = sketch.period * sketch.samples as f64 / seconds / SAMPLES_PER_SECOND;
        sketch.period = wanted.clamp(1.0, PERIOD_MAX);
        // The conversion saturates.
        self.bound.store((u64::MAX as f64 / sketch.period) as u64, Ordering::Relaxed);
        (sketch.samples, sketch.began) = (0, Instant::now());
        sketch.halve();
    }
}

impl Sketch {
    /// Adds a sample. Returns the key that lost its counter.
    fn add(&mut self, key: KeyName, weight: u64) -> Option<KeyName> {
        let times = self.period.round() as u64;
        let weight = weight.saturating_mul(times);
        self.samples += 1;
        self.total = self.total.saturating_add(weight);
        let hash = FixedState::default().hash_one(&key);
        let is_of_key = |(of, counter): &&mut (u64, HotKey)| *of == hash && counter.key == key;
        if let Some((_, found)) = self.counters.iter_mut().find(is_of_key) {
            found.weight = found.weight.saturating_add(weight);
            found.times = found.times.saturating_add(times);
            return Some(key);
        }
        if self.counters.len() < COUNTERS {
            self.counters.push((hash, HotKey { key, weight, error: 0, times }));
            return None;
        }
        let least = self.counters.iter_mut().min_by_key(|(_, counter)| counter.weight)?;
        let error = least.1.weight;
        let counter = HotKey { key, weight: error.saturating_add(weight), error, times };
        let (_, former) = std::mem::replace(least, (hash, counter));
        Some(former.key)
    }

    /// Halves all weights as often as the time since the last halving asks for.
    fn halve(&mut self) {
        let halvings = self.halved.elapsed().as_secs() / HALVING.as_secs();
        if halvings == 0 {
            return;
        }
        self.halved = Instant::now();
        let shift = u32::try_from(halvings).unwrap_or(u32::MAX);
        let half = |value: u64| value.checked_shr(shift).unwrap_or(0);
        self.total = half(self.total);
        for (_, counter) in &mut self.counters {
            let HotKey { weight, error, times, .. } = counter;
            (*weight, *error, *times) = (half(*weight), half(*error), half(*times));
        }
        self.counters.retain(|(_, counter)| counter.weight > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> KeyName {
        KeyName::text(&number.to_string())
    }

    #[test]
    fn hot_keys_among_many_are_found_with_their_weights() {
        let keys = HotKeys::default();
        let mut sketch = keys.sketch.lock();
        for n in 0..100_000_u64 {
            let number = if n % 4 == 0 { n % 12 } else { 1000 + n.wrapping_mul(GOLDEN) % 50_000 };
            sketch.add(key(number), 1);
        }
        assert_eq!(sketch.counters.len(), COUNTERS);
        drop(sketch);
        let (top, total) = keys.top(3);
        assert_eq!(total, 100_000);
        let mut found: Vec<_> = top.iter().map(|hot| hot.key.clone()).collect();
        found.sort_by_key(|key| format!("{key:?}"));
        assert_eq!(found, [key(0), key(4), key(8)]);
        for hot in top {
            assert!((8333..9200).contains(&hot.weight), "{hot:?}");
        }
    }

    #[test]
    fn share_of_samples_adapts_to_the_number_of_look_ups() {
        let keys = HotKeys::default();
        let picked = |from: u64, to: u64| (from..to).filter(|number| keys.picks(*number)).count();
        assert_eq!(picked(0, 1000), 1000);
        {
            let mut sketch = keys.sketch.lock();
            sketch.samples = ROUND;
            keys.adapt(&mut sketch, Duration::from_millis(1));
        }
        // 256 samples in a millisecond are 256 times too many.
        let some = picked(0, 256_000);
        assert!((800..=1005).contains(&some), "{some}");
        // A rhythm of the program does not decide which keys are sampled: of those that miss, and of those that hit.
        for rhythm in [2, 64, 100, 256] {
            let rest = |number: &u64| keys.picks(*number) && number.is_multiple_of(rhythm);
            let of_rhythm = (0..rhythm * 64_000).filter(rest).count();
            assert!((200..=260).contains(&of_rhythm), "{rhythm}: {of_rhythm}");
            let (mut number, mut of_rhythm, mut sampled) = (0, 0_u64, 0_u64);
            while sampled < 100_000 {
                number += keys.gap();
                sampled += 1;
                of_rhythm += u64::from(number.is_multiple_of(rhythm));
            }
            let expected = sampled / rhythm;
            assert!(of_rhythm.abs_diff(expected) <= expected / 5, "{rhythm}: {of_rhythm} of {sampled}");
            assert!((250..=262).contains(&(number / sampled)), "{number}");
        }
        {
            let mut sketch = keys.sketch.lock();
            keys.adapt(&mut sketch, Duration::from_secs(2));
        }
        assert_eq!(picked(0, 1000), 1000, "a quiet program");
        assert_eq!(keys.gap(), 1, "a quiet program");
    }
}
